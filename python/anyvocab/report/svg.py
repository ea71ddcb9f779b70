"""Small drawings: bars, a stacked bar with its legend, a histogram. Colours are classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from anyvocab.report.page import text

__all__ = [
    "Mark",
    "bar",
    "columns",
    "curve",
    "dot",
    "dots",
    "legend",
    "parted",
    "ranged_bar",
    "stacked",
    "strip",
]

CLASSES = "abcdef"
LABEL = 26  # characters of a row's label


class Mark(NamedTuple):
    """A value in a row of :func:`dots`.

    Attributes:
        name: Whose it is.
        value: Where it stands.
        interval: The ends of a line through it; None for no line.
        css_class: Its colour.
        shape: `dot` or `diamond`, for when there are not colours enough.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    css_class: str
    shape: str = "dot"


def bar(share: float, css_class: str = "a") -> str:
    """Return a horizontal bar for a share of 0..1 of the room it stands in."""
    width = 100 * max(0.0, min(1.0, share))
    return (
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{css_class}" width="{width:.2f}" height="10"/></svg>'
    )


def ranged_bar(value: float, interval: tuple[float, float] | None, top: float, css: str) -> str:
    """Return a bar from 0 in a room up to `top`, with a thin line over its interval."""
    drawing = bar(value / top, css)
    if interval is None:
        return drawing
    low, high = (100 * max(0.0, min(1.0, one / top)) for one in interval)
    marks = [(low, max(0.3, high - low), 4, 2), (low, 0.5, 0, 10), (min(99.5, high), 0.5, 0, 10)]
    lines = "".join(
        f'<rect x="{x:.2f}" width="{width:.2f}" y="{y}" height="{tall}" fill="currentColor"/>'
        for x, width, y, tall in marks
    )
    return drawing.replace("</svg>", f"{lines}</svg>")


