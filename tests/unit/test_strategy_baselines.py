"""The floors, on matrices that can be checked by hand."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.testing import tiny_tokenizer
from anyvocab.transplant.context import Context, TensorMatrix
from anyvocab.transplant.strategies import make
from anyvocab.transplant.strategies.baselines import moments

pytestmark = pytest.mark.models
TEXT = 260  # ids of the tiny tokenizer that stand for text; two control tokens follow
IDS = np.array([3, 7, 100])


@cache
def context(seed: int = 0, width: int = 4) -> Context:
    """Text rows are drawn; the rows of control tokens and of padding are far away."""
    import torch

    generator = torch.Generator().manual_seed(1)
    rows = (
        torch.randn(TEXT + 4, width, generator=generator)
        * torch.tensor([1.0, 2.0, 3.0, 4.0])[:width]
        + 5
    )
    rows[TEXT:] = 1e6
    tokenizer = av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode())
    matrices = {"input": TensorMatrix(rows), "output": TensorMatrix(-rows)}
    return Context.of(tokenizer, tokenizer, matrices, seed=seed)  # type: ignore[arg-type]


def rows(name: str, side: Any = "input", *, seed: int = 0, ids: Any = IDS, **options: Any) -> Any:
    return make(name, options).rows(context(seed), side, ids).numpy()  # type: ignore[union-attr]


def text_rows(side: Any = "input") -> Any:
    return context().matrices[side].chunk(0, TEXT).double().numpy()


def test_the_mean_row_leaves_out_what_is_no_text() -> None:
    for side in ("input", "output"):
        wanted = text_rows(side).mean(axis=0).astype(np.float32)
        found = rows("mean-row", side)
        # Summed in float64 in another order, rounded once.
        assert np.allclose(found, wanted, rtol=2 * np.finfo(np.float32).eps, atol=0)
        assert (found == found[0]).all()


def test_zero_rows_are_zero() -> None:
    assert not rows("zero").any()
    assert rows("zero").shape == (3, 4)


def test_moments_are_those_of_all_rows_at_once() -> None:
    mean, covariance = moments(context().matrices["input"], np.arange(TEXT))
    wanted = text_rows()
    # Sums of 260 float64 products of numbers below 20.
    assert np.allclose(mean.numpy(), wanted.mean(axis=0), rtol=1e-12)
    assert np.allclose(covariance.numpy(), np.cov(wanted.T, bias=True), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["random", "hewitt"])
def test_a_draw_depends_on_seed_side_and_id_alone(name: str) -> None:
    everything = rows(name)
    assert np.array_equal(rows(name, ids=IDS[1:2]), everything[1:2])
    assert not np.array_equal(everything[0], everything[1])
    assert not np.array_equal(rows(name, seed=1), everything)
    mean = text_rows().mean(axis=0)
    assert not np.allclose(rows(name, "output") + mean, -(everything - mean))


def test_random_rows_have_the_mean_and_spread_of_all_numbers() -> None:
    found = rows("random", ids=np.arange(TEXT))
    plain = text_rows()
    # Five standard errors of 1040 normal draws: of the mean sigma / sqrt(n), of the spread
    # sigma / sqrt(2 n).
    error = 5 * plain.std() / np.sqrt(found.size)
    assert abs(found.mean() - plain.mean()) < error
    assert abs(found.std() - plain.std()) < error / np.sqrt(2)


def test_random_rows_of_scale_zero_are_flat() -> None:
    found = rows("random", scale=0.0)
    assert np.allclose(found, text_rows().mean(), rtol=2 * np.finfo(np.float32).eps, atol=0)


def test_hewitt_rows_have_a_share_of_the_covariance() -> None:
    found = rows("hewitt", ids=np.arange(TEXT), share=0.25).astype(np.float64)
    plain = text_rows()
    spread, wanted = found.std(axis=0), 0.5 * plain.std(axis=0)
    # Five standard errors of a spread of 260 draws.
    assert (np.abs(spread - wanted) < 5 * wanted / np.sqrt(2 * TEXT)).all()
    assert (np.abs(found.mean(axis=0) - plain.mean(axis=0)) < 5 * wanted / np.sqrt(TEXT)).all()


def test_hewitt_of_share_zero_is_the_mean_row() -> None:
    assert np.array_equal(rows("hewitt", share=0.0), rows("mean-row"))


def test_hewitt_works_with_more_columns_than_rows() -> None:
    import torch

    plain = context()
    wide = TensorMatrix(torch.randn(TEXT + 4, 300, generator=torch.Generator().manual_seed(0)))
    wider = Context.of(plain.source, plain.target, {"input": wide, "output": wide})
    found = make("hewitt").rows(wider, "input", IDS)
    assert np.isfinite(found.numpy()).all()  # type: ignore[union-attr]


@pytest.mark.parametrize("options", [{"share": -1.0}, {"ridge": 0.0}])
def test_hewitt_refuses_what_is_no_covariance(options: dict[str, float]) -> None:
    with pytest.raises(errors.InvalidValue):
        make("hewitt", options)
