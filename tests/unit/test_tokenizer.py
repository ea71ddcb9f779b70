"""The tokenizer's Python face, on a tokenizer small enough to check by hand."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import anyvocab as av
from anyvocab.testing import tiny_tokenizer

# ids of the tiny tokenizer
HE, LL, HELL, SPACE_HELL, END, FIM_PREFIX = 256, 257, 258, 259, 260, 261


@pytest.fixture
def tok(tiny: bytes) -> av.Tokenizer:
    return av.Tokenizer.load(tiny)


def test_ids_are_what_the_merges_say(tok: av.Tokenizer) -> None:
    assert tok.encode("hello hell").tolist() == [HELL, ord("o"), SPACE_HELL]
    assert tok.encode("hello").dtype == np.uint32
    assert tok.encode("").tolist() == []


def test_text_may_be_str_or_any_bytes(tok: av.Tokenizer) -> None:
    for text in (b"hell\xff", bytearray(b"hell\xff"), memoryview(b"hell\xff")):
        assert tok.decode(tok.encode(text)) == b"hell\xff"
    lone = "a\ud800"
    assert tok.decode(tok.encode(lone)) == b"a\xed\xa0\x80"
    assert tok.decode_text(tok.encode(lone)) == "a���"
    with pytest.raises(UnicodeDecodeError):
        tok.decode_text(tok.encode(lone), errors="strict")
    with pytest.raises(TypeError, match="got int"):
        tok.encode(3)  # type: ignore[arg-type]


def test_special_tokens_are_parsed_or_text(tok: av.Tokenizer) -> None:
    assert tok.encode("he<|end|>").tolist() == [HE, END]
    assert END not in tok.encode("he<|end|>", specials="text").tolist()
    assert tok.decode([HE, END]) == b"he<|end|>"
    assert tok.decode([HE, END], skip_special=True) == b"he"
    with pytest.raises(ValueError, match="specials"):
        tok.encode("x", specials="both")  # type: ignore[arg-type]


def test_offsets_are_bytes(tok: av.Tokenizer) -> None:
    encoding = tok.encode_with_offsets("é hell")
    assert len(encoding) == 3
    assert encoding.offsets.tolist() == [[0, 1], [1, 2], [2, 7]]
    assert encoding.offsets.dtype == np.int64


def test_a_batch_equals_its_texts_for_any_number_of_threads(tok: av.Tokenizer) -> None:
    texts: list[str | bytes] = ["hello", b"", "hell hell", "x" * 1000]
    for threads in (None, 1, 2, 7):
        batch = tok.encode_batch(texts, threads=threads)
        assert batch.to_list() == [tok.encode(text).tolist() for text in texts]
    assert len(tok.encode_batch([])) == 0
    with pytest.raises(TypeError, match="use encode"):
        tok.encode_batch("hello")
    with pytest.raises(av.InvalidValue, match="threads: must be at least 1, got 0"):
        tok.encode_batch(["x"], threads=0)


def test_count_is_the_number_of_ids(tok: av.Tokenizer) -> None:
    for text in ("", "hello hell", "<|end|>", b"\xff\xfe"):
        assert tok.count(text) == len(tok.encode(text))


def test_decode_refuses_what_is_no_id(tok: av.Tokenizer) -> None:
    for ids in ([262], [-1], [1 << 32], [1 << 70], np.array([-1], dtype=np.int64)):
        with pytest.raises(av.InvalidValue):
            tok.decode(ids)
    for wrong in ([1.5], "12", b"12", [[1, 2]], 7):
        with pytest.raises(TypeError):
            tok.decode(wrong)  # type: ignore[arg-type]
    assert tok.decode([]) == b""
    assert tok.decode(np.array([HE], dtype=np.int16)) == b"he"
    assert tok.decode(tuple(tok.encode("hello").tolist())) == b"hello"


def test_canonical_is_what_encode_gives(tok: av.Tokenizer) -> None:
    assert tok.is_canonical([HELL])
    assert not tok.is_canonical([HE, LL])
    assert tok.is_canonical([])


def test_an_incremental_encoder_agrees_after_every_step(tok: av.Tokenizer) -> None:
    encoder = tok.incremental()
    text = b""
    for step in (b"he", b"ll", b"o h", -2, b" hell", -7, b"x"):
        if isinstance(step, bytes):
            encoder.append(step)
            text += step
        else:
            encoder.rollback(-step)
            text = text[:step]
        assert encoder.ids().tolist() == tok.encode(text).tolist()
        assert len(encoder) == len(text)
        assert 0 <= encoder.stable() <= len(encoder.ids())
    with pytest.raises(av.InvalidValue, match="cannot be taken back"):
        encoder.rollback(len(text) + 1)


def test_a_pickled_tokenizer_gives_the_same_ids_and_roles(tiny_folder: Path) -> None:
    tok = av.Tokenizer.load(tiny_folder)
    again = pickle.loads(pickle.dumps(tok))
    assert again.encode("hello <|end|>").tolist() == tok.encode("hello <|end|>").tolist()
    assert again.vocabulary.roles == tok.vocabulary.roles
    assert again.chat_template == tok.chat_template


def test_a_pickled_rank_file_keeps_its_pattern_and_special_tokens() -> None:
    ranks = b"".join(base64.b64encode(bytes([byte])) + b" %d\n" % byte for byte in range(256))
    tok = av.Tokenizer.load(ranks, pattern=r"\w+|\W+", special_tokens={"<|end|>": 300})
    again = pickle.loads(pickle.dumps(tok))
    assert again.encode("hi<|end|>").tolist() == [104, 105, 300]
    assert again.vocabulary.holes().tolist() == list(range(256, 300))


def test_what_only_rank_files_need_is_refused_elsewhere(tiny: bytes) -> None:
    for options in ({"pattern": "x"}, {"special_tokens": {"x": 1}}):
        with pytest.raises(av.InvalidValue, match="it is for rank files"):
            av.Tokenizer.load(tiny, **options)  # type: ignore[arg-type]


def test_a_tokenizer_loads_as_itself(tok: av.Tokenizer) -> None:
    assert av.Tokenizer.load(tok) is tok


def test_repr_says_what_it_is(tiny_folder: Path) -> None:
    shown = repr(av.Tokenizer.load(tiny_folder))
    assert "262 ids" in shown
    assert str(tiny_folder) in shown


def test_a_malformed_file_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}}')
    with pytest.raises(av.AnyvocabError) as caught:
        av.Tokenizer.load(path)
    assert caught.value.file == str(path)
    assert caught.value.field


def test_ragged_rows_are_views_and_slices_are_ragged(tok: av.Tokenizer) -> None:
    batch = tok.encode_batch(["hello", "", "he"])
    assert len(batch) == 3
    assert batch[0].base is batch.ids or batch[0].base is batch.ids.base
    assert batch[-1].tolist() == [HE]
    assert batch[1:].to_list() == [[], [HE]]
    assert batch[::-1].to_list() == [[HE], [], [HELL, ord("o")]]
    assert batch[3:].to_list() == batch[2:1].to_list() == []
    assert batch.lengths().tolist() == [2, 0, 1]
    assert [row.tolist() for row in batch] == batch.to_list()
    with pytest.raises(IndexError):
        batch[3]


def test_save_writes_stock_files_that_load_again(tiny_folder: Path, tmp_path: Path) -> None:
    tok = av.Tokenizer.load(tiny_folder)
    out = tok.save(tmp_path / "new" / "folder")
    names = sorted(path.name for path in out.iterdir())
    assert names == [
        "anyvocab.json",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    config = json.loads((out / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["eos_token"] == "<|end|>"
    assert config["model_max_length"] == 512
    assert config["added_tokens_decoder"]["260"]["content"] == "<|end|>"
    again = av.Tokenizer.load(out)
    text = "hello hell <|end|> é \U0001f600"
    assert again.encode(text).tolist() == tok.encode(text).tolist()
    assert again.chat_template == tok.chat_template


def test_save_keeps_named_special_tokens_that_exist(tiny_folder: Path, tmp_path: Path) -> None:
    extra = {"fim_prefix_token": "<|fim_prefix|>"}
    config = {"extra_special_tokens": extra, "additional_special_tokens": ["<|gone|>"]}
    (tiny_folder / "tokenizer_config.json").write_text(json.dumps(config))
    out = av.Tokenizer.load(tiny_folder).save(tmp_path / "out")
    saved = json.loads((out / "tokenizer_config.json").read_text())
    assert saved["extra_special_tokens"] == extra
    assert "additional_special_tokens" not in saved


def test_save_is_the_same_bytes_every_time(tiny_folder: Path, tmp_path: Path) -> None:
    tok = av.Tokenizer.load(tiny_folder)
    a, b = tok.save(tmp_path / "a"), tok.save(tmp_path / "b")
    for path in a.iterdir():
        assert path.read_bytes() == (b / path.name).read_bytes()


def test_save_refuses_to_overwrite_and_to_contradict(tiny: bytes, tmp_path: Path) -> None:
    tok = av.Tokenizer.load(tiny)
    (tmp_path / "notes.txt").write_text("mine")
    tok.save(tmp_path)
    with pytest.raises(av.OutputExists, match=r"already holds tokenizer\.json"):
        tok.save(tmp_path)
    tok.save(tmp_path, existing="replace")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(av.OutputExists, match=r"tokenizer\.model in the folder would contradict"):
        tok.save(tmp_path, existing="replace")
    with pytest.raises(av.InvalidValue, match="existing"):
        tok.save(tmp_path, existing="merge")  # type: ignore[arg-type]


def test_a_failed_save_leaves_no_manifest_and_no_scraps(
    tiny: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tok = av.Tokenizer.load(tiny)
    tok.save(tmp_path)
    before = (tmp_path / "tokenizer_config.json").read_bytes()
    replace = Path.replace

    def disk_full(self: Path, target: Path) -> Path:
        if "tokenizer_config" in self.name:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", disk_full)
    with pytest.raises(OSError, match="No space left"):
        tok.save(tmp_path, existing="replace")
    assert not (tmp_path / "anyvocab.json").exists()
    assert (tmp_path / "tokenizer_config.json").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_a_template_name_cannot_leave_the_folder(tiny_folder: Path, tmp_path: Path) -> None:
    config = {
        "chat_template": [{"name": "../../evil", "template": "x"}, {"name": "ok", "template": "y"}]
    }
    (tiny_folder / "tokenizer_config.json").write_text(json.dumps(config))
    out = av.Tokenizer.load(tiny_folder).save(tmp_path / "a" / "b" / "c")
    assert (out / "additional_chat_templates" / "ok.jinja").read_text() == "y"
    assert not list(tmp_path.rglob("evil*"))


def test_a_document_with_two_meanings_of_an_id_is_refused() -> None:
    document = tiny_tokenizer()
    vocab = document["model"]["vocab"]  # type: ignore[index]
    vocab["extra"] = 5
    with pytest.raises(av.AnyvocabError):
        av.Tokenizer.load(json.dumps(document).encode())
