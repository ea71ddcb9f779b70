"""Roles: what ends a text, what pads, and whether the files agree about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from anyvocab.doctor.registry import Finding, Patient, check
from anyvocab.report.visible import one_line

SHOWN = 6
MOST = 12  # findings of one kind
_OF_TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json")


def ids_by_source(patient: Patient, role: str, *sources: str) -> set[int]:
    """Return the ids that these sources (by how their names begin) give a role."""
    records = patient.tokenizer.vocabulary.roles.records
    return {one.id for one in records if one.role == role and one.source.startswith(sources)}


def _first(findings: list[Finding]) -> Iterator[Finding]:
    """Yield the first few findings of one kind; the last of them says how many more there are."""
    yield from findings[:MOST]
    more = len(findings) - MOST
    if more > 0:
        yield replace(findings[MOST], found=f"{findings[MOST].found}; {more - 1} more like it")


@check
def declarations_fit(patient: Patient) -> Iterator[Finding]:
    """Configuration files name ids and tokens that exist."""
    yield from _first(
        [
            Finding(
                "declarations_fit",
                "error",
                problem.source,
                problem.found,
                "name an id or a token of this vocabulary",
            )
            for problem in patient.tokenizer.vocabulary.roles.problems
        ]
    )


@check
def listed_tokens_agree(patient: Patient) -> Iterator[Finding]:
    """Tokens listed in tokenizer_config.json have the ids that the tokenizer gives them."""
    listed = patient.declarations.tokenizer_config.get("added_tokens_decoder")
    if not isinstance(listed, Mapping):
        return
    vocabulary = patient.tokenizer.vocabulary
    found: list[Finding] = []
    for key, entry in listed.items():
        content = entry.get("content") if isinstance(entry, Mapping) else None
        if not isinstance(content, str) or not str(key).isdecimal() or len(str(key)) > 9:
            continue
        id = int(key)
        there = vocabulary.spelling(id) if id < len(vocabulary) else None
        if there != content.encode("utf-8", "surrogatepass"):
            has = "no token" if there is None else f"[{one_line(there, limit=30)}]"
            said = one_line(content.encode("utf-8", "replace"), limit=30)
            found.append(
                Finding(
                    "listed_tokens_agree",
                    "error",
                    f"tokenizer_config.json: added_tokens_decoder.{id}",
                    f"says [{said}], the tokenizer has {has}",
                    "save the tokenizer again, so that both files come from one object",
                )
            )
    yield from _first(found)


@check
def something_ends_a_text(patient: Patient) -> Iterator[Finding]:
    """There is an end-of-text token."""
    vocabulary = patient.tokenizer.vocabulary
    if vocabulary.ids_of_role("eos"):
        return
    is_encoder = bool(vocabulary.ids_of_role("mask") or vocabulary.ids_of_role("cls"))
    yield Finding(
        "something_ends_a_text",
        "info" if is_encoder else "warning",
        "roles",
        "no id is an end of text (eos)",
        ""
        if is_encoder
        else "declare eos_token in tokenizer_config.json, or generation never ends",
    )


@check
def roles_are_apart(patient: Patient) -> Iterator[Finding]:
    """Begin, end and padding are different ids."""
    vocabulary = patient.tokenizer.vocabulary
    bos, eos, pad = (set(vocabulary.ids_of_role(role)) for role in ("bos", "eos", "pad"))
    for name, shared in (("bos and eos", bos & eos), ("pad and eos", pad & eos)):
        if shared:
            yield Finding(
                "roles_are_apart",
                "info",
                f"ids {', '.join(map(str, sorted(shared)))}",
                f"{name} are one id",
                "training code that masks padding must not mask the end with it"
                if name.startswith("pad")
                else "",
            )


@check
def end_ids_agree(patient: Patient) -> Iterator[Finding]:
    """generation_config.json, config.json and tokenizer_config.json agree on what ends a text."""
    own = ids_by_source(patient, "eos", *_OF_TOKENIZER)
    generation = ids_by_source(patient, "eos", "generation_config.json")
    config = ids_by_source(patient, "eos", "config.json")
    if own and generation and not own & generation:
        yield Finding(
            "end_ids_agree",
            "warning",
            "generation_config.json: eos_token_id",
            f"ends at {_ids(generation)}, tokenizer_config.json at {_ids(own)}",
            "add the tokenizer's end to generation_config's list: tools read one or the other",
        )
    elif config and generation and not config <= generation:
        yield Finding(
            "end_ids_agree",
            "info",
            "config.json: eos_token_id",
            f"{_ids(config)}, generation_config.json has {_ids(generation)}; generation uses the "
            "latter",
        )
    elif config and own and not generation and not config & own:
        yield Finding(
            "end_ids_agree",
            "warning",
            "config.json: eos_token_id",
            f"ends at {_ids(config)}, tokenizer_config.json at {_ids(own)}",
            "write a generation_config.json with the ids that end generation",
        )


@check
def named_roles_agree(patient: Patient) -> Iterator[Finding]:
    """A begin or padding token has the same id in every file."""
    for role in ("bos", "pad"):
        own = ids_by_source(patient, role, *_OF_TOKENIZER)
        model = ids_by_source(patient, role, "generation_config.json", "config.json")
        if own and model and not own & model:
            yield Finding(
                "named_roles_agree",
                "warning",
                f"config.json, generation_config.json: {role}_token_id",
                f"{role} is {_ids(model)}, tokenizer_config.json says {_ids(own)}",
                "make the files agree",
            )


def _ids(ids: set[int]) -> str:
    listed = sorted(ids)
    return ", ".join(map(str, listed[:SHOWN])) + (" ..." if len(listed) > SHOWN else "")
