"""Infilling evaluated: the same cuts for all modes, counted, with intervals."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab.bytelm import Completion, Ids
from anyvocab.bytelm.fim import FimTemplate
from anyvocab.bytelm.infill import infill
from anyvocab.evaluate.bootstrap import Bootstrap
from anyvocab.evaluate.infilling import evaluate_infilling, evaluate_problems
from anyvocab.evaluate.infilling_cases import InfillingCase, cut_cases, read_code
from anyvocab.evaluate.infilling_problems import Problem
from anyvocab.evaluate.infilling_results import rates
from anyvocab.evaluate.infilling_sandbox import SandboxLimits

TEXT = (
    "import os\n\n\ndef read(path):\n    with open(path) as file:\n        return file.read()\n\n\n"
    "class Café:\n\tnamen = '中文'  # two\n\n\tdef size(self, value):\n\t\treturn len(value)\n"
).encode()
DOCUMENTS = [("a.py", TEXT), ("b.py", TEXT[40:] + b"no newline at its end")]
TEMPLATE = FimTemplate("mine", "spm", 4092, 4093, 4094, end_ids=(4091,))
FEW = Bootstrap(resamples=200)


@pytest.fixture(scope="module")
def tokenizer() -> av.Tokenizer:
    return av.Tokenizer.load("pico:code-4k")


# Cuts -------------------------------------------------------------------------------------------


def test_prefix_middle_and_suffix_are_the_document(tokenizer: av.Tokenizer) -> None:
    for case in cut_cases(DOCUMENTS, count=8, tokenizer=tokenizer):
        name, _, at = case.name.partition(":")
        data = dict(DOCUMENTS)[name]
        assert case.prefix + case.middle + case.suffix == data
        assert len(case.prefix) == int(at)
        assert case.middle
        assert b"\n" not in case.middle


def test_cuts_inside_tokens_are_inside_tokens(tokenizer: av.Tokenizer) -> None:
    cases = cut_cases(DOCUMENTS, kinds=["tokens"], count=20, tokenizer=tokenizer)
    assert len(cases) > 5
    for case in cases:
        text = case.prefix + case.middle + case.suffix
        offsets = tokenizer.encode_with_offsets(text, specials="text").offsets
        assert any(start < len(case.prefix) < end for start, end in offsets.tolist())


def test_cuts_at_lines_begin_behind_a_newline_with_the_indentation() -> None:
    cases = cut_cases(DOCUMENTS, kinds=["lines"], count=20)
    assert all(case.prefix == b"" or case.prefix.endswith(b"\n") for case in cases)
    assert any(case.middle.startswith((b"    ", b"\t")) for case in cases)


def test_cuts_at_bytes_fall_inside_characters_too() -> None:
    han = [("x", "中文中文中文\n".encode() * 40)]
    starts = {len(case.prefix) % 19 for case in cut_cases(han, kinds=["bytes"], count=40)}
    assert any(start % 3 for start in starts)


def test_some_middles_reach_the_lines_end_and_some_do_not() -> None:
    documents = [("x", b"def function(argument, other_argument, third_argument):\n" * 60)]
    cases = cut_cases(documents, kinds=["bytes"], count=60)
    at_end = sum(case.suffix.startswith(b"\n") for case in cases)
    assert 0.3 * 60 < at_end < 60


def test_the_seed_decides_the_cuts(tokenizer: av.Tokenizer) -> None:
    first, again, other = (
        cut_cases(DOCUMENTS, count=5, seed=seed, tokenizer=tokenizer) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_long_texts_are_shown_in_part_and_at_lines() -> None:
    documents = [("x", b"one = 1\n" * 500)]
    (case, *_) = cut_cases(
        documents, kinds=["lines"], count=1, seed=3, prefix_bytes=100, suffix_bytes=50
    )
    assert 80 < len(case.prefix) <= 100
    assert case.prefix.startswith(b"one")
    assert len(case.suffix) <= 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["words"]}, "'words' is no kind"),
        ({"kinds": ["tokens"]}, "needed to cut inside tokens"),
        ({"kinds": ["bytes"], "count": 0}, "count: must be positive"),
        ({"kinds": ["bytes"], "prefix_bytes": 0}, "prefix_bytes: must be positive"),
    ],
)
def test_cuts_that_cannot_be_made_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(av.InvalidValue, match=message):
        cut_cases(DOCUMENTS, **options)


def test_documents_without_a_line_are_refused() -> None:
    with pytest.raises(av.InvalidValue, match="no line is long enough"):
        cut_cases([("a", b"x\n}\n")], kinds=["bytes"])


def test_a_folders_texts_are_read_in_order(tmp_path: Path) -> None:
    for name, data in {
        "b.py": b"b", "a/c.py": b"c", "a/d.txt": b"d", ".git/e.py": b"e", "f.py": b"\0f",
        "g.py": b"",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert [name for name, _ in read_code(tmp_path)] == ["a/c.py", "a/d.txt", "b.py"]
    assert read_code(tmp_path, suffixes=[".py"]) == [("a/c.py", b"c"), ("b.py", b"b")]
    assert read_code(tmp_path / "b.py") == [("b.py", b"b")]
    with pytest.raises(av.SourceNotFound, match="no text in it"):
        read_code(tmp_path, suffixes=[".rs"])
    with pytest.raises(av.SourceNotFound, match="does not exist"):
        read_code(tmp_path / "x")


# Scores -----------------------------------------------------------------------------------------


class Scripted:
    """A model whose byte-level answers are given, by the prompt's prefix."""

    first_ids = (4091,)
    ends: tuple[int, ...] = ()

    def with_specials(self, specials: object) -> Any:
        return self

    def __init__(self, tokenizer: av.Tokenizer, answer: Callable[[bytes, int], bytes]) -> None:
        self.tokenizer = tokenizer
        self.answer = answer

    def complete(self, context: Sequence[Ids | bytes], *, seed: int, **_: Any) -> Completion:
        prefix = context[-1] if isinstance(context[-1], bytes) else b""
        return Completion(self.answer(prefix, seed), -2.0, "end")

    def score(self, text: bytes, *, prefix: Sequence[Ids | bytes]) -> float:
        assert prefix[:2] == [Ids([4091]), Ids([4092, 4093])]
        return -math.log(2) * 3 * len(text)  # three bits for every byte


