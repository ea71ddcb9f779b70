"""Training a hypernetwork as users do: a call or a command, resumed, used, trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import anyvocab as av  # noqa: E402
from anyvocab import InvalidValue, pico  # noqa: E402
from anyvocab.cli.app import run  # noqa: E402
from anyvocab.hypernet.data import Texts  # noqa: E402
from anyvocab.hypernet.options import FitOptions, NetworkOptions  # noqa: E402
from anyvocab.hypernet.sampler import SamplerOptions  # noqa: E402
from anyvocab.hypernet.training import MODEL, fit, open_body  # noqa: E402

pytestmark = pytest.mark.models

MODEL_NAME = "pico:code-2k"
TEXT = b"def add(first, second):\n    return first + second\n\n\nclass Adder:\n    total = 0\n"
TEXTS = [TEXT * (4 + i) for i in range(12)]


def options(**changes: Any) -> FitOptions:
    given: dict[str, Any] = {
        "steps": 3,
        "texts": 4,
        "window": 24,
        "span": 80,
        "rows": 300,
        "measured": 1,
        "dtype": "float32",
        "network": NetworkOptions(hidden=32, heads=2, layers=1),
        "sampler": SamplerOptions(vocab_size=600),
    }
    return FitOptions(**{**given, **changes})


def test_a_run_in_two_parts_has_the_losses_of_one_and_its_folder_predicts(tmp_path: Path) -> None:
    whole = fit(MODEL_NAME, iter(TEXTS), tmp_path / "whole", options=options())
    first = fit(MODEL_NAME, iter(TEXTS), tmp_path / "parts", options=options(steps=1))
    rest = fit(MODEL_NAME, iter(TEXTS), tmp_path / "parts", options=options())
    assert first.losses + rest.losses == whole.losses
    assert whole.measured[-1].anchored is not None
    hypernet = av.Hypernet.load(tmp_path / "parts")
    assert hypernet.card.trained["steps"] == 3
    rows = hypernet.predict("pico:code-4k", MODEL_NAME).rows()
    assert rows.output is not None
    assert torch.isfinite(rows.input).all()


def test_a_checkpoint_of_other_options_is_refused(tmp_path: Path) -> None:
    fit(MODEL_NAME, iter(TEXTS), tmp_path, options=options(steps=1))
    with pytest.raises(InvalidValue, match="another model, corpus or set of options"):
        fit(MODEL_NAME, iter(TEXTS), tmp_path, options=options(lexical=0.7))


def test_the_command_trains_resumes_shows_and_transfers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for i, text in enumerate(TEXTS):
        (corpus / f"{i}.txt").write_bytes(text)
    small = ["--texts", "4", "--window", "24", "--rows", "300", "--hidden", "32", "--layers", "1"]
    command = ["hypernet", "train", MODEL_NAME, "--corpus", str(corpus), *small]
    command += ["--out", str(tmp_path / "hyper"), "--vocab-size", "512:900", "--dtype", "float32"]
    assert run([*command, "--steps", "1"]) == 0
    assert "next: anyvocab hypernet transfer" in capsys.readouterr().out
    assert run([*command, "--steps", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["steps"] == 2
    assert told["measured"][0]["step"] == 0
    assert run(["hypernet", "show", str(tmp_path / "hyper"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trained"]["steps"] == 2
    swapped = [MODEL_NAME, "pico:code-4k", str(tmp_path / "new"), "--hypernet"]
    assert (
        run(["hypernet", "transfer", *swapped, str(tmp_path / "hyper"), "--verify", "files"]) == 0
    )
    assert "at the end of training" in capsys.readouterr().out
    assert av.bits_per_byte(tmp_path / "new", [TEXT]).bits_per_byte > 0
    assert run([*command, "--steps", "2", "--vocab-size", "small"]) == 2
    assert run([*command, "--minutes", "1", "--steps", "2"]) == 1
    other = [*command, "--out", str(tmp_path / "dynamic"), "--steps", "2", "--dynamic"]
    assert run([*other, "1"]) == 0
    assert "bits per byte that merging costs on held-out text" in capsys.readouterr().out
    assert run([*other, "2"]) == 1
    assert "dynamic_share: must be a share" in capsys.readouterr().err


def test_training_goes_on_for_one_tokenizer_and_its_model(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    fit(MODEL_NAME, iter(TEXTS), tmp_path / "hyper", options=options(steps=1))
    target = av.train(iter(TEXTS), vocab_size=400, special_tokens=[("eos", "<|end|>")])
    target.save(tmp_path / "target")
    place = tmp_path / "target"
    on = {"target": place, "start": tmp_path / "hyper"}
    chosen = options(steps=2, backbone="lora", lora_rank=2, backbone_lr=1e-2)
    report = fit(MODEL_NAME, iter(TEXTS), tmp_path / "nshot", options=chosen, **on)
    assert report.steps == 2
    trained = tmp_path / "nshot" / MODEL
    before = transformers.AutoModelForCausalLM.from_pretrained(pico.path("code-2k"))
    after = transformers.AutoModelForCausalLM.from_pretrained(trained)
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(before.state_dict()[name], after.state_dict()[name])
    assert torch.equal(before.get_input_embeddings().weight, after.get_input_embeddings().weight)
    done = av.swap(
        trained,
        place,
        tmp_path / "new",
        strategy="hypernet",
        options={"hypernet": str(tmp_path / "nshot")},
        verification="files",
    )
    assert done.ok
    assert av.bits_per_byte(tmp_path / "new", [TEXT]).bits_per_byte > 0


def test_a_network_says_what_was_trained_before_it(tmp_path: Path) -> None:
    fit(MODEL_NAME, iter(TEXTS), tmp_path / "a", options=options(steps=2))
    fit(MODEL_NAME, iter(TEXTS), tmp_path / "b", options=options(steps=1), start=tmp_path / "a")
    fit(MODEL_NAME, iter(TEXTS), tmp_path / "c", options=options(steps=1), start=tmp_path / "b")
    first = av.Hypernet.load(tmp_path / "a").card
    last = av.Hypernet.load(tmp_path / "c").card
    assert "before" not in first.trained
    assert last.trained["steps"] == 1
    assert last.trained["before"]["steps"] == 3
    assert last.trained["before"]["bits_per_byte"] == first.measured[0]["bits_per_byte"]
    assert "before that, from nothing: 3 steps" in (tmp_path / "c" / "README.md").read_text()


def test_merged_batches_alone_leave_what_is_predicted_for_vocabularies_as_it_was(
    tmp_path: Path,
) -> None:
    model = "pico:code-4k"  # one row for both sides
    report = fit(
        model, iter(TEXTS), tmp_path, options=options(dynamic_share=1.0, warmup=0), start=model
    )
    assert report.measured[0].merged is not None
    before, after = av.Hypernet.load(model), av.Hypernet.load(tmp_path)
    assert after.card.config["merged"] == "own"
    assert "what merging costs" in (tmp_path / "README.md").read_text()
    target = av.train(iter(TEXTS), vocab_size=300, special_tokens=[("eos", "<|end|>")])
    assert torch.equal(
        after.predict(target, model).rows().input, before.predict(target).rows().input
    )
    texts = [TEXT.decode(), "class Adder(Adder): pass"]
    read = [
        av.DynamicModel.load(model, rows=rows)(texts, attainable=1.0).inputs.inputs_embeds
        for rows in ("hypernet", tmp_path)
    ]
    assert not torch.equal(read[0], read[1])


def test_a_network_of_another_model_is_no_beginning(tmp_path: Path) -> None:
    fit(MODEL_NAME, iter(TEXTS), tmp_path / "hyper", options=options(steps=1))
    with pytest.raises(InvalidValue, match="vocabulary"):
        fit(
            "pico:code-4k", iter(TEXTS), tmp_path / "b", options=options(), start=tmp_path / "hyper"
        )


@pytest.mark.parametrize("name", ["pico:code-4k", "pico:code-2k"])
def test_shipped_networks_know_their_model_and_beat_the_mean(name: str) -> None:
    hypernet = av.Hypernet.load(name)
    assert hypernet.card.model == name
    other = "pico:code-2k" if name == "pico:code-4k" else "pico:code-4k"
    assert len(hypernet.predict(other)) > 1000  # the model is the card's
    first, *_, last = hypernet.card.measured
    # The last run was on merged batches alone, and left what vocabularies get as it was.
    assert last["merged"] < first["merged"]
    assert last["bits_per_byte"] == first["bits_per_byte"]
    assert last["bits_per_byte"] < hypernet.card.trained["before"]["bits_per_byte"]
    found = av.compare_strategies(
        name,
        other,
        strategies={"mean": ("mean", {}), "hypernet": ("hypernet", {"anchor": "none"})},
        judge=[TEXT, Path(pico.__file__).read_bytes()],
        floors=(),
        tie="keep",
        calibrate="off",
    )
    assert found.rows[0].strategy == "hypernet"


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: NetworkOptions(sides="bth"), "sides"),  # type: ignore[arg-type]
        (lambda: options(compile="yes"), "compile"),
        (lambda: options(weight_decay=-1.0), "weight_decay"),
    ],
)
def test_a_choice_that_is_none_is_refused_by_name(make: Any, field: str) -> None:
    with pytest.raises(InvalidValue, match=field):
        make()


def test_a_corpus_that_is_read_in_part_is_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    Texts.read(iter(TEXTS), limit_bytes=500)
    assert "only its first 500 bytes" in caplog.text


def masked_model(folder: Path, *, mask: bool = True) -> Path:
    """Write a tiny BERT whose tokenizer is a byte-level BPE."""
    target = av.train(iter(TEXTS), vocab_size=400, special_tokens=[("eos", "<|end|>")])
    document = json.loads(target.to_json())
    first = len(target.vocabulary)
    names = ["[CLS]", "[SEP]", "[MASK]"][: 3 if mask else 2]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    for id, name in enumerate(names, first):
        document["added_tokens"].append({"id": id, "content": name, "special": True, **flags})
    document["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
        ],
        "pair": [],
        "special_tokens": {
            name: {"id": name, "ids": [id], "tokens": [name]}
            for id, name in enumerate(names[:2], first)
        },
    }
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(document))
    roles = {"cls_token": "[CLS]", "sep_token": "[SEP]"} | (
        {"mask_token": "[MASK]"} if mask else {}
    )
    (folder / "special_tokens_map.json").write_text(json.dumps(roles))
    config = transformers.BertConfig(
        vocab_size=first + len(names),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    return folder


def test_a_masked_model_trains_with_its_mask_its_frame_and_its_bias(tmp_path: Path) -> None:
    model = masked_model(tmp_path / "bert")
    opened, body, controls = open_body(model, dtype="float32")
    first = len(opened.tokenizer.vocabulary) - 3
    assert (controls.first, controls.last, controls.mask) == ((first,), (first + 1,), first + 2)
    assert body.kind == "masked"
    report = fit(model, iter(TEXTS), tmp_path / "hyper", options=options(sampler=None))
    assert report.steps == 3
    hypernet = av.Hypernet.load(tmp_path / "hyper")
    rows = hypernet.predict("pico:code-4k", model).rows()
    assert rows.bias is not None


def test_a_masked_model_without_a_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="mask"):
        open_body(masked_model(tmp_path / "bert", mask=False))


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "t5"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"is_encoder_decoder": True}))
    with pytest.raises(InvalidValue, match="encoder-decoder"):
        open_body(folder)


@pytest.mark.parametrize("device", ["banana", "cuda", "cuda:7"])
def test_a_device_that_is_not_there_is_refused(device: str, tmp_path: Path) -> None:
    if device.startswith("cuda") and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InvalidValue, match=f"device: '{device}' cannot be used"):
        fit(MODEL_NAME, iter(TEXTS), tmp_path, options=options(), device=device)


def test_a_window_that_the_model_has_no_positions_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"window: .*give at most 511"):
        fit(MODEL_NAME, iter(TEXTS), tmp_path, options=options(window=512))


def test_a_folder_that_cannot_be_written_is_found_out_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    steps: list[int] = []
    with pytest.raises(OSError, match="file"):
        fit(
            MODEL_NAME,
            iter(TEXTS),
            tmp_path / "file",
            options=options(),
            watch=lambda trainer: steps.append(trainer.progress.step),
        )
    assert not steps
