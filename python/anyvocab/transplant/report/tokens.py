"""The table of all tokens: its data, packed once, and what is shown of it without a script."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab.report.page import data, section, table, text
from anyvocab.report.svg import dot, stacked
from anyvocab.report.visible import one_line
from anyvocab.transplant.identity import Origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from anyvocab.transplant.plan import Side, SidePlan
    from anyvocab.transplant.result import SwapReport
    from anyvocab.transplant.row_statistics import RowStatistics
    from anyvocab.vocabulary import Vocabulary

__all__ = ["COLOURS", "MEANINGS", "origin_bars", "script", "shown_token", "token_table"]

SHOWN = 8  # source rows of a combination; the plan's file has them all
LONGEST = 48  # characters of a token
PLAIN_SUSPECTS, PLAIN_NEW = 40, 60  # rows without a script
SOURCES = 1_000_000  # on the page in all: 4 to 7 bytes each
_AS_FIRST = 15  # instead of a number of sources: those of the first side
_ALIKE = 1e-4  # deviation of weights that are called the same
_MORE, _NEAR, _DENSE, _EQUAL = 16, 32, 64, 128  # flags of a row, above the number of its sources
_STEP = 1000  # weights and scales are whole numbers of thousandths

COLOURS = {
    Origin.COPIED: "c",
    Origin.ROLE: "a",
    Origin.MAPPED: "d",
    Origin.COMPOSED: "b",
    Origin.PREDICTED: "e",
    Origin.FALLBACK: "g",
    Origin.UNUSED: "h",
    Origin.QUIET: "f",
}
MEANINGS = {
    Origin.COPIED: "the same bytes as a source token: its row, bit for bit",
    Origin.ROLE: "a control token: the row of the source's token of that role",
    Origin.MAPPED: "as the map by hand says",
    Origin.COMPOSED: "new: a combination of source rows",
    Origin.PREDICTED: "by a learned map or a network",
    Origin.FALLBACK: "nothing fits: the mean row",
    Origin.UNUSED: "a hole or padding: no text makes it",
    Origin.QUIET: "a second spelling of bytes that another id has: hardly ever sampled",
}


def script() -> str:
    """Return the page's script."""
    return Path(__file__).with_name("tokens.js").read_text("utf-8")


def shown_token(vocabulary: Vocabulary, id: int) -> str:
    """Return an id's token as visible text on one line; its spelling where it has no bytes."""
    token = vocabulary.token_bytes(id)
    return one_line(vocabulary.spelling(id) or b"" if token is None else token, limit=LONGEST)


def _all_shown(vocabulary: Vocabulary) -> list[str]:
    """Return `shown_token` of every id. Most tokens are plain, and those need no looking at."""
    bytes_, offsets = vocabulary.table()
    ends = offsets.tolist()
    silent = set(vocabulary.silent().tolist())
    found = []
    for id in range(len(vocabulary)):
        token = bytes_[ends[id] : ends[id + 1]]
        if token and len(token) <= LONGEST and token.isascii() and id not in silent:
            plain = token.decode()
            found.append(plain if plain.isprintable() else one_line(token, limit=LONGEST))
        else:
            found.append(shown_token(vocabulary, id))
    return found


def origin_bars(report: SwapReport) -> str:
    """Return how many rows have each origin, side by side."""
    parts = []
    for side, counts in report.counts.items():
        named = [(Origin[name.upper()], count) for name, count in counts.items()]
        title = "Both sides (tied)" if report.tied else f"{side.capitalize()} side"
        strategy = report.strategies[side]["name"]
        bar = stacked(
            [(origin.name.lower(), count) for origin, count in named],
            [COLOURS[origin] for origin, _ in named],
        )
        parts.append(f"<h3>{text(title)}: {text(strategy)}</h3>{bar}")
    there = {Origin[name.upper()] for counts in report.counts.values() for name in counts}
    meanings = "".join(
        f"<li>{dot(COLOURS[origin])}<b>{origin.name.lower()}</b>: {text(MEANINGS[origin])}</li>"
        for origin in Origin
        if origin in there
    )
    notes = "".join(
        f"<p><small>{text(side)}: {text(note)}</small></p>"
        for side, what in report.strategies.items()
        for note in what.get("notes", ())
    )
    return f'{"".join(parts)}{notes}<ul class="plain">{meanings}</ul>'


def token_table(report: SwapReport) -> str:
    """Return the section of all tokens; empty where the report has no tokenizers."""
    if report.source is None or report.target is None:
        return ""
    size = len(report.target.vocabulary)
    return section(
        "What happened to every token",
        origin_bars(report),
        _tool(report, size),
        f'<div id="token-plain">{_plain(report)}</div>',
        data("token-data", packed(report)),
    )


