"""Maps and neighbours with a donor: what they recover exactly, and what they do without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="torch is missing")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.transplant import auto, strategies  # noqa: E402
from anyvocab.transplant.context import Context, Donor, TensorMatrix  # noqa: E402
from anyvocab.transplant.donated import bridge, moments  # noqa: E402
from anyvocab.transplant.identity import Origin  # noqa: E402
from anyvocab.transplant.plan import Combination, Plan, SidePlan, apply  # noqa: E402
from anyvocab.transplant.plan_file import load_plan, save_plan  # noqa: E402
from anyvocab.transplant.strategies.linear_map import generalised_cross_validation  # noqa: E402

SOURCE, TARGET = av.Tokenizer.load("pico:code-4k"), av.Tokenizer.load("pico:code-2k")
PLAIN = Context.of(
    SOURCE, TARGET, {side: TensorMatrix(torch.zeros(4096, 1)) for side in ("input", "output")}
)
ROW_OF = Donor.of(TARGET, TARGET, {"input": TensorMatrix(torch.zeros(2048, 1))}).row_of
NEW = np.array([id for id in PLAIN.match.unmatched() if PLAIN.target_tokens[id]])
DONOR_STRATEGIES = [
    ("omp", {"k": 8}),
    ("omp-centred", {"k": 8}),
    ("linear-map", {}),
    ("procrustes", {}),
    ("knn", {}),
    ("common-interpolation", {}),
]
DENSE = ("linear-map", "procrustes")


def pair(
    *,
    width: int = 24,
    donor_width: int = 24,
    rotation: bool = False,
    families: int = 0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Context, dict[str, torch.Tensor]]:
    """A donor, a source whose rows are a linear map of the donor's, and every target's true row.

    The two sides have rows and maps of their own; with `families` rows lie around that many points.
    """
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    size = len(TARGET.vocabulary)
    given, true, sides = {}, {}, {}
    targets, sources = PLAIN.anchors
    for side in ("input", "output"):
        rows = draw(size, donor_width)
        if families:
            rows = draw(families, donor_width)[torch.arange(size) % families] + 0.3 * rows
        map = draw(donor_width, width) / donor_width**0.5
        if rotation:
            map = 3.0 * torch.linalg.qr(draw(max(map.shape), max(map.shape)))[0]
            map = map[:donor_width, :width]
        rows = (rows + 0.7 * draw(donor_width)).to(dtype)
        true[side] = rows.float() @ map + 0.3 * draw(width)
        matrix = draw(len(SOURCE.vocabulary), width)
        matrix[sources] = true[side][targets]
        given[side], sides[side] = TensorMatrix(rows), TensorMatrix(matrix.to(dtype))
    donor = Donor(given, ROW_OF.copy())
    return Context(SOURCE, TARGET, sides, PLAIN.match, donor=donor), true


def rows_of(context: Context, name: str, side: str, ids: NDArray[np.int64], **options: object):
    made = strategies.make(name, options).rows(context, side, ids)
    return made if isinstance(made, torch.Tensor) else made.combine(context.matrices[side])


@pytest.mark.parametrize(("donor_width", "width"), [(24, 24), (40, 16), (16, 40)])
def test_a_linear_map_is_recovered_for_any_widths(donor_width: int, width: int) -> None:
    context, true = pair(donor_width=donor_width, width=width)
    ids = NEW
    made = rows_of(context, "linear-map", "output", ids)
    # the least ridge is 1e-5 of the mean eigenvalue, and none is below a tenth of the mean
    assert float((made - true["output"][ids]).norm() / true["output"][ids].norm()) < 1e-4


def test_cross_validation_is_that_of_the_map_itself() -> None:
    context, _ = pair(donor_width=12, width=6)
    pairs = bridge(context, "input")
    found = moments(pairs, "mean")
    values, vectors = torch.linalg.eigh(found.within)
    ridges = np.array([1.0, 300.0])
    x = pairs.of_donor().double().numpy()
    y = pairs.of_source().double().numpy()
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    expected = []
    for ridge in ridges:
        hat = x @ np.linalg.solve(x.T @ x + ridge * np.eye(12), x.T)
        left = len(x) - np.trace(hat) - 1.0
        expected.append(len(x) * ((y - hat @ y) ** 2).sum() / left**2)
    made = generalised_cross_validation(values, vectors.mT @ found.across, found, ridges)
    # residuals are differences of sums of squares with float32 products in them
    assert np.abs(made - expected).max() < 1e-5 * found.energy / len(x)


def test_cross_validation_shrinks_a_map_that_explains_nothing() -> None:
    context, _ = pair(donor_width=64, width=8)
    noise = torch.randn(4096, 8, generator=torch.Generator().manual_seed(9))
    deaf = replace(context, matrices={side: TensorMatrix(noise) for side in ("input", "output")})
    ids = NEW
    mean = noise[deaf.anchors[1]].mean(dim=0)
    chosen = (rows_of(deaf, "linear-map", "input", ids) - mean).norm()
    least = (rows_of(deaf, "linear-map", "input", ids, ridge=1e-5) - mean).norm()
    assert float(chosen) < 0.2 * float(least)


@pytest.mark.parametrize(("donor_width", "width"), [(24, 24), (16, 40)])
def test_a_rotation_with_a_scale_is_recovered(donor_width: int, width: int) -> None:
    context, true = pair(donor_width=donor_width, width=width, rotation=True)
    ids = NEW
    made = rows_of(context, "procrustes", "input", ids)
    wanted = true["input"][ids]
    # products of 1,800 anchors in float32
    assert float((made - wanted).abs().max() / wanted.abs().max()) < 1e-4


def test_a_wider_donor_is_cut_to_its_principal_axes() -> None:
    context, true = pair(donor_width=10, width=10, rotation=True)
    assert context.donor is not None
    wide = torch.linalg.qr(torch.randn(30, 30, generator=torch.Generator().manual_seed(2)))[0][:10]
    given = {
        side: TensorMatrix(matrix.tensor @ wide) for side, matrix in context.donor.matrices.items()
    }
    context = replace(context, donor=Donor(given, context.donor.row_of))
    ids = NEW
    wanted = true["output"][ids]
    made = rows_of(context, "procrustes", "output", ids)
    assert float((made - wanted).abs().max() / wanted.abs().max()) < 1e-4


def test_neighbours_have_the_softmax_of_their_cosines() -> None:
    context, _ = pair()
    ids = NEW[:20]
    made = strategies.make("knn", {"k": 4, "temperature": 0.2}).rows(context, "input", ids)
    assert isinstance(made, Combination)
    pairs = bridge(context, "input")
    anchors = pairs.of_donor().double()
    mean = anchors.mean(dim=0)
    rows = pairs.donor.take(ids).double() - mean
    cosines = torch.cosine_similarity(rows[:, None], (anchors - mean)[None], dim=2)
    best, found = cosines.topk(4, dim=1)
    assert np.array_equal(made.columns.reshape(-1, 4), pairs.source_ids[found.numpy()])
    expected = torch.softmax(best / 0.2, dim=1).numpy()
    # a cosine of 24 products, over the temperature
    assert np.abs(made.weights.reshape(-1, 4) - expected).max() < 24 * 2**-23 / 0.2


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weights", ["barycentric", "distance"])
def test_interpolation_weights_sum_to_one(weights: str, metric: str) -> None:
    context, _ = pair()
    made = strategies.make("common-interpolation", {"weights": weights, "metric": metric}).rows(
        context, "input", NEW
    )
    sums = np.add.reduceat(made.weights.astype(np.float64), made.indptr[:-1])
    assert np.abs(sums - 1.0).max() < 16 * 2**-23 * np.abs(made.weights).max()


def test_a_token_at_an_anchor_is_that_anchor() -> None:
    context, _ = pair()
    assert context.donor is not None
    rows = context.donor.matrices["input"].tensor
    ids = NEW[:5]
    targets, sources = context.anchors
    rows[ids] = rows[targets[10:15]]
    for weights in ("barycentric", "least-squares", "distance"):
        made = strategies.make("common-interpolation", {"weights": weights}).rows(
            context, "input", ids
        )
        heaviest = np.abs(made.weights.reshape(5, -1)).argmax(axis=1)
        assert np.array_equal(made.columns.reshape(5, -1)[range(5), heaviest], sources[10:15])
        assert np.abs(made.weights.reshape(5, -1).max(axis=1) - 1.0).max() < 1e-5


def test_free_weights_meet_the_row_no_worse_than_those_that_sum_to_one() -> None:
    context, _ = pair()
    ids = NEW[:40]
    pairs = bridge(context, "input")
    place = {int(id): i for i, id in enumerate(pairs.source_ids)}
    anchors = pairs.of_donor().double()
    missing = {}
    for weights in ("barycentric", "least-squares"):
        made = strategies.make("common-interpolation", {"weights": weights}).rows(
            context, "input", ids
        )
        chosen = anchors[[place[int(id)] for id in made.columns]].reshape(len(ids), -1, 24)
        amounts = torch.from_numpy(made.weights).double().reshape(len(ids), 1, -1)
        missing[weights] = (amounts @ chosen)[:, 0] - pairs.donor.take(ids).double()
    free, summed = (missing[one].norm(dim=1) for one in ("least-squares", "barycentric"))
    assert bool((free <= summed * (1 + 1e-6)).all())


@pytest.mark.parametrize(("name", "options"), DONOR_STRATEGIES)
@pytest.mark.parametrize("side", ["input", "output"])
def test_hidden_rows_are_met_better_than_by_the_mean_row(
    name: str, options: dict[str, object], side: str
) -> None:
    context, _ = pair(donor_width=32, width=24, families=60)
    hidden = auto.hold_out(context, 200)
    found = auto.fidelity(context, name, side, hidden, options)
    floor = auto.fidelity(context, "mean-row", side, hidden)
    assert found.predicted == found.hidden
    # the mean row has no direction left; families of rows are clearly apart
    assert found.cosine > max(0.5, floor.cosine + 0.4)
    assert found.error < floor.error


@pytest.mark.parametrize(("name", "options"), DONOR_STRATEGIES)
def test_tokens_that_the_donor_lacks_have_no_row(name: str, options: dict[str, object]) -> None:
    context, _ = pair()
    assert context.donor is not None
    ids = NEW[:6]
    context.donor.row_of[ids[[0, 3]]] = -1
    made = strategies.make(name, options).rows(context, "input", ids)
    if name in DENSE:
        assert made.has().tolist() == [False, True, True, False, True, True]
        rows = made.combine(context.matrices["input"])
        lacking = rows.isnan().all(dim=1).tolist()
        assert bool(torch.isfinite(rows[[1, 2, 4, 5]]).all())
    else:
        lacking = (made.lengths() == 0).tolist()
    assert lacking == [True, False, False, True, False, False]


@pytest.mark.parametrize(("name", "options"), DONOR_STRATEGIES)
@pytest.mark.parametrize("weights", [torch.bfloat16, torch.float16])
def test_half_precision_models_are_no_different(
    name: str, options: dict[str, object], weights: torch.dtype
) -> None:
    context, true = pair(dtype=weights, families=60)
    ids = NEW
    made = rows_of(context, name, "input", ids, **options)
    assert made.dtype == torch.float32
    assert float(torch.cosine_similarity(made, true["input"][ids], dim=1).mean()) > 0.7


@pytest.mark.parametrize(("name", "options"), DONOR_STRATEGIES)
def test_sides_are_solved_apart_for_tied_and_untied_models(
    name: str, options: dict[str, object]
) -> None:
    context, _ = pair()
    assert context.donor is not None
    ids = NEW[:4]
    one = context.donor.matrices["input"]
    tied_donor = replace(context, donor=Donor({"input": one, "output": one}, context.donor.row_of))
    shared = context.matrices["output"]
    tied_source = replace(context, matrices={"input": shared, "output": shared})
    both = rows_of(context, name, "output", ids, **options)
    crossed = rows_of(tied_donor, name, "output", ids, **options)
    again = rows_of(tied_source, name, "output", ids, **options)
    assert torch.equal(both, again)
    assert not torch.allclose(both, crossed)


@pytest.mark.parametrize(("name", "options"), DONOR_STRATEGIES)
def test_more_neighbours_than_anchors_are_all_anchors(
    name: str, options: dict[str, object]
) -> None:
    context, _ = pair()
    hidden = context.holding_out(context.anchors[0][5:])
    ids = NEW[:3]
    more = {"k": 64} if "k" in strategies.options_of(name) else options
    made = strategies.make(name, more).rows(hidden, "input", ids)
    if name in DENSE:
        assert bool(torch.isfinite(made.combine(context.matrices["input"])).all())
    else:
        assert made.lengths().tolist() == [5, 5, 5]


@pytest.mark.parametrize(("name", "options"), DONOR_STRATEGIES)
def test_a_donor_that_shares_nothing_is_refused(name: str, options: dict[str, object]) -> None:
    context, _ = pair()
    assert context.donor is not None
    context.donor.row_of[:] = -1
    with pytest.raises(errors.InvalidValue, match="donor"):
        strategies.make(name, options).rows(context, "input", NEW)


@pytest.mark.parametrize(
    ("name", "options", "field"),
    [
        ("linear-map", {"ridge": 0.0}, "ridge"),
        ("linear-map", {"about": "nothing"}, "about"),
        ("procrustes", {"scale": "some"}, "scale"),
        ("knn", {"k": 0}, "k"),
        ("knn", {"temperature": 0.0}, "temperature"),
        ("common-interpolation", {"weights": "none"}, "weights"),
        ("common-interpolation", {"metric": "none"}, "metric"),
    ],
)
def test_options_out_of_range_are_refused(
    name: str, options: dict[str, object], field: str
) -> None:
    with pytest.raises(errors.InvalidValue, match=field):
        strategies.make(name, options)


@pytest.mark.parametrize("name", DENSE)
def test_a_saved_plan_keeps_the_map_and_not_the_rows_it_makes(name: str, tmp_path: Path) -> None:
    context, _ = pair()
    assert context.donor is not None
    donor, matrix = context.donor.matrices, context.matrices["input"]
    ids = NEW[:40]
    made = strategies.make(name).rows(context, "input", ids)
    origin = np.full(int(ids[-1]) + 1, Origin.PREDICTED, dtype=np.uint8)
    plan = Plan(SidePlan(origin, Combination.empty(len(origin)), ids, made.rows), None)
    place = save_plan(plan, tmp_path / "plan.safetensors", belongs_to={"request": "this"})
    again = load_plan(place, belongs_to={"request": "this"}, donor=donor)
    for one, two in zip(apply(plan.input, matrix), apply(again.input, matrix), strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one[ids], made.combine(matrix))
    with pytest.raises(errors.InvalidValue, match="another request"):
        load_plan(place, belongs_to={"request": "that"}, donor=donor)
    with pytest.raises(errors.InvalidValue, match="there is none"):
        load_plan(place)
    narrow = {"input": TensorMatrix(torch.zeros(3, 2))}
    with pytest.raises(errors.InvalidValue, match="this one has 3 of 2"):
        load_plan(place, donor=narrow)


def test_a_saved_plan_with_rows_of_its_own_is_the_plan(tmp_path: Path) -> None:
    origin = np.array([Origin.COPIED, Origin.PREDICTED, Origin.UNUSED], dtype=np.uint8)
    rows = np.arange(4, dtype=np.float32)[None]
    side = SidePlan(
        origin,
        Combination.from_rows([([2], [1.0]), ([], []), ([], [])]),
        np.array([1]),
        rows,
        scale=np.array([1.0, 2.0, 1.0], dtype=np.float32),
        directions=np.ones((1, 4), np.float32),
        amounts=np.array([[0.0], [0.0], [3.0]], np.float32),
        notes=("a note",),
    )
    plan = Plan(side, replace(side, bias=np.ones(3, np.float32)), {"input": "x", "output": "y"})
    again = load_plan(save_plan(plan, tmp_path / "plan", belongs_to={}))
    matrix = TensorMatrix(torch.arange(12.0).reshape(3, 4))
    wanted = torch.tensor([[8.0, 9, 10, 11], [0, 2, 4, 6], [3, 3, 3, 3]])
    assert torch.equal(torch.cat(list(apply(again.input, matrix))), wanted)
    assert again.strategy == plan.strategy
    assert again.output is not None
    assert again.input.notes == again.output.notes == ("a note",)
    assert again.output.bias is not None
    assert again.output.bias.tolist() == [1.0, 1.0, 1.0]
