"""Rows by a map learned on the source's own tokens."""

from __future__ import annotations

import json

import numpy as np
import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.testing import byte_alphabet, tiny_tokenizer
from anyvocab.transplant.context import Context, TensorMatrix
from anyvocab.transplant.strategies import make

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")

# The source has the bytes and 200 tokens of two of them; every such row is the first byte's row
# plus twice the second's. The target has the bytes and `dFq`, and `aA` which the source has.
PAIRS = [a + b for a in "abcdefghijklmnopqrst" for b in "ABCDEFGHIJ"]


def tokenizer(more: list[str]) -> av.Tokenizer:
    document = tiny_tokenizer()
    model = {
        "type": "BPE",
        "vocab": {token: i for i, token in enumerate([*byte_alphabet(), *more])},
        "merges": [],
    }
    changed = {"model": model, "added_tokens": [], "decoder": {"type": "ByteLevel"}}
    return av.Tokenizer.load(json.dumps({**document, **changed}).encode())


def context() -> Context:
    rows = torch.randn(456, 4, generator=torch.Generator().manual_seed(0))
    for i, pair in enumerate(PAIRS):
        rows[256 + i] = rows[ord(pair[0])] + 2.0 * rows[ord(pair[1])]
    matrix = TensorMatrix(rows)
    target = tokenizer(["dFq", "aA"])
    return Context.of(tokenizer(PAIRS), target, {"input": matrix, "output": matrix})


def test_a_linear_law_of_pieces_is_found() -> None:
    found = context()
    ids = np.array([257])  # `aA`, held out: the row is known and must be predicted
    hiding = found.holding_out(ids)
    made = make("learned-pieces", {"ridge": 1e-9}).rows(hiding, "input", ids)
    wanted = found.matrices["input"].take(found.match.source_of[ids])
    # float32 rows below 16 in size, and a penalty of 1e-9 of what is fitted.
    assert float((made - wanted).abs().max()) < 16 * 4 * float(np.finfo(np.float32).eps) * 8


def test_a_heavy_penalty_gives_the_mean_of_the_known_rows() -> None:
    found = context()
    ids = np.array([256])
    made = make("learned-pieces", {"ridge": 1e12}).rows(found, "output", ids)
    mean = found.matrices["output"].take(np.arange(256, 456)).mean(dim=0)
    assert float((made[0] - mean).abs().max()) < 1e-5 * float(mean.abs().max() + 1)


def test_held_out_rows_teach_nothing() -> None:
    found = context()
    ids = np.array([257])
    hiding = found.holding_out(ids)
    before = make("learned-pieces").rows(hiding, "input", ids)
    matrix = found.matrices["input"]
    assert isinstance(matrix, TensorMatrix)
    matrix.tensor[found.match.source_of[ids][0]] = 1e6
    assert torch.equal(before, make("learned-pieces").rows(hiding, "input", ids))


def test_a_penalty_of_nothing_is_refused() -> None:
    with pytest.raises(errors.InvalidValue, match="above 0"):
        make("learned-pieces", {"ridge": 0.0})
