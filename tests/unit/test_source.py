"""Where a tokenizer comes from: precedence in folders, formats by contents, what is refused."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

import anyvocab as av
from anyvocab import _source
from anyvocab._source import read_declarations, read_source, sniff

RANKS = b"".join(base64.b64encode(bytes([i])) + b" %d\n" % i for i in range(256))
PIECE = b"\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02"
SENTENCEPIECE = b"\x0a" + bytes([len(PIECE)]) + PIECE


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (b'{"version": "1.0"}', "tokenizer.json"),
        (b'\xef\xbb\xbf\n\t {"a": 1}', "tokenizer.json"),
        (RANKS, "tiktoken"),
        (b"IQ== 0\r\nIg== 1\r\n", "tiktoken"),
        (b"1 '\\x00' 1\n2 '\\x01' 1\n", "rwkv"),
        (b"1 b'\\xff' 1\n", "rwkv"),
        (b"GGUF\x03\x00\x00\x00", "gguf"),
        (SENTENCEPIECE, "sentencepiece"),
        (b"\x0a\x83\x01\x0a\x80\x01" + b"x" * 128, "sentencepiece"),
        (b"", None),
        (b"{", "tokenizer.json"),
        (b"\n\n\n\n\n", None),
        (b"\n" * 1000, None),
        (b"hello world", None),
        (b"\x0a", None),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff", None),
        (b"[1, 2]", None),
    ],
)
def test_a_format_is_known_by_its_contents(data: bytes, format: str | None) -> None:
    assert sniff(data) == format


def test_contents_go_before_the_suffix(tmp_path: Path, tiny: bytes) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(tiny)
    assert read_source(path).format == "tokenizer.json"


def test_the_suffix_decides_where_the_contents_do_not(tmp_path: Path) -> None:
    path = tmp_path / "broken.model"
    path.write_bytes(b"not a protobuf")
    assert read_source(path).format == "sentencepiece"


def test_a_folder_prefers_tokenizer_json(tmp_path: Path, tiny: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(SENTENCEPIECE)
    (tmp_path / "a.tiktoken").write_bytes(RANKS)
    assert read_source(tmp_path).format == "sentencepiece"
    (tmp_path / "tokenizer.json").write_bytes(tiny)
    found = read_source(str(tmp_path))
    assert (found.format, found.data) == ("tokenizer.json", tiny)
    assert found.file == str(tmp_path / "tokenizer.json")


def test_a_folder_with_two_candidates_is_refused(tmp_path: Path) -> None:
    for name in ("a.tiktoken", "b.tiktoken"):
        (tmp_path / name).write_bytes(RANKS)
    with pytest.raises(av.TokenizerFormatError, match=r"\*\.tiktoken: a\.tiktoken, b\.tiktoken"):
        read_source(tmp_path)


def test_a_folder_without_a_tokenizer_lists_what_it_holds(tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt", "weights.bin"):
        (tmp_path / name).touch()
    with pytest.raises(
        av.SourceNotFound, match=r"merges\.txt, vocab\.json, weights\.bin"
    ) as caught:
        read_source(tmp_path)
    assert "save_pretrained" in caught.value.fix
    assert caught.value.file == str(tmp_path)


@pytest.mark.parametrize("source", ["/no/such/place", "./no", "no-slash", "a/b/c", "nul\0byte"])
def test_a_place_that_is_not_there_is_named(source: str) -> None:
    with pytest.raises(av.SourceNotFound) as caught:
        read_source(source)
    assert caught.value.file == source


def test_an_unknown_pico_model_lists_the_known_ones() -> None:
    with pytest.raises(av.SourceNotFound, match="pico:code-2k, pico:code-4k"):
        read_source("pico:code-9k")


def test_a_hub_id_without_a_network_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((av.SourceNotFound, av.MissingExtra)) as caught:
        read_source("anyvocab-tests/no-such-model")
    assert "anyvocab-tests/no-such-model" in str(caught.value)


def test_a_hub_id_without_huggingface_hub_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(av.MissingExtra, match=r"pip install 'anyvocab\[models\]'"):
        read_source("org/name")


def test_a_file_over_the_limit_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_source, "FILE_LIMIT", 100)
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b"{" + b" " * 200 + b"}")
    with pytest.raises(av.LimitExceeded, match="over the limit of 100 bytes"):
        read_source(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(av.SourceNotFound, match="neither a file nor a folder"):
        read_source(tmp_path / "pipe")


@pytest.mark.parametrize(
    "contents",
    [b"[1]", b"{", b"\xff", b"null", b'{"a":' * 100_000, b'{"a": 1' + b"0" * 10_000 + b"}"],
    ids=["list", "cut", "not utf-8", "null", "deep", "huge number"],
)
def test_a_malformed_configuration_names_its_file(tiny_folder: Path, contents: bytes) -> None:
    path = tiny_folder / "generation_config.json"
    path.write_bytes(contents)
    with pytest.raises(av.TokenizerFormatError) as caught:
        read_source(tiny_folder)
    assert caught.value.file == str(path)


def test_chat_templates_come_from_configuration_and_files(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "chat_template": [
                    {"name": "default", "template": "old"},
                    {"name": "tool_use", "template": "tools"},
                    {"name": 3},
                ]
            }
        )
    )
    assert read_declarations(tmp_path).chat_templates == {"default": "old", "tool_use": "tools"}
    (tmp_path / "chat_template.jinja").write_text("new")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("rag")
    templates = read_declarations(tmp_path).chat_templates
    assert templates == {"default": "new", "tool_use": "tools", "rag": "rag"}


def test_a_rank_file_takes_its_special_tokens_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "x.tiktoken").write_bytes(RANKS)
    listed = {"256": {"content": "<|end|>", "special": True}, "x": {}, "257": "no"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": listed}))
    assert read_source(tmp_path).special_tokens == {"<|end|>": 256}


def test_objects_are_read_through_their_serialized_form(tiny: bytes) -> None:
    backend = SimpleNamespace(to_str=lambda: tiny.decode())
    assert read_source(backend).data == tiny
    fast = SimpleNamespace(
        backend_tokenizer=backend,
        special_tokens_map={"eos_token": "<|end|>", "additional_special_tokens": ["<|a|>"]},
        chat_template="{{ x }}",
        init_kwargs={"model_max_length": 7, "name_or_path": "/secret"},
    )
    found = read_source(fast)
    assert (found.data, found.format) == (tiny, "tokenizer.json")
    assert found.declarations.special_tokens_map["eos_token"] == "<|end|>"
    assert found.declarations.chat_templates == {"default": "{{ x }}"}
    assert found.declarations.tokenizer_config == {"model_max_length": 7}


def test_an_object_without_a_serialized_form_is_refused_by_name() -> None:
    class Slow:
        def encode(self, text: str) -> list[int]:
            return []

    with pytest.raises(av.UnsupportedTokenizer, match="a Slow object has no serialized tokenizer"):
        read_source(Slow())
    with pytest.raises(TypeError, match="got int"):
        read_source(3)
