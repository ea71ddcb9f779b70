"""Several processes train what one would: losses, gradients, checkpoints; kills and Ctrl-C."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = [
    pytest.mark.models,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked there"),
]
torch = pytest.importorskip("torch", reason="torch is missing")

EPS32 = 2.0**-23
# Seven texts and 301 rows do not come out even on two ranks.
UNEVEN: dict[str, Any] = {"texts": 7, "rows": 301, "measured": 1}
CASES: dict[str, dict[str, Any]] = {
    "ddp": UNEVEN,
    "fsdp": {**UNEVEN, "parallel": "fsdp", "kind": "masked", "tied": True},
    "merged": {**UNEVEN, "dynamic_share": 0.5, "parallel": "fsdp"},
    "adapters": {**UNEVEN, "texts": 6, "backbone": "lora", "alm": 0.5, "accumulate": 3},
    "whole": {**UNEVEN, "backbone": "full", "parallel": "fsdp", "alm": 0.5, "checkpointing": True},
}
LENGTHS = {"steps": 7, "texts": 4}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, runs: ModuleType) -> Path:
    """Run everything that needs processes of its own."""
    folder = tmp_path_factory.mktemp("ranks")
    if any(case.get("backbone") == "lora" for case in CASES.values()):
        pytest.importorskip("peft", reason="peft is missing")
    pytest.importorskip("accelerate", reason="accelerate is missing")
    alone = runs.trainer(**UNEVEN, folder=folder / "alone")
    runs.losses(alone, 2)
    alone.save()
    jobs = [
        {"work": "cases", "ranks": 2, "out": str(folder), "cases": CASES},
        {
            "work": "resumed",
            "ranks": 2,
            "case": {**UNEVEN, "parallel": "fsdp"},
            "folder": str(folder / "alone"),
            "until": 4,
            "out": str(folder / "joined.json"),
        },
        {"work": "apart", "ranks": 2, "out": str(folder / "apart")},
        {"work": "timed", "ranks": 2, "folder": str(folder / "t"), "out": str(folder / "timed")},
        {"work": "killed", "case": LENGTHS, "folder": str(folder / "k"), "saved": 3, "until": 5},
        {
            "work": "resumed",
            "case": LENGTHS,
            "folder": str(folder / "k"),
            "until": 7,
            "out": str(folder / "k.json"),
        },
        {
            "work": "resumed",
            "case": LENGTHS,
            "folder": str(folder / "unbroken"),
            "until": 7,
            "out": str(folder / "unbroken.json"),
        },
        *(
            {
                "work": "interrupted",
                "ranks": ranks,
                "case": {"steps": 100_000, "texts": 4},
                "folder": str(folder / f"c{ranks}"),
                "out": str(folder / f"c{ranks}.json"),
            }
            for ranks in (1, 2)
        ),
    ]
    command = [sys.executable, "-W", "error", str(Path(str(runs.__file__))), json.dumps(jobs)]
    told = subprocess.run(
        command, capture_output=True, text=True, timeout=540, env={**os.environ}, check=False
    )
    (folder / "told").write_text(told.stdout + told.stderr)
    assert told.returncode == 0, told.stderr
    return folder


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_do_not_depend_on_the_number_of_ranks(
    name: str, out: Path, runs: ModuleType
) -> None:
    from safetensors.torch import load_file

    assert (out / f"{name}.safetensors").exists(), (out / "told").read_text()
    found = load_file(out / f"{name}.safetensors")
    alone = runs.trainer(**CASES[name])
    wanted = runs.gradients(alone)
    targets = alone._drawn[0].scored
    steps = torch.tensor(runs.losses(alone, 3), dtype=torch.float64)
    wanted["bits_per_byte"] = torch.tensor(alone.measure().bits_per_byte)
    gradients = {n: one for n, one in wanted.items() if n not in {"nats", "bits_per_byte"}}
    assert set(gradients) <= set(found)
    # A gradient is a sum over the targets. Another order of n terms moves a sum by n roundings of
    # the terms' sizes, which are those of the largest gradient here; where the terms cancel, the
    # sum is smaller and its error is not.
    largest = max(float(one.abs().max()) for one in gradients.values())
    for parameter, one in gradients.items():
        assert (found[parameter] - one).abs().max() <= targets * EPS32 * largest, parameter
    # Losses of later steps carry what the updates before them rounded: AdamW's first steps are
    # as large for small gradients as for large ones, so a gradient's relative error is the step's.
    assert abs(float(found["nats"] - wanted["nats"])) <= targets * EPS32 * float(wanted["nats"])
    assert (found["losses"] - steps).abs().max() <= 3 * targets * EPS32 * float(steps.max())
    apart = abs(float(found["bits_per_byte"] - wanted["bits_per_byte"]))
    assert apart <= 3 * targets * EPS32 * float(wanted["bits_per_byte"])


@pytest.mark.parametrize("name", CASES)
def test_one_process_goes_on_from_a_checkpoint_of_two(
    name: str, out: Path, runs: ModuleType
) -> None:
    case = {**CASES[name], "parallel": "auto"}
    resumed = runs.trainer(**case, folder=out / name)
    assert resumed.progress.step == 3
    found = runs.losses(resumed, 4)[-1]
    alone = runs.trainer(**case)
    wanted = runs.losses(alone, 4)[-1]
    assert abs(found - wanted) <= 4 * alone.progress.tokens * EPS32 * wanted


def test_two_processes_go_on_from_a_checkpoint_of_one(out: Path, runs: ModuleType) -> None:
    found = json.loads((out / "joined.json").read_text())
    alone = runs.trainer(**UNEVEN)
    wanted = runs.losses(alone, 4)[2:]
    bound = 4 * alone.progress.tokens * EPS32 * max(wanted)
    assert len(found) == len(wanted)
    assert all(abs(a - b) <= bound for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_that_read_different_texts_are_found_out(rank: int, out: Path) -> None:
    said = (out / f"apart.{rank}").read_text()
    assert "do not train on the same tokenizer and texts at step 0" in said


def test_a_killed_run_goes_on_with_the_losses_of_an_unbroken_one_bit_for_bit(out: Path) -> None:
    assert f"killed [{-9}]" in (out / "told").read_text()
    resumed, unbroken = (
        json.loads((out / name).read_text()) for name in ("k.json", "unbroken.json")
    )
    assert len(resumed) == 4  # from step 3, where the last checkpoint was
    assert resumed == unbroken[3:]


@pytest.mark.parametrize("ranks", [1, 2])
def test_ctrl_c_saves_a_checkpoint_that_a_run_goes_on_from(
    ranks: int, out: Path, runs: ModuleType
) -> None:
    found = json.loads((out / f"c{ranks}.json").read_text())
    assert found["step"] >= 2
    # A step of these takes a few hundredths of a second; a loaded machine may take much longer.
    assert float((out / f"c{ranks}.seconds").read_text()) < 10
    resumed = runs.trainer(steps=100_000, texts=4, folder=out / f"c{ranks}")
    assert resumed.progress.step == found["step"]
    if ranks == 1:  # what was interrupted left nothing behind: the next step is the next step
        unbroken = runs.trainer(steps=100_000, texts=4)
        wanted = runs.losses(unbroken, found["step"] + 1)
        assert [*found["losses"], *runs.losses(resumed, found["step"] + 1)] == wanted


def test_ranks_whose_clocks_differ_end_at_the_same_step(out: Path) -> None:
    one, two = (json.loads((out / f"timed.{rank}").read_text()) for rank in (0, 1))
    assert one == two
    assert one["seconds"] >= 0.02 * 60


def test_one_of_several_ranks_tells_the_tracker(out: Path) -> None:
    lines = [json.loads(line) for line in (out / "t" / "told.jsonl").read_text().splitlines()]
    steps = json.loads((out / "timed.0").read_text())["step"]
    assert [step for step, values in lines if "nats" in values] == list(range(1, steps + 1))
    assert lines[-1] == [-1, {"ended": 1.0}]
