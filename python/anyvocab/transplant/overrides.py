"""`--map NEW=OLD`: parsed, resolved against both vocabularies, refused with near matches."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from anyvocab import errors

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer
    from anyvocab.vocabulary import Vocabulary

__all__ = ["LOOKS_LIKE_CONTROL", "parse_overrides", "resolve_overrides"]

FIELD = "map"
# Spellings that nobody writes for any other reason: text that holds one means the token.
LOOKS_LIKE_CONTROL = re.compile(r"<\|[^|<>\s{}'\"]{1,60}\|>|<｜[^｜<>{}'\"]{1,60}｜>")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
_ESCAPE = re.compile(r"\\([ntr\\])")
_ID = re.compile(r"[0-9]{1,10}")
SHOWN = 5


def parse_overrides(texts: Iterable[str], target: Tokenizer | None = None) -> dict[str, str]:
    r"""Return NEW to OLD from command-line texts `NEW=OLD`.

    `\n`, `\t`, `\r` and `\\` in OLD are the characters they name, as no shell writes them
    easily.

    Args:
        texts: The texts.
        target: Tells where NEW ends when a spelling holds a `=`; the first `=` when left out.

    Raises:
        InvalidValue: A text without `=`, with an empty side, or a NEW that comes twice.

    >>> parse_overrides(["<|eot_id|>=<|im_end|>"])
    {'<|eot_id|>': '<|im_end|>'}
    """
    known = set() if target is None else set(_control_spellings(target.vocabulary))
    found: dict[str, str] = {}
    for text in texts:
        cuts = [at for at, character in enumerate(text) if character == "="]
        at = next((at for at in cuts if text[:at] in known), cuts[0] if cuts else -1)
        new, old = text[: max(at, 0)], text[at + 1 :]
        if at < 0 or not new or not old:
            raise errors.build(
                errors.InvalidValue,
                f"{text!r} is not NEW=OLD",
                field=FIELD,
                fix="write a token of the new tokenizer, `=`, and what it stands for in the old "
                "one: '<|eot_id|>=<|im_end|>'",
            )
        if new in found:
            raise _twice(new)
        found[new] = _ESCAPE.sub(lambda match: _ESCAPES[match[1]], old)
    return found


def resolve_overrides(
    overrides: Mapping[str, str],
    source: Tokenizer,
    target: Tokenizer,
    *,
    source_rows: int | None = None,
) -> dict[int, tuple[str, tuple[int, ...]]]:
    """Return target id to `(OLD, source ids)`.

    Args:
        overrides: NEW to OLD.
        source: Where OLD is from.
        target: Where NEW is from.
        source_rows: Rows of the model's matrices.

    Raises:
        InvalidValue: NEW is no token of the target, OLD none of the source and no text that it
            can encode, a source id has no row, or two overrides name one token.
    """
    found: dict[int, tuple[str, tuple[int, ...]]] = {}
    for new, old in overrides.items():
        id = _one(target.vocabulary, new)
        if id is None:
            raise _unknown(new, target.vocabulary, "new")
        if id in found:
            raise _twice(new)
        ids = _sequence(source, old)
        if source_rows is not None and max(ids) >= source_rows:
            raise errors.build(
                errors.InvalidValue,
                f"{max(ids)} has no row in the model, which has {source_rows}",
                field=FIELD,
                fix="map to a token that the model was trained with",
            )
        found[id] = (old, ids)
    return found


def _one(vocabulary: Vocabulary, text: str) -> int | None:
    """Return the id that `text` names: a control token's spelling, an id, any token's spelling."""
    controls = _control_spellings(vocabulary)
    if text in controls:
        return controls[text]
    if _ID.fullmatch(text):
        id = int(text)
        if id < len(vocabulary) and vocabulary.kind(id) != "hole":
            return id
        raise errors.build(
            errors.InvalidValue,
            f"{id} is no id of a token",
            field=FIELD,
            fix=f"ids are 0..{len(vocabulary) - 1}",
        )
    spelling = text.encode("utf-8", "surrogatepass")
    return next((id for id in vocabulary if vocabulary.spelling(id) == spelling), None)


def _sequence(source: Tokenizer, text: str) -> tuple[int, ...]:
    vocabulary = source.vocabulary
    id = _one(vocabulary, text)
    if id is not None:
        return (id,)
    controls = _control_spellings(vocabulary)
    unknown = [one for one in LOOKS_LIKE_CONTROL.findall(text) if one not in controls]
    if unknown:
        # Encoding would cut it into `<`, `|`, ...: never what was meant.
        raise _unknown(unknown[0], vocabulary, "old")
    ids = tuple(source.encode(text).tolist())
    if not ids or set(ids) & set(vocabulary.ids_of_role("unk")):
        raise errors.build(
            errors.InvalidValue,
            f"{text!r} has no tokens in the old tokenizer",
            field=FIELD,
            fix="give a token, an id, or text that it can encode",
        )
    return ids


def _control_spellings(vocabulary: Vocabulary) -> dict[str, int]:
    found: dict[str, int] = {}
    for kind in ("control", "added", "unused"):
        for id in vocabulary.ids_of_kind(kind).tolist():
            found.setdefault((vocabulary.spelling(id) or b"").decode("utf-8", "replace"), id)
    return found


def _unknown(text: str, vocabulary: Vocabulary, which: str) -> errors.InvalidValue:
    controls = list(_control_spellings(vocabulary))
    near = difflib.get_close_matches(text, controls, n=SHOWN, cutoff=0.5) or controls[:SHOWN]
    return errors.build(
        errors.InvalidValue,
        f"{text!r} is no token of the {which} tokenizer",
        field=FIELD,
        fix=f"near ones are {', '.join(near)}" if near else "it has no control tokens",
    )


def _twice(new: str) -> errors.InvalidValue:
    return errors.build(
        errors.InvalidValue, f"{new!r} is mapped twice", field=FIELD, fix="keep one of them"
    )
