"""A hypernetwork as a strategy: what new and shared tokens get, on what evidence, and plans."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.hypernet.predict import SourceModel  # noqa: E402
from anyvocab.hypernet.rows import SourceRows  # noqa: E402
from anyvocab.testing import merged_tokenizer, tiny_tokenizer  # noqa: E402
from anyvocab.testing.hypernets import tiny_hypernet  # noqa: E402
from anyvocab.transplant import strategies  # noqa: E402
from anyvocab.transplant.auto import feasible, fidelity  # noqa: E402
from anyvocab.transplant.build import build, shares  # noqa: E402
from anyvocab.transplant.context import Context, Donor, TensorMatrix  # noqa: E402
from anyvocab.transplant.identity import Origin  # noqa: E402
from anyvocab.transplant.plan import Plan, Side, apply  # noqa: E402
from anyvocab.transplant.plan_file import load_plan, save_plan  # noqa: E402
from anyvocab.transplant.planning import remaker  # noqa: E402
from anyvocab.transplant.roles import ControlMap, map_controls  # noqa: E402
from anyvocab.transplant.settle import settle  # noqa: E402
from anyvocab.transplant.trial import new_bias  # noqa: E402

WIDTH = 8
EPS = 2.0**-24  # half the distance of float32 numbers around 1
SIDES: tuple[Side, Side] = ("input", "output")
MERGES = [("h", "e"), ("l", "l"), ("l", "o"), ("he", "ll"), ("hell", "o"), ("Ġ", "hello")]


def load(document: dict[str, Any]) -> av.Tokenizer:
    return av.Tokenizer.load(json.dumps(document).encode())


TINY = load(tiny_tokenizer())
TARGET = load(merged_tokenizer(MERGES, ["<|end|>", "<|new|>"]))


class Case:
    """A model of random rows, a hypernetwork of its own in a folder, and a target."""

    def __init__(
        self,
        place: Path,
        source: av.Tokenizer = TINY,
        target: av.Tokenizer = TARGET,
        *,
        tied: bool = False,
        bias: bool = False,
        **network: Any,
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        size = len(source.vocabulary)
        first, second = (torch.randn(size, WIDTH, generator=generator) for _ in range(2))
        level = torch.randn(size, generator=generator) if bias else None
        self.model = SourceModel(source, SourceRows(first, None if tied else second, level))
        matrix = TensorMatrix(first)
        self.folder = tiny_hypernet(self.model, **network).save(place / "hypernet")
        self.context = Context.of(
            source,
            target,
            {"input": matrix, "output": matrix if tied else TensorMatrix(second)},
            bias=None if level is None else TensorMatrix(level[:, None]),
            hypernet=self.folder,
        )
        self.controls: ControlMap = map_controls(source, target)
        self.size = len(target.vocabulary)

    def plan(
        self, name: str, *, tied: bool = False, rows: int | None = None, **options: Any
    ) -> Plan:
        made = strategies.make(name, options)
        return build(
            self.context,
            strategies=dict.fromkeys(SIDES, made),
            controls=self.controls,
            rows=rows or self.size,
            tied=tied,
        )

    def rows(self, plan: Plan, side: Side) -> Any:
        return torch.cat(list(apply(plan.side(side), self.context.matrices[side])))

    def predicted(self, side: Side) -> Any:
        """What the network says of every text token, by target id; NaN for the others."""
        hypernet = av.Hypernet.load(self.folder)
        found = hypernet.predict(self.context.target, self.model)
        rows, made = found.rows(), torch.full((self.size, WIDTH), torch.nan)
        made[torch.from_numpy(found.ids)] = rows.head if side == "output" else rows.input
        return made


def shared_text(case: Case) -> Any:
    kinds = case.context.target.vocabulary.kinds()
    text = kinds == case.context.target.vocabulary.kind_code("text")
    ids = shares(case.context, case.controls).copied
    return ids[text[ids]]


def fixture_tokenizer(fixtures: Path, name: str) -> av.Tokenizer:
    folder = fixtures / "tokenizers" / name
    if not folder.is_dir():
        pytest.skip(f"no tokenizer {name} among the fixtures")
    return av.Tokenizer.load(folder)


def check_means(case: Case) -> None:
    """An untrained network's plan makes the rows of the strategy `mean`."""
    first, second = case.plan("hypernet", anchor="hard"), case.plan("mean")
    for side in SIDES:
        lengths = case.context.pieces(np.arange(case.size)).lengths()
        # n float32 roundings on either way to a mean of n numbers of at most this size.
        size = float(case.context.matrices[side].chunk(0, len(case.model.rows)).abs().max())
        bound = torch.from_numpy((2 * lengths + 4) * EPS * size)[:, None]
        apart = (case.rows(first, side).double() - case.rows(second, side).double()).abs()
        assert bool((apart <= bound).all())
        origins = first.side(side).origin, second.side(side).origin
        made = origins[0] == Origin.PREDICTED
        assert (origins[1][made] == Origin.COMPOSED).all()
        assert (origins[0][~made] == origins[1][~made]).all()
        same = second.side(side).verbatim()
        assert (first.side(side).verbatim() == same).all()
        assert same.sum() > 200


