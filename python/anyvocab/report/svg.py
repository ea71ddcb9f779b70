"""Small drawings: bars, a stacked bar with its legend, a histogram. Colours are classes."""

from __future__ import annotations

from collections.abc import Sequence

from anyvocab.report.page import text

__all__ = ["bar", "columns", "legend", "stacked"]

CLASSES = "abcdef"


def bar(share: float, css_class: str = "a") -> str:
    """Return a horizontal bar for a share of 0..1 of the room it stands in."""
    width = 100 * max(0.0, min(1.0, share))
    return (
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{css_class}" width="{width:.2f}" height="10"/></svg>'
    )


def legend(names: Sequence[str]) -> str:
    """Return the names of the classes `a`, `b`, ... in order."""
    items = "".join(
        f'<li><svg viewBox="0 0 10 10" aria-hidden="true">'
        f'<rect class="{CLASSES[i % len(CLASSES)]}" width="10" height="10" rx="2"/></svg>'
        f"{text(name)}</li>"
        for i, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>'


def stacked(parts: Sequence[tuple[str, int]]) -> str:
    """Return one bar of several parts, and a legend with their numbers and shares."""
    total = sum(count for _, count in parts) or 1
    at = 0.0
    rects = []
    for i, (name, count) in enumerate(parts):
        width = 100 * count / total
        rects.append(
            f'<rect class="{CLASSES[i % len(CLASSES)]}" x="{at:.3f}" width="{width:.3f}" '
            f'height="10"><title>{text(name)}: {count}</title></rect>'
        )
        at += width
    drawing = (
        '<svg class="bar tall" viewBox="0 0 100 10" preserveAspectRatio="none" role="img">'
        f"{''.join(rects)}</svg>"
    )
    return drawing + legend([f"{name}: {count:,} ({count / total:.1%})" for name, count in parts])


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
