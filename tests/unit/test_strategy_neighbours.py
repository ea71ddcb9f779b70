"""focus, wechsel, clp and tokenadapt: laws of rows that are made of neighbours."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import anyvocab as av
from anyvocab import errors
from anyvocab.transplant.context import Context, TensorMatrix
from anyvocab.transplant.plan import Combination
from anyvocab.transplant.spaces import corpus_space, known_sources, space_of
from anyvocab.transplant.spaces.exact import cosines
from anyvocab.transplant.strategies import make

pytestmark = pytest.mark.models
EPS = float(np.finfo(np.float32).eps)
WIDTH = 8
COMBINING: tuple[tuple[str, dict[str, Any]], ...] = (
    ("focus", {}),
    ("focus", {"temperature": 0.1, "space": "spelling"}),
    ("wechsel", {}),
    ("wechsel", {"space": "spelling"}),
    ("clp", {"neighbours": 5, "negative": "clamp"}),
    ("tokenadapt", {}),
    ("tokenadapt", {"space": "spelling", "k": 7}),
)
ANCHORED = [one for one in COMBINING if one[0] in ("focus", "clp")]


@cache
def context() -> Context:
    """The pico tokenizers around random rows, and this file as the corpus."""
    from pathlib import Path

    import torch

    source, target = av.Tokenizer.load("pico:code-2k"), av.Tokenizer.load("pico:code-4k")
    torch.manual_seed(0)
    rows = [TensorMatrix(torch.randn(len(source.vocabulary), WIDTH)) for _ in range(2)]
    text = Path(__file__).read_bytes()
    matrices = {"input": rows[0], "output": rows[1]}
    return Context.of(source, target, matrices, corpus=(text,))  # type: ignore[arg-type]


@cache
def pool() -> NDArray[np.int64]:
    """Text tokens that the source lacks, and some control token."""
    tokens = context().target_tokens
    return np.array([id for id in context().match.unmatched().tolist() if tokens[id]])


IDS = st.lists(st.integers(0, 10**6), min_size=1, max_size=20, unique=True)


@pytest.mark.parametrize(("name", "options"), COMBINING)
@settings(max_examples=10, deadline=None)
@given(picks=IDS, side=st.sampled_from(["input", "output"]), block=st.integers(1, 10**5))
def test_rows_sum_to_one_whatever_the_order_and_the_block(
    name: str, options: dict[str, Any], picks: list[int], side: Any, block: int
) -> None:
    ids = np.unique(pool()[np.array(picks) % len(pool())])
    strategy: Any = make(name, options)
    found = strategy.rows(context(), side, ids)
    lengths = found.lengths()
    assert len(found) == len(ids)
    assert (found.columns >= 0).all()
    assert (found.columns < context().source_rows).all()
    rows = np.repeat(np.arange(len(ids)), lengths)
    sums = np.bincount(rows, found.weights.astype(np.float64), minlength=len(ids))
    # Each weight is rounded to float32, and so is the product with the blend's share.
    assert np.abs(sums[lengths > 0] - 1).max(initial=0) <= 2 * EPS * max(1, lengths.max())

    parts = strategy.rows(context(), side, ids, block_numbers=block)
    order = np.random.default_rng(block).permutation(len(ids))
    shuffled = strategy.rows(context(), side, ids[order])
    for other in (parts, shuffled.select(np.argsort(order))):
        assert np.array_equal(found.indptr, other.indptr)
        assert np.array_equal(found.columns, other.columns)
        assert np.array_equal(found.weights, other.weights)


@pytest.mark.parametrize(("name", "options"), ANCHORED)
def test_only_anchors_that_are_not_held_out_are_used(name: str, options: dict[str, Any]) -> None:
    held = context().anchors[0][::7]
    apart = context().holding_out(held)
    found = make(name, options).rows(apart, "output", held)
    assert isinstance(found, Combination)
    assert np.isin(found.columns, apart.anchors[1]).all()
    assert not np.isin(found.columns, context().match.source_of[held]).any()


def test_wechsel_never_uses_the_own_row_of_a_held_out_token() -> None:
    held = context().anchors[0][::7]
    found = make("wechsel").rows(context().holding_out(held), "input", held)
    assert isinstance(found, Combination)
    assert not np.isin(found.columns, context().match.source_of[held]).any()


def test_an_anchor_that_is_not_hidden_is_its_own_nearest_neighbour() -> None:
    targets, sources = context().anchors
    # Runs of white space are closer to one another than a step.
    solid = np.array([bool((context().target_tokens[id] or b"").strip()) for id in targets])
    nearest = make("wechsel", {"neighbours": 1, "space": "spelling"})
    found = nearest.rows(context(), "input", targets[solid])
    assert isinstance(found, Combination)
    assert np.array_equal(found.columns, sources[solid])


def test_focus_weights_are_the_projection_of_the_cosines() -> None:
    ids = pool()[::40]
    found = make("focus").rows(context(), "input", ids)
    assert isinstance(found, Combination)
    space, (targets, sources) = space_of(context(), "input", "corpus"), context().anchors
    close = cosines(space.target(ids), space.target(targets))
    for i in range(len(ids)):
        columns, weights = found.row(i)
        used = np.isin(sources, columns)
        order = np.argsort(columns)
        value = close[i, used][np.argsort(sources[used])]
        weights = weights[order]
        # In the support all cosines lie above their weight by one threshold, outside below it.
        threshold = (value - weights).mean()
        assert np.abs(value - weights - threshold).max() <= 2 * EPS
        assert (
            np.delete(close[i], np.flatnonzero(np.isin(sources, columns))) <= threshold + 2 * EPS
        ).all()


def test_clp_of_all_anchors_is_the_quotient_of_sums() -> None:
    ids = pool()[::40]
    space, (targets, sources) = space_of(context(), "input", "spelling"), context().anchors
    close = cosines(space.target(ids), space.target(targets))
    rows = context().matrices["input"].take(sources).double().numpy()
    for negative, weights in (("keep", close), ("clamp", np.maximum(close, 0))):
        options = {"negative": negative, "space": "spelling", "smallest_mean": 1e-9}
        made = make("clp", options).rows(context(), "input", ids)
        total = weights.sum(axis=1, keepdims=True)
        sound = total[:, 0] > 1e-6 * len(sources)
        assert sound.any()
        wanted = weights @ rows / np.where(total > 0, total, 1)
        size = np.abs(weights) @ np.abs(rows) / np.where(total > 0, total, 1)
        found = made.numpy()  # type: ignore[union-attr]
        # Sums in float64, the quotient in float32.
        assert (np.abs(found - wanted)[sound] <= EPS * size[sound] + 1e-12 * size[sound]).all()


def test_clp_leaves_rows_whose_weights_cancel_to_the_fallback() -> None:
    found = make("clp", {"smallest_mean": 0.99}).rows(context(), "input", pool()[:4])
    assert np.isnan(found.numpy()).all()  # type: ignore[union-attr]


def test_a_token_without_bytes_has_no_row() -> None:
    control = np.array(
        [id for id, token in enumerate(context().target_tokens) if token is None][:2]
    )
    for name, options in COMBINING:
        found = make(name, options).rows(context(), "input", control)
        assert isinstance(found, Combination)
        assert found.lengths().tolist() == [0, 0], name


def test_a_space_is_made_once_for_contexts_with_other_held_out_tokens() -> None:
    first = corpus_space(context())
    assert corpus_space(context().holding_out(context().anchors[0][:3])) is first


def test_known_sources_have_every_byte_string_once() -> None:
    tokens = [context().source_tokens[int(id)] for id in known_sources(context())]
    assert len(tokens) == len(set(tokens))
    assert set(tokens) == {token for token in context().source_tokens if token}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("focus", {"temperature": 0.0}),
        ("focus", {"space": "moon"}),
        ("wechsel", {"neighbours": 0}),
        ("wechsel", {"temperature": -1.0}),
        ("clp", {"negative": "drop"}),
        ("clp", {"neighbours": -1}),
        ("clp", {"smallest_mean": 0.0}),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidValue):
        make(name, options)