def _tool(report: SwapReport, size: int) -> str:
    has_rows = bool(report.row_statistics)
    said = (
        "<p><small>Unlike: how many robust standard deviations a made row is from the source's "
        "rows, by length or direction. "
        if has_rows
        else "<p><small>"
    )
    return (
        f'<div id="token-tool" hidden><h3>All {size:,} tokens</h3><div class="tools">'
        '<input id="token-search" type="search" placeholder="text or id" '
        'aria-label="search tokens" autocomplete="off" spellcheck="false">'
        '<select id="token-side" aria-label="side"></select>'
        '<select id="token-origin" aria-label="origin"></select>'
        '<select id="token-kind" aria-label="kind"><option value="-1">all kinds</option></select>'
        '</div><div class="wrap"><table><thead id="token-head"></thead>'
        '<tbody id="token-rows"></tbody></table></div><div class="tools">'
        '<button id="token-back" type="button">back</button>'
        '<button id="token-next" type="button">next</button>'
        '<span id="token-count" class="soft" role="status"></span></div>'
        f"{said}Numbers before source tokens are weights; without them all weigh the same. At most "
        f"{_most_sources(report)} sources are shown.</small></p></div>"
    )


def packed(report: SwapReport) -> dict[str, Any]:
    """Return the data of the table: texts as lists, everything else as base64 of small numbers.

    About 30 bytes a token where rows combine three source rows, so that 128,000 tokens take 4 MB.

    Args:
        report: With both tokenizers.
    """
    if report.source is None or report.target is None:
        return {}
    vocabulary = report.target.vocabulary
    size = len(vocabulary)
    names = list(dict.fromkeys(vocabulary.kind(id) for id in _firsts(vocabulary.kinds())))
    code_of = {vocabulary.kind_code(name): at for at, name in enumerate(names)}
    kinds = np.array([code_of.get(code, 0) for code in range(256)], np.uint8)[vocabulary.kinds()]
    most = _most_sources(report)
    plans = {name: report.plan.side(_side_of(name)) for name in report.counts}
    shown = [_shown_sources(plan, size, most) for plan in plans.values()]
    sides = [
        _side(name, plan, report.row_statistics.get(name), sources, shown[0] if at else None)
        for at, ((name, plan), sources) in enumerate(zip(plans.items(), shown, strict=True))
    ]
    return {
        "text": _all_shown(vocabulary),
        "source": _all_shown(report.source.vocabulary),
        "kinds": names,
        "kind": _digits(kinds),
        "origins": [[origin.name.lower(), COLOURS[origin]] for origin in Origin],
        "reasons": {row.id: row.reason for row in report.controls},
        "sides": sides,
    }


def _side_of(name: str) -> Side:
    return "output" if name == "output" else "input"


def _firsts(codes: NDArray[np.uint8]) -> list[int]:
    return [int(at) for at in np.sort(np.unique(codes, return_index=True)[1])]


def _most_sources(report: SwapReport) -> int:
    """Return how many sources of a row are shown, so that a page stays small enough to open."""
    lengths = [report.plan.side(_side_of(side)).combination.lengths() for side in report.counts]
    for most in range(SHOWN, 2, -1):
        if sum(int(np.minimum(one, most).sum()) for one in lengths) <= SOURCES:
            return most
    return 2


@dataclass(frozen=True, eq=False)
class _Sources:
    """What is shown of the combinations of a side.

    Attributes:
        ids: int32[V, most]: source ids; -1 where a row has fewer.
        weights: float32[V, most].
        equal: bool[V]: whether all of a row weigh the same, and together 1.
        more: bool[V]: whether a row has more.
    """

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    equal: NDArray[np.bool_]
    more: NDArray[np.bool_]

    def same(self, other: _Sources) -> NDArray[np.bool_]:
        """Return which rows show the same, bool[V]."""
        alike: NDArray[np.bool_] = (self.ids == other.ids).all(axis=1)
        alike &= (self.weights == other.weights).all(axis=1)
        alike &= (self.equal == other.equal) & (self.more == other.more)
        return alike


def _shown_sources(plan: SidePlan, size: int, most: int) -> _Sources:
    """Return the heaviest sources of every row.

    Rows of up to `most` sources keep their order, which is the order of a token's pieces.
    """
    parts = plan.combination.select(slice(0, size))
    lengths = parts.lengths()
    row = np.repeat(np.arange(size), lengths)
    rank = np.arange(len(row)) - np.repeat(parts.indptr[:-1], lengths)
    columns, weights = parts.columns, parts.weights
    long = lengths > most
    if long.any():
        order = np.lexsort((np.where(long[row], -np.abs(weights), rank), row))
        columns, weights = columns[order], weights[order]
    share = 1.0 / np.maximum(lengths, 1)
    off = np.bincount(row, np.abs(weights - share[row]), minlength=size)
    kept = rank < most
    ids = np.full((size, most), -1, dtype=np.int32)
    heavy = np.zeros((size, most), dtype=np.float32)
    ids[row[kept], rank[kept]], heavy[row[kept], rank[kept]] = columns[kept], weights[kept]
    return _Sources(ids, heavy, (off < _ALIKE) & ~long, long)


