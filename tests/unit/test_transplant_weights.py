"""Vocabulary tensors are found in every layout, read by rows, and refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from anyvocab import errors
from anyvocab.transplant.weights import Checkpoint
from anyvocab.transplant.weights import matrix as matrix_module

pytestmark = pytest.mark.models

V, D = 96, 16
LLAMA = {
    "model.embed_tokens.weight": (V, D),
    "model.layers.0.mlp.up_proj.weight": (24, D),
    "lm_head.weight": (V, D),
}
CONFIG = {"vocab_size": V, "hidden_size": D, "intermediate_size": 24}


def tensors(shapes: Mapping[str, tuple[int, ...]], dtype: str = "float32") -> dict[str, Any]:
    """Return tensors from a seed; equal shapes have different numbers."""
    import torch

    generator = torch.Generator().manual_seed(7)
    return {
        name: torch.randn(shape, generator=generator).to(getattr(torch, dtype))
        for name, shape in shapes.items()
    }


def model(
    folder: Path,
    made: Mapping[str, Any],
    config: Mapping[str, object] = CONFIG,
    *,
    file: str = "model.safetensors",
) -> Path:
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    save_file(dict(made), folder / file, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def shards(folder: Path, *parts: Mapping[str, Any], config: Mapping[str, object] = CONFIG) -> Path:
    places = {}
    for i, part in enumerate(parts):
        model(folder, part, config, file=f"model-{i}.safetensors")
        places.update(dict.fromkeys(part, f"model-{i}.safetensors"))
    document = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(document))
    return folder


def sides(checkpoint: Checkpoint) -> dict[str, str]:
    return {tensor.name: tensor.side for tensor in checkpoint.tensors}


def transformers_models() -> dict[str, Callable[[], Any]]:
    import transformers as t

    sizes: dict[str, Any] = {
        "vocab_size": V,
        "hidden_size": D,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 32,
    }
    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1}
    gpt2: dict[str, Any] = {"vocab_size": V, "n_embd": D, "n_layer": 2, "n_head": 2, **ends}
    t5: dict[str, Any] = {"vocab_size": V, "d_model": D, "d_ff": 24, "num_layers": 2}
    return {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**sizes)),
        "tied llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**sizes, tie_word_embeddings=True)),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**gpt2)),
        "neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**sizes)),
        "phi": lambda: t.PhiForCausalLM(t.PhiConfig(**sizes)),
        "t5": lambda: t.T5ForConditionalGeneration(t.T5Config(**t5, num_heads=2, d_kv=8)),
        "bert": lambda: t.BertForMaskedLM(t.BertConfig(**sizes)),
    }


EXPECTED: dict[str, tuple[bool, dict[str, str]]] = {
    "llama": (False, {"lm_head.weight": "output", "model.embed_tokens.weight": "input"}),
    "tied llama": (True, {"model.embed_tokens.weight": "input"}),
    "gpt2": (True, {"transformer.wte.weight": "input"}),
    "neox": (False, {"embed_out.weight": "output", "gpt_neox.embed_in.weight": "input"}),
    "phi": (
        False,
        {"lm_head.bias": "bias", "lm_head.weight": "output", "model.embed_tokens.weight": "input"},
    ),
    "t5": (True, {"shared.weight": "input"}),
    "bert": (
        True,
        {"bert.embeddings.word_embeddings.weight": "input", "cls.predictions.bias": "bias"},
    ),
}


@pytest.mark.parametrize("layout", EXPECTED)
def test_what_transformers_saves_is_found(tmp_path: Path, layout: str) -> None:
    transformers_models()[layout]().save_pretrained(tmp_path)
    checkpoint = Checkpoint.open(tmp_path)
    tied, expected = EXPECTED[layout]
    assert (sides(checkpoint), checkpoint.tied, checkpoint.rows) == (expected, tied, V)
    assert checkpoint.tie.stored == ("once" if tied else "apart")


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({"transformer.word_embeddings.weight": (V, D)}, "i"),  # BLOOM, Falcon
        ({"model.decoder.embed_tokens.weight": (V, D)}, "i"),  # OPT
        ({"transformer.wte.weight": (V, D), "lm_head.bias": (V,), "lm_head.weight": (V, D)}, "ibo"),
        ({"model.shared.weight": (V, D), "final_logits_bias": (1, V)}, "ib"),
        ({"roberta.embeddings.word_embeddings.weight": (V, D), "lm_head.bias": (V,)}, "ib"),
        ({"backbone.embeddings.weight": (V, D)}, "i"),
        ({"model.tok_embeddings.weight": (V, D), "output.weight": (V, D)}, "io"),
        ({"model.embeddings.tok_embeddings.weight": (V, D), "decoder.bias": (V,)}, "ib"),
        ({"language_model.model.embed_tokens.weight": (V, D)}, "i"),
        ({"thing.token_table": (V, D)}, "i"),  # unknown, confirmed by its shape
        ({"thing.token_table": (V, D), "thing.unembedding": (V, D)}, "io"),
        ({"model.embed_tokens.weight": (V, D), "scorer.out.table": (V, D)}, "io"),
    ],
)
def test_layouts_are_told_by_names_and_shapes(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], expected: str
) -> None:
    others = {"norm.weight": (D,), "layers.0.output.weight": (24, D), "layers.0.up.bias": (24,)}
    checkpoint = Checkpoint.open(model(tmp_path, tensors({**shapes, **others})))
    found = sides(checkpoint)
    assert "".join(found[name][0] for name in shapes) == expected
    assert len(found) == len(shapes)


def test_a_bias_of_one_line_has_its_ids_along_the_second_axis(tmp_path: Path) -> None:
    shapes = {"shared.weight": (V, D), "final_logits_bias": (1, V)}
    made = tensors(shapes)
    checkpoint = Checkpoint.open(model(tmp_path, made))
    bias = checkpoint.find("bias")
    assert bias is not None
    assert (bias.axis, bias.rows, bias.width, bias.shape_for(7)) == (1, V, 1, (1, 7))
    with checkpoint.matrix("bias") as matrix:
        assert matrix.take([3, 5]).tolist() == made["final_logits_bias"][0, [3, 5], None].tolist()


def test_per_layer_rows_have_a_vocabulary_size_of_their_own(tmp_path: Path) -> None:
    config = {
        "text_config": {"vocab_size": V, "vocab_size_per_layer_input": 80, "hidden_size": D},
        "vision_config": {"vocab_size": 5},
    }
    shapes = {
        "model.language_model.embed_tokens.weight": (V, D),
        "model.language_model.embed_tokens_per_layer.weight": (80, 2 * D),
        "model.embed_vision.embedding.weight": (5, D),
    }
    checkpoint = Checkpoint.open(model(tmp_path, tensors(shapes), config))
    assert [(t.rows, t.vocabulary) for t in checkpoint.tensors] == [(V, "model"), (80, "per_layer")]
    assert checkpoint.rows == V


def test_copies_in_other_modules_are_marked_and_do_not_stand_for_a_side(tmp_path: Path) -> None:
    made = tensors(
        {
            "a.layers.9.embed_tokens.weight": (V, D),
            "a.layers.9.shared_head.head.weight": (V, D),
            "lm_head.weight": (V, D),
            "model.embed_tokens.weight": (V, D),
        }
    )
    made["a.layers.9.embed_tokens.weight"] = made["model.embed_tokens.weight"].clone()
    checkpoint = Checkpoint.open(model(tmp_path, made))
    assert {tensor.name: tensor.copy_of for tensor in checkpoint.tensors} == {
        "a.layers.9.embed_tokens.weight": "model.embed_tokens.weight",
        "a.layers.9.shared_head.head.weight": None,  # trained apart from the head
        "lm_head.weight": None,
        "model.embed_tokens.weight": None,
    }
    main = [checkpoint.find(side) for side in ("input", "output", "bias")]
    assert [tensor and tensor.name for tensor in main] == [
        "model.embed_tokens.weight",
        "lm_head.weight",
        None,
    ]


@pytest.mark.parametrize(
    ("said", "head", "tied", "stored", "reason"),
    [
        (None, None, True, "once", "does not forbid it"),
        (True, None, True, "once", "tie_word_embeddings is true"),
        (False, None, False, "headless", "no output matrix is stored"),
        (None, "same", True, "twice", "lm_head.weight equals model.embed_tokens.weight byte"),
        (True, "same", True, "twice", "byte for byte, and tie_word_embeddings is true"),
        (False, "same", False, "twice", "is false, although lm_head.weight equals"),
        (None, "other", False, "apart", "differs from model.embed_tokens.weight"),
        (False, "other", False, "apart", "differs from model.embed_tokens.weight"),
    ],
)
def test_ties_are_told_by_the_config_and_the_bytes(
    tmp_path: Path, said: bool | None, head: str | None, tied: bool, stored: str, reason: str
) -> None:
    made = tensors(LLAMA)
    if head is None:
        del made["lm_head.weight"]
    elif head == "same":
        made["lm_head.weight"] = made["model.embed_tokens.weight"].clone()
    config = CONFIG if said is None else {**CONFIG, "tie_word_embeddings": said}
    tie = Checkpoint.open(model(tmp_path, made, config)).tie
    assert (tie.tied, tie.stored) == (tied, stored)
    assert reason in tie.reason


def test_a_tie_that_the_bytes_deny_is_an_error_unless_the_bytes_decide(tmp_path: Path) -> None:
    folder = model(tmp_path, tensors(LLAMA), {**CONFIG, "tie_word_embeddings": True})
    with pytest.raises(errors.WeightsFormatError, match=r"lm_head.weight: .*model.embed_tokens"):
        Checkpoint.open(folder)
    checkpoint = Checkpoint.open(folder, ties="stored")
    assert not checkpoint.tied
    assert "differs from model.embed_tokens.weight" in checkpoint.notes[0]


def test_the_output_of_a_tied_model_is_its_input(tmp_path: Path) -> None:
    made = tensors({"model.embed_tokens.weight": (V, D)})
    checkpoint = Checkpoint.open(model(tmp_path, made))
    assert checkpoint.matrix("output").tensor.name == "model.embed_tokens.weight"
    with pytest.raises(errors.InvalidValue, match="no bias tensor"):
        checkpoint.matrix("bias")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_rows_are_read_bit_for_bit(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(matrix_module, "BLOCK", 500)  # several blocks, the last one shorter

    made = tensors(LLAMA, dtype)
    matrix = Checkpoint.open(model(tmp_path, made)).matrix("output")
    stored = made["lm_head.weight"]
    ids = [5, 0, V - 1, 5, *range(V), *[7] * 99]
    assert matrix.dtype == stored.dtype
    assert (matrix.rows, matrix.width, matrix.shape) == (V, D, (V, D))
    assert torch.equal(matrix.take(ids), stored[ids])
    assert torch.equal(matrix.take(torch.tensor(ids)), stored[ids])
    assert torch.equal(matrix.chunk(3, 9), stored[3:9])
    assert torch.equal(torch.cat(list(matrix.chunks())), stored)
    assert matrix.take([]).shape == (0, D)


def test_what_was_read_can_be_changed_and_outlives_the_file(tmp_path: Path) -> None:
    made = tensors(LLAMA)
    checkpoint = Checkpoint.open(model(tmp_path, made))
    with checkpoint.matrix("input") as matrix:
        chunk = matrix.chunk(0, 2)
        chunk.zero_()
        assert matrix.chunk(0, 2).tolist() == made["model.embed_tokens.weight"][:2].tolist()
    assert chunk.sum() == 0


@pytest.mark.parametrize("ids", [[-1], [0, V], [1 << 40]])
def test_an_id_without_a_row_is_an_error(tmp_path: Path, ids: list[int]) -> None:
    matrix = Checkpoint.open(model(tmp_path, tensors(LLAMA))).matrix("input")
    with pytest.raises(errors.InvalidValue, match="has no row; there are 96"):
        matrix.take(ids)
    with pytest.raises(errors.InvalidValue, match="no range of 96 rows"):
        matrix.chunk(3, max(V + 1, ids[-1]))


def test_ids_are_integers(tmp_path: Path) -> None:
    matrix = Checkpoint.open(model(tmp_path, tensors(LLAMA))).matrix("input")
    with pytest.raises(errors.InvalidValue, match="ids: numbers of type float64"):
        matrix.take([1.5])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["lm_head.weight", "model.embed_tokens.weight", "lm_head.bias"])
def test_rows_that_are_not_finite_are_named(tmp_path: Path, name: str, value: float) -> None:
    made = tensors({**LLAMA, "lm_head.bias": (V,)}, "bfloat16")
    made[name].view(V, -1)[[7, 90], -1] = value
    folder = model(tmp_path, made)
    with pytest.raises(errors.NumericsError, match=f"{name}: NaN or infinity in rows 7, 90;"):
        Checkpoint.open(folder)
    assert Checkpoint.open(folder, values="trust").rows == V


def test_the_code_of_a_model_is_noted_and_never_run(tmp_path: Path) -> None:
    config = {**CONFIG, "auto_map": {"AutoModel": "modeling_x.Model"}}
    folder = model(tmp_path, tensors(LLAMA), config)
    (folder / "modeling_x.py").write_text("raise SystemExit('this ran')")
    (note,) = Checkpoint.open(folder).notes
    assert "auto_map" in note
    assert "not run" in note


def _change(made: dict[str, Any], name: str, shape: tuple[int, ...], dtype: str) -> dict[str, Any]:
    import torch

    return {**made, name: torch.zeros(shape).to(getattr(torch, dtype))}


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "why"),
    [
        ("lm_head.weight", (V, D), "int8", "lm_head.weight: a vocabulary tensor of type I8"),
        ("lm_head.weight", (V, D // 2), "uint8", "of type U8: quantised or packed"),
        ("lm_head.qweight", (D, V // 8), "int32", "lm_head.weight is not stored as plain"),
        ("model.embed_tokens.weight_scale", (V, 1), "float32", "a quantiser's tensor"),
        ("model.layers.0.mlp.up_proj.weight", (24, D), "float8_e4m3fn", "quantised .F8_E4M3"),
        ("extra.table", (V, D), "float32", "extra.table .96, 16.: is of no known name"),
        ("extra.vector", (V,), "float32", "extra.vector .96.: is of no known name"),
    ],
)
def test_weights_that_are_not_read_are_named(
    tmp_path: Path, name: str, shape: tuple[int, ...], dtype: str, why: str
) -> None:
    folder = model(tmp_path, _change(tensors(LLAMA), name, shape, dtype))
    with pytest.raises(errors.UnsupportedWeights, match=why):
        Checkpoint.open(folder)


def test_a_quantised_model_is_refused_by_its_config(tmp_path: Path) -> None:
    config = {**CONFIG, "text_config": {"quantization_config": {"quant_method": "awq"}}}
    folder = model(tmp_path, tensors(LLAMA), config)
    with pytest.raises(errors.UnsupportedWeights, match=r"quantised \(awq\)"):
        Checkpoint.open(folder)


@pytest.mark.parametrize(
    ("shapes", "config"),
    [
        ({"a.table": (V, D), "b.table": (V, D)}, CONFIG),  # which is which
        ({"a.table": (V, V)}, CONFIG),  # which axis
        ({"a.table": (V, D)}, {**CONFIG, "intermediate_size": V}),  # V is another size as well
        ({"head.table": (V, D)}, CONFIG),  # a head alone
        ({"a.table": (V, 5)}, CONFIG),  # not the model's width
    ],
)
def test_a_matrix_that_nothing_confirms_is_ambiguous_until_it_is_told(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], config: dict[str, int]
) -> None:
    folder = model(tmp_path, tensors(shapes), config)
    with pytest.raises(errors.UnsupportedWeights, match="may be a vocabulary matrix"):
        Checkpoint.open(folder)
    told = dict(zip(shapes, ("input", "output"), strict=False))
    assert sides(Checkpoint.open(folder, sides=told)) == told


def test_ids_along_the_second_axis_are_refused(tmp_path: Path) -> None:
    folder = model(tmp_path, tensors({"a.table": (D, V)}))
    with pytest.raises(errors.UnsupportedWeights, match="ids lie along the second axis"):
        Checkpoint.open(folder)


def test_a_vocabulary_as_large_as_another_axis_is_no_obstacle(tmp_path: Path) -> None:
    shapes = {"embed_tokens.weight": (V, D), "mlp.up.weight": (V, D), "mlp.up.bias": (V,)}
    config = {**CONFIG, "intermediate_size": V}
    checkpoint = Checkpoint.open(model(tmp_path, tensors(shapes), config))
    assert sides(checkpoint) == {"embed_tokens.weight": "input"}
    assert "also another size of this model" in checkpoint.notes[0]


def test_a_tensor_of_every_layer_has_no_row_for_every_id(tmp_path: Path) -> None:
    layers = {f"layers.{i}.fused.weight": (V, D) for i in range(2)}
    checkpoint = Checkpoint.open(model(tmp_path, tensors({**LLAMA, **layers})))
    assert set(sides(checkpoint)) == {"lm_head.weight", "model.embed_tokens.weight"}


@pytest.mark.parametrize(
    ("shapes", "config", "why"),
    [
        (
            {**LLAMA, "lm_head.weight": (V - 1, D)},
            CONFIG,
            "95 rows, model.embed_tokens.weight has 96",
        ),
        (LLAMA, {"vocab_size": V + 1}, "96 rows, vocab_size of config.json says 97"),
        (LLAMA, {"text_config": {"vocab_size": 5}}, "text_config.vocab_size of config.json says 5"),
        ({**LLAMA, "x.word_embeddings.weight": (5, D)}, CONFIG, r"5 rows.*belongs to another"),
    ],
)
def test_matrices_with_different_rows_are_refused(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], config: dict[str, object], why: str
) -> None:
    folder = model(tmp_path, tensors(shapes), config)
    with pytest.raises(errors.WeightsFormatError, match=why):
        Checkpoint.open(folder)


def test_a_second_vocabulary_can_be_left_alone(tmp_path: Path) -> None:
    folder = model(tmp_path, tensors({**LLAMA, "x.word_embeddings.weight": (5, D)}))
    checkpoint = Checkpoint.open(folder, sides={"x.word_embeddings.weight": "other"})
    assert set(sides(checkpoint)) == {"lm_head.weight", "model.embed_tokens.weight"}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "x.pt", "consolidated.00.pth", "x.ckpt"])
def test_pickled_weights_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch x'\ntR.")
    with pytest.raises(errors.UnsupportedWeights, match=f"{name}: weights: .*pickled"):
        Checkpoint.open(tmp_path)


def test_a_folder_without_weights_or_config_says_so(tmp_path: Path) -> None:
    with pytest.raises(errors.SourceNotFound, match=r"no config\.json"):
        Checkpoint.open(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(errors.SourceNotFound, match="no safetensors weights"):
        Checkpoint.open(tmp_path)


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.safetensors.index.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "kind", "why"),
    [
        (
            lambda d: d["weight_map"].update(x="../secret.safetensors"),
            errors.WeightsFormatError,
            "lies outside the folder; it was not opened",
        ),
        (
            lambda d: d["weight_map"].update({"lm_head.weight": "gone.safetensors"}),
            errors.SourceNotFound,
            "it is missing",
        ),
        (
            lambda d: d["weight_map"].update({"lm_head.weight": "model-0.safetensors"}),
            errors.WeightsFormatError,
            "places it in model-0.safetensors; it is nowhere",
        ),
        (
            lambda d: d["weight_map"].update(x="model-0.safetensors"),
            errors.WeightsFormatError,
            "it is nowhere",
        ),
        (
            lambda d: d["weight_map"].pop("model.layers.0.mlp.up_proj.weight"),
            errors.WeightsFormatError,
            "does not name it",
        ),
        (lambda d: d.pop("weight_map"), errors.WeightsFormatError, "has no weight_map"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], kind: type[Exception], why: str
) -> None:
    made = tensors(LLAMA)
    head = {"lm_head.weight": made.pop("lm_head.weight")}
    folder = shards(tmp_path, made, head)
    assert set(Checkpoint.open(folder).shards) == {"model-0.safetensors", "model-1.safetensors"}
    _edit(folder, change)
    with pytest.raises(kind, match=why):
        Checkpoint.open(folder)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    made = tensors(LLAMA)
    head = {"lm_head.weight": made["lm_head.weight"]}
    with pytest.raises(errors.WeightsFormatError, match=r"lm_head.weight: .*model-0\S* as well as"):
        Checkpoint.open(shards(tmp_path, made, head))


def test_two_models_in_one_folder_are_refused(tmp_path: Path) -> None:
    made = tensors(LLAMA)
    model(tmp_path, made)
    with pytest.raises(errors.WeightsFormatError, match="two models in one folder"):
        Checkpoint.open(shards(tmp_path, made))


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = model(tmp_path, tensors(LLAMA)) / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(errors.WeightsFormatError, match="it is cut off"):
        Checkpoint.open(tmp_path)


def test_unknown_arguments_are_refused(tmp_path: Path) -> None:
    folder = model(tmp_path, tensors(LLAMA))
    with pytest.raises(errors.InvalidValue, match="there is no tensor 'x'"):
        Checkpoint.open(folder, sides={"x": "input"})
    with pytest.raises(errors.InvalidValue, match="'both' is no side"):
        Checkpoint.open(folder, sides={"lm_head.weight": "both"})
    with pytest.raises(errors.InvalidValue, match="ties: 'no' is no choice"):
        Checkpoint.open(folder, ties="no")  # type: ignore[arg-type]
