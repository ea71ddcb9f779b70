"""Nats of tokens given to bytes, blocks and vocabularies; intervals from resampled blocks."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import anyvocab as av
from anyvocab.evaluate import Bootstrap, TokenScores, new_ids, shared_ids
from anyvocab.evaluate.bootstrap import MIN_BLOCKS, resample
from anyvocab.evaluate.greedy import pick_prompts, tail_period
from anyvocab.evaluate.scoring import token_ends
from anyvocab.testing import tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> av.Tokenizer:
    return av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode())


def scores(nats: list[float], lengths: list[int], ids: list[int] | None = None) -> TokenScores:
    return TokenScores(
        np.array(ids or range(len(nats)), dtype=np.uint32),
        np.array(nats, dtype=np.float64),
        np.cumsum(lengths),
    )


def test_a_token_in_two_blocks_is_shared_by_its_bytes() -> None:
    # bytes  0 1 2 3 | 4 5 6 7 | 8 9
    # token  a a b b   b c c c   c c
    # b has 2 of its 3 bytes in the first block, c 3 of 5 in the second.
    found = scores([1.0, 6.0, 5.0], [2, 3, 5]).by_block(4)
    assert found.tolist() == pytest.approx([1 + 4, 2 + 3, 2], rel=1e-15)


def test_a_token_may_span_many_blocks_and_one_without_bytes_counts_where_it_stands() -> None:
    # The token without bytes stands at byte 6, in the last block; at the end, in the last too.
    found = scores([6.0, 10.0, 1.0, 100.0], [6, 0, 1, 0]).by_block(2)
    assert found.tolist() == pytest.approx([2, 2, 2, 111], rel=1e-15)


@pytest.mark.parametrize("size", [1, 3, 7, 64, 1000])
def test_blocks_sum_to_the_total(size: int) -> None:
    generator = np.random.default_rng(5)
    lengths = generator.integers(0, 9, size=200).tolist()
    given = scores(generator.exponential(size=200).tolist(), lengths)
    blocks = given.by_block(size)
    assert len(blocks) == math.ceil(sum(lengths) / size)
    # Every nat is divided into at most 9 parts and added up in blocks: one rounding each.
    eps = float(np.finfo(np.float64).eps)
    assert float(blocks.sum()) == pytest.approx(float(given.nats.sum()), rel=(9 + 200) * eps)


def test_a_text_without_bytes_has_no_blocks_and_a_block_needs_bytes() -> None:
    empty = scores([], [])
    assert empty.by_block(8).shape == (0,)
    with pytest.raises(av.InvalidValue, match="block: must be at least 1"):
        empty.by_block(0)


def test_a_split_adds_up() -> None:
    split = scores([1.0, 2.0, 4.0, 8.0], [1, 2, 3, 4], [7, 9, 7, 5]).split_by([7, 300])
    assert (split.new_nats, split.new_bytes, split.new_tokens) == (5.0, 4, 2)
    assert (split.shared_nats, split.shared_bytes, split.shared_tokens) == (10.0, 6, 2)
    assert split.new_nats_per_byte == 5 / 4
    assert split.shared_nats_per_byte == 10 / 6
    both = split + split
    assert both.new_nats + both.shared_nats == 30.0


def test_a_part_without_tokens_has_no_nats_per_byte() -> None:
    split = scores([1.0], [1]).split_by([])
    assert split.new_tokens == 0
    assert math.isnan(split.new_nats_per_byte)


def test_ends_follow_the_tokens_own_bytes(tokenizer: av.Tokenizer) -> None:
    text = "hello hellé".encode()  # hell|o| hell|C3|A9
    ends = token_ends(tokenizer, text, tokenizer.encode_with_offsets(text))
    assert ends.tolist() == [4, 5, 10, 11, 12]


def test_ends_are_a_partition_where_bytes_do_not_spell_the_text(fixtures: object) -> None:
    for name in ("bert_uncased", "t5_base"):
        place = f"{fixtures}/tokenizers/bert_uncased"
        if name == "t5_base":
            place = f"{fixtures}/sentencepiece/t5_base.model"
        tokenizer = av.Tokenizer.load(place)
        for text in ("Hé  日 <b> naïve ﬁne  ", "x", "  two  "):
            data = text.encode()
            encoding = tokenizer.encode_with_offsets(data)
            ends = token_ends(tokenizer, data, encoding)
            assert len(ends) == len(encoding.ids)
            assert (np.diff(ends) >= 0).all()
            assert ends[-1] == len(data)


def changed_vocabulary() -> av.Tokenizer:
    """The tiny tokenizer with ` hell` gone and `lo` new, its ids in the opposite order."""
    document = tiny_tokenizer()
    model = document["model"]
    assert isinstance(model, dict)
    tokens = [*[*model["vocab"]][:-1], "lo"]
    vocab = {token: len(tokens) - 1 - id for id, token in enumerate(tokens)}
    merges = [["h", "e"], ["l", "o"], ["l", "l"], ["he", "ll"]]
    document["model"] = model | {"vocab": vocab, "merges": merges}
    return av.Tokenizer.load(json.dumps(document).encode())


def test_new_ids_are_those_whose_bytes_the_other_lacks(tokenizer: av.Tokenizer) -> None:
    other = changed_vocabulary()
    (new,) = new_ids(other.vocabulary, tokenizer.vocabulary).tolist()
    assert other.vocabulary.token_bytes(new) == b"lo"
    (lost,) = new_ids(tokenizer.vocabulary, other.vocabulary).tolist()
    assert tokenizer.vocabulary.token_bytes(lost) == b" hell"


def test_shared_ids_have_the_same_bytes(tokenizer: av.Tokenizer) -> None:
    other = changed_vocabulary()
    shared = shared_ids(tokenizer.vocabulary, other.vocabulary)
    assert len(shared) == 256 + 3
    for ours, theirs in shared.items():
        assert tokenizer.vocabulary.token_bytes(ours) == other.vocabulary.token_bytes(theirs)


def test_an_interval_has_the_width_that_theory_gives() -> None:
    # 400 blocks of the same size, nats of mean 1000 and deviation 100: the mean of 400 deviates
    # by 5, so 95 % lie within 1.96 * 5. The deviation of the sample itself is known to
    # 1 / sqrt(2 * 400) = 3.5 %, and quantiles of 4000 draws to about 3 %: 3 of both together.
    nats = np.random.default_rng(1).normal(1000, 100, size=400)
    sizes = np.full(400, 512)
    found = resample([nats], sizes, domain="x", bootstrap=Bootstrap(resamples=4000))
    interval = found.bits_per_byte(0, 0.95)
    assert interval is not None
    width = (interval.high - interval.low) * 512 * math.log(2)
    assert width == pytest.approx(2 * 1.96 * 5, rel=3 * math.hypot(0.035, 0.03))
    mean = nats.mean() / 512 / math.log(2)
    assert interval.low < mean < interval.high


def test_a_constant_difference_has_no_width_whatever_the_blocks_cost() -> None:
    nats = np.random.default_rng(2).normal(1000, 300, size=50)
    sizes = np.full(50, 512)
    found = resample([nats, nats + 10], sizes, domain="x", bootstrap=Bootstrap())
    interval = found.difference(1, 0, 0.95)
    assert interval is not None
    exact = 10 / 512 / math.log(2)
    # 50 sums of about 1000 each on either side: their roundings do not cancel.
    tolerance = 50 * 50 * 1300 * float(np.finfo(np.float64).eps) / (50 * 512 * math.log(2))
    assert interval.low == pytest.approx(exact, abs=tolerance)
    assert interval.high == pytest.approx(exact, abs=tolerance)


def test_blocks_of_different_sizes_are_weighed_by_their_bytes() -> None:
    sizes = np.array([1000] * 20 + [1] * 20)
    nats = np.array([700.0] * 20 + [0.7] * 20)  # 0.7 nats a byte everywhere
    found = resample([nats], sizes, domain="x", bootstrap=Bootstrap())
    interval = found.bits_per_byte(0, 0.95)
    assert interval is not None
    assert interval.low == pytest.approx(0.7 / math.log(2), rel=1e-12)
    assert interval.high == pytest.approx(0.7 / math.log(2), rel=1e-12)


def test_draws_depend_on_the_seed_and_the_domain_and_not_on_rivals() -> None:
    nats = np.random.default_rng(3).normal(1000, 100, size=40)
    sizes = np.full(40, 512)

    def draw(several: list[np.ndarray], domain: str = "x", seed: int = 0) -> object:
        found = resample(several, sizes, domain=domain, bootstrap=Bootstrap(seed=seed))
        return found.bits_per_byte(0, 0.95)

    assert draw([nats]) == draw([nats, nats * 2])
    assert draw([nats]) != draw([nats], domain="y")
    assert draw([nats]) != draw([nats], seed=1)


def test_too_few_blocks_have_no_interval() -> None:
    for count in (1, MIN_BLOCKS - 1, MIN_BLOCKS):
        found = resample(
            [np.arange(count) + 1.0], np.full(count, 8), domain="x", bootstrap=Bootstrap()
        )
        assert (found.bits_per_byte(0, 0.95) is None) == (count < MIN_BLOCKS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block": 0}, "block: must be at least 1"),
        ({"resamples": 99}, "resamples: must be at least 100"),
        ({"seed": -1}, "seed: must be at least 0"),
        ({"level": 1.0}, "level: must lie between 0 and 1"),
    ],
)
def test_a_bootstrap_out_of_range_is_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(av.InvalidValue, match=words):
        Bootstrap(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sequence", "period"),
    [
        (b"a" * 32, 1),
        (b"a" * 31, 0),  # too short to tell from a line or an indentation
        (b"so it begins: " + b"ab" * 16, 2),
        (b"x" + b"0123456789abcdef" * 3, 16),
        (b"x" + b"0123456789abcdef" * 2 + b"0123456789abcde", 0),  # not three times
        (b"0123456789abcdef" * 3 + b"012", 16),  # the last turn need not be whole
        (b"a" * 200 + b"b", 0),  # it came out of the loop
        (b"", 0),
    ],
)
def test_a_loop_is_a_tail_that_stands_there_three_times(sequence: bytes, period: int) -> None:
    assert tail_period(sequence) == period


def test_loops_of_ids_are_found_too() -> None:
    assert tail_period([5, 9, 1, 2, 3, 1, 2, 3, 1, 2, 3], least=9) == 3
    assert tail_period([5, 9, 1, 2, 3, 1, 2, 3, 1, 2], least=8) == 0


def test_prompts_are_seeded_pieces_at_the_edges_of_words() -> None:
    words = [f"wörd{i}" for i in range(200)]
    documents = [" ".join(words).encode(), b"", b"short"]
    prompts = pick_prompts(documents, count=20, size=40, seed=3)
    assert prompts == pick_prompts(documents, count=20, size=40, seed=3)
    assert prompts != pick_prompts(documents, count=20, size=40, seed=4)
    for prompt in prompts:
        assert 0 < len(prompt) <= 40
        assert set(prompt.decode().split()) <= {*words, "short"}


def test_prompts_of_a_script_without_spaces_keep_characters_whole() -> None:
    for prompt in pick_prompts([("日本語" * 300).encode()], count=20, size=50, seed=1):
        assert set(prompt.decode("utf-8")) == set("日本語")
