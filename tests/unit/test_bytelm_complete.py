"""Completions behind one cover: which distribution they have, greedy ones, where they end."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab.backends import TableBackend
from anyvocab.bytelm import ByteLM, Each, Ids
from anyvocab.bytelm.lm import Law
from anyvocab.testing import merged_tokenizer
from anyvocab.testing.enumeration import Enumeration

MERGES = [("a", "b"), ("ab", "a"), ("b", "a"), ("a", "Ġ")]
END_ID, MARK, PADDING = 260, 261, 262
ROWS = 263
LETTERS = set(b"ab ")


def pair(law: Law, specials: Any = None) -> tuple[ByteLM, Enumeration]:
    """Return a model that writes a, b and spaces, mostly, and the enumeration of its law."""
    tokenizer = av.Tokenizer.load(json.dumps(merged_tokenizer(MERGES)).encode())
    random = TableBackend(ROWS, seed=5, scale=1.5)
    spelled = [tokenizer.vocabulary.token_bytes(id) or b"" for id in range(PADDING)] + [b""]
    out = np.array([bool(set(one) - LETTERS) for one in spelled])

    def row(context: tuple[int, ...]) -> Any:
        # Rounded as the core takes logits, so that generation sees the same numbers.
        return np.where(out, -30.0, random.row(context)).astype(np.float32)

    backend = TableBackend(ROWS, row)
    lm = ByteLM(
        backend,
        tokenizer,
        law=law,
        first_ids=[END_ID],
        specials=specials or {END_ID: "end"},
        eps=0.0,
        budget=10**6,
    )
    return lm, Enumeration(
        backend, tokenizer, law, root=[END_ID], ends=[END_ID], forbidden=[MARK, PADDING]
    )


def own_steps(definition: Enumeration, tokens: tuple[int, ...]) -> dict[int, float]:
    """Return the model's own log-probabilities behind tokens, whatever the law."""
    law, definition.law = definition.law, "marginal"
    try:
        return definition._all_steps(tokens)
    finally:
        definition.law = law


def first_bytes(definition: Enumeration, text: bytes) -> Any:
    """Return how a completion begins: a cover by its share, then the model's own next token."""
    whole = definition.log_mass(text)
    shares = np.zeros(257)
    for tokens, log_mass in definition.covers(text):
        over = definition.spell(tokens)[len(text) :]
        if over:
            shares[over[0]] += math.exp(log_mass - whole)
            continue
        for id, step in own_steps(definition, tokens).items():
            at = 256 if id == END_ID else definition.spell([id])[0]
            shares[at] += math.exp(log_mass - whole + step)
    return shares


def chi_square(counts: Any, shares: Any) -> None:
    """As in test_bytelm_sample: refused with a probability of 1e-6 at most where all is well."""
    expected = np.asarray(shares) * counts.sum()
    large = expected >= 5
    observed = np.append(counts[large], counts[~large].sum())
    expected = np.append(expected[large], expected[~large].sum())
    observed, expected = observed[expected > 0], expected[expected > 0]
    k, x = len(expected) - 1, 14.0
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert statistic <= k + 2 * math.sqrt(k * x) + 2 * x


