"""Writing a trained tokenizer, checked against what others will read."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anyvocab import errors
from anyvocab.tokenizer import Tokenizer

__all__ = ["Verification", "save_verified", "verify"]

# Corners that a corpus may lack.
_CORNERS = (
    "",
    " ",
    "   two  spaces \t\n\n  x",
    "don't DON'T 12345 1.5e-7 x_1",
    "e\u0301 ﬁ ½ \u00a0\u3000 😀👩‍👩‍👧 漢字かな 한국어 العربية ไทย",
    "a" * 300,
    "\x00\x7f\u200b\ufeff",
)


@dataclass(frozen=True)
class Verification:
    """What an export was checked on.

    Attributes:
        texts: Texts that were encoded.
        tokens: Ids that were compared.
        by: The version of `tokenizers` that read the file; `None` where it is not installed, and
            the file was read back here alone.
    """

    texts: int
    tokens: int
    by: str | None


def verify(tokenizer: Tokenizer, sample: Iterable[str] = ()) -> Verification:
    """Return what the tokenizer's `tokenizer.json` was checked on; all ids agreed.

    The file is read back here and, where it is installed, by `tokenizers`; both encode the sample,
    some corners and the special tokens, and give the ids that `tokenizer` gives.

    Args:
        tokenizer: The tokenizer, in memory.
        sample: Texts.

    Raises:
        VerificationFailed: Ids differ; the message shows the first text.
        UnsupportedTokenizer: No `tokenizer.json` says what the tokenizer does.
    """
    specials = [token.content for token in tokenizer.vocabulary.added_tokens()][:64]
    texts = [*sample, *_CORNERS, "".join(specials), *(f"a{one} b" for one in specials)]
    json = tokenizer.to_json()
    expected = [ids.tolist() for ids in tokenizer.encode_batch(texts)]
    _compare(texts, expected, _rows(Tokenizer.load(json), texts), "anyvocab, reading it back,")
    by = None
    if importlib.util.find_spec("tokenizers") is not None:
        import tokenizers

        by = tokenizers.__version__
        _compare(texts, expected, _theirs(tokenizers, json, texts), f"tokenizers {by}")
    return Verification(len(texts), sum(map(len, expected)), by)


def save_verified(
    tokenizer: Tokenizer,
    folder: str | os.PathLike[str],
    sample: Iterable[str] = (),
    *,
    existing: Literal["refuse", "replace"] = "refuse",
) -> Verification:
    """Write a tokenizer as :meth:`Tokenizer.save` does, once :func:`verify` finds no difference.

    Nothing is written, and no folder made, when it finds one.

    Args:
        tokenizer: The tokenizer.
        folder: Where to.
        sample: Texts that are encoded.
        existing: What becomes of a tokenizer that is there already.

    Raises:
        The errors of :func:`verify` and of :meth:`Tokenizer.save`.
    """
    done = verify(tokenizer, sample)
    tokenizer.save(Path(folder), existing=existing)
    return done


def _rows(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [ids.tolist() for ids in tokenizer.encode_batch(texts)]


def _theirs(tokenizers: Any, json: bytes, texts: Sequence[str]) -> list[list[int]]:
    loaded = tokenizers.Tokenizer.from_str(json.decode())
    return [loaded.encode(text, add_special_tokens=False).ids for text in texts]


def _compare(
    texts: Sequence[str], expected: list[list[int]], found: list[list[int]], who: str
) -> None:
    for text, ours, theirs in zip(texts, expected, found, strict=True):
        if ours != theirs:
            at = next(
                (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
                min(len(ours), len(theirs)),
            )
            raise errors.build(
                errors.VerificationFailed,
                f"{who} encodes {text[:60]!r} differently from token {at} on: "
                f"{theirs[at : at + 4]}, not {ours[at : at + 4]}",
                field="tokenizer.json",
                fix="nothing was written; please report the pattern",
            )
