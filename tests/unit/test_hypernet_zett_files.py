"""Folders of ZeTT hypernetworks: read as they were released, written and read again, refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is missing")
pytest.importorskip("safetensors", reason="safetensors is missing")

from safetensors.torch import load_file, save_file  # noqa: E402

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.hypernet.zett import ZettConfig, ZettHypernet  # noqa: E402
from anyvocab.hypernet.zett_files import load_zett, save_zett  # noqa: E402
from anyvocab.hypernet.zett_pieces import ZettTokenizer  # noqa: E402

CONFIG = ZettConfig(
    width=6,
    tied=False,
    source_rows=20,
    pad_id=2,
    hidden=64,
    inner=16,
    layers=2,
    extra_rows=3,
    languages=("en", "ru"),
    positions=9,
)

# A released configuration: what is the hypernetwork's, and what is left over from the source
# model, whose sizes, activation and epsilons are not the hypernetwork's.
RELEASED = {
    "_name_or_path": "mistralai/Mistral-7B-v0.1",
    "architectures": ["ZettHypernet"],
    "auto_map": {"AutoModel": "modeling_hypernet.ZettHypernet"},
    "hidden_act": "silu",
    "hidden_size": 4096,
    "hn_add_inter_token_attention": False,
    "hn_concat_last_hidden_state": False,
    "hn_embed_lang_id": True,
    "hn_embed_target_priors": False,
    "hn_embed_using_source_embeddings": True,
    "hn_hidden_size": 64,
    "hn_inter_token_attention_bias_by_priors": True,
    "hn_inter_token_attention_bias_scaler": 1.0,
    "hn_intermediate_size": 16,
    "hn_language_adapter_bottleneck_dim": 0,
    "hn_model_name_or_path": "roberta-base",
    "hn_model_type": "roberta",
    "hn_n_extra_tokens": 3,
    "hn_n_inter_token_blocks": 16,
    "hn_n_layers": 2,
    "hn_num_attention_heads": 1,
    "hn_predict_bias": True,
    "hn_rescale_embeddings": True,
    "hn_single_head": False,
    "hn_surface_maxlen": 7,
    "langs": ["en", "ru"],
    "max_position_embeddings": 32768,
    "model_type": "zett_hypernetwork",
    "n_embd": 6,
    "n_langs": 2,
    "num_attention_heads": 32,
    "original_vocab_size": 20,
    "pad_token_id": 2,
    "rms_norm_eps": 1e-05,
    "separate_out_embeddings": True,
    "use_unigram_bias": True,
    "vocab_size": 20,
}


def network_of(config: ZettConfig = CONFIG) -> ZettHypernet:
    torch.manual_seed(5)
    return ZettHypernet(config)


def released(folder: Path, *, drop: tuple[str, ...] = (), **changes: object) -> Path:
    """Write a folder as it was released: RoBERTa's token table is in the file."""
    folder.mkdir()
    tensors = network_of().state_dict()
    tensors["model.embeddings.word_embeddings.weight"] = torch.zeros(3, 64)
    save_file(tensors, folder / "model.safetensors")
    document = {name: one for name, one in (RELEASED | changes).items() if name not in drop}
    (folder / "config.json").write_text(json.dumps(document))
    return folder


def same(left: ZettHypernet, right: ZettHypernet) -> bool:
    ours, theirs = left.state_dict(), right.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[n], theirs[n]) for n in ours)


def test_a_released_folder_loads(tmp_path: Path) -> None:
    network = load_zett(released(tmp_path / "x"))
    assert network.config == CONFIG
    assert same(network, network_of())
    assert not network.training


