"""Training gives the merges and ids of the installed `tokenizers`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab.testing import byte_alphabet
from anyvocab.training.bpe import Trained, train_corpus, train_counts
from anyvocab.training.counting import Plan
from anyvocab.training.counts import CountHeader, Counts
from anyvocab.training.options import TrainOptions, special_tokens_of

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is missing")

from tokenizers import Regex, decoders, models, pre_tokenizers, trainers  # noqa: E402

OWN_PATTERN = r"\p{Lu}?\p{Ll}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
SPELLINGS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    OWN_PATTERN: OWN_PATTERN,
}


def corpus(fixtures: Path) -> list[str]:
    """Return about 400 kB: English, Japanese, German, Turkish, Hindi, and code."""
    text = fixtures / "text"
    parts = [
        (text / "books" / "sherlock_en.txt").read_text("utf-8")[:150_000],
        (text / "books" / "wagahai_ja.txt").read_text("utf-8")[:40_000],
        (text / "udhr" / "deu_1996.txt").read_text("utf-8"),
        (text / "udhr" / "hin.txt").read_text("utf-8"),
        (text / "udhr" / "tur.txt").read_text("utf-8"),
        Path(json.__file__).read_text("utf-8"),
        Path(json.decoder.__file__).read_text("utf-8"),
    ]
    return ["".join(lines) for part in parts for lines in _blocks(part.splitlines(True))]


def _blocks(lines: list[str]) -> list[list[str]]:
    return [lines[i : i + 50] for i in range(0, len(lines), 50)]


def theirs(texts: list[str], pattern: str, **options: Any) -> Any:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPELLINGS[pattern]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    options.setdefault("initial_alphabet", sorted(pre_tokenizers.ByteLevel.alphabet()))
    trainer = trainers.BpeTrainer(show_progress=False, **options)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def ours(texts: list[str], pattern: str, **options: Any) -> Trained:
    specials = special_tokens_of(options.pop("special_tokens", ()))
    return train_corpus(
        iter(texts),
        TrainOptions(special_tokens=specials, **options),
        Plan(pattern=pattern, threads=1),
    )


def assert_same(mine: Trained, other: Any) -> None:
    """Assert that vocabularies, merges and the ids of a text are the same."""
    model, expected = (
        json.loads(text)["model"] for text in (mine.tokenizer.to_json().decode(), other.to_str())
    )
    assert model["merges"] == expected["merges"]
    assert model["vocab"] == expected["vocab"]


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({"vocab_size": 1500}, {"vocab_size": 1500}),
    "special tokens": (
        {"vocab_size": 700, "special_tokens": ["<|end|>", "<pad>"]},
        {"vocab_size": 700, "special_tokens": ["<|end|>", "<pad>"]},
    ),
    "min frequency": (
        {"vocab_size": 60_000, "min_frequency": 40},
        {"vocab_size": 60_000, "min_frequency": 40},
    ),
    "seen alphabet": (
        {"vocab_size": 600, "initial_alphabet": "seen"},
        {"vocab_size": 600, "initial_alphabet": []},
    ),
    "some alphabet": (
        {"vocab_size": 600, "initial_alphabet": b"\x00\xff"},
        {"vocab_size": 600, "initial_alphabet": ["Ā", "ÿ"]},
    ),
    "limited alphabet": (
        {"vocab_size": 600, "initial_alphabet": "seen", "limit_alphabet": 60},
        {"vocab_size": 600, "initial_alphabet": [], "limit_alphabet": 60},
    ),
    "short tokens": (
        {"vocab_size": 60_000, "max_token_length": 4, "min_frequency": 3},
        {"vocab_size": 60_000, "max_token_length": 4, "min_frequency": 3},
    ),
}


COMPARED = [(case, "llama3") for case in CASES] + [
    (case, pattern)
    for case in ("plain", "min frequency")
    for pattern in SPELLINGS
    if pattern != "llama3"
]


@pytest.mark.parametrize(("case", "pattern"), COMPARED)
def test_merges_and_vocabulary_equal_those_of_tokenizers(
    case: str, pattern: str, fixtures: Path
) -> None:
    mine, other = CASES[case]
    texts = corpus(fixtures)
    assert_same(ours(texts, pattern, **mine), theirs(texts, pattern, **other))


def test_a_training_to_exhaustion_equals_that_of_tokenizers() -> None:
    # Few letters, long words: every pair comes up, and tokens arise in several ways.
    rng = np.random.default_rng(11)
    for seed in range(12):
        letters = "ab" if seed % 2 else "abc"
        texts = ["".join(rng.choice(list(letters), size=30)) for _ in range(30)]
        for min_frequency in (0, 2, 3):
            options = {"vocab_size": 400, "min_frequency": min_frequency}
            assert_same(ours(texts, "llama3", **options), theirs(texts, "llama3", **options))


def test_ids_equal_in_tokenizers_and_transformers_after_saving(
    fixtures: Path, tmp_path: Path
) -> None:
    texts = corpus(fixtures)
    trained = ours(texts, "llama3", vocab_size=900, special_tokens={"eos": "<|end|>"})
    folder = trained.tokenizer.save(tmp_path / "out")
    other = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    sample = [*texts[::20], "<|end|>x<|end|>", "  \n", "\u00a0é"]
    for text in sample:
        assert other.encode(text).ids == trained.tokenizer.encode(text).tolist()
    transformers = pytest.importorskip("transformers", reason="transformers is missing")
    fast = transformers.AutoTokenizer.from_pretrained(folder)
    assert fast.eos_token == "<|end|>"
    for text in sample:
        assert fast(text)["input_ids"] == trained.tokenizer.encode(text).tolist()
        assert fast.decode(fast(text)["input_ids"]) == text


def counted(words: dict[bytes, int]) -> Counts:
    """Return counts made by hand."""
    rows = sorted(words.items())
    data = np.frombuffer(b"".join(word for word, _ in rows), dtype=np.uint8)
    offsets = np.cumsum([0, *(len(word) for word, _ in rows)], dtype=np.int64)
    counts = np.array([count for _, count in rows], dtype=np.uint64)
    return Counts(data, offsets, counts, CountHeader("llama3", None, 1, len(data), len(rows)))


def test_counts_of_the_wheels_own_pretokens_give_its_merges(fixtures: Path) -> None:
    texts = corpus(fixtures)[:60]
    other = theirs(texts, "llama3", vocab_size=500)
    byte_of = {char: byte for byte, char in enumerate(byte_alphabet())}
    words = Counter(
        bytes(byte_of[char] for char in piece)
        for text in texts
        for piece, _ in other.pre_tokenizer.pre_tokenize_str(text)
    )
    assert_same(train_counts(counted(words), TrainOptions(vocab_size=500)), other)


def test_counts_beyond_32_bits_give_the_order_that_small_counts_give() -> None:
    words = {b"ab": 5, b"bc": 4, b"cd": 3, b"abcd": 2}
    small = train_counts(counted(words), TrainOptions(vocab_size=262))
    large = train_counts(
        counted({word: count << 33 for word, count in words.items()}),
        TrainOptions(vocab_size=262),
    )
    assert large.merges.tolist() == small.merges.tolist()
    assert large.counts.tolist() == [count << 33 for count in small.counts.tolist()]


def test_no_merge_makes_the_spelling_of_a_special_token() -> None:
    # tokenizers would give ordinary text the id of the special token.
    tok = av.train([b"<end> <end>"] * 9, vocab_size=300, special_tokens=["<end>"])
    assert tok.encode("<end>", specials="text").tolist() != [0]
    assert tok.encode("<end>").tolist() == [0]
