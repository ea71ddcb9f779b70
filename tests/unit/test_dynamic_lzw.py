"""Hypertokens: codes and back, whole and piece by piece."""

from __future__ import annotations

import random

import numpy as np
import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.dynamic import Lzw


@pytest.mark.parametrize("max_pieces", [1, 2, 3, 5])
@pytest.mark.parametrize("capacity", [0, 7, 2048])
def test_ids_come_back(capacity: int, max_pieces: int) -> None:
    lzw = Lzw(first_code=100, capacity=capacity, max_pieces=max_pieces, disabled=(7,))
    draws = random.Random(3)
    for letters in (1, 2, 8):
        ids = [draws.randrange(letters) for _ in range(500)]
        coded = lzw.encode(ids)
        assert lzw.decode(coded.codes).tolist() == ids
        assert len(coded.codebook) <= capacity
        assert max([0, *coded.codebook.lengths().tolist()]) <= max_pieces


def test_a_stream_is_the_whole_in_pieces() -> None:
    lzw = Lzw(first_code=10)
    ids = [1, 2, 1, 2, 1, 2, 3, 1, 2, 3]
    encoder, decoder = lzw.encoder(), lzw.decoder()
    codes = [code for id in ids for code in encoder.push([id]).tolist()]
    codes += encoder.finish().tolist()
    assert codes == lzw.encode(ids).codes.tolist()
    assert [id for code in codes for id in decoder.push([code]).tolist()] == ids
    assert decoder.faults == 0
    known = decoder.codebook.to_list()
    assert encoder.codebook.to_list()[: len(known)] == known


def test_codes_of_a_model_are_read_as_far_as_they_can_be() -> None:
    decoder = Lzw(first_code=10).decoder()
    assert decoder.push([15]).tolist() == []
    assert decoder.push([1, 99]).tolist() == [1, 1, 1]
    assert decoder.faults == 2


def test_special_tokens_are_in_no_run() -> None:
    tok = av.Tokenizer.load("pico:code-4k")
    lzw = Lzw.for_tokenizer(tok)
    special = int(tok.vocabulary.silent()[0])
    coded = lzw.encode([5, special] * 20)
    assert coded.codes.tolist() == [5, special] * 20
    assert len(coded.codebook) == 0


def test_repeated_text_is_shorter() -> None:
    tok = av.Tokenizer.load("pico:code-4k")
    ids = tok.encode("def f(x):\n    return x + 1\n" * 20)
    lzw = Lzw.for_tokenizer(tok)
    assert len(lzw.encode(ids).codes) < len(ids) / 2
    assert np.array_equal(lzw.decode(lzw.encode(ids).codes), ids)


def test_rules_out_of_their_range_are_named() -> None:
    with pytest.raises(errors.InvalidValue, match="max_pieces"):
        Lzw(first_code=10, max_pieces=0)
    with pytest.raises(errors.InvalidValue, match=r"capacity: .*pass 32 bits"):
        Lzw(first_code=(1 << 32) - 2, capacity=5)
    with pytest.raises(errors.InvalidValue, match=r"ids\[1\]: 10 is a code"):
        Lzw(first_code=10).encode([1, 10])
