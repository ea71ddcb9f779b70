"""What stands before a byte: raw ids, closed texts, the open text, contexts of members."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab.backends import TableBackend
from anyvocab.bytelm import ByteLM, Each, Ids
from anyvocab.bytelm.context import Prompt, first_stop, read_context, to_bytes, to_stops
from anyvocab.testing import merged_tokenizer, tiny_tokenizer

MERGES = [("a", "b"), ("ab", "a"), ("Ġ", "ab")]
AB, ABA, SPACE_AB, FIRST, MARK = 256, 257, 258, 259, 260


def plain() -> av.Tokenizer:
    return av.Tokenizer.load(json.dumps(merged_tokenizer(MERGES)).encode())


def spaced() -> av.Tokenizer:
    """Return a SentencePiece-like tokenizer that puts a space before a text."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "x", "▁x"]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    document = tiny_tokenizer(
        added_tokens=[
            {"id": id, "content": tokens[id], "special": True, **flags} for id in range(3)
        ],
        normalizer={
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace],
        },
        pre_tokenizer=None,
        decoder={
            "type": "Sequence",
            "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip],
        },
        model={
            "type": "BPE",
            "unk_token": "<unk>",
            "byte_fallback": True,
            "fuse_unk": True,
            "vocab": {token: id for id, token in enumerate(tokens)},
            "merges": [["▁", "x"]],
        },
    )
    return av.Tokenizer.load(json.dumps(document).encode())


def read(*parts: Any) -> Prompt:
    return read_context(list(parts), plain(), [FIRST])


@pytest.mark.parametrize("text", ["ab", b"ab"])
def test_a_text_is_open_and_stands_behind_the_first_ids(text: Any) -> None:
    expected = Prompt((FIRST,), b"ab", first=True)
    assert read_context(text, plain(), [FIRST]) == expected
    assert read(text) == expected


def test_ids_are_taken_as_they_are() -> None:
    assert read_context(Ids([7, 8]), plain(), [FIRST]) == Prompt((7, 8), b"", first=False)
    assert read(Ids([7]), Ids([8])) == Prompt((7, 8), b"", first=False)
    assert read(Ids([7]), b"a") == Prompt((7,), b"a", first=False)


def test_ids_are_read_from_arrays() -> None:
    ids = Ids(np.array([3, 4], dtype=np.uint32))
    assert (ids, repr(ids)) == ((3, 4), "Ids([3, 4])")
    assert all(type(id) is int for id in ids)


def test_a_text_that_ids_follow_is_closed_and_encoded() -> None:
    assert read(b"aba", Ids([MARK]), b"a") == Prompt((FIRST, ABA, MARK), b"a", first=False)
    assert read(Ids([MARK]), " ab", Ids([MARK])) == Prompt((MARK, SPACE_AB, MARK), b"", first=False)


def test_texts_side_by_side_are_one_text() -> None:
    assert read("a", b"b", b"a") == Prompt((FIRST,), b"aba", first=True)
    assert read("a", b"b", Ids([MARK]), "", b"c") == Prompt((FIRST, AB, MARK), b"c", first=False)


def test_no_parts_are_the_empty_text() -> None:
    assert read() == read(b"") == Prompt((FIRST,), b"", first=True)


def test_an_empty_text_in_front_of_ids_puts_the_first_ids_there() -> None:
    assert read(b"", Ids([MARK]), b"a") == Prompt((FIRST, MARK), b"a", first=False)
    assert read(Ids([]), b"a") == Prompt((), b"a", first=False)


def test_the_spelling_of_a_mark_in_a_text_is_text() -> None:
    ids = read(b"<|fim_prefix|>", Ids([MARK])).ids
    assert MARK not in ids[:-1]
    assert ids[1:-1] == tuple(b"<|fim_prefix|>")


def test_a_tokenizer_that_starts_texts_with_a_space_does_so_once() -> None:
    tokenizer = spaced()
    # A closed text at the start has the space; one behind ids is the inside of a longer text.
    start = read_context([b"x", Ids([2])], tokenizer, [1])
    inside = read_context([Ids([1]), b"x", Ids([2])], tokenizer, [1])
    assert tokenizer.vocabulary.token_bytes(start.ids[1]) == b" x"
    assert tokenizer.vocabulary.token_bytes(inside.ids[1]) == b"x"


def test_an_open_text_has_the_space_only_where_a_text_starts() -> None:
    tokenizer = spaced()
    size = len(tokenizer.vocabulary)
    lm = ByteLM(TableBackend(size, seed=2), tokenizer, first_ids=[1])
    (at_start,) = {cover.tokens for cover in lm.start(b"x").covers(0) if not cover.open}
    (inside,) = {cover.tokens for cover in lm.start([Ids([1]), b"x"]).covers(0) if not cover.open}
    spell = tokenizer.vocabulary.token_bytes
    assert b"".join(spell(id) or b"" for id in at_start) == b" x"
    assert b"".join(spell(id) or b"" for id in inside) == b"x"


def test_fixed_ids_and_open_text_make_the_same_numbers_however_they_are_written() -> None:
    lm = ByteLM(TableBackend(262, seed=4), plain(), first_ids=[FIRST])
    expected = lm.start([Ids([FIRST, ABA, MARK]), b"a"]).logprobs()
    for context in ([b"aba", Ids([MARK]), b"a"], ["ab", "a", Ids([MARK]), b"", "a"]):
        np.testing.assert_array_equal(lm.start(context).logprobs(), expected)


@pytest.mark.parametrize("context", [5, [5], [1, 2], [None], [b"a", Each([b"a"])], None])
def test_a_context_of_something_else_names_what_it_is(context: Any) -> None:
    with pytest.raises(av.InvalidValue, match="a part is of type") as caught:
        read_context(context, plain(), [FIRST])
    assert "Ids([...])" in caught.value.fix


def test_one_model_refuses_the_contexts_of_many() -> None:
    lm = ByteLM(TableBackend(262), plain(), first_ids=[FIRST])
    with pytest.raises(av.InvalidValue, match="each member of an ensemble"):
        lm.start(Each([b"a", b"b"]))


@pytest.mark.parametrize("id", [-1, 262])
def test_an_id_that_the_model_does_not_read_is_refused(id: int) -> None:
    lm = ByteLM(TableBackend(262), plain(), first_ids=[FIRST])
    with pytest.raises(av.InvalidValue, match=f"no token id {id}"):
        lm.start(Ids([id])).logprobs()


def test_lone_surrogates_are_kept() -> None:
    assert to_bytes("\ud800") == b"\xed\xa0\x80"


@pytest.mark.parametrize("text", [3, None, [97]])
def test_what_is_no_text_is_not_made_bytes(text: Any) -> None:
    with pytest.raises(av.InvalidValue, match="give str or bytes"):
        to_bytes(text)


def test_empty_stop_strings_stop_nothing() -> None:
    assert to_stops(["", b"a", "é"]) == [b"a", "é".encode()]
    assert first_stop(b"xyz", []) is None
    assert first_stop(b"xyz", [b"a"]) is None


@pytest.mark.parametrize(
    ("stops", "span"), [([b"cd", b"b"], (1, 2)), ([b"d", b"bcd"], (1, 4)), ([b"bcd", b"c"], (2, 3))]
)
def test_the_stop_string_that_is_complete_first_counts(
    stops: list[bytes], span: tuple[int, int]
) -> None:
    assert first_stop(b"abcdabcd", stops) == span
