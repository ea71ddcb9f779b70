"""Swaps of the embedded models, end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")
pytest.importorskip("transformers", reason="transformers is missing")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.cli import main  # noqa: E402
from anyvocab.pico import path  # noqa: E402
from anyvocab.pico.data import load_module  # noqa: E402
from anyvocab.transplant.identity import Origin  # noqa: E402
from anyvocab.transplant.weights import Checkpoint  # noqa: E402

TEXT = load_module("heapq").text[:3000].encode()


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, av.SwapReport]:
    """code-2k, whose matrices are apart, with the tokenizer of code-4k."""
    out = tmp_path_factory.mktemp("swap") / "new"
    report = av.swap("pico:code-2k", "pico:code-4k", out, strategy="mean", judge=[TEXT])
    return out, report


def test_the_new_model_passes_every_check(swapped: tuple[Path, av.SwapReport]) -> None:
    _, report = swapped
    assert report.verification is not None
    assert [check.name for check in report.verification.checks if not check.ok] == []
    assert report.ok


def test_bits_per_byte_are_measured_before_and_after(
    swapped: tuple[Path, av.SwapReport],
) -> None:
    out, report = swapped
    bits = report.bits_per_byte()
    assert bits is not None
    before, after = bits
    assert before < after < 8  # a uniform guess over bytes
    again = av.bits_per_byte(out, [TEXT]).bits_per_byte
    assert abs(again - after) < 1e-4 * after  # other batches, float32


def test_transformers_loads_it_and_generates(swapped: tuple[Path, av.SwapReport]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out, _ = swapped
    tokenizer: Any = AutoTokenizer.from_pretrained(out)
    model: Any = AutoModelForCausalLM.from_pretrained(out)
    ids = tokenizer("def add(first, second):\n", return_tensors="pt")
    made = model.generate(**ids, max_new_tokens=8, do_sample=False)
    assert made.shape[1] > ids["input_ids"].shape[1]
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_what_does_not_belong_to_the_vocabulary_is_the_source_byte_for_byte(
    swapped: tuple[Path, av.SwapReport],
) -> None:
    from safetensors.torch import load_file

    out, _ = swapped
    before = load_file(path("code-2k") / "model.safetensors")
    after = load_file(out / "model.safetensors")
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"model.embed_tokens.weight", "lm_head.weight"}
    assert all(before[name].dtype == after[name].dtype for name in before)


def test_the_same_tokenizer_gives_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    for name in ("code-4k", "code-2k"):
        report = av.swap(f"pico:{name}", f"pico:{name}", tmp_path / name, verification="files")
        assert report.ok
        ours = (tmp_path / name / "model.safetensors").read_bytes()
        same = ours == (path(name) / "model.safetensors").read_bytes()
        assert same  # not compared in the assertion: pytest would look for the difference for hours


def test_there_and_back_restores_the_rows_of_shared_tokens(tmp_path: Path) -> None:
    there = av.swap(
        "pico:code-2k", "pico:code-4k", tmp_path / "there", strategy="mean", verification="off"
    )
    back = av.swap(
        tmp_path / "there", "pico:code-2k", tmp_path / "back", strategy="mean", verification="off"
    )
    first, last = Checkpoint.open(path("code-2k")), Checkpoint.open(tmp_path / "back")
    for side in ("input", "output"):
        kept = (back.plan.side(side).origin == Origin.COPIED).nonzero()[0]
        visited = {
            int(column)
            for id in (there.plan.side(side).origin == Origin.COPIED).nonzero()[0]
            for column in there.plan.side(side).combination.row(int(id))[0]
        }
        ids = [id for id in kept.tolist() if id in visited]
        assert len(ids) > 1500
        assert torch.equal(first.matrix(side).take(ids), last.matrix(side).take(ids))


def test_untying_writes_a_head_and_says_so_in_the_configuration(tmp_path: Path) -> None:
    out = tmp_path / "untied"
    report = av.swap(
        "pico:code-4k", "pico:code-2k", out, strategy="front", tie="untie", judge=[TEXT]
    )
    assert report.ok
    assert report.was_tied
    assert not report.tied
    assert not json.loads((out / "config.json").read_text())["tie_word_embeddings"]
    assert Checkpoint.open(out).find("output") is not None


def test_strategies_are_compared_beside_the_ceiling_and_the_floors() -> None:
    found = av.compare_strategies(
        "pico:code-2k",
        "pico:code-4k",
        strategies={"mean": ("mean", {}), "even": ("front", {"decay": 1.0})},
        judge=[TEXT],
        seed=1,
    )
    rows = {row.strategy: row for row in found.rows}
    assert set(rows) == {"mean", "even", "mean-row", "random"}
    assert [row.best for row in found.rows] == sorted(row.best for row in found.rows)
    assert {row.strategy for row in found.rows if row.floor} == {"mean-row", "random"}
    assert found.ceiling < rows["mean"].plain < rows["random"].plain
    assert all(row.calibrated is None for row in found.rows)  # there is nothing to learn from
    assert found.bytes == len(TEXT)
    named = av.compare_strategies(
        "pico:code-2k", "pico:code-4k", strategies=["mean"], judge=[TEXT], floors=()
    )
    assert named.rows[0].plain == rows["mean"].plain
    with pytest.raises(errors.InvalidValue, match="no text to judge by"):
        av.compare_strategies("pico:code-2k", "pico:code-4k", strategies=["mean"])


def test_calibration_moves_new_output_rows_and_shared_ones_where_asked(tmp_path: Path) -> None:
    learn = [load_module("argparse").text[:20_000].encode()]
    bits, kept = {}, {}
    for how in ("off", "auto", "all"):
        report = av.swap(
            "pico:code-2k",
            "pico:code-4k",
            tmp_path / how,
            strategy="front",
            corpus=learn,
            judge=[TEXT],
            calibrate=how,  # type: ignore[arg-type]
        )
        assert report.ok
        scored = report.bits_per_byte()
        assert scored is not None
        bits[how] = scored[1]
        kept[how] = report.plan.side("output").verbatim()
        assert bool(report.plan.side("input").verbatim()[kept["off"]].all())
    assert (kept["auto"] == kept["off"]).all()  # copied rows stay copies
    assert bits["auto"] < bits["off"]
    if "stay copies" in report.plan.side("output").notes[-1]:  # so little text may say so
        assert bits["all"] == bits["auto"]
    else:
        assert kept["all"].sum() < kept["off"].sum() // 2


def test_padding_rows_are_hardly_ever_sampled(tmp_path: Path) -> None:
    out = tmp_path / "padded"
    report = av.swap(
        "pico:code-4k", "pico:code-2k", out, strategy="mean", pad_multiple=100, judge=[TEXT]
    )
    assert report.rows == 2100
    assert report.verification is not None
    (padding,) = [check for check in report.verification.checks if check.name == "padding"]
    assert padding.ok


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    report = av.swap("pico:code-4k", "pico:code-2k", tmp_path / "new", dry_run=True)
    assert report.out is None
    assert report.choice is not None
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_swap_leaves_nothing_at_its_place_and_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anyvocab.transplant import swap as module

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "new"
    arguments: dict[str, Any] = {"strategy": "mean", "verification": "files"}
    with monkeypatch.context() as patch:
        patch.setattr(module, "_card", stop)
        with pytest.raises(KeyboardInterrupt):
            av.swap("pico:code-4k", "pico:code-2k", out, **arguments)
    assert not out.exists()
    resumed = av.swap("pico:code-4k", "pico:code-2k", out, resume=True, **arguments)
    assert set(resumed.files.values()) == {"reused"}
    whole = av.swap("pico:code-4k", "pico:code-2k", tmp_path / "whole", **arguments)
    assert whole.ok
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (out / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_an_interrupted_command_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from anyvocab.transplant import swap as room

    def stopped(*_: object, **__: object) -> None:
        room.staging_of(tmp_path / "new").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "swap", stopped)
    code = main(["swap", "pico:code-4k", "pico:code-2k", str(tmp_path / "new")])
    assert code == 130
    assert "--resume" in capsys.readouterr().err


def test_a_folder_that_holds_something_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(errors.OutputExists, match="there is something already"):
        av.swap("pico:code-4k", "pico:code-2k", tmp_path, strategy="mean")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_no_folder_is_made_inside_the_model_or_in_a_file(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(path("code-4k"), model)
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(errors.InvalidValue, match="lies inside the model's folder"):
        av.swap(model, "pico:code-2k", model / "deep" / "new", strategy="mean")
    with pytest.raises(errors.OutputExists, match="is a file, and no folder can be made in it"):
        av.swap(model, "pico:code-2k", tmp_path / "file" / "new", strategy="mean")
    with pytest.raises(errors.OutputExists, match="there is something already"):
        av.swap(model, "pico:code-2k", model, strategy="mean")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "omp"}, "give --donor MODEL"),
        ({"strategy": "guess"}, "is no strategy"),
        ({"strategy": {"input": "last", "output": "front"}}, "tied matrices take one for both"),
        ({"tie": "knot"}, 'use "auto", "keep" or "untie"'),
        ({"run": "perhaps"}, 'use "auto", "always" or "never"'),
        ({"verification": "fast"}, 'use "full", "files" or "off"'),
        ({"link": "soft"}, 'use "hard" or "copy"'),
        ({"corpus": b"one text"}, "give a list"),
        ({"map": ["<s>"]}, "NEW=OLD"),
    ],
)
def test_bad_options_are_named_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(errors.AnyvocabError, match=message):
        av.swap("pico:code-4k", "pico:code-2k", tmp_path / "new", **options)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_model_and_prints_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.py"
    text.write_bytes(TEXT)
    out = tmp_path / "new"
    code = main(
        ["swap", "pico:code-4k", "pico:code-2k", str(out), "--strategy", "mean"]  # noqa: RUF005
        + ["--judge", str(text), "--json"]
    )
    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert found["counts"]["input"]["copied"] > 1800
    assert found["verification"]["ok"]
    assert json.loads((out / "swap.json").read_text())["strategy"]["input"]["name"] == "mean"
    shutil.rmtree(out)


def test_what_repeats_the_end_in_a_tied_model_ends_generation_too(tmp_path: Path) -> None:
    out = tmp_path / "new"
    av.swap("pico:code-4k", "pico:code-2k", out, strategy="mean", verification="off")
    roles = av.Tokenizer.load("pico:code-2k").vocabulary
    (end,), (begin,) = roles.ids_of_role("eos")[:1], roles.ids_of_role("bos")[:1]
    ends = json.loads((out / "generation_config.json").read_text())["eos_token_id"]
    assert ends[0] == end
    assert begin in ends
