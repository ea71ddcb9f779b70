"""Byte-level models in lm-evaluation-harness: local tasks on an embedded model."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import anyvocab as av
from anyvocab.backends import TableBackend
from anyvocab.bytelm import ByteLM, Ensemble
from anyvocab.testing import merged_tokenizer

pytestmark = pytest.mark.models

CHOICES = [
    {"query": "import numpy as", "choices": [" np", " os", " xx"], "gold": 0},
    {"query": "def f(self):\n    retu", "choices": ["rn self", "ms", "é"], "gold": 0},
    {"query": "for i in range(", "choices": ["10):", "]", "中"], "gold": 0},
]
DOCUMENTS = [
    "import os\nimport sys\n",
    'def f(x):\n    """Return é and 中."""\n    return x\n',
]
TASKS = {
    "bytes_choices": """
task: bytes_choices
dataset_path: json
dataset_kwargs: {data_files: {test: CHOICES}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{query}}"
target_delimiter: ""
doc_to_choice: choices
doc_to_target: gold
metric_list: [{metric: acc}]
""",
    "bytes_rolling": """
task: bytes_rolling
dataset_path: json
dataset_kwargs: {data_files: {test: DOCUMENTS}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: bits_per_byte}, {metric: byte_perplexity}]
""",
    "bytes_writing": """