def strip(shares: Sequence[float], css_class: str = "a", *, mark: float | None = None) -> str:
    """Return a small histogram without axes, as high as its largest share.

    Args:
        shares: One number for each column, from left to right.
        css_class: Its colour.
        mark: Where a thin line stands, as a share of the width.
    """
    top = max(shares, default=0.0) or 1.0
    step = 100 / max(1, len(shares))
    parts = [
        f'<rect class="{css_class}" x="{i * step:.2f}" y="{29 - 28 * share / top:.2f}" '
        f'width="{step * 0.9:.2f}" height="{max(0.6, 28 * share / top):.2f}"/>'
        for i, share in enumerate(shares)
        if share
    ]
    parts.append('<rect x="0" y="29" width="100" height=".5" class="h"/>')
    if mark is not None:
        at = 100 * max(0.0, min(0.995, mark))
        parts.append(f'<rect x="{at:.2f}" y="0" width=".4" height="29" fill="currentColor"/>')
    return (
        '<svg class="strip" viewBox="0 0 100 30" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )


def dot(css_class: str) -> str:
    """Return a small square of a colour, to stand before a name."""
    return (
        '<svg class="dot" viewBox="0 0 10 10" aria-hidden="true">'
        f'<rect class="{css_class}" width="10" height="10" rx="2"/></svg>'
    )


def legend(names: Sequence[str], classes: Sequence[str] = CLASSES) -> str:
    """Return names with their colours: the classes in order, again from the first when short."""
    items = "".join(
        f'<li><svg viewBox="0 0 10 10" aria-hidden="true">'
        f'<rect class="{classes[i % len(classes)]}" width="10" height="10" rx="2"/></svg>'
        f"{text(name)}</li>"
        for i, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>'


def stacked(parts: Sequence[tuple[str, int]], classes: Sequence[str] = CLASSES) -> str:
    """Return one bar of several parts, and a legend with their numbers and shares.

    Args:
        parts: Names and numbers.
        classes: Their colours; again from the first when there are too few.
    """
    total = sum(count for _, count in parts) or 1
    names = [f"{name}: {count:,} ({count / total:.1%})" for name, count in parts]
    return parted(parts, classes) + legend(names, classes)


def parted(parts: Sequence[tuple[str, int]], classes: Sequence[str] = CLASSES) -> str:
    """Return one bar of several parts without a legend; arguments as for :func:`stacked`."""
    total = sum(count for _, count in parts) or 1
    at = 0.0
    rects = []
    for i, (name, count) in enumerate(parts):
        width = 100 * count / total
        rects.append(
            f'<rect class="{classes[i % len(classes)]}" x="{at:.3f}" width="{width:.3f}" '
            f'height="10"><title>{text(name)}: {count}</title></rect>'
        )
        at += width
    return (
        '<svg class="bar tall" viewBox="0 0 100 10" preserveAspectRatio="none" role="img">'
        f"{''.join(rects)}</svg>"
    )


def dots(
    rows: Sequence[tuple[str, Sequence[Mark]]],
    *,
    low: float,
    high: float,
    unit: str,
    form: str = "",
    line: float | None = None,
) -> str:
    """Return rows of dots over one axis, thin lines for their intervals.

    Args:
        rows: Labels and values.
        low: Where the axis begins.
        high: Where it ends.
        unit: What it counts, under it.
        form: How its numbers are written, besides their digits.
        line: Where a line stands through all rows; None for nowhere.
    """
    width, left, tall = 720, 190, 24
    height = tall * len(rows) + 42
    room = width - left - 16
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return left + room * max(0.0, min(1.0, (value - low) / span))

    bottom = tall * len(rows) + 6
    parts = [
        f'<line x1="{place(value):.1f}" x2="{place(value):.1f}" y1="4" y2="{bottom}"/>'
        f'<text x="{place(value):.1f}" y="{bottom + 15}" text-anchor="middle">'
        f"{value:{form}g}</text>"
        for value in _ticks(low, high)
    ]
    if line is not None:
        parts.append(
            f'<rect x="{place(line) - 0.75:.1f}" y="4" width="1.5" height="{bottom - 4}" '
            'fill="currentColor"/>'
        )
    for number, (label, marks) in enumerate(rows):
        y = tall * number + tall / 2 + 4
        shown = label if len(label) <= LABEL else label[: LABEL - 1] + "…"
        parts.append(
            f'<text x="{left - 12}" y="{y + 4:.1f}" text-anchor="end">{text(shown)}</text>'
        )
        # Intervals first: dots stand on them.
        for mark in marks:
            if mark.interval is not None:
                start, end = map(place, mark.interval)
                parts.append(
                    f'<rect class="{mark.css_class}" x="{start:.1f}" y="{y - 1:.1f}" '
                    f'width="{max(1.0, end - start):.1f}" height="2"/>'
                )
        for mark in marks:
            title = f"{mark.name}, {label}: {mark.value:.3g}"
            x = place(mark.value)
            shape = f'<circle class="{mark.css_class}" cx="{x:.1f}" cy="{y:.1f}" r="5">'
            if mark.shape == "diamond":
                shape = (
                    f'<rect class="{mark.css_class}" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" '
                    f'height="8" transform="rotate(45 {x:.1f} {y:.1f})">'
                )
            closing = "</rect>" if mark.shape == "diamond" else "</circle>"
            parts.append(f"{shape}<title>{text(title)}</title>{closing}")
    parts.append(
        f'<text x="{left + room / 2:.1f}" y="{height - 4}" text-anchor="middle">{text(unit)}</text>'
    )
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{text(unit)}</title>{''.join(parts)}</svg>"
    )


def columns(series: Sequence[tuple[str, Sequence[tuple[str, float]]]], *, unit: str) -> str:
    """Return a column chart of one or two series over the same labels, as shares of 0..1.

    Args:
        series: Name and (label, share) pairs; labels are those of the longest series.
        unit: What the labels count, under the axis.
    """
    labels = [label for label, _ in max((points for _, points in series), key=len, default=())]
    top = max((share for _, points in series for _, share in points), default=0.0) or 1.0
    width, height, left, bottom = 560, 210, 38, 34
    room, high = width - left - 4, height - bottom - 12
    step = room / max(1, len(labels))
    thick = step * 0.78 / max(1, len(series))
    parts = []
    for i in range(3):
        y = 12 + high * i / 2
        parts.append(
            f'<line x1="{left}" x2="{width - 4}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{top * (2 - i) / 2:.0%}</text>'
        )
    for s, (name, points) in enumerate(series):
        for i, (label, share) in enumerate(points):
            tall = high * share / top
            x = left + step * (i + 0.11) + thick * s
            parts.append(
                f'<rect class="{CLASSES[s]}" x="{x:.1f}" y="{12 + high - tall:.1f}" '
                f'width="{thick:.1f}" height="{tall:.1f}">'
                f"<title>{text(name)}, {text(label)} {text(unit)}: {share:.2%}</title></rect>"
            )
    for i, label in enumerate(labels):
        x = left + step * (i + 0.5)
        parts.append(
            f'<text x="{x:.1f}" y="{height - 18}" text-anchor="middle">{text(label)}</text>'
        )
    parts.append(
        f'<text x="{left + room / 2:.1f}" y="{height - 2}" text-anchor="middle">{text(unit)}</text>'
    )
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{text(', '.join(name for name, _ in series))}</title>{''.join(parts)}</svg>"
    )


