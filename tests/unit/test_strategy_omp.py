"""Matching pursuit: the picks and weights of its definition, and rows made with them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="torch is missing")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.transplant import pursuit, strategies  # noqa: E402
from anyvocab.transplant.build import build_side  # noqa: E402
from anyvocab.transplant.context import Context, Donor, TensorMatrix  # noqa: E402
from anyvocab.transplant.identity import Origin  # noqa: E402
from anyvocab.transplant.plan import Combination, Shifted, apply  # noqa: E402
from anyvocab.transplant.pursuit import Pursuit  # noqa: E402
from anyvocab.transplant.roles import map_controls  # noqa: E402

SOURCE, TARGET = av.Tokenizer.load("pico:code-4k"), av.Tokenizer.load("pico:code-2k")
PLAIN = Context.of(
    SOURCE, TARGET, {side: TensorMatrix(torch.zeros(4096, 1)) for side in ("input", "output")}
)
ROW_OF = Donor.of(TARGET, TARGET, {"input": TensorMatrix(torch.zeros(2048, 1))}).row_of
NEW = np.array([id for id in PLAIN.match.unmatched() if PLAIN.target_tokens[id]])
EPS = float(np.finfo(np.float32).eps)


def reference(
    atoms: NDArray[np.float32], row: NDArray[np.float32], k: int, ridge: float
) -> tuple[list[int], NDArray[np.float64], NDArray[np.float64]]:
    """Return picks, weights and residual by the definition, in float64."""
    a, x = atoms.astype(np.float64), row.astype(np.float64)
    picks: list[int] = []
    weights, residual = np.zeros(0), x
    for _ in range(min(k, len(a))):
        if np.linalg.norm(residual) <= pursuit.TOLERANCE * np.linalg.norm(x):
            break
        scores = np.abs(a @ residual)
        scores[picks] = -1.0
        picks.append(int(scores.argmax()))
        chosen = a[picks]
        weights = np.linalg.solve(chosen @ chosen.T + ridge * np.eye(len(picks)), chosen @ x)
        residual = x - weights @ chosen
    return picks, weights, residual


def generic(
    atoms: int, rows: int, width: int, *, mean: float = 1.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Atoms and rows with a part in common, as rows of models have."""
    generator = torch.Generator().manual_seed(seed)
    common = mean * torch.randn(width, generator=generator)
    return tuple(common + torch.randn(n, width, generator=generator) for n in (atoms, rows))


@pytest.mark.parametrize("ridge", [0.0, 5.0])
def test_every_pick_and_weight_is_that_of_the_definition(ridge: float) -> None:
    atoms, rows = generic(500, 20, 96)
    found = Pursuit(atoms, k=24, ridge=ridge, screen=None).solve(rows)
    for i, row in enumerate(rows):
        picks, weights, residual = reference(atoms.numpy(), row.numpy(), 24, ridge)
        assert found.atoms[i].tolist() == picks
        # the second solution leaves the rounding of the float32 products of the residual, `width`
        # terms of at most the row's length, times the condition of the chosen atoms
        condition = np.linalg.cond(atoms.numpy()[picks])
        bound = 96 * EPS * condition * max(1.0, float(np.abs(weights).max()))
        assert np.abs(found.weights[i].numpy() - weights).max() < bound
        missing = np.linalg.norm(residual) / float(row.norm())
        assert abs(float(found.residual[i]) - missing) < 96 * EPS


def test_screening_that_keeps_every_atom_picks_what_exact_selection_picks() -> None:
    atoms, rows = generic(300, 40, 64)
    exact = Pursuit(atoms, k=20, screen=None).solve(rows)
    assert torch.equal(Pursuit(atoms, k=20, screen=300).solve(rows).atoms, exact.atoms)


def test_screening_costs_a_hundredth_of_the_residual_at_most_on_average() -> None:
    # Greedy picks that differ early end elsewhere, a row better and a row worse: the spread of one
    # row is about 0.01 of its residual, of the mean of 48 rows 0.0015.
    atoms, rows = generic(3000, 48, 512)
    exact = Pursuit(atoms, k=40, screen=None).solve(rows).residual
    screened = Pursuit(atoms, k=40, screen=8).solve(rows).residual
    assert float(screened.mean()) < 1.01 * float(exact.mean())


@pytest.mark.parametrize("count", [1, 3, 40, 700])
def test_a_look_finds_the_best_atoms_that_are_not_taken(count: int) -> None:
    atoms, rows = generic(1003, 9, 16)
    engine = Pursuit(atoms, k=4, screen=None)
    scores = (rows @ atoms.mT).abs()
    taken = scores.topk(2, dim=1).indices
    best = scores.topk(count + 2, dim=1).indices[:, 2:].sort(dim=1).values
    assert torch.equal(engine.look(rows, taken, count), best)


