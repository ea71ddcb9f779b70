"""Pairs and lists of words as base tokens, against the `tokenizers` library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.dynamic.parts import base_of
from anyvocab.testing import tiny_tokenizer

tokenizers = pytest.importorskip("tokenizers")

CLS, SEP = ("<|end|>", 260), ("<|fim_prefix|>", 261)
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}


def place(name: str, number: int) -> dict[str, Any]:
    kind = "Sequence" if name in "AB" else "SpecialToken"
    return {kind: {"id": name, "type_id": number}}


def template(single: list[Any], pair: list[Any]) -> dict[str, Any]:
    tokens = {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in (CLS, SEP)}
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": pair,
        "special_tokens": tokens,
    }


BERT = template(
    [place(CLS[0], 0), place("A", 0), place(SEP[0], 0)],
    [place(CLS[0], 0), place("A", 0), place(SEP[0], 0), place("B", 1), place(SEP[0], 1)],
)
POST_PROCESSORS: dict[str, Any] = {
    "none": None,
    "byte-level": BYTE_LEVEL,
    "template": BERT,
    "reversed": template([place("A", 0)], [place("B", 1), place(SEP[0], 2), place("A", 0)]),
    "bert": {"type": "BertProcessing", "sep": SEP, "cls": CLS},
    "roberta": {
        "type": "RobertaProcessing",
        "sep": SEP,
        "cls": CLS,
        "trim_offsets": True,
        "add_prefix_space": True,
    },
    "sequence": {"type": "Sequence", "processors": [BYTE_LEVEL, BERT]},
}
TWICE = {
    "type": "Sequence",
    "processors": [
        template([place("A", 3)], [place("B", 1), place("A", 2)]),
        POST_PROCESSORS["bert"],
        {"type": "Sequence", "processors": [POST_PROCESSORS["roberta"], BERT]},
    ],
}
PAIRS = [("hello shell", "hell hello"), ("", "he"), ("hello <|end|> hello", ""), ("", "")]
WORDS = [["hello", "hell", "", "don't"], [], ["shell"], [" hello", "hello  hell"]]


def both(post_processor: Any) -> tuple[av.DynamicTokenizer, Any]:
    document = json.dumps(tiny_tokenizer(post_processor=post_processor))
    return av.DynamicTokenizer(document.encode()), tokenizers.Tokenizer.from_str(document)


def rows(base: av.dynamic.BaseBatch, values: Any) -> list[list[int]]:
    return [part.tolist() for part in np.split(values, base.offsets[1:-1])]


@pytest.mark.parametrize("name", POST_PROCESSORS)
@pytest.mark.parametrize("added", [True, False])
def test_a_pair_has_the_ids_and_types_that_tokenizers_gives_it(name: str, added: bool) -> None:
    dyn, theirs = both(POST_PROCESSORS[name])
    base = base_of(dyn, PAIRS, add_special_tokens=added)
    wanted = [theirs.encode(*pair, add_special_tokens=added) for pair in PAIRS]
    assert rows(base, base.ids) == [one.ids for one in wanted]
    assert rows(base, base.types) == [one.type_ids for one in wanted]
    part = [[-1 if p is None else p for p in one.sequence_ids] for one in wanted]
    assert rows(base, base.parts) == part


@pytest.mark.parametrize("name", POST_PROCESSORS)
def test_words_have_the_ids_and_numbers_that_tokenizers_gives_them(name: str) -> None:
    dyn, theirs = both(POST_PROCESSORS[name])
    base = base_of(dyn, WORDS, add_special_tokens=True)
    wanted = [theirs.encode(words, is_pretokenized=True) for words in WORDS]
    assert rows(base, base.ids) == [one.ids for one in wanted]
    number = [[-1 if w is None else w for w in one.word_ids] for one in wanted]
    assert rows(base, base.words) == number


def test_texts_pairs_and_words_of_one_batch_are_what_they_are_alone() -> None:
    dyn, theirs = both(BERT)
    base = base_of(dyn, ["hello hell", PAIRS[0], WORDS[0]], add_special_tokens=True)
    wanted = [
        theirs.encode("hello hell").ids,
        theirs.encode(*PAIRS[0]).ids,
        theirs.encode(WORDS[0], is_pretokenized=True).ids,
    ]
    assert rows(base, base.ids) == wanted
    alone = dyn.base_batch(["hello hell"], add_special_tokens=True)
    own = slice(1, len(alone.ids) - 1)
    assert base.spans is not None
    assert alone.spans is not None
    assert base.spans[own].tolist() == alone.spans[own].tolist()
    assert base.words is not None
    assert alone.words is not None
    assert base.words[own].tolist() == alone.words[own].tolist()


@pytest.mark.parametrize("boundary", ["pretoken", "word", "sentence", "superword"])
def test_no_merge_crosses_parts_or_takes_a_special_token(
    boundary: av.dynamic.tokenizer.Boundary,
) -> None:
    dyn, _ = both(POST_PROCESSORS["roberta"])
    given = [("hello", "hello"), ["hello", "hello", "hello"], ("", ""), "hello"]
    base = base_of(dyn, given, boundary=boundary, add_special_tokens=True)
    options: Any = {"transition": 0} if boundary == "superword" else {}
    batch = dyn.merge_base(base, **options)
    assert batch.rows.to_list()[2] == [260, 261, 261, 261]
    tokens = [[one for one in row if one is not None] for row in batch.token_bytes()]
    assert tokens == [[b"hello"] * 2, [b"hello"] * 3, [], [b"hello"]]
    assert batch.words is not None
    assert batch.words.tolist() == [-1, 0, -1, -1, 0, -1, -1, 0, 1, 2, -1] + [-1] * 4 + [-1, 0, -1]
    assert batch.types is not None
    assert not batch.types.any()


def test_merged_parts_cover_what_they_are_made_of() -> None:
    dyn, _ = both(BERT)
    batch = dyn.merge_base(base_of(dyn, PAIRS, add_special_tokens=True))
    assert batch.spans is not None
    assert batch.parts is not None
    owner = np.repeat(np.arange(len(PAIRS)), batch.lengths())
    for token in range(len(batch.ids)):
        start, end = batch.spans[token].tolist()
        spelled = batch.bytes_of(int(batch.ids[token]))
        if batch.parts[token] >= 0 and spelled is not None:
            text = PAIRS[owner[token]][batch.parts[token]].encode()
            assert text[start:end] == spelled


def test_real_bert_agrees_on_pairs_and_words(fixtures: Path) -> None:
    document = json.loads((fixtures / "tokenizers" / "bert_uncased" / "tokenizer.json").read_text())
    document["post_processor"] = {
        "type": "BertProcessing",
        "cls": ["[CLS]", 101],
        "sep": ["[SEP]", 102],
    }
    text = json.dumps(document)
    dyn, theirs = av.DynamicTokenizer(text.encode()), tokenizers.Tokenizer.from_str(text)
    pair = ("The tokenizers' premise, naïvely.", "An unaffable hypothesis [SEP] 漢字")
    words = ["EU", "rejects", "German", "call", "unaffably", ".", "漢字", "\u200d"]
    base = base_of(dyn, [pair, words], add_special_tokens=True)
    first, second = theirs.encode(*pair), theirs.encode(words, is_pretokenized=True)
    assert rows(base, base.ids) == [first.ids, second.ids]
    assert rows(base, base.types) == [first.type_ids, second.type_ids]
    assert rows(base, base.words)[1] == [-1 if w is None else w for w in second.word_ids]


def test_what_cannot_be_put_together_is_refused_by_name() -> None:
    wide = template([place("A", 0)], [place("A", 0), place(SEP[0], 0), place("B", 1)])
    dyn, _ = both({"type": "Sequence", "processors": [wide, BERT]})  # `tokenizers` panics at a pair
    with pytest.raises(errors.InvalidValue, match="no template for a pair; give one text"):
        base_of(dyn, PAIRS, add_special_tokens=True)
    with pytest.raises(errors.InvalidValue, match="a tuple of 3 is no pair"):
        base_of(dyn, [("a", "b", "c")])
    with pytest.raises(TypeError, match="texts must be several"):
        base_of(dyn, "hello")


@pytest.mark.parametrize("added", [True, False])
def test_post_processors_one_after_the_other_have_the_ids_and_types_of_tokenizers(
    added: bool,
) -> None:
    # Not the parts: there the special tokens of the first belong to the text they stand around.
    dyn, theirs = both(TWICE)
    base = base_of(dyn, [*PAIRS, "hello"], add_special_tokens=added)
    wanted = [theirs.encode(*pair, add_special_tokens=added) for pair in [*PAIRS, ("hello",)]]
    assert rows(base, base.ids) == [one.ids for one in wanted]
    assert rows(base, base.types) == [one.type_ids for one in wanted]


def test_templates_one_after_the_other_stand_around_words_as_around_a_text() -> None:
    first = template([place(SEP[0], 0), place("A", 0)], [])
    dyn, theirs = both({"type": "Sequence", "processors": [first, BERT]})
    base = base_of(dyn, [["hello"], "hello"], add_special_tokens=True)
    alone = dyn.tokenizer.encode("hello", add_special_tokens=True).tolist()
    assert rows(base, base.ids) == [alone, alone]
    assert alone == theirs.encode("hello").ids
