"""What was measured on text: bits per byte, loss in new tokens, bytes per token, continuations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anyvocab.report.languages import compare_languages
from anyvocab.report.page import section, table, text
from anyvocab.report.sample import SAMPLE, SAMPLE_NAME
from anyvocab.report.svg import bar, legend, ranged_bar
from anyvocab.report.visible import visible
from anyvocab.transplant.report.headline import between, models_of

if TYPE_CHECKING:
    from anyvocab.transplant.result import SwapReport

__all__ = ["compression_section", "domain_section", "greedy_section", "split_section"]

SAMPLES = 3
SAMPLE_BYTES = 600
_NAMES = ("before", "after")


def _grid(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    return table(columns, rows, numbers=numbers).replace("<td><svg", '<td class="bars"><svg')


def domain_section(report: SwapReport) -> str:
    """Return bits per byte by domain, before and after, with their intervals."""
    measured = models_of(report)
    if measured is None or report.verification is None or report.verification.evaluation is None:
        return ""
    lost = {
        one["domain"]: one
        for one in report.verification.evaluation["differences"]
        if one["model"] == measured[1]["model"]
    }
    lines = [
        (old["domain"], old["bytes"], old, new)
        for old, new in zip(measured[0]["domains"], measured[1]["domains"], strict=True)
    ]
    if len(lines) > 1:
        lines.insert(0, (None, measured[0]["bytes"], *measured))
    ends = [
        one["bits_per_byte"] if one["interval"] is None else one["interval"][1]
        for _, _, *pair in lines
        for one in pair
    ]
    top = max(ends, default=1.0) or 1.0
    body = []
    for name, size, old, new in lines:
        cells = [f"{one['bits_per_byte']:.3f}{between(one['interval'])}" for one in (old, new)]
        one = lost.get(name)
        cells.append(
            "" if one is None else f"{one['bits_per_byte']:+.3f}{between(one['interval'], '+.3f')}"
        )
        bars = "".join(
            ranged_bar(one["bits_per_byte"], one["interval"], top, css)
            for one, css in ((old, "a"), (new, "b"))
        )
        title = "all domains" if name is None else name
        body.append([f"{text(title)}<br><small>{size:,}&nbsp;bytes</small>", *cells, bars])
    policy = report.verification.evaluation.get("policy", "")
    return section(
        "Bits per byte",
        legend(["before: the ceiling", "after"]),
        _grid(["domain", "before", "after", "lost", ""], body, (1, 2, 3)),
        f"<p><small>{text(policy)}</small></p>",
    )


def split_section(report: SwapReport) -> str:
    """Return the loss in shared and in new tokens, and whether the body still does the same."""
    measured = models_of(report)
    if measured is None:
        return ""
    after = measured[1]
    lines = [(one["domain"], one["split"]) for one in after["domains"] if one["split"]]
    if len(lines) > 1 and after["split"]:
        lines.insert(0, ("all domains", after["split"]))
    costs = [
        value
        for _, split in lines
        for value in (split["shared_nats_per_byte"], split["new_nats_per_byte"])
        if value is not None
    ]
    if not costs:
        return ""
    top = max(costs) or 1.0
    body = [[text(name), *_split(split, top)] for name, split in lines]
    return section(
        "Loss in shared and in new tokens",
        '<p class="soft">Nats per byte that a token of each kind costs; small: how many there are. '
        "New tokens are those whose bytes were no token before. Far longer bars for new tokens "
        "mean that their output rows do not fit the model: calibrate, or heal.</p>",
        legend(["shared", "new"], ["c", "b"]),
        _grid(["domain", "in shared", "in new", ""], body, (1, 2)),
        _exactness(after.get("exactness")),
    )


def _split(split: Mapping[str, Any], top: float) -> list[str]:
    total = (split["shared_tokens"] + split["new_tokens"]) or 1
    cells, bars = [], []
    for kind, css in (("shared", "c"), ("new", "b")):
        value, tokens = split[f"{kind}_nats_per_byte"], split[f"{kind}_tokens"]
        shown = "none" if value is None else f"{value:.3f}"
        cells.append(f"{shown}<br><small>{tokens:,}, {tokens / total:.1%}</small>")
        bars.append(bar((value or 0.0) / top, css))
    return [*cells, "".join(bars)]


def _exactness(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    where = f"{found['prompts']} runs of shared tokens, {found['tokens']} tokens"
    if found["largest_difference"] == 0.0:
        return f"<p>Final hidden states on {where}: the same bits as before the swap.</p>"
    return (
        f"<p>Final hidden states on {where}: they differ by up to "
        f"{found['largest_difference']:.2e}.</p>"
    )


def compression_section(report: SwapReport) -> str:
    """Return bytes per token by domain and by language, before and after."""
    parts = []
    if report.compression:
        parts.append("<h3>The texts that were judged</h3>")
        lines = [(name, "", pair) for name, pair in report.compression.items()]
        parts.append(_compression(["text"], lines))
    if report.source is not None and report.target is not None:
        tokenizers = {"before": report.source, "after": report.target}
        rows = compare_languages(tokenizers, SAMPLE)
        parts.append(f"<h3>Languages</h3><p><small>{text(SAMPLE_NAME)}</small></p>")
        lines = [
            (one.language, f"{one.bytes:,}", (one.bytes_per_token[0], one.bytes_per_token[1]))
            for one in rows
        ]
        parts.append(_compression(["language", "bytes"], lines))
    if not parts:
        return ""
    return section(
        "Bytes per token",
        '<p class="soft">More is better: fewer tokens, and so fewer steps, for the same text.</p>',
        legend(list(_NAMES)),
        *parts,
    )


def _compression(
    first: Sequence[str], lines: Sequence[tuple[str, str, tuple[float, float]]]
) -> str:
    top = max((value for *_, pair in lines for value in pair), default=1.0) or 1.0
    body = []
    for name, size, (old, new) in lines:
        bars = bar(old / top, "a") + bar(new / top, "b")
        saved = f"{old / new - 1:+.1%}" if new else ""
        head = [text(name), size] if len(first) > 1 else [text(name)]
        body.append([*head, f"{old:.2f}", f"{new:.2f}", saved, bars])
    columns = [*first, *_NAMES, "tokens", ""]
    return _grid(columns, body, range(1, len(columns) - 1))


def greedy_section(report: SwapReport) -> str:
    """Return greedy continuations of the same prompts by both models."""
    measured = models_of(report)
    if measured is None or not all(one.get("greedy") for one in measured):
        return ""
    body, blocks = [], []
    for name, one in zip(_NAMES, measured, strict=True):
        greedy = one["greedy"]
        new = greedy["new_token_rate"]
        body.append(
            [
                name,
                f"{greedy['loop_rate']:.0%}",
                f"{greedy['ended_rate']:.0%}",
                f"{greedy['utf8_rate']:.0%}",
                "" if new is None else f"{new:.1%}",
            ]
        )
        shown = "".join(map(_sample, greedy["samples"][:SAMPLES]))
        blocks.append(f"<div><h3>{name}</h3>{shown}</div>")
    first = measured[0]["greedy"]
    return section(
        "Greedy continuations",
        f'<p class="soft">{first["prompts"]} pieces of the texts, continued by the most probable '
        f"token, {first['budget']} tokens at most. A sanity check, not a score: small models "
        "loop.</p>",
        table(["model", "loops", "ended", "UTF-8", "new tokens"], body, numbers=(1, 2, 3, 4)),
        f'<div class="pair">{"".join(blocks)}</div>',
    )


def _sample(one: Mapping[str, Any]) -> str:
    prompt, output = (visible(one[name][:SAMPLE_BYTES]) for name in ("prompt", "output"))
    said = [f"{one['tokens']} tokens"]
    said += [f"loops every {one['period']} bytes"] if one["period"] else []
    said += ["ended"] if one["ended"] else []
    said += [] if one["is_utf8"] else ["no valid UTF-8"]
    return (
        f'<pre dir="auto">{text(prompt)}<span class="t0">{text(output)}</span></pre>'
        f"<p><small>{text(', '.join(said))}</small></p>"
    )
