"""Sampled tokenizers: their ids, their tokens' decompositions, and what a sampler remembers."""

from __future__ import annotations

import doctest
import json
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.hypernet import sampler as sampler_
from anyvocab.hypernet.sampler import (
    LogNormal,
    Normal,
    SampledTokenizer,
    SamplerOptions,
    TokenizerSampler,
)
from anyvocab.testing import byte_alphabet, tiny_tokenizer
from anyvocab.transplant.identity import decompose

WORDS = [
    "def",
    "return",
    "self",
    "naïve",
    "漢字かな",
    "😀",
    "हिन्दी",
    "x_y",
    "123",
    "don't",
    "(foo)",
]
WORDS += [".append\n\n", "", "", "\t"]
OPTIONS = SamplerOptions(vocab_size=700, noise=1e-4, queue_batches=3, near_probability=0.5)


def texts_of(seed: int, number: int = 12) -> list[bytes]:
    """Return texts of words, some of which hold bytes that are not UTF-8, and an empty one."""
    random = np.random.default_rng(seed)
    texts = [b""]
    for _ in range(number):
        words = [WORDS[i] + str(random.integers(30)) for i in random.integers(len(WORDS), size=40)]
        texts.append(" ".join(words).encode() + bytes(random.integers(256, size=3).tolist()))
    return texts


@pytest.fixture(scope="module")
def source() -> av.Tokenizer:
    return av.Tokenizer.load("pico:code-4k")


def lacking(*bytes_: int) -> av.Tokenizer:
    """Return the tiny tokenizer without tokens for some bytes."""
    document = tiny_tokenizer()
    names = [name for byte, name in enumerate(byte_alphabet()) if byte not in bytes_]
    vocab = {name: id for id, name in enumerate([*names, "he", "ll", "hell", "Ġhell"])}
    model = {**document["model"], "vocab": vocab}  # type: ignore[dict-item]
    return av.Tokenizer.load(json.dumps(document | {"model": model, "added_tokens": []}).encode())


def spelt(sampled: SampledTokenizer, source: av.Tokenizer, rows: int) -> list[bytes]:
    """Return what the pieces of every token stand for."""
    token_bytes = source.vocabulary.token_bytes
    of = [token_bytes(id) for id in range(rows)] + [bytes([byte]) for byte in range(256)]
    return [b"".join(of[id] or b"?" for id in row if id >= 0) for row in sampled.pieces.tolist()]


def same(one: SampledTokenizer, other: SampledTokenizer) -> bool:
    """Return whether two samples are the same tokenizer with the same pieces."""
    return (
        (one.tokens, one.pattern, one.step) == (other.tokens, other.pattern, other.step)
        and np.array_equal(one.scores, other.scores)
        and np.array_equal(one.pieces, other.pieces)
        and np.array_equal(one.lengths, other.lengths)
    )


def steps(sampler: TokenizerSampler, seeds: Sequence[int]) -> list[SampledTokenizer]:
    return [sampler.step(texts_of(seed)) for seed in seeds]


def test_the_pieces_of_every_token_are_its_decomposition_whatever_the_slots_held_before(
    source: av.Tokenizer,
) -> None:
    sampler = TokenizerSampler(source, replace(OPTIONS, max_pieces=3), seed=1)
    for sampled in steps(sampler, range(8)):
        rows = decompose(source, sampled.tokens).to_list()
        assert sampled.lengths.tolist() == [len(row) for row in rows]
        kept = [(row + [-1] * 3)[:3] for row in rows]
        assert sampled.pieces.tolist() == kept
        assert sampled.pieces.dtype == sampled.lengths.dtype == np.dtype(np.int32)


def test_pieces_spell_their_token(source: av.Tokenizer) -> None:
    sampler = TokenizerSampler(source, replace(OPTIONS, max_pieces=16), seed=1)
    for sampled in steps(sampler, range(3)):
        assert spelt(sampled, source, sampler.rows) == sampled.tokens


def test_a_byte_without_a_token_is_a_row_behind_the_source() -> None:
    poor = lacking(ord("z"), 0xE6, ord("\n"))
    rows = len(poor.vocabulary)
    options = replace(OPTIONS, max_pieces=20, near_probability=0.0)
    sampler = TokenizerSampler(poor, options, seed=0)
    sampled = sampler.step([b"hell hazy zz\n\n \xe6\xbc\xa2 " * 9])
    assert spelt(sampled, poor, rows) == sampled.tokens
    pieces = dict(zip(sampled.tokens, sampled.pieces.tolist(), strict=True))
    h, a = (int(poor.vocabulary.ids_of(byte)[0]) for byte in (b"h", b"a"))
    z, space = rows + ord("z"), int(poor.vocabulary.ids_of(b" ")[0])
    assert pieces[b"z"][:2] == [z, -1]
    assert pieces[b"\xe6"][:2] == [rows + 0xE6, -1]
    assert pieces[b" zz"][:4] == [space, z, z, -1]
    assert pieces[b" haz"][:5] == [space, h, a, z, -1]


