"""Ensembles: every rule against its formula, states, weights that are fitted, errors."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab.backends import TableBackend
from anyvocab.bytelm import ByteLM, Each, Ensemble, Ids
from anyvocab.bytelm.ensemble import Rule
from anyvocab.testing import merged_tokenizer

ONE = [("a", "b"), ("ab", "a"), ("Ġ", "a")]
OTHER = [("b", "a"), ("a", "Ġ"), ("ba", "b"), ("b", "Ġ")]
RULES: tuple[Rule, ...] = ("mixture", "bayes", "product", "contrast", "proxy")
TEXT = b"abab a"
# Each number is a log of sums of under 300 terms, off by 300 units of 2^-52 for each of at most
# 6 bytes and 3 members, times exponents up to 2.
ATOL = 300 * 6 * 3 * 2 * 2.0**-52


def member(merges: list[tuple[str, str]], seed: int, **options: Any) -> ByteLM:
    tokenizer = av.Tokenizer.load(json.dumps(merged_tokenizer(merges)).encode())
    end = 256 + len(merges)
    backend = TableBackend(end + 2, seed=seed, scale=2.0)
    given = {"specials": {end: "end"}} | options
    return ByteLM(backend, tokenizer, first_ids=[end], **given)


def members(count: int) -> list[ByteLM]:
    return [member(ONE if at % 2 == 0 else OTHER, seed=at) for at in range(count)]


def ensemble(rule: Rule, **options: Any) -> Ensemble:
    count = {"contrast": 2, "proxy": 3}.get(rule, 2)
    if rule in ("mixture", "bayes"):
        options = {"weights": [0.3, 0.7]} | options
    return Ensemble(members(count), rule=rule, **options)


def normal(values: Any) -> Any:
    return values / values.sum()


def formula(rule: Rule, parts: list[Any], gains: list[float], options: dict[str, Any]) -> Any:
    """Return a rule's distribution by its formula, in probabilities."""
    strength, cutoff = options.get("strength", 1.0), options.get("cutoff", 0.1)
    if rule == "mixture":
        return 0.3 * parts[0] + 0.7 * parts[1]
    if rule == "bayes":
        weights = normal(np.array([0.3, 0.7]) * gains)
        return weights[0] * parts[0] + weights[1] * parts[1]
    if rule == "product":
        powers = options.get("weights", [0.5, 0.5])
        return normal(parts[0] ** powers[0] * parts[1] ** powers[1])
    if rule == "contrast":
        left = parts[0] >= cutoff * parts[0].max()
        return normal(np.where(left, parts[0] ** (1 + strength) / parts[1] ** strength, 0.0))
    return normal(parts[0] * (parts[1] / parts[2]) ** strength)


CASES: list[tuple[Rule, dict[str, Any]]] = [
    ("mixture", {}),
    ("bayes", {}),
    ("product", {}),
    ("product", {"weights": [1.0, 1.0]}),
    ("product", {"weights": [2.0, -0.5]}),
    ("contrast", {}),
    ("contrast", {"strength": 0.5, "cutoff": 0.3}),
    ("contrast", {"cutoff": 0.0}),
    ("proxy", {}),
    ("proxy", {"strength": 0.0}),
    ("proxy", {"strength": 1.7}),
]


@pytest.mark.parametrize(("rule", "options"), CASES)
def test_a_rule_is_its_formula_at_every_byte(rule: Rule, options: dict[str, Any]) -> None:
    both = ensemble(rule, **options)
    state, gains = both.start(b"b"), np.ones(len(both.members))
    for at in range(len(TEXT) + 1):
        before = b"b" + TEXT[:at]
        parts = [np.exp(one.start(before).logprobs()) for one in both.members]
        expected = formula(rule, parts, list(gains), options)
        np.testing.assert_allclose(np.exp(state.logprobs()), expected, rtol=ATOL * 100, atol=ATOL)
        if at < len(TEXT):
            gains = gains * [part[TEXT[at]] for part in parts]
            state.push(TEXT[at])


@pytest.mark.parametrize("rule", RULES)
def test_every_distribution_of_an_ensemble_sums_to_one(rule: Rule) -> None:
    rows = ensemble(rule).next_byte_logprobs(TEXT)
    assert np.exp(rows).sum(axis=1) == pytest.approx([1.0] * (len(TEXT) + 1), abs=ATOL)