def cases_of(middles: Sequence[bytes], kind: Any = "bytes") -> list[InfillingCase]:
    return [
        InfillingCase(f"x:{at}", kind, b"%d " % at, middle, b"\n")
        for at, middle in enumerate(middles)
    ]


def test_exact_match_matched_bytes_and_bits_are_over_all_cases(tokenizer: av.Tokenizer) -> None:
    cases = [*cases_of([b"abcd"] * 3), *cases_of([b"abcdef"], "lines")]
    answers = {b"0 ": b"abcd", b"1 ": b"abxx", b"2 ": b"abcde"}
    lm = Scripted(tokenizer, lambda prefix, _: answers[prefix])
    found = evaluate_infilling(lm, cases, modes=["bytes"], template=TEMPLATE, bootstrap=FEW)
    whole, cut, lines = (found.score("bytes", kind) for kind in (None, "bytes", "lines"))
    # answers 0 and the line's are alike: `abcd` of `abcdef` is a beginning, not a match
    assert (whole.cases, whole.exact.value) == (4, 1 / 4)
    assert (cut.exact.value, lines.exact.value) == (1 / 3, 0.0)
    assert whole.matched.value == (4 + 2 + 4 + 4) / 18
    assert lines.matched.value == 4 / 6
    assert whole.bits_per_byte is not None
    assert whole.bits_per_byte.value == pytest.approx(3.0, rel=1e-12)
    assert whole.exact.interval is None  # four cases say nothing
    assert whole.finishes == {"end": 4}


