"""Sampled tokenizers against `tokenizers`, which loads what they write."""

from __future__ import annotations

import numpy as np
import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.hypernet.sampler import SamplerOptions, TokenizerSampler

tokenizers = pytest.importorskip("tokenizers", reason="the oracle `tokenizers` is not installed")

ALPHABET = [
    *"abcdefgh",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    "é",
    "e\u0301",
    "漢",
    "😀",
    "नि",
    "123",
    "'s",
    "_",
    "()",
]


def texts_of(seed: int, number: int) -> list[str]:
    random = np.random.default_rng(seed)
    sizes = random.integers(0, 120, size=number)
    return ["".join(ALPHABET[i] for i in random.integers(len(ALPHABET), size=n)) for n in sizes]


@pytest.mark.parametrize("whitespace", ["runs", "none"])
@pytest.mark.parametrize("noise", [0.0, 1e-5, 1e-2])
@pytest.mark.parametrize("pattern", ["gpt2", "llama3", "o200k", "none"])
def test_ids_equal_those_of_the_unigram_model_of_tokenizers(
    pattern: str, noise: float, whitespace: str
) -> None:
    options = SamplerOptions(
        vocab_size=900,
        noise=noise,
        patterns=(pattern,),
        near_probability=0.5,
        whitespace="runs" if whitespace == "runs" else "none",
    )
    sampler = TokenizerSampler(av.Tokenizer.load("pico:code-2k"), options, seed=3)
    for seed in range(2):
        sampled = sampler.step([text.encode() for text in texts_of(seed, 30)])
        oracle = tokenizers.Tokenizer.from_str(sampled.to_json().decode())
        texts = texts_of(seed + 10, 40)
        expected = [one.ids for one in oracle.encode_batch(texts, add_special_tokens=False)]
        assert sampled.encode_batch([text.encode() for text in texts]).to_list() == expected
        assert oracle.get_vocab_size() == len(sampled)
        read = av.Tokenizer.load(sampled.to_json())
        assert read.encode_batch(texts).to_list() == expected
        assert [read.decode_text(ids) for ids in expected] == texts
        assert [oracle.decode(ids) for ids in expected] == texts


def test_a_greedy_tokenizer_is_not_written_as_something_else() -> None:
    options = SamplerOptions(vocab_size=600, greedy_probability=1.0)
    sampler = TokenizerSampler(av.Tokenizer.load("pico:code-2k"), options)
    sampled = sampler.step([b"some text, some more text"])
    with pytest.raises(errors.UnsupportedTokenizer, match="longest match"):
        sampled.to_json()
