"""The best rows of a large matrix: exact search against brute force, and faiss against both."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")

from anyvocab import errors  # noqa: E402
from anyvocab.dynamic import BlockedSearch, FaissSearch, OutputRows, recall  # noqa: E402

ROWS, WIDTH = 301, 24
needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None, reason="faiss is missing: install anyvocab[faiss]"
)


def drawn(*shape: int, seed: int = 0, dtype: Any = None) -> Any:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values if dtype is None else values.to(dtype)


def brute(matrix: Any, bias: Any, states: Any, k: int) -> tuple[Any, Any, Any]:
    """Return products and the best ids, the lower of equals first, all in float64."""
    products = states.double().numpy() @ matrix.double().numpy().T
    if bias is not None:
        products = products + bias.double().numpy()
    ids = np.argsort(-products, axis=1, kind="stable")[:, :k]
    return products, ids, np.take_along_axis(products, ids, axis=1)


def rounding(matrix: Any, bias: Any, states: Any) -> float:
    """By how much a float32 product of some state and row can be off, in whatever order."""
    lengths = matrix.double().norm(dim=1) + (0.0 if bias is None else bias.double().abs())
    return float(
        (WIDTH + 1) * 2.0**-24 * lengths.max() * max(1.0, states.double().norm(dim=1).max())
    )


@pytest.mark.parametrize("block", [1, 7, 100, None])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("biased", [False, True])
def test_the_best_rows_are_those_of_brute_force(
    block: int | None, dtype: str, biased: bool
) -> None:
    matrix = drawn(ROWS, WIDTH, dtype=getattr(torch, dtype))
    bias = drawn(ROWS, seed=1) if biased else None
    states = drawn(5, WIDTH, seed=2)
    rows = OutputRows(
        [matrix[:100], matrix[100:]], None if bias is None else [bias[:100], bias[100:]]
    )
    found = BlockedSearch(rows, block_rows=block).top(states, 13, total=True)
    products, ids, best = brute(matrix, bias, states, 13)
    assert found.ids.tolist() == ids.tolist()
    # Float64 sums of as many terms in another order: the bound of `rounding`, 2**29 times smaller.
    bound = rounding(matrix, bias, states)
    np.testing.assert_allclose(found.logits, best, rtol=0, atol=bound * 2.0**-29 + 1e-15)
    assert found.log_total is not None
    total = torch.logsumexp(torch.from_numpy(products), dim=1).numpy()
    # Each term is off by the bound, the float32 exponential of a term by three units (2**-22).
    np.testing.assert_allclose(found.log_total, total, rtol=0, atol=bound + 2.0**-22)
    assert found.over == "rows"


def test_of_equal_rows_the_lower_id_goes_first_across_blocks() -> None:
    matrix = drawn(10, WIDTH).repeat(9, 1)
    states = drawn(3, WIDTH, seed=1)
    for block in (1, 4, 10, 90):
        found = BlockedSearch(matrix, block_rows=block).top(states, 12)
        assert found.ids.tolist() == brute(matrix, None, states, 12)[1].tolist()
        assert (found.ids[:, :9] % 10 == found.ids[:, :1]).all()


def test_rows_whose_order_float32_gets_wrong_are_in_the_right_order() -> None:
    matrix, states = drawn(400, WIDTH), drawn(1, WIDTH, seed=1)
    off = (matrix.double() @ states[0].double() - 1.0) / states[0, 0].double()
    matrix[:, 0] -= off.float()  # now all products are 1 but for the rounding of this number
    plain = (states @ matrix.T)[0].topk(7).indices.tolist()
    right = brute(matrix, None, states, 7)[1].tolist()
    assert [plain] != right
    for block in (3, 50, 400):
        assert BlockedSearch(matrix, block_rows=block).top(states, 7).ids.tolist() == right


def test_scale_and_cap_are_the_models_and_keep_the_order() -> None:
    matrix, states = drawn(ROWS, WIDTH), drawn(4, WIDTH, seed=1)
    rows = OutputRows(matrix, scale=0.5, cap=3.0)
    found = BlockedSearch(rows, block_rows=50).top(states, 9, total=True)
    products, ids, best = brute(matrix, None, states, 9)
    assert found.ids.tolist() == ids.tolist()
    np.testing.assert_allclose(found.logits, 3 * np.tanh(best * 0.5 / 3), rtol=1e-12)
    total = torch.logsumexp(torch.from_numpy(3 * np.tanh(products * 0.5 / 3)), dim=1).numpy()
    assert found.log_total is not None
    # tanh has a slope of at most 1 and is itself off by a few units of a number up to 3.
    bound = rounding(matrix, None, states) + 3 * 2.0**-21
    np.testing.assert_allclose(found.log_total, total, rtol=0, atol=bound)


def test_probabilities_of_all_rows_sum_to_one() -> None:
    matrix, states = drawn(ROWS, WIDTH), drawn(3, WIDTH, seed=1)
    found = BlockedSearch(matrix, block_rows=64).top(states, ROWS, total=True)
    assert found.log_total is not None
    sums = np.exp(found.logits - found.log_total[:, None]).sum(axis=1)
    bound = rounding(matrix, None, states) + 2.0**-22
    np.testing.assert_allclose(sums, 1.0, rtol=0, atol=2 * bound)


def test_all_logits_of_a_state_are_those_of_the_matrix() -> None:
    matrix, bias = drawn(ROWS, WIDTH, dtype=torch.bfloat16), drawn(ROWS, seed=1)
    state = drawn(WIDTH, seed=2)
    found = BlockedSearch(OutputRows(matrix, bias), block_rows=70).logits(state)
    products = brute(matrix, bias, state[None], 1)[0][0]
    np.testing.assert_allclose(found, products, rtol=0, atol=rounding(matrix, bias, state[None]))


def test_more_rows_than_there_are_gives_all_of_them_and_none_gives_none() -> None:
    search = BlockedSearch(drawn(5, WIDTH), block_rows=2)
    found = search.top(drawn(2, WIDTH, seed=1), 99)
    assert sorted(found.ids[0].tolist()) == list(range(5))
    assert (np.diff(found.logits) <= 0).all()
    assert search.top(drawn(2, WIDTH), 0).ids.shape == (2, 0)
    empty = search.top(drawn(0, WIDTH), 3, total=True)
    assert empty.ids.shape == (0, 3)
    assert empty.log_total is not None
    assert empty.log_total.shape == (0,)


def test_a_lower_precision_that_torch_was_told_of_is_not_used_and_comes_back() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        matrix, states = drawn(ROWS, WIDTH), drawn(2, WIDTH, seed=1)
        found = BlockedSearch(matrix).top(states, 5)
        assert found.ids.tolist() == brute(matrix, None, states, 5)[1].tolist()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_is_named(value: float) -> None:
    matrix = drawn(ROWS, WIDTH)
    matrix[123, 4] = value
    with pytest.raises(errors.NumericsError, match="row 123 "):
        BlockedSearch([matrix[:100], matrix[100:]], block_rows=10)
    bias = torch.zeros(ROWS)
    bias[7] = value
    with pytest.raises(errors.NumericsError, match="row 7 "):
        BlockedSearch(OutputRows(drawn(ROWS, WIDTH), bias))
    with pytest.raises(errors.NumericsError, match="state"):
        BlockedSearch(drawn(3, WIDTH)).top(matrix[123:124], 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: OutputRows(torch.empty(0, WIDTH)),
        lambda: OutputRows(torch.empty(3, 0)),
        lambda: OutputRows([]),
        lambda: OutputRows(torch.zeros(3)),
        lambda: OutputRows([torch.zeros(3, 2), torch.zeros(3, 4)]),
        lambda: OutputRows(torch.zeros(3, 2, dtype=torch.int64)),
        lambda: OutputRows(torch.zeros(3, 2), torch.zeros(4)),
        lambda: OutputRows(torch.zeros(3, 2), scale=-1.0),
        lambda: OutputRows(torch.zeros(3, 2), cap=0.0),
        lambda: BlockedSearch(torch.zeros(3, 2), block_rows=0),
        lambda: BlockedSearch(torch.zeros(3, 2)).top(torch.zeros(1, 2), -1),
        lambda: BlockedSearch(torch.zeros(3, 2)).top(torch.zeros(1, 3), 1),
        lambda: BlockedSearch(torch.zeros(3, 2)).top(torch.zeros(2), 1),
        lambda: FaissSearch(torch.zeros(3, 2), storage="int4"),  # type: ignore[arg-type]
        lambda: FaissSearch(torch.zeros(3, 2), candidates=0),
        lambda: FaissSearch(torch.zeros(3, 2), lists=4),
    ],
)
def test_what_cannot_be_searched_is_refused(make: Any) -> None:
    with pytest.raises(errors.InvalidValue):
        make()


def test_without_faiss_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(errors.MissingExtra, match=r"pip install 'anyvocab\[faiss\]'"):
        FaissSearch(drawn(9, WIDTH))


@needs_faiss
@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_an_index_that_looks_everywhere_finds_what_exact_search_finds(storage: Any) -> None:
    matrix, bias, states = drawn(2000, WIDTH), drawn(2000, seed=1), drawn(20, WIDTH, seed=2)
    rows = OutputRows([matrix[:700], matrix[700:]], [bias[:700], bias[700:]], cap=30.0)
    exact = BlockedSearch(rows)
    search = FaissSearch(rows, lists=16, probes=16, candidates=100, storage=storage)
    right, found = exact.top(states, 5, total=True), search.top(states, 5, total=True)
    assert found.ids.tolist() == right.ids.tolist()
    assert found.logits.tolist() == right.logits.tolist()  # the same sums, of the rows themselves
    assert found.over == "candidates"
    assert found.log_total is not None
    assert right.log_total is not None
    assert (found.log_total < right.log_total).all()
    assert recall(search, exact, states, 5) == 1.0


@needs_faiss
def test_recall_grows_with_the_clusters_that_are_looked_at() -> None:
    matrix, states = drawn(4000, WIDTH), drawn(50, WIDTH, seed=1)
    exact = BlockedSearch(matrix)
    shares = [
        recall(FaissSearch(matrix, lists=32, probes=probes), exact, states, 10)
        for probes in (1, 8, 32)
    ]
    assert shares[0] < shares[1] < shares[2] == 1.0


@needs_faiss
def test_where_an_index_finds_fewer_the_rest_is_marked() -> None:
    search = FaissSearch(drawn(640, WIDTH), lists=10, probes=1)
    found = search.top(drawn(1, WIDTH, seed=1), 600)
    missing = found.ids[0] == -1
    assert missing.any()
    assert not missing.all()
    assert (found.logits[0][missing] == -np.inf).all()
    assert np.isfinite(found.logits[0][~missing]).all()


@needs_faiss
def test_an_index_is_the_same_each_time() -> None:
    matrix, states = drawn(4000, WIDTH), drawn(9, WIDTH, seed=1)
    first, second = (FaissSearch(matrix, probes=2, seed=3).top(states, 10) for _ in range(2))
    assert first.ids.tolist() == second.ids.tolist()


@needs_faiss
def test_an_index_names_a_row_that_is_not_finite() -> None:
    matrix = drawn(ROWS, WIDTH)
    matrix[200, 0] = float("nan")
    with pytest.raises(errors.NumericsError, match="row 200 "):
        FaissSearch(matrix)
