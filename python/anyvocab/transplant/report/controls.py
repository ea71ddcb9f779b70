"""Control tokens one by one, source tokens that nobody took, the chat template, what ends texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyvocab.report.page import section, table, text
from anyvocab.transplant.report.tokens import shown_token

if TYPE_CHECKING:
    from anyvocab.transplant.result import SwapReport
    from anyvocab.transplant.roles import ControlRow

__all__ = ["chat_section", "control_section"]

SHOWN = 300  # rows: some vocabularies reserve hundreds of control tokens
_POLICIES = {
    "take": "the target tokenizer's own",
    "keep": "the source's, unchanged",
    "translate": "the source's, its control tokens replaced by those that took their rows",
    "none": "no template",
}


def control_section(report: SwapReport) -> str:
    """Return every control token with its roles, its source tokens and the reason for them."""
    told = sorted(report.controls, key=lambda row: (not row.roles and not row.sources, row.id))
    if not told:
        return ""
    body = [
        [
            str(row.id),
            f"<code>{text(row.spelling)}</code>",
            text(", ".join(row.roles)),
            _sources(report, row),
            text(row.rule),
            text(row.reason),
        ]
        for row in told[:SHOWN]
    ]
    more = len(told) - SHOWN
    note = (
        f"<p><small>and {more:,} more, in the table of all tokens</small></p>" if more > 0 else ""
    )
    columns = ["id", "token", "roles", "takes the row of", "rule", "why"]
    return section("Control tokens", table(columns, body, numbers=(0,)), note, _unclaimed(report))


def _sources(report: SwapReport, row: ControlRow) -> str:
    if not row.sources:
        return '<span class="soft">none</span>'
    shown = _spelled(report, row.sources)
    if row.input_sources and row.input_sources != row.sources:
        read = _spelled(report, row.input_sources)
        return f"{read} <small>read</small><br>{shown} <small>predicted</small>"
    return shown


def _spelled(report: SwapReport, ids: tuple[int, ...]) -> str:
    if report.source is None:
        return text(", ".join(map(str, ids)))
    vocabulary = report.source.vocabulary
    return " ".join(
        f'<code title="source id {id}">{text(shown_token(vocabulary, id))}</code>' for id in ids
    )


def _unclaimed(report: SwapReport) -> str:
    ids = report.controls.unclaimed
    if not ids:
        return ""
    more = f" <small>and {len(ids) - SHOWN:,} more</small>" if len(ids) > SHOWN else ""
    return (
        "<h3>Control tokens of the source that nobody took</h3><p>"
        f"{_spelled(report, tuple(ids[:SHOWN]))}{more}</p><p><small>What the model learned to do "
        "after them is out of reach now; give one to a new token with --map.</small></p>"
    )


def chat_section(report: SwapReport) -> str:
    """Return what became of the chat template, and the ids that end generation."""
    said = _POLICIES.get(report.chat, report.chat)
    ends = "no id"
    if report.ends and report.target is not None:
        vocabulary = report.target.vocabulary
        ends = " ".join(
            f"<code>{text(shown_token(vocabulary, id))}</code>&nbsp;<small>{id}</small>"
            for id in report.ends
            if id < len(vocabulary)
        )
    return section(
        "Chat template and end of text",
        f"<p>Chat template: <b>{text(report.chat)}</b>, {text(said)}.</p>",
        f"<p>Generation ends at {ends}.</p>",
    )