def test_ids_beyond_the_rows_are_not_used(source: av.Tokenizer) -> None:
    rows = 1000
    sampler = TokenizerSampler(source, replace(OPTIONS, max_pieces=32), rows=rows, seed=0)
    for sampled in steps(sampler, range(2)):
        assert sampled.pieces.max() < rows
        assert spelt(sampled, source, rows) == sampled.tokens


def test_ids_of_any_text_decode_to_it_and_do_not_depend_on_threads(source: av.Tokenizer) -> None:
    sampled = steps(TokenizerSampler(source, OPTIONS, seed=4), range(2))[-1]
    texts = texts_of(99)
    encoded = sampled.encode_batch(texts)
    assert [b"".join(sampled.tokens[id] for id in row) for row in encoded] == texts
    again = sampled.encode_batch(texts, threads=3)
    assert np.array_equal(again.ids, encoded.ids)
    assert np.array_equal(again.offsets, encoded.offsets)


def test_the_same_seed_gives_the_same_tokenizers_for_any_number_of_threads(
    source: av.Tokenizer,
) -> None:
    one = steps(TokenizerSampler(source, OPTIONS, seed=4), range(4))
    two = steps(TokenizerSampler(source, OPTIONS, seed=4, threads=2), range(4))
    other = steps(TokenizerSampler(source, OPTIONS, seed=5), range(4))
    assert all(map(same, one, two))
    assert not any(map(same, one, other))


def test_replay_takes_up_where_another_sampler_stood(source: av.Tokenizer) -> None:
    options = replace(OPTIONS, vocab_size=LogNormal(800, 0.5, 512, 4096))
    expected = steps(TokenizerSampler(source, options, seed=4), range(8))[5:]
    again = TokenizerSampler(source, options, seed=4)
    steps(again, [70, 71])  # what it held before is forgotten
    again.replay([texts_of(seed) for seed in range(5)], step=5)
    assert again.next_step == 5
    assert all(map(same, expected, steps(again, [5, 6, 7])))


def test_peek_is_the_next_step_and_leaves_no_trace(source: av.Tokenizer) -> None:
    one, other = (TokenizerSampler(source, OPTIONS, seed=4) for _ in range(2))
    for seed in range(6):
        one.peek(texts_of(50 + seed), step=1000)
        peeked = one.peek(texts_of(seed), step=seed)
        assert one.next_step == seed
        stepped = one.step(texts_of(seed))
        assert same(peeked, stepped)
        assert same(stepped, other.step(texts_of(seed)))


def test_a_near_vocabulary_holds_the_sources_tokens(source: av.Tokenizer) -> None:
    options = replace(OPTIONS, vocab_size=4096, near_probability=1.0, whitespace="none")
    sampler = TokenizerSampler(source, options, seed=2)
    table = {source.vocabulary.token_bytes(id) for id in range(len(source.vocabulary))}
    for sampled in steps(sampler, range(4)):
        there = sum(token in table for token in sampled.tokens)
        assert there >= int(sampled.source_share * 4096)
        assert sampled.source_share > 0


def test_the_defaults_follow_the_size_of_the_source(source: av.Tokenizer) -> None:
    sampler = TokenizerSampler(source)
    assert sampler.options == SamplerOptions.for_source(source)
    assert sampler.options.vocab_size == LogNormal(3072, 0.5, 512, 8192)
    sizes = [sampled.vocab_size for sampled in steps(sampler, range(12))]
    assert all(512 <= size <= 8192 for size in sizes)
    assert len(set(sizes)) == 12


def test_the_published_settings_are_at_hand(source: av.Tokenizer) -> None:
    options = SamplerOptions.published()
    assert options.vocab_size == Normal(32_768, 0.0, 16_384, 32_768)
    sampled = TokenizerSampler(source, options).step(texts_of(0))
    assert (sampled.pieces.shape[1], sampled.pattern) == (7, "gpt2")
    assert sampled.vocab_size == 32_768 > len(sampled)  # a dozen texts have fewer substrings


def test_options_can_be_written_down_as_json(source: av.Tokenizer) -> None:
    written = json.loads(json.dumps(asdict(SamplerOptions.for_source(source))))
    assert written["vocab_size"] == {"median": 3072.0, "sigma": 0.5, "low": 512, "high": 8192}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", 300),
        ("noise", LogNormal(-1.0, 4.0, 0.0, 1.0)),
        ("noise", -1.0),
        ("queue_batches", 0),
        ("max_bytes", 16),
        ("stride", 0),
        ("ends", "words"),
        ("whitespace", "some"),
        ("patterns", ()),
        ("patterns", ("supertokens:0:2:characters",)),
        ("near_probability", 2.0),
        ("greedy_probability", -0.5),
        ("max_pieces", 0),
    ],
)
def test_an_option_out_of_its_range_is_named(
    source: av.Tokenizer, field: str, value: object
) -> None:
    with pytest.raises(errors.InvalidValue, match=field) as caught:
        TokenizerSampler(source, replace(OPTIONS, **{field: value}))  # type: ignore[arg-type]
    assert caught.value.field == field
    assert caught.value.fix


def test_one_pattern_that_is_no_list_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="patterns"):
        SamplerOptions(patterns="gpt2")


def test_the_examples_run() -> None:
    assert doctest.testmod(sampler_, raise_on_error=True).attempted >= 6
