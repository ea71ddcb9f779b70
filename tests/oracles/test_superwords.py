"""Tokenizers whose tokens span words: two stages, one stage, no cuts; against `tokenizers`."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anyvocab import Tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="the oracle `tokenizers` is not installed")

WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CHUNKS = r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]{2,}[\r\n/]*| +(?!\S)"  # SuperBPE's second stage
FIRST_STAGE, WITH_SUPERWORDS = 2200, 3000  # over 1024 merges before the first superword
FIRST_SYMBOL = 0x4E00  # tokens of the first stage are trained on as characters from here on


def split(pattern: str | None) -> Any:
    """The pre-tokenizer of one pattern, or of none."""
    bytes_ = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if pattern is None:
        return bytes_
    cut = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    return tokenizers.pre_tokenizers.Sequence([cut, bytes_])


def trainer(size: int) -> Any:
    """A quiet trainer over all bytes."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    return tokenizers.trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, show_progress=False
    )


def trained(texts: list[str], pattern: str | None, size: int) -> Any:
    """A byte-level tokenizer trained by `tokenizers` in one go."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = split(pattern)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.train_from_iterator(texts, trainer(size))
    return made


def two_stages(texts: list[str]) -> Any:
    """Words first, then what joins them: the merges of both stages, one list after the other.

    The second stage is trained on the first one's tokens, written as a character each.
    """
    first = trained(texts, WORDS, FIRST_STAGE)
    model = json.loads(first.to_str())
    model["pre_tokenizer"] = json.loads(trained([], CHUNKS, 0).to_str())["pre_tokenizer"]
    chunked = tokenizers.Tokenizer.from_str(json.dumps(model))
    chunks = []
    for text in texts:
        for piece, _ in chunked.pre_tokenizer.pre_tokenize_str(text):
            tokens = chunked.model.tokenize(piece)
            chunks.append("".join(chr(FIRST_SYMBOL + token.id) for token in tokens))
    second = tokenizers.Tokenizer(tokenizers.models.BPE())
    second.train_from_iterator(
        chunks,
        tokenizers.trainers.BpeTrainer(
            vocab_size=WITH_SUPERWORDS - FIRST_STAGE + len(set("".join(chunks))),
            show_progress=False,
        ),
    )
    vocab, merges = model["model"]["vocab"], model["model"]["merges"]
    spellings = {id_: spelling for spelling, id_ in vocab.items()}
    for pair in json.loads(second.to_str())["model"]["merges"]:
        left, right = ("".join(spellings[ord(c) - FIRST_SYMBOL] for c in part) for part in pair)
        merges.append([left, right])
        vocab.setdefault(left + right, len(vocab))
    return tokenizers.Tokenizer.from_str(json.dumps(model))


def cut_anywhere(text: str, rng: random.Random) -> list[str]:
    """The text in pieces of 4 to 20 characters, as supertokens are trained."""
    pieces, at = [], 0
    while at < len(text):
        length = rng.randint(4, 20)
        pieces.append(text[at : at + length])
        at += length
    return pieces


@pytest.fixture(scope="module")
def prose(fixtures: Path) -> list[str]:
    """English prose, ten languages and some code: what the tokenizers are trained on."""
    names = ("eng", "deu_1996", "fra", "spa", "rus", "ell_monotonic", "arb", "hin", "tha", "jpn")
    found = [fixtures / f"text/udhr/{name}.txt" for name in names]
    texts = [path.read_text("utf-8") for path in found if path.exists()]
    texts.append((fixtures / "text/books/sherlock_en.txt").read_text("utf-8")[:60_000])
    texts.append(Path(json.__file__).read_text("utf-8"))
    texts.append(Path(random.__file__).read_text("utf-8"))
    return texts


@pytest.fixture(scope="module", params=["two stages", "one stage", "no cuts", "superbpe_180k_200k"])
def pair(
    request: pytest.FixtureRequest, prose: list[str], fixtures: Path, tmp_path_factory: Any
) -> tuple[Tokenizer, Any]:
    """Ours and theirs, of one file."""
    if request.param == "superbpe_180k_200k":
        path = fixtures / "tokenizers/superbpe_180k_200k/tokenizer.json"
        return Tokenizer.load(path), tokenizers.Tokenizer.from_file(str(path))
    if request.param == "two stages":
        theirs = two_stages(prose)
    elif request.param == "one stage":
        theirs = trained(prose, CHUNKS, WITH_SUPERWORDS)
    else:
        rng = random.Random(5)
        theirs = trained(
            [piece for text in prose for piece in cut_anywhere(text, rng)], None, WITH_SUPERWORDS
        )
    path = tmp_path_factory.mktemp("superwords") / "tokenizer.json"
    theirs.save(str(path))
    return Tokenizer.load(path), theirs


def hard_texts(prose: list[str]) -> list[str]:
    """Long runs, random characters of all planes, and random arrangements of words."""
    rng = random.Random(11)
    words = [word for text in prose for word in text.split(" ")]
    every = [*range(0xD800), *range(0xE000, 0x110000)]
    texts = [character * 2000 for character in ("a", " ", "\n", "=", ".", "0", "é", "日", "the ")]
    texts += [(a + b) * 800 for a, b in ((" ", "a"), ("\n", " "), ("a", "b"), (".", "\n"))]
    texts += ["".join(map(chr, rng.choices(every, k=500))) for _ in range(5)]
    texts += ["".join(map(chr, rng.choices(range(32, 256), k=500))) for _ in range(5)]
    for joint in (" ", "  ", "\n", "", " \t", ", "):
        texts += [joint.join(rng.choices(words, k=300)) for _ in range(5)]
    return texts


def test_tokens_that_span_words_have_the_ids_of_tokenizers(
    pair: tuple[Tokenizer, Any], prose: list[str], fixtures: Path
) -> None:
    ours, theirs = pair
    texts = [path.read_text("utf-8") for path in sorted((fixtures / "text/udhr").glob("*.txt"))]
    texts += [*prose, (fixtures / "text/books/wagahai_ja.txt").read_text("utf-8")[:20_000]]
    texts += hard_texts(prose)
    expected = theirs.encode_batch(texts, add_special_tokens=False)
    rows = ours.encode_batch(texts)
    for text, row, want in zip(texts, rows, expected, strict=True):
        assert row.tolist() == want.ids, f"first difference in {text[:40]!r}"


def test_the_trained_tokenizers_have_tokens_that_span_words(pair: tuple[Tokenizer, Any]) -> None:
    _, theirs = pair
    spanning = [token for token in theirs.get_vocab() if "Ġ" in token.lstrip("Ġ").rstrip("Ġ")]
    assert len(spanning) >= 100


def test_bytes_that_are_not_utf8_equal_the_reference(
    pair: tuple[Tokenizer, Any], prose: list[str]
) -> None:
    ours, _ = pair
    rng = random.Random(3)
    for text in prose:
        data = bytearray(text.encode()[:400])  # the reference is quadratic
        for _ in range(20):
            data[rng.randrange(len(data))] = rng.randrange(256)
        want = ours._core.encode_reference(bytes(data), "parse")
        assert np.array_equal(ours.encode(bytes(data)), want)


def test_offsets_of_tokens_that_span_words_are_those_of_tokenizers(
    pair: tuple[Tokenizer, Any], prose: list[str]
) -> None:
    ours, theirs = pair
    for text in filter(str.isascii, (text[:3000] for text in prose)):
        want = theirs.encode(text, add_special_tokens=False)
        encoding = ours.encode_with_offsets(text)
        assert encoding.ids.tolist() == want.ids
        assert encoding.offsets.tolist() == [list(span) for span in want.offsets]


def test_a_growing_text_has_the_ids_of_the_whole(
    pair: tuple[Tokenizer, Any], prose: list[str]
) -> None:
    ours, _ = pair
    rng = random.Random(2)
    for text in prose:
        data = text.encode()[:3000]
        encoder = ours.incremental()
        at = 0
        while at < len(data):
            length = rng.randint(1, 400)
            encoder.append(data[at : at + length])
            at += length
            assert np.array_equal(encoder.ids(), ours.encode(data[:at]))
