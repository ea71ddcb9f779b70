"""Bytes drawn one by one: the filters and their order, stop strings, UTF-8, batches, streams."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab.backends import TableBackend
from anyvocab.bytelm import ByteLM, Ids
from anyvocab.bytelm.sampling import Sampler, utf8_bytes
from anyvocab.testing import merged_tokenizer

MERGES = [("a", "b"), ("ab", "a"), ("b", "a"), ("Ã", "©"), ("a", "Ġ")]
END_ID = 261
ROWS = 263


def model(*, scale: float = 2.0, letters: bytes = b"", seed: int = 3) -> ByteLM:
    """Return a byte-level model; with `letters` it writes tokens of those bytes only, and ends."""
    tokenizer = av.Tokenizer.load(json.dumps(merged_tokenizer(MERGES)).encode())
    random = TableBackend(ROWS, seed=seed, scale=scale)
    spelled = [tokenizer.vocabulary.token_bytes(id) or b"" for id in range(ROWS)]
    out = [bool(set(one) - set(letters)) for one in spelled]

    def row(context: tuple[int, ...]) -> Any:
        return np.where(out, -50.0, random.row(context)) if letters else random.row(context)

    backend = TableBackend(ROWS, row)
    return ByteLM(backend, tokenizer, first_ids=[END_ID], specials={END_ID: "end"})


class Grid:
    """A generator that gives the middles of `count` equal parts of 0..1, one after another."""

    def __init__(self, count: int) -> None:
        self._left = iter((np.arange(count) + 0.5) / count)

    def random(self) -> float:
        return float(next(self._left))


def frequencies(sampler: Sampler, logprobs: Any, count: int = 20_000) -> Any:
    generator: Any = Grid(count)
    chosen = [sampler.choose(logprobs, generator) for _ in range(count)]
    return np.bincount(chosen, minlength=len(logprobs)) / count


def kept(probabilities: Any, sampler: Sampler) -> Any:
    """Return what a sampler's filters leave, by their definitions, one after another."""
    left = np.array(probabilities, dtype=np.float64) ** (1 / sampler.temperature)
    left /= left.sum()
    ranked = sorted(range(len(left)), key=lambda at: (-left[at], at))
    if sampler.top_k is not None:
        left[ranked[sampler.top_k :]] = 0
        left /= left.sum()
    for at, place in enumerate(ranked):
        if left[ranked[:at]].sum() >= sampler.top_p:
            left[place] = 0
    left /= left.sum()
    if sampler.min_p is not None:
        left[left < sampler.min_p * left.max()] = 0
    return left / left.sum()


SAMPLERS = [
    Sampler(1.0),
    Sampler(0.5),
    Sampler(2.0, top_k=3),
    Sampler(1.0, top_p=0.7),
    Sampler(0.7, top_p=0.7),
    Sampler(1.5, top_p=0.6, top_k=4),
    Sampler(1.0, min_p=0.3),
    Sampler(2.0, top_k=5, min_p=0.5),
    Sampler(0.8, top_p=0.9, top_k=5, min_p=0.4),
    Sampler(1.0, top_k=100),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_choices_have_the_frequencies_of_the_filters(sampler: Sampler) -> None:
    probabilities = np.array([0.05, 0.3, 0.0, 0.1, 0.3, 0.15, 0.04, 0.06])
    with np.errstate(divide="ignore"):
        logprobs = np.log(probabilities)
    # The middles of n equal parts hit an interval of length p n * p times, give or take one.
    found = frequencies(sampler, logprobs)
    np.testing.assert_allclose(found, kept(probabilities, sampler), rtol=0, atol=1.001 / 20_000)


def test_filters_come_in_the_order_temperature_top_k_top_p_min_p() -> None:
    probabilities = np.array([0.4, 0.3, 0.2, 0.1])
    logprobs = np.log(probabilities)
    # Top-k leaves 4/7 and 3/7: half of the mass is the first alone; before top-k it is two.
    assert frequencies(Sampler(1.0, top_p=0.5, top_k=2), logprobs)[1] == 0
    # At temperature 2 the shares are .33 .28 .23 .16: two thirds are three of them, not two.
    assert (frequencies(Sampler(2.0, top_p=0.67), logprobs) > 0).sum() == 3
    # min-p looks at the likeliest, which no filter takes away, after the temperature.
    assert (frequencies(Sampler(1.0, min_p=0.6), logprobs) > 0).sum() == 2
    assert (frequencies(Sampler(2.0, min_p=0.6), logprobs) > 0).sum() == 3


def test_temperature_zero_takes_the_first_of_the_likeliest() -> None:
    generator: Any = Grid(1)
    assert Sampler(0.0).choose(np.log([0.2, 0.4, 0.4]), generator) == 1
    assert generator.random() == 0.5  # and draws nothing


@pytest.mark.parametrize("temperature", [1e-3, 1e-200, 1e-320])
def test_tiny_temperatures_take_the_likeliest(temperature: float) -> None:
    logprobs = np.log([0.2, 0.5, 0.3])
    assert frequencies(Sampler(temperature), logprobs, 50).tolist() == [0, 1, 0]


def test_what_is_impossible_is_never_chosen() -> None:
    logprobs = np.array([-np.inf, 0.0, -np.inf])
    for sampler in (Sampler(1.0), Sampler(1.0, top_k=2), Sampler(1.0, min_p=0.0), Sampler(5.0)):
        assert frequencies(sampler, logprobs, 50).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1.0),
        ("temperature", math.inf),
        ("temperature", math.nan),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", 0),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("max_bytes", -1),
    ],
)
def test_options_out_of_range_are_refused_when_they_are_given(field: str, value: float) -> None:
    lm = model()
    options: dict[str, Any] = {field: value}
    for call in (lm.sample, lm.stream):  # a stream does not wait until it is read
        with pytest.raises(av.InvalidValue) as caught:
            call(b"a", **options)
        assert caught.value.field == field


