"""How much shorter texts get, language by language, when what they repeat is merged.

No model is run: tokens are counted. Three sets of parallel texts:

- udhr: the Universal Declaration of Human Rights in the fifteen languages of XNLI, on which the
  paper reports its encoders; a paragraph is a text.
- pud: a thousand sentences of news and Wikipedia in six languages (parallel treebanks).
- xcopa: the premises of 500 questions of common sense in five languages: short, simple sentences.

For each tokenizer and language: the share of tokens that is gone with every merge, inside pretokens
and inside white-space separated words ("word level"), and with the first 10, 50 and 100 merges of
batches of 32 texts, as published. With every merge a group becomes one token whatever the batch
was, and this is checked: batches of 32 and all texts at once give the same number. What depends on
the batch is how much is repeated: so the last column merges, in all texts at once, only pairs that
occur twice or more.

The claim of Feher et al. 2024 (arXiv:2411.18553) to meet: over 20 % shorter on average over
languages at word-level boundaries. Chinese and Thai write no spaces, so that a "word" there is a
clause or more; means are given with them and without.

    python benches/python/dynamic_languages.py               # a minute or two
    python benches/python/dynamic_languages.py --tokenizers xlmr --texts 64
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyvocab as av
from anyvocab.dynamic.survey import survey

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(os.environ.get("ANYVOCAB_FIXTURES", ROOT.parent / "shared" / "fixtures"))
TOKENIZERS = ("xlmr", "gpt2", "llama3", "mistral01", "qwen2", "pico:code-4k", "pico:code-2k")
BATCH = 32
MERGES = (10, 50, 100)
XNLI = {
    "ar": "arb",
    "bg": "bul",
    "de": "deu_1996",
    "el": "ell_monotonic",
    "en": "eng",
    "es": "spa",
    "fr": "fra",
    "hi": "hin",
    "ru": "rus",
    "sw": "swh",
    "th": "tha",
    "tr": "tur",
    "ur": "urd",
    "vi": "vie",
    "zh": "cmn_hans",
}
LANGUAGES = {
    "udhr": tuple(XNLI),
    "pud": ("ar", "de", "en", "ru", "tr", "zh"),
    "xcopa": ("it", "sw", "ta", "tr", "zh"),
}
WITHOUT_SPACES = ("th", "zh")


@dataclass(frozen=True)
class Row:
    """A language under a tokenizer; shares are of its base tokens.

    Attributes:
        language: Its name.
        texts: How many texts.
        tokens: Base tokens.
        pretoken: The share that is gone with every merge inside pretokens.
        word: The same inside words.
        first: The share that is gone inside words after the first merges of each batch, by their
            number.
        all_merges: The most merges that a batch of words has.
        repeated: The share that is gone inside words when all texts merge together and a pair
            occurs at least twice.
    """

    language: str
    texts: int
    tokens: int
    pretoken: float
    word: float
    first: dict[int, float]
    all_merges: int
    repeated: float


def texts_of(corpus: str, language: str, most: int | None) -> list[str]:
    """Return the texts of a language."""
    if corpus == "udhr":
        path = FIXTURES / "text" / "udhr" / f"{XNLI[language]}.txt"
        lines = path.read_text(encoding="utf-8").splitlines()
    elif corpus == "xcopa":
        path = FIXTURES / "eval" / "xcopa" / f"test.{language}.jsonl"
        items = path.read_text(encoding="utf-8").splitlines()
        lines = [json.loads(item)["premise"] for item in items]
    else:
        path = FIXTURES / "text" / "pud" / f"{language}.tsv"
        lines = [line.split("\t")[1] for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line.strip()][:most]


def measure(dyn: av.DynamicTokenizer, language: str, texts: Sequence[str]) -> Row:
    """Return a language's row."""
    kinds = {language: list(texts)}
    gone = {}
    for boundary in ("pretoken", "word"):
        batches = survey(dyn, kinds, boundary=boundary, batch=BATCH)
        whole = survey(dyn, kinds, boundary=boundary, batch=None)
        if batches.total.tokens != whole.total.tokens:
            sys.exit(f"{language}, {boundary}: every merge gives other lengths in batches")
        gone[boundary] = batches
    words = gone["word"]
    last = len(words.curve) - 1
    return Row(
        language,
        len(texts),
        words.total.base_tokens,
        gone["pretoken"].total.reduction,
        words.total.reduction,
        {merges: float(words.curve[min(merges, last)]) for merges in MERGES},
        last,
        survey(dyn, kinds, boundary="word", batch=None, min_count=2).total.reduction,
    )


def mean(rows: Sequence[Row], name: str) -> Row:
    """Return the mean of rows, every language counting the same."""
    count = len(rows)
    return Row(
        name,
        sum(row.texts for row in rows),
        sum(row.tokens for row in rows),
        sum(row.pretoken for row in rows) / count,
        sum(row.word for row in rows) / count,
        {merges: sum(row.first[merges] for row in rows) / count for merges in MERGES},
        max(row.all_merges for row in rows),
        sum(row.repeated for row in rows) / count,
    )


def line(row: Row) -> str:
    shares = [row.pretoken, row.word, *row.first.values()]
    cells = [row.language, f"{row.texts:,}", f"{row.tokens:,}", *(f"{one:.1%}" for one in shares)]
    return " | ".join(["", *cells, f"{row.all_merges:,}", f"{row.repeated:.1%}", ""]).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizers", nargs="+", default=TOKENIZERS)
    parser.add_argument("--corpora", nargs="+", default=LANGUAGES, choices=LANGUAGES)
    parser.add_argument("--texts", type=int, help="the first ones of each language alone")
    given = parser.parse_args()
    print(f"anyvocab {av.__version__}, Python {platform.python_version()}; batches of {BATCH}\n")
    summary = []
    for corpus in given.corpora:
        for name in given.tokenizers:
            place = name if ":" in name else FIXTURES / "tokenizers" / name
            dyn = av.DynamicTokenizer(place)
            rows = [
                measure(dyn, one, texts_of(corpus, one, given.texts)) for one in LANGUAGES[corpus]
            ]
            spaced = [row for row in rows if row.language not in WITHOUT_SPACES]
            means = [mean(rows, "mean"), mean(spaced, "mean without th, zh")]
            summary.append((corpus, name, means))
            print(
                f"{corpus}, {name}\n\n"
                "| language | texts | tokens | pretoken, all | word, all "
                f"| {' | '.join(f'word, {merges} merges' for merges in MERGES)} "
                "| merges of a batch, most | word, all texts, twice or more |\n"
                f"|{'---|' * (7 + len(MERGES))}"
            )
            print("\n".join(map(line, [*rows, *means])), flush=True)
            print()
    print(
        "Tokens that are gone with every merge, mean over languages\n\n"
        "| texts | tokenizer | pretoken | word | word, without th and zh | over 20 % at words |\n"
        "|---|---|---|---|---|---|"
    )
    for corpus, name, (every, spaced) in summary:
        met = "yes" if min(every.word, spaced.word) > 0.2 else "no"
        print(
            f"| {corpus} | {name} | {every.pretoken:.1%} | {every.word:.1%} | {spaced.word:.1%} "
            f"| {met} |"
        )


if __name__ == "__main__":
    main()