def test_before_training_it_is_the_mean_strategy(tmp_path: Path) -> None:
    check_means(Case(tmp_path))


@pytest.mark.parametrize("name", ["gpt2", "llama2", "xlnet"])
def test_before_training_it_is_the_mean_strategy_on_real_vocabularies(
    tmp_path: Path, fixtures: Path, name: str
) -> None:
    target = fixture_tokenizer(fixtures, name)
    check_means(Case(tmp_path, av.Tokenizer.load("pico:code-4k"), target))


def test_control_tokens_take_their_rows_by_role(tmp_path: Path) -> None:
    case = Case(tmp_path, weights="drawn")
    for anchor in ("hard", "soft", "none"):
        plan = case.plan("hypernet", anchor=anchor)
        end = 256 + len(MERGES)
        for side in SIDES:
            assert plan.side(side).origin[end] == Origin.ROLE
            taken = case.rows(plan, side)[end]
            assert torch.equal(taken, case.context.matrices[side].chunk(260, 261)[0])


def test_a_hard_anchor_copies_shared_rows_bit_for_bit(tmp_path: Path) -> None:
    case = Case(tmp_path, weights="drawn")
    plan = case.plan("hypernet", anchor="hard")
    ids = shared_text(case)
    for side in SIDES:
        sources = case.context.match.source_of[ids]
        assert torch.equal(case.rows(plan, side)[ids], case.context.matrices[side].take(sources))


def test_without_an_anchor_shared_text_is_predicted_too(tmp_path: Path) -> None:
    case = Case(tmp_path, weights="drawn")
    plan = case.plan("hypernet", anchor="none")
    ids = shared_text(case)
    for side in SIDES:
        assert (plan.side(side).origin[ids] == Origin.PREDICTED).all()
        assert not plan.side(side).verbatim()[ids].any()
        made, wanted = case.rows(plan, side)[ids], case.predicted(side)[ids]
        assert torch.allclose(made, wanted, rtol=0, atol=1e-5)  # the same numbers, other chunks


def test_a_soft_anchor_mixes_by_its_share(tmp_path: Path) -> None:
    case = Case(tmp_path, weights="drawn")
    plan = case.plan("hypernet", anchor="soft", share=0.25)
    ids = shared_text(case)
    for side in SIDES:
        old = case.context.matrices[side].take(case.context.match.source_of[ids])
        wanted = 0.75 * old + 0.25 * case.predicted(side)[ids]
        made = case.rows(plan, side)[ids]
        assert torch.allclose(made, wanted, rtol=0, atol=1e-5)
        told = plan.side(side).explain(int(ids[0]))
        assert (told.origin, told.dense) == (Origin.PREDICTED, True)
        assert told.scale * told.sources[0][1] == pytest.approx(0.75)


def test_byte_fallback_tokens_keep_their_rows(tmp_path: Path, fixtures: Path) -> None:
    target = fixture_tokenizer(fixtures, "llama2")
    case = Case(tmp_path, av.Tokenizer.load("pico:code-4k"), target)
    plan = case.plan("hypernet", anchor="none")
    kinds = target.vocabulary.kinds()
    ids = np.flatnonzero(kinds == target.vocabulary.kind_code("byte"))
    assert len(ids) == 256
    assert (plan.input.origin[ids] == Origin.COPIED).all()


def test_unused_rows_stay_silent_whatever_becomes_of_shared_ones(tmp_path: Path) -> None:
    case = Case(tmp_path, weights="drawn")
    for anchor in ("hard", "none"):
        plan = case.plan("hypernet", anchor=anchor, rows=case.size + 8)
        made = case.rows(plan, "output").double()
        for _ in range(3):
            logits = made @ torch.randn(WIDTH, dtype=torch.float64)
            shares_ = logits.softmax(dim=0)
            # exp is convex: at most the mean of the probabilities that it is a mean of
            assert float(shares_[-1]) <= 1.01 / len(shared_text(case))


