"""Bits per byte and compression against numbers that can be worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import anyvocab as av
from anyvocab.evaluate.models import first_ids_of, load_model
from anyvocab.evaluate.scoring import score_windows, windows_of
from anyvocab.testing import tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> av.Tokenizer:
    return av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode())


class Uniform:
    """Every id has the same probability: log V nats each, whatever came before."""

    device = None

    def __init__(self, size: int = 262, fill: float = 0.0) -> None:
        self.config = SimpleNamespace(max_position_embeddings=16)
        self.size = size
        self.fill = fill
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, rows: Any) -> SimpleNamespace:
        import torch

        self.shapes.append(tuple(rows.shape))
        return SimpleNamespace(logits=torch.full((*rows.shape, self.size), self.fill))


def test_compression_counts_bytes_and_tokens_of_each_text(tokenizer: av.Tokenizer) -> None:
    score = av.compression(tokenizer, ["hell", b"hello hello", "", "é"])
    assert (score.bytes, score.tokens) == (4 + 11 + 2, 1 + 4 + 2)
    assert score.text_bytes.tolist() == [4, 11, 0, 2]
    assert score.text_tokens.tolist() == [1, 4, 0, 2]
    assert score.bytes_per_token == 17 / 7


def test_compression_loads_what_load_does(tiny_folder: Path) -> None:
    assert av.compression(str(tiny_folder), ["hello hello"]).tokens == 4


def test_compression_of_nothing_is_refused(tokenizer: av.Tokenizer) -> None:
    with pytest.raises(av.InvalidValue, match="no token to count"):
        av.compression(tokenizer, [""])
    with pytest.raises(TypeError, match="several texts"):
        av.compression(tokenizer, "hell")


@pytest.mark.parametrize(("length", "window", "stride"), [(1, 4, 2), (40, 8, 3), (9, 8, 7)])
def test_windows_score_every_id_once_with_what_was_promised_before_it(
    length: int, window: int, stride: int
) -> None:
    row = list(range(100, 101 + length))  # one id before the text
    scored = []
    for ids, first in windows_of(row, 1, window, stride):
        assert len(ids) <= window
        assert ids == row[ids[0] - 100 : ids[0] - 100 + len(ids)]
        for at in range(first, len(ids)):
            scored.append(ids[at])
            assert at >= min(window - stride, ids[at] - 100)
    assert scored == row[1:]


def test_the_post_processor_says_what_stands_before_a_text(fixtures: Path) -> None:
    for name, expected in (
        ("llama2", ([1], "post-processor")),
        ("clip", ([49406], "post-processor")),
        ("gpt2", ([50256], "bos")),
    ):
        assert first_ids_of(av.Tokenizer.load(fixtures / "tokenizers" / name)) == expected


def test_a_model_object_needs_its_tokenizer() -> None:
    with pytest.raises(av.InvalidValue, match="which tokenizer it has"):
        av.bits_per_byte(Uniform(), ["x"])


def test_a_folder_without_a_model_is_not_found(tiny_folder: Path) -> None:
    with pytest.raises(av.SourceNotFound, match=r"no config\.json"):
        av.bits_per_byte(tiny_folder, ["x"])
    with pytest.raises(av.SourceNotFound, match="no embedded model"):
        av.bits_per_byte("pico:nothing", ["x"], tokenizer=tiny_folder)


@pytest.mark.models
def test_a_uniform_model_costs_log_v_for_every_token(tokenizer: av.Tokenizer) -> None:
    # "hell", "o", " hell", "o": four tokens of 262 equally likely, for 11 bytes.
    score = av.bits_per_byte(Uniform(), ["hello hello"], tokenizer=tokenizer, first_ids=[260])
    assert (score.tokens, score.bytes) == (4, 11)
    assert score.nats == pytest.approx(4 * math.log(262), rel=1e-15)
    assert score.bits_per_byte == pytest.approx(4 * math.log2(262) / 11, rel=1e-14)
    assert score.bytes_per_token == 11 / 4


@pytest.mark.models
def test_windows_and_batches_do_not_change_the_number_of_scored_tokens(
    tokenizer: av.Tokenizer,
) -> None:
    texts = ["hello " * 30, "x" * 17, b"\xff", ""]
    tokens = sum(len(tokenizer.encode(text)) for text in texts)
    for window, stride, batch_size in ((16, 8, 8), (5, 1, 2), (512, 256, 1)):
        score = av.bits_per_byte(
            Uniform(),
            texts,
            tokenizer=tokenizer,
            first_ids=[260],
            window=window,
            stride=stride,
            batch_size=batch_size,
        )
        assert (score.tokens, score.window, score.stride) == (tokens, window, stride)
        assert score.nats == pytest.approx(tokens * math.log(262), rel=1e-14)


@pytest.mark.models
def test_the_window_is_the_models_own_when_it_is_left_out(tokenizer: av.Tokenizer) -> None:
    model = Uniform()
    score = av.bits_per_byte(model, ["x" * 100], tokenizer=tokenizer, first_ids=[260])
    assert (score.window, score.stride) == (16, 8)
    assert max(width for _, width in model.shapes) == 16


@pytest.mark.models
def test_what_cannot_be_scored_is_named(tokenizer: av.Tokenizer) -> None:
    def score(model: object = None, texts: tuple[str, ...] = ("x",), **options: object) -> object:
        options = {"first_ids": [260], **options}
        return av.bits_per_byte(model or Uniform(), texts, tokenizer=tokenizer, **options)  # type: ignore[arg-type]

    for words, call in {
        "no byte to score": lambda: score(texts=("",)),
        "nothing stands before": lambda: score(first_ids=[]),
        "no room in a window": lambda: score(first_ids=[260] * 4, window=4),
        "window: must be at least 2": lambda: score(window=1),
        "stride: must be 1..15": lambda: score(stride=16),
        "batch_size: must be": lambda: score(batch_size=0),
        "100 logits, none for id 120": lambda: score(Uniform(100)),
        "the score is nan": lambda: score(Uniform(fill=math.nan)),
    }.items():
        with pytest.raises(av.InvalidValue, match=words):
            call()
    with pytest.raises(TypeError, match="several texts"):
        av.bits_per_byte(Uniform(), "x", tokenizer=tokenizer)


def stories(fixtures: Path) -> list[str]:
    text = (fixtures / "text" / "stories" / "tinystories_sample.txt").read_text(encoding="utf-8")
    return [story.strip() for story in text.split("<|endoftext|>")]


@pytest.mark.models
def test_a_story_model_has_its_published_bits_per_byte(fixtures: Path) -> None:
    # The number comes with the fixtures and was made by another program; no story is longer than
    # the model's window.
    score = av.bits_per_byte(fixtures / "models" / "stories260K", stories(fixtures))
    assert round(score.bits_per_byte, 3) == 0.887


@pytest.mark.models
def test_windows_that_overlap_give_fewer_bits_than_cuts(fixtures: Path) -> None:
    # Published for this model, whose window is shorter than the stories: 1.183, by cutting the ids
    # into windows that each begin with a bos. That is not what `bits_per_byte` does.
    folder = fixtures / "models" / "babyllama105"
    tokenizer, texts = av.Tokenizer.load(folder), stories(fixtures)
    rows = [tokenizer.encode(text).tolist() for text in texts]
    cut = [([1, *ids[at : at + 255]], 1) for ids in rows for at in range(0, len(ids), 255)]
    size = sum(len(text.encode()) for text in texts)
    nats = math.fsum(map(math.fsum, score_windows(load_model(folder), cut)))
    published = nats / math.log(2) / size
    assert round(published, 3) == 1.183
    assert av.bits_per_byte(folder, texts).bits_per_byte < 1.06
