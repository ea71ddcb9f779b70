"""Lengths of rows by origin, and made rows that are unlike the source's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anyvocab.report.page import section, table, text
from anyvocab.report.svg import strip
from anyvocab.transplant.identity import Origin
from anyvocab.transplant.report.tokens import COLOURS, shown_token, spelled_sources
from anyvocab.transplant.row_statistics import OUTLYING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.transplant.plan import SidePlan
    from anyvocab.transplant.result import SwapReport
    from anyvocab.transplant.row_statistics import RowStatistics

__all__ = ["row_section"]

BINS = 48
SHOWN = 40
_RANGE = (0.2, 99.8)  # percentiles that the axis reaches: single outliers would hide the rest

CAN_SHOW = (
    f"Suspicious rows are {OUTLYING:g} or more robust standard deviations away both from the "
    "source's rows and from the rows made as they were, by the logarithm of their length or by "
    "their cosine with the mean row. That finds rows of zeros, sums where means belong, rows that "
    "collapsed onto the mean. It cannot show that a row is right: a row of ordinary length may "
    "mean nothing, and rare tokens of the source are odd themselves."
)


def row_section(report: SwapReport) -> str:
    """Return the distributions of lengths and the outliers of every side that was looked at."""
    parts = []
    for side, rows in report.row_statistics.items():
        plan = report.plan.side("output" if side == "output" else "input")
        title = "" if report.tied else f"<h3>{side.capitalize()} side</h3>"
        parts.append(f"{title}{_lengths(plan, rows)}{_suspects(report, plan, rows)}")
    if not parts:
        return ""
    return section(
        "Rows",
        '<p class="soft">Euclidean lengths of rows. Means of pieces are shorter than what training '
        "made; on the output side a longer row is sampled more often, whatever was said before."
        "</p>",
        *parts,
        f"<p><small>{text(CAN_SHOW)}</small></p>",
    )


def _lengths(plan: SidePlan, rows: RowStatistics) -> str:
    groups: list[tuple[str, str, NDArray[np.float32]]] = [("source", "a", rows.source_norms)]
    for origin in Origin:
        mine = rows.norms[plan.origin == origin]
        if len(mine):
            groups.append((origin.name.lower(), COLOURS[origin], mine))
    every = np.concatenate([values for _, _, values in groups])
    low, high = (float(one) for one in np.percentile(every, _RANGE))
    if high <= low:
        low, high = low - 0.5 * abs(low), high + 0.5 * abs(high) + 1e-6
    edges = np.linspace(low, high, BINS + 1)
    body = []
    for name, css, values in groups:
        middle = float(np.median(values))
        counts, _ = np.histogram(np.clip(values, low, high), edges)
        drawing = strip((counts / len(values)).tolist(), css, mark=(middle - low) / (high - low))
        ends = f"{np.percentile(values, 5):.3g} to {np.percentile(values, 95):.3g}"
        body.append([name, f"{len(values):,}", f"{middle:.3g}", ends, drawing])
    axis = f'<div class="ends soft"><small>{low:.3g}</small><small>{high:.3g}</small></div>'
    body.append(["", "", "", "", axis])
    columns = ["rows", "number", "median", "5% to 95%", "length"]
    grid = table(columns, body, numbers=(1, 2, 3))
    return grid.replace("<td><svg", '<td class="bars"><svg')


def _suspects(report: SwapReport, plan: SidePlan, rows: RowStatistics) -> str:
    found = rows.suspects(plan)
    unlike, made = rows.unlike_source(plan)
    if not made:
        return "<p>No row was made: all are copies.</p>"
    group = (
        f"<p>{unlike:,} of {made:,} made rows ({unlike / made:.0%}) are unlike the source's in "
        "length or direction"
        + ("; that is how they are made, not a fault of single rows." if unlike > made / 2 else ".")
        + "</p>"
    )
    if not found:
        return f"{group}<p>None of them is unlike the others too.</p>"
    if report.target is None:
        return f"{group}<p>{len(found):,} rows are suspicious.</p>"
    vocabulary = report.target.vocabulary
    body = []
    for one in found[:SHOWN]:
        name = shown_token(vocabulary, one.id) if one.id < len(vocabulary) else "padding"
        body.append(
            [
                str(one.id),
                f"<code>{text(name)}</code>",
                f"{rows.norms[one.id]:.3g}",
                f"{one.norm_score:+.1f}",
                f"{one.cosine_score:+.1f}",
                spelled_sources(report, plan.explain(one.id).sources),
            ]
        )
    columns = ["id", "token", "length", "by length", "by direction", "made of"]
    shown = "" if len(found) <= SHOWN else f", the first {SHOWN} shown"
    return f"{group}<h3>Suspicious rows: {len(found):,}{shown}</h3>" + table(
        columns, body, numbers=(0, 2, 3, 4)
    )