def chi_square(counts: Any, probabilities: Any) -> None:
    """Refuse counts that a distribution gives with a probability below about 1e-6.

    Pearson's statistic over the outcomes that are expected five times (the others together) is a
    chi-square of k degrees; one is over k + 2 sqrt(k x) + 2 x with probability exp(-x) at most
    (Laurent and Massart 2000, lemma 1), x = 14.
    """
    expected = np.asarray(probabilities) * counts.sum()
    large = expected >= 5
    observed = np.append(counts[large], counts[~large].sum())
    expected = np.append(expected[large], expected[~large].sum())
    observed, expected = observed[expected > 0], expected[expected > 0]
    k, x = len(expected) - 1, 14.0
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert statistic <= k + 2 * math.sqrt(k * x) + 2 * x


def test_first_bytes_are_drawn_from_the_next_byte_distribution() -> None:
    lm, count = model(letters=b"ab "), 2000
    drawn = lm.sample_batch([b"ba"] * count, max_bytes=1)
    ended = sum(one.finish == "end" for one in drawn)
    counts = np.bincount([one.bytes[0] for one in drawn if one.bytes], minlength=257)
    counts[256] = ended
    chi_square(counts, np.exp(lm.start(b"ba").logprobs()))


def test_texts_are_drawn_from_the_law() -> None:
    lm, count = model(letters=b"ab "), 1500
    drawn = lm.sample_batch([b"a"] * count, max_bytes=3, seeds=range(count))
    texts = sorted({(one.bytes, one.finish) for one in drawn})
    shares = [math.exp(lm.score(text, b"a", end=end == "end")) for text, end in texts]
    counts = [sum((one.bytes, one.finish) == text for one in drawn) for text in texts]
    chi_square(np.array([*counts, 0]), np.array([*shares, max(0.0, 1 - sum(shares))]))


def test_the_logprob_is_that_of_the_bytes_before_any_filter() -> None:
    lm = model(letters=b"ab ")
    for seed in range(5):
        one = lm.sample(b"a", max_bytes=6, temperature=0.5, top_k=3, top_p=0.9, seed=seed)
        expected = lm.score(one.bytes, b"a", end=one.finish == "end")
        assert one.logprob == pytest.approx(expected, abs=1e-10)  # seven sums of under 600 terms


def test_greedy_takes_the_likeliest_byte_each_time() -> None:
    lm = model()
    one = lm.sample(b"a", max_bytes=5, temperature=0)
    text = b"a"
    for byte in one.bytes:
        assert byte == int(lm.start(text).logprobs().argmax())
        text += bytes([byte])
    assert (one.finish, len(one.bytes)) == ("length", 5)


def test_a_batch_is_its_samples() -> None:
    lm = model(letters=b"ab ")
    contexts = [b"a", "", [Ids([END_ID, 5]), b"b"], b"ab"]
    options: dict[str, Any] = {"max_bytes": 7, "temperature": 1.3, "stop": [b"ba"]}
    batch = lm.sample_batch(contexts, seeds=[4, 5, 6, 7], **options)
    single = [
        lm.sample(one, seed=seed, **options)
        for one, seed in zip(contexts, range(4, 8), strict=True)
    ]
    assert [(one.bytes, one.finish) for one in batch] == [(one.bytes, one.finish) for one in single]
    logprobs = [one.logprob for one in single]
    assert [one.logprob for one in batch] == pytest.approx(logprobs, abs=1e-10)


def test_a_batch_counts_its_seeds_from_zero() -> None:
    lm = model()
    found = [one.bytes for one in lm.sample_batch([b"a"] * 3, max_bytes=3)]
    assert found == [lm.sample(b"a", max_bytes=3, seed=seed).bytes for seed in range(3)]


def test_one_pass_of_the_model_serves_all_samples_of_a_batch() -> None:
    lm = model()
    backend: Any = lm.backend
    lm.sample_batch([b"a", b"b", b" ", b"x"], max_bytes=3)
    assert backend.calls <= 3


@pytest.mark.parametrize(
    "stop", [(), [b"ab"], [b"a "], [b"aba", b"b"], [b"", b"ba"], [b""], ["bbb", b"a" * 9]]
)
def test_a_stream_is_its_sample_in_pieces(stop: Any) -> None:
    lm = model(letters=b"ab ")
    for seed in range(6):
        options: dict[str, Any] = {"max_bytes": 12, "stop": stop, "seed": seed}
        pieces = list(lm.stream(b"b", **options))
        assert b"".join(pieces) == lm.sample(b"b", **options).bytes
        assert all(pieces)


