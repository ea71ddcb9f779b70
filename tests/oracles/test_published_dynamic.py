"""Dynamic merging against the published algorithm on real vocabularies; its defects, absent."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

import anyvocab as av
from anyvocab.testing import published_dynamic as published
from anyvocab.testing import tiny_tokenizer

tokenizers = pytest.importorskip("tokenizers")

SENTENCE = (
    "the tokenizer of a model cuts unhyphenated antidisestablishmentarianism into subtokens "
    "don't (well-known) 12345 naïve café Überraschung 3.14159 foo_bar x==y e.g. --dry-run "
    "перевод ελληνικά tiếng Việt türkçe łódź"
)
WORDS = SENTENCE.split()


def made_texts(seed: int, number: int) -> list[str]:
    """Return texts of words, every other of ASCII alone: spaces alone are between them."""
    draws = random.Random(seed)
    ascii_words = [word for word in WORDS if word.isascii()]
    choices = [WORDS, ascii_words] * (number // 2)
    return [" ".join(draws.choices(words, k=draws.randrange(1, 24))) for words in choices]


@cache
def source(name: str, folder: Path) -> tuple[av.DynamicTokenizer, Callable[[str], int]]:
    """Return a tokenizer and its pre-tokenizer's count, by the `tokenizers` library."""
    if name == "gpt2-2k":  # over-segments: the first 2,000 merges of GPT-2
        file = folder / "tokenizers" / "gpt2" / "tokenizer.json"
        tok = av.Tokenizer.load(published.first_merges(file.read_bytes(), 2000))
    else:
        tok = av.Tokenizer.load(name if name.startswith("pico") else folder / "tokenizers" / name)
    cuts = json.loads(tok.components())["pre_tokenizer"]  # all that is asked for
    document = tiny_tokenizer(pre_tokenizer=cuts)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(document)).pre_tokenizer
    return av.DynamicTokenizer(tok), lambda text: len(theirs.pre_tokenize_str(text))


def strings(batch: av.DynamicBatch) -> list[list[str]]:
    return [[published.as_string(token or b"") for token in row] for row in batch.token_bytes()]


def agrees(
    dyn: av.DynamicTokenizer,
    texts: Sequence[str],
    is_valid: Callable[[str, str], bool],
    max_merges: int | None,
    boundary: str = "pretoken",
) -> None:
    batch = dyn.merge(texts, boundary=boundary, max_merges=max_merges)
    base = dyn.merge(texts, max_merges=0)
    theirs = published.merge(strings(base), is_valid, max_merges)
    assert strings(batch) == theirs.texts

    def spelled(id: int) -> str:
        return published.as_string(batch.bytes_of(id) or b"")

    ours = [(spelled(m.left), spelled(m.right), m.count) for m in batch.merges]
    assert ours == theirs.merges


def decodes(dyn: av.DynamicTokenizer, text: str) -> bool:
    """Whether every token is UTF-8, so that the published algorithm can judge every pair."""
    tokens = dyn.merge([text], max_merges=0).token_bytes()[0]
    return all(token and "�" not in token.decode("utf-8", "replace") for token in tokens)


@pytest.mark.parametrize("max_merges", [1, 20, None])
@pytest.mark.parametrize("name", ["gpt2", "llama3", "gpt2-2k", "pico:code-4k"])
def test_merges_are_the_published_ones(name: str, max_merges: int | None, fixtures: Path) -> None:
    dyn, pretokens = source(name, fixtures)
    is_valid = published.validity("pretokens", pretokens=pretokens)
    texts = [text for text in made_texts(5, 80) if decodes(dyn, text)]
    assert len(texts) >= 8
    agrees(dyn, texts, is_valid, max_merges)


@pytest.mark.parametrize("language", ["en", "de", "tr"])
def test_merges_of_parallel_texts_are_the_published_ones(language: str, fixtures: Path) -> None:
    dyn, pretokens = source("gpt2", fixtures)
    texts = [text for text in parallel(fixtures, language) if decodes(dyn, text)][:20]
    assert len(texts) == 20
    agrees(dyn, texts, published.validity("pretokens", pretokens=pretokens), None)


def parallel(fixtures: Path, language: str) -> list[str]:
    """Return sentences of a language of the parallel treebanks."""
    lines = (fixtures / "text" / "pud" / f"{language}.tsv").read_text(encoding="utf-8")
    return [line.split("\t")[1] for line in lines.splitlines()[:120]]


@pytest.mark.parametrize("name", ["gpt2", "pico:code-4k"])
def test_words_are_the_published_ones(name: str, fixtures: Path) -> None:
    dyn, _ = source(name, fixtures)
    texts = [text for text in made_texts(6, 60) if decodes(dyn, text)]
    agrees(dyn, texts, published.validity("word"), None, boundary="word")
    # White space between words is one space here, so the published `sentence` is `word`.
    agrees(dyn, texts, published.validity("sentence"), None, boundary="word")


def test_special_tokens_do_not_merge_into_an_emoji(fixtures: Path) -> None:
    dyn, pretokens = source("gpt2", fixtures)
    (base,) = strings(dyn.merge(["😀hello 😀hello"], max_merges=0))
    theirs = published.merge(
        [["<s>", *base, "</s>"]], published.validity("pretokens", pretokens=pretokens)
    )
    assert theirs.texts == [["<s>ðŁĺ", "Ģhello", "ĠðŁĺ", "Ģhello</s>"]]  # the defect
    end = "<|endoftext|>"
    ours = dyn.merge([f"{end}😀hello 😀hello{end}"])
    assert ours.token_bytes() == [[None, "😀".encode(), b"hello", " 😀".encode(), b"hello", None]]


def test_a_pair_of_one_pretoken_merges_though_it_ends_in_a_line_break(fixtures: Path) -> None:
    # Where the published algorithm is left on valid text: it refuses white space inside a pair.
    dyn, pretokens = source("llama3", fixtures)
    text = "x ;:;:\n"
    ours, base = dyn.merge([text]), dyn.merge([text], max_merges=0)
    assert ours.token_bytes() == [[b"x", b" ;:;:\n"]]
    theirs = published.merge(strings(base), published.validity("pretokens", pretokens=pretokens))
    assert theirs.texts == [["x", "Ġ;:;", ":Ċ"]]
