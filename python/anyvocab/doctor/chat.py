"""The chat template, read as text: its tokens exist, and what ends a turn ends generation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from anyvocab.doctor.registry import Finding, Patient, check
from anyvocab.doctor.roles import ids_by_source
from anyvocab.report.visible import one_line

# Spellings that nobody writes for any other reason; `<think>` may be plain text.
_CONTROL = re.compile(r"<\|[^|<>\s{}'\"]{1,60}\|>|<｜[^｜<>{}'\"]{1,60}｜>")
_VARIABLE = re.compile(r"\b(bos|eos|pad|unk)_token\b")
READ_LIMIT = 1 << 20  # characters


def _templates(patient: Patient) -> Mapping[str, str]:
    own = patient.tokenizer.chat_template
    found = dict(patient.declarations.chat_templates)
    if own is not None:
        found.setdefault("default", own)
    return {name: template[:READ_LIMIT] for name, template in found.items()}


@check
def template_tokens_exist(patient: Patient) -> Iterator[Finding]:
    """Control tokens that a chat template writes are tokens of the vocabulary."""
    vocabulary = patient.tokenizer.vocabulary
    added = {one.content for one in vocabulary.added_tokens()}
    for name, template in _templates(patient).items():
        missing: dict[str, None] = {}
        for spelling in _CONTROL.findall(template):
            if spelling not in added and len(patient.tokenizer.encode(spelling)) != 1:
                missing[spelling] = None
        if missing:
            shown = ", ".join(one_line(one.encode("utf-8", "replace")) for one in list(missing)[:8])
            yield Finding(
                "template_tokens_exist",
                "warning",
                f"chat template {name!r}",
                f"writes {len(missing)} control tokens that do not exist: {shown}",
                "add them to the tokenizer, or use the template that belongs to it",
            )
        for role in sorted(set(_VARIABLE.findall(template))):
            if not vocabulary.ids_of_role(role):
                yield Finding(
                    "template_tokens_exist",
                    "warning",
                    f"chat template {name!r}",
                    f"uses {role}_token, and no id is {role}",
                    f"declare {role}_token in tokenizer_config.json",
                )


@check
def turns_end_generation(patient: Patient) -> Iterator[Finding]:
    """What ends a turn of the chat template ends generation."""
    turn_ends = ids_by_source(patient, "turn_end", "chat template")
    generation = ids_by_source(patient, "eos", "generation_config.json")
    ends = generation or set(patient.tokenizer.vocabulary.ids_of_role("eos"))
    if turn_ends and not turn_ends & ends:
        spelled = ", ".join(
            f"{id} {one_line(patient.tokenizer.vocabulary.spelling(id) or b'', limit=30)}"
            for id in sorted(turn_ends)
        )
        yield Finding(
            "turns_end_generation",
            "warning",
            "generation_config.json: eos_token_id",
            f"the chat template ends a turn with {spelled}, which does not end generation",
            "add it to eos_token_id, or a chat runs on past its answer",
        )
