"""The lines that say how every token's rows were made."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

import anyvocab as av
from anyvocab.testing import tiny_tokenizer
from anyvocab.transplant.identity import Origin
from anyvocab.transplant.plan import Combination, Plan, SidePlan
from anyvocab.transplant.roles import ControlMap, ControlRow
from anyvocab.transplant.tokens import ORIGINS, SHOWN, origin_lines

TINY = av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode())
SIZE = 262


def side(rows: dict[int, list[tuple[int, float]]], *, padding: int = 0) -> SidePlan:
    """A side whose rows are copies of their own number, but for those given."""
    given = [rows.get(id, [(id, 1.0)]) for id in range(SIZE + padding)]
    origin = np.full(len(given), Origin.COPIED, dtype=np.uint8)
    origin[list(rows)] = Origin.COMPOSED
    parts = [([id for id, _ in one], [weight for _, weight in one]) for one in given]
    return SidePlan(origin, Combination.from_rows(parts))


def lines(plan: Plan, controls: ControlMap | None = None) -> list[dict[str, object]]:
    data = origin_lines(TINY, controls or ControlMap(()), plan)[ORIGINS]
    return [json.loads(line) for line in data.splitlines()]


def test_every_token_has_a_line_that_says_where_its_rows_are_from() -> None:
    first = side({0xC3: [(1, 0.25), (2, 0.75)], 260: []})
    second = side({0xC3: [(3, 1 / 3)], 260: []})
    controls = ControlMap((ControlRow(260, "<|end|>", (), (), "none", 'no "counterpart"'),))
    found = lines(Plan(first, second), controls)
    assert [one["id"] for one in found] == list(range(SIZE))
    assert found[104] == {
        "id": 104,
        "kind": "text",
        "text": "h",
        "origin": "copied",
        "input": [[104, 1.0]],
        "output": [[104, 1.0]],
    }
    assert found[0xC3] == {
        "id": 195,
        "kind": "text",
        "bytes": "c3",
        "origin": "composed",
        "input": [[2, 0.75], [1, 0.25]],
        "output": [[3, 0.3333333]],
    }
    assert found[260] == {
        "id": 260,
        "kind": "control",
        "spelling": "<|end|>",
        "origin": "composed",
        "reason": 'no "counterpart"',
    }


def test_a_tied_plan_says_nothing_of_an_output_and_padding_has_no_line() -> None:
    found = lines(Plan(side({}, padding=2), None))
    assert len(found) == SIZE
    assert not any("output" in one for one in found)


def test_weights_are_rounded_as_python_rounds_whatever_their_size_and_sign() -> None:
    some = np.random.default_rng(5).normal(size=200).astype(np.float32)
    weights = [*some.tolist(), 0.0, -0.0, 1e-5, -3e-9, 2.5e-7, 3e20]
    rows = {id: [(7, weight)] for id, weight in enumerate(weights)}
    found = lines(Plan(side(rows), None))
    exact = [float(np.float32(weight)) for weight in weights]
    shown = [repr(one["input"][0][1]) for one in found[: len(weights)]]  # type: ignore[index]
    assert shown == [repr(round(weight, 7)) for weight in exact]


@pytest.mark.parametrize("ordered", [True, False])
def test_the_heaviest_sources_come_first_and_equal_ones_keep_their_order(ordered: bool) -> None:
    random = np.random.default_rng(11)
    lengths = random.integers(0, 2 * SHOWN, size=100)
    # Quarters, so that many weights of a row are equal.
    rows = [
        (random.integers(0, 1000, n), random.integers(-4, 5, n).astype(np.float32) / 4)
        for n in lengths
    ]
    if ordered:
        rows = [(ids, -np.sort(-np.abs(weights))) for ids, weights in rows]
    plan = SidePlan(np.zeros(len(rows), np.uint8), Combination.from_rows(rows))
    for most in (0, 3, SHOWN, 100):
        found = plan.heaviest(most)
        for row, (start, stop) in enumerate(pairwise(found.indptr.tolist())):
            pairs = list(zip(*(part.tolist() for part in rows[row]), strict=True))
            wanted = sorted(pairs, key=lambda pair: -abs(pair[1]))[:most]
            got = found.columns[start:stop].tolist(), found.weights[start:stop].tolist()
            assert list(zip(*got, strict=True)) == wanted
