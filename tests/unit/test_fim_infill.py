"""Infilling: what a model is asked, where an answer ends, and the token-level modes."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import anyvocab as av
from anyvocab.bytelm import Completion, Ids
from anyvocab.bytelm.baselines import Sampler, generate, heal, prompt_ids, score_ids
from anyvocab.bytelm.fim import FimPrompt, FimTemplate
from anyvocab.bytelm.infill import Infill, infill, suffix_anchor
from anyvocab.testing import tiny_tokenizer

HE, LL, HELL, SPACE_HELL, END, MARK = 256, 257, 258, 259, 260, 261
TEMPLATE = FimTemplate("mine", "spm", 262, 263, 264, end_ids=(END,))
PSM = FimTemplate("mine", "psm", 262, 263, 264, end_ids=(END,))
HAN = "中".encode()

Logits = Callable[[tuple[int, ...]], Sequence[float]]


class Table:
    """A backend whose logits are a function of the context; handles are counted."""

    def __init__(self, rows: int, function: Logits) -> None:
        self.rows = rows
        self.max_context = None
        self.function = function
        self.nodes: dict[tuple[int, ...], int] = {}
        self.contexts: dict[int, tuple[int, ...]] = {}
        self.held: Counter[int] = Counter()

    def _node(self, context: tuple[int, ...]) -> int:
        node = self.nodes.setdefault(context, len(self.nodes))
        self.contexts[node] = context
        self.held[node] += 1
        return node

    def root(self, ids: Sequence[int]) -> int:
        return self._node(tuple(ids))

    def extend(self, parent: int, token: int) -> int:
        assert self.held[parent] > 0
        return self._node((*self.contexts[parent], token))

    def logits(self, nodes: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float64]]]:
        row = np.zeros(self.rows)
        for node in dict.fromkeys(nodes):
            assert self.held[node] > 0
            row[:] = self.function(self.contexts[node])
            yield node, row
            row[:] = np.nan  # a row is valid until the next item is asked for

    def release(self, node: int) -> None:
        assert self.held[node] > 0
        self.held[node] -= 1


class FakeLM:
    """A tiny model: its tokenizer, a table, and a scripted byte-level completion."""

    first_ids = (END,)
    ends: tuple[int, ...] = ()

    def with_specials(self, specials: object) -> Any:
        return self

    def __init__(self, function: Logits, *, rows: int = 270, answer: bytes = b"") -> None:
        document = tiny_tokenizer()
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        known: Any = document["added_tokens"]
        marks = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
        known += [
            {"id": 262 + at, "content": one, "special": True, **flags}
            for at, one in enumerate(marks)
        ]
        self.tokenizer = av.Tokenizer.load(json.dumps(document).encode())
        self.backend = Table(rows, function)
        self.answer = Completion(answer, -1.0, "end")
        self.asked: dict[str, Any] = {}

    def complete(self, context: Any, **options: Any) -> Completion:
        self.asked = {"context": context, **options}
        return self.answer


def follow(*wanted: int, then: int = END, rows: int = 270, start: int) -> Logits:
    """Return logits that want these ids behind a context of `start` ids, and `then` for ever."""

    def logits(context: tuple[int, ...]) -> Sequence[float]:
        row = [0.0] * rows
        at = len(context) - start
        row[wanted[at] if 0 <= at < len(wanted) else then] = 9.0
        return row

    return logits


def noise(seed: int, rows: int = 270) -> Logits:
    def logits(context: tuple[int, ...]) -> Sequence[float]:
        drawn: list[float] = (
            np.random.default_rng([seed, *context]).normal(0, 3, size=rows).tolist()
        )
        return drawn

    return logits


# The anchor -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "anchor"),
    [
        (b"\n    return x\nmore", b"\n    return x\n"),  # the first line that is not blank
        (b"\n\n\n  total += 1\nmore", b"\n\n\n  total += 1\n"),
        (b")\n    return x\nmore", b")\n    return x\n"),  # `)` alone is everywhere
        (b"):\n  x\n  y = 1\nmore", b"):\n  x\n  y = 1\n"),
        (b"return", b"return"),  # no newline at the end of the file
        (b")\n", None),
        (b"   \n\n", None),
        (b"", None),
    ],
)
def test_the_anchor_is_the_suffix_up_to_a_line_with_enough_on_it(
    suffix: bytes, anchor: bytes | None
) -> None:
    assert suffix_anchor(suffix) == anchor


# The bytes mode ---------------------------------------------------------------------------------


def test_the_model_is_asked_with_the_templates_parts_and_the_anchor() -> None:
    lm = FakeLM(noise(0), answer=b"middle")
    found = infill(lm, b"pre", "\n    return é\n", template=TEMPLATE, seed=5, max_new_tokens=7)
    assert lm.asked["context"] == [
        Ids(lm.first_ids),
        Ids([262, 263]),
        "\n    return é\n".encode(),
        Ids([264]),
        b"pre",
    ]
    assert lm.asked["stop"] == ["\n    return é\n".encode()]
    assert (lm.asked["seed"], lm.asked["max_new_tokens"]) == (5, 7)
    assert found == Infill(b"middle", -1.0, "end", TEMPLATE, "bytes")


def test_what_runs_into_the_suffix_is_cut_off_before_it() -> None:
    lm = FakeLM(noise(0), answer=b"x = 1\n    return x\nand more")
    assert infill(lm, b"", b"\n    return x\n", template=TEMPLATE).bytes == b"x = 1"
    assert infill(lm, b"", b"\n    return x\n", template=TEMPLATE).finish == "stop"


def test_with_stop_end_the_suffix_stops_nothing() -> None:
    lm = FakeLM(noise(0), answer=b"x\n    return x\n")
    found = infill(lm, b"", b"\n    return x\n", template=TEMPLATE, stop="end")
    assert (found.bytes, found.finish) == (b"x\n    return x\n", "end")
    assert lm.asked["stop"] == []


def test_the_first_of_several_stop_strings_counts() -> None:
    lm = FakeLM(noise(0), answer=b"one;two\n    return x\n")
    found = infill(lm, b"", b"\n    return x\n", template=TEMPLATE, stop_strings=[b"two", b";"])
    assert (found.bytes, found.finish) == (b"one", "stop")


def test_the_rest_of_the_suffixs_first_character_is_the_suffixs() -> None:
    # the middle has to end with the first byte of a character whose other two begin the suffix
    lm = FakeLM(noise(0), answer=b"x" + HAN)
    found = infill(lm, b"", HAN[1:] + b" = 1\n", template=TEMPLATE)
    assert found.bytes == b"x" + HAN[:1]
    assert b" = 1\n" in lm.asked["context"]


def test_the_first_bytes_of_the_middle_complete_the_prefixs_last_character() -> None:
    lm = FakeLM(noise(0), answer=HAN[1:] + b"x")
    assert infill(lm, HAN[:1], b"", template=PSM).bytes == HAN[1:] + b"x"
    assert lm.asked["context"] == [Ids(lm.first_ids), Ids([262, 263, 264]), HAN[:1]]


def test_the_template_is_found_where_none_is_given() -> None:
    lm = FakeLM(noise(0), answer=b"")
    assert infill(lm, b"a", b"b").template.label == "starcoder/psm"
    assert infill(lm, b"a", b"b", template="spm").template.label == "starcoder/spm"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "chars"}, "'chars' is no choice; bytes, tokens, healing"),
        ({"stop": "line"}, "'line' is no choice"),
        ({"mode": "tokens", "temperature": -1.0}, "must be 0 .greedy. or a positive number"),
        ({"mode": "tokens", "top_p": 0.0}, r"must lie in \(0, 1\]"),
        ({"mode": "tokens", "top_k": 0}, "must be at least 1"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(av.InvalidValue, match=message):
        infill(FakeLM(noise(0)), b"a", b"b", template=TEMPLATE, **options)


def test_an_infill_is_plain_data() -> None:
    found = Infill(b"\xffx", -0.5, "end", TEMPLATE, "tokens")
    assert json.loads(json.dumps(found.to_dict())) == {
        "text": "\\xffx",
        "logprob": -0.5,
        "finish": "end",
        "template": "mine/spm",
        "mode": "tokens",
    }


# The token-level modes --------------------------------------------------------------------------


def test_the_tokens_mode_goes_on_from_the_prompts_own_tokens() -> None:
    # <end> | <pre> <suf> . <mid> | he l, then the model wants `l`, `o` and its end
    lm = FakeLM(follow(ord("l"), ord("o"), start=7))
    found = infill(lm, b"hel", b".", template=TEMPLATE, mode="tokens")
    assert (found.bytes, found.finish) == (b"lo", "end")
    assert lm.backend.contexts[0] == (END, 262, 263, ord("."), 264, HE, ord("l"))


def test_healing_spells_the_prompts_end_anew() -> None:
    # of `x hel`, the tokens ` `, `he`, `l` are taken off: ` hell` begins with their bytes
    lm = FakeLM(follow(SPACE_HELL, ord("o"), start=6))
    found = infill(lm, b"x hel", b".", template=TEMPLATE, mode="healing")
    assert lm.backend.contexts[0] == (END, 262, 263, ord("."), 264, ord("x"))
    assert (found.bytes, found.finish) == (b"lo", "end")


def test_healing_may_spell_the_prompts_end_with_several_tokens() -> None:
    lm = FakeLM(follow(ord(" "), ord("h"), ord("e"), LL, start=6))
    assert infill(lm, b"x hel", b".", template=TEMPLATE, mode="healing").bytes == b"l"


def test_healing_chooses_among_ids_that_agree_with_the_prompt_alone() -> None:
    # the model wants its end and nothing else, all others alike: until ` hel` is spelled it cannot
    # end, and the smallest ids that agree are single bytes
    lm = FakeLM(follow(start=0, then=END))
    found = infill(lm, b"x hel", b".", template=TEMPLATE, mode="healing")
    assert max(lm.backend.contexts.values(), key=len)[6:] == tuple(b" hel")
    assert (found.bytes, found.finish) == (b"", "end")


def test_healing_a_closed_prompt_spells_its_end_behind_the_middle_mark() -> None:
    lm = FakeLM(follow(SPACE_HELL, ord("o"), start=6))
    found = infill(lm, b"x hel", b".", template=PSM, mode="healing")
    assert lm.backend.contexts[0] == (END, 262, ord("x"), 263, ord("."), 264)
    assert (found.bytes, found.finish) == (b"lo", "end")


def test_the_tokens_mode_leaves_a_closed_prompt_as_it_is() -> None:
    lm = FakeLM(follow(ord("l"), start=9))
    assert infill(lm, b"x hel", b".", template=PSM, mode="tokens").bytes == b"l"
    context = (END, 262, ord("x"), ord(" "), HE, ord("l"), 263, ord("."), 264)
    assert lm.backend.contexts[0] == context


def test_a_closed_prompts_end_opens_the_middle_of_the_bytes_mode() -> None:
    lm = FakeLM(noise(0), answer=b"lo")
    assert infill(lm, b"x hel", b".", template=PSM).bytes == b"lo"
    assert lm.asked["context"][1:] == [Ids([262]), b"x", Ids([263]), b".", Ids([264]), b" hel"]


def test_healing_a_closed_prompt_completes_a_character_cut_in_two() -> None:
    # its bytes stand behind the middle mark; no longer token begins with them, so they stay there
    lm = FakeLM(follow(HAN[2], start=7))
    found = infill(lm, HAN[:2], b".", template=PSM, mode="healing")
    assert lm.backend.contexts[0] == (END, 262, 263, ord("."), 264, *HAN[:2])
    assert (found.bytes, found.finish) == (HAN[2:], "end")


@pytest.mark.parametrize("backoff", [1, 2, 3, 4, 7])
def test_healing_takes_off_as_much_as_some_token_goes_on_from(backoff: int) -> None:
    # by definition: the most tokens, `backoff` at most, whose bytes are a proper beginning of one
    tokenizer = FakeLM(noise(0)).tokenizer
    vocabulary = tokenizer.vocabulary
    tokens = [vocabulary.token_bytes(id) or b"" for id in vocabulary]
    rng = random.Random(backoff)
    for _ in range(200):
        text = "".join(rng.choice([" ", "h", "e", "l", "x"]) for _ in range(rng.randint(0, 9)))
        ids = tokenizer.encode(text).tolist()
        loose = rng.randint(0, len(ids))
        expected = (ids, b"")
        for taken in range(1, min(backoff, loose) + 1):
            end = tokenizer.decode(ids[-taken:])
            if any(one.startswith(end) and one != end for one in tokens):
                expected = (ids[:-taken], end)
        assert heal(tokenizer, ids, loose, backoff=backoff) == expected


@pytest.mark.parametrize("pending", [b"", b"h", b" hel", b"hello"])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_what_is_generated_spells_what_is_pending_first(pending: bytes, temperature: float) -> None:
    for seed in range(20):
        lm = FakeLM(noise(seed))
        sampler = Sampler(temperature, seed=seed)
        found = generate(lm, [END], pending=pending, ends=(END,), sampler=sampler, max_new_tokens=8)
        assert lm.tokenizer.decode(found.ids) == pending + found.bytes


def test_a_generations_logprob_is_the_sum_of_its_choices() -> None:
    lm = FakeLM(noise(4))
    found = generate(lm, [END, 65], ends=(END,), max_new_tokens=6)
    assert (found.finish, len(found.ids)) == ("length", 6)
    expected = 0.0
    for at, id in enumerate(found.ids):
        row = np.array(noise(4)((END, 65, *found.ids[:at])))
        # text and the end may follow; no other marks, no padded rows
        expected += row[id] - math.log(np.exp(row[[*range(END), END]]).sum())
    # float64 sums of 261 terms around e^9: far below 1e-9
    assert found.logprob == pytest.approx(expected, abs=1e-9)
    assert score_ids(lm, [END, 65], found.ids, end=(END,)) == pytest.approx(expected, abs=1e-9)


def test_a_score_of_pending_bytes_is_among_the_ids_that_spell_them() -> None:
    lm = FakeLM(noise(5))
    vocabulary = lm.tokenizer.vocabulary
    ids = [HE, LL, ord("o")]
    expected, pending = 0.0, b"hel"
    for at, id in enumerate(ids):
        row = np.array(noise(5)((END, *ids[:at])))
        allowed = [
            other
            for other in range(len(vocabulary))
            if (token := vocabulary.token_bytes(other))
            and (token.startswith(pending) or pending.startswith(token))
        ]
        allowed = allowed if pending else [*range(END), END]
        expected += row[id] - math.log(np.exp(row[allowed]).sum())
        pending = pending[len(vocabulary.token_bytes(id) or b"") :]
    found = score_ids(lm, [END], ids, pending=b"hel", end=(END,))
    assert found == pytest.approx(expected, abs=1e-9)


def test_every_node_is_released_as_often_as_it_was_returned() -> None:
    lm = FakeLM(noise(1))
    generate(lm, [END], ends=(END,), max_new_tokens=5)
    score_ids(lm, [END], [65, 66, 67], end=(END,))
    assert not any(lm.backend.held.values())


def test_marks_and_padded_rows_are_never_written() -> None:
    def logits(context: tuple[int, ...]) -> Sequence[float]:
        row = [0.0] * 270
        row[MARK] = row[262] = row[269] = 50.0
        row[66] = 1.0
        return row

    found = generate(FakeLM(logits), [END], ends=(END,), max_new_tokens=3)
    assert found.bytes == b"BBB"


def test_what_is_over_the_most_bytes_is_cut_off() -> None:
    lm = FakeLM(follow(start=0, then=HELL))
    found = generate(lm, [END], ends=(END,), max_bytes=6)
    assert (found.bytes, found.finish) == (b"hellhe", "length")


def test_a_stop_string_is_found_across_tokens() -> None:
    lm = FakeLM(follow(HELL, ord("o"), HE, start=1))
    found = generate(lm, [END], ends=(END,), stop=(b"lo",))
    assert (found.bytes, found.finish) == (b"hello", "stop")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_a_named_error(bad: float) -> None:
    def logits(context: tuple[int, ...]) -> Sequence[float]:
        return [bad] * 270

    lm = FakeLM(logits)
    with pytest.raises(av.NumericsError, match="largest logit"):
        generate(lm, [END], ends=(END,))
    assert not any(lm.backend.held.values())


def test_prompts_are_encoded_piece_by_piece() -> None:
    lm = FakeLM(noise(0))
    prompt = FimPrompt(((262,), b"he", (263,), b"ll", (264,)))
    assert prompt_ids(lm, prompt) == [END, 262, HE, 263, LL, 264]


# Choosing ---------------------------------------------------------------------------------------


def drawn(sampler: Sampler, weights: Sequence[float], draws: int = 4000) -> Counter[int]:
    generator = np.random.default_rng(0)
    with np.errstate(divide="ignore"):
        logprobs = np.log(np.array(weights, dtype=np.float64))
    return Counter(sampler.choose(logprobs, generator) for _ in range(draws))


WEIGHTS = [0.1, 0.0, 0.5, 0.3, 0.1]


def test_temperature_0_takes_the_most_probable_and_the_first_of_equals() -> None:
    assert drawn(Sampler(), [0.2, 0.4, 0.4], 10) == {1: 10}


def test_sampling_follows_the_probabilities() -> None:
    counts = drawn(Sampler(temperature=1.0), WEIGHTS)
    assert counts[1] == 0
    for at, weight in enumerate(WEIGHTS):
        # five standard deviations of a binomial count
        assert abs(counts[at] - 4000 * weight) <= 5 * math.sqrt(4000 * weight * (1 - weight))


def test_temperature_sharpens() -> None:
    counts = drawn(Sampler(temperature=0.5), WEIGHTS)  # squares: 1, 0, 25, 9, 1 of 36
    assert abs(counts[2] - 4000 * 25 / 36) <= 5 * math.sqrt(4000 * 25 / 36 * 11 / 36)


@pytest.mark.parametrize(
    ("sampler", "kept"),
    [
        (Sampler(1.0, top_k=1), {2}),
        (Sampler(1.0, top_k=2), {2, 3}),
        (Sampler(1.0, top_p=0.4), {2}),
        (Sampler(1.0, top_p=0.7), {2, 3}),
        (Sampler(1.0, top_p=0.85), {0, 2, 3}),
        (Sampler(1.0, top_k=3, top_p=0.99), {0, 2, 3}),
    ],
)
def test_top_k_and_top_p_leave_the_most_probable(sampler: Sampler, kept: set[int]) -> None:
    assert set(drawn(sampler, WEIGHTS)) == kept


def test_a_seed_decides_a_generation() -> None:
    first, again, other = (
        generate(FakeLM(noise(9)), [END], sampler=Sampler(1.0, seed=seed), max_new_tokens=20)
        for seed in (1, 1, 2)
    )
    assert first == again != other
