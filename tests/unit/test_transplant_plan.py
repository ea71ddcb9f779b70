"""Plans: sparse combinations, what is copied bit for bit, what a strategy makes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.transplant import strategies  # noqa: E402
from anyvocab.transplant.build import build, build_side, padded_rows, shares  # noqa: E402
from anyvocab.transplant.context import Context, TensorMatrix  # noqa: E402
from anyvocab.transplant.identity import Origin  # noqa: E402
from anyvocab.transplant.plan import Combination, SidePlan, apply  # noqa: E402
from anyvocab.transplant.roles import map_controls  # noqa: E402

WIDTH = 6
SOURCE, TARGET = av.Tokenizer.load("pico:code-4k"), av.Tokenizer.load("pico:code-2k")


def context_of(source: av.Tokenizer, target: av.Tokenizer, dtype: torch.dtype) -> Context:
    generator = torch.Generator().manual_seed(0)
    sides = {
        side: TensorMatrix(
            torch.randn(len(source.vocabulary), WIDTH, generator=generator).to(dtype)
        )
        for side in ("input", "output")
    }
    return Context.of(source, target, sides)


def plan_of(source: av.Tokenizer, target: av.Tokenizer, dtype: torch.dtype, name: str) -> SidePlan:
    return build_side(
        context_of(source, target, dtype),
        "input",
        strategies.make(name),
        controls=map_controls(source, target),
        rows=len(target.vocabulary),
    )


def test_a_combination_is_the_dense_product() -> None:
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(7, 5)).astype(np.float32) * (rng.random((7, 5)) < 0.5)
    rows = [(np.flatnonzero(row), row[np.flatnonzero(row)]) for row in dense]
    source = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    made = Combination.from_rows(rows).combine(TensorMatrix(source))
    # five products of numbers below 4 a sum
    assert np.abs(made.numpy() - dense @ source.numpy()).max() < 5 * 16 * np.finfo(np.float32).eps


def test_selected_scattered_and_blended_rows_are_what_they_say() -> None:
    one = Combination.from_rows([([1, 2], [0.5, 0.5]), ([], []), ([3], [1.0])])
    two = Combination.from_rows([([4], [1.0]), ([5], [2.0]), ([], [])])
    assert [list(map(list, one.select(np.array([2, 0])).row(i))) for i in (0, 1)] == [
        [[3], [1.0]],
        [[1, 2], [0.5, 0.5]],
    ]
    spread = Combination.scattered(5, [(np.array([4, 0, 1]), one), (np.array([1, 2, 3]), two)])
    assert [spread.row(i)[0].tolist() for i in range(5)] == [[], [4], [5], [], [1, 2]]
    mixed = one.blend(two, 0.25)
    assert [list(map(list, mixed.row(i))) for i in range(3)] == [
        [[1, 2, 4], [0.375, 0.375, 0.25]],
        [[5], [2.0]],
        [[3], [1.0]],
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_same_tokenizer_gives_the_same_rows_bit_for_bit(dtype: torch.dtype) -> None:
    plan = plan_of(SOURCE, SOURCE, dtype, "mean")
    matrix = context_of(SOURCE, SOURCE, dtype).matrices["input"]
    assert plan.verbatim().all()
    made = torch.cat(list(apply(plan, matrix, chunk_rows=1000)))
    assert torch.equal(made, matrix.take(np.arange(matrix.rows)))


def test_there_and_back_restores_the_anchors_exactly() -> None:
    there = context_of(SOURCE, TARGET, torch.bfloat16)
    plan = plan_of(SOURCE, TARGET, torch.bfloat16, "mean")
    rows = torch.cat(list(apply(plan, there.matrices["input"])))
    back = Context.of(TARGET, SOURCE, {side: TensorMatrix(rows) for side in ("input", "output")})
    returned = build_side(
        back,
        "input",
        strategies.make("mean"),
        controls=map_controls(TARGET, SOURCE),
        rows=len(SOURCE.vocabulary),
    )
    again = torch.cat(list(apply(returned, back.matrices["input"])))
    shared = np.flatnonzero(returned.origin == Origin.COPIED)
    assert len(shared) > 1800
    assert torch.equal(again[shared], there.matrices["input"].take(shared))


def test_rows_do_not_depend_on_the_chunks() -> None:
    context = context_of(SOURCE, TARGET, torch.bfloat16)
    plan = plan_of(SOURCE, TARGET, torch.bfloat16, "mean")
    whole, parts = (
        torch.cat(list(apply(plan, context.matrices["input"], chunk_rows=rows)))
        for rows in (10_000, 97)
    )
    assert torch.equal(whole, parts)


def test_every_id_is_in_one_share() -> None:
    context = context_of(SOURCE, TARGET, torch.float32)
    share = shares(context, map_controls(SOURCE, TARGET))
    ids = np.concatenate([share.copied, share.controls, share.new, share.lost, share.unused])
    assert sorted(ids.tolist()) == list(range(len(TARGET.vocabulary)))


def test_new_tokens_are_the_mean_of_their_pieces() -> None:
    context = context_of(SOURCE, TARGET, torch.float32)
    plan = plan_of(SOURCE, TARGET, torch.float32, "mean")
    id = int(np.flatnonzero(plan.origin == Origin.COMPOSED)[0])
    rows = torch.cat(list(apply(plan, context.matrices["input"])))
    pieces = context.pieces(np.array([id]))[0]
    assert len(pieces) > 1
    expected = context.matrices["input"].take(pieces).double().mean(dim=0)
    assert torch.allclose(rows[id].double(), expected, atol=4 * torch.finfo(torch.float32).eps)
    explained = plan.explain(id)
    assert [source for source, _ in explained.sources] == pieces.tolist()
    assert explained.origin is Origin.COMPOSED


def test_control_tokens_take_the_row_of_their_role() -> None:
    plan = plan_of(SOURCE, TARGET, torch.float32, "mean")
    (eos,) = TARGET.vocabulary.ids_of_role("eos")[:1]
    (theirs,) = SOURCE.vocabulary.ids_of_role("eos")[:1]
    assert plan.explain(eos).sources == ((theirs, 1.0),)
    assert plan.verbatim()[eos]


def test_padding_rows_are_the_mean_row_and_count_as_unused() -> None:
    context = context_of(SOURCE, TARGET, torch.float32)
    size = len(TARGET.vocabulary)
    plan = build_side(
        context,
        "output",
        strategies.make("mean"),
        controls=map_controls(SOURCE, TARGET),
        rows=size + 3,
    )
    rows = torch.cat(list(apply(plan, context.matrices["output"])))
    assert len(rows) == size + 3
    assert (plan.origin[size:] == Origin.UNUSED).all()
    assert torch.equal(rows[size], rows[size + 2])


def test_a_tied_plan_has_one_side() -> None:
    context = context_of(SOURCE, TARGET, torch.float32)
    made = strategies.make("mean")
    plan = build(
        context,
        strategies={"input": made, "output": made},
        controls=map_controls(SOURCE, TARGET),
        rows=len(TARGET.vocabulary),
        tied=True,
    )
    assert plan.tied
    assert plan.side("output") is plan.input


@pytest.mark.parametrize("name", ["mean", "length", "last", "front", "adaptivocab"])
@pytest.mark.parametrize("side", ["input", "output"])
def test_weights_of_pieces_are_positive_and_sum_to_one(name: str, side: str) -> None:
    context = context_of(SOURCE, TARGET, torch.float32)
    new = shares(context, map_controls(SOURCE, TARGET)).new
    made = strategies.make(name).rows(context, side, new)
    assert isinstance(made, Combination)
    sums = np.add.reduceat(made.weights, made.indptr[:-1])
    assert (made.weights >= 0).all()
    assert np.abs(sums - 1).max() < 32 * np.finfo(np.float32).eps  # at most 32 pieces


def test_held_out_anchors_are_cut_apart_and_are_no_anchors() -> None:
    context = context_of(SOURCE, TARGET, torch.float32)
    held = context.anchors[0][[10, 400, 900]]
    hiding = context.holding_out(held)
    assert not np.isin(held, hiding.anchors[0]).any()
    known = context.match.source_of[held]
    for row, own in zip(hiding.pieces(held), known, strict=True):
        assert own not in row


def test_a_row_that_is_not_finite_is_named() -> None:
    context = context_of(SOURCE, TARGET, torch.float16)
    plan = plan_of(SOURCE, TARGET, torch.float16, "mean")
    size = np.ones(len(plan), dtype=np.float32)
    size[7] = 1e9
    with pytest.raises(errors.InvalidValue, match="row 7 is not finite"):
        list(apply(plan.scaled(size, note="too large"), context.matrices["input"]))


def test_random_rows_are_a_function_of_seed_and_id() -> None:
    context = context_of(SOURCE, TARGET, torch.float32)
    ids = np.array([3, 9, 27])
    made = strategies.make("random")
    rows = made.rows(context, "input", ids)
    assert torch.equal(rows[[2, 0]], made.rows(context, "input", ids[[2, 0]]))
    assert not torch.equal(rows, made.rows(context, "output", ids))


def test_unknown_strategies_and_options_are_named_with_the_known_ones() -> None:
    with pytest.raises(errors.InvalidValue, match=r"strategies are .*mean"):
        strategies.make("guess")
    with pytest.raises(errors.InvalidValue, match="its options are decay"):
        strategies.make("front", {"rate": 1})
    with pytest.raises(errors.InvalidValue, match=r"must be in \(0, 1\]"):
        strategies.make("front", {"decay": 0.0})


def test_rows_are_padded_to_a_multiple() -> None:
    assert [padded_rows(size, 64) for size in (1, 64, 65)] == [64, 64, 128]
    with pytest.raises(errors.InvalidValue, match="at least 1"):
        padded_rows(5, 0)


def test_a_byte_token_beside_its_text_twin_is_quiet_unless_it_has_a_row_of_its_own() -> None:
    # code-4k has one token for byte 61; code-2k has `a` and <0x61>
    context = context_of(SOURCE, TARGET, torch.float32)
    twins = TARGET.vocabulary.ids_of(b"a").tolist()
    assert [TARGET.vocabulary.kind(id) for id in twins] == ["text", "byte"]
    plan = build_side(
        context,
        "output",
        strategies.make("mean"),
        controls=map_controls(SOURCE, TARGET),
        rows=len(TARGET.vocabulary),
    )
    assert [Origin(int(plan.origin[id])) for id in twins] == [Origin.COPIED, Origin.QUIET]
    same = build_side(
        context_of(TARGET, TARGET, torch.float32),
        "output",
        strategies.make("mean"),
        controls=map_controls(TARGET, TARGET),
        rows=len(TARGET.vocabulary),
    )
    assert (same.origin != Origin.QUIET).all()


def test_a_quiet_row_has_at_most_the_mean_probability_of_the_copied_ones() -> None:
    context = context_of(SOURCE, TARGET, torch.float32)
    plan = build_side(
        context,
        "output",
        strategies.make("mean"),
        controls=map_controls(SOURCE, TARGET),
        rows=len(TARGET.vocabulary),
    )
    rows = torch.cat(list(apply(plan, context.matrices["output"]))).double()
    states = torch.randn(20, WIDTH, generator=torch.Generator().manual_seed(1)).double() * 3
    mass = (states @ rows.T).softmax(dim=-1)
    copied = int((plan.origin == Origin.COPIED).sum())
    # the mean row is rounded to float32, and states are below 15 in every one of 6 numbers
    slack = 1 + 6 * 15 * 8 * torch.finfo(torch.float32).eps
    assert float(mass[:, plan.origin == Origin.QUIET].max()) <= slack / copied
