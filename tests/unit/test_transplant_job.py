"""What a swap learns from and what it is judged by."""

from __future__ import annotations

import pytest

from anyvocab import errors
from anyvocab.transplant.job import PART, split_corpus


def test_what_judges_is_nothing_that_was_learned_from() -> None:
    texts = [b"%d " % number * 900 + b"\n" for number in range(100, 140)]
    found = split_corpus(texts)
    judged = {text for domain in found.judge for text in domain.documents}
    assert not judged & set(found.learn)
    assert len(found.learn) + len(judged) == len(texts)
    assert len(judged) == len(texts) // 5


def test_a_small_corpus_keeps_its_last_part_to_judge_by() -> None:
    text = b"a line of text\n" * (3 * PART // 15)
    found = split_corpus([text])
    assert b"".join((*found.learn, *found.judge[0].documents)) == text
    assert found.origin == "the last part of the corpus"


def test_one_part_is_learned_from_and_nothing_judges() -> None:
    found = split_corpus([b"short"])
    assert found.learn == (b"short",)
    assert found.judge == ()


def test_texts_to_judge_by_leave_the_corpus_whole() -> None:
    found = split_corpus([b"one\n" * 9000], [b"two"])
    assert found.learn == (b"one\n" * 9000,)
    assert [domain.documents for domain in found.judge] == [(b"two",)]


def test_one_text_where_several_belong_is_named() -> None:
    with pytest.raises(errors.InvalidValue, match="give a list"):
        split_corpus(b"text")
