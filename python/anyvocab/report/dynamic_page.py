"""The page of `anyvocab dynamic --html`: texts before and after merging, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from anyvocab.report import svg
from anyvocab.report.inspect_page import cut_html
from anyvocab.report.page import card, page, section, table, text
from anyvocab.report.visible import one_line

if TYPE_CHECKING:
    from anyvocab.dynamic.judged import Judged
    from anyvocab.dynamic.survey import PairMerges, Survey
    from anyvocab.report.dynamic_texts import Lengths
    from anyvocab.report.pieces import Cut

__all__ = ["dynamic_page"]

TOP = 30  # merges and new tokens
ROWS = 400  # texts or languages
STEPS = {
    "tokenize": "encoding",
    "merge": "merging",
    "rows": "rows of new tokens",
    "forward": "the model",
}

_OPEN = 2  # texts that are shown without a click


def dynamic_page(
    name: str,
    survey: Survey,
    cuts: Mapping[str, tuple[Cut, Cut]],
    lengths: Sequence[Lengths],
    judged: Judged | None,
) -> str:
    """Return the page.

    Args:
        name: The tokenizer's or model's.
        survey: What merging did.
        cuts: Name of a text to its start before and after.
        lengths: Those of each language, file or text.
        judged: What a model says; None without one.
    """
    from anyvocab._core import __version__

    total = survey.total
    texts = len(total.lengths)
    html = [
        f"<h1>{text(name)}, tokens decided by the text</h1>",
        f'<p class="soft">{_count(texts, "text")}, {int(total.bytes.sum()):,} bytes, merged '
        f"{_in_batches(survey)}; no merge crosses {_boundary(survey)}.{_stops(survey)}</p>",
        f'<ul class="cards">{"".join(_cards(survey, judged))}</ul>',
        _cuts(cuts),
        _lengths(survey, lengths),
        _curve(survey),
        _judged(judged),
        _merges(survey.merges),
        _new_tokens(survey),
    ]
    return page(
        f"{name}: dynamic tokens", html, made_by=f"anyvocab {__version__}, anyvocab dynamic"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _in_batches(survey: Survey) -> str:
    batches = survey.total.batches
    return "together" if batches == 1 else f"in {batches:,} batches"


def _boundary(survey: Survey) -> str:
    return {
        "pretoken": "a pretoken of the tokenizer",
        "word": "white space",
        "sentence": "the end of a sentence",
        "superword": "a pretoken at first, then only special tokens",
    }[survey.boundary]


def _stops(survey: Survey) -> str:
    """Return what was asked for, where it is not the default."""
    stops = survey.stops
    said = [
        f"{name} {100 * share:.4g} %{of}"
        for name, share, of in (
            ("reduction", stops.get("reduction"), ""),
            ("reduction", stops.get("attainable"), " of the attainable one"),
        )
        if share is not None
    ]
    if stops.get("max_merges") is not None:
        said.append(f"at most {_count(stops['max_merges'] or 0, 'merge')}")
    if stops.get("target_length") is not None:
        said.append(f"at most {_count(stops['target_length'] or 0, 'token')} in a batch")
    if stops.get("min_count", 1) > 1:
        said.append(f"pairs that occur {stops['min_count']} times or more")
    if stops.get("transition") is not None:
        said.append(f"across pretokens after {_count(stops['transition'] or 0, 'merge')}")
    return f" Asked for: {text(', '.join(said))}." if said else " Everything that may merge did."


def _cards(survey: Survey, judged: Judged | None) -> list[str]:
    total = survey.total
    cards = [
        card(f"{total.reduction:.1%}", "fewer tokens"),
        card(f"{total.base_tokens:,} → {total.tokens:,}", "tokens before and after"),
        card(f"{total.attainable_reduction:.1%}", "fewer with every merge"),
        card(f"{total.merges:,}", "merges"),
        card(f"{total.new_tokens:,}", "new tokens in the texts"),
    ]
    if len(survey.rows) > 1:
        cards.insert(1, card(f"{survey.mean_reduction:.1%}", "fewer, mean of the rows below"))
    if total.batches > 1:
        cards.append(card(f"{survey.hit_rate:.0%}", "of a batch's new tokens met before"))
    whole = None if judged is None else judged.total
    if whole is not None:
        cards += [
            card(f"{whole.base.bits_per_byte:.3f}", "bits per byte before"),
            card(f"{whole.merged.bits_per_byte:.3f}", f"after ({whole.loss:+.3f})"),
        ]
    return cards


def _cuts(cuts: Mapping[str, tuple[Cut, Cut]]) -> str:
    blocks: list[str] = []
    for name, (before, after) in cuts.items():
        if not before.pieces:
            continue
        sides = "".join(
            f'<div><p class="soft">{label}: {_count(cut.tokens, "token")}</p>{cut_html(cut)}</div>'
            for label, cut in (("before", before), ("after", after))
        )
        pair, title = f'<div class="pair">{sides}</div>', text(name)
        if len(blocks) < _OPEN:
            heading = f"<h3>{title}</h3>" if len(cuts) > 1 else ""
            blocks.append(heading + pair)
        else:  # the numbers below must not be pages away
            blocks.append(f"<details><summary>{title}</summary>{pair}</details>")
    if not blocks:
        return ""
    note = (
        "A box is a token. Merged ones are underlined; a title says what they were made of. "
        "Long texts are shown from their start."
    )
    return section("Before and after", *blocks, f"<p><small>{note}</small></p>")


def _lengths(survey: Survey, lengths: Sequence[Lengths]) -> str:
    top = max((one.before for one in lengths), default=0) or 1
    several = len(survey.rows) > 1
    body = []
    for one in lengths[:ROWS]:
        numbers = [f"{one.bytes:,}", f"{one.before:,}", f"{one.after:,}", f"{1 - one.left:.1%}"]
        if one.attainable is not None:
            numbers.append(f"{one.attainable:.1%}")
        bars = svg.bar(one.before / top, "f") + svg.bar(one.after / top, "a")
        body.append([text(one.name), *numbers, bars])
    columns = ["text", "bytes", "before", "after", "fewer"]
    if several:
        columns = ["texts", *columns[1:], "with every merge"]
    grid = table([*columns, ""], body, numbers=range(1, len(columns)))
    more = len(lengths) - ROWS
    note = f"<p><small>and {more:,} more, not shown</small></p>" if more > 0 else ""
    return section(
        "Tokens of each " + ("kind of text" if several else "text"),
        svg.legend(["before", "after"], ["f", "a"]),
        grid.replace("<td><svg", '<td class="bars"><svg'),
        note,
    )


def _curve(survey: Survey) -> str:
    points = survey.points()
    if len(points) < 3:
        return ""
    total = survey.total
    merges = total.merges / total.batches
    shares = [
        [f"{share:.0%}", f"{survey.merges_for(share):,}", f"{share * survey.curve[-1]:.1%}"]
        for share in (0.25, 0.5, 0.75, 0.9, 1.0)
    ]
    several = total.batches > 1
    unit = "merges in every batch" if several else "merges"
    stopped = (
        ""
        if total.attainable == total.base_tokens - total.tokens
        else (
            f" The dot is where merging stopped: {merges:,.0f} merges"
            + (" in a batch, on average." if several else ".")
        )
    )
    return section(
        "What more merges give",
        '<p class="soft">The share of tokens that is gone, from the most frequent pair on; '
        f"the dashed line is all that the boundary allows.{stopped}</p>",
        svg.curve(
            points,
            unit=unit,
            line=float(survey.curve[-1]),
            mark=(merges, total.reduction) if stopped else None,
        ),
        table(["of what all merges give", unit, "fewer tokens"], shares, numbers=(0, 1, 2)),
    )


def _judged(judged: Judged | None) -> str:
    if judged is None:
        return ""
    notes = "".join(f"<p>{text(note)}</p>" for note in judged.notes)
    warning = f'<div class="warn"><h3>Not scored</h3>{notes}</div>' if notes else ""
    total = judged.total
    if total is None:
        return section("The model", warning)
    listed = judged.listed
    sides = [side.bits_per_byte for one in listed.values() for side in (one.base, one.merged)]
    top = max(sides) or 1.0
    body = []
    for name, one in listed.items():
        before, after = one.base.bits_per_byte, one.merged.bits_per_byte
        numbers = [f"{one.base.scored_bytes:,}", f"{one.reduction:.1%}"]
        numbers += [f"{before:.3f}", f"{after:.3f}", f"{one.loss:+.3f}"]
        bars = svg.bar(before / top, "f") + svg.bar(after / top, "a")
        body.append([text(name), *numbers, bars])
    columns = ["texts", "bytes scored", "context fewer", "before", "after", "change"]
    grid = table([*columns, ""], body, numbers=range(1, len(columns)))
    pair = (total.base.seconds, total.merged.seconds)
    times = [
        [text(STEPS.get(step, step)), *(f"{1e3 * side[step]:,.1f}" for side in pair)]
        for step in total.base.seconds
    ]
    times.append(["<b>all</b>", *(f"<b>{1e3 * sum(side.values()):,.1f}</b>" for side in pair)])
    kept = f" but for its last {_count(judged.keep_last, 'token')}" if judged.keep_last else ""
    return section(
        "The model: bits per byte and time",
        f'<p class="soft">The first half of each text is read, merged{kept} or not; the second is '
        "scored in the model's own tokens, so the same bytes are scored. Lower is better. Rows of "
        f"new tokens: {text(judged.rows)}; {judged.hit_rate:.1%} of them were in the cache.</p>",
        svg.legend(["before", "after"], ["f", "a"]),
        grid.replace("<td><svg", '<td class="bars"><svg'),
        "<h3>Time in ms, once, on this machine</h3>",
        table(["step", "before", "after"], times, numbers=(1, 2)),
        warning,
    )


def _merges(merges: Sequence[PairMerges]) -> str:
    if not merges:
        return ""
    top = merges[0].replaced or 1
    body = [
        [
            f"<code>{_shown(one.left)}</code> <code>{_shown(one.right)}</code>",
            f"{one.replaced:,}",
            f"{one.batches:,}",
            svg.bar(one.replaced / top),
        ]
        for one in merges[:TOP]
    ]
    grid = table(["pair", "replaced", "batches", ""], body, numbers=(1, 2))
    more = len(merges) - len(body)
    note = f"<p><small>and {more:,} more pairs</small></p>" if more > 0 else ""
    return section(
        "Merges that saved most", grid.replace("<td><svg", '<td class="bars"><svg'), note
    )


def _new_tokens(survey: Survey) -> str:
    if not survey.new_tokens:
        return ""
    body = [
        [
            f"<code>{_shown(one.token)}</code>",
            f"{one.uses:,}",
            f"{one.batches:,}",
            " ".join(f"<code>{_shown(piece)}</code>" for piece in one.pieces),
        ]
        for one in survey.new_tokens[:TOP]
    ]
    more = len(survey.new_tokens) - len(body)
    note = f"<p><small>and {more:,} more</small></p>" if more > 0 else ""
    return section(
        "New tokens by their uses",
        table(["token", "uses", "batches", "first made of"], body, numbers=(1, 2)),
        note,
    )


def _shown(token: bytes) -> str:
    return text(one_line(token))