@pytest.mark.parametrize("rule", RULES)
def test_all_positions_at_once_are_the_positions_one_by_one(rule: Rule) -> None:
    both = ensemble(rule)
    state = both.start(b"ba")
    rows = [state.logprobs()] + [state.push(byte).logprobs() for byte in TEXT]
    np.testing.assert_allclose(both.next_byte_logprobs(TEXT, b"ba"), np.stack(rows), atol=ATOL)


@pytest.mark.parametrize("rule", RULES)
def test_a_score_is_the_sum_over_the_bytes(rule: Rule) -> None:
    both = ensemble(rule)
    rows = both.next_byte_logprobs(TEXT, b"a")
    steps = rows[np.arange(len(TEXT)), list(TEXT)].sum()
    assert both.score(TEXT, prefix=b"a") == pytest.approx(steps, abs=ATOL)
    assert both.score(TEXT, prefix=b"a", end=True) == pytest.approx(steps + rows[-1, 256], abs=ATOL)
    scores = both.score_batch([TEXT, b""], [b"a", b"b"])
    np.testing.assert_allclose(scores, [steps, 0.0], atol=ATOL)


@pytest.mark.parametrize("text", [b"", b"a", TEXT])
def test_a_bayes_mixture_gives_a_text_the_mixture_of_what_the_members_give_it(text: bytes) -> None:
    both = ensemble("bayes")
    for end in (False, True):
        given = [np.exp(one.score(text, b"b", end=end)) for one in both.members]
        expected = np.log(0.3 * given[0] + 0.7 * given[1])
        assert both.score(text, b"b", end=end) == pytest.approx(expected, abs=ATOL)


def test_equal_weights_are_the_default() -> None:
    for rule in ("mixture", "bayes", "product"):
        assert Ensemble(members(3), rule=rule).weights.tolist() == [1 / 3] * 3
    assert Ensemble(members(2)).rule == "mixture"


def impossible() -> ByteLM:
    """Return a member that cannot write an x."""
    return member(ONE, 1, specials={259: "end", ord("x"): "forbid"})


@pytest.mark.parametrize("rule", RULES)
def test_what_one_member_calls_impossible_makes_no_number_that_is_none(rule: Rule) -> None:
    for place in range({"proxy": 3}.get(rule, 2)):
        models: list[ByteLM] = members({"proxy": 3}.get(rule, 2))
        models[place] = impossible()
        both = Ensemble(models, rule=rule)
        state = both.start(b"a")
        row = state.logprobs()
        assert not np.isnan(row).any()
        assert np.exp(row).sum() == pytest.approx(1.0, abs=ATOL)
        if rule == "product" or (rule in ("contrast", "proxy") and place == 0):
            assert row[ord("x")] == -np.inf
        if rule in ("mixture", "bayes"):
            assert row[ord("x")] > -np.inf
        state.push(b"x")
        behind = state.logprobs()
        assert not np.isnan(behind).any()
        if rule == "bayes":  # what is left is the other member
            np.testing.assert_allclose(behind, models[1 - place].start(b"ax").logprobs(), atol=ATOL)


@pytest.mark.parametrize("rule", RULES)
def test_what_all_members_call_impossible_is_impossible(rule: Rule) -> None:
    count = {"proxy": 3}.get(rule, 2)
    both = Ensemble([impossible() for _ in range(count)], rule=rule)
    assert both.start(b"a").logprobs()[ord("x")] == -np.inf
    behind = both.start(b"a").push(b"x").logprobs()
    assert (behind == -np.inf).all()
    assert both.score(b"xa", prefix=b"a") == -np.inf


def test_both_sides_of_a_quotient_may_be_impossible() -> None:
    base, expert, anti = members(1)[0], impossible(), impossible()
    row = Ensemble([base, expert, anti], rule="proxy").start(b"a").logprobs()
    assert np.isfinite(row).all()
    assert np.exp(row).sum() == pytest.approx(1.0, abs=ATOL)


