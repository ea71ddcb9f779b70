"""How strategies were chosen; how long it took, how much memory, which files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyvocab.report.page import card, section, table, text
from anyvocab.report.svg import bar

if TYPE_CHECKING:
    from anyvocab.transplant.result import SwapReport

__all__ = ["choice_section", "work_section"]


def choice_section(report: SwapReport) -> str:
    """Return what strategies did on hidden rows and in the model; nothing where one was named."""
    choice = report.choice
    if choice is None:
        return ""
    parts = [f"<p>{text(choice.reason.capitalize())}.</p>"]
    for side in dict.fromkeys(one.side for one in choice.fidelities):
        found = sorted(
            (one for one in choice.fidelities if one.side == side), key=lambda one: -one.cosine
        )
        body = [
            [
                _chosen(one.strategy, choice.strategies.get(side) == one.strategy),
                f"{one.cosine:.3f}",
                f"{one.error:.3f}",
                f"{one.predicted:,} of {one.hidden:,}",
                f"{one.seconds:.1f}",
                bar(one.cosine, "a"),
            ]
            for one in found
        ]
        columns = ["strategy", "cosine", "error", "rows", "seconds", ""]
        grid = table(columns, body, numbers=(1, 2, 3, 4))
        parts.append(f"<h3>Hidden rows, {text(side)} side</h3>")
        parts.append(grid.replace("<td><svg", '<td class="bars"><svg'))
    parts.append(
        "<p><small>Rows of shared tokens were hidden, predicted and compared, the mean row taken "
        "off both. Shared tokens are shorter and more frequent than new ones, so this flatters "
        "everybody alike.</small></p>"
    )
    if choice.trials:
        won = (choice.strategies.get("input"), choice.strategies.get("output"))
        best = min(choice.trials, key=lambda one: one.bits_per_byte).bits_per_byte
        body = [
            [
                _chosen(one.input, (one.input, one.output) == won),
                text(one.output),
                f"{one.bits_per_byte:.4f}",
                f"{one.bits_per_byte - best:+.4f}",
                f"{one.seconds:.1f}",
            ]
            for one in sorted(choice.trials, key=lambda one: one.bits_per_byte)
        ]
        columns = ["input", "output", "bits per byte", "to the best", "seconds"]
        parts.append("<h3>In the model, before calibration</h3>")
        parts.append(table(columns, body, numbers=(2, 3, 4)))
    return section("How the strategies were chosen", *parts)


def _chosen(name: str, won: bool) -> str:
    return f"<b>{text(name)}</b> <small>chosen</small>" if won else text(name)


def work_section(report: SwapReport) -> str:
    """Return seconds by stage, memory and files."""
    seconds = sum(report.seconds.values())
    cards = [card(f"{seconds:.1f} s", "in all")]
    cards += [card(f"{value:.1f} s", stage) for stage, value in report.seconds.items()]
    if report.peak_bytes:
        cards.append(card(f"{report.peak_bytes / 2**20:,.0f} MiB", "largest memory"))
    if report.bytes:
        cards.append(card(f"{report.bytes / 2**20:,.1f} MiB", "weights"))
        cards.append(card(f"{report.written / 2**20:,.1f} MiB", "of them written"))
    files = ""
    if report.files:
        body = [[text(name), text(how)] for name, how in sorted(report.files.items())]
        files = table(["weights file", "how"], body)
    where = (
        "<p><small>In the new folder, <code>anyvocab/plan.safetensors</code> has every row's "
        "sources and weights, <code>anyvocab/swap_tokens.jsonl</code> the same as text, "
        "<code>swap.json</code> versions, digests and parameters.</small></p>"
        if report.out is not None
        else ""
    )
    return section("What it took", f'<ul class="cards">{"".join(cards)}</ul>', files, where)