def test_stages_cover_all_picks_once() -> None:
    engine = Pursuit(torch.eye(50), k=50, screen=2)
    stages = engine.stages()
    assert stages[0][0] == 0
    assert stages[-1][1] == 50
    assert all(one[1] == two[0] for one, two in pairwise(stages))
    assert all(stop - start <= count <= 50 - start for start, stop, count in stages)


def test_picks_do_not_depend_on_the_rows_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    atoms, rows = generic(400, 33, 64)
    whole = Pursuit(atoms, k=12, screen=6).solve(rows)
    monkeypatch.setattr(pursuit, "BATCH", 5)
    monkeypatch.setattr(pursuit, "GATHERED", 1)
    parts = Pursuit(atoms, k=12, screen=6).solve(rows)
    assert torch.equal(whole.atoms, parts.atoms)
    assert torch.allclose(whole.weights, parts.weights, atol=64 * EPS, rtol=64 * EPS)


@pytest.mark.parametrize("screen", [None, 8])
def test_rows_of_nothing_take_no_atoms(screen: int | None) -> None:
    atoms, rows = generic(90, 4, 16)
    rows[1], rows[2, 3] = 0.0, torch.nan
    found = Pursuit(atoms, k=5, screen=screen).solve(rows)
    assert (found.atoms >= 0).sum(dim=1).tolist() == [5, 0, 0, 5]
    assert found.residual.isnan().tolist() == [False, True, True, False]
    assert torch.isfinite(found.weights).all()
    assert not found.weights[1:3].any()


@pytest.mark.parametrize("screen", [None, 8])
def test_atoms_given_twice_are_used_once(screen: int | None) -> None:
    atoms, rows = generic(20, 6, 64)
    found = Pursuit(atoms.repeat(3, 1), k=60, screen=screen).solve(rows)
    for picks in found.atoms:
        kept = picks[picks >= 0] % 20
        assert len(kept.unique()) == len(kept) == 20


def test_there_are_no_more_picks_than_atoms() -> None:
    atoms, rows = generic(7, 3, 32)
    assert Pursuit(atoms, k=64, screen=8).solve(rows).atoms.shape == (3, 7)


def test_no_rows_have_an_empty_solution() -> None:
    assert Pursuit(torch.eye(4), k=2).solve(torch.zeros(0, 4)).atoms.shape == (0, 2)


# Strategies


def donated(
    *, width: int = 48, donor_width: int = 48, dtype: torch.dtype = torch.float32
) -> tuple[Context, torch.Tensor]:
    """A context whose source rows are a linear map of the donor's, and the map."""
    generator = torch.Generator().manual_seed(1)
    rows = 0.5 + torch.randn(len(TARGET.vocabulary), donor_width, generator=generator)
    map = torch.randn(donor_width, width, generator=generator) / donor_width**0.5
    matrix = torch.randn(len(SOURCE.vocabulary), width, generator=generator)
    given = TensorMatrix(rows.to(dtype))
    targets, sources = PLAIN.anchors
    matrix[sources] = rows[targets] @ map
    matrix = matrix.to(dtype)
    sides = {side: TensorMatrix(matrix) for side in ("input", "output")}
    donor = Donor({"input": given, "output": given}, ROW_OF.copy())
    return Context(SOURCE, TARGET, sides, PLAIN.match, donor=donor), map


def test_sparse_combinations_of_anchors_are_found_again() -> None:
    context, _ = donated(width=20, donor_width=256)
    assert context.donor is not None
    rows = context.donor.matrices["input"].tensor
    targets, sources = context.anchors
    ids = NEW[:30]
    rng = np.random.default_rng(0)
    picks = np.stack([rng.choice(len(targets), 3, replace=False) for _ in ids])
    wanted = rng.uniform(1.0, 2.0, picks.shape).astype(np.float32)
    for id, places, amounts in zip(ids, picks, wanted, strict=True):
        rows[id] = torch.from_numpy(amounts) @ rows[targets[places]]
    made = strategies.make("omp", {"k": 40}).rows(context, "input", ids)
    assert isinstance(made, Combination)
    for i in range(len(ids)):
        columns, weights = made.row(i)
        heavy = np.abs(weights) > 1e-3
        order = np.argsort(columns[heavy])
        expected = np.argsort(sources[picks[i]])
        assert columns[heavy][order].tolist() == sources[picks[i]][expected].tolist()
        # the residual at which picking ends, over the shortest of three anchors' lengths
        assert np.abs(weights[heavy][order] - wanted[i][expected]).max() < 1e-3