def test_the_bias_is_what_the_network_says(tmp_path: Path) -> None:
    case = Case(tmp_path, bias=True, weights="drawn")
    old = case.model.rows.bias
    assert old is not None
    found = av.Hypernet.load(case.folder).predict(TARGET, case.model)
    told = found.rows().bias
    assert told is not None
    ids = shared_text(case)
    for anchor, part in (("hard", 0.0), ("soft", 0.5), ("none", 1.0)):
        made = new_bias(case.plan("hypernet", anchor=anchor), old)
        kept = old[torch.from_numpy(case.context.match.source_of[ids].astype(np.int64))]
        wanted = (1 - part) * kept + part * told[ids]
        assert torch.allclose(made[ids], wanted, rtol=0, atol=1e-5)
        new = shares(case.context, case.controls).new
        assert torch.allclose(made[new], told[new], rtol=0, atol=1e-5)


def decide(
    case: Case, score: Callable[[Plan], float] | None, *, tied: bool = False, **options: Any
) -> tuple[dict[Side, Any], tuple[str, ...]]:
    return settle(
        case.context,
        dict.fromkeys(SIDES, strategies.make("hypernet", options)),
        controls=case.controls,
        rows=case.size,
        tied=tied,
        score=score,
    )


def predicted_rows(plan: Plan, side: Side) -> int:
    return int((plan.side(side).origin == Origin.PREDICTED).sum())


def test_anchors_are_chosen_side_by_side_by_what_the_model_says(tmp_path: Path) -> None:
    case = Case(tmp_path, weights="drawn")

    def score(plan: Plan) -> float:  # likes predicted inputs and copied outputs
        return predicted_rows(plan, "output") - predicted_rows(plan, "input") + 1000.0

    chosen, notes = decide(case, score)
    assert chosen["input"].anchor in ("soft", "none")
    assert chosen["output"].anchor == "hard"
    assert any("by bits per byte" in note and "input" in note for note in notes)
    assert any("copied" in note and "output" in note for note in notes)


def test_sides_that_fit_only_together_are_found(tmp_path: Path) -> None:
    case = Case(tmp_path, weights="drawn")

    def score(plan: Plan) -> float:  # one side alone is worse than none
        sides = [predicted_rows(plan, side) > 0 for side in SIDES]
        copied = [bool((plan.side(side).origin == Origin.COPIED).any()) for side in SIDES]
        return {0: 2.0, 1: 3.0, 2: 1.0}[
            sum(s and not c for s, c in zip(sides, copied, strict=True))
        ]

    chosen, _ = decide(case, score)
    assert "hard" not in {one.anchor for one in chosen.values()}


def test_among_equals_copies_win(tmp_path: Path) -> None:
    chosen, _ = decide(Case(tmp_path), lambda plan: 1.0)
    assert {one.anchor for one in chosen.values()} == {"hard"}


def test_an_anchor_that_was_named_is_not_tried(tmp_path: Path) -> None:
    def never(plan: Plan) -> float:
        raise AssertionError("it was scored")

    chosen, notes = decide(Case(tmp_path), never, anchor="none")
    assert chosen["input"].anchor == "none"
    assert notes == ()


def test_tied_matrices_have_one_anchor(tmp_path: Path) -> None:
    case = Case(tmp_path, tied=True, weights="drawn")
    chosen, notes = decide(case, lambda plan: -predicted_rows(plan, "input"), tied=True)
    assert chosen["input"] == chosen["output"]
    assert chosen["input"].anchor == "soft"  # the first of those with the most
    assert len(notes) == 1


def test_without_a_model_that_runs_shared_rows_are_copied_and_that_is_said(tmp_path: Path) -> None:
    source, target = (av.Tokenizer.load(f"pico:code-{size}") for size in ("4k", "2k"))
    chosen, notes = decide(Case(tmp_path, source, target), None)
    assert {one.anchor for one in chosen.values()} == {"hard"}
    assert all("no text says" in note and "cosine" in note for note in notes)


def test_hidden_tokens_are_not_given_away(tmp_path: Path) -> None:
    case = Case(tmp_path)
    hell = np.array([TARGET.vocabulary.ids_of(b"hell")[0]])
    found = fidelity(case.context, "hypernet", "input", hell)
    assert found.predicted == 1
    assert found.cosine < 1.0 - 1e-3
    # he|ll, as the mean strategy has it
    plain = fidelity(case.context, "mean", "input", hell)
    assert found.cosine == pytest.approx(plain.cosine, abs=1e-5)