def test_intervals_are_made_of_the_same_draws_for_all_modes() -> None:
    rng = np.random.default_rng(0)
    first = (rng.random(60) < 0.5).astype(np.float64)
    ones = np.ones(60, dtype=np.int64)
    own, gains = rates([first, first], ones, domain="x", bootstrap=FEW)
    assert own[0] == own[1]
    assert own[0].value == first.mean()
    interval, gain = own[0].interval, gains[1].interval
    assert interval is not None
    assert interval.low < own[0].value < interval.high
    assert gain is not None
    assert (gain.low, gain.high) == (0.0, 0.0)  # equal modes differ in no draw


def test_an_interval_is_as_wide_as_the_cases_say() -> None:
    # the standard error of a share of 0.5 among 400 is 0.025; 95% are 1.96 of them to each side
    above = np.array([0.0, 1.0] * 200)
    (rate,), _ = rates(
        [above], np.ones(400, dtype=np.int64), domain="x", bootstrap=Bootstrap(resamples=4000)
    )
    assert rate.interval is not None
    assert rate.interval.high - rate.interval.low == pytest.approx(2 * 1.96 * 0.025, rel=0.1)


def test_a_ratio_of_nothing_is_zero() -> None:
    none = np.zeros(20, dtype=np.int64)
    (rate,), _ = rates([np.zeros(20)], none, domain="x", bootstrap=FEW)
    assert (rate.value, rate.interval) == (0.0, None)


def test_an_evaluation_is_plain_data(tokenizer: av.Tokenizer) -> None:
    lm = Scripted(tokenizer, lambda *_: b"\xff")
    seen: list[tuple[int, int]] = []
    found = evaluate_infilling(
        lm,
        cases_of([b"abcd"] * 12),
        modes=["bytes"],
        template=TEMPLATE,
        bootstrap=FEW,
        progress=lambda *done: seen.append(done),
    )
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["template"] == "mine/spm"
    assert document["scores"][0]["exact_match"] == {"value": 0.0, "interval": [0.0, 0.0]}
    assert document["samples"][0]["text"] == "\\xff"
    assert seen == [(at, 12) for at in range(1, 13)]
    with pytest.raises(KeyError):
        found.score("tokens")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cases": []}, "cases: there are none"),
        ({"modes": []}, "modes: there are none"),
        ({"modes": ["bytes", "bytes"]}, "stands there twice"),
    ],
)
def test_nothing_to_evaluate_is_refused(
    tokenizer: av.Tokenizer, options: dict[str, Any], message: str
) -> None:
    lm = Scripted(tokenizer, lambda *_: b"")
    cases = options.pop("cases", cases_of([b"x"]))
    with pytest.raises(av.InvalidValue, match=message):
        evaluate_infilling(lm, cases, **options)


# Running what was written -----------------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="the sandbox is for POSIX systems")
TEST = "def check(f):\n    assert f(1) == 2\n"


def problems() -> list[Problem]:
    return [
        Problem(f"T/{at}", f"def f(x):\n    {at}\n", "    return y\n", "    y = 2\n", TEST, "f")
        for at in range(3)
    ]