def test_centred_rows_are_the_mean_row_and_deviations_from_it() -> None:
    context, _ = donated()
    ids = NEW[:9]
    made = strategies.make("omp-centred", {"k": 5}).rows(context, "input", ids)
    assert isinstance(made, Shifted)
    _, sources = context.anchors
    matrix = context.matrices["input"]
    mean = matrix.take(sources).double().mean(dim=0)
    for i, row in enumerate(made.combine(matrix)):
        columns, weights = made.combination.row(i)
        parts = matrix.take(columns).double() - mean
        expected = mean + torch.from_numpy(weights).double() @ parts
        assert len(columns) == 5
        assert float((row - expected).abs().max()) < 100 * EPS * float(expected.abs().max())


def test_centred_picks_and_weights_are_ridge_regression_on_unit_anchors() -> None:
    context, _ = donated()
    assert context.donor is not None
    ids = NEW[:5]
    made = strategies.make("omp-centred", {"k": 7, "ridge": 0.1}).rows(context, "input", ids)
    assert isinstance(made, Shifted)
    targets, sources = context.anchors
    rows = context.donor.matrices["input"].tensor.numpy()
    anchors = rows[targets] - rows[targets].mean(axis=0, dtype=np.float64).astype(np.float32)
    norms = np.linalg.norm(anchors, axis=1)
    for i, id in enumerate(ids):
        row = rows[id] - rows[targets].mean(axis=0, dtype=np.float64).astype(np.float32)
        picks, weights, _ = reference(anchors / norms[:, None], row, 7, 0.1)
        assert made.combination.row(i)[0].tolist() == sources[picks].tolist()
        wanted = weights / norms[picks]
        assert np.abs(made.combination.row(i)[1] - wanted).max() < 48 * EPS * 10


@pytest.mark.parametrize("name", ["omp", "omp-centred"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_are_combined(name: str, dtype: torch.dtype) -> None:
    context, _ = donated(width=16, donor_width=32, dtype=dtype)
    made = strategies.make(name, {"k": 20}).rows(context, "input", NEW[:50])
    assert (made.lengths() > 0).all()
    assert torch.isfinite(made.combine(context.matrices["input"])).all()


@pytest.mark.parametrize("name", ["omp", "omp-centred"])
def test_tokens_that_the_donor_lacks_have_empty_rows(name: str) -> None:
    context, _ = donated()
    assert context.donor is not None
    ids = NEW[:6]
    context.donor.row_of[ids[[1, 4]]] = -1
    made = strategies.make(name, {"k": 3}).rows(context, "output", ids)
    assert made.lengths().tolist() == [3, 0, 3, 3, 0, 3]
    if isinstance(made, Shifted):
        assert not made.amounts[[1, 4]].any()


def test_the_shortest_anchors_are_left_out_on_request() -> None:
    context, _ = donated()
    assert context.donor is not None
    targets, sources = context.anchors
    rows = context.donor.matrices["input"].tensor
    rows[targets[5]] *= 1e-3
    ids = NEW[:1]
    rows[ids[0]] = rows[targets[5]]
    for tokens, expected in (("all", True), ("trained", False)):
        made = strategies.make("omp-centred", {"k": 64, "tokens": tokens}).rows(
            context, "input", ids
        )
        assert (sources[5] in made.combination.columns) is expected


def test_a_plan_adds_the_mean_and_leaves_copied_rows_alone() -> None:
    context, _ = donated()
    controls = map_controls(SOURCE, TARGET)
    size = len(TARGET.vocabulary)
    made = strategies.make("omp-centred", {"k": 4})
    plan = build_side(context, "input", made, controls=controls, rows=size)
    matrix = context.matrices["input"]
    rows = torch.cat(list(apply(plan, matrix)))
    copied = np.flatnonzero(plan.origin == Origin.COPIED)
    assert torch.equal(rows[copied], matrix.take(context.match.source_of[copied]))
    ids = np.flatnonzero(plan.origin == Origin.COMPOSED)
    assert len(ids) > 100
    wanted = made.rows(context, "input", ids).combine(matrix)
    assert torch.allclose(rows[ids], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "field"),
    [
        ("omp", {"k": 0}, "k"),
        ("omp", {"screen": 0}, "screen"),
        ("omp", {"tokens": "some"}, "tokens"),
        ("omp-centred", {"ridge": -1.0}, "ridge"),
    ],
)
def test_options_out_of_range_are_refused(
    name: str, options: dict[str, object], field: str
) -> None:
    with pytest.raises(errors.InvalidValue, match=field):
        strategies.make(name, options)
