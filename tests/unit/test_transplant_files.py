"""The small files of a swapped model: no old id survives, nothing is invented."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.doctor import Patient, examine
from anyvocab.roles import Declarations
from anyvocab.testing import tiny_tokenizer
from anyvocab.transplant.chat import ChatPlan
from anyvocab.transplant.files import (
    Remapped,
    config_files,
    generation_config,
    manifest,
    model_card,
    model_config,
    tokenizer_files,
    vocabulary_digest,
)
from anyvocab.transplant.ids import IdTranslator
from anyvocab.transplant.roles import map_controls

NONE = ChatPlan("none")


@cache
def load(fixtures: Path, name: str) -> av.Tokenizer:
    return av.Tokenizer.load(fixtures / "tokenizers" / name)


def tiny_with(*controls: str, **declared: object) -> av.Tokenizer:
    document = tiny_tokenizer()
    like = document["added_tokens"][0]  # type: ignore[index]
    document["added_tokens"] = [
        {**like, "id": 260 + i, "content": content} for i, content in enumerate(controls)
    ]
    tokenizer = av.Tokenizer.load(json.dumps(document).encode())
    return tokenizer.with_declarations(Declarations(**declared))  # type: ignore[arg-type]


def with_generation(tokenizer: av.Tokenizer, **generation: object) -> av.Tokenizer:
    declared = replace(tokenizer.declarations, generation_config=generation)
    return tokenizer.with_declarations(declared)


def ids(
    source: av.Tokenizer, target: av.Tokenizer, overrides: dict[str, str] | None = None
) -> IdTranslator:
    return IdTranslator(source, target, map_controls(source, target, overrides))


def generated(
    source: av.Tokenizer, target: av.Tokenizer, overrides: dict[str, str] | None = None
) -> Remapped:
    contents = source.declarations.generation_config
    return generation_config(contents, ids(source, target, overrides))


def embedded(source: str, target: str, **options: object) -> dict[str, dict[str, object]]:
    old, new = av.Tokenizer.load(source), av.Tokenizer.load(target)
    rows = len(new.vocabulary)
    small = config_files(old, new, map_controls(old, new), rows=rows, **options)  # type: ignore[arg-type]
    return {name: json.loads(data) for name, data in small.files.items()}


def test_one_token_for_three_roles_becomes_three_roles() -> None:
    files = embedded("pico:code-4k", "pico:code-2k")
    expected = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    assert files["config.json"] | expected == files["config.json"]
    assert files["generation_config.json"] | expected == files["generation_config.json"]


def test_three_roles_become_one_token() -> None:
    files = embedded("pico:code-2k", "pico:code-4k", tied=False)
    expected = {"bos_token_id": 4091, "eos_token_id": 4091, "pad_token_id": 4091}
    assert files["generation_config.json"] | expected == files["generation_config.json"]
    config = files["config.json"]
    assert config | expected | {"vocab_size": 4096, "tie_word_embeddings": False} == config


def test_what_is_no_id_stays_as_it_was() -> None:
    old = dict(av.Tokenizer.load("pico:code-4k").declarations.config)
    new = embedded("pico:code-4k", "pico:code-2k")["config.json"]
    changed = {name for name in old | new if old.get(name) != new.get(name)}
    assert changed == {"vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"}


LLAMA3 = {"bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "temperature": 0.6}
QWEN2 = {"bos_token_id": 151643, "eos_token_id": [151645, 151643], "pad_token_id": 151643}
LLAMA2 = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GPT2 = {"bos_token_id": 50256, "eos_token_id": 50256}


@pytest.mark.parametrize(
    ("source", "old", "target", "new"),
    [
        ("llama3", LLAMA3, "qwen2", {"eos_token_id": [151643, 151645], "temperature": 0.6}),
        ("llama3", LLAMA3, "gpt2", {"eos_token_id": [50256], "bos_token_id": 50256}),
        ("llama3", LLAMA3, "llama2", {"eos_token_id": [2], "bos_token_id": 1}),
        ("qwen2", QWEN2, "llama3", {"eos_token_id": [128009, 128001], "bos_token_id": 128000}),
        ("qwen2", QWEN2, "llama2", {"bos_token_id": 1}),
        ("llama2", LLAMA2, "llama3", {"eos_token_id": [128001, 128009], "bos_token_id": 128000}),
        ("llama2", LLAMA2, "gpt2", {"eos_token_id": 50256, "bos_token_id": 50256}),
        ("gpt2", GPT2, "llama2", {"eos_token_id": 2, "bos_token_id": 1}),
        ("gpt2", GPT2, "llama3", {"eos_token_id": [128001, 128009], "bos_token_id": 128000}),
        ("gpt2", GPT2, "qwen2", {"eos_token_id": [151643, 151645], "bos_token_id": 151643}),
    ],
)
def test_end_ids_are_those_that_take_an_old_ends_row(
    fixtures: Path, source: str, old: dict[str, object], target: str, new: dict[str, object]
) -> None:
    model = with_generation(load(fixtures, source), **old)
    found = generated(model, load(fixtures, target)).contents
    assert found | new == found
    size = len(load(fixtures, target).vocabulary)
    ends = found["eos_token_id"]
    for id in ends if isinstance(ends, list) else [ends]:
        assert isinstance(id, int)
        assert id < size
        assert load(fixtures, target).vocabulary.kind(id) == "control"


def test_an_end_without_a_counterpart_is_named_and_left_out(fixtures: Path) -> None:
    model = with_generation(load(fixtures, "llama3"), **LLAMA3)
    notes = generated(model, load(fixtures, "qwen2")).notes
    assert "128008 <|reserved_special_token_4|>" in " ".join(notes)


def test_no_padding_token_is_invented() -> None:
    source = tiny_with("</s>", generation_config={"eos_token_id": 260})
    target = tiny_with("<pad>", "</s>", tokenizer_config={"pad_token": "<pad>"})
    found = generated(source, target)
    assert found.contents == {"eos_token_id": 261}
    assert "the source names none; the target's is not added" in found.notes[0]


def test_padding_without_a_counterpart_is_left_out_and_named() -> None:
    source = tiny_with(
        "<pad>", "</s>", generation_config={"eos_token_id": 261, "pad_token_id": 260}
    )
    found = generated(source, tiny_with("</s>"))
    assert found.contents == {"eos_token_id": 260}
    assert "pad_token_id: left out, without a counterpart: 260 <pad>" in found.notes[0]


def test_a_target_without_an_end_keeps_no_old_id() -> None:
    source = tiny_with("</s>", generation_config={"eos_token_id": 260, "bos_token_id": 260})
    found = generated(source, tiny_with())
    assert found.contents == {}
    assert "generation never ends" in " ".join(found.notes)


def test_begin_and_padding_that_repeat_the_ends_row_do_not_end_a_text() -> None:
    source = tiny_with("<|x|>", generation_config={"eos_token_id": 260, "pad_token_id": 260})
    target = tiny_with(
        "<s>",
        "<pad>",
        "</s>",
        tokenizer_config={"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"},
    )
    assert generated(source, target).contents == {"eos_token_id": 262, "pad_token_id": 261}


def test_a_map_decides_which_token_ends_a_text() -> None:
    source = tiny_with("</s>", generation_config={"eos_token_id": 260})
    target = tiny_with("<|a|>", "<|b|>")
    assert generated(source, target, {"<|b|>": "</s>"}).contents == {"eos_token_id": 261}


def test_lists_of_ids_are_said_anew() -> None:
    source = tiny_with(
        "<|a|>",
        "<|b|>",
        generation_config={
            "suppress_tokens": [260, 261, ord("x"), 257, -1],
            "begin_suppress_tokens": [261],
            "bad_words_ids": [[ord("x"), ord("y")], [261], [256, 260, ord("o")]],
            "sequence_bias": [[[ord("x")], -1.5], [[261], 2.0]],
            "forced_decoder_ids": [[1, 260], [2, None], [3, 261]],
            "lang_to_id": {"en": 260, "de": 261},
            "no_timestamps_token_id": 260,
            "assistant_token_id": 261,
            "max_new_tokens": 32,
        },
    )
    document = tiny_tokenizer()
    like = document["added_tokens"][0]  # type: ignore[index]
    document["added_tokens"] = [{**like, "id": 257, "content": "<|a|>"}]
    model = document["model"]
    assert isinstance(model, dict)
    vocab = {t: i for t, i in model["vocab"].items() if i < 256}
    model |= {"vocab": vocab | {"xy": 256}, "merges": [["x", "y"]]}
    target = av.Tokenizer.load(json.dumps(document).encode())
    found = generated(source, target)
    assert found.contents == {
        "suppress_tokens": [257, ord("x")],
        "bad_words_ids": [[256], [ord("h"), ord("e"), 257, ord("o")]],
        "sequence_bias": [[[ord("x")], -1.5]],
        "forced_decoder_ids": [[1, 257], [2, None]],
        "lang_to_id": {"en": 257},
        "no_timestamps_token_id": 257,
        "max_new_tokens": 32,
    }
    assert "suppress_tokens: 2 ids left out, no token is the same: 261 <|b|>, 257 ll" in " ".join(
        found.notes
    )


def test_bad_words_keep_the_space_before_them(fixtures: Path) -> None:
    gpt2, llama2 = load(fixtures, "gpt2"), load(fixtures, "llama2")
    words = gpt2.encode(" damn fool").tolist()
    found = generation_config({"bad_words_ids": [words]}, ids(gpt2, llama2)).contents
    (new,) = found["bad_words_ids"]  # type: ignore[misc]
    assert b"".join(llama2.vocabulary.token_bytes(id) or b"" for id in new) == b" damn fool"


def test_a_missing_generation_config_is_made_from_the_new_config() -> None:
    source = tiny_with("</s>", config={"vocab_size": 261, "eos_token_id": 260})
    target = tiny_with("<s>", "</s>")
    small = config_files(source, target, map_controls(source, target), rows=264)
    assert json.loads(small.files["generation_config.json"]) == {"eos_token_id": 261}
    assert json.loads(small.files["config.json"])["vocab_size"] == 264


def test_ids_that_a_class_would_fill_in_are_written_out() -> None:
    # LlamaConfig without them begins with 1 and ends with 2: ordinary tokens of the target.
    source = tiny_with("</s>", config={"vocab_size": 261, "model_type": "llama"})
    found = model_config({"vocab_size": 261}, ids(source, tiny_with("<|a|>", "</s>")), rows=262)
    assert found.contents == {"vocab_size": 262, "eos_token_id": 261, "bos_token_id": None}
    assert "whose default is an old id" in " ".join(found.notes)


def test_nested_text_configs_are_translated_too() -> None:
    source = tiny_with("</s>", "<image>", "<pad>")
    target = tiny_with("<|x|>", "<image>", "</s>", "<pad>")
    contents = {
        "image_token_id": 261,
        "eos_token_id": [260],
        "tie_word_embeddings": True,
        "text_config": {
            "vocab_size": 263,
            "eos_token_id": 260,
            "pad_token_id": 262,
            "bos_token_id": None,
            "tie_word_embeddings": True,
            "max_position_embeddings": 4096,
        },
        "vision_config": {"vocab_size": 7, "image_token_id": 5},
    }
    found = model_config(contents, ids(source, target), rows=320, tied=False).contents
    assert found == {
        "image_token_id": 261,
        "eos_token_id": [262],
        "tie_word_embeddings": False,
        "text_config": {
            "vocab_size": 320,
            "eos_token_id": 262,
            "pad_token_id": 263,
            "bos_token_id": None,
            "tie_word_embeddings": False,
            "max_position_embeddings": 4096,
        },
        "vision_config": {"vocab_size": 7, "image_token_id": 5},
    }


def test_fields_that_nobody_can_translate_are_named_together() -> None:
    source = tiny_with("</s>", "<image>")
    contents = {
        "vocab_size": 262,
        "image_token_index": 261,
        "audio_token_id": 999,
        "vocab_size_per_layer_input": 262,
        "pad_vocab_size_multiple": 8,
    }
    translator = ids(source, tiny_with("</s>"))
    with pytest.raises(errors.InvalidValue) as raised:
        model_config(contents, translator, rows=261)
    message = str(raised.value)
    assert "config.json: image_token_index" in message
    assert "image_token_index is 261 <image>, which has no counterpart" in message
    assert "audio_token_id is 999 (no id of the source)" in message
    assert "vocab_size_per_layer_input counts rows of another table" in message


def test_other_tables_rows_are_written_where_the_caller_knows_them() -> None:
    contents = {"vocab_size": 261, "vocab_size_per_layer_input": 261, "eos_token_id": 260}
    translator = ids(tiny_with("</s>"), tiny_with("</s>"))
    found = model_config(
        contents, translator, rows=300, other_rows={"vocab_size_per_layer_input": 300}
    )
    assert found.contents["vocab_size_per_layer_input"] == 300


def test_the_same_tokenizer_leaves_configurations_as_they_are() -> None:
    for name in ("pico:code-4k", "pico:code-2k"):
        declared = av.Tokenizer.load(name).declarations
        files = embedded(name, name)
        assert files["config.json"] == declared.config
        assert files["generation_config.json"] == declared.generation_config


def test_the_models_window_stays_the_models(fixtures: Path) -> None:
    source, target = av.Tokenizer.load("pico:code-4k"), load(fixtures, "gpt2")
    config = json.loads(tokenizer_files(source, target, NONE)["tokenizer_config.json"])
    assert config["model_max_length"] == 512
    bare = source.with_declarations(Declarations(config={"max_position_embeddings": 77}))
    config = json.loads(tokenizer_files(bare, target, NONE)["tokenizer_config.json"])
    assert config["model_max_length"] == 77


def test_tokenizer_files_hold_the_planned_template_only() -> None:
    source = tiny_with("</s>", chat_templates={"default": "source"})
    target = tiny_with("</s>", chat_templates={"default": "target", "rag": "r"})
    planned = ChatPlan("translate", {"default": "new", "tools": "t"})
    files = tokenizer_files(source, target, planned)
    assert files["chat_template.jinja"] == b"new"
    assert files["additional_chat_templates/tools.jinja"] == b"t"
    assert set(tokenizer_files(source, target, NONE)) == {"tokenizer.json", "tokenizer_config.json"}


def written(folder: Path, source: av.Tokenizer, target: av.Tokenizer) -> av.Tokenizer:
    rows = len(target.vocabulary)
    small = config_files(source, target, map_controls(source, target), rows=rows)
    folder.mkdir()
    for name, data in {**small.files, **tokenizer_files(source, target, NONE)}.items():
        (folder / name).write_bytes(data)
    return av.Tokenizer.load(folder)


@pytest.mark.parametrize(
    ("source", "target"),
    [("pico:code-4k", "pico:code-2k"), ("pico:code-2k", "pico:code-4k"), ("pico:code-2k", "gpt2")],
)
def test_the_doctor_finds_no_error_in_what_is_written(
    fixtures: Path, tmp_path: Path, source: str, target: str
) -> None:
    new = av.Tokenizer.load(target) if ":" in target else load(fixtures, target)
    tokenizer = written(tmp_path / "new", av.Tokenizer.load(source), new)
    patient = Patient.of(tokenizer, folder=tmp_path / "new")
    findings = [one for one in examine(patient).findings if one.severity == "error"]
    assert findings == []
    assert vocabulary_digest(tokenizer.vocabulary) == vocabulary_digest(new.vocabulary)


def test_digests_tell_vocabularies_apart() -> None:
    one, other = tiny_with("<|a|>"), tiny_with("<|b|>")
    assert vocabulary_digest(one.vocabulary) == vocabulary_digest(tiny_with("<|a|>").vocabulary)
    assert vocabulary_digest(one.vocabulary) != vocabulary_digest(other.vocabulary)


def test_the_manifest_says_what_was_done_to_what() -> None:
    source, target = av.Tokenizer.load("pico:code-2k"), av.Tokenizer.load("pico:code-4k")
    controls = map_controls(source, target)
    files = manifest(
        source,
        target,
        strategy={"input": {"name": "mean"}},
        options={"tie": "keep"},
        origins={"copied": 1000},
        chat=ChatPlan("none", {}, ("why",)),
        controls=controls,
        files={"config.json": b"{}"},
        notes=["n"],
    )
    document = json.loads(files["swap.json"])
    assert (document["format_version"], document["kind"]) == (1, "swap")
    assert document["source_vocabulary"] == {
        "ids": 2048,
        "sha256": vocabulary_digest(source.vocabulary),
    }
    assert document["chat"] == {"notes": ["why"], "policy": "none"}
    first = document["control_tokens"][0]
    assert (first["spelling"], first["input_sources"], first["output_sources"]) == (
        "<|endoftext|>",
        [1],
        [2],
    )
    assert document["unclaimed_source_ids"] == [0]
    assert list(document) == sorted(document)


def card(**changes: object) -> str:
    given = {
        "title": "tiny",
        "source": "org/base",
        "target": "/srv/someone/tok",
        "strategy": "mean of pieces",
        "facts": {"copied": 1234},
        "numbers": {"bits per byte": 1.23456},
        **changes,
    }
    return model_card(**given).decode()  # type: ignore[arg-type]


def test_the_card_names_its_base_its_numbers_and_its_licence() -> None:
    text = card(source_card='---\nlicense: "mit"\ntags: [x]\n---\n# Base\n')
    assert text.startswith('---\nbase_model: "org/base"\nlibrary_name: "transformers"\n')
    assert 'license: "mit"\n' in text
    assert "its licence (mit) applies to them" in text
    assert "| bits per byte | 1.235 |" in text
    assert "| copied | 1,234 |" in text
    assert "/srv/someone" not in text


def test_notes_are_plain_text_in_the_card() -> None:
    text = card(notes=["eos_token_id: left out: 2 </s>", "_x_ *y* [z](u) `c` | \\"])
    assert "- eos_token_id: left out: 2 \\</s\\>\n" in text
    assert "- \\_x\\_ \\*y\\* \\[z\\](u) \\`c\\` \\| \\\\\n" in text


def test_a_path_is_no_base_model() -> None:
    assert "base_model" not in card(source="/models/base")
    assert "base_model" not in card(source="pico:code-4k")


def test_names_cannot_break_the_card() -> None:
    text = card(title="a\n---\nb | <script>", source_card="---\nlicense: {x: [\n---\n")
    assert text.count("\n---\n") == 1
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "license" not in text


def test_the_front_matter_is_what_the_hub_accepts() -> None:
    yaml = pytest.importorskip("yaml")
    front = card(source_card="---\nlicense: apache-2.0\nlicense_link: https://x.y/z\n---\n")
    document = yaml.safe_load(front.split("---\n")[1])
    assert document == {
        "base_model": "org/base",
        "library_name": "transformers",
        "license": "apache-2.0",
        "license_link": "https://x.y/z",
        "tags": ["anyvocab", "tokenizer-swap"],
    }


@pytest.mark.models
def test_transformers_loads_the_written_tokenizer(fixtures: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    tokenizer = written(
        tmp_path / "new", av.Tokenizer.load("pico:code-4k"), load(fixtures, "llama2")
    )
    loaded = AutoTokenizer.from_pretrained(tmp_path / "new")
    generation = GenerationConfig.from_pretrained(tmp_path / "new")
    assert generation.eos_token_id == loaded.eos_token_id
    assert (
        loaded("def f(x):")["input_ids"]
        == tokenizer.encode("def f(x):", add_special_tokens=True).tolist()
    )
    assert loaded.model_max_length == 512
