"""TokenAdapt against its formulas, a token at a time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

import anyvocab as av
from anyvocab import errors
from anyvocab.transplant.context import Context, TensorMatrix
from anyvocab.transplant.plan import Combination
from anyvocab.transplant.strategies import make, needs_of

pytestmark = pytest.mark.models
E = 16
# A cosine of two vectors in steps of 2 ** -26 is off by less than sqrt(E) steps, plus one for the
# second order.
OFF = (math.sqrt(E) + 1) * 2.0**-26


def encoder(keys: Sequence[bytes]) -> NDArray[np.float32]:
    """A vector for every byte string: a draw whose seed is its digest."""
    seeds = [int.from_bytes(hashlib.sha256(key).digest()[:8], "little") for key in keys]
    return np.array(
        [np.random.default_rng(seed).standard_normal(E) + 0.5 for seed in seeds], dtype=np.float32
    )


@pytest.fixture(scope="module")
def context() -> Context:
    import torch

    source, target = av.Tokenizer.load("pico:code-2k"), av.Tokenizer.load("pico:code-4k")
    torch.manual_seed(0)
    matrix = TensorMatrix(torch.randn(len(source.vocabulary), 8))
    return Context.of(source, target, {"input": matrix, "output": matrix}, encoder=encoder)


def new_ids(context: Context, count: int = 30) -> NDArray[np.int64]:
    """Some text tokens that the source lacks; some of them are not valid UTF-8."""
    ids = [id for id in context.match.unmatched().tolist() if context.target_tokens[id]]
    rng = np.random.default_rng(0)
    return np.sort(rng.choice(np.array(ids), count, replace=False))


def dense(combination: Combination, columns: int) -> NDArray[np.float64]:
    rows = np.repeat(np.arange(len(combination)), combination.lengths())
    table = np.zeros((len(combination), columns))
    np.add.at(table, (rows, combination.columns), combination.weights.astype(np.float64))
    return table


def softmax(values: Sequence[float]) -> list[float]:
    powers = [math.exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def published(
    ids: NDArray[np.int64],
    columns: int,
    *,
    text_of_new: Callable[[int], bytes],
    text_of_old: Callable[[int], bytes],
    pieces_of: Callable[[int], list[int]],
    old_ids: Sequence[int],
    length: Callable[[bytes], int],
    tau: float = 0.3,
    k: int = 3,
    weight: float = 0.3,
    threshold: float = 0.0,
) -> NDArray[np.float64]:
    """The weights of the paper's formulas (arXiv:2505.09738, sections 3.1 to 3.3), in float64."""
    vector_of = cache(lambda text: encoder([text])[0].astype(np.float64))
    phi = {id: vector_of(text_of_old(id)) for id in old_ids}
    table = np.zeros((len(ids), columns))
    for row, id in enumerate(ids.tolist()):
        text = text_of_new(id)
        vector = vector_of(text)
        pieces = pieces_of(id)
        alike = softmax([cosine(vector, vector_of(text_of_old(p))) for p in pieces])
        combined = [
            (likeness + length(text_of_old(piece)) / length(text)) / 2
            for likeness, piece in zip(alike, pieces, strict=True)
        ]
        local = softmax([one / (tau + 1e-5) for one in combined])
        nearest = sorted(((cosine(vector, phi[old]), -old) for old in old_ids), reverse=True)[:k]
        shares = softmax([close / (tau + 1e-5) for close, _ in nearest])
        kept = [
            (share, -old)
            for share, (close, old) in zip(shares, nearest, strict=True)
            if close >= threshold
        ]
        total = sum(share for share, _ in kept)
        for piece, share in zip(pieces, local, strict=True):
            table[row, piece] += share * (1 - weight if kept else 1)
        for share, old in kept:
            table[row, old] += weight * share / total
    return table


def agree(found: Combination, wanted: NDArray[np.float64], tau: float) -> None:
    # A softmax moves by at most half of what its arguments do; weights are kept as float32.
    tolerance = OFF / tau + 4 * np.finfo(np.float32).eps
    assert np.abs(dense(found, wanted.shape[1]) - wanted).max() <= tolerance