def test_a_stream_holds_back_only_what_a_stop_string_could_take() -> None:
    lm = model(letters=b"ab ").with_specials({END_ID: "forbid"})
    pieces = list(lm.stream(b"b", max_bytes=9, stop=[b"xyz"], seed=1))
    assert [len(piece) for piece in pieces] == [1] * 6 + [3]


def test_a_text_ends_before_the_first_stop_string() -> None:
    lm = model(letters=b"ab ")
    for seed in range(30):
        free = lm.sample(b"b", max_bytes=12, seed=seed)
        cut = lm.sample(b"b", max_bytes=12, seed=seed, stop=[b"ab", "b "])
        ends = [at for at in range(2, 13) if free.bytes[at - 2 : at] in (b"ab", b"b ")]
        if ends:
            assert (cut.bytes, cut.finish) == (free.bytes[: ends[0] - 2], "stop")
        else:
            assert (cut.bytes, cut.finish) == (free.bytes, free.finish)


def test_of_stop_strings_that_end_together_the_longest_is_cut_off() -> None:
    lm = model(letters=b"ab ")
    for stop in ([b"b", b"ab"], [b"ab", b"b"]):
        for seed in range(20):
            one = lm.sample(b"b", max_bytes=12, seed=seed, stop=stop)
            free = lm.sample(b"b", max_bytes=12, seed=seed).bytes
            at = free.find(b"b")
            if at > 0 and free[at - 1] == ord("a"):
                assert one.bytes == free[: at - 1]


@pytest.mark.parametrize("stop", ["\n", b"\n", [3]])
def test_stop_strings_are_a_list_of_texts(stop: Any) -> None:
    lm = model()
    for call in (lm.sample, lm.stream, lm.complete):
        with pytest.raises(av.InvalidValue):
            call(b"a", stop=stop)


@pytest.mark.parametrize(
    "options", [{"contexts": "ab"}, {"contexts": b"ab"}, {"contexts": [b"a"], "seeds": [1, 2]}]
)
def test_a_batch_is_a_list_of_contexts_with_a_seed_each(options: Any) -> None:
    with pytest.raises(av.InvalidValue) as caught:
        model().sample_batch(**options)
    assert caught.value.fix


def decodable(text: bytes) -> bool:
    """Return whether `text` is UTF-8 or the beginning of it."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


@pytest.mark.parametrize("text", [b"", b"a", "é".encode(), "中".encode(), "😀".encode()])
def test_the_bytes_that_may_follow_are_those_that_python_decodes(text: bytes) -> None:
    for at in range(len(text) + 1):
        head = text[:at]
        may = utf8_bytes(head)
        assert [bool(one) for one in may[:256]] == [
            decodable(head + bytes([byte])) for byte in range(256)
        ]
        assert bool(may[256]) == (at == len(text) or head == b"")


@pytest.mark.parametrize("lead", [0xE0, 0xED, 0xF0, 0xF4])
def test_overlong_forms_surrogates_and_what_is_over_the_last_are_no_utf8(lead: int) -> None:
    may = utf8_bytes(bytes([lead]))
    assert [b for b in range(256) if may[b]] == [
        b for b in range(256) if decodable(bytes([lead, b]))
    ]


@pytest.mark.parametrize("context", [b"", "é".encode()[:1], "a😀".encode()[:3], b"\xa9\xff"])
def test_constrained_samples_make_utf8_with_their_context(context: bytes) -> None:
    lm = model(scale=0.3)  # near uniform: unconstrained bytes are almost never UTF-8
    for seed in range(4):
        one = lm.sample(context, max_bytes=12, utf8=True, seed=seed)
        whole = context.lstrip(b"\xa9\xff") + one.bytes
        assert decodable(whole)
        assert one.finish == "length" or whole.decode() is not None
    free = lm.sample(context, max_bytes=12, seed=0).bytes
    assert not decodable(context.lstrip(b"\xa9\xff") + free)


def test_a_context_that_no_token_spells_says_so() -> None:
    lm = model().with_specials({ord("x"): "forbid"})
    with pytest.raises(av.InvalidValue, match="the context is impossible"):
        lm.sample(b"ax", max_bytes=1)
    with pytest.raises(av.InvalidValue, match="spells the text"):
        lm.complete(b"ax")


def test_a_model_that_cannot_go_on_in_utf8_says_so() -> None:
    lm = model().with_specials(dict.fromkeys(range(0x80, 0xC0), "forbid"))
    with pytest.raises(av.InvalidValue, match="that makes UTF-8"):
        lm.sample("中".encode()[:1], max_bytes=1, utf8=True)


def test_no_bytes_are_a_sample_of_length_zero() -> None:
    one = model().sample(b"a", max_bytes=0)
    assert (one.bytes, one.finish, one.logprob) == (b"", "length", 0.0)
    assert list(model().stream(b"a", max_bytes=0)) == []