def curve(
    points: Sequence[tuple[float, float]],
    *,
    unit: str,
    line: float | None = None,
    mark: tuple[float, float] | None = None,
) -> str:
    """Return a line through points whose heights are shares of 0..1, over an axis from 0.

    Args:
        points: From left to right.
        unit: What the axis counts, under it.
        line: How high a dashed line stands; None for none.
        mark: Where a dot stands; None for nowhere.
    """
    width, height, left, bottom = 720, 270, 46, 50
    room, high = width - left - 20, height - bottom - 12
    right = max(points[-1][0], 1.0)
    top = max(max(share for _, share in points), line or 0.0, mark[1] if mark else 0.0) or 1.0

    def across(value: float) -> float:
        return left + room * value / right

    def down(share: float) -> float:
        return 12 + high * (1 - share / top)

    def level(share: float, css: str = "") -> str:
        y = f"{down(share):.1f}"
        return f'<line x1="{left}" x2="{width - 20}" y1="{y}" y2="{y}"{css}/>'

    parts = [
        f'{level(share)}<text x="{left - 6}" y="{down(share) + 4:.1f}" text-anchor="end">'
        f"{100 * share:g} %</text>"
        for share in _ticks(0.0, top)
    ]
    parts += [
        f'<text x="{across(value):.1f}" y="{high + 28}" text-anchor="middle">{value:,.10g}</text>'
        for value in _ticks(0.0, right)
    ]
    if line is not None:
        parts.append(level(line, ' class="edge"'))
    path = " ".join(f"{across(value):.1f},{down(share):.1f}" for value, share in points)
    parts.append(f'<polyline class="curve" points="{path}"/>')
    if mark is not None:
        x, y = across(mark[0]), down(mark[1])
        parts.append(f'<circle class="b" cx="{x:.1f}" cy="{y:.1f}" r="6"/>')
    parts.append(
        f'<text x="{across(right / 2):.1f}" y="{height - 10}" text-anchor="middle">'
        f"{text(unit)}</text>"
    )
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{text(unit)}</title>{''.join(parts)}</svg>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two others, four to eight of them."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span))
    step = next(one * power for one in (0.2, 0.5, 1.0, 2.0) if span / (one * power) < 8)
    first = math.ceil(low / step - 1e-9)
    # Rounded, since 3 * 0.1 is not 0.3.
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
