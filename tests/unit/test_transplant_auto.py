"""Choosing a strategy: by hidden rows where the model cannot be run, else by what it says."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.transplant import auto  # noqa: E402
from anyvocab.transplant.context import Context, TensorMatrix  # noqa: E402
from anyvocab.transplant.plan import Plan  # noqa: E402
from anyvocab.transplant.roles import map_controls  # noqa: E402

SOURCE, TARGET = av.Tokenizer.load("pico:code-4k"), av.Tokenizer.load("pico:code-2k")
WIDTH = 8
PIECES = ("length", "mean", "last", "front")


def context() -> Context:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(len(SOURCE.vocabulary), WIDTH, generator=generator)
    return Context.of(SOURCE, TARGET, {side: TensorMatrix(rows) for side in ("input", "output")})


def choose(**given: object) -> auto.Choice:
    return auto.choose(
        context(),
        controls=map_controls(SOURCE, TARGET),
        rows=len(TARGET.vocabulary),
        **{"tied": False, "candidates": PIECES, **given},  # type: ignore[arg-type]
    )


def taken_at_last(plan: Plan) -> bool:
    """Whether the input rows are those of one piece."""
    return bool((plan.input.combination.lengths() <= 1).all())


def test_hidden_rows_are_spread_and_at_most_a_fifth() -> None:
    there = context()
    hidden = auto.hold_out(there, 100)
    assert len(hidden) == 100
    assert (np.diff(hidden) > 0).all()
    assert set(hidden.tolist()) <= set(there.anchors[0].tolist())
    assert len(auto.hold_out(there, 10**6)) == len(there.anchors[0]) // 5
    assert all(len(there.target_tokens[id] or b"") > 1 for id in hidden.tolist())


def test_without_a_model_the_nearest_rows_win() -> None:
    found = choose()
    assert found.trials == ()
    for side in ("input", "output"):
        scores = {one.strategy: one.cosine for one in found.fidelities if one.side == side}
        assert found.strategies[side] == max(scores, key=scores.__getitem__)


def test_the_model_has_the_last_word_and_hears_the_last_piece_too() -> None:
    # A model that reads one piece well: by its rows, `last` is the farthest of all.
    found = choose(score=lambda plan: 1.0 if taken_at_last(plan) else 2.0)
    assert found.strategies["input"] in ("last", "front")
    tried = {trial.input for trial in found.trials}
    assert {"mean", "last"} <= tried
    assert {"front", "last"} <= {trial.output for trial in found.trials}
    assert found.reason == "fewest bits per byte"


def test_tied_matrices_have_one_strategy() -> None:
    found = choose(tied=True, score=lambda plan: float(len(plan.input.combination.columns)))
    assert found.strategies["input"] == found.strategies["output"]
    assert all(trial.input == trial.output for trial in found.trials)


def test_nothing_to_choose_from_is_said() -> None:
    with pytest.raises(errors.InvalidValue, match="no strategy is feasible"):
        choose(candidates=())
