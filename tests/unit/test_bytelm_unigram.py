"""ByteLM over a Unigram model against its laws by enumeration, `tokenizers` the encoder."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tokenizers

import anyvocab as av
from anyvocab.backends import TableBackend
from anyvocab.bytelm import ByteLM
from anyvocab.bytelm.lm import Law
from anyvocab.testing.enumeration import Enumeration

# Quarters, so that several paths are equally good: "aba" as itself and as "ab" and "a".
PIECES = {
    "▁": -2.0,
    "a": -2.5,
    "b": -2.5,
    "ab": -3.5,
    "ba": -3.25,
    "aba": -6.0,
    "▁a": -3.0,
    "▁ab": -6.5,
    "bb▁": -7.0,
    "aé": -5.0,
}
UNKNOWN, END_ID = 0, 1
FIRST_BYTE = 2 + len(PIECES)
ROWS = FIRST_BYTE + 256
LAWS: tuple[Law, ...] = ("local", "canonical")
TEXTS = ("", "a", "ab", "aba", "abab", " ab a", "c", "acb", "ab b")
# Bytes that no character begins with: `tokenizers` is never given any.
NEVER_FIRST = (*range(0x80, 0xC2), *range(0xF5, 0x100))
# For every byte that one begins with, the rest of some character without a piece.
RESTS = (b"", b"\x90", b"\xa1\x90", b"\x81\x90", b"\x91\x90\x90", b"\x81\x90\x90")
# As in test_bytelm_laws.
ATOL = 6 * 2 * ROWS * 2.0**-52


def document() -> dict[str, Any]:
    """Return a tokenizer.json whose texts are never cut; `c` and `é` have no piece."""
    names = ("<unk>", "</s>")
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    mark = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": id, "content": name, "special": True} | special for id, name in enumerate(names)
        ],
        "normalizer": None,
        "pre_tokenizer": mark,
        "post_processor": None,
        "decoder": mark,
        "model": {
            "type": "Unigram",
            "unk_id": UNKNOWN,
            "vocab": [
                *([name, 0.0] for name in names),
                *([piece, score] for piece, score in PIECES.items()),
                *([f"<0x{byte:02X}>", -9.0] for byte in range(256)),
            ],
            "byte_fallback": True,
        },
    }


class Wheel:
    """The tokenizer as `tokenizers` has it. A text that is no UTF-8 is none of its texts."""

    def __init__(self, source: str, vocabulary: av.Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._tokenizer = tokenizers.Tokenizer.from_str(source)

    def encode(self, text: bytes, *, specials: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        try:
            decoded = text.decode()
        except UnicodeDecodeError:
            return np.array([-1])
        return np.array(self._tokenizer.encode(decoded).ids, dtype=np.int64)


@pytest.fixture(scope="module")
def encoders() -> tuple[av.Tokenizer, Wheel]:
    source = json.dumps(document())
    tok = av.Tokenizer.load(source.encode())
    return tok, Wheel(source, tok.vocabulary)


@pytest.mark.parametrize("law", LAWS)
def test_unigram_next_bytes_are_those_of_all_covers(
    law: Law, encoders: tuple[av.Tokenizer, Wheel]
) -> None:
    tok, wheel = encoders
    backend = TableBackend(ROWS, seed=1, scale=2.0)
    policies = {END_ID: "end"} | {FIRST_BYTE + byte: "forbid" for byte in NEVER_FIRST}
    lm = ByteLM(backend, tok, law=law, first_ids=[END_ID], specials=policies, exact=True)
    definition = Enumeration(
        backend,
        wheel,  # type: ignore[arg-type]
        law,
        root=[END_ID],
        ends=[END_ID],
        forbidden=[UNKNOWN, *(FIRST_BYTE + byte for byte in NEVER_FIRST)],
        continuations=RESTS,
    )
    for text in TEXTS:
        state = lm.start(text)
        expected = definition.logprobs(text.encode())
        np.testing.assert_allclose(state.logprobs(), expected, rtol=0, atol=ATOL)
        expected_mass = definition.log_mass(text.encode())
        np.testing.assert_allclose(state.log_mass, expected_mass, rtol=0, atol=ATOL)