def _side(
    name: str,
    plan: SidePlan,
    rows: RowStatistics | None,
    sources: _Sources,
    first: _Sources | None,
) -> dict[str, Any]:
    size = len(sources.ids)
    told = np.ones(size, dtype=np.bool_) if first is None else ~sources.same(first)
    number = np.where(told, (sources.ids >= 0).sum(axis=1), _AS_FIRST).astype(np.uint8)
    flags = number | np.where(sources.equal, _EQUAL, 0).astype(np.uint8)
    flags |= np.where(sources.more, _MORE, 0).astype(np.uint8)
    flags[plan.dense_ids[plan.dense_ids < size]] |= _DENSE
    there = (sources.ids >= 0) & told[:, None]
    found: dict[str, Any] = {
        "name": name,
        "origin": _digits(plan.origin[:size]),
        "sources": _triples(sources.ids[there]),
        "weights": _signed(np.round(sources.weights[there & ~sources.equal[:, None]] * _STEP)),
    }
    if plan.scale is not None:
        scale = np.clip(np.round(plan.scale[:size] * _STEP), 0, 65535)
        found["scale"] = _base64(scale.astype("<u2"))
    if rows is not None:
        top = float(rows.norms[:size].max(initial=0.0)) or 1.0
        by_norm, by_cosine = rows.scores(plan)
        score = np.maximum(np.abs(by_norm), np.abs(by_cosine))[:size]
        found["unit"] = top / 65535
        found["norm"] = _base64(np.round(rows.norms[:size] / top * 65535).astype("<u2"))
        found["score"] = _base64(np.round(score * 2).clip(0, 255).astype(np.uint8))
        near = rows.nearest[:size] >= 0
        if near.any():
            flags[near] |= _NEAR
            found["nearest"] = _triples(rows.nearest[:size][near])
            found["cosine"] = _signed(np.round(rows.nearest_cosines[:size][near] * 32767))
    found["flags"] = _base64(flags)
    return found


def _digits(codes: NDArray[np.uint8]) -> str:
    """Return codes of 0..9 as a text of digits."""
    return bytes(codes + ord("0")).decode("ascii")


def _base64(numbers: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode("ascii")


def _triples(ids: NDArray[np.int32]) -> str:
    """Return ids as base64 of three bytes each, the smallest first."""
    as_bytes = np.ascontiguousarray(ids.astype("<u4")).view(np.uint8).reshape(-1, 4)
    return _base64(as_bytes[:, :3])


def _signed(numbers: NDArray[Any]) -> str:
    return _base64(np.clip(numbers, -32767, 32767).astype("<i2"))


def _plain(report: SwapReport) -> str:
    """Return what stands on the page where no script runs: outliers and the first new tokens."""
    side = "input"
    plan = report.plan.input
    rows = report.row_statistics.get(side)
    suspects = [] if rows is None else [one.id for one in rows.suspects(plan)[:PLAIN_SUSPECTS]]
    made = np.isin(plan.origin, [Origin.COMPOSED, Origin.PREDICTED, Origin.FALLBACK])
    new = np.setdiff1d(np.flatnonzero(made), suspects)[:PLAIN_NEW].tolist()
    ids = [id for id in (*suspects, *new) if id < report.target_ids]
    if not ids:
        return ""
    columns = ["id", "token", "kind", "origin", "made of"]
    return (
        f"<h3>{len(ids)} of {report.target_ids:,} tokens</h3><p><small>The whole table needs the "
        "page's script. These are outlying rows, then the first new tokens.</small></p>"
        + table(columns, [_row(report, plan, id) for id in ids], numbers=(0,))
    )


def _row(report: SwapReport, plan: SidePlan, id: int) -> list[str]:
    if report.source is None or report.target is None:
        return []
    vocabulary = report.target.vocabulary
    origin = Origin(int(plan.origin[id]))
    return [
        str(id),
        f"<code>{text(shown_token(vocabulary, id))}</code>",
        text(vocabulary.kind(id)),
        f'{dot(COLOURS[origin])}<span class="wide">{origin.name.lower()}</span>',
        spelled_sources(report, plan.explain(id).sources),
    ]


def spelled_sources(report: SwapReport, sources: Sequence[tuple[int, float]]) -> str:
    """Return source tokens with their weights, as HTML; at most `SHOWN`."""
    if report.source is None:
        return ""
    vocabulary = report.source.vocabulary
    equal = len({round(weight, 4) for _, weight in sources}) <= 1
    parts = []
    for source, weight in sources[:SHOWN]:
        shown = f"<small>{weight:.2f}</small>&nbsp;" if not equal else ""
        name = shown_token(vocabulary, source) if source < len(vocabulary) else f"#{source}"
        parts.append(f'{shown}<code title="source id {source}">{text(name)}</code>')
    more = " <small>and more</small>" if len(sources) > SHOWN else ""
    return f'<div class="made">{" ".join(parts)}{more}</div>'
