"""The page's head: what became of what, whether it holds, and what it cost in bits per byte."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyvocab.report.page import card, section, table, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyvocab.transplant.result import SwapReport

__all__ = ["between", "headline", "judgement", "models_of", "short"]

_WORDS = {True: ("ok", "good"), False: ("FAILED", "bad"), None: ("not looked at", "soft")}
_MADE = ("composed", "predicted", "fallback")


def short(name: str) -> str:
    """Return the last part of a path; other names as they are."""
    return Path(name).name if "/" in name and Path(name).exists() else name


def models_of(report: SwapReport) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Return what was measured of the old model and of the new one; None where nothing was."""
    if report.verification is None or report.verification.evaluation is None:
        return None
    before, after = report.verification.evaluation["models"][:2]
    return before, after


def between(interval: Any, form: str = ".3f") -> str:
    """Return an interval as a small line, HTML; nothing for none."""
    if interval is None:
        return ""
    low, high = interval
    return f"<br><small>{low:{form}} to {high:{form}}</small>"


def headline(report: SwapReport) -> str:
    """Return title, verdict and cards."""
    title = f"{short(report.model)} with the tokenizer of {short(report.tokenizer)}"
    return (
        f"<h1>{text(title)}</h1>{_verdict(report)}"
        f'<ul class="cards">{"".join(_cards(report))}</ul>{_reading(report)}'
    )


def _verdict(report: SwapReport) -> str:
    where = "" if report.out is None else f' <span class="soft">{text(report.out)}</span>'
    found = report.verification
    if report.out is None:
        return '<p><b>Dry run:</b> nothing was written. <span class="soft">A plan only.</span></p>'
    if found is None:
        return f'<p><b class="bad">Not verified:</b> nobody looked at the result.{where}</p>'
    failed = [check for check in found.checks if check.ok is False]
    if failed:
        names = ", ".join(check.name for check in failed)
        return f'<p><b class="bad">Verification failed:</b> {text(names)}.{where}</p>'
    passed = sum(check.ok is True for check in found.checks)
    how = "loaded in a process of its own, " if found.evaluation is not None else ""
    return f'<p><b class="good">Verified:</b> {how}{passed} checks passed.{where}</p>'


def _cards(report: SwapReport) -> list[str]:
    cards = []
    measured = models_of(report)
    if measured is not None:
        before, after = measured
        cards += [
            card(f"{before['bits_per_byte']:.3f}", _labelled("bits per byte before", before)),
            card(f"{after['bits_per_byte']:.3f}", _labelled("bits per byte after", after)),
            card(f"{after['bits_per_byte'] - before['bits_per_byte']:+.3f}", "bits per byte lost"),
            card(
                f"{before['bytes_per_token']:.2f} → {after['bytes_per_token']:.2f}",
                "bytes per token",
            ),
            card(f"{after['tokens'] / before['tokens'] - 1:+.1%}", "tokens for the same text"),
        ]
    elif report.compression:
        for name, (old, new) in list(report.compression.items())[:1]:
            cards.append(card(f"{old:.2f} → {new:.2f}", f"bytes per token, {name}"))
    counts = report.counts["input"]
    total = sum(counts.values()) or 1
    made = sum(counts.get(name, 0) for name in _MADE)
    same = counts.get("copied", 0)
    cards += [
        card(f"{report.source_ids:,} → {report.target_ids:,}", "tokens in the vocabulary"),
        card(f"{same / total:.1%}", f"rows copied bit for bit: {same:,}"),
        card(f"{made / total:.1%}", f"rows made anew: {made:,}"),
        card(_tie(report), "input and output matrix"),
    ]
    return cards


def _labelled(label: str, model: Mapping[str, Any]) -> str:
    interval = model.get("interval")
    return label if interval is None else f"{label}, {interval[0]:.3f} to {interval[1]:.3f}"


def _tie(report: SwapReport) -> str:
    if report.tied:
        return "tied"
    return "untied now" if report.was_tied else "untied"


def _reading(report: SwapReport) -> str:
    if models_of(report) is None:
        return ""
    return (
        '<p class="soft">Before is the ceiling: the old model with its own tokenizer, on the same '
        f"{_size(report)} bytes ({text(report.corpus)}). Bits per byte: lower is better. Small "
        "numbers: 95% intervals.</p>"
    )


def _size(report: SwapReport) -> str:
    measured = models_of(report)
    return "" if measured is None else f"{measured[0]['bytes']:,}"


def judgement(report: SwapReport) -> str:
    """Return what was checked before and after: the gate's findings, the checks, the notes."""
    parts = []
    if report.verification is not None:
        rows = [
            [
                text(check.name),
                f'<span class="{_WORDS[check.ok][1]} nowrap">{_WORDS[check.ok][0]}</span>',
                text(check.found),
            ]
            for check in report.verification.checks
        ]
        parts.append(f"<h3>The finished model</h3>{table(['check', '', 'found'], rows)}")
    if report.findings:
        css = {"refuse": "bad", "warn": "bad", "info": "soft"}
        rows = [
            [
                f'<span class="{css.get(one.severity, "soft")}">{text(one.severity)}</span>',
                text(one.found),
                text(one.fix),
            ]
            for one in report.findings
        ]
        grid = table(["", "found", "what to do"], rows)
        parts.append(f"<h3>The pair, before anything was computed</h3>{grid}")
    if report.notes:
        lines = "".join(f"<p>{text(note)}</p>" for note in report.notes)
        parts.append(f'<h3>Worth knowing</h3><div class="warn">{lines}</div>')
    return section("What was checked", *parts) if parts else ""
