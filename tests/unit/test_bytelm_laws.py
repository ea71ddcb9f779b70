"""ByteLM against the enumeration of its laws: tiny tokenizers, seeded logits, all covers."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab.backends import TableBackend
from anyvocab.bytelm import ByteLM
from anyvocab.bytelm.lm import Law
from anyvocab.testing import merged_tokenizer
from anyvocab.testing.enumeration import Enumeration

MERGES = [("a", "b"), ("ab", "a"), ("b", "a"), ("Ġ", "ab"), ("Ã", "©"), ("a", "Ġ")]
END_ID, MARK, PADDING = 262, 263, 264  # two control tokens and a row without a token
ROWS = 265
LAWS: tuple[Law, ...] = ("local", "canonical", "marginal")
TEXTS = (b"", b"a", b"ab", b"aba", b"abab", b" ab a", "é".encode()[:1], b"\xff")
# Logits are the same float32 numbers on both sides. A log-probability is a log of a sum of at most
# 2 * ROWS positive float64 terms, each a product of at most 6 such quotients: every sum and every
# product is off by less than its number of terms in units of 2^-52.
ATOL = 6 * 2 * ROWS * 2.0**-52


def table(seed: int = 1) -> TableBackend:
    return TableBackend(ROWS, seed=seed, scale=2.0)


def tokenizer(*, pattern: bool = False) -> av.Tokenizer:
    document = merged_tokenizer(MERGES, pattern=pattern)
    return av.Tokenizer.load(json.dumps(document).encode())


def pair(law: Law, *, specials: Any = None, **sets: Any) -> tuple[ByteLM, Enumeration]:
    """Return a model and the enumeration of the same law; `sets` are the latter's."""
    tok, backend = tokenizer(), table()
    given = {END_ID: "end"} if specials is None else specials
    lm = ByteLM(backend, tok, law=law, first_ids=[END_ID], specials=given, eps=0.0, budget=10**6)
    chosen = {"ends": [END_ID], "forbidden": [MARK, PADDING]} | sets
    return lm, Enumeration(backend, tok, law, root=[END_ID], **chosen)


