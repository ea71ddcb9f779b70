"""Which template a tokenizer's marks stand for.

The marks are found by role, and the family by how they are spelled: `<fim_prefix>` and
`<|fim_prefix|>` were chosen by different makers, who use different orders. What no family is known
for is not guessed: the error says what was found and how to write the template by hand.

Where the orders come from: Bavarian et al., arXiv:2207.14255 (the transform); StarCoder,
arXiv:2305.06161, and SantaCoder, arXiv:2301.03988 (both orders, half each); Code Llama,
arXiv:2308.12950 (both; the suffix and the middle without SentencePiece's space, the prefix with
it); DeepSeek-Coder, arXiv:2401.14196 (PSM); Qwen2.5-Coder, arXiv:2409.12186 (PSM); CodeGemma's
and Codestral's documentation (PSM; suffix first). Of several orders the first is the one a family
is usually asked in; for the pico models, whose card measures both, the better one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from anyvocab import errors
from anyvocab.bytelm.edges import has_dummy_prefix
from anyvocab.bytelm.fim import FimTemplate, Order

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer

__all__ = ["choose_template", "find_templates"]

_ROLES: Final = ("fim_prefix", "fim_suffix", "fim_middle")
_BY_HAND: Final = (
    "give one by hand: template=FimTemplate('mine', 'psm', prefix_id=..., suffix_id=..., "
    "middle_id=..., end_ids=(...,))"
)


@dataclass(frozen=True)
class _Family:
    """Marks and orders that one maker uses.

    Attributes:
        name: What the template is called.
        marks: How prefix, suffix and middle mark are spelled; an empty middle where there is none.
        orders: What training used, the usual one first.
        ends: Spellings that end a middle, beside the ids of the role `eos`.
        needs: Spellings that tell this family from others with the same marks.
        only: All control tokens there are; nothing is asked of them where this is empty.
        spaced: Whether the prefix has the tokenizer's leading space, where it makes one.
    """

    name: str
    marks: tuple[str, str, str]
    orders: tuple[Order, ...]
    ends: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    only: frozenset[str] = frozenset()
    spaced: bool = False


_BARRED = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
_PLAIN = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
_BIGCODE_ENDS = ("<|endoftext|>", "<fim_pad>", "<file_sep>", "<repo_name>")

# In this order; of those with the same marks the first that fits is taken.
_FAMILIES: Final = (
    _Family(
        "pico",
        _BARRED,
        ("spm", "psm"),
        ends=("<|fim_pad|>",),
        only=frozenset({"<|endoftext|>", *_BARRED, "<|fim_pad|>"}),
    ),
    _Family(
        "pico",
        _PLAIN,
        ("spm", "psm"),
        ends=("<fim_pad>",),
        only=frozenset({"<unk>", "<s>", "</s>", *_PLAIN, "<fim_pad>"}),
    ),
    _Family("starcoder", _PLAIN, ("psm", "spm"), ends=_BIGCODE_ENDS),
    _Family(
        "santacoder",
        ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
        ("psm", "spm"),
        ends=("<|endoftext|>", "<fim-pad>"),
    ),
    _Family(
        "deepseek",
        ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
        ("psm",),
        ends=("<｜end▁of▁sentence｜>", "<|EOT|>"),
    ),
    _Family(
        "codellama",
        ("▁<PRE>", "▁<SUF>", "▁<MID>"),
        ("psm", "spm"),
        ends=("▁<EOT>", "</s>"),
        spaced=True,
    ),
    _Family("mistral", ("[PREFIX]", "[SUFFIX]", ""), ("sp",), ends=("</s>",), spaced=True),
    _Family(
        "codegemma",
        _BARRED,
        ("psm",),
        ends=("<|file_separator|>", "<eos>"),
        needs=("<|file_separator|>",),
    ),
    _Family(
        "qwen",
        _BARRED,
        ("psm",),
        ends=("<|endoftext|>", "<|fim_pad|>", "<|file_sep|>", "<|repo_name|>", "<|im_end|>"),
        needs=("<|file_sep|>",),
    ),
    # Granite 4 and others with these marks and no more: PSM is what everybody writes them in.
    _Family("fim", _BARRED, ("psm", "spm"), ends=("<|endoftext|>", "<|fim_pad|>")),
)


def find_templates(tokenizer: Tokenizer) -> list[FimTemplate]:
    """Return the templates that a tokenizer's marks stand for, the usual one first.

    Templates of several families mean that the vocabulary has the marks of several: it does not
    say which of them the model learned. Empty where there are no marks, or none that are known.

    >>> import anyvocab as av
    >>> [one.label for one in find_templates(av.Tokenizer.load("pico:code-4k"))]
    ['pico/spm', 'pico/psm']
    """
    controls = _controls(tokenizer)
    marks = {role: set(tokenizer.vocabulary.ids_of_role(role)) for role in _ROLES}
    found: list[FimTemplate] = []
    taken: set[tuple[str, str, str]] = set()
    for family in _FAMILIES:
        wanted = [spelling for spelling in family.marks if spelling]
        if family.marks in taken or not controls.keys() >= {*wanted, *family.needs}:
            continue
        if family.only and controls.keys() != family.only:
            continue
        ids = [controls.get(spelling) for spelling in family.marks]
        # By role first: a spelling that the tokenizer gives another role to is no mark.
        if any(
            id is not None and id not in marks[role] for id, role in zip(ids, _ROLES, strict=True)
        ):
            continue
        taken.add(family.marks)
        found += _templates(family, ids, controls, tokenizer)
    return found


def _templates(
    family: _Family, ids: list[int | None], controls: dict[str, int], tokenizer: Tokenizer
) -> list[FimTemplate]:
    prefix, suffix, middle = ids
    if prefix is None or suffix is None:
        return []
    eos = tokenizer.vocabulary.ids_of_role("eos")
    named = [controls[spelling] for spelling in family.ends if spelling in controls]
    ends = tuple(id for id in dict.fromkeys((*eos, *named)) if id not in ids)
    lead = b" " if family.spaced and has_dummy_prefix(tokenizer) else b""
    return [
        FimTemplate(family.name, order, prefix, suffix, middle, ends, lead=lead)
        for order in family.orders
    ]


def _controls(tokenizer: Tokenizer) -> dict[str, int]:
    """Return spelling to id of every token that is no plain text, the first id of each."""
    vocabulary = tokenizer.vocabulary
    found: dict[str, int] = {}
    for kind in ("control", "added"):
        for id in vocabulary.ids_of_kind(kind).tolist():
            spelling = vocabulary.spelling(id)
            if spelling is not None:
                found.setdefault(spelling.decode("utf-8", "replace"), id)
    return found


def choose_template(tokenizer: Tokenizer, template: FimTemplate | str | None = None) -> FimTemplate:
    """Return the template to ask with.

    Args:
        tokenizer: The model's.
        template: A template; an order (`spm`), a family (`qwen`) or both (`starcoder/spm`) to
            choose among those that are found; the usual one when left out.

    Raises:
        UnsupportedTokenizer: The tokenizer has no marks, or marks of no known family.
        InvalidValue: Marks of several families, or none that fits what was asked for, or a
            template with ids that the tokenizer does not have.
    """
    if isinstance(template, FimTemplate):
        return _checked(tokenizer, template)
    found = find_templates(tokenizer)
    if not found:
        raise errors.build(
            errors.UnsupportedTokenizer, _absent(tokenizer), field="template", fix=_BY_HAND
        )
    labels = ", ".join(one.label for one in found)
    chosen = found
    if template is not None:
        chosen = [one for one in found if template in (one.name, one.order, one.label)]
        if not chosen:
            raise errors.build(
                errors.InvalidValue,
                f"{template!r} is none of this tokenizer's templates",
                field="template",
                fix=f"it has {labels}; or {_BY_HAND}",
            )
    if len({one.name for one in chosen}) > 1:
        raise errors.build(
            errors.InvalidValue,
            f"the tokenizer has the marks of several families ({labels}) and does not say which "
            "of them the model learned",
            field="template",
            fix=f"name one: template={chosen[0].label!r}",
        )
    return chosen[0]


def _checked(tokenizer: Tokenizer, template: FimTemplate) -> FimTemplate:
    size = len(tokenizer.vocabulary)
    marks = [template.prefix_id, template.suffix_id, *template.end_ids]
    marks += [] if template.middle_id is None else [template.middle_id]
    for id in marks:
        if id >= size:
            raise errors.build(
                errors.InvalidValue,
                f"{id} is no id of this vocabulary of {size}",
                field="template",
                fix="take the ids from the model's own tokenizer",
            )
    return template


def _absent(tokenizer: Tokenizer) -> str:
    """Return what was looked for, and what of it there is."""
    vocabulary = tokenizer.vocabulary
    has = []
    for role in _ROLES:
        for id in vocabulary.ids_of_role(role):
            spelling = (vocabulary.spelling(id) or b"").decode("utf-8", "replace")
            has.append(f"{role} {spelling!r} (id {id})")
    looked = "; ".join(
        dict.fromkeys(" ".join(mark for mark in family.marks if mark) for family in _FAMILIES)
    )
    state = f"only {', '.join(has)}, of no known family" if has else "no fill-in-the-middle marks"
    return f"the tokenizer has {state}; looked for {looked}"
