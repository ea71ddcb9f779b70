"""The vocabulary's Python face, on a tokenizer small enough to check by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

import anyvocab as av


@pytest.fixture
def vocabulary(tiny_folder: Path) -> av.Vocabulary:
    return av.Tokenizer.load(tiny_folder).vocabulary


def test_every_byte_is_a_token(vocabulary: av.Vocabulary) -> None:
    assert len(vocabulary) == 262
    assert [vocabulary.token_bytes(id) for id in range(256)] == [bytes([b]) for b in range(256)]
    assert vocabulary.token_bytes(259) == b" hell"
    assert vocabulary.spelling(259) == "Ġhell".encode()


def test_bytes_find_ids(vocabulary: av.Vocabulary) -> None:
    assert vocabulary.ids_of(b" hell").tolist() == [259]
    assert vocabulary.ids_of(b"nope").tolist() == []
    assert vocabulary.ids_with_prefix(b"he").tolist() == [256, 258]
    assert len(vocabulary.ids_with_prefix(b"")) >= 260


def test_kinds_are_counted(vocabulary: av.Vocabulary) -> None:
    counts = vocabulary.kind_counts()
    assert sum(counts.values()) == len(vocabulary)
    assert vocabulary.kind(256) == "text"
    assert vocabulary.kind(260) in {"control", "added"}
    assert 256 in vocabulary.ids_of_kind("text").tolist()
    with pytest.raises(av.InvalidValue, match="kinds are text"):
        vocabulary.ids_of_kind("colour")


def test_roles_name_their_sources(vocabulary: av.Vocabulary) -> None:
    assert vocabulary.role(260) == "eos"
    assert set(vocabulary.roles_of(260)) == {"eos", "bos", "turn_end"}
    assert vocabulary.roles.sources("eos", 260) == (
        "generation_config.json: eos_token_id",
        "tokenizer_config.json: eos_token",
    )
    assert vocabulary.ids_of_role("eos") == (260, 0)
    assert vocabulary.role(261) == "fim_prefix"
    assert vocabulary.role(65) is None


def test_partial_utf8_is_half_the_bytes(vocabulary: av.Vocabulary) -> None:
    assert vocabulary.partial_utf8().tolist() == list(range(128, 256))


def test_there_are_no_holes_no_duplicates_and_no_empty_tokens(vocabulary: av.Vocabulary) -> None:
    assert vocabulary.holes().tolist() == []
    assert vocabulary.duplicates() == {}
    assert vocabulary.empty().tolist() == []
    assert list(vocabulary) == list(range(262))


def test_rows_and_ids_are_compared_both_ways(vocabulary: av.Vocabulary) -> None:
    assert vocabulary.padded_rows(264) == range(262, 264)
    assert list(vocabulary.padded_rows(262)) == []
    assert vocabulary.ids_beyond(260) == range(260, 262)
    assert list(vocabulary.ids_beyond(264)) == []


def test_an_id_out_of_range_is_a_value_error(vocabulary: av.Vocabulary) -> None:
    for call in (vocabulary.token_bytes, vocabulary.spelling, vocabulary.kind, vocabulary.role):
        for id in (262, -1, 1 << 40):
            with pytest.raises(av.InvalidValue, match=r"ids are 0\.\.261"):
                call(id)


def test_repr_counts_the_kinds(vocabulary: av.Vocabulary) -> None:
    assert repr(vocabulary).startswith("Vocabulary(262 ids: ")