@posix
def test_pass_at_k_is_the_mean_over_problems_of_what_the_programs_do(
    tokenizer: av.Tokenizer,
) -> None:
    def answer(prefix: bytes, seed: int) -> bytes:
        # problem 0: always right; 1: right for one seed in four; 2: ends the process "in success"
        if b"    2\n" in prefix:
            return b"    import os; os._exit(0)\n"
        return b"    y = 2\n" if b"    0\n" in prefix or seed == 12 else b"    y = 0\n"

    found = evaluate_problems(
        Scripted(tokenizer, answer),
        problems(),
        modes=["bytes"],
        template=TEMPLATE,
        samples=4,
        ks=(1, 2),
        temperature=0.8,
        seed=10,
        limits=SandboxLimits(wall_seconds=60),
        workers=2,
        bootstrap=FEW,
    )
    assert [one.passed for one in found.results["bytes"]] == [4, 1, 0]
    assert [one.exact for one in found.results["bytes"]] == [4, 1, 0]
    assert found.rate("bytes", 1).rate.value == pytest.approx((1 + 1 / 4) / 3, rel=1e-12)
    assert found.rate("bytes", 2).rate.value == pytest.approx((1 + 1 / 2) / 3, rel=1e-12)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["problems"][2]["outcomes"] == {"silent: exit status 0": 4}
    assert document["limits"]["wall_seconds"] == 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 3}, "3 samples at temperature 0.0 are no use"),
        ({"samples": 0}, "0 samples"),
        ({"samples": 3, "temperature": 1.0, "ks": (4,)}, r"must lie in 1\.\.3, got 4"),
    ],
)
def test_samples_that_say_nothing_are_refused(
    tokenizer: av.Tokenizer, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(av.InvalidValue, match=message):
        evaluate_problems(
            Scripted(tokenizer, lambda *_: b""), problems(), template=TEMPLATE, **options
        )


# The embedded model -----------------------------------------------------------------------------


class Network:
    """A backend that computes every context anew: nothing to get wrong."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.rows = int(model.config.vocab_size)
        self.max_context = None
        self.contexts: list[tuple[int, ...]] = []

    def root(self, ids: Sequence[int]) -> int:
        self.contexts.append(tuple(ids))
        return len(self.contexts) - 1

    def extend(self, parent: int, token: int) -> int:
        return self.root((*self.contexts[parent], token))

    def logits(self, nodes: Sequence[int]) -> Any:
        import torch

        longest = max((self.contexts[node] for node in nodes), key=len)
        with torch.inference_mode():
            rows = self.model(torch.tensor([longest])).logits[0]
        for node in nodes:
            context = self.contexts[node]
            assert longest[: len(context)] == context  # a chain is all that is asked for here
            yield node, rows[len(context) - 1]

    def release(self, node: int) -> None:
        assert self.contexts[node]


@dataclass
class Pico:
    """The embedded model, without a byte-level side."""

    tokenizer: av.Tokenizer
    backend: Network


@pytest.fixture(scope="module")
def pico(tokenizer: av.Tokenizer) -> Iterator[Pico]:
    import torch

    from anyvocab.evaluate.models import load_model

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # forwards this small are slower with more
    yield Pico(tokenizer, Network(load_model("pico:code-4k")))
    torch.set_num_threads(threads)


@pytest.mark.models
def test_the_tokens_mode_writes_what_transformers_generates(pico: Pico) -> None:
    import torch

    prefix, suffix = "def add(a, b):\n    ret", "\n\n\ndef sub(a, b):\n"
    found = infill(
        pico, prefix, suffix, template="psm", mode="tokens", max_new_tokens=8, stop="end"
    )
    marks = found.template
    before, behind = (pico.tokenizer.encode(text).tolist() for text in (prefix, suffix))
    ids = [4091, marks.prefix_id, *before, marks.suffix_id, *behind, 4094]
    out = pico.backend.model.generate(
        torch.tensor([ids]),
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=list(marks.end_ids),
        pad_token_id=4091,
    )
    written = out[0, len(ids) :].tolist()
    ended = written[-1] in marks.end_ids
    assert found.bytes == pico.tokenizer.decode(written[:-1] if ended else written)
    assert found.finish == ("end" if ended else "length")


@pytest.mark.models
def test_healing_scores_true_middles_that_begin_inside_a_token_better(pico: Pico) -> None:
    text = b"def __init__(self, value):\n    self.value = value\n    return None\n"
    cases = [
        InfillingCase(f"x:{at}", "tokens", text[:at], text[at:end], text[end:])
        for at, end in ((5, 12), (34, 49), (55, 65))
    ]
    found = evaluate_infilling(
        pico, cases, modes=["tokens", "healing"], template="spm", max_new_tokens=1, bootstrap=FEW
    )
    tokens, healing = (found.score(mode).bits_per_byte for mode in ("tokens", "healing"))
    assert tokens is not None
    assert healing is not None
    assert 0 < healing.value < tokens.value
