"""The model beside the network: what saves memory changes nothing, what is trained is kept."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")

from anyvocab import InvalidValue, errors  # noqa: E402

EPS32 = 2.0**-23


def apart(runs: ModuleType, plain: dict[str, Any], other: dict[str, Any]) -> None:
    """Check that two ways to train give the same loss and gradients."""
    one, two = runs.trainer(**plain), runs.trainer(**other)
    wanted, found = runs.gradients(one), runs.gradients(two)
    targets = one._drawn[0].scored
    assert set(wanted) == set(found)
    largest = max(float(made.abs().max()) for name, made in wanted.items() if name != "nats")
    # A sum over the targets in another order moves by a rounding of the largest term for each.
    for name, made in wanted.items():
        bound = targets * EPS32 * max(largest, float(made.abs().max()))
        assert (found[name] - made).abs().max() <= bound, name


@pytest.mark.parametrize("parts", [2, 5, 6])
def test_gradients_do_not_depend_on_how_many_parts_a_step_is_done_in(
    parts: int, runs: ModuleType
) -> None:
    case = {"texts": 30, "alm": 0.5}
    apart(runs, case, {**case, "accumulate": parts})


@pytest.mark.parametrize("backbone", ["frozen", "full"])
@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_gradients_do_not_depend_on_whether_activations_are_made_anew(
    kind: str, backbone: str, runs: ModuleType
) -> None:
    case = {"kind": kind, "backbone": backbone, "rows": 600}  # more rows than a chunk has
    apart(runs, case, {**case, "checkpointing": True})


def test_activations_that_are_made_anew_are_not_kept(runs: ModuleType) -> None:
    def kept(**case: Any) -> int:
        run = runs.trainer(**case)
        held: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            held[storage.data_ptr()] = storage.nbytes()
            return tensor

        batch, _ = run._draw()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run.body.states(torch.ones(len(batch.inputs), 24, 16, requires_grad=True))
        return sum(held.values())

    assert kept(checkpointing=True) < kept() / 2


@pytest.mark.parametrize("backbone", ["lora", "full"])
def test_the_model_is_trained_and_its_vocabulary_is_not(backbone: str, runs: ModuleType) -> None:
    if backbone == "lora":
        pytest.importorskip("peft", reason="peft is missing")
    run = runs.trainer(backbone=backbone)
    before = run.backbone_state()
    vocabulary = [matrix.clone() for matrix in run.body.rows.sides]
    runs.losses(run, 2)
    after = run.backbone_state()
    assert before
    assert not [name for name in before if torch.equal(before[name], after[name])]
    assert all(
        torch.equal(matrix, now)
        for matrix, now in zip(vocabulary, run.body.rows.sides, strict=True)
    )
    assert not any("embed_tokens" in name or "lm_head" in name for name in before)


@pytest.mark.parametrize("backbone", ["lora", "full"])
def test_a_trained_model_is_part_of_exact_resume(
    backbone: str, tmp_path: Path, runs: ModuleType
) -> None:
    if backbone == "lora":
        pytest.importorskip("peft", reason="peft is missing")
    case = {"backbone": backbone, "backbone_lr": 0.01, "alm": 0.5, "alm_temperature": 2.0}
    unbroken = runs.losses(runs.trainer(**case), 4)
    first = runs.trainer(**case, folder=tmp_path)
    runs.losses(first, 2)
    first.save()
    again = runs.trainer(**case, folder=tmp_path)
    assert runs.losses(again, 4) == unbroken[2:]


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_a_saved_model_says_what_the_trained_one_says(
    kind: str, tmp_path: Path, runs: ModuleType
) -> None:
    pytest.importorskip("peft", reason="peft is missing")
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    run = runs.trainer(kind, backbone="lora", backbone_lr=0.05)
    runs.losses(run, 3)
    run.save_backbone(tmp_path / "model")
    opened = (AutoModelForCausalLM if kind == "causal" else AutoModelForMaskedLM).from_pretrained(
        tmp_path / "model", local_files_only=True
    )
    ids = torch.tensor([[260, 104, 105, 106, 107]])
    with torch.no_grad():
        wanted, found = run.body.model(ids).logits, opened.eval()(ids).logits
        run.backbone.body.model.requires_grad_(False)
        with run.backbone.teaching():
            before = run.body.model(ids).logits
    # A merged weight is rounded once, so each of the model's products of up to 24 terms moves by a
    # rounding of each; its logits are sums of what 2 layers of 7 products made.
    assert (wanted - found).abs().max() <= 14 * 24 * EPS32 * float(wanted.abs().max())
    assert (wanted - before).abs().max() > 100 * (wanted - found).abs().max()


def test_a_saved_model_has_the_sources_vocabulary(tmp_path: Path, runs: ModuleType) -> None:
    from safetensors.torch import load_file

    run = runs.trainer(backbone="full", backbone_lr=0.05)
    runs.losses(run, 2)
    run.save_backbone(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert torch.equal(stored["model.embed_tokens.weight"], run.body.rows.input)
    assert torch.equal(stored["lm_head.weight"], run.body.rows.sides[1])
    assert not any("lora" in name or "base_layer" in name for name in stored)


def test_adapters_without_peft_name_the_extra(
    monkeypatch: pytest.MonkeyPatch, runs: ModuleType
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(errors.MissingExtra, match=r"anyvocab\[hypernet\]"):
        runs.trainer(backbone="lora")


def test_a_model_that_sees_both_sides_is_refused_likelihood_matching(runs: ModuleType) -> None:
    with pytest.raises(InvalidValue, match="alm"):
        runs.trainer("masked", alm=1.0)