task: bytes_writing
dataset_path: json
dataset_kwargs: {data_files: {test: CHOICES}}
test_split: test
output_type: generate_until
doc_to_text: "{{query}}"
target_delimiter: ""
doc_to_target: "{{choices[0]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 6, do_sample: false}
metric_list: [{metric: exact_match}]
""",
}


@pytest.fixture(scope="module")
def harness() -> Any:
    pytest.importorskip("lm_eval", reason="lm-eval is missing: install anyvocab[harness]")
    from anyvocab.integrations import lm_eval

    return lm_eval


@pytest.fixture(scope="module")
def lm() -> ByteLM:
    return ByteLM.load("pico:code-4k")


@pytest.fixture
def run(harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what runs a task on a model and gives back its samples and its results."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    write_tasks(tmp_path, monkeypatch)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)

    def evaluate(model: Any, task: str, **options: Any) -> tuple[Any, Any]:
        found = simple_evaluate(
            model=model, tasks=[task], task_manager=manager, bootstrap_iters=0, **options
        )
        assert found is not None
        return found["samples"][task], found["results"][task]

    return evaluate


def write_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the task files and their documents into a folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    files = {"CHOICES": CHOICES, "DOCUMENTS": [{"text": text} for text in DOCUMENTS]}
    for name, rows in files.items():
        lines = [json.dumps(row) + "\n" for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    for name, text in TASKS.items():
        for file in files:
            text = text.replace(
                f"test: {file}", f'test: {json.dumps(str(tmp_path / file))[:-1]}.jsonl"'
            )
        (tmp_path / f"{name}.yaml").write_text(text)


@pytest.mark.filterwarnings("default")
def test_choices_have_the_scores_of_the_byte_level_model(
    run: Any, harness: Any, lm: ByteLM
) -> None:
    samples, results = run(harness.ByteHarness(lm, batch_size=4), "bytes_choices")
    assert len(samples) == len(CHOICES)
    assert any(greedy for sample in samples for _, greedy in sample["filtered_resps"])
    for sample in samples:
        document = sample["doc"]
        for (logprob, greedy), choice in zip(
            sample["filtered_resps"], document["choices"], strict=True
        ):
            # float32 logits of the same contexts in batches of other shapes.
            assert float(logprob) == pytest.approx(
                lm.score(choice, prefix=document["query"]), abs=1e-4
            )
            data = choice.encode()
            rows = lm.next_byte_logprobs(data, document["query"])[: len(data)]
            assert greedy == (rows.argmax(axis=1).tolist() == list(data))
    assert results["acc,none"] == 1.0


@pytest.mark.filterwarnings("default")
def test_rolling_scores_are_those_of_whole_texts(run: Any, harness: Any, lm: ByteLM) -> None:
    samples, results = run(harness.ByteHarness(lm), "bytes_rolling")
    total, size = 0.0, 0
    for sample in samples:
        text = sample["doc"]["text"]
        assert sample["filtered_resps"][0] == pytest.approx(lm.score(text), abs=1e-3)
        total, size = total + lm.score(text), size + len(text.encode())
    expected = -total / size / math.log(2)
    assert results["bits_per_byte,none"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.filterwarnings("default")
def test_what_is_written_is_the_completion_up_to_a_stop_string(
    run: Any, harness: Any, lm: ByteLM
) -> None:
    samples, _ = run(harness.ByteHarness(lm), "bytes_writing")
    for sample in samples:
        expected = lm.complete(sample["doc"]["query"], max_new_tokens=6, stop=["\n"])
        assert sample["filtered_resps"] == [expected.text]


@pytest.mark.filterwarnings("default")
def test_a_model_is_found_by_its_registered_name(run: Any, harness: Any, lm: ByteLM) -> None:
    arguments = "pretrained=pico:code-4k,law=local,greedy=skip"
    samples, results = run("anyvocab", "bytes_choices", model_args=arguments, batch_size=2)
    assert results["acc,none"] == 1.0
    assert not any(greedy for sample in samples for _, greedy in sample["filtered_resps"])


@pytest.mark.filterwarnings("default")
def test_the_command_runs_tasks_of_a_folder(
    harness: Any,
    lm: ByteLM,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from anyvocab.cli.app import run as cli

    write_tasks(tmp_path, monkeypatch)
    options = ["--task-files", str(tmp_path), "--law", "canonical", "--json"]
    assert cli(["eval", "pico:code-4k", "--harness", "bytes_choices,bytes_rolling", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["law"] == "canonical"
    (model,) = found["models"]
    values = {(one["task"], one["metric"]): one for one in model["results"]}
    assert values["bytes_choices", "acc"]["value"] == 1.0
    assert values["bytes_choices", "acc"]["examples"] == len(CHOICES)
    canonical = ByteLM.load("pico:code-4k", law="canonical")
    size = sum(len(text.encode()) for text in DOCUMENTS)
    bits = -sum(canonical.score(text) for text in DOCUMENTS) / size / math.log(2)
    assert values["bytes_rolling", "bits_per_byte"]["value"] == pytest.approx(bits, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--harness", "no_such_task_anywhere"], "no_such_task_anywhere"),
        (["--harness", "arc_easy", "--text", "README.md"], "--text"),
        (["--harness", "arc_easy", "--limit", "100"], "--limit"),
        (["--text", "README.md", "--examples", "3"], "--harness"),
    ],
    ids=["task", "text", "bytes", "no task"],
)
def test_the_command_names_what_it_cannot_run(
    harness: Any, options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from anyvocab.cli.app import run as cli

    assert cli(["eval", "pico:code-4k", *options]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_an_ensemble_is_evaluated_like_one_model(run: Any, harness: Any, lm: ByteLM) -> None:
    both = Ensemble([lm, ByteLM.load("pico:code-2k")], rule="bayes")
    samples, _ = run(harness.ByteHarness(both), "bytes_choices")
    for sample in samples:
        for (logprob, _), choice in zip(
            sample["filtered_resps"], sample["doc"]["choices"], strict=True
        ):
            expected = both.score(choice, prefix=sample["doc"]["query"])
            assert float(logprob) == pytest.approx(expected, abs=1e-4)


END_ID = 259
MERGES = [("a", "b"), ("ab", "a"), ("Ġ", "ab")]


def table(limit: int | None = None, **options: Any) -> ByteLM:
    tokenizer = av.Tokenizer.load(json.dumps(merged_tokenizer(MERGES)).encode())
    backend = TableBackend(261, seed=3, scale=2.0, max_context=limit)
    return ByteLM(backend, tokenizer, first_ids=[END_ID], specials={END_ID: "end"}, **options)


def requests(*arguments: tuple[Any, ...]) -> list[Any]:
    return [SimpleNamespace(args=one) for one in arguments]


def test_a_continuation_is_greedy_if_each_byte_is_the_likeliest(harness: Any) -> None:
    lm = table()
    best = lm.sample(b"ab", max_bytes=4, temperature=0).bytes
    lm = table()
    asked = [("ab", best[:count].decode("latin-1")) for count in range(5)]
    asked = [(context, text) for context, text in asked if text.isascii()]
    answers = harness.ByteHarness(lm).loglikelihood(requests(*asked, ("ab", "zz")))
    expected = []
    for _, text in [*asked, ("ab", "zz")]:
        state, greedy = lm.start(b"ab"), True
        for byte in text.encode():
            greedy = greedy and int(state.logprobs().argmax()) == byte
            state.push(byte)
        expected.append(greedy)
    assert [greedy for _, greedy in answers] == expected
    assert expected[0]
    assert not expected[-1]


def greedy_pair(lm: ByteLM) -> Iterator[tuple[str, str]]:
    """Yield contexts with what is written behind them greedily, and with one byte changed."""
    for context in ("", "a", "ab", " ab"):
        state, text = lm.start(context), ""
        for _ in range(4):
            row = state.logprobs()[:0x80]
            byte = int(row.argmax())
            if byte != int(state.logprobs().argmax()):
                break
            text += chr(byte)
            state.push(byte)
        for end in range(len(text) + 1):
            yield context, text[:end]
            if end:
                yield context, text[: end - 1] + ("~" if text[end - 1] != "~" else "!")


def test_greedy_is_by_definition_for_paths_and_near_misses(harness: Any) -> None:
    asked = list(greedy_pair(table()))
    lm = table()
    found = harness.ByteHarness(lm, batch_size=3).loglikelihood(requests(*asked))
    for (context, text), (logprob, greedy) in zip(asked, found, strict=True):
        rows = lm.next_byte_logprobs(text.encode(), context)[: len(text)]
        assert greedy == (rows.argmax(axis=1).tolist() == list(text.encode()))
        assert logprob == pytest.approx(lm.score(text, context), abs=1e-10)
    assert {greedy for _, greedy in found} == {True, False}


def test_long_texts_are_scored_in_windows_once_each(harness: Any) -> None:
    limit, text = 20, "ab aba b" * 9
    model = table(limit)
    room = harness.ByteHarness(model)._room
    windows = list(room.windows(text.encode()))
    assert b"".join(new for _, new in windows) == text.encode()
    position = 0
    for old, new in windows:
        assert text.encode()[:position].endswith(old)
        position += len(new)
        tokens = len(model.tokenizer.encode(old + new))
        assert tokens + 1 <= limit
    assert len(windows) > 2
    assert windows[0][0] == b""
    assert all(len(model.tokenizer.encode(old)) >= 4 for old, _ in windows[1:])
    (found,) = harness.ByteHarness(model).loglikelihood_rolling(requests((text,)))
    free = table()
    assert found == pytest.approx(sum(free.score(new, old) for old, new in windows), abs=1e-9)


def test_a_text_that_fits_is_one_window(harness: Any) -> None:
    room = harness.ByteHarness(table(20))._room
    assert list(room.windows(b"ab aba")) == [(b"", b"ab aba")]
    assert list(room.windows(b"")) == []
    assert list(harness.ByteHarness(table())._room.windows(b"ab" * 99)) == [(b"", b"ab" * 99)]


def test_an_ensemble_holds_what_its_smallest_member_holds(harness: Any) -> None:
    both = harness.ByteHarness(Ensemble([table(40), Ensemble([table(20), table()])]))
    one = harness.ByteHarness(table(20))
    text = b"ab aba b" * 9
    assert list(both._room.windows(text)) == list(one._room.windows(text))


def test_a_context_that_is_too_long_loses_its_beginning(harness: Any) -> None:
    model, free = table(20), table()
    context = "xyz " * 20
    ((logprob, _),) = harness.ByteHarness(model).loglikelihood(requests((context, "ab")))
    kept = harness.ByteHarness(model)._room.behind(context.encode(), b"ab")
    assert context.encode().endswith(kept)
    assert 8 <= len(kept) <= 12
    assert logprob == pytest.approx(free.score(b"ab", kept), abs=1e-10)
    (text,) = harness.ByteHarness(model).generate_until(
        requests((context, {"until": [], "max_gen_toks": 5}))
    )
    assert isinstance(text, str)


@pytest.mark.parametrize(
    ("given", "most", "expected"),
    [
        ({}, 256, {"temperature": 0.0, "stop": []}),
        ({"until": "x", "max_gen_toks": 3}, 3, {"temperature": 0.0, "stop": ["x"]}),
        ({"max_tokens": 4, "temperature": 0.0}, 4, {"temperature": 0.0, "stop": []}),
        ({"temperature": 0.5}, 256, {"temperature": 0.5, "stop": []}),
        ({"temperature": 0.5, "do_sample": False}, 256, {"temperature": 0.0, "stop": []}),
        ({"do_sample": True, "top_k": 0}, 256, {"temperature": 1.0, "stop": []}),
        (
            {"do_sample": True, "top_k": 5, "top_p": 0.9, "min_p": 0.1, "seed": 4},
            256,
            {"temperature": 1.0, "stop": [], "top_k": 5, "top_p": 0.9, "min_p": 0.1, "seed": 4},
        ),
    ],
)
def test_generation_options_mean_what_the_harness_means(
    harness: Any, given: dict[str, Any], most: int, expected: dict[str, Any]
) -> None:
    assert harness._generation(given) == (most, expected)


def test_options_that_are_not_known_are_named_and_left_out(
    harness: Any, caplog: pytest.LogCaptureFixture
) -> None:
    harness._generation({"repetition_penalty": 1.2})
    assert "repetition_penalty" in caplog.text


def test_requests_that_sample_are_drawn_with_seeds_of_their_own(harness: Any) -> None:
    lm = table()
    options = {"do_sample": True, "max_gen_toks": 6, "until": ["zz"]}
    asked = requests(*[("ab", options)] * 4)
    found = harness.ByteHarness(lm, seed=7).generate_until(asked)
    assert len(set(found)) > 1
    assert found == [
        lm.complete("ab", max_new_tokens=6, temperature=1.0, stop=["zz"], seed=7 + at).text
        for at in range(4)
    ]


def test_an_ensemble_writes_four_bytes_for_a_token(harness: Any) -> None:
    both = Ensemble([table(), table()])
    (found,) = harness.ByteHarness(both).generate_until(requests(("ab", {"max_gen_toks": 2})))
    assert found == both.sample(b"ab", max_bytes=8, temperature=0).text


@pytest.mark.parametrize(
    "options", [{"greedy": "yes"}, {"batch_size": 0}, {"max_length": 5}], ids=str
)
def test_options_out_of_range_are_refused(harness: Any, options: dict[str, Any]) -> None:
    with pytest.raises(av.InvalidValue):
        harness.ByteHarness(table(), **options)


@pytest.mark.parametrize("size", [None, "auto", "3", 3])
def test_batch_sizes_come_as_the_harness_gives_them(harness: Any, size: Any) -> None:
    assert harness.ByteHarness(table(), batch_size=size).batch_size in (3, 64)


def test_without_the_harness_the_error_names_the_extra() -> None:
    code = """
import sys
sys.modules["lm_eval"] = None
import anyvocab.errors
try:
    import anyvocab.integrations.lm_eval
except anyvocab.errors.MissingExtra as error:
    print(error.fix)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'anyvocab[harness]'" in found.stdout