@pytest.mark.parametrize(
    "options", [{}, {"tau": 0.6, "k": 5, "weight": 0.5}, {"threshold": 0.6}, {"weight": 1.0}]
)
def test_rows_by_decoded_text_are_the_published_ones(
    context: Context, options: dict[str, float]
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    old, new = (
        tokenizers.Tokenizer.from_str(one.to_json().decode())
        for one in (context.source, context.target)
    )
    ids = new_ids(context)
    wanted = published(
        ids,
        context.source_rows,
        text_of_new=lambda id: new.decode([id], skip_special_tokens=False).encode(),
        text_of_old=lambda id: old.decode([id], skip_special_tokens=False).encode(),
        pieces_of=lambda id: (
            old.encode(new.decode([id], skip_special_tokens=False), add_special_tokens=False).ids
        ),
        old_ids=range(context.source_rows),
        length=lambda text: len(text.decode()),
        **options,  # type: ignore[arg-type]
    )
    made = make(
        "tokenadapt", {"keys": "authors", "lengths": "characters", "space": "encoder", **options}
    )
    agree(made.rows(context, "input", ids), wanted, options.get("tau", 0.3))  # type: ignore[arg-type]


def test_rows_by_bytes_have_exact_pieces_and_lengths_in_bytes(context: Context) -> None:
    from anyvocab.transplant.spaces import known_sources

    ids = new_ids(context)
    pieces = dict(zip(ids.tolist(), context.pieces(ids).to_list(), strict=True))
    wanted = published(
        ids,
        context.source_rows,
        text_of_new=lambda id: context.target_tokens[id] or b"",
        text_of_old=lambda id: context.source_tokens[id] or b"",
        pieces_of=lambda id: pieces[id],
        old_ids=known_sources(context).tolist(),
        length=len,
    )
    made = make("tokenadapt", {"space": "encoder"})
    agree(made.rows(context, "input", ids), wanted, 0.3)  # type: ignore[arg-type]


def test_tokens_that_decode_alike_differ_by_bytes_and_collapse_by_text(context: Context) -> None:
    partial = [
        id
        for id in range(256)
        if context.target_tokens[id] and context.target.decode_text([id]) == "\ufffd"
    ][:5]
    ids = np.array(partial)
    apart = context.holding_out(ids)
    by_text = make("tokenadapt", {"keys": "authors", "space": "encoder", "weight": 1.0})
    by_bytes = make("tokenadapt", {"space": "encoder", "weight": 1.0})
    collapsed = dense(by_text.rows(apart, "input", ids), context.source_rows)  # type: ignore[arg-type]
    assert (collapsed == collapsed[0]).all()
    distinct = dense(by_bytes.rows(apart, "input", ids), context.source_rows)  # type: ignore[arg-type]
    assert len(np.unique(distinct, axis=0)) == len(ids)


def test_a_threshold_that_no_neighbour_reaches_leaves_the_pieces(context: Context) -> None:
    ids = new_ids(context, 10)
    found = make("tokenadapt", {"space": "encoder", "threshold": 1.0}).rows(context, "input", ids)
    alone = make("tokenadapt", {"space": "encoder", "weight": 0.0}).rows(context, "input", ids)
    assert isinstance(found, Combination)
    assert found.lengths().tolist() == context.pieces(ids).lengths().tolist()
    # With weight 0 the neighbours are there and count nothing.
    assert np.array_equal(
        dense(found, context.source_rows),
        dense(alone, context.source_rows),  # type: ignore[arg-type]
    )


def test_a_held_out_token_does_not_use_its_own_row(context: Context) -> None:
    held = context.anchors[0][-40:]
    apart = context.holding_out(held)
    for keys in ("bytes", "authors"):
        made = make("tokenadapt", {"keys": keys, "space": "encoder", "weight": 1.0})
        found = made.rows(apart, "input", held)
        assert isinstance(found, Combination)
        for i, own in enumerate(context.match.source_of[held].tolist()):
            assert own not in found.row(i)[0]


def test_needs_depend_on_the_space() -> None:
    assert needs_of("tokenadapt") == {"corpus"}
    assert needs_of("tokenadapt", {"space": "encoder"}) == {"encoder"}
    assert needs_of("tokenadapt", {"space": "spelling"}) == set()


def test_what_the_context_lacks_is_named(context: Context) -> None:
    ids = new_ids(context, 3)
    with pytest.raises(errors.InvalidValue, match="corpus: there is none"):
        make("tokenadapt").rows(context, "input", ids)
    with pytest.raises(errors.InvalidValue, match="encoder: there is none"):
        make("tokenadapt", {"space": "encoder"}).rows(replace(context, encoder=None), "input", ids)


@pytest.mark.parametrize(
    "options",
    [
        {"weight": 1.5},
        {"tau": -1.0},
        {"k": 0},
        {"lengths": "words"},
        {"space": "nowhere"},
        {"keys": "authors"},  # needs the encoder's space
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidValue):
        make("tokenadapt", options)
