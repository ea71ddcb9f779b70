"""Texts, features and batches of hypernetwork training: drawn by seed and step alone."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import anyvocab as av  # noqa: E402
from anyvocab import InvalidValue  # noqa: E402
from anyvocab.hypernet.batches import Batcher, Controls  # noqa: E402
from anyvocab.hypernet.data import Texts  # noqa: E402
from anyvocab.hypernet.features import (  # noqa: E402
    FEATURES,
    SurroundingsOf,
    extensions,
    matrix_of,
    missing_bytes,
    pieces_of,
)
from anyvocab.hypernet.losses import IGNORED  # noqa: E402
from anyvocab.hypernet.sampler import SamplerOptions, TokenizerSampler  # noqa: E402

SOURCE = "pico:code-2k"
DOCUMENT = "def größe(x):\n    return x + 1  # größer, größte: ∑ x\n".encode()


def texts_of(count: int = 40) -> Texts:
    return Texts.read(iter([DOCUMENT * (2 + i) for i in range(count)]), seed=3)


def batcher_of(texts: Texts, **changes: object) -> Batcher:
    source = av.Tokenizer.load(SOURCE)
    rows = len(source.vocabulary)
    sampler = TokenizerSampler(source, SamplerOptions(vocab_size=600), rows=rows, seed=5)
    options: dict[str, object] = {"count": 6, "window": 24, "span": 90, "rows": 400, "seed": 5}
    return Batcher(
        texts,
        [sampler],
        SurroundingsOf(source, rows),
        Controls(first=(2043,)),
        source_rows=rows,
        **{**options, **changes},  # type: ignore[arg-type]
    )


def test_extensions_are_counted_as_by_looking_at_every_pair() -> None:
    rng = np.random.default_rng(0)
    words = [bytes(rng.integers(97, 100, rng.integers(1, 6)).tolist()) for _ in range(300)]
    tokens, vocabulary = words[:120], words[80:]
    wanted = [
        sum(other.startswith(token) and other != token for other in set(vocabulary))
        for token in tokens
    ]
    assert extensions(tokens, vocabulary).tolist() == wanted
    assert extensions([], vocabulary).tolist() == []
    assert extensions([b"a"], []).tolist() == [0]


def test_features_are_those_that_their_names_say() -> None:
    source = av.Tokenizer.load(SOURCE)
    tokens = [b"a", b"ab", b"abc", b"zz"]
    made = SurroundingsOf(source)(tokens)
    assert made.shape == (4, len(FEATURES))
    assert np.exp(made[:, 0]).round().astype(int).tolist() == [3, 2, 1, 1]
    assert np.exp(made[:, 2]).round().astype(int).tolist() == [1, 2, 3, 2]
    assert made[0, 3] == np.float32(math.log(4))
    assert made[0, 4] == np.float32(2.0)
    there = len(source.vocabulary.ids_with_prefix(b"ab")) - len(source.vocabulary.ids_of(b"ab"))
    assert round(math.expm1(float(made[1, 1]))) == there


def test_features_do_not_depend_on_what_was_asked_before() -> None:
    source = av.Tokenizer.load(SOURCE)
    used, fresh = SurroundingsOf(source), SurroundingsOf(source)
    used([b"re", b"return", b"x"])
    tokens = [b"return", b"self", b"re"]
    assert np.array_equal(used(tokens, [b"rest", *tokens]), fresh(tokens, [b"rest", *tokens]))


def test_pieces_spell_tokens_and_missing_bytes_are_rows_of_their_own(tiny: bytes) -> None:
    source = av.Tokenizer.load(SOURCE)
    rows = len(source.vocabulary)
    tokens = [b" return", b"\xff", "größe".encode()]
    for token, row in zip(tokens, pieces_of(source, tokens, rows=rows), strict=True):
        assert b"".join(source.vocabulary.token_bytes(id) or b"" for id in row) == token
    few = pieces_of(source, [b"ab"], rows=0)
    assert few == [[ord("a"), ord("b")]]
    some = 3 + ord("a") + 1  # the source's byte tokens begin at 3
    assert missing_bytes(source, some) == frozenset(range(ord("b"), 256))
    cut = pieces_of(source, [b"ab\xffa"], rows=some)[0]
    assert cut == [some - 1, some + ord("b"), some + 0xFF, some - 1]
    assert matrix_of([[1], [2, 3]]).tolist() == [[1, -1], [2, 3]]


def test_spans_begin_and_end_at_characters_and_stay_in_their_document() -> None:
    texts = texts_of()
    for step in range(20):
        _, spans = texts.draw(step, 8, 37)
        for span in spans:
            span.decode()  # whole characters
            assert 0 < len(span) <= 37
            assert span in DOCUMENT * 45


def test_a_draw_depends_on_the_seed_and_the_step_alone() -> None:
    texts, again = texts_of(), texts_of()
    assert texts.draw(7, 5, 50) == again.draw(7, 5, 50)
    assert texts.draw(7, 5, 50) != texts.draw(8, 5, 50)
    other = Texts(texts.parts, texts.held_out, seed=4)
    assert texts.draw(7, 5, 50) != other.draw(7, 5, 50)


def test_held_out_documents_are_not_trained_on(tmp_path: Path) -> None:
    documents = [f"document {i} of many, ".encode() * 9 for i in range(100)]
    texts = Texts.read(iter(documents), held_out_share=0.1)
    trained = texts.parts[0].data.tobytes()
    assert len(texts.held_out) == 10
    assert all(one not in trained for one in texts.held_out)
    assert texts.size + sum(map(len, texts.held_out)) == sum(map(len, documents))


def test_of_a_single_document_the_end_is_held_out() -> None:
    texts = Texts.read(iter([bytes(range(97, 122)) * 40]), held_out_share=0.1)
    assert len(texts.held_out) == 1
    assert texts.size == 900
    with pytest.raises(InvalidValue, match="no text"):
        Texts.read(iter([b""]))


def test_parts_are_drawn_by_a_power_of_their_size() -> None:
    small, large = b"a" * 1000, b"b" * 1_000_000
    texts = Texts.read({"small": iter([small] * 3), "large": iter([large] * 3)}, seed=1)
    drawn = [texts.draw(step, 1, 10, power=0.0)[0] for step in range(400)]
    # Of 400 even draws, 200 +- 10 (one standard deviation); five of them are allowed.
    assert 150 < sum(drawn) < 250
    drawn = [texts.draw(step, 1, 10, power=1.0)[0] for step in range(400)]
    assert sum(drawn) < 10  # the smaller has a thousandth


def test_a_batch_spells_its_texts() -> None:
    texts = texts_of()
    batcher = batcher_of(texts)
    sampler = TokenizerSampler(av.Tokenizer.load(SOURCE), SamplerOptions(vocab_size=600), seed=5)
    for step in range(3):
        batch = batcher.step(step)
        sampled = sampler.step(texts.draw(step, 6, 90)[1])
        rows = sampled.encode_batch(texts.draw(step, 6, 90)[1])
        tokens, count = sampled.tokens, len(batch.pieces)
        source = av.Tokenizer.load(SOURCE).vocabulary
        spelt = [
            b"".join(source.token_bytes(id) or b"" for id in row if id >= 0)
            for row in batch.pieces.tolist()
        ]
        for at, ids in enumerate(rows):
            seen = batch.inputs[at][batch.mask[at]].tolist()
            assert seen[0] == count  # the control stands behind the predicted rows
            made = [spelt[i] for i in seen[1:]]
            assert made == [tokens[i] for i in ids[:24]]
            targets = batch.targets[at]
            assert targets[targets != IGNORED].tolist() == seen[1:]
        assert batch.scored == sum(min(24, len(ids)) for ids in rows)


def test_rows_that_stand_for_others_keep_the_sum_of_the_softmax() -> None:
    batcher = batcher_of(texts_of(), rows=300)
    batch = batcher.step(0)
    needed = batch.targets[batch.targets != IGNORED].unique()
    gained = torch.exp(batch.offset[: len(batch.pieces)])
    assert len(batch.pieces) == 300
    assert torch.all(gained[needed] == 1.0)
    # Every token of the vocabulary is counted once: by itself or by a row that stands for it.
    assert float(gained.sum()) == pytest.approx(batch.vocabulary, rel=1e-5)
    every = batcher_of(texts_of(), rows=None).step(0)
    assert len(every.pieces) == every.vocabulary
    assert not every.offset.any()


def test_anchors_are_the_tokens_that_the_source_has() -> None:
    batch = batcher_of(texts_of()).step(0)
    assert len(batch.anchors) > 256
    assert torch.equal(batch.pieces[batch.anchors, 0], batch.anchor_ids)
    assert torch.all(batch.pieces[batch.anchors][:, 1:] == -1)
    others = set(range(len(batch.pieces))) - set(batch.anchors.tolist())
    assert all(int(batch.pieces[i, 1]) >= 0 for i in others)


def test_a_batcher_that_caught_up_makes_the_batches_of_one_that_went_all_the_way() -> None:
    whole, late = batcher_of(texts_of()), batcher_of(texts_of())
    for step in range(23):
        whole.step(step)
    late.catch_up(23)
    for step in (23, 24):
        ours, theirs = late.step(step), whole.step(step)
        for name, value in vars(theirs).items():
            found = getattr(ours, name)
            same = torch.equal(found, value) if isinstance(value, torch.Tensor) else found == value
            assert same, name


def test_masked_batches_hide_tokens_and_score_only_these() -> None:
    texts = texts_of()
    batcher = batcher_of(texts, kind="masked")
    batcher.controls = Controls(first=(2043,), last=(2044,), mask=2045)
    batch = batcher.step(0)
    mask = len(batch.pieces) + batcher.controls.ids.index(2045)
    hidden = batch.targets != IGNORED
    assert torch.all(batch.inputs[hidden] == mask)
    assert int((batch.inputs == mask).sum()) == batch.scored
    share = batch.scored / int(batch.mask.sum())
    assert 0.1 < share < 0.2
    assert torch.all(batch.targets[hidden] < len(batch.pieces))
