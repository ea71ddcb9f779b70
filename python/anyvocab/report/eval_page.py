"""The page of `anyvocab eval --html`: several models on the same bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from anyvocab.report.page import card, page, section, table, text
from anyvocab.report.svg import CLASSES, bar
from anyvocab.report.visible import visible

if TYPE_CHECKING:
    from anyvocab.evaluate import Difference, Evaluation, Interval, ModelScore, Split
    from anyvocab.evaluate.greedy import Continuation

__all__ = ["eval_page"]

ALL = "all domains"
SAMPLES = 3  # continuations shown of each model
SAMPLE_BYTES = 600


def eval_page(evaluation: Evaluation) -> str:
    """Return the page."""
    from anyvocab._core import __version__

    models = evaluation.models
    title = " and ".join(one.name for one in models) if len(models) < 3 else "Models compared"
    first = models[0]
    html = [
        f"<h1>{text(title)}</h1>",
        f'<p class="soft">{len(first.domains)} domain{"s" * (len(first.domains) != 1)}, '
        f"{sum(one.documents for one in first.domains):,} documents, {first.bytes:,} bytes, "
        "the same for every model. Bits per byte: lower is better.</p>",
        f'<ul class="cards">{"".join(_cards(evaluation))}</ul>',
        _scores(evaluation),
        _differences(evaluation) if len(models) > 1 else "",
        _splits(evaluation),
        _compression(models),
        _greedy(models),
        _hidden(evaluation),
        _notes(models),
        _method(evaluation),
    ]
    return page(title, html, made_by=f"anyvocab {__version__}, anyvocab eval")


def _cards(evaluation: Evaluation) -> list[str]:
    cards = [
        card(f"{one.bits_per_byte:.3f}", f"bits per byte, {one.name}") for one in evaluation.models
    ]
    whole = [one for one in evaluation.differences if one.domain is None]
    if len(whole) == 1:
        cards.append(card(f"{whole[0].bits_per_byte:+.3f}", f"against {whole[0].baseline}"))
        first, second = evaluation.models
        cards.append(card(f"{second.tokens / first.tokens - 1:+.1%}", "tokens for the same bytes"))
    return cards


def _rows(evaluation: Evaluation) -> list[tuple[str, int, ModelScore]]:
    """Return a row for every domain and model; all domains first where there are several."""
    domains = [one.name for one in evaluation.models[0].domains]
    names = [ALL, *domains] if len(domains) > 1 else domains
    return [(name, m, model) for name in names for m, model in enumerate(evaluation.models)]


def _part(model: ModelScore, name: str) -> tuple[float, Interval | None, float, Split | None, int]:
    """Return bits per byte, interval, bytes per token, split and bytes of a domain or of all."""
    for one in model.domains:
        if one.name == name:
            return one.bits_per_byte, one.interval, one.bytes_per_token, one.split, one.bytes
    return model.bits_per_byte, model.interval, model.bytes_per_token, model.split, model.bytes


def _domain_cell(name: str, number: int, size: int) -> str:
    return f"{text(name)}<br><small>{size:,} bytes</small>" if number == 0 else ""


def _between(interval: Interval | None, form: str = ".3f") -> str:
    if interval is None:
        return ""
    return f"<br><small>{interval.low:{form}} to {interval.high:{form}}</small>"


def _scores(evaluation: Evaluation) -> str:
    rows = _rows(evaluation)
    values = [_part(model, name) for name, _, model in rows]
    top = max(value if one is None else one.high for value, one, *_ in values) or 1.0
    body = [
        [
            _domain_cell(name, m, size),
            text(model.name),
            f"{value:.3f}{_between(interval)}",
            _bar(value, interval, top, CLASSES[m % len(CLASSES)]),
        ]
        for (name, m, model), (value, interval, _, _, size) in zip(rows, values, strict=True)
    ]
    level = f"{evaluation.bootstrap.level:.0%}"
    few = any(interval is None for _, interval, *_ in values)
    note = f"Small numbers and thin lines: {level} intervals."
    if few:
        note += " A domain of fewer than 10 blocks has none."
    return section(
        "Bits per byte",
        _bars(table(["domain", "model", "bits per byte", ""], body, numbers=(2,))),
        f"<p><small>{text(note)}</small></p>",
    )


def _bars(grid: str) -> str:
    return grid.replace("<td><svg", '<td class="bars"><svg')


def _bar(value: float, interval: Interval | None, top: float, css_class: str) -> str:
    """Return a bar from 0, with a thin line over its interval."""
    drawing = bar(value / top, css_class)
    if interval is None:
        return drawing
    low, high = (100 * max(0.0, min(1.0, one / top)) for one in (interval.low, interval.high))
    line = (
        f'<rect x="{low:.2f}" width="{max(0.3, high - low):.2f}" y="4" height="2" '
        'fill="currentColor"/>'
        + "".join(
            f'<rect x="{min(99.5, x):.2f}" width=".5" height="10" fill="currentColor"/>'
            for x in (low, high)
        )
    )
    return drawing.replace("</svg>", f"{line}</svg>")


def _differences(evaluation: Evaluation) -> str:
    several = len(evaluation.models[0].domains) > 1
    chosen = [one for one in evaluation.differences if several or one.domain is not None]
    chosen.sort(key=lambda one: one.domain is not None)  # stable: all domains first
    reach = max(
        max(abs(one.bits_per_byte), *(map(abs, _ends(one.interval)) if one.interval else (0.0,)))
        for one in chosen
    )
    colours = {one.name: CLASSES[i % len(CLASSES)] for i, one in enumerate(evaluation.models)}
    body = [
        [
            text(one.domain or ALL),
            text(one.model),
            f"{one.bits_per_byte:+.3f}{_between(one.interval, '+.3f')}",
            _offset(one, reach or 1.0, colours[one.model]),
        ]
        for one in chosen
    ]
    baseline = evaluation.models[0].name
    return section(
        f"Difference to {baseline}",
        f'<p class="soft">Bits per byte less those of {text(baseline)}, on the same bytes: left '
        "of the middle is better. An interval that leaves out 0 is a difference that other text "
        "of the same kind would show too.</p>",
        _bars(table(["domain", "model", "difference", ""], body, numbers=(2,))),
    )


def _ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def _offset(one: Difference, reach: float, css_class: str) -> str:
    """Return a bar from the middle, to the left where the model is better."""

    def place(value: float) -> float:
        return 50 + 49 * value / reach

    at = place(one.bits_per_byte)
    parts = [
        f'<rect class="{css_class}" x="{min(50.0, at):.2f}" width="{abs(at - 50):.2f}" '
        'height="10"/>',
        '<rect x="49.8" width=".4" height="10" fill="currentColor"/>',
    ]
    if one.interval is not None:
        low, high = place(one.interval.low), place(one.interval.high)
        parts.append(
            f'<rect x="{low:.2f}" width="{max(0.3, high - low):.2f}" y="4" height="2" '
            'fill="currentColor"/>'
        )
    return (
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )


def _splits(evaluation: Evaluation) -> str:
    rows = [
        (name, model, split)
        for name, _, model in _rows(evaluation)
        if (split := _part(model, name)[3]) is not None
    ]
    if not rows:
        return ""
    costs = [(s.shared_nats_per_byte, s.new_nats_per_byte) for _, _, s in rows]
    top = max((one for pair in costs for one in pair if not math.isnan(one)), default=0.0) or 1.0
    body = []
    for (name, model, split), (shared, new) in zip(rows, costs, strict=True):
        tokens = split.shared_tokens + split.new_tokens
        body.append(
            [
                text(name),
                text(model.name),
                _nats(shared),
                _nats(new),
                f"{split.new_tokens:,}<br><small>{split.new_tokens / tokens:.1%}</small>",
                "".join(
                    bar(0.0 if math.isnan(one) else one / top, css)
                    for one, css in ((shared, "c"), (new, "b"))
                ),
            ]
        )
    columns = ["domain", "model", "nats per byte in shared tokens", "in new tokens"]
    return section(
        "Shared and new tokens",
        f'<p class="soft">New tokens have bytes that are no token of {text(evaluation.against)}. '
        "A swap that left them uncalibrated shows here: the lower bar is far longer.</p>",
        _bars(table([*columns, "new tokens", ""], body, numbers=(2, 3, 4))),
    )


def _nats(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.3f}"


def _compression(models: Sequence[ModelScore]) -> str:
    domains = [one.name for one in models[0].domains]
    names = [ALL, *domains] if len(domains) > 1 else domains
    rows = [(name, m, model) for name in names for m, model in enumerate(models)]
    values = [_part(model, name) for name, _, model in rows]
    top = max(value[2] for value in values)
    body = [
        [
            text(name) if m == 0 else "",
            text(model.name),
            f"{value[2]:.2f}",
            bar(value[2] / top, CLASSES[m % len(CLASSES)]),
        ]
        for (name, m, model), value in zip(rows, values, strict=True)
    ]
    return section(
        "Bytes per token",
        '<p class="soft">More is better: fewer tokens, and so fewer steps, for the same text.</p>',
        _bars(table(["domain", "model", "bytes per token", ""], body, numbers=(2,))),
    )


def _greedy(models: Sequence[ModelScore]) -> str:
    tried = [one for one in models if one.greedy is not None]
    if not tried:
        return ""
    body = []
    samples = []
    for model in tried:
        greedy = model.greedy
        if greedy is None:
            continue
        new = greedy.new_token_rate
        body.append(
            [
                text(model.name),
                f"{len(greedy.continuations)}",
                f"{greedy.loop_rate:.0%}",
                f"{greedy.ended_rate:.0%}",
                f"{greedy.utf8_rate:.0%}",
                "" if new is None else f"{new:.1%}",
            ]
        )
        shown = "".join(_sample(one) for one in greedy.continuations[:SAMPLES])
        samples.append(f"<div><h3>{text(model.name)}</h3>{shown}</div>")
    columns = ["model", "prompts", "end in a loop", "ended", "valid UTF-8", "new tokens"]
    budget = max(one.greedy.budget for one in tried if one.greedy is not None)
    return section(
        "Greedy continuations",
        '<p class="soft">The same pieces of the texts, continued by the most probable token, '
        f"{budget} at most. A sanity check, not a score: small models loop.</p>",
        table(columns, body, numbers=(1, 2, 3, 4, 5)),
        f'<div class="pair">{"".join(samples)}</div>',
    )


def _sample(one: Continuation) -> str:
    prompt, output = (
        visible(data[:SAMPLE_BYTES].decode("utf-8", "backslashreplace"))
        for data in (one.prompt, one.output)
    )
    said = [f"{one.tokens} tokens"]
    if one.period:
        said.append(f"loops every {one.period} bytes")
    if one.ended:
        said.append("ended")
    if not one.is_utf8:
        said.append("no valid UTF-8")
    return (
        f'<pre dir="auto">{text(prompt)}<span class="t0">{text(output)}</span></pre>'
        f"<p><small>{text(', '.join(said))}</small></p>"
    )


def _hidden(evaluation: Evaluation) -> str:
    lines = []
    for model in evaluation.models:
        exact = model.exactness
        if exact is None:
            continue
        where = f"{exact.prompts} runs of shared tokens, {exact.tokens} tokens"
        if exact.largest_difference == 0.0:
            lines.append(f"{model.name}: the same bits on {where}.")
        else:
            why = (
                "the bodies are equal, so this is a fault of the swap"
                if exact.same_body
                else "the bodies have different weights, so this is expected"
            )
            lines.append(
                f"{model.name}: they differ by up to {exact.largest_difference:.3g} on {where}; "
                f"{why}."
            )
    if not lines:
        return ""
    return section(
        "Hidden states where nothing changed",
        f'<p class="soft">Final hidden states against {text(evaluation.against)}, on text that '
        "both tokenizers cut into the same tokens.</p>",
        *(f"<p>{text(line)}</p>" for line in lines),
    )


def _notes(models: Sequence[ModelScore]) -> str:
    lines = [f"{model.name}: {note}" for model in models for note in model.notes]
    if not lines:
        return ""
    return f'<div class="warn">{"".join(f"<p>{text(line)}.</p>" for line in lines)}</div>'


def _method(evaluation: Evaluation) -> str:
    rows = [
        [
            text(one.name),
            f"{one.ids:,}",
            f"{one.window:,}",
            f"{one.stride:,}",
            f"{one.seconds:.1f}",
            text(" ".join(map(str, one.first_ids))),
            text(one.first_ids_from),
        ]
        for one in evaluation.models
    ]
    columns = ["model", "ids", "window", "stride", "seconds", "ids before a text", "from"]
    return section(
        "How this was measured",
        f"<p>{text(evaluation.policy())}</p>",
        f"<p>Intervals: {text(evaluation.bootstrap.describe())}.</p>",
        table(columns, rows, numbers=(1, 2, 3, 4)),
    )
