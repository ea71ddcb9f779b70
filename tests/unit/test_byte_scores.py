"""Texts longer than a window, members and ensembles in one go, blocks; and completions as heard."""

from __future__ import annotations

import numpy as np
import pytest

import anyvocab as av
from anyvocab.backends import TableBackend
from anyvocab.evaluate.byte_scores import _windows, blocks, byte_logprobs, ensemble_logprobs

ROWS = 264
FIRST = 260
TEXT = b"hello hell, he said; hello " * 3


def model(tiny: bytes, seed: int) -> av.ByteLM:
    return av.ByteLM(TableBackend(ROWS, seed=seed), tiny, first_ids=[FIRST])


@pytest.mark.parametrize("window", [2, 3, 7, 16, 80, 1000])
@pytest.mark.parametrize("before", [b"", b"abc", b"x" * 50])
def test_windows_score_each_byte_once_behind_what_precedes_it(window: int, before: bytes) -> None:
    at = 0
    for head, more in _windows(TEXT, window, before):
        assert more
        assert TEXT[at : at + len(more)] == more
        assert (before + TEXT[:at]).endswith(head)
        assert len(head) + len(more) <= window
        # Half a window before, or all there is.
        assert len(head) >= min(len(before) + at, window // 2)
        at += len(more)
    assert at == len(TEXT)


def test_a_text_inside_a_window_is_scored_as_it_is(tiny: bytes) -> None:
    lm = model(tiny, 0)
    rows = lm.next_byte_logprobs(TEXT, b"he")
    steps = rows[np.arange(len(TEXT)), list(TEXT)]
    assert byte_logprobs(lm, TEXT, before=b"he").tolist() == steps.tolist()
    # Conditionals multiply to the text's probability; 81 sums of masses, each good to 1e-12.
    assert steps.sum() == pytest.approx(lm.score(TEXT, b"he"), rel=1e-10)


def test_a_longer_text_is_the_sum_of_its_windows(tiny: bytes) -> None:
    lm = model(tiny, 0)
    expected = lm.score(TEXT[:16]) + sum(
        lm.score(TEXT[at : at + 8], prefix=TEXT[at - 8 : at]) for at in range(16, len(TEXT), 8)
    )
    assert byte_logprobs(lm, TEXT, window=16).sum() == pytest.approx(expected, rel=1e-10)


def test_an_empty_text_has_no_bytes_and_a_window_has_two(tiny: bytes) -> None:
    lm = model(tiny, 0)
    assert byte_logprobs(lm, b"").shape == (0,)
    assert ensemble_logprobs(av.Ensemble([lm]), b"").shape == (2, 0)
    with pytest.raises(av.InvalidValue, match="at least 2 bytes"):
        byte_logprobs(lm, b"x", window=1)


def test_members_are_scored_as_they_are_alone(tiny: bytes) -> None:
    members = [model(tiny, 0), model(tiny, 1)]
    found = ensemble_logprobs(av.Ensemble(members), TEXT, window=16)
    for at, one in enumerate(members):
        assert found[at].tolist() == byte_logprobs(one, TEXT, window=16).tolist()
    mixed = np.log((np.exp(found[0]) + np.exp(found[1])) / 2)
    assert found[2] == pytest.approx(mixed, rel=1e-12)


@pytest.mark.parametrize("window", [16, 1000])
def test_bayes_gives_a_text_the_weighted_sum_of_its_probabilities(tiny: bytes, window: int) -> None:
    both = av.Ensemble([model(tiny, 0), model(tiny, 1)], rule="bayes", weights=[0.25, 0.75])
    found = ensemble_logprobs(both, TEXT, window=window)
    totals = found.sum(axis=1)
    expected = np.logaddexp(totals[0] + np.log(0.25), totals[1] + np.log(0.75))
    assert totals[2] == pytest.approx(expected, rel=1e-10)


def test_blocks_hold_all_nats_and_bytes() -> None:
    rng = np.random.default_rng(0)
    documents = [-rng.random((3, n)) for n in (10, 0, 7, 4)]
    nats, sizes = blocks(documents, 4)
    assert sizes.tolist() == [4, 4, 2, 4, 3, 4]
    assert nats[1, 2] == pytest.approx(-documents[0][1, 8:].sum())
    assert nats.sum() == pytest.approx(-sum(one.sum() for one in documents))


@pytest.mark.parametrize("stop", [(), (b"l",), (b"el", b"xyz"), (b"",)])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_heard_is_what_is_written(tiny: bytes, seed: int, stop: tuple[bytes, ...]) -> None:
    lm = model(tiny, 7)
    for write in (lm.complete, lm.sample):
        heard: list[bytes] = []
        done = write(
            b"hel", max_bytes=40, temperature=1.0, stop=stop, seed=seed, heard=heard.append
        )
        assert b"".join(heard) == done.bytes
        assert all(heard)
    assert b"".join(lm.stream(b"hel", max_bytes=40, stop=stop, seed=seed)) == done.bytes


def test_a_completion_is_heard_before_it_ends(tiny: bytes) -> None:
    heard: list[bytes] = []
    model(tiny, 7).complete(b"hel", max_new_tokens=12, temperature=1.0, seed=1, heard=heard.append)
    assert len(heard) > 3