def agree(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("text", TEXTS)
def test_next_byte_logprobs_are_those_of_all_covers(law: Law, text: bytes) -> None:
    lm, definition = pair(law)
    agree(lm.start(text).logprobs(), definition.logprobs(text))


@pytest.mark.parametrize("law", LAWS)
def test_the_log_mass_is_that_of_all_covers(law: Law) -> None:
    lm, definition = pair(law)
    for text in TEXTS:
        agree(lm.start(text).log_mass, definition.log_mass(text))


@pytest.mark.parametrize("law", LAWS)
def test_a_score_is_the_mass_of_both_over_that_of_the_prefix(law: Law) -> None:
    lm, definition = pair(law)
    expected = definition.log_mass(b"abab") - definition.log_mass(b"a")
    agree(lm.score(b"bab", prefix=b"a"), expected)
    agree(lm.score(b"bab", prefix=b"a", end=True), expected + definition.logprobs(b"abab")[256])


@pytest.mark.parametrize("law", LAWS)
def test_a_batch_of_scores_is_the_scores_one_by_one(law: Law) -> None:
    lm, _ = pair(law)
    texts, prefixes = [b"ab", b"", "é", b"b a"], [b"", b"a", b"ab", b"a"]
    for end in (False, True):
        one_by_one = [lm.score(t, p, end=end) for t, p in zip(texts, prefixes, strict=True)]
        agree(lm.score_batch(texts, prefixes, end=end), one_by_one)
    agree(lm.score_batch(texts), [lm.score(text) for text in texts])


def test_a_batch_that_is_cut_into_parts_scores_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, _ = pair("local")
    texts = [b"ab", b"", b"aba", b" ab", b"b"]
    whole = lm.score_batch(texts, end=True)
    monkeypatch.setattr("anyvocab.bytelm.lm.BATCH_BYTES", 3)
    agree(lm.score_batch(texts, end=True), whole)


@pytest.mark.parametrize("law", LAWS)
def test_all_positions_at_once_are_the_positions_one_by_one(law: Law) -> None:
    lm, _ = pair(law)
    text = b"ab aba\xc3\xa9b"
    state = lm.start(b"ba")
    rows = [state.logprobs()]
    rows += [state.push(byte).logprobs() for byte in text]
    agree(lm.next_byte_logprobs(text, b"ba"), np.stack(rows))


@pytest.mark.parametrize("law", ["local", "marginal"])
def test_conditionals_of_a_proper_law_multiply_to_the_score(law: Law) -> None:
    lm, _ = pair(law)
    text = b" abab a"
    rows = lm.next_byte_logprobs(text)
    steps = rows[np.arange(len(text)), list(text)]
    # n conditionals are added, each off by ATOL at most.
    assert abs(steps.sum() - lm.score(text)) <= len(text) * ATOL
    assert abs(steps.sum() + rows[-1, 256] - lm.score(text, end=True)) <= len(text) * ATOL


def test_conditionals_of_the_canonical_law_do_not_multiply_to_the_score() -> None:
    lm, definition = pair("canonical")
    text = b"abab"
    steps = sum(lm.start(text[:at]).logprobs()[byte] for at, byte in enumerate(text))
    assert steps > lm.score(text) + 1e3 * ATOL  # mass is lost at every step and made up for
    assert definition.log_mass(text) == pytest.approx(lm.score(text), abs=ATOL)


@pytest.mark.parametrize("law", ["local", "canonical"])
def test_a_pattern_that_looks_ahead_allows_what_some_continuation_allows(law: Law) -> None:
    tok, backend = tokenizer(pattern=True), table(7)
    # GPT-2's pattern looks at most at a contraction or the next character; all that it tells apart:
    letters = (b"", b"a", b"b", b" ", b"  ", b"\n", b"1", b".", b"'", b"s", b"re", b" a", b"\xa9")
    heads = [b"\xc3\xa9"[:n] for n in (1, 2)]
    definition = Enumeration(
        backend,
        tok,
        law,
        root=[END_ID],
        ends=[END_ID],
        forbidden=[MARK, PADDING],
        continuations=(*letters, *heads),
    )
    lm = ByteLM(backend, tok, law=law, first_ids=[END_ID], specials={END_ID: "end"})
    assert lm.reencoded is None
    ascii_and_end = [*range(128), 256]
    for text in (b"a ", b"ab  ", b"a'", b"a  b"):
        # Bytes over 0x7F would need every character that they may become as a continuation.
        found, expected = lm.start(text).logprobs(), definition.masses(text)
        assert (np.isfinite(found[ascii_and_end]) == np.isfinite(expected[ascii_and_end])).all()


@pytest.mark.parametrize("law", LAWS)
def test_a_forbidden_token_of_text_leaves_its_share_to_the_others(law: Law) -> None:
    specials = {END_ID: "end", ord("a"): "forbid"}
    lm, definition = pair(law, specials=specials, forbidden=[MARK, PADDING, ord("a")])
    for text in (b"", b"ab", b"aba"):
        agree(lm.start(text).logprobs(), definition.logprobs(text))
    assert lm.start(b"a").push(b"x").log_mass == -np.inf  # nothing spells an a before an x


@pytest.mark.parametrize("law", LAWS)
def test_a_dropped_id_takes_its_share_of_the_mass_and_is_missing(law: Law) -> None:
    specials = {END_ID: "end", MARK: "drop"}
    lm, definition = pair(law, specials=specials, forbidden=[PADDING], dropped=[MARK])
    for text in (b"", b"ab"):
        state = lm.start(text)
        agree(state.logprobs(), definition.logprobs(text))
        agree(state.log_mass, definition.log_mass(text))
        lost = sum(
            np.exp(log_mass + definition.steps(tokens)[MARK])
            for tokens, log_mass in definition.covers(text)
            if len(definition.spell(tokens)) == len(text)
        )
        whole = lost + np.exp(definition.masses(text)).sum()
        assert state.missing_mass == pytest.approx(lost / whole, rel=ATOL, abs=0)


@pytest.mark.parametrize("law", LAWS)
def test_a_spelled_id_stands_for_the_bytes_of_its_spelling(law: Law) -> None:
    specials = {END_ID: "end", MARK: "spell"}
    spelled = {MARK: b"<|fim_prefix|>"}
    lm, definition = pair(law, specials=specials, forbidden=[PADDING], spelled=spelled)
    for text in (b"", b"<", b"<|fim"):
        agree(lm.start(text).logprobs(), definition.logprobs(text))


def test_a_latent_id_occurs_and_stands_for_nothing() -> None:
    logits = np.full(ROWS, -np.inf)
    logits[[ord("a"), END_ID]] = 0.0
    behind = logits.copy()
    behind[[ord("a"), END_ID]] = [np.log(3.0), 0.0]
    logits[MARK] = 0.0

    def rows(context: tuple[int, ...]) -> Any:
        return behind if MARK in context else logits

    lm = ByteLM(
        TableBackend(ROWS, rows),
        tokenizer(),
        law="marginal",
        first_ids=[END_ID],
        specials={END_ID: "end", MARK: "latent"},
        eps=0.0,
        budget=1000,
    )
    # One third each; behind the latent id 3/4 and 1/4.
    found = np.exp(lm.start(b"").logprobs()[[ord("a"), 256]])
    np.testing.assert_allclose(found, [1 / 3 + 1 / 3 * 3 / 4, 1 / 3 + 1 / 3 / 4], rtol=1e-6)


@pytest.mark.parametrize("key", [END_ID, "<|end|>"])
def test_a_policy_is_named_by_id_or_by_spelling(key: int | str) -> None:
    lm, _ = pair("local", specials={key: "end"})
    assert lm.ends == (END_ID,)


def test_a_policy_is_named_by_role() -> None:
    document = merged_tokenizer(MERGES, ["<|endoftext|>", "<|im_end|>"])
    tok = av.Tokenizer.load(json.dumps(document).encode())
    (turn_end,) = tok.vocabulary.ids_of_role("turn_end")
    lm = ByteLM(table(), tok, first_ids=[END_ID], specials={"turn_end": "end"})
    assert turn_end in lm.ends


def test_eos_ends_a_text_by_default() -> None:
    document = merged_tokenizer(MERGES, ["<|endoftext|>"])
    tok = av.Tokenizer.load(json.dumps(document).encode())
    assert (
        ByteLM(table(), tok, first_ids=[END_ID]).ends
        == tuple(tok.vocabulary.ids_of_role("eos"))
        != ()
    )


def test_other_policies_make_another_model_on_the_same_backend() -> None:
    lm, _ = pair("local")
    other = lm.with_specials({ord("b"): "end"})
    assert (other.ends, lm.ends) == ((ord("b"), END_ID), (END_ID,))
    assert other.backend is lm.backend
    assert other.law == lm.law


@pytest.mark.parametrize(
    ("specials", "words"),
    [
        ({END_ID: "stop"}, "is no choice"),
        ({"nobody": "end"}, "neither a role nor a token's spelling"),
        ({-1: "end"}, "is no id"),
        ({ROWS: "end"}, f"id {ROWS}, and the model has {ROWS} rows"),
        ({MARK: "latent"}, "latent under a canonical law"),
        ({PADDING: "text"}, "stands for no text"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_by_name(specials: Any, words: str) -> None:
    with pytest.raises(av.InvalidValue, match=words):
        pair("local", specials=specials)


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"law": "exact"}, "law"), ({"eps": 1.0}, "eps"), ({"budget": 0}, "eps")],
)
def test_a_law_and_its_bounds_are_checked(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(av.InvalidValue) as caught:
        ByteLM(table(), tokenizer(), first_ids=[END_ID], **changes)
    assert caught.value.field == field
    assert caught.value.fix


def test_a_tokenizer_without_an_id_before_texts_asks_for_one() -> None:
    with pytest.raises(av.InvalidValue, match="first_ids") as caught:
        ByteLM(table(), av.Tokenizer.load(json.dumps(merged_tokenizer(MERGES, [])).encode()))
    assert "first_ids" in caught.value.fix


def marginal(**options: Any) -> ByteLM:
    return ByteLM(table(), tokenizer(), law="marginal", first_ids=[END_ID], **options)


@pytest.mark.parametrize("text", [b"ab", b"aba", b"abab"])
def test_missing_mass_bounds_what_a_marginal_law_left_out(text: bytes) -> None:
    whole, cut = marginal(eps=0.0, budget=10**6), marginal(eps=0.0, budget=1)
    exact, state = np.exp(whole.start(text).logprobs()), cut.start(text)
    assert state.missing_mass > 0
    assert whole.start(text).missing_mass == 0
    distance = np.abs(np.exp(state.logprobs()) - exact).sum() / 2
    assert distance <= state.missing_mass
    # What is missing is a share of the whole mass, known and unknown.
    known, mass = np.exp(state.log_mass), np.exp(whole.start(text).log_mass)
    assert known * (1 - ATOL) <= mass <= known / (1 - state.missing_mass) * (1 + ATOL)


@pytest.mark.parametrize("number", ["logprobs", "log_mass", "score", "rows"])
def test_an_exact_marginal_law_refuses_numbers_over_its_eps(number: str) -> None:
    lm = marginal(eps=0.0, budget=1, exact=True)
    ask = {
        "logprobs": lambda: lm.start(b"aba").logprobs(),
        "log_mass": lambda: lm.start(b"aba").log_mass,
        "score": lambda: lm.score(b"aba"),
        "rows": lambda: lm.next_byte_logprobs(b"aba"),
    }[number]
    with pytest.raises(av.LimitExceeded, match="budget") as caught:
        ask()
    assert "raise budget" in caught.value.fix


def test_exact_refuses_a_tokenizer_without_a_streaming_form(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from anyvocab import _core

    class Reencoded:
        reencoded = "normalizer"

    monkeypatch.setattr(_core, "CoverModel", lambda *args, **options: Reencoded())
    with pytest.raises(av.UnsupportedTokenizer, match="normalizer"):
        ByteLM(table(), tokenizer(), first_ids=[END_ID], exact=True)
    with caplog.at_level(logging.WARNING, "anyvocab"):
        lm = ByteLM(table(), tokenizer(), first_ids=[END_ID])
    assert lm.reencoded == "normalizer"
    assert "normalizer" in caplog.text


def picks(state: Any, count: int) -> dict[tuple[int, ...], list[float]]:
    """Return the log masses of the covers at the middles of `count` equal parts of 0..1."""
    found: dict[tuple[int, ...], list[float]] = {}
    for at in range(count):
        cover = state.pick((at + 0.5) / count)
        found.setdefault(cover.tokens, []).append(cover.log_mass)
    return found


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("text", [b"a", b"ab", b"aba", b" ab"])
def test_covers_are_picked_by_their_share(law: Law, text: bytes) -> None:
    lm, definition = pair(law)
    expected = dict(definition.covers(text))
    whole, count = definition.log_mass(text), 1000
    found = picks(lm.start(text), count)
    assert found.keys() <= expected.keys()
    for tokens, log_mass in expected.items():
        share = np.exp(log_mass - whole)
        # The middles of n equal parts hit an interval of length s n * s times, give or take one.
        assert abs(len(found.get(tokens, [])) - count * share) <= 1 + count * ATOL
        agree(found.get(tokens, []), log_mass)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("text", [b"a", b"aba", b" ab"])
def test_covers_are_listed_with_their_mass_and_the_tokens_over_the_end(
    law: Law, text: bytes
) -> None:
    lm, definition = pair(law)
    single: dict[tuple[int, ...], float] = {}
    for cover in lm.start(text).covers(ROWS):
        if not cover.open:
            single[cover.tokens] = cover.log_mass
            continue
        tops = {(*cover.tokens, id): log_mass for id, log_mass in cover.tops}
        agree(cover.log_mass, np.logaddexp.reduce(list(tops.values())))
        single |= tops
    expected = dict(definition.covers(text))
    assert single.keys() == expected.keys()
    for tokens, log_mass in expected.items():
        agree(single[tokens], log_mass)


@pytest.mark.parametrize("u", [-0.1, 1.0, float("nan")])
def test_a_pick_outside_the_unit_interval_is_refused(u: float) -> None:
    lm, _ = pair("local")
    with pytest.raises(av.InvalidValue, match="u: must lie in"):
        lm.start(b"a").pick(u)


@pytest.mark.parametrize("law", LAWS)
def test_an_impossible_prefix_has_no_mass_and_can_be_rolled_back(law: Law) -> None:
    forbidden = {END_ID: "end", ord("x"): "forbid"}
    lm, _ = pair(law, specials=forbidden)
    before = lm.start(b"ab").logprobs()
    state = lm.start(b"abx")
    assert state.log_mass == -np.inf
    assert (state.logprobs() == -np.inf).all()
    assert state.pick(0.5) is None
    assert lm.score(b"x", prefix=b"ab") == -np.inf
    agree(state.rollback(1).logprobs(), before)


def test_a_fork_goes_its_own_way() -> None:
    lm, _ = pair("local")
    state = lm.start(b"a")
    fork = state.fork().push(b"b")
    assert (state.text, fork.text, len(fork)) == (b"a", b"ab", 2)
    agree(state.logprobs(), lm.start(b"a").logprobs())
    agree(fork.logprobs(), lm.start(b"ab").logprobs())


@pytest.mark.parametrize("more", [-1, 256, None, [97]])
def test_only_bytes_are_pushed(more: Any) -> None:
    lm, _ = pair("local")
    state = lm.start(b"a")
    with pytest.raises(av.InvalidValue):
        state.push(more)
    assert state.text == b"a"


@pytest.mark.parametrize("count", [-1, 2])
def test_only_bytes_that_are_there_are_taken_back(count: int) -> None:
    lm, _ = pair("local")
    with pytest.raises(av.InvalidValue, match="count"):
        lm.start(b"a").rollback(count)


def test_nodes_are_given_back_when_states_are_gone() -> None:
    lm, _ = pair("local")
    backend: Any = lm.backend
    lm.score_batch([b"abab", b"ba ab"] * 3)
    lm.next_byte_logprobs(b"ab aba")
    lm.sample(b"a", max_bytes=5)
    lm.score(b"a", prefix=b"x")  # the last evaluation gives back what the calls before left
    lm.contexts.evaluate([])
    assert backend.nodes <= 1 + 2 * 2  # the contexts of one short text at most


@pytest.mark.parametrize(
    "ask",
    [
        lambda lm: lm.score(5),
        lambda lm: lm.score_batch("ab"),
        lambda lm: lm.score_batch([b"a"], b"b"),
        lambda lm: lm.score_batch([b"a"], [b"b", b"c"]),
        lambda lm: lm.bits_per_byte(b""),
        lambda lm: lm.next_byte_logprobs(None),
    ],
)
def test_what_is_no_text_is_refused(ask: Any) -> None:
    lm, _ = pair("local")
    with pytest.raises(av.InvalidValue):
        ask(lm)


def test_bits_per_byte_is_the_mean_negative_log2() -> None:
    lm, definition = pair("local")
    expected = -definition.log_mass(b"aba") / 3 / np.log(2)
    assert lm.bits_per_byte(b"aba") == pytest.approx(expected, abs=ATOL)


def test_the_same_text_costs_about_a_context_per_byte() -> None:
    backend = table()
    lm = ByteLM(backend, tokenizer(), first_ids=[END_ID])
    text = b"ab ab ab ba ab aba"
    rows = lm.next_byte_logprobs(text)
    assert rows.shape == (len(text) + 1, 257)
    assert backend.evaluated <= len(text) + 1


def sums(rows: Sequence[Any]) -> list[float]:
    return [float(np.exp(row).sum()) for row in rows]


@pytest.mark.parametrize("law", LAWS)
def test_every_distribution_sums_to_one(law: Law) -> None:
    lm, _ = pair(law)
    assert sums(lm.next_byte_logprobs(b"ab \xc3x")) == pytest.approx([1.0] * 6, abs=ATOL)