def test_released_shards_load_as_one_file(tmp_path: Path) -> None:
    folder = released(tmp_path / "x")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, places = sorted(tensors), {}
    for part in (0, 1):
        file = f"model-0000{part + 1}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names[part::2]}, folder / file)
        places |= dict.fromkeys(names[part::2], file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert same(load_zett(folder), network_of())
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(errors.SourceNotFound, match="model-00002-of-00002"):
        load_zett(folder)


@pytest.mark.parametrize("form", ["anyvocab", "released"])
@pytest.mark.parametrize(
    "config",
    [CONFIG, replace(CONFIG, tied=True, languages=(), bias=False, extra_rows=0, heads=4)],
    ids=["untied", "tied"],
)
def test_what_is_written_is_read_again(tmp_path: Path, form: str, config: ZettConfig) -> None:
    folder = save_zett(network_of(config), tmp_path / "x", form=form, model="m")  # type: ignore[arg-type]
    read = load_zett(folder)
    assert read.config == config
    assert same(read, network_of(config))


def test_a_type_can_be_asked_for(tmp_path: Path) -> None:
    network = load_zett(released(tmp_path / "x"), dtype=torch.bfloat16)
    assert {one.dtype for one in network.state_dict().values()} == {torch.bfloat16}


def test_the_tokenizer_is_written_and_read_again(tmp_path: Path) -> None:
    tokenizer = ZettTokenizer.from_source(av.Tokenizer.load("pico:code-2k"))
    folder = save_zett(network_of(), tmp_path / "x", tokenizer=tokenizer)
    read = ZettTokenizer.load(folder, rows=tokenizer.rows)
    assert (read.json, read.extra) == (tokenizer.json, tokenizer.extra)


@pytest.mark.parametrize(
    ("name", "value", "meaning"),
    [
        ("hn_add_inter_token_attention", True, "inter-token attention"),
        ("hn_embed_target_priors", True, "embedded unigram probabilities"),
        ("hn_concat_last_hidden_state", True, "heads that read every position"),
        ("hn_single_head", True, "one head for both sides"),
        ("hn_language_adapter_bottleneck_dim", 8, "adapters for languages"),
        ("hn_rescale_embeddings", False, "rows that are not rescaled"),
        ("hn_embed_using_source_embeddings", False, "pieces with embeddings of their own"),
        ("hn_model_type", "t5", "layers that are not RoBERTa's"),
        ("hn_model_name_or_path", "roberta-large", "layers that are not roberta-base's"),
    ],
)
def test_a_kind_that_was_never_released_is_refused_by_name(
    tmp_path: Path, name: str, value: object, meaning: str
) -> None:
    with pytest.raises(errors.UnsupportedHypernet, match=f"{name}: {meaning} "):
        load_zett(released(tmp_path / "x", **{name: value}))


def test_a_switch_that_is_left_out_has_the_authors_default(tmp_path: Path) -> None:
    assert load_zett(released(tmp_path / "x", drop=("hn_single_head", "hn_predict_bias")))
    with pytest.raises(errors.UnsupportedHypernet, match="hn_rescale_embeddings"):
        load_zett(released(tmp_path / "y", drop=("hn_rescale_embeddings",)))


def test_languages_without_names_are_numbers(tmp_path: Path) -> None:
    network = load_zett(released(tmp_path / "x", drop=("langs",)))
    assert network.config.languages == ("0", "1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("langs", ["en"]),
        ("langs", ["en", "en"]),
        ("n_embd", "6"),
        ("n_embd", 0),
        ("hn_hidden_size", None),
        ("hn_n_layers", 10**9),
        ("hn_n_layers", 3),  # the file has two
        ("hn_n_extra_tokens", 4),
        ("pad_token_id", None),
        ("separate_out_embeddings", False),
    ],
)
def test_a_configuration_that_is_wrong_is_an_error(
    tmp_path: Path, name: str, value: object
) -> None:
    with pytest.raises(errors.WeightsFormatError):
        load_zett(released(tmp_path / "x", **{name: value}))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    folder = rewrite(released(tmp_path / "x"), lambda tensors: tensors.__delitem__("scaler.w"))
    with pytest.raises(errors.WeightsFormatError, match=r"scaler\.w: 1 tensors are missing"):
        load_zett(folder)


def test_a_tensor_that_does_not_belong_is_named(tmp_path: Path) -> None:
    folder = rewrite(
        released(tmp_path / "x"), lambda tensors: tensors.update(surprise=torch.zeros(1))
    )
    with pytest.raises(errors.WeightsFormatError, match="surprise: no such tensor"):
        load_zett(folder)


def test_a_weight_that_is_no_number_is_named(tmp_path: Path) -> None:
    folder = rewrite(released(tmp_path / "x"), lambda tensors: tensors["scaler.w"].fill_(torch.nan))
    with pytest.raises(errors.NumericsError, match=r"scaler\.w"):
        load_zett(folder)


@pytest.mark.parametrize(
    ("file", "kind", "words"),
    [
        ("flax_model.msgpack", errors.UnsupportedWeights, "convert_to_pt.py"),
        ("pytorch_model.bin", errors.UnsupportedWeights, "pytorch_model.bin: the weights are pick"),
        ("README.md", errors.SourceNotFound, "there is no model.safetensors"),
    ],
)
def test_other_weights_are_refused_by_name(
    tmp_path: Path, file: str, kind: type[Exception], words: str
) -> None:
    folder = released(tmp_path / "x")
    (folder / "model.safetensors").rename(folder / file)
    with pytest.raises(kind, match=words):
        load_zett(folder)


def test_a_pointer_of_git_lfs_is_recognised(tmp_path: Path) -> None:
    folder = released(tmp_path / "x")
    (folder / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2710000000\n"
    )
    with pytest.raises(errors.WeightsFormatError, match="git lfs pull"):
        load_zett(folder)


def test_a_folder_without_a_hypernetwork_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(errors.SourceNotFound, match=r"neither hypernet\.json nor config\.json"):
        load_zett(tmp_path)


def test_another_source_is_refused(tmp_path: Path) -> None:
    folder = save_zett(network_of(), tmp_path / "x", source_digest="a")
    assert load_zett(folder, source_digest="a")
    with pytest.raises(errors.InvalidValue, match="another source vocabulary"):
        load_zett(folder, source_digest="b")


@pytest.mark.parametrize(
    ("entry", "words"), [({"kind": "residual"}, "kind"), ({"format_version": 2}, "format 2")]
)
def test_a_manifest_of_another_kind_is_refused(
    tmp_path: Path, entry: dict[str, object], words: str
) -> None:
    folder = save_zett(network_of(), tmp_path / "x")
    manifest = folder / "hypernet.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | entry))
    with pytest.raises(errors.WeightsFormatError, match=words):
        load_zett(folder)


def test_an_unknown_entry_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = save_zett(network_of(), tmp_path / "x")
    manifest = folder / "hypernet.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"colour": "blue"}))
    with caplog.at_level(logging.WARNING):
        load_zett(folder)
    assert "colour" in caplog.text


def test_a_hypernetwork_is_not_overwritten_unasked(tmp_path: Path) -> None:
    folder = save_zett(network_of(), tmp_path / "x")
    with pytest.raises(errors.OutputExists, match=r"hypernet\.json, hypernet\.safetensors"):
        save_zett(network_of(), folder)
    save_zett(network_of(), folder, existing="replace")
    assert same(load_zett(folder), network_of())
