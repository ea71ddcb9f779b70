"""Transfers of the embedded models by hypernetworks, end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")
pytest.importorskip("transformers", reason="transformers is missing")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.cli import main  # noqa: E402
from anyvocab.hypernet.predict import SourceModel  # noqa: E402
from anyvocab.hypernet.variants import shift_body, transfer_variant  # noqa: E402
from anyvocab.pico import path  # noqa: E402
from anyvocab.pico.data import load_module  # noqa: E402
from anyvocab.testing.hypernets import tiny_hypernet  # noqa: E402
from anyvocab.transplant.identity import Origin  # noqa: E402
from anyvocab.transplant.plan import SIDES  # noqa: E402
from anyvocab.transplant.weights import Checkpoint  # noqa: E402

TEXT = load_module("heapq").text[:3000].encode()
QUICK: dict[str, Any] = {"calibrate": "off", "verification": "files"}


def model_with_hypernet(place: Path, name: str, **options: Any) -> Path:
    """Return a copy of an embedded model with a hypernetwork of its own beside its weights."""
    shutil.copytree(path(name), place, ignore=shutil.ignore_patterns("hypernet"))
    tiny_hypernet(SourceModel.open(place), model=name, **options).save(place / "hypernet")
    return place


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """code-2k, whose matrices are apart, with a hypernetwork."""
    place = tmp_path_factory.mktemp("hypernet") / "base"
    return model_with_hypernet(place, "code-2k", weights="drawn")


def train_body(source: Path, out: Path, *, seed: int, rows: bool = False) -> Path:
    """Write a copy of a model that was trained for two steps on noise."""
    from transformers import AutoModelForCausalLM

    shutil.copytree(source, out, ignore=shutil.ignore_patterns("hypernet"))
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    vocabulary = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
    trained = [one for one in model.parameters() if rows or one not in vocabulary]
    optimizer = torch.optim.SGD(trained, lr=0.5)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(2):
        ids = torch.randint(1000, (2, 16), generator=generator)
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.to(torch.bfloat16).save_pretrained(out)
    return out


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


def test_a_transfer_is_planned_applied_verified_and_generates(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (tmp_path / "text.py").write_bytes(TEXT[:1000])
    out, page = tmp_path / "new", tmp_path / "page.html"
    words = [str(base), "pico:code-4k", str(out), "--judge", str(tmp_path / "text.py"), "--json"]
    code = main(["hypernet", "transfer", *words, "--anchor", "none", "--report", str(page)])
    told = json.loads(capsys.readouterr().out)
    assert code == 0, told["verification"]
    assert told["strategies"]["input"]["name"] == "hypernet"
    assert told["counts"]["output"]["predicted"] > 3500
    found = {check["name"]: check["ok"] for check in told["verification"]["checks"]}
    assert found["hidden states of shared tokens"] is None  # their rows are no copies
    assert found["copied rows, input"]
    assert "hypernet" in page.read_text()
    tokenizer: Any = AutoTokenizer.from_pretrained(out)
    model: Any = AutoModelForCausalLM.from_pretrained(out)
    ids = tokenizer("def add(first, second):\n", return_tensors="pt")
    made = model.generate(**ids, max_new_tokens=8, do_sample=False)
    assert made.shape[1] > ids["input_ids"].shape[1]
    # What was written is what the network says, in the type of the model.
    hypernet = av.Hypernet.load(base)
    rows = hypernet.predict("pico:code-4k", base).rows().input
    written = Checkpoint.open(out).matrix("input").chunk(0, 4096)
    text = hypernet.predict("pico:code-4k", base).ids
    apart = (written[text].float() - rows).abs()
    # Other chunks, then a rounding to 8 bits: half a unit of each number, and one of the last.
    assert bool((apart <= rows.abs() * 2.0**-8 + 1e-5).all())


def test_the_text_that_is_learned_from_chooses_the_anchors(base: Path, tmp_path: Path) -> None:
    report = av.swap(
        base, "pico:code-4k", tmp_path / "new", strategy="hypernet", corpus=[TEXT[:1500]], **QUICK
    )
    assert report.ok
    said = [note for note in report.notes if note.startswith("shared tokens")]
    assert [note.partition(":")[0] for note in said] == [
        "shared tokens, input",
        "shared tokens, output",
    ]
    for side, note in zip(SIDES, said, strict=True):
        numbers = {}
        for part in note.partition("by bits per byte: ")[2].split(", "):
            name, _, bits = part.rpartition(" ")
            numbers[name] = float(bits)
        assert set(numbers) == {"copied", "0.5 predicted", "predicted"}
        taken = note.removeprefix(f"shared tokens, {side}: ").partition(", by")[0]
        assert numbers[taken] == min(numbers.values())
        shared = report.plan.side(side).origin == Origin.PREDICTED
        assert (shared.sum() > 3000) == (taken != "copied")


def test_it_takes_part_in_the_automatic_choice(base: Path, tmp_path: Path) -> None:
    report = av.swap(base, "pico:code-4k", tmp_path / "new", run="never", **QUICK)
    assert report.choice is not None
    assert "hypernet" in {one.strategy for one in report.choice.fidelities}


def test_an_interrupted_transfer_goes_on_with_its_plan(base: Path, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage == "write":
            raise KeyboardInterrupt

    out = tmp_path / "new"
    given: dict[str, Any] = {"strategy": "hypernet", **QUICK}
    with pytest.raises(KeyboardInterrupt):
        av.swap(base, "pico:code-4k", out, progress=stop, **given)
    report = av.swap(base, "pico:code-4k", out, resume=True, **given)
    assert report.ok
    assert "the plan of an interrupted swap" in report.notes
    again = av.swap(base, "pico:code-4k", tmp_path / "again", **given)
    assert again.ok
    first, second = (tensors(one) for one in (out, tmp_path / "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_rows_for_a_token_untie_a_tied_model(tmp_path: Path) -> None:
    model = model_with_hypernet(tmp_path / "model", "code-4k", sides="both", weights="drawn")
    given: dict[str, Any] = {"strategy": "hypernet", **QUICK}
    report = av.swap(model, "pico:code-2k", tmp_path / "new", **given)
    assert (report.was_tied, report.tied, report.ok) == (True, False, True)
    after = Checkpoint.open(tmp_path / "new")
    made = np.flatnonzero(report.plan.input.origin == Origin.PREDICTED)
    assert not torch.equal(after.matrix("input").take(made), after.matrix("output").take(made))
    with pytest.raises(errors.InvalidValue, match='tie="untie"'):
        av.swap(model, "pico:code-2k", tmp_path / "tied", tie="keep", **given)


def test_show_says_what_a_hypernetwork_is(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hypernet", "show", str(base), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["model"], told["rows"]) == ("residual", "code-2k", 2048)
    assert main(["hypernet", "show", str(base)]) == 0
    assert "residual" in capsys.readouterr().out
    assert main(["hypernet", "show", str(base / "nowhere")]) == 1


def test_a_variant_takes_rows_predicted_from_its_base(base: Path, tmp_path: Path) -> None:
    variant = train_body(base, tmp_path / "variant", seed=1, rows=True)
    report, shifted = transfer_variant(
        variant, base, "pico:code-4k", tmp_path / "new", options={"anchor": "hard"}, **QUICK
    )
    assert report.ok
    assert shifted is None
    plain = av.swap(base, "pico:code-4k", tmp_path / "base", strategy="hypernet", **QUICK)
    new = np.flatnonzero(report.plan.input.origin == Origin.PREDICTED)
    ours, theirs = (Checkpoint.open(tmp_path / name) for name in ("new", "base"))
    own = Checkpoint.open(variant)
    for side in ("input", "output"):
        assert torch.equal(ours.matrix(side).take(new), theirs.matrix(side).take(new))
        kept = np.flatnonzero(plain.plan.side(side).origin == Origin.COPIED)
        sources = report.plan.side(side).combination.select(kept).columns
        assert torch.equal(ours.matrix(side).take(kept), own.matrix(side).take(sources))
    before, after = tensors(variant), tensors(tmp_path / "new")
    body = [name for name in before if "embed" not in name and "lm_head" not in name]
    assert all(torch.equal(before[name], after[name]) for name in body)


def test_a_variant_of_a_base_that_was_trained_on_moves_with_its_body(
    base: Path, tmp_path: Path
) -> None:
    variant = train_body(base, tmp_path / "variant", seed=1)
    first = tmp_path / "first"
    av.swap(base, "pico:code-4k", first, strategy="hypernet", **QUICK)
    transferred = train_body(first, tmp_path / "transferred", seed=2, rows=True)
    out = tmp_path / "new"
    report, shifted = transfer_variant(
        variant, base, "pico:code-4k", out, transferred=transferred, factor=0.5, **QUICK
    )
    assert report.ok
    assert shifted is not None
    assert 0 < shifted.distance < 1
    own, old, new, made = (tensors(one) for one in (variant, base, transferred, out))
    for name, rows in made.items():
        if "embed" in name or "lm_head" in name:
            text = np.flatnonzero(report.plan.input.origin == Origin.PREDICTED)
            assert torch.equal(rows[text], new[name][text])
        else:
            wanted = own[name].float() + 0.5 * (new[name].float() - old[name].float())
            assert torch.equal(rows, wanted.to(rows.dtype))
    model = av.ByteLM.load(out)
    assert len(model.sample(b"def f(", max_bytes=4, seed=0).bytes) <= 4


def test_another_vocabulary_is_no_base(base: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidValue, match="vocabulary is not the variant's"):
        transfer_variant("pico:code-4k", base, "pico:code-2k", tmp_path / "new", **QUICK)
    given = {"hypernet": str(base), "base": str(path("code-4k"))}
    with pytest.raises(errors.InvalidValue, match="the first difference at id"):
        av.swap(base, "pico:code-4k", tmp_path / "new", strategy="hypernet", options=given, **QUICK)


def test_bodies_of_other_shapes_do_not_add_up(base: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config: Any = AutoConfig.from_pretrained(base)
    config.num_hidden_layers = 2
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "shallow")
    with pytest.raises(errors.InvalidValue, match="in one of the two models only"):
        shift_body(base, base, tmp_path / "shallow", tmp_path / "new")
    with pytest.raises(errors.InvalidValue, match="finite"):
        shift_body(base, base, base, tmp_path / "new", factor=float("nan"))
    report = shift_body(base, base, base, tmp_path / "same")
    assert report.shifted == 0
    first, second = (tensors(one) for one in (base, tmp_path / "same"))
    assert all(torch.equal(first[name], second[name]) for name in first)
