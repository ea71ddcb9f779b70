"""The page of `anyvocab eval --html`: several models on the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from anyvocab.evaluate.bootstrap import MIN_BLOCKS
from anyvocab.report.page import card, page, section, table, text
from anyvocab.report.svg import CLASSES, bar, ranged_bar
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
        _compression(evaluation),
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


def _names(evaluation: Evaluation) -> list[str]:
    """Return the domains; all of them together first where there are several."""
    names = [one.name for one in evaluation.models[0].domains]
    return [ALL, *names] if len(names) > 1 else names


def _grid(
    evaluation: Evaluation,
    columns: Sequence[str],
    cells: Callable[[str, int, ModelScore], list[str] | None],
) -> str:
    """Return a table with a row for each model under every domain, or a row for each domain.

    Args:
        evaluation: Whose models.
        columns: Titles of the cells.
        cells: Domain, number and model to the cells, HTML; None for no row.
    """
    models = evaluation.models
    found = {
        name: [
            (one.name, row)
            for m, one in enumerate(models)
            if (row := cells(name, m, one)) is not None
        ]
        for name in _names(evaluation)
    }
    flat = all(len(some) < 2 for some in found.values())
    rows: list[list[str]] = []
    for name, some in found.items():
        # A no-break space: on a narrow page the size goes to a line of its own.
        size = f"<small>{_part(models[0], name)[4]:,}&nbsp;bytes</small>"
        if flat:
            rows += [[f"{text(name)}<br>{size}", *row] for _, row in some]
        else:
            rows.append([f"<b>{text(name)}</b> {size}", *("" for _ in columns)])
            rows += [[text(model), *row] for model, row in some]
    grid = table(["domain" if flat else "model", *columns], rows, numbers=range(1, len(columns)))
    return grid.replace("<td><svg", '<td class="bars"><svg')


def _of(models: Sequence[ModelScore]) -> str:
    """Return whose numbers a section has, where they are one model's."""
    return f" of {models[0].name}" if len(models) == 1 else ""


def _part(model: ModelScore, name: str) -> tuple[float, Interval | None, float, Split | None, int]:
    """Return bits per byte, interval, bytes per token, split and bytes of a domain or of all."""
    for one in model.domains:
        if one.name == name:
            return one.bits_per_byte, one.interval, one.bytes_per_token, one.split, one.bytes
    return model.bits_per_byte, model.interval, model.bytes_per_token, model.split, model.bytes


def _between(interval: Interval | None, form: str = ".3f") -> str:
    if interval is None:
        return ""
    return f"<br><small>{interval.low:{form}} to {interval.high:{form}}</small>"


def _scores(evaluation: Evaluation) -> str:
    parts = [_part(model, name) for name in _names(evaluation) for model in evaluation.models]
    top = max(value if one is None else one.high for value, one, *_ in parts) or 1.0

    def cells(name: str, number: int, model: ModelScore) -> list[str]:
        value, interval, *_ = _part(model, name)
        ends = None if interval is None else (interval.low, interval.high)
        drawing = ranged_bar(value, ends, top, CLASSES[number % len(CLASSES)])
        return [f"{value:.3f}{_between(interval)}", drawing]

    note = f"Small numbers and thin lines: {evaluation.bootstrap.level:.0%} intervals."
    if any(interval is None for _, interval, *_ in parts):
        note += f" Fewer than {MIN_BLOCKS} blocks of text have none."
    return section(
        "Bits per byte",
        _grid(evaluation, ["bits per byte", ""], cells),
        f"<p><small>{text(note)}</small></p>",
    )


def _differences(evaluation: Evaluation) -> str:
    found = {(one.domain or ALL, one.model): one for one in evaluation.differences}
    reach = max(
        max(abs(one.bits_per_byte), *(map(abs, _ends(one.interval)) if one.interval else (0.0,)))
        for one in evaluation.differences
    )

    def cells(name: str, number: int, model: ModelScore) -> list[str] | None:
        one = found.get((name, model.name))
        if one is None:
            return None
        drawing = _offset(one, reach or 1.0, CLASSES[number % len(CLASSES)])
        return [f"{one.bits_per_byte:+.3f}{_between(one.interval, '+.3f')}", drawing]

    baseline = evaluation.models[0].name
    return section(
        f"Difference{_of(evaluation.models[1:])} to {baseline}",
        f'<p class="soft">Bits per byte less those of {text(baseline)}, on the same bytes: left '
        "of the middle is better. An interval that leaves out 0 is a difference that other text "
        "of the same kind would show too.</p>",
        _grid(evaluation, ["difference", ""], cells),
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
    parts = [_part(model, name)[3] for name in _names(evaluation) for model in evaluation.models]
    costs = [
        one
        for split in parts
        if split is not None
        for one in (split.shared_nats_per_byte, split.new_nats_per_byte)
    ]
    if not costs:
        return ""
    top = max((one for one in costs if not math.isnan(one)), default=0.0) or 1.0

    def cells(name: str, _: int, model: ModelScore) -> list[str] | None:
        split = _part(model, name)[3]
        if split is None:
            return None
        shared, new = split.shared_nats_per_byte, split.new_nats_per_byte
        tokens = split.shared_tokens + split.new_tokens
        bars = [
            bar(0.0 if math.isnan(one) else one / top, css)
            for one, css in ((shared, "c"), (new, "d"))
        ]
        numbers = [
            f"{_nats(one)}<br><small>{count:,}, {count / tokens:.1%}</small>"
            for one, count in ((shared, split.shared_tokens), (new, split.new_tokens))
        ]
        return [*numbers, "".join(bars)]

    return section(
        f"Shared and new tokens{_of(evaluation.models[1:])}",
        f'<p class="soft">Nats per byte; small: tokens. New tokens have bytes that are no token of '
        f"{text(evaluation.against)}. Upper bars: shared; lower bars: new. New rows that do not "
        "fit the model show here: the lower bar is far longer.</p>",
        _grid(evaluation, ["in shared", "in new", ""], cells),
    )


def _nats(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.3f}"


def _compression(evaluation: Evaluation) -> str:
    names, models = _names(evaluation), evaluation.models
    top = max(_part(model, name)[2] for name in names for model in models)

    def cells(name: str, number: int, model: ModelScore) -> list[str]:
        value = _part(model, name)[2]
        return [f"{value:.2f}", bar(value / top, CLASSES[number % len(CLASSES)])]

    return section(
        "Bytes per token",
        '<p class="soft">More is better: fewer tokens, and so fewer steps, for the same text.</p>',
        _grid(evaluation, ["bytes per token", ""], cells),
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
                f"{greedy.loop_rate:.0%}",
                f"{greedy.ended_rate:.0%}",
                f"{greedy.utf8_rate:.0%}",
                "" if new is None else f"{new:.1%}",
            ]
        )
        shown = "".join(_sample(one) for one in greedy.continuations[:SAMPLES])
        samples.append(f"<div><h3>{text(model.name)}</h3>{shown}</div>")
    columns = ["model", "loops", "ended", "UTF-8", "new tokens"]
    checks = [one.greedy for one in tried if one.greedy is not None]
    count, budget = len(checks[0].continuations), max(one.budget for one in checks)
    return section(
        "Greedy continuations",
        '<p class="soft">The same pieces of the texts, continued by the most probable token: '
        f"{count} pieces, {budget} tokens at most. A sanity check, not a score: small models "
        "loop.</p>",
        table(columns, body, numbers=(1, 2, 3, 4)),
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
