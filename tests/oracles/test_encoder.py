"""Every fixture tokenizer against the library it came from, id for id."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anyvocab import Tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="the oracle `tokenizers` is not installed")

JSON_NAMES = (
    "tokenizers/bert_uncased",
    "tokenizers/clip",
    "tokenizers/deepseek_coder",
    "tokenizers/gpt2",
    "tokenizers/gpt_neox",
    "tokenizers/llama2",
    "tokenizers/llama3",
    "tokenizers/mistral01",
    "tokenizers/qwen2",
    "tokenizers/starcoder",
    "tokenizers/superbpe_180k_200k",
    "tokenizers/t5",
    "tokenizers/xlmr",
    "tokenizers/xlnet",
    "models/stories260K",
    "models/babyllama105",
    "models/aidreams260K",
)
FIRST_ADDED_OF_DEEPSEEK = 32000
HARD_TEXTS = (
    "",
    " ",
    "  a",
    "\n\n \n",
    "a" * 3000,
    " " * 3000,
    "<|endoftext|> hi <s>",
    "1234567890 12 ½ ²",
    "don't DON'T 'ſ 'S",
    "e" + "\u0301" * 50,
    "\u2581 x ▁▁y",
    "\u200d\u200c\ufeff x\u00a0y\u3000z",
    "👩‍👩‍👧‍👦🇩🇪",
    "\x00\x01\x7f\x85",
)


def texts(fixtures: Path) -> list[str]:
    """Texts of 60 languages, code, prose, and every assigned code point once."""
    found = [path.read_text("utf-8") for path in sorted((fixtures / "text/udhr").glob("*.txt"))]
    for path in sorted((fixtures / "text/pud").glob("*.tsv")):
        rows = path.read_text("utf-8").splitlines()[:100]
        found += [row.split("\t", 1)[1] for row in rows if "\t" in row]
    for path in sorted((fixtures / "text/books").iterdir()):
        book = path.read_text("utf-8")
        found += [book[:30000], *book[30000:50000].splitlines(keepends=True)]
    with gzip.open(fixtures / "text/unicode/utf8_sequence_0x10ffff.txt.gz", "rt", "utf-8") as file:
        points = file.read()
    found += [points[at : at + 2000] for at in range(0, len(points), 2000)]
    return [*found, *HARD_TEXTS]


@pytest.fixture(scope="module")
def corpus(fixtures: Path) -> list[str]:
    """The texts, read once."""
    return texts(fixtures)


@pytest.fixture(scope="module", params=JSON_NAMES, ids=lambda name: name.split("/")[1])
def pair(request: pytest.FixtureRequest, fixtures: Path) -> tuple[Tokenizer, Any]:
    """Ours and theirs, of one file."""
    path = fixtures / request.param / "tokenizer.json"
    return Tokenizer.load(path), tokenizers.Tokenizer.from_file(str(path))


def test_every_text_has_the_ids_of_tokenizers(
    pair: tuple[Tokenizer, Any], corpus: list[str]
) -> None:
    ours, theirs = pair
    expected = theirs.encode_batch(corpus, add_special_tokens=False)
    rows = ours.encode_batch(corpus)
    for text, row, want in zip(corpus, rows, expected, strict=True):
        assert row.tolist() == want.ids, f"first difference in {text[:40]!r}"


def test_the_template_is_that_of_tokenizers(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    for text in ("", "Hello world", "x <s> y"):
        ids = ours.encode(text, add_special_tokens=True).tolist()
        assert ids == theirs.encode(text, add_special_tokens=True).ids


def test_special_tokens_as_text_have_the_ids_of_tokenizers(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    theirs.encode_special_tokens = True
    try:
        for text in ("<|endoftext|>", "a <s> b</s>", "[CLS] x", "<unk>", "<fim_prefix>x"):
            want = theirs.encode(text, add_special_tokens=False).ids
            assert ours.encode(text, specials="text").tolist() == want
    finally:
        theirs.encode_special_tokens = False


def test_the_reference_agrees_with_the_engine(
    pair: tuple[Tokenizer, Any], corpus: list[str]
) -> None:
    ours, _ = pair
    for text in [*corpus[::150], *HARD_TEXTS]:
        data = text.encode()[:300]  # the reference is quadratic
        want = ours._core.encode_reference(data, "parse")
        assert np.array_equal(ours.encode(data), want), repr(text[:40])


def test_decoding_gives_what_tokenizers_gives(
    pair: tuple[Tokenizer, Any], corpus: list[str]
) -> None:
    ours, theirs = pair
    for text in corpus[::25]:
        ids = ours.encode(text).tolist()
        if "deepseek_coder" in repr(ours) and max(ids) >= FIRST_ADDED_OF_DEEPSEEK:
            continue  # `tokenizers` reads the added token `ö` as the byte F6; here it is `ö`
        want = theirs.decode(ids, skip_special_tokens=False)
        assert ours.decode(ids).decode("utf-8", "replace") == want


def test_counting_and_batches_agree_with_encoding(
    pair: tuple[Tokenizer, Any], corpus: list[str]
) -> None:
    ours, _ = pair
    some = corpus[::10]
    one, two = ours.encode_batch(some, threads=1), ours.encode_batch(some, threads=3)
    assert np.array_equal(one.ids, two.ids)
    assert np.array_equal(one.offsets, two.offsets)
    for text, row in zip(some, one, strict=True):
        assert ours.count(text) == len(row)


def test_offsets_lie_in_order_and_lossless_tokens_are_their_bytes(
    pair: tuple[Tokenizer, Any], corpus: list[str]
) -> None:
    ours, _ = pair
    for text in corpus[::40]:
        data = text.encode()
        encoding = ours.encode_with_offsets(data)
        assert np.array_equal(encoding.ids, ours.encode(data))
        starts, ends = encoding.offsets[:, 0], encoding.offsets[:, 1]
        assert (starts <= ends).all()
        assert (ends <= len(data)).all()
        assert (np.diff(starts) >= 0).all()


def test_a_growing_text_has_the_ids_of_the_whole(
    pair: tuple[Tokenizer, Any], corpus: list[str]
) -> None:
    ours, _ = pair
    rng = np.random.default_rng(7)
    for text in [corpus[0][:600], corpus[-3], "a <s> b <|endoftext|> c", corpus[30][:400]]:
        data = text.encode()
        incremental = ours.incremental()
        size = 0
        while size < len(data):
            step = int(rng.integers(1, 12))
            incremental.append(data[size : size + step])
            size = min(size + step, len(data))
            if size > 20 and rng.random() < 0.2:
                back = int(rng.integers(1, 15))
                incremental.rollback(back)
                size -= back
            want = ours.encode(data[:size])
            stable = incremental.stable()
            assert np.array_equal(incremental.ids(), want), (data[:size][-30:], size)
            assert np.array_equal(
                ours.encode(data)[: max(0, stable - 1)], want[: max(0, stable - 1)]
            )
