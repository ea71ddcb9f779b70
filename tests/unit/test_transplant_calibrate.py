"""Calibration of output rows: problems that can be solved by hand, then a small model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")
pytest.importorskip("transformers", reason="transformers is missing")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.testing import byte_alphabet, tiny_tokenizer  # noqa: E402
from anyvocab.transplant.build import build  # noqa: E402
from anyvocab.transplant.calibrate import (  # noqa: E402
    Calibration,
    calibrate,
    fitted_ids,
    pipeline,
)
from anyvocab.transplant.calibrate.pipeline import _thin  # noqa: E402
from anyvocab.transplant.calibrate.softmax import (  # noqa: E402
    Problem,
    basis_of,
    fit_rows,
    minimise,
)
from anyvocab.transplant.calibrate.states import (  # noqa: E402
    States,
    head_scale,
    read_states,
    windows,
)
from anyvocab.transplant.context import Context, TensorMatrix  # noqa: E402
from anyvocab.transplant.plan import Plan, apply  # noqa: E402
from anyvocab.transplant.roles import map_controls  # noqa: E402
from anyvocab.transplant.strategies import make  # noqa: E402

EPS = float(np.finfo(np.float32).eps)


def problem(
    *,
    places: int = 40,
    width: int = 3,
    rows: int = 5,
    ids: tuple[int, ...] = (3, 4),
    free: tuple[bool, ...] = (True, True),
    penalty: float = 0.5,
    bias: bool = False,
    seed: int = 0,
) -> tuple[Problem, Any]:
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(places, width, generator=draw) + 1.0
    target = torch.randint(rows, (places,), generator=draw)
    matrix = torch.randn(rows, width, generator=draw)
    basis = basis_of(hidden)
    made = Problem(
        hidden,
        target,
        torch.ones(places),
        matrix,
        torch.tensor(ids),
        basis,
        torch.full((width + 1,), penalty),
        torch.tensor(free),
        torch.linspace(-1.0, 1.0, rows) if bias else None,
    )
    return made, basis


def constant(counts: tuple[int, int], penalty: float = 0.0, *, bias: bool = False) -> Any:
    """Fit the log-odds of token 1 against a frozen token 0, both rows zero, every state (1,)."""
    target = torch.tensor([0] * counts[0] + [1] * counts[1])
    hidden = torch.ones(len(target), 1)
    basis = basis_of(hidden)
    made = Problem(
        hidden,
        target,
        torch.ones(len(target)),
        torch.zeros(2, 1),
        torch.tensor([1]),
        basis,
        torch.tensor([1.0, penalty]),
        torch.tensor([False]),
        torch.zeros(2) if bias else None,
    )
    return fit_rows(made, basis, steps=50)


# Near a minimum a step changes the loss by the square of its length, so values in float64 of
# float32 logits tell where it is to about the square root of eps.
RESOLUTION = 4 * math.sqrt(EPS)


def test_without_a_penalty_the_log_odds_are_those_of_the_counts() -> None:
    fit = constant((1, 3))
    assert abs(float(fit.level[0]) - math.log(3.0)) < RESOLUTION
    assert abs(float(fit.change[0, 0]) - math.log(3.0)) < RESOLUTION  # a state's product is 1


def test_a_penalty_holds_the_log_odds_back_to_where_both_balance() -> None:
    x = float(constant((1, 3), penalty=2.0).level[0])
    p = 1.0 / (1.0 + math.exp(-x))
    assert abs(4.0 * p - 3.0 + 2.0 * x) < 4 * RESOLUTION


def test_where_the_model_has_a_bias_the_log_odds_go_there() -> None:
    fit = constant((1, 3), bias=True)
    assert abs(float(fit.level[0]) - math.log(3.0)) < RESOLUTION
    assert not fit.change.any()


def test_a_token_that_never_comes_only_loses() -> None:
    assert float(constant((5, 0), penalty=1.0).level[0]) < 0.0


@pytest.mark.parametrize("bias", [False, True])
def test_loss_and_gradient_are_those_of_the_whole_softmax(bias: bool) -> None:
    made, basis = problem(bias=bias)
    draw = torch.Generator().manual_seed(7)
    here = 0.3 * torch.randn(2, 4, generator=draw)
    loss, slope = made(here)

    draw = torch.Generator().manual_seed(0)  # the problem's own draws again
    hidden = (torch.randn(40, 3, generator=draw) + 1.0).double()
    target = torch.randint(5, (40,), generator=draw)
    matrix = torch.randn(5, 3, generator=draw).double()
    theta = here.double().requires_grad_()
    added = hidden @ basis.whitening.double() @ theta[:, :3].mT
    level = torch.ones(40, 1) if bias else hidden @ basis.level.double()[:, None]
    logits = hidden @ matrix.mT
    if bias:
        logits = logits + torch.linspace(-1.0, 1.0, 5).double()
    logits = torch.cat((logits[:, :3], logits[:, 3:] + added + level * theta[:, 3]), dim=1)
    wanted = torch.nn.functional.cross_entropy(logits, target, reduction="sum")
    wanted = wanted + 0.25 * theta.square().sum()
    wanted.backward()
    # 40 places, each a sum of 4 products of numbers below 8.
    assert abs(loss - float(wanted.detach())) < 40 * 4 * 8 * EPS
    assert theta.grad is not None
    assert float((slope - theta.grad).abs().max()) < 40 * 4 * 8 * EPS


def test_the_gradient_is_zero_at_the_solution() -> None:
    made, _ = problem()
    start = made.start()
    found, values = minimise(made, start, made.scale(), steps=200)
    before, after = made(start)[1].norm(), made(found)[1].norm()
    assert float(after) < RESOLUTION * float(before)
    assert values == sorted(values, reverse=True)


def test_every_start_has_the_same_solution() -> None:
    made, _ = problem()
    zero, _ = minimise(made, made.start(), made.scale(), steps=200)
    far, _ = minimise(made, made.start() + 2.0, made.scale(), steps=200)
    assert float((zero - far).abs().max()) < 10 * RESOLUTION


def test_without_a_penalty_expected_counts_are_the_counts() -> None:
    made, _ = problem(penalty=0.0, free=(False, False))
    found, _ = minimise(made, made.start(), made.scale(), steps=200)
    # The level's feature is nearly 1, not 1: what balances is the sum over places times it.
    level = made.features[:, -1].double()
    given = torch.zeros(2, dtype=torch.float64)
    _, chances, _ = made._probabilities(found, slice(None))
    given += level @ chances.double()
    mine = made.place >= 0
    wanted = torch.zeros(2, dtype=torch.float64)
    wanted.index_add_(0, made.place[mine], level[mine])
    assert float((given - wanted).abs().max()) < RESOLUTION * float(wanted.max())


def test_rows_that_move_along_the_level_alone_do() -> None:
    made, basis = problem(free=(True, False))
    fit = fit_rows(made, basis, steps=50)
    level = basis.level
    along = fit.change[1] @ level / (level @ level)
    assert float((fit.change[1] - along * level).abs().max()) < 4 * EPS * float(
        fit.change[1].abs().max()
    )
    assert float(fit.change[0].abs().max()) > 0.0


def test_a_weight_of_two_is_a_place_twice() -> None:
    made, basis = problem()
    hidden, target = made.hidden, torch.randint(5, (40,), generator=torch.Generator())
    matrix = torch.eye(5, 3)
    common = (matrix, torch.tensor([3, 4]), basis, torch.ones(4), torch.tensor([True, True]), None)
    twice = Problem(
        torch.cat((hidden, hidden)), torch.cat((target, target)), torch.ones(80), *common
    )
    heavy = Problem(hidden, target, torch.full((40,), 2.0), *common)
    here = torch.full((2, 4), 0.1)
    assert twice(here)[0] == pytest.approx(heavy(here)[0], rel=80 * EPS)


def test_whitened_states_have_second_moment_one() -> None:
    hidden = torch.randn(4000, 6, generator=torch.Generator().manual_seed(1)) * torch.arange(1, 7)
    basis = basis_of(hidden)
    white = hidden.double() @ basis.whitening.double()
    moment = white.mT @ white / len(white)
    # Shrunk by trace / N, which is (1 + 4 + ... + 36) / 4000 beside a least variance of about 1.
    assert float((moment - torch.eye(6)).abs().max()) < 2 * 91 / 4000


def test_the_level_is_exact_where_a_coordinate_is_constant() -> None:
    draw = torch.Generator().manual_seed(2)
    hidden = torch.cat((torch.full((2000, 1), 3.0), torch.randn(2000, 4, generator=draw)), dim=1)
    basis = basis_of(hidden)
    # Shrinking by trace / N = 13 / 2000 leaves this much of the other coordinates' sample mean.
    assert float((hidden @ basis.level - 1.0).abs().max()) < 13 / 2000


# The target has the source's bytes and these; the model is a llama of one layer and 16 numbers.
NEW = ("Ġhello", "Ġsaid", "hell")
HELLO, SAID, HELL, END = 256, 257, 258, 259
TEXT = (b"she said hello and hell said hello " * 8, b"he said hello to hell " * 8)


def target() -> av.Tokenizer:
    document: dict[str, Any] = tiny_tokenizer()
    tokens = [*byte_alphabet(), *NEW]
    model = {
        **document["model"],
        "vocab": {token: i for i, token in enumerate(tokens)},
        "merges": [],
        "ignore_merges": True,
    }
    end = {**document["added_tokens"][0], "id": END}
    return av.Tokenizer.load(
        json.dumps({**document, "model": model, "added_tokens": [end]}).encode()
    )


def llama(*, tied: bool, **changes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=262,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        initializer_range=0.3,
        **changes,
    )
    return LlamaForCausalLM(config).eval()


def case(
    *, tied: bool = False, corpus: tuple[bytes, ...] = TEXT, runnable: bool = True
) -> tuple[Context, Plan, Any]:
    source = av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode())
    model = llama(tied=tied)
    read = TensorMatrix(model.get_input_embeddings().weight)
    said = read if tied else TensorMatrix(model.get_output_embeddings().weight)
    context = Context.of(
        source,
        target(),
        {"input": read, "output": said},
        corpus=corpus,
        model=(lambda: model) if runnable else None,
    )
    strategy = make("mean")
    plan = build(
        context,
        strategies={"input": strategy, "output": strategy},
        controls=map_controls(source, context.target),
        rows=264,
        tied=tied,
    )
    return context, plan, model


def rows(context: Context, plan: Plan, side: Any = "output") -> Any:
    return torch.cat(list(apply(plan.side(side), context.matrices[side])))


def loss(context: Context, plan: Plan) -> float:
    states = read_states(context, rows(context, plan, "input"), tokens=1 << 20)
    logits = states.hidden @ rows(context, plan).mT
    return float(torch.nn.functional.cross_entropy(logits, states.target))


def test_new_rows_predict_the_text_better() -> None:
    context, plan, _ = case()
    assert loss(context, calibrate(context, plan)) < loss(context, plan) - 0.3


def test_every_freedom_lowers_the_loss_further() -> None:
    context, plan, _ = case()
    options = (
        Calibration(new="level", steps=15, tolerance=0.0),
        Calibration(steps=15, tolerance=0.0),
        Calibration(shared="level", steps=15, tolerance=0.0, hold_out=0.0),
        Calibration(shared="full", steps=15, tolerance=0.0, hold_out=0.0),
    )
    found = [loss(context, calibrate(context, plan, one)) for one in options]
    assert found == sorted(found, reverse=True)


def test_shared_rows_stay_bit_for_bit() -> None:
    context, plan, _ = case()
    before, after = rows(context, plan), rows(context, calibrate(context, plan))
    moved = (before != after).any(dim=1).nonzero()[:, 0].tolist()
    assert moved == [HELLO, SAID]
    assert calibrate(context, plan).side("output").verbatim()[HELL]


@pytest.mark.parametrize(("fitted", "moves"), [(0.5, True), (1.0, False), (2.0, False)])
def test_shared_rows_move_where_a_hidden_part_is_predicted_better(
    fitted: float, moves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_on_hidden_part", lambda *_: (1.0, fitted))
    context, plan, _ = case()
    found = calibrate(context, plan, Calibration(shared="full"))
    assert found.side("output").verbatim()[HELL] != moves
    assert ("stay copies" in found.side("output").notes[-1]) != moves
    if not moves:
        assert torch.equal(rows(context, found), rows(context, calibrate(context, plan)))


def test_the_hidden_part_is_judged_by_what_the_rest_taught() -> None:
    context, plan, _ = case()
    side = plan.side("output")
    states = read_states(context, rows(context, plan, "input"), tokens=1 << 20)
    options = Calibration(shared="full", new="keep", hold_out=0.5)
    kept, fitted = pipeline._on_hidden_part(
        context, side, rows(context, plan), None, states, options
    )
    cut = len(states) - len(states) // 2
    logits = states.hidden[cut:] @ rows(context, plan).mT
    plain = float(torch.nn.functional.cross_entropy(logits, states.target[cut:]))
    assert kept == pytest.approx(plain, rel=1e-5)
    assert fitted < kept  # one text over and over: the rest tells of it


def test_the_input_side_stays_as_planned() -> None:
    context, plan, _ = case()
    assert calibrate(context, plan).input is plan.input


def test_tied_matrices_are_untied() -> None:
    context, plan, _ = case(tied=True)
    found = calibrate(context, plan)
    assert plan.tied
    assert not found.tied
    assert torch.equal(rows(context, plan, "input"), rows(context, found, "input"))


def test_a_plan_without_new_rows_is_returned_as_it_is() -> None:
    context, _, _ = case()
    same = Context.of(context.source, context.source, context.matrices, model=context.model)
    strategy = make("mean")
    plan = build(
        same,
        strategies={"input": strategy, "output": strategy},
        controls=map_controls(same.source, same.target),
        rows=262,
        tied=False,
    )
    assert calibrate(same, plan) is plan


def test_control_tokens_and_padding_never_move() -> None:
    context, plan, _ = case()
    ids, _ = fitted_ids(context, plan.side("output"), Calibration(shared="full"))
    assert END not in ids
    assert ids.max() < END


def test_the_model_is_left_as_it_was() -> None:
    context, plan, model = case()
    weight = model.get_input_embeddings().weight
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calibrate(context, plan)
    assert model.get_input_embeddings().weight is weight
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_same_call_gives_the_same_bits() -> None:
    context, plan, _ = case()
    options = Calibration(positions=200)
    first, second = (rows(context, calibrate(context, plan, options)) for _ in range(2))
    assert torch.equal(first, second)


def test_the_seed_decides_which_places_are_left_out() -> None:
    states = States(torch.zeros(1000, 1), torch.arange(1000) % 10, 1)
    made = np.array([3])
    first, _ = _thin(states, made, 300, 0)
    again, _ = _thin(states, made, 300, 0)
    other, _ = _thin(states, made, 300, 1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_thinned_places_weigh_as_much_as_all() -> None:
    states = States(torch.zeros(1000, 1), torch.arange(1000) % 10, 1)
    places, weight = _thin(states, np.array([3]), 300, 0)
    new = states.target[places] == 3
    assert int(new.sum()) == 100  # every place before a new token
    assert float(weight[new].sum()) == 100.0
    assert float(weight[~new].double().sum()) == pytest.approx(900.0, rel=200 * EPS)


def test_runs_are_spread_over_the_texts() -> None:
    ids = av.Ragged(np.arange(100, dtype=np.uint32), np.array([0, 60, 100]))
    runs = windows(ids, 10, 40)
    assert [int(run[0]) for run in runs] == [0, 30, 60, 90]
    assert sum(map(len, windows(ids, 10, 1000))) == 100


def test_where_no_id_begins_a_text_its_first_token_is_only_read() -> None:
    context, plan, _ = case()
    read = rows(context, plan, "input")
    states = read_states(context, read, tokens=1 << 20)
    total = sum(map(len, context.encoded("target")))
    assert len(states) == total - states.texts


def test_a_scaled_head_is_found() -> None:
    model = llama(tied=False)
    assert head_scale(model, [1, 2, 3]) == pytest.approx(1.0, abs=16 * EPS)


def test_a_head_that_is_not_linear_is_refused() -> None:
    model = llama(tied=False)
    plain = model.forward

    def capped(*args: Any, **options: Any) -> Any:
        out = plain(*args, **options)
        out.logits = 0.5 * torch.tanh(out.logits / 0.5)
        return out

    model.forward = capped
    with pytest.raises(errors.InvalidValue, match="not linear"):
        head_scale(model, [1, 2, 3])


def test_without_a_corpus_the_error_says_what_to_give() -> None:
    context, plan, _ = case(corpus=())
    with pytest.raises(errors.InvalidValue, match="--corpus"):
        calibrate(context, plan)


def test_without_a_model_the_error_says_what_to_give() -> None:
    context, plan, _ = case(runnable=False)
    with pytest.raises(errors.InvalidValue, match="model"):
        calibrate(context, plan)


@pytest.mark.parametrize("change", [{"new": "all"}, {"spread": 0.0}, {"tolerance": -1.0}])
def test_bad_options_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidValue):
        replace(Calibration(), **change)


def test_a_scaled_plan_gets_the_same_rows() -> None:
    context, plan, _ = case()
    assert plan.output is not None
    doubled = plan.output.scaled(np.full(264, 1.0, np.float32), note="")
    scale = np.ones(264, np.float32)
    scale[HELLO] = 2.0
    other = replace(plan, output=doubled.scaled(scale, note=""))
    before, after = rows(context, other), rows(context, calibrate(context, other))
    fitted = calibrate(context, other).side("output")
    at = int(np.searchsorted(fitted.dense_ids, HELLO))
    added = 2.0 * torch.from_numpy(fitted.dense_rows[at])
    assert float((after[HELLO] - before[HELLO] - added).abs().max()) < 16 * EPS * 8
