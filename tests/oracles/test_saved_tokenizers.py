"""A saved tokenizer reloads in tokenizers and transformers with identical ids."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import anyvocab as av

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is missing")

FAMILIES = (
    "bert_uncased",
    "clip",
    "deepseek_coder",
    "gpt2",
    "gpt_neox",
    "llama2",
    "llama3",
    "mistral01",
    "qwen2",
    "starcoder",
    "superbpe_180k_200k",
    "t5",
    "xlmr",
    "xlnet",
)
SENTENCEPIECE = ("fineweb_8192_bpe", "llama2", "mistral01", "sp_test_1000", "t5_base", "xlnet")
LINES = 40  # of each text


def sample(fixtures: Path) -> list[str]:
    """Return lines of many languages, and the corners that normalizers and spaces have."""
    lines = [
        "",
        " ",
        "  two  spaces ",
        "x\ty\r\nz\n\n",
        "don't 12345 1.5e-7",
        "ＡＢＣ ﬁ ½",
        "e\u0301",
    ]
    lines += ["\u00a0\u3000a", "👩‍👩‍👧 🇫🇷", "a" * 200, "def f(x):\n        return x\n"]
    rng = random.Random(5)
    for path in sorted((fixtures / "text" / "udhr").glob("*.txt")):
        found = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
        lines += rng.sample(found, min(2, len(found)))
    for path in sorted((fixtures / "text" / "books").glob("*.txt")):
        lines += rng.sample(path.read_text("utf-8").splitlines(), LINES)
    return lines


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizers_reads_the_saved_file_with_identical_ids(
    family: str, fixtures: Path, tmp_path: Path
) -> None:
    folder = fixtures / "tokenizers" / family
    ours = av.Tokenizer.load(folder)
    saved = tokenizers.Tokenizer.from_file(str(ours.save(tmp_path / "out") / "tokenizer.json"))
    original = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for special in (False, True):
        for line in sample(fixtures):
            expected = original.encode(line, add_special_tokens=special).ids
            assert saved.encode(line, add_special_tokens=special).ids == expected, line
            assert ours.encode(line, add_special_tokens=special).tolist() == expected, line
    again = av.Tokenizer.load(tmp_path / "out")
    assert len(again.vocabulary) == len(ours.vocabulary)


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_a_saved_sentencepiece_model_gives_its_own_ids_in_tokenizers(
    name: str, fixtures: Path, tmp_path: Path
) -> None:
    ours = av.Tokenizer.load(fixtures / "sentencepiece" / f"{name}.model")
    try:
        folder = ours.save(tmp_path / "out")
    except av.UnsupportedTokenizer as error:
        pytest.skip(f"refused by name: {error}")
    saved = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for line in sample(fixtures):
        expected = ours.encode(line, specials="text").tolist()
        assert saved.encode(line, add_special_tokens=False).ids == expected, line


@pytest.mark.models
@pytest.mark.parametrize("family", ["llama3", "qwen2", "mistral01", "t5", "bert_uncased"])
def test_transformers_loads_the_saved_folder_with_identical_ids(
    family: str, fixtures: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    folder = fixtures / "tokenizers" / family
    ours = av.Tokenizer.load(folder)
    theirs = AutoTokenizer.from_pretrained(ours.save(tmp_path / "out"))
    original = AutoTokenizer.from_pretrained(folder)
    for role in ("bos_token", "eos_token", "unk_token", "pad_token"):
        assert getattr(theirs, role) == getattr(original, role), role
    for line in sample(fixtures):
        expected = original(line)["input_ids"]
        assert theirs(line)["input_ids"] == expected, line
    assert av.Tokenizer.load(theirs).encode("hello world").tolist() == (
        ours.encode("hello world").tolist()
    )
