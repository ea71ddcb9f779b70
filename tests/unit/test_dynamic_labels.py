"""Labels of words and spans: with merged tokens as without."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.dynamic.labels import (
    IGNORED,
    LabelledSpan,
    byte_spans,
    character_spans,
    found_spans,
    span_labels,
    word_labels,
    word_values,
)
from anyvocab.dynamic.parts import base_of
from anyvocab.testing import tiny_tokenizer

WORDS = [["hello", "shell", "he"], [], ["don't", "", "hellish,"]]
LABELS = [[3, 1, 2], [], [5, 6, 7]]
TEXTS = ["a  tokenizer's tokens", "", " naïve tokenization \n of 漢字 "]
POST = {"type": "BertProcessing", "sep": ["<|end|>", 260], "cls": ["<|fim_prefix|>", 261]}


@pytest.fixture(scope="module")
def tiny() -> av.DynamicTokenizer:
    return av.DynamicTokenizer(json.dumps(tiny_tokenizer(post_processor=POST)).encode())


@pytest.fixture(scope="module")
def pico() -> av.DynamicTokenizer:
    return av.DynamicTokenizer("pico:code-4k")


def by_hand(word_ids: list[int | None], labels: list[int]) -> list[int]:
    """Return what the guide of transformers does: the first token of a word has its label."""
    made, before = [], None
    for word in word_ids:
        made.append(IGNORED if word is None or word == before else labels[word])
        before = word
    return made


def test_without_a_merge_labels_are_those_that_word_ids_give(tiny: av.DynamicTokenizer) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer.from_str(json.dumps(tiny_tokenizer(post_processor=POST)))
    base = base_of(tiny, WORDS, add_special_tokens=True)
    found = word_labels(tiny.merge_base(base, max_merges=0), LABELS)
    wanted: list[int] = []
    for words, labels in zip(WORDS, LABELS, strict=True):
        wanted += by_hand(theirs.encode(words, is_pretokenized=True).word_ids, labels)
    assert found.values.tolist() == wanted
    assert found.lost == 1  # of the empty word


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("boundary", ["pretoken", "word", "sentence", "superword"])
def test_labels_of_words_survive_every_amount_of_merging(
    tiny: av.DynamicTokenizer, boundary: av.dynamic.tokenizer.Boundary, share: float
) -> None:
    options: Any = {"transition": 2} if boundary == "superword" else {}
    base = base_of(tiny, WORDS, boundary=boundary, add_special_tokens=True)
    batch = tiny.merge_base(base, attainable=share, **options)
    found = word_labels(batch, LABELS)
    assert found.lost == 1
    back = word_values(batch, found.values, [3, 0, 3])
    assert [one.tolist() for one in back] == [[3, 1, 2], [], [5, IGNORED, 7]]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_words_of_a_text_are_what_white_space_separates(
    pico: av.DynamicTokenizer, share: float
) -> None:
    batch = pico.merge(TEXTS, boundary="word", attainable=share)
    counts = [len(text.split()) for text in TEXTS]
    labels = [[10 * row + word for word in range(n)] for row, n in enumerate(counts)]
    found = word_labels(batch, labels)
    assert found.lost == 0
    assert [one.tolist() for one in word_values(batch, found.values, counts)] == labels
    carried = found.values != IGNORED
    assert carried.sum() == sum(counts)


def test_words_in_one_token_share_its_label_and_are_counted(pico: av.DynamicTokenizer) -> None:
    batch = pico.merge(["one two"], boundary="superword", transition=0)
    assert len(batch.ids) == 1
    found = word_labels(batch, [[1, 2]])
    assert (found.values.tolist(), found.lost) == ([1], 1)
    assert word_values(batch, found.values, [2], missing=-1)[0].tolist() == [1, -1]


def test_values_of_words_may_be_rows(tiny: av.DynamicTokenizer) -> None:
    batch = tiny.merge_base(base_of(tiny, WORDS, add_special_tokens=True))
    values = np.arange(2 * len(batch.ids), dtype=np.float64).reshape(-1, 2)
    found = word_values(batch, values, [3, 0, 3], missing=np.nan)
    assert [one.shape for one in found] == [(3, 2), (0, 2), (3, 2)]
    assert batch.words is not None
    token = int(np.flatnonzero(batch.words == 1)[0])
    assert found[0][1].tolist() == values[token].tolist()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("boundary", ["pretoken", "word"])
def test_spans_of_whole_words_come_back(
    pico: av.DynamicTokenizer, boundary: av.dynamic.tokenizer.Boundary, share: float
) -> None:
    spans = [
        [LabelledSpan(15, 21, 2), LabelledSpan(0, 1, 1)],
        [],
        byte_spans(TEXTS[2], [(1, 6, 1), (25, 27, 3)]),
    ]
    batch = pico.merge(TEXTS, boundary=boundary, attainable=share)
    found = span_labels(batch, spans)
    assert found.lost == 0
    assert found_spans(batch, found.values, TEXTS) == [sorted(one) for one in spans]


def test_every_token_has_the_label_of_the_first_byte_that_has_one(
    pico: av.DynamicTokenizer,
) -> None:
    text = "tokenizers tokenize naïve tokenizations"
    size = len(text.encode())
    draws = np.random.default_rng(5)
    for _ in range(40):
        edges = np.sort(draws.choice(size + 1, size=6, replace=False)).tolist()
        spans = [LabelledSpan(edges[i], edges[i + 1], i + 1) for i in (0, 2, 4)]
        of_byte = np.zeros(size, dtype=int)
        for start, end, label in spans:
            of_byte[start:end] = label
        batch = pico.merge([text], max_merges=int(draws.integers(8)))
        found = span_labels(batch, [spans])
        assert batch.spans is not None
        wanted = [next((b for b in of_byte[s:e] if b), 0) for s, e in batch.spans.tolist()]
        assert found.values.tolist() == wanted
        assert found.lost == len({1, 3, 5} - set(wanted))


def test_template_tokens_have_no_label(tiny: av.DynamicTokenizer) -> None:
    batch = tiny.merge(["hello"], add_special_tokens=True)
    assert span_labels(batch, [[]], outside=9).values.tolist() == [IGNORED, 9, IGNORED]
    assert word_labels(batch, [[4]]).values.tolist() == [IGNORED, 4, IGNORED]


def test_characters_and_bytes_are_told_apart() -> None:
    text = "a naïve 漢字"
    spans = [(2, 7, 1), (9, 10, 2)]
    found = byte_spans(text, spans)
    assert [text.encode()[start:end].decode() for start, end, _ in found] == ["naïve", "字"]
    assert character_spans(text, found) == spans
    assert character_spans(text, [(10, 13, 1)]) == [(8, 10, 1)]  # from the middle of a character
    assert character_spans("", [(0, 0, 1)]) == [(0, 0, 1)]


def test_what_does_not_fit_is_refused_by_name(
    pico: av.DynamicTokenizer, tiny: av.DynamicTokenizer
) -> None:
    batch = pico.merge(["one two"])
    with pytest.raises(errors.InvalidValue, match="text 0 has a word 1, and 1 are counted"):
        word_labels(batch, [[1]])
    with pytest.raises(errors.InvalidValue, match="2 were given for 1 texts"):
        word_labels(batch, [[1], [2]])
    with pytest.raises(errors.InvalidValue, match="give one for each token"):
        word_values(batch, np.zeros(9), [2])
    with pytest.raises(errors.InvalidValue, match="empty or overlap"):
        span_labels(batch, [[LabelledSpan(0, 3, 1), LabelledSpan(2, 4, 1)]])
    with pytest.raises(errors.InvalidValue, match="does not lie in a text of length 3"):
        byte_spans("one", [(0, 4, 1)])
    arrays = pico.merge_arrays([1, 2], [0, 2], [0, 0])
    with pytest.raises(errors.InvalidValue, match="knows no words"):
        word_labels(arrays, [[1]])
    with pytest.raises(errors.InvalidValue, match="knows no spans"):
        span_labels(arrays, [[]])
    pairs = tiny.merge_base(base_of(tiny, [("he", "he")]))
    with pytest.raises(errors.InvalidValue, match="words each from 0"):
        word_labels(pairs, [[1, 2]])
    with pytest.raises(errors.InvalidValue, match="places in each part"):
        found_spans(pairs, np.zeros(2), ["he"])
