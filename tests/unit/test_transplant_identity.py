"""Identity of tokens across vocabularies, and cutting bytes with another tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import anyvocab as av
from anyvocab.testing import byte_alphabet, tiny_tokenizer
from anyvocab.transplant.identity import decompose, fewest_tokens, match, token_table
from anyvocab.transplant.ragged import ragged, scattered, select

PICO = {name: av.Tokenizer.load(f"pico:{name}") for name in ("code-4k", "code-2k")}


def byte_fallback_tokenizer(pieces: Sequence[str]) -> av.Tokenizer:
    """A SentencePiece-like BPE of `<unk>`, the 256 fallback bytes and some pieces."""
    vocab = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    document = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": 0,
                "content": "<unk>",
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {token: id for id, token in enumerate(vocab)},
            "merges": [],
        },
    }
    return av.Tokenizer.load(json.dumps(document).encode())


def test_all_256_bytes_of_a_byte_level_and_a_byte_fallback_vocabulary_are_the_same() -> None:
    level = av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode())
    fallback = byte_fallback_tokenizer([])
    there, back = (
        match(*pair)
        for pair in (
            (fallback.vocabulary, level.vocabulary),
            (level.vocabulary, fallback.vocabulary),
        )
    )
    assert there.source_of[:256].tolist() == list(range(1, 257))
    assert back.source_of[1:257].tolist() == list(range(256))


def test_a_real_piece_wins_over_its_byte_fallback_twin() -> None:
    # target: byte 61 as a text token; source: <0x61> (id 98) and the piece `a` (id 257)
    level = av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode())
    fallback = byte_fallback_tokenizer(["a"])
    assert match(fallback.vocabulary, level.vocabulary).source_of[ord("a")] == 257


def test_a_byte_fallback_token_is_matched_to_a_byte_fallback_token() -> None:
    one, other = byte_fallback_tokenizer(["b", "a"]), byte_fallback_tokenizer(["a"])
    found = match(one.vocabulary, other.vocabulary)
    assert found.source_of[1 + ord("a")] == 1 + ord("a")
    assert found.source_of[257] == 258
    assert found.exact_kind[[1 + ord("a"), 257]].all()


def test_the_character_of_a_byte_is_not_taken_for_the_byte() -> None:
    # `Ð` spells byte D0 in the byte alphabet; as a piece it is the two bytes C3 90
    spelled = byte_alphabet()[0xD0]
    level = av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode())
    fallback = byte_fallback_tokenizer([spelled])
    found = match(level.vocabulary, fallback.vocabulary)
    assert fallback.vocabulary.token_bytes(257) == spelled.encode() != bytes([0xD0])
    assert found.source_of[257] == -1


def test_control_tokens_are_matched_to_nothing() -> None:
    level = av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode())
    found = match(level.vocabulary, level.vocabulary)
    assert found.source_of[:260].tolist() == list(range(260))
    assert found.source_of[260:].tolist() == [-1, -1]


def test_source_ids_without_a_row_are_no_match() -> None:
    level = av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode())
    found = match(level.vocabulary, level.vocabulary, source_rows=258)
    assert found.source_of[257] == 257
    assert found.source_of[258] == -1


def by_search(source: av.Vocabulary, target: av.Vocabulary, rows: int) -> list[int]:
    """The definition: every source id that has a row and the bytes, the best of them."""
    theirs, ours = token_table(source)[:rows], token_table(target)
    found = []
    for id, token in enumerate(ours):
        same = [one for one, other in enumerate(theirs) if token and other == token]
        kind = target.kind(id)
        best = [(source.kind(one) != kind, source.kind(one) == "byte", one) for one in same]
        found.append(min(best, default=(False, False, -1))[2])
    return found


# `a` is a twin of `<0x61>`, ` a` one of `▁a`, `▁` one of ` ` and of `<0x20>`.
PIECES = st.lists(st.sampled_from(["a", "b", "▁a", " a", "▁", " ", "ab", "▁b"]), unique=True)


@given(PIECES, PIECES, st.integers(0, 300))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_the_match_is_the_one_that_a_search_through_all_ids_finds(
    one: list[str], other: list[str], rows: int
) -> None:
    source, target = (byte_fallback_tokenizer(pieces).vocabulary for pieces in (one, other))
    found = match(source, target, source_rows=rows)
    assert found.source_of.tolist() == by_search(source, target, rows)
    for id, exact in enumerate(found.exact_kind.tolist()):
        same = int(found.source_of[id])
        assert exact == (same >= 0 and source.kind(same) == target.kind(id))


@given(PIECES)
@settings(max_examples=40, derandomize=True, deadline=None)
def test_duplicates_are_what_a_dictionary_of_all_tokens_finds(pieces: list[str]) -> None:
    vocabulary = byte_fallback_tokenizer(pieces).vocabulary
    shared: dict[bytes, list[int]] = {}
    for id, token in enumerate(token_table(vocabulary)):
        if token:
            shared.setdefault(token, []).append(id)
    wanted = [(token, tuple(ids)) for token, ids in shared.items() if len(ids) > 1]
    assert list(vocabulary.duplicates().items()) == wanted


@pytest.mark.parametrize(
    ("pair", "shared"),
    [(("llama2", "llama3"), 26599), (("llama3", "llama2"), 26695), (("gpt2", "qwen2"), 42256)],
)
def test_real_vocabularies_share_what_their_bytes_say(
    fixtures: Path, pair: tuple[str, str], shared: int
) -> None:
    source, target = (av.Tokenizer.load(fixtures / "tokenizers" / name) for name in pair)
    found = match(source.vocabulary, target.vocabulary)
    assert len(found.matched()) == shared
    theirs, ours = token_table(source.vocabulary), token_table(target.vocabulary)
    assert all(theirs[found.source_of[id]] == ours[id] for id in found.matched())
    known = {token for token in theirs if token}
    assert not any(ours[id] in known for id in found.unmatched() if ours[id])


@pytest.mark.parametrize(("source", "target"), [("code-4k", "code-2k"), ("code-2k", "code-4k")])
def test_pieces_are_the_exact_bytes_of_every_token(source: str, target: str) -> None:
    one, other = PICO[source], PICO[target]
    tokens = [token for token in token_table(other.vocabulary) if token]
    table = token_table(one.vocabulary)
    rows = decompose(one, tokens).to_list()
    assert [b"".join(table[id] or b"" for id in row) for row in rows] == tokens


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=24), st.sampled_from(sorted(PICO)), st.booleans())
def test_any_bytes_are_cut_exactly(token: bytes, name: str, apart: bool) -> None:
    tokenizer = PICO[name]
    table = token_table(tokenizer.vocabulary)
    (row,) = decompose(tokenizer, [token], apart=apart).to_list()
    assert b"".join(table[id] or b"" for id in row) == (token if row else b"")
    assert row or (apart and len(token) == 1)
    assert not apart or len(row) != 1


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=6), st.sampled_from([b" self", b"def", b"a", b""]))),
    st.sampled_from([*PICO.values(), byte_fallback_tokenizer(["▁", "a", "▁a"])]),
    st.one_of(st.none(), st.integers(0, 2048)),
)
def test_what_the_tokenizer_makes_of_the_bytes_is_taken_where_it_is_exact(
    tokens: list[bytes], tokenizer: av.Tokenizer, rows: int | None
) -> None:
    table = token_table(tokenizer.vocabulary)[:rows]
    for token, row in zip(tokens, decompose(tokenizer, tokens, rows=rows).to_list(), strict=True):
        whole = tokenizer.encode(token, specials="text").tolist()
        pieces = [table[id] if id < len(table) else None for id in whole]
        if all(pieces) and b"".join(piece or b"" for piece in pieces) == token:
            assert row == whole
        else:
            assert b"".join(table[id] or b"" for id in row) == (token if row else b"")


def test_rows_of_different_lengths_are_selected_and_put_together() -> None:
    rows = ragged([[1, 2], [], [3]])
    assert select(rows, np.array([2, 0, 1, 2])).to_list() == [[3], [1, 2], [], [3]]
    assert select(rows, np.array([], dtype=np.int64)).to_list() == []
    others = (np.array([1]), ragged([[7, 8, 9]]))
    assert scattered(5, [(np.array([4, 3, 0]), rows), others]).to_list() == [
        [3],
        [7, 8, 9],
        [],
        [],
        [1, 2],
    ]


def test_pieces_inside_a_text_have_no_word_mark() -> None:
    # SentencePiece puts ` ` before a text; `ing` in the middle of a word is not ` ing`
    tokenizer = byte_fallback_tokenizer(["▁", "i", "n", "g", "▁i"])
    (row,) = decompose(tokenizer, [b"ing"]).to_list()
    assert row == [258, 259, 260]
    (spaced,) = decompose(tokenizer, [b" ing"]).to_list()
    assert b"".join(tokenizer.vocabulary.token_bytes(id) or b"" for id in spaced) == b" ing"


def test_the_fewest_tokens_are_found_and_the_first_is_the_longest() -> None:
    index = {b"a": 0, b"b": 1, b"c": 2, b"ab": 3, b"bc": 4, b"abc": 5}
    assert fewest_tokens(b"abc", index, 3) == [5]
    assert fewest_tokens(b"abc", index, 3, whole=False) == [3, 2]
    assert fewest_tokens(b"abcbc", index, 3) == [5, 4]
    assert fewest_tokens(b"abd", index, 3) is None
    assert fewest_tokens(b"a", index, 3, whole=False) is None
    assert fewest_tokens(b"", index, 3) is None
