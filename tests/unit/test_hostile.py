"""Every kept malformed file, through the public door: a typed error that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

import anyvocab as av

FOLDER = Path(__file__).resolve().parent.parent / "hostile"
CASES = [line.split("\t") for line in (FOLDER / "EXPECTED.tsv").read_text("utf-8").splitlines()]
CLASSES = {
    "Format": av.TokenizerFormatError,
    "Unsupported": av.UnsupportedTokenizer,
    "Limit": av.LimitExceeded,
    "Value": av.InvalidValue,
}


@pytest.mark.parametrize(("name", "kind", "words"), CASES, ids=[case[0] for case in CASES])
def test_a_malformed_file_is_the_error_it_is(name: str, kind: str, words: str) -> None:
    path = FOLDER / name
    pattern = r"\w+|\W+" if path.suffix == ".tiktoken" else None
    with pytest.raises(CLASSES[kind]) as caught:
        av.Tokenizer.load(path, pattern=pattern)
    assert words in str(caught.value)
    assert caught.value.file == str(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_every_file_is_listed() -> None:
    listed = {case[0] for case in CASES}
    kept = {path.name for path in FOLDER.iterdir()} - {"EXPECTED.tsv", "README.md"}
    assert kept == listed
