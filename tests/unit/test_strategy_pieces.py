"""Rows from pieces, on vocabularies that can be checked by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.testing import byte_alphabet, tiny_tokenizer
from anyvocab.transplant.context import Context, TensorMatrix
from anyvocab.transplant.plan import Combination
from anyvocab.transplant.strategies import make, names

pytestmark = pytest.mark.models

# The source is the tiny tokenizer: bytes 0..255, 256 `he`, 257 `ll`, 258 `hell`, 259 ` hell`.
# The target has the bytes and these:
#
#     token         pieces        bytes
#     256 hello     hell|o        4, 1
#     257 he!       he|!          2, 1
#     258 hehell    he|hell       2, 4
#     259 \xe4\xb8  \xe4|\xb8     1, 1   not valid UTF-8
#     260 hell      hell          4      the source has it
NEW = ("hello", "he!", "hehell", "ä¸", "hell")
HELLO, HE_MARK, HEHELL, PARTIAL, HELL = range(256, 261)


def target() -> av.Tokenizer:
    document: dict[str, Any] = tiny_tokenizer()
    tokens = [*byte_alphabet(), *NEW]
    model = {
        **document["model"],
        "vocab": {token: i for i, token in enumerate(tokens)},
        "merges": [],
    }
    return av.Tokenizer.load(json.dumps({**document, "model": model, "added_tokens": []}).encode())


@cache
def context() -> Context:
    import torch

    source = av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode())
    matrix = TensorMatrix(torch.arange(262.0)[:, None].repeat(1, 2))
    return Context.of(source, target(), {"input": matrix, "output": matrix})


def rows(
    name: str,
    ids: Sequence[int],
    side: Any = "input",
    *,
    held_out: Sequence[int] = (),
    **options: Any,
) -> list[dict[int, float]]:
    hiding = context().holding_out(np.array(held_out, dtype=np.int64))
    made = make(name, options).rows(hiding, side, np.array(ids, dtype=np.int64))
    assert isinstance(made, Combination)
    return [
        dict(zip(*(one.tolist() for one in made.row(i)), strict=True)) for i in range(len(made))
    ]


def near(**shares: float) -> Any:
    # One division and one rounding to float32.
    eps = float(np.finfo(np.float32).eps)
    return pytest.approx({int(id[1:]): share for id, share in shares.items()}, rel=2 * eps)


H, E, L, O, MARK = b"helo!"  # noqa: E741
HE, LL, OLD_HELL = 256, 257, 258


def test_the_mean_counts_every_piece_alike() -> None:
    assert rows("mean", [HELLO, PARTIAL]) == [
        {OLD_HELL: 0.5, O: 0.5},
        {0xE4: 0.5, 0xB8: 0.5},
    ]


def test_length_counts_bytes() -> None:
    found = rows("length", [HELLO, HEHELL])
    assert found[0] == near(i258=0.8, i111=0.2)
    assert found[1] == near(i256=1 / 3, i258=2 / 3)


def test_last_takes_the_last_piece_to_read_and_the_first_to_predict() -> None:
    assert rows("last", [HELLO, HE_MARK]) == [{O: 1.0}, {MARK: 1.0}]
    assert rows("last", [HELLO, HE_MARK], "output") == [{OLD_HELL: 1.0}, {HE: 1.0}]


def test_front_halves_the_weight_from_piece_to_piece() -> None:
    assert rows("front", [HELLO]) == [{O: 1.0}]
    assert rows("front", [HELLO], "output")[0] == near(i258=2 / 3, i111=1 / 3)
    assert rows("front", [HELLO], "output", decay=0.25)[0] == near(i258=0.8, i111=0.2)


def test_adaptivocab_rises_to_read_and_falls_to_predict() -> None:
    small, large = np.exp(-2) / (1 + np.exp(-2)), 1 / (1 + np.exp(-2))
    assert rows("adaptivocab", [HELLO])[0] == near(i258=small, i111=large)
    assert rows("adaptivocab", [HELLO], "output")[0] == near(i258=large, i111=small)


def test_adaptivocab_of_rate_zero_is_the_mean() -> None:
    assert rows("adaptivocab", [HELLO], rate=0.0) == rows("mean", [HELLO])


def test_a_token_of_the_source_is_its_own_piece_until_it_is_held_out() -> None:
    assert rows("mean", [HELL]) == [{OLD_HELL: 1.0}]
    assert rows("mean", [HELL], held_out=[HELL]) == [{HE: 0.5, LL: 0.5}]


@pytest.mark.parametrize("name", ["mean", "length", "last", "front", "adaptivocab"])
def test_a_byte_that_is_held_out_has_no_pieces_and_no_row(name: str) -> None:
    for side in ("input", "output"):
        assert rows(name, [H, HELLO], side, held_out=[H])[0] == {}
        assert rows(name, [H, HELLO], side, held_out=[H])[1] == rows(name, [HELLO], side)[0]


@pytest.mark.parametrize("name", ["mean", "length", "last", "front", "adaptivocab"])
def test_no_ids_give_no_rows(name: str) -> None:
    assert rows(name, []) == []
    assert rows(name, [], "output") == []


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("front", {"decay": 0.0}),
        ("front", {"decay": 1.5}),
        ("adaptivocab", {"rate": -1.0}),
        ("adaptivocab", {"rate": 50.0}),
        ("mean", {"decay": 1.0}),
        ("no such strategy", {}),
    ],
)
def test_unknown_names_and_options_out_of_range_are_refused(
    name: str, options: dict[str, Any]
) -> None:
    with pytest.raises(errors.InvalidValue):
        make(name, options)


def test_every_strategy_says_what_it_does_in_a_line() -> None:
    assert all(summary.endswith(".") or ":" in summary for summary in names().values())