def test_it_is_feasible_only_where_there_is_a_hypernetwork(tmp_path: Path) -> None:
    case = Case(tmp_path)
    assert "hypernet" in feasible(case.context)
    without = replace(case.context, hypernet=None)
    assert "hypernet" not in feasible(without)
    with pytest.raises(errors.SourceNotFound, match="hypernet train"):
        strategies.make("hypernet").rows(without, "input", np.array([260]))
    given = strategies.make("hypernet", {"hypernet": str(case.folder)})
    assert len(given.rows(without, "input", np.array([260]))) == 1


def test_two_rows_for_a_token_need_two_matrices(tmp_path: Path) -> None:
    case = Case(tmp_path, tied=True, sides="both", weights="drawn")
    assert "hypernet" not in feasible(case.context)
    assert "hypernet" in feasible(case.context, tied=False)
    with pytest.raises(errors.InvalidValue, match='tie="untie"'):
        decide(case, None, tied=True)
    plan = case.plan("hypernet", anchor="hard")
    new = shares(case.context, case.controls).new
    first, second = (case.rows(plan, side)[new] for side in SIDES)
    assert not torch.equal(first, second)


def test_a_plan_names_the_network_and_is_small(tmp_path: Path) -> None:
    source = av.Tokenizer.load("pico:code-4k")
    case = Case(tmp_path, source, av.Tokenizer.load("pico:code-2k"), weights="drawn")
    plan = case.plan("hypernet", anchor="soft")
    saved = save_plan(plan, tmp_path / "plan", belongs_to={})
    with pytest.raises(errors.InvalidValue, match="strategy hypernet"):
        load_plan(saved)
    fresh = replace(case.context, shared={})
    again = load_plan(saved, remake=remaker(fresh))
    for side in SIDES:
        assert torch.equal(case.rows(plan, side), case.rows(again, side))
    from safetensors import safe_open

    with safe_open(saved, framework="numpy") as stored:
        assert not [name for name in stored.keys() if "dense_rows" in name]  # noqa: SIM118


def test_a_plan_whose_network_has_changed_is_refused(tmp_path: Path) -> None:
    case = Case(tmp_path)
    saved = save_plan(case.plan("hypernet"), tmp_path / "plan", belongs_to={})
    tiny_hypernet(case.model, seed=1).save(case.folder, existing="replace")
    with pytest.raises(errors.InvalidValue, match="has changed"):
        load_plan(saved, remake=remaker(replace(case.context, shared={})))
    for path in case.folder.iterdir():
        path.unlink()
    with pytest.raises(errors.InvalidValue, match="is gone"):
        load_plan(saved, remake=remaker(replace(case.context, shared={})))


def test_both_sides_come_out_of_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from anyvocab.hypernet.network import ResidualHypernet

    case, calls = Case(tmp_path, weights="drawn"), []
    forward = ResidualHypernet.forward

    def counted(self: Any, pieces: Any, *others: Any, **named: Any) -> Any:
        calls.append(len(pieces))
        return forward(self, pieces, *others, **named)

    monkeypatch.setattr(ResidualHypernet, "forward", counted)
    plan = case.plan("hypernet", anchor="hard")
    assert calls == []  # nothing is predicted before it is needed
    for side in SIDES:
        case.rows(plan, side)
    assert sum(calls) == len(shares(case.context, case.controls).new)


def test_options_out_of_range_are_refused() -> None:
    for options in ({"anchor": "heavy"}, {"share": 0.0}, {"share": 1.0}):
        with pytest.raises(errors.InvalidValue):
            strategies.make("hypernet", options)


def test_a_relative_gives_its_rows_as_they_are(tmp_path: Path) -> None:
    case = Case(tmp_path)
    given = {side: TensorMatrix(torch.randn(case.size, WIDTH)) for side in SIDES}
    case.context = replace(case.context, donor=Donor.of(TARGET, TARGET, given))  # type: ignore[arg-type]
    plan = case.plan("family")
    text = np.arange(256 + len(MERGES))
    for side in SIDES:
        assert torch.equal(case.rows(plan, side)[text], given[side].tensor[text])
        # control tokens stay the model's own
        assert plan.side(side).origin[len(text)] == Origin.ROLE
    narrow = {side: TensorMatrix(torch.zeros(case.size, 3)) for side in SIDES}
    case.context = replace(case.context, donor=Donor.of(TARGET, TARGET, narrow))  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidValue, match="no relative"):
        case.plan("family")
    assert "family" not in feasible(case.context)
