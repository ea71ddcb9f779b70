"""Sequences of post-processors against `tokenizers`, every one of two and three."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import anyvocab as av
from anyvocab import errors

tokenizers = pytest.importorskip("tokenizers", reason="the oracle `tokenizers` is not installed")

CLS, SEP = ("<s>", 1), ("</s>", 2)


def template(single: str, pair: str) -> Any:
    return tokenizers.processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[CLS, SEP]
    )


POST_PROCESSORS = {
    "bare": template("$A", "$A $B"),
    "opened": template("<s> $A", "$A <s> $B"),
    "ended": template("$A </s>", "$B </s> $A"),
    "around": template("<s> $A </s>", "$A $B"),
    "again": template("$A </s>", "$B $A $A"),
    "bert": tokenizers.processors.BertProcessing(SEP, CLS),
    "roberta": tokenizers.processors.RobertaProcessing(SEP, CLS),
    "bytes": tokenizers.processors.ByteLevel(),
}


def theirs(names: tuple[str, ...]) -> Any:
    vocab = {"x": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="<unk>"))
    made.post_processor = tokenizers.processors.Sequence([POST_PROCESSORS[one] for one in names])
    return made


def expected(tokenizer: Any) -> list[int] | None:
    """Return the ids around `x`, or none where `tokenizers` panics or loses or repeats the text."""
    try:
        ids: list[int] = tokenizer.encode("x").ids
    except BaseException as panic:
        if type(panic).__name__ != "PanicException":
            raise
        return None
    return ids if ids.count(0) == 1 else None


@pytest.mark.parametrize("length", [2, 3])
def test_a_sequence_of_post_processors_puts_around_a_text_what_tokenizers_puts(
    length: int, capfd: pytest.CaptureFixture[str]
) -> None:
    refused = 0
    for names in itertools.product(POST_PROCESSORS, repeat=length):
        oracle = theirs(names)
        want = expected(oracle)
        file = oracle.to_str().encode()
        if want is None:
            refused += 1
            with pytest.raises(errors.UnsupportedTokenizer, match="as one TemplateProcessing"):
                av.Tokenizer.load(file)
            continue
        ours = av.Tokenizer.load(file)
        assert ours.encode("x", add_special_tokens=True).tolist() == want, names
        assert ours.encode("x").tolist() == [0]
        again = tokenizers.Tokenizer.from_str(ours.to_json().decode())
        assert again.encode("x").ids == want, names
    assert 0 < refused < len(POST_PROCESSORS) ** length / 2
    capfd.readouterr()  # the panics' own words