@pytest.mark.parametrize("text", [b"a", b"ab", b"bab"])
def test_under_the_marginal_law_a_completion_begins_as_the_law_says(text: bytes) -> None:
    lm, definition = pair("marginal")
    # Products and sums of under 2 * ROWS terms on both sides, in another order.
    np.testing.assert_allclose(
        first_bytes(definition, text), np.exp(lm.start(text).logprobs()), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("law", ["local", "canonical", "marginal"])
def test_completions_begin_by_a_cover_and_the_models_own_tokens(law: Law) -> None:
    lm, definition = pair(law)
    counts = np.zeros(257)
    for seed in range(1200):
        one = lm.complete(b"ab", max_bytes=1, max_new_tokens=1, temperature=1.0, seed=seed)
        counts[one.bytes[0] if one.bytes else 256] += 1
        assert one.finish == ("length" if one.bytes else "end")
    chi_square(counts, first_bytes(definition, b"ab"))


def test_under_the_marginal_law_completions_are_drawn_as_samples_are() -> None:
    lm, _ = pair("marginal")
    found: Counter[tuple[bytes, bool]] = Counter()
    count = 1200
    for seed in range(count):
        one = lm.complete(b"a", max_bytes=3, max_new_tokens=9, temperature=1.0, seed=seed)
        found[one.bytes, one.finish == "end"] += 1
    shares = [math.exp(lm.score(text, b"a", end=end)) for text, end in sorted(found)]
    counts = [found[one] for one in sorted(found)]
    chi_square(np.array([*counts, 0]), np.array([*shares, max(0.0, 1 - sum(shares))]))


@pytest.mark.parametrize("law", ["local", "canonical", "marginal"])
@pytest.mark.parametrize("text", [b"a", b"ab", b"aba", b"ba "])
def test_a_greedy_completion_goes_on_from_the_weightiest_cover(law: Law, text: bytes) -> None:
    lm, definition = pair(law)
    tokens, log_mass = max(definition.covers(text), key=lambda cover: cover[1])
    logprob, written = log_mass - definition.log_mass(text), list(tokens)
    finish = "length"
    for _ in range(4):
        steps = own_steps(definition, tuple(written))
        id = max(steps, key=lambda id: steps[id])
        logprob += steps[id]
        if id == END_ID:
            finish = "end"
            break
        written.append(id)
    one = lm.complete(text, max_new_tokens=4)
    assert one.bytes == definition.spell(written)[len(text) :]
    assert (one.finish, one.tokens) == (finish, len(written) - len(tokens))
    assert one.logprob == pytest.approx(logprob, abs=1e-10)  # ten sums of under 600 terms


def test_the_draw_of_the_cover_does_not_know_the_temperature() -> None:
    lm, definition = pair("local")
    whole = definition.log_mass(b"a")
    shares: Counter[bytes] = Counter()
    for tokens, log_mass in definition.covers(b"a"):
        shares[definition.spell(tokens)[1:]] += math.exp(log_mass - whole)  # type: ignore[assignment]
    overs = sorted(shares)
    found = Counter(
        lm.complete(b"a", max_new_tokens=0, temperature=0.2, seed=seed).bytes for seed in range(800)
    )
    assert found.keys() <= shares.keys()
    chi_square(np.array([found[one] for one in overs]), np.array([shares[one] for one in overs]))


def test_no_new_tokens_leave_the_bytes_over_the_end_and_their_share() -> None:
    lm, definition = pair("local")
    expected = {
        definition.spell(tokens)[1:]: log_mass - definition.log_mass(b"a")
        for tokens, log_mass in definition.covers(b"a")
    }
    for seed in range(20):
        one = lm.complete(b"a", max_new_tokens=0, temperature=1.0, seed=seed)
        assert one.logprob == pytest.approx(expected[one.bytes], abs=1e-10)
        assert (one.finish, one.tokens) == ("length", 0)


@pytest.mark.parametrize("limit", [0, 1, 2, 5])
def test_a_byte_limit_cuts_the_same_completion(limit: int) -> None:
    lm, _ = pair("local")
    for seed in range(15):
        free = lm.complete(b"a", max_new_tokens=12, temperature=1.0, seed=seed)
        cut = lm.complete(b"a", max_new_tokens=12, max_bytes=limit, temperature=1.0, seed=seed)
        assert cut.bytes == free.bytes[:limit]
        if len(free.bytes) > limit:
            assert cut.finish == "length"


@pytest.mark.parametrize("stop", [[b"ab"], [b"b", b"ab"], [b"bb", b" a"]])
@pytest.mark.parametrize("limit", [None, 4])
def test_a_completion_ends_before_the_stop_string_that_is_complete_first(
    stop: list[bytes], limit: int | None
) -> None:
    lm, _ = pair("local")
    stopped = 0
    for seed in range(25):
        options: dict[str, Any] = {"max_new_tokens": 12, "temperature": 1.0, "seed": seed}
        free = lm.complete(b"a", **options)
        cut = lm.complete(b"a", stop=[b"", *stop], max_bytes=limit, **options)
        text, finish = free.bytes[:limit], None
        for end in range(len(text) + 1):
            ending = [one for one in stop if text[:end].endswith(one)]
            if ending:
                text, finish = text[: end - max(map(len, ending))], "stop"
                break
        assert cut.bytes == text
        assert (cut.finish == "stop") == (finish == "stop")
        stopped += finish == "stop"
    assert stopped > 3


def test_a_stop_string_may_begin_in_the_token_over_the_end() -> None:
    lm, _ = pair("local")
    # The cover `a ` reaches a space over the end; the stop string begins with it.
    found = [
        seed
        for seed in range(60)
        if lm.complete(b"a", max_new_tokens=0, temperature=1.0, seed=seed).bytes == b" "
    ]
    ended = 0
    for seed in found:
        options: dict[str, Any] = {"max_new_tokens": 6, "temperature": 1.0, "seed": seed}
        free = lm.complete(b"a", **options).bytes
        if free.startswith(b" b"):
            assert lm.complete(b"a", stop=[b" b"], **options).bytes == b""
            ended += 1
    assert ended


@pytest.mark.parametrize("policy", ["forbid", "drop"])
def test_forbidden_and_dropped_tokens_of_text_are_not_written(policy: str) -> None:
    free, _ = pair("local")
    with_b = [ord("b"), *range(256, 259)]  # b, ab, aba, ba
    barred, _ = pair("local", {END_ID: "end"} | dict.fromkeys(with_b, policy))
    assert barred.barred == tuple(with_b)
    for lm, written in ((free, True), (barred, False)):
        texts = [
            lm.complete(b" ", max_new_tokens=8, temperature=1.0, seed=seed).bytes
            for seed in range(20)
        ]
        assert (b"b" in b"".join(texts)) == written


def test_a_completion_stands_behind_raw_ids() -> None:
    lm, _ = pair("local")
    one = lm.complete([Ids([END_ID, ord("b")]), b"a"], max_new_tokens=3)
    lm_at = ByteLM(
        lm.backend,
        lm.tokenizer,
        first_ids=[END_ID, ord("b")],
        specials={END_ID: "end"},
    )
    assert one == lm_at.complete(b"a", max_new_tokens=3)


@pytest.mark.parametrize("field", ["max_new_tokens", "max_bytes"])
def test_negative_limits_are_refused(field: str) -> None:
    lm, _ = pair("local")
    options: dict[str, Any] = {field: -1}
    with pytest.raises(av.InvalidValue, match=f"{field}: must be at least 0"):
        lm.complete(b"a", **options)


def test_while_a_completion_is_written_only_its_own_contexts_live() -> None:
    lm, _ = pair("marginal")
    backend = lm.backend
    assert isinstance(backend, TableBackend)
    path = 1 + 4 + 2  # the fixed id, at most a token for each byte, and two that are written
    state = lm.start(b"abab")
    state.logprobs()
    assert backend.nodes > path  # those of all covers
    del state
    alive: list[int] = []
    lm.complete(b"abab", max_new_tokens=3, heard=lambda _: alive.append(backend.nodes))
    assert max(alive) <= path
    assert backend.nodes == 0


def test_a_completion_of_one_model_refuses_contexts_of_many() -> None:
    lm, _ = pair("local")
    with pytest.raises(av.InvalidValue, match="each member"):
        lm.complete(Each([b"a"]))


def test_a_completion_tells_its_text_and_is_plain_data() -> None:
    from anyvocab.bytelm import Completion

    one = Completion(b"a\xff", -1.5, "stop", 2)
    assert one.text == "a\ufffd"
    assert json.loads(json.dumps(one.to_dict())) == {
        "text": "a\\xff",
        "logprob": -1.5,
        "finish": "stop",
        "tokens": 2,
    }


def test_a_completion_ends_where_the_longest_context_of_the_model_does() -> None:
    tokenizer = av.Tokenizer.load(json.dumps(merged_tokenizer(MERGES)).encode())
    after = np.where(np.arange(ROWS) == ord("c"), 9.0, 0.0)
    backend = TableBackend(ROWS, lambda _: after, max_context=6)
    lm = ByteLM(backend, tokenizer, first_ids=[END_ID], specials={END_ID: "end"})
    one = lm.complete(b"xyz", max_new_tokens=50)
    # The first id and x, y, z leave room for two more; a third is written behind them.
    assert (one.bytes, one.finish, one.tokens) == (b"ccc", "length", 3)
    with pytest.raises(av.LimitExceeded, match="at most 6"):
        lm.complete(b"xyzxyz", max_new_tokens=50)


@pytest.mark.parametrize("law", ["local", "marginal"])
def test_a_sample_ends_where_the_longest_context_of_the_model_does(law: Law) -> None:
    tokenizer = av.Tokenizer.load(json.dumps(merged_tokenizer(MERGES)).encode())
    after = np.where(np.arange(ROWS) == ord("c"), 9.0, -np.inf)
    backend = TableBackend(ROWS, lambda _: after, max_context=6)
    lm = ByteLM(backend, tokenizer, law=law, first_ids=[END_ID], specials={END_ID: "end"})
    one = lm.sample(b"", max_bytes=50)
    assert (one.bytes, one.finish) == (b"cccccc", "length")
    assert b"".join(lm.stream(b"", max_bytes=50, stop=[b"zzzz"])) == one.bytes
    two = lm.sample_batch([b"", b"cc"], max_bytes=50)
    assert [sample.bytes for sample in two] == [b"cccccc", b"cccc"]
    with pytest.raises(av.LimitExceeded, match="at most 6"):
        lm.sample(b"cccccccc", max_bytes=50)
