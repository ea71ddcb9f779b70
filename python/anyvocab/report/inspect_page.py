"""The page of `anyvocab inspect --html`: a vocabulary, a text, and two tokenizers compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from anyvocab.report import svg
from anyvocab.report.page import card, page, section, table, text
from anyvocab.report.visible import visible_bytes

if TYPE_CHECKING:
    from anyvocab.report.facts import TokenFact, VocabularyFacts
    from anyvocab.report.languages import LanguageRow
    from anyvocab.report.pieces import Cut, Piece

__all__ = ["cut_html", "inspect_page"]

PIECES = 20_000  # tokens shown of a text
SCRIPTS = 16
ROLES = 60
LAST_LENGTH = 20


def inspect_page(
    facts: Mapping[str, VocabularyFacts],
    cuts: Mapping[str, Cut],
    languages: Sequence[LanguageRow],
    *,
    origin: str,
) -> str:
    """Return the page.

    Args:
        facts: Name to facts, of one tokenizer or of two to compare.
        cuts: The same names to the cuts of one text; empty for no text.
        languages: Rows with a count for each tokenizer.
        origin: Where the languages' text comes from.
    """
    from anyvocab._core import __version__

    names = list(facts)
    html = [f"<h1>{text(' and '.join(names))}</h1>"]
    if cuts:
        html.append(_cuts(cuts))
    if languages:
        html.append(_languages(names, languages, origin))
    if len(facts) > 1:
        html.append(_compared(facts))
    html += [_vocabulary(one, heading=len(facts) > 1) for one in facts.values()]
    return page(" and ".join(names), html, made_by=f"anyvocab {__version__}, anyvocab inspect")


def cut_html(cut: Cut, *, limit: int = PIECES) -> str:
    """Return a text with its tokens as background colours; a title says id, bytes, spelling."""
    parts = []
    number = 0
    for piece in cut.pieces[:limit]:
        parts.append(_piece(piece, number))
        number += piece.id is not None
    more = len(cut.pieces) - limit
    note = f"<p><small>and {more:,} more tokens, not shown</small></p>" if more > 0 else ""
    return f'<pre dir="auto">{"".join(parts)}</pre>{note}'


def _piece(piece: Piece, number: int) -> str:
    if piece.id is None:
        css, title = "gap", "no token: the normalizer drops these bytes"
    else:
        css = "control" if piece.kind == "control" else f"t{number % 4}"
        stands_for = piece.text if piece.token is None else piece.token
        spelled = piece.spelling.decode("utf-8", "backslashreplace")
        count = len(stands_for)
        title = f"id {piece.id} · {count} byte{'s' * (count != 1)}"
        title += f" · {visible_bytes(spelled.encode())}" if spelled else ""
        if piece.merged:
            css += " merged"
            parts = " | ".join(map(visible_bytes, piece.merged))
            title += f" · merged from {len(piece.merged)}: [{parts}]"
        if piece.token is not None and piece.token != piece.text:
            title += f" · stands for [{visible_bytes(piece.token)}]"
    shown = text(piece.shown).replace("⏎", '<i class="hid">⏎</i>') if piece.text else "·"
    return f'<span class="{css}" title="{text(title)}">{shown}</span>'


def _cuts(cuts: Mapping[str, Cut]) -> str:
    blocks = []
    for name, cut in cuts.items():
        numbers = (
            f"{cut.tokens:,} tokens, {len(cut.text):,} bytes, {cut.bytes_per_token:.2f} per token"
        )
        blocks.append(
            f'<div><h3>{text(name)}</h3><p class="soft">{numbers}</p>{cut_html(cut)}</div>'
        )
    gaps = any(piece.id is None for cut in cuts.values() for piece in cut.pieces)
    note = "Spaces belong to the token whose colour they have; a title shows id and spelling."
    if gaps:
        note += " Underlined bytes have no token: the normalizer drops them."
    return section(
        "A text as tokens",
        f'<div class="pair">{"".join(blocks)}</div><p><small>{text(note)}</small></p>',
    )


def _languages(names: Sequence[str], rows: Sequence[LanguageRow], origin: str) -> str:
    top = max((max(row.bytes_per_token) for row in rows), default=0.0) or 1.0
    body = []
    for row in rows:
        bars = "".join(
            svg.bar(value / top, svg.CLASSES[i]) for i, value in enumerate(row.bytes_per_token)
        )
        values = [f"{value:.2f}" for value in row.bytes_per_token]
        body.append([text(row.language), f"{row.bytes:,}", *values, bars])
    grid = table(["language", "bytes", *names, ""], body, numbers=range(1, 2 + len(names)))
    grid = grid.replace("<td><svg", '<td class="bars"><svg')
    return section(
        "Bytes per token by language",
        f'<p class="soft">{text(origin)}. More is better: fewer tokens for the same text.</p>',
        svg.legend(names) if len(names) > 1 else "",
        grid,
    )


def _shares(facts: VocabularyFacts) -> list[tuple[str, float]]:
    total = sum(facts.lengths.values()) or 1
    longest = max(facts.lengths, default=1)
    points = [
        (str(n), facts.lengths.get(n, 0) / total) for n in range(1, min(longest, LAST_LENGTH) + 1)
    ]
    longer = sum(count for length, count in facts.lengths.items() if length > LAST_LENGTH)
    return [*points, (f">{LAST_LENGTH}", longer / total)] if longer else points


def _compared(facts: Mapping[str, VocabularyFacts]) -> str:
    series = [(name, _shares(one)) for name, one in facts.items()]
    rows = [
        ("ids", [f"{one.ids:,}" for one in facts.values()]),
        ("model", [one.model_type for one in facts.values()]),
        ("mean length in bytes", [f"{one.mean_length:.2f}" for one in facts.values()]),
        ("spanning several words", [f"{one.multiword:,}" for one in facts.values()]),
        ("not UTF-8 on their own", [f"{one.partial_utf8:,}" for one in facts.values()]),
    ]
    body = [[text(label), *map(text, cells)] for label, cells in rows]
    return section(
        "The vocabularies compared",
        table(["", *facts], body, numbers=range(1, 1 + len(facts))),
        svg.legend(list(facts)),
        svg.columns(series, unit="bytes in a token"),
    )


def _vocabulary(facts: VocabularyFacts, *, heading: bool) -> str:
    cards = [
        card(f"{facts.ids:,}", "ids"),
        card(facts.model_type, f"from {facts.format}"),
        card(f"{facts.mean_length:.2f}", "mean length in bytes"),
        card(f"{facts.partial_utf8:,}", "not UTF-8 on their own"),
        card(f"{facts.multiword:,}", "spanning several words"),
        card(f"{facts.duplicates:,}", "bytes that several ids share"),
        card(f"{facts.unreachable:,}", "unreachable"),
        card(f"{facts.holes:,}", "holes"),
        card(f"{facts.missing_bytes:,}", "bytes without a token"),
    ]
    problems = "".join(f"<p>{text(problem)}</p>" for problem in facts.problems[:ROLES])
    parts = [
        section(
            facts.name if heading else "The vocabulary", f'<ul class="cards">{"".join(cards)}</ul>'
        ),
        f"<h3>Kinds of ids</h3>{svg.stacked(list(facts.kinds.items()))}",
    ]
    if problems:
        parts.append(f'<div class="warn"><h3>Declarations that fit no token</h3>{problems}</div>')
    parts += [
        "<h3>Length of tokens</h3>",
        svg.columns([(facts.name, _shares(facts))], unit="bytes in a token"),
        f"<h3>Scripts of tokens</h3>{_scripts(facts)}",
        _roles(facts),
        _examples("Longest tokens", facts.longest),
        _examples("Tokens of several words", facts.multiword_examples),
        _examples("Unreachable tokens", facts.unreachable_examples),
        _shared(facts),
    ]
    return "".join(parts)


def _scripts(facts: VocabularyFacts) -> str:
    scripts = list(facts.scripts.items())
    rest = scripts[SCRIPTS:]
    if rest:
        more = (f"{len(rest)} more", sum(count for _, count in rest))
        scripts = [*scripts[:SCRIPTS], more]
    total = sum(facts.scripts.values()) or 1
    top = max((count for _, count in scripts), default=1)
    rows = [
        [text(name), f"{count:,}", f"{count / total:.1%}", svg.bar(count / top)]
        for name, count in scripts
    ]
    grid = table(["script", "tokens", "share", ""], rows, numbers=(1, 2))
    return grid.replace("<td><svg", '<td class="bars"><svg')


def _roles(facts: VocabularyFacts) -> str:
    if not facts.roles:
        return '<h3>Roles</h3><p class="soft">No source gives any id a role.</p>'
    merged: dict[tuple[str, int, str], list[str]] = {}
    for role in facts.roles:
        merged.setdefault((role.role, role.id, role.token), []).append(role.source)
    rows = [
        [text(role), str(id), f"<code>{text(token)}</code>", text(", ".join(sources))]
        for (role, id, token), sources in list(merged.items())[:ROLES]
    ]
    more = len(merged) - len(rows)
    note = f"<p><small>and {more} more</small></p>" if more > 0 else ""
    return f"<h3>Roles</h3>{table(['role', 'id', 'token', 'says who'], rows, numbers=(1,))}{note}"


def _examples(title: str, examples: Sequence[TokenFact]) -> str:
    if not examples:
        return ""
    rows = [[str(one.id), str(one.bytes), f"<code>{text(one.text)}</code>"] for one in examples]
    return f"<h3>{text(title)}</h3>{table(['id', 'bytes', 'token'], rows, numbers=(0, 1))}"


def _shared(facts: VocabularyFacts) -> str:
    if not facts.duplicate_examples:
        return ""
    rows = [
        [f"<code>{text(one.text)}</code>", text(", ".join(map(str, one.ids)))]
        for one in facts.duplicate_examples
    ]
    return f"<h3>Ids with the same bytes</h3>{table(['bytes', 'ids'], rows)}"
