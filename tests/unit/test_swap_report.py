"""The page of a swap: what it says, that it is true, and that nothing but its own script runs."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.report.page import data, page
from anyvocab.report.svg import ranged_bar, strip
from anyvocab.testing import tiny_tokenizer
from anyvocab.transplant.gate import GateFinding
from anyvocab.transplant.identity import Origin
from anyvocab.transplant.plan import Combination, Plan, SidePlan
from anyvocab.transplant.report import swap_page
from anyvocab.transplant.report.tokens import SHOWN, packed, script
from anyvocab.transplant.result import Check, SwapReport, Verification
from anyvocab.transplant.roles import map_controls
from anyvocab.transplant.row_statistics import RowStatistics

HOSTILE = "</script><script>alert(1)</script><!--"
IDS = 263  # 256 bytes, 4 merges, 3 control tokens
HELL = 258  # the token `hell`, here made of two source rows


def tokenizer(*, hostile: bool = False) -> av.Tokenizer:
    document: Any = tiny_tokenizer()
    last = dict(document["added_tokens"][-1], id=IDS - 1)
    document["added_tokens"].append(dict(last, content=HOSTILE if hostile else "<|extra|>"))
    return av.Tokenizer.load(json.dumps(document).encode())


def side(*, weights: tuple[float, float] = (0.5, 0.5)) -> SidePlan:
    """All rows copied but `hell`, which two rows make, and the last, which nothing does."""
    rows: list[tuple[list[int], list[float]]] = [([id], [1.0]) for id in range(IDS)]
    rows[HELL] = ([256, 257], list(weights))
    rows[IDS - 1] = ([], [])
    origin = np.zeros(IDS, dtype=np.uint8)
    origin[HELL], origin[IDS - 1] = Origin.COMPOSED, Origin.FALLBACK
    return SidePlan(origin, Combination.from_rows(rows))


def statistics() -> RowStatistics:
    norms = np.linspace(1.0, 1.2, IDS).astype(np.float32)
    cosines = np.linspace(-0.1, 0.1, IDS).astype(np.float32)
    made = norms.copy()
    made[IDS - 1] = 0.0
    nearest = np.full(IDS, -1, np.int32)
    nearest[HELL] = 257
    near = np.full(IDS, np.nan, np.float32)
    near[HELL] = 0.75
    return RowStatistics(norms, cosines, made, cosines, nearest, near)


def evaluation() -> dict[str, Any]:
    split = {
        "shared_nats_per_byte": 1.0,
        "new_nats_per_byte": None,
        "shared_tokens": 9,
        "new_tokens": 0,
    }
    score = {"interval": None, "bytes": 100, "tokens": 40, "bytes_per_token": 2.5, "split": split}
    models = [
        {
            **score,
            "model": name,
            "bits_per_byte": bits,
            "domains": [{**score, "domain": "code.py", "bits_per_byte": bits}],
            "exactness": {"largest_difference": 0.0, "prompts": 2, "tokens": 8},
        }
        for name, bits in (("old", 1.5), ("after", 1.625))
    ]
    lost = {"model": "after", "domain": "code.py", "bits_per_byte": 0.125, "interval": [0.1, 0.2]}
    return {"models": models, "differences": [lost], "policy": "as it is"}


def report(*, tied: bool = True, **changes: Any) -> SwapReport:
    source, target = tokenizer(), tokenizer(hostile=True)
    output = None if tied else side(weights=(0.75, 0.25))
    plan = Plan(side(), output)
    sides = ("input",) if tied else ("input", "output")
    made = SwapReport(
        "a <b>model</b>",
        "a tokenizer",
        Path("new"),
        IDS,
        IDS,
        IDS,
        tied,
        tied,
        {name: {"name": "mean", "options": {}, "notes": ["longer by a fifth"]} for name in sides},
        None,
        {name: plan.side(name).counts() for name in sides},  # type: ignore[index, arg-type]
        [GateFinding("code", "warn", "digits are cut otherwise", "train it")],
        map_controls(source, target),
        "take",
        ["a note"],
        plan,
        compression={"code.py": (2.5, 2.0)},
        files={"model.safetensors": "written"},
        bytes=1 << 20,
        verification=Verification((Check("rows", True, "263 rows"),), evaluation(), 1.0),
        seconds={"plan": 0.5},
        row_statistics=dict.fromkeys(sides, statistics()),
        ends=(260,),
        source=source,
        target=target,
    )
    return dataclasses.replace(made, **changes)


class _Parts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.tags: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag == "meta" and dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attrs)["content"] or ""

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and self.scripts:
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")


def parts(html: str) -> _Parts:
    found = _Parts()
    found.feed(html)
    return found


def decoded(text: str, dtype: str) -> Any:
    return np.frombuffer(base64.b64decode(text), dtype)


def test_the_policy_names_the_one_script_by_its_hash() -> None:
    found = parts(swap_page(report()))
    running = [body for attributes, body in found.scripts if "type" not in attributes]
    assert running == [script()]
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in found.policy
    assert "default-src 'none'" in found.policy


def test_a_token_that_ends_a_script_ends_no_script() -> None:
    found = parts(swap_page(report()))
    assert len(found.scripts) == 2  # the data and what reads it
    assert json.loads(found.scripts[0][1])["text"][IDS - 1] == HOSTILE
    assert "<b>model" not in swap_page(report())


def test_a_page_without_a_script_allows_none() -> None:
    assert "script-src" not in page("t", ["<p>x</p>"], made_by="m")


@pytest.mark.parametrize("contents", ["a</script>", "<!--"])
def test_a_script_that_html_would_read_is_refused(contents: str) -> None:
    with pytest.raises(errors.InvalidValue, match="script"):
        page("t", [], made_by="m", script=contents)


def test_data_holds_no_markup_and_comes_back() -> None:
    value = {"a": HOSTILE, "b": ["\u2028", "é"]}
    (one,) = parts(data("x", value)).scripts
    assert json.loads(one[1]) == value
    assert one[1].count("<") == 0


def test_the_packed_table_is_the_plan() -> None:
    found = packed(report())
    assert found["text"][HELL] == "hell"
    assert found["origins"][int(found["sides"][0]["origin"][HELL])][0] == "composed"
    flags = decoded(found["sides"][0]["flags"], "u1")
    assert (flags & 15).tolist() == report().plan.input.combination.lengths().tolist()
    ids = decoded(found["sides"][0]["sources"], "u1").reshape(-1, 3).astype(int) @ [1, 256, 65536]
    assert ids.tolist() == report().plan.input.combination.columns.tolist()
    assert flags[HELL] & 128  # both weigh the same, and no weight is written
    assert len(decoded(found["sides"][0]["weights"], "<i2")) == 0


def test_the_second_side_holds_only_what_differs_from_the_first() -> None:
    second = packed(report(tied=False))["sides"][1]
    flags = decoded(second["flags"], "u1")
    assert np.flatnonzero(flags & 15 != 15).tolist() == [HELL]
    assert decoded(second["weights"], "<i2").tolist() == [750, 250]


def test_of_many_sources_the_heaviest_are_shown_and_more_is_said() -> None:
    rows: list[Any] = [([id], [1.0]) for id in range(IDS)]
    weights = [0.01 * (i + 1) for i in range(SHOWN + 4)]
    rows[HELL] = (list(range(SHOWN + 4)), weights)
    plan = Plan(dataclasses.replace(side(), combination=Combination.from_rows(rows)), None)
    one = packed(report(plan=plan))["sides"][0]
    flags = decoded(one["flags"], "u1")
    assert flags[HELL] & 15 == SHOWN
    assert flags[HELL] & 16
    shown = [round(weight * 1000) for weight in sorted(weights, reverse=True)[:SHOWN]]
    assert decoded(one["weights"], "<i2").tolist() == shown


def test_norms_and_nearest_rows_come_back_within_half_a_step() -> None:
    one = packed(report())["sides"][0]
    norms = decoded(one["norm"], "<u2") * one["unit"]
    assert np.abs(norms - statistics().norms).max() <= 0.51 * one["unit"]  # float32 beside rounding
    assert decoded(one["cosine"], "<i2").tolist() == [round(0.75 * 32767)]


def test_without_a_script_outliers_and_new_tokens_are_there() -> None:
    html = swap_page(report())
    plain = html[html.index('id="token-plain"') : html.index('id="token-data"')]
    assert plain.index(f">{IDS - 1}<") < plain.index(f">{HELL}<")  # the row of zeros first
    assert 'title="source id 256"' in plain


def test_a_row_of_zeros_is_suspicious_and_a_copy_never() -> None:
    rows = statistics()
    assert [one.id for one in rows.suspects(side())] == [IDS - 1]
    rows.norms[0] = 1e6  # a copy, whatever it looks like
    assert [one.id for one in rows.suspects(side())] == [IDS - 1]


def test_rows_that_are_all_made_alike_are_no_suspects() -> None:
    count = 100
    plan = SidePlan(
        np.full(count, Origin.COMPOSED, np.uint8),
        Combination.from_rows([([0, 1], [0.5, 0.5])] * count),
    )
    usual = np.linspace(1.0, 1.2, count).astype(np.float32)
    nothing = np.full(count, -1, np.int32)
    rows = RowStatistics(usual, usual, usual / 4, usual, nothing, usual)
    assert rows.unlike_source(plan) == (count, count)
    assert rows.suspects(plan) == []


def test_the_page_says_whether_the_model_holds() -> None:
    assert "Verified:" in swap_page(report())
    failed = Verification((Check("padding", False, "likely"),), None, 1.0)
    html = swap_page(report(verification=failed))
    assert "Verification failed:" in html
    assert "padding" in html
    assert "Not verified" in swap_page(report(verification=None))
    assert "Dry run" in swap_page(report(out=None, verification=None))


@pytest.mark.parametrize(
    "said",
    ["1.500", "1.625", "+0.125", "the same bits as before", "digits are cut otherwise", "a note",
     "longer by a fifth", "code.py", "model.safetensors", "Suspicious rows: 1"],
)  # fmt: skip
def test_the_page_says_what_the_report_does(said: str) -> None:
    assert said in swap_page(report())


def test_control_tokens_are_shown_with_the_source_tokens_they_take() -> None:
    html = swap_page(report())
    controls = html[html.index("<h2>Control tokens") :]
    assert re.search(r'&lt;\|end\|&gt;.*title="source id 260"', controls)


def test_a_report_without_tokenizers_has_a_page_without_a_table() -> None:
    html = swap_page(report(source=None, target=None))
    assert "<script" not in html
    assert "script-src" not in html


def test_the_json_document_sums_up_lengths() -> None:
    norms = report().to_dict()["row_norms"]["input"]
    assert norms["suspects"] == 1
    assert norms["median_norms"]["composed"] == pytest.approx(statistics().norms[HELL], rel=1e-5)


def test_drawings_hold_their_values() -> None:
    assert 'width="50.00"' in ranged_bar(1.0, (0.5, 1.5), 2.0, "a")
    assert strip([0.0, 1.0], mark=0.5).count("<rect") == 3  # one column, the ground, the mark


@pytest.mark.models
def test_lengths_directions_and_nearest_rows_are_those_of_the_matrices() -> None:
    import torch

    from anyvocab.transplant.context import TensorMatrix
    from anyvocab.transplant.row_statistics import row_statistics

    source = torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])
    plan = SidePlan(
        np.array([Origin.COPIED, Origin.COMPOSED], np.uint8),
        Combination.from_rows([([1], [1.0]), ([0, 2], [0.5, 0.5])]),
    )
    new = torch.tensor([[0.0, 2.0], [2.0, 2.0]])
    found = row_statistics(TensorMatrix(source), TensorMatrix(new), plan)
    assert found.source_norms.tolist() == [5.0, 2.0, 1.0]
    assert found.norms[1] == pytest.approx(8**0.5, rel=1e-6)
    # The mean row is (4/3, 2): its cosine with (0, 2) is 2 / |(4/3, 2)|.
    assert found.cosines[0] == pytest.approx(2 / (16 / 9 + 4) ** 0.5, rel=1e-6)
    assert found.nearest.tolist() == [-1, 0]
    assert found.nearest_cosines[1] == pytest.approx(14 / (5 * 8**0.5), rel=1e-6)
    cheap = row_statistics(TensorMatrix(source), TensorMatrix(new), plan, products=1)
    assert cheap.nearest[1] == -1
