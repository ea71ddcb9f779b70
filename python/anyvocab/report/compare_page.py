"""The page of `anyvocab compare --html`: several tokenizers on the same texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from anyvocab.report.compare_parts import (
    against,
    boundaries_html,
    fairness_html,
    lengths_html,
    letters_html,
    mark,
    model_html,
    names_legend,
    tokens_html,
    words_html,
)
from anyvocab.report.inspect_page import cut_html
from anyvocab.report.page import card, page, section, table, text
from anyvocab.report.svg import dots

if TYPE_CHECKING:
    from anyvocab.evaluate.tokenizers import (
        DomainTokens,
        TokenDifference,
        TokenizerComparison,
        TokenizerScore,
    )
    from anyvocab.report.pieces import Cut

__all__ = ["ALL", "compare_page", "summary"]

ALL = "all texts"
CARDS = 6


def compare_page(
    comparison: TokenizerComparison,
    examples: Mapping[str, Mapping[str, Cut]],
    *,
    title: str = "",
    parallel: str = "",
) -> str:
    """Return the page.

    Args:
        comparison: What it shows.
        examples: Title to a text as every tokenizer cuts it, by the tokenizers' names.
        title: Its title; the tokenizers' names when left out.
        parallel: Where the parallel texts come from.
    """
    from anyvocab._core import __version__

    scores = comparison.tokenizers
    names = [one.name for one in scores]
    few = " and ".join(names) if len(names) < 4 else "Tokenizers compared"
    documents = sum(one.documents for one in comparison.domains)
    domains = len(comparison.domains)
    html = [
        f"<h1>{text(title or few)}</h1>",
        f'<p class="soft">{domains} domain{"s" * (domains != 1)}, {documents:,} '
        f"document{'s' * (documents != 1)}, {scores[0].bytes:,} bytes, the same for every "
        "tokenizer. Fewer tokens are cheaper, not better: no number here says how good a model "
        "will be.</p>",
        f'<ul class="cards">{"".join(_cards(comparison))}</ul>',
        _notes(scores),
        _summary(scores),
        _compression(comparison),
        _differences(comparison),
        _examples(examples),
        section("Words in a token", words_html(comparison)),
        section("Length of tokens", lengths_html(scores)),
        section("Prompts that end inside a text", boundaries_html(scores)),
        section("The answer letter", letters_html(scores)),
        section("The same content in other languages", fairness_html(scores, parallel))
        if any(one.fairness is not None for one in scores)
        else "",
        section("Rows that are not used", tokens_html(scores)),
        section("What it costs", model_html(comparison)),
        section("How this was measured", f"<p>{text(comparison.policy())}</p>"),
    ]
    return page(title or few, html, made_by=f"anyvocab {__version__}, anyvocab compare")


def _cards(comparison: TokenizerComparison) -> list[str]:
    cards = [
        card(f"{one.bytes_per_token:.2f}", f"bytes per token, {one.name}")
        for one in comparison.tokenizers[:CARDS]
        if one.is_encoded
    ]
    whole = [one for one in comparison.differences if one.domain is None]
    if len(whole) == 1:
        cards.append(card(f"{whole[0].tokens:+.1%}", f"tokens against {whole[0].baseline}"))
    return cards


def _notes(scores: Sequence[TokenizerScore]) -> str:
    lines = [f"{one.name}: {note}." for one in scores for note in one.notes]
    if not lines:
        return ""
    return f'<div class="warn">{"".join(f"<p>{text(line)}</p>" for line in lines)}</div>'


def summary(scores: Sequence[TokenizerScore]) -> list[tuple[str, list[str]]]:
    """Return the rows of an overview: a title, and a cell for each tokenizer, as text."""
    first = scores[0]

    def row(title: str, cells: Iterable[str]) -> tuple[str, list[str]]:
        return title, list(cells)

    rows = [
        row("model", (one.model_type for one in scores)),
        row("ids", (f"{one.ids:,}" for one in scores)),
        row(
            "bytes per token",
            (f"{one.bytes_per_token:.3f}" if one.is_encoded else "unknown" for one in scores),
        ),
        row(
            f"tokens against {first.name}",
            ("" if one is first else against(one, first) for one in scores),
        ),
        row(
            "tokens of two words or more",
            (f"{sum(one.usage.words.shares[2:]):.1%}" for one in scores),
        ),
        row(
            "ids that occur",
            (f"{one.usage.used:,} ({one.usage.used / one.usage.text_ids:.0%})" for one in scores),
        ),
        row("unreachable", (f"{one.unreachable.count - one.unreachable.seen:,}" for one in scores)),
        row(
            "scaffolds",
            ("–" if one.scaffolds is None else f"{one.scaffolds.count:,}" for one in scores),
        ),
        row(
            "torn at the end of a word",
            (
                "–" if one.boundaries is None else f"{one.boundaries.words.share:.1%}"
                for one in scores
            ),
        ),
        row("answer letters", (_letters(one) for one in scores)),
        row("Rényi efficiency", (f"{one.usage.renyi_efficiency:.3f}" for one in scores)),
        row("entropy, bits per byte", (f"{one.usage.entropy_per_byte:.3f}" for one in scores)),
    ]
    if any(one.fairness is not None for one in scores):
        rows.append(
            row(
                "Gini of the languages",
                (_gini(one) for one in scores),
            )
        )
    if any(one.speed is not None for one in scores):
        rows.append(
            row(
                "encoding, MB per CPU second",
                (
                    "–" if one.speed is None else f"{one.speed.megabytes_per_cpu_second:.1f}"
                    for one in scores
                ),
            )
        )
    return rows


def _gini(score: TokenizerScore) -> str:
    found = score.fairness
    if found is None:
        return "–"
    judged = sum(one.premium is not None for one in found.languages)
    note = "" if judged == len(found.languages) else f" ({judged} of {len(found.languages)})"
    return f"{found.gini:.3f}{note}"


def _letters(score: TokenizerScore) -> str:
    verdicts = [one.verdict for one in score.letters]
    for verdict in ("mixed", "changed"):
        if verdict in verdicts:
            return f"{verdict} ({verdicts.count(verdict)} of {len(verdicts)})"
    return "kept"


def _summary(scores: Sequence[TokenizerScore]) -> str:
    body = [[text(title), *map(text, cells)] for title, cells in summary(scores)]
    return section(
        "At a glance",
        table(["", *(one.name for one in scores)], body, numbers=range(1, len(scores) + 1)),
    )


def _compression(comparison: TokenizerComparison) -> str:
    scores = comparison.tokenizers
    names = [one.name for one in comparison.domains]
    places: list[tuple[str, list[TokenizerScore | DomainTokens]]] = [
        (name, [one.domains[d] for one in scores]) for d, name in enumerate(names)
    ]
    if len(names) > 1:
        places.insert(0, (ALL, list(scores)))
    rows = []
    body = []
    top = 0.0
    for name, found in places:
        marks = []
        for i, one in enumerate(found):
            if not one.is_encoded:
                continue
            ends = None if one.interval is None else (one.interval.low, one.interval.high)
            marks.append(mark(i, scores[i].name, one.bytes_per_token, ends))
            top = max(top, one.bytes_per_token, ends[1] if ends else 0.0)
        rows.append((name, marks))
        known = [one.bytes_per_token for one in found if one.is_encoded]
        cells = [_compressed(one, max(known) if len(known) > 1 else None) for one in found]
        size = f"<small>{found[0].bytes:,}&nbsp;bytes</small>"
        body.append([f"{text(name)}<br>{size}", *cells])
    return section(
        "Bytes per token",
        f'<p class="soft">Further right is better: fewer tokens for the same text. Thin lines and '
        f"small numbers: {comparison.bootstrap.level:.0%} intervals. Between languages the number "
        "also says how many bytes a script needs. Unknown: over 1 % of the bytes became "
        "the unknown token, so that few tokens are no merit.</p>",
        names_legend(enumerate(one.name for one in scores)),
        dots(rows, low=0.0, high=top * 1.04 or 1.0, unit="bytes per token"),
        table(["", *(one.name for one in scores)], body, numbers=range(1, len(scores) + 1)),
    )


def _compressed(one: TokenizerScore | DomainTokens, best: float | None) -> str:
    if not one.is_encoded:
        return "unknown"
    value = f"{one.bytes_per_token:.3f}"
    shown = f"<b>{value}</b>" if one.bytes_per_token == best else value
    if one.interval is None:
        return shown
    return f"{shown}<br><small>{one.interval.low:.3f} to {one.interval.high:.3f}</small>"


def _differences(comparison: TokenizerComparison) -> str:
    if not comparison.differences:
        return ""
    scores = comparison.tokenizers
    number = {one.name: i for i, one in enumerate(scores)}
    grouped: dict[str, list[TokenDifference]] = {}
    for one in comparison.differences:
        if _is_sound(comparison, one) and (one.domain is not None or len(comparison.domains) > 1):
            grouped.setdefault(one.domain or ALL, []).append(one)
    if ALL in grouped:
        grouped = {ALL: grouped.pop(ALL), **grouped}
    if not grouped:
        return ""
    rows = []
    body = []
    ends = [0.0]
    for name, several in grouped.items():
        marks = []
        for one in several:
            interval = one.tokens_interval
            span = None if interval is None else (100 * interval.low, 100 * interval.high)
            marks.append(mark(number[one.tokenizer], one.tokenizer, 100 * one.tokens, span))
            ends += [100 * one.tokens, *(span or ())]
            between = "" if span is None else f"{span[0]:+.1f} % to {span[1]:+.1f} %"
            body.append(
                [
                    text(name if one is several[0] else ""),
                    text(one.tokenizer),
                    f"{one.tokens:+.1%}",
                    between,
                    f"{one.bytes_per_token:+.3f}",
                ]
            )
        rows.append((name, marks))
    room = 0.06 * (max(ends) - min(ends)) or 1.0
    baseline = scores[0].name
    columns = ["", "tokenizer", "tokens", "interval", "bytes per token"]
    return section(
        f"Tokens against {baseline}",
        f'<p class="soft">Tokens for the same bytes, less those of {text(baseline)}; left of the '
        "line is fewer. Intervals come from the same draws for both, so an interval that leaves "
        "out 0 is a difference that other text of the same kind would show too.</p>",
        names_legend(list(enumerate(one.name for one in scores))[1:]),
        dots(
            rows,
            low=min(ends) - room,
            high=max(ends) + room,
            unit=f"tokens against {baseline}, %",
            form="+",
            line=0.0,
        ),
        f"<details><summary>The numbers</summary>{table(columns, body, numbers=(2, 3, 4))}"
        "</details>",
    )


def _is_sound(comparison: TokenizerComparison, one: TokenDifference) -> bool:
    """Return whether both sides of a difference encode their text, and not as unknown tokens."""
    for name in (one.tokenizer, one.baseline):
        score = comparison[name]
        parts = {each.name: each for each in score.domains}
        if not (score if one.domain is None else parts[one.domain]).is_encoded:
            return False
    return True


def _examples(examples: Mapping[str, Mapping[str, Cut]]) -> str:
    if not examples:
        return ""
    html = []
    for name, cuts in examples.items():
        blocks = [
            f"<div><h3>{text(tokenizer)}</h3>"
            f'<p class="soft">{cut.tokens:,} tokens, {cut.bytes_per_token:.2f} bytes each</p>'
            f"{cut_html(cut)}</div>"
            for tokenizer, cut in cuts.items()
        ]
        heading = f"<h3>{text(name)}</h3>" if len(examples) > 1 else ""
        html.append(f'{heading}<div class="pair">{"".join(blocks)}</div>')
    return section(
        "Cut into tokens",
        '<p class="soft">Spaces belong to the token whose colour they have; a title shows id and '
        "spelling. Underlined bytes have no token: a normalizer drops them.</p>",
        *html,
    )