@pytest.mark.parametrize("rule", RULES)
def test_forks_and_rollbacks_of_an_ensemble_are_fresh_states(rule: Rule) -> None:
    both = ensemble(rule)
    state = both.start(b"b")
    state.push(b"ab")
    fork = state.fork().push(b"a ")
    state.push(b"b").rollback(2)
    fresh = both.start(b"b").push(b"a")
    np.testing.assert_allclose(state.logprobs(), fresh.logprobs(), atol=ATOL)
    fresh = both.start(b"b").push(b"aba ")
    np.testing.assert_allclose(fork.logprobs(), fresh.logprobs(), atol=ATOL)
    assert (state.text, fork.text) == (b"ba", b"baba ")


def test_a_rollback_that_one_member_cannot_do_changes_nothing() -> None:
    both = ensemble("bayes")
    state = both.start(Each([b"bbb", [Ids([256]), b""]])).push(b"ab")
    before = state.logprobs()
    with pytest.raises(av.InvalidValue):
        state.rollback(3)
    np.testing.assert_array_equal(state.logprobs(), before)
    assert [one.text for one in state.members] == [b"bbbab", b"ab"]
    with pytest.raises(av.InvalidValue):
        state.rollback(-1)


@pytest.mark.parametrize("more", [256, -1, None])
def test_only_bytes_are_pushed_to_an_ensemble(more: Any) -> None:
    state = ensemble("mixture").start(b"a")
    with pytest.raises(av.InvalidValue):
        state.push(more)
    assert state.text == b"a"


def test_members_may_have_contexts_of_their_own() -> None:
    both = ensemble("mixture")
    contexts = Each([b"b", [Ids([260, 5]), b"a"]])
    parts = [
        np.exp(one.start(context).logprobs())
        for one, context in zip(both.members, contexts, strict=True)
    ]
    expected = np.log(0.3 * parts[0] + 0.7 * parts[1])
    np.testing.assert_allclose(both.start(contexts).logprobs(), expected, atol=ATOL)
    np.testing.assert_allclose(both.next_byte_logprobs(b"", contexts)[0], expected, atol=ATOL)


def test_an_ensemble_is_a_member_like_any_other() -> None:
    one, two, three = members(3)
    nested = Ensemble([Ensemble([one, two]), three], weights=[2 / 3, 1 / 3])
    flat = Ensemble([one, two, three])
    np.testing.assert_allclose(
        nested.next_byte_logprobs(TEXT), flat.next_byte_logprobs(TEXT), atol=ATOL
    )
    drawn = [model.sample(b"a", max_bytes=5, seed=3).bytes for model in (nested, flat)]
    assert drawn[0] == drawn[1]


def test_laws_of_the_members_may_differ() -> None:
    models = [member(ONE, 0, law="canonical"), member(OTHER, 1, law="marginal", eps=0.0)]
    both = Ensemble(models)
    parts = [np.exp(one.start(b"ab").logprobs()) for one in models]
    np.testing.assert_allclose(np.exp(both.start(b"ab").logprobs()), sum(parts) / 2, atol=ATOL)


@pytest.mark.parametrize("rule", RULES)
def test_a_batch_of_an_ensemble_is_its_samples_and_streams(rule: Rule) -> None:
    both = ensemble(rule)
    batch = both.sample_batch([b"a", b"b"], max_bytes=5, seeds=[7, 8])
    for one, context, seed in zip(batch, [b"a", b"b"], [7, 8], strict=True):
        assert both.sample(context, max_bytes=5, seed=seed).bytes == one.bytes
        assert b"".join(both.stream(context, max_bytes=5, seed=seed)) == one.bytes
        assert one.logprob == pytest.approx(
            both.score(one.bytes, context, end=one.finish == "end"), abs=ATOL
        )


def test_a_completion_of_an_ensemble_is_a_sample() -> None:
    both = ensemble("mixture")
    options: dict[str, Any] = {"temperature": 0.7, "top_k": 3, "seed": 2, "stop": [b"ab"]}
    done = both.complete(b"a", max_new_tokens=2, **options)
    assert done == both.sample(b"a", max_bytes=8, **options)
    assert (
        both.complete(b"a", max_bytes=3).bytes
        == both.sample(b"a", max_bytes=3, temperature=0).bytes
    )


def loglikelihood(weights: Any, texts: list[bytes], models: list[ByteLM], rule: Rule) -> float:
    both = Ensemble(models, rule=rule, weights=list(weights))
    return float(both.score_batch(texts).sum())


@pytest.mark.parametrize("rule", ["mixture", "bayes"])
def test_every_round_of_fitting_makes_the_texts_more_probable(rule: Rule) -> None:
    models = members(3)  # the third wrote nothing, the first most
    texts = [models[at % 3 % 2].sample(max_bytes=12, seed=at).bytes for at in range(6)]
    both = Ensemble(models, rule=rule)
    found = [
        loglikelihood(both.fit_weights(texts, rounds=rounds)[1], texts, models, rule)
        for rounds in (0, 1, 2, 4, 8, 50)
    ]
    assert all(b >= a - ATOL for a, b in pairwise(found))
    assert found[-1] > found[0]


@pytest.mark.parametrize("rule", ["mixture", "bayes"])
def test_no_weights_are_better_than_the_fitted_ones(rule: Rule) -> None:
    models = members(2)
    texts = [models[at % 2].sample(max_bytes=10, seed=at).bytes for at in range(8)]
    _, weights = Ensemble(models, rule=rule).fit_weights(texts, rounds=2000)
    best = loglikelihood(weights, texts, models, rule)
    for share in np.linspace(0, 1, 21):
        # After 2000 rounds the gain of another round, and of the maximum, is below 1e-6 here.
        assert loglikelihood([share, 1 - share], texts, models, rule) <= best + 1e-6


@pytest.mark.parametrize("rule", ["mixture", "bayes"])
def test_fitting_finds_the_member_that_wrote_the_texts(rule: Rule) -> None:
    models = members(2)
    texts = [models[1].sample(max_bytes=30, seed=seed).bytes for seed in range(8)]
    fitted, weights = Ensemble(models, rule=rule).fit_weights(texts)
    assert weights[1] > 0.9
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert fitted.weights.tolist() == weights.tolist()
    assert fitted.rule == rule


@pytest.mark.parametrize("texts", [[], [b""], [b"x"]])
def test_texts_that_say_nothing_fit_no_weights(texts: list[bytes]) -> None:
    with pytest.raises(av.InvalidValue, match="texts: hold nothing"):
        Ensemble([impossible(), impossible()]).fit_weights(texts)


@pytest.mark.parametrize("rule", ["product", "contrast", "proxy"])
def test_rules_without_mixture_weights_fit_none(rule: Rule) -> None:
    with pytest.raises(av.InvalidValue, match="no mixture weights") as caught:
        ensemble(rule).fit_weights([b"a"])
    assert caught.value.fix == "mixture or bayes"


@pytest.mark.parametrize(
    ("count", "options", "field"),
    [
        (2, {"rule": "average"}, "rule"),
        (0, {}, "members"),
        (3, {"rule": "contrast"}, "members"),
        (2, {"rule": "proxy"}, "members"),
        (2, {"rule": "contrast", "weights": [0.5, 0.5]}, "weights"),
        (2, {"weights": [0.5, 0.6]}, "weights"),
        (2, {"weights": np.array([0.5, 0.6])}, "weights"),
        (2, {"weights": [1.5, -0.5]}, "weights"),
        (2, {"weights": [1.0]}, "weights"),
        (2, {"rule": "product", "weights": [1.0, float("nan")]}, "weights"),
        (2, {"rule": "contrast", "strength": float("inf")}, "strength"),
        (2, {"rule": "contrast", "cutoff": -0.1}, "cutoff"),
        (2, {"rule": "contrast", "cutoff": 1.1}, "cutoff"),
    ],
)
def test_rules_refuse_what_they_do_not_take(
    count: int, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(av.InvalidValue) as caught:
        Ensemble(members(count), **options)
    assert caught.value.field == field


def test_contexts_are_one_for_each_member() -> None:
    with pytest.raises(av.InvalidValue, match="3 contexts for 2 members"):
        ensemble("mixture").start(Each([b"a", b"b", b"c"]))


def test_other_members_keep_the_rule() -> None:
    both = ensemble("contrast", strength=0.5, cutoff=0.2)
    other = both.with_members(members(2))
    assert (other.rule, other.strength, other.cutoff) == ("contrast", 0.5, 0.2)
    weighted = ensemble("bayes").with_members(members(2))
    assert weighted.weights.tolist() == [0.3, 0.7]
