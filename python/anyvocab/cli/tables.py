"""The tables that several commands print: facts, cuts, languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from anyvocab.cli.output import Output

if TYPE_CHECKING:
    from anyvocab.report import Cut, LanguageRow, VocabularyFacts
    from anyvocab.report.facts import TokenFact

__all__ = ["print_cuts", "print_facts", "print_languages"]

SCRIPTS = 14
IDS = 48
EXAMPLES = 40


def print_facts(output: Output, facts: VocabularyFacts) -> None:
    """Print everything `inspect` knows of a vocabulary."""
    from anyvocab.report.terminal import bar, histogram
    from anyvocab.report.visible import visible

    output.heading(facts.name)
    rows: list[tuple[str, object]] = [
        ("model", f"{facts.model_type} from {facts.format}"),
        ("ids", facts.ids),
        *((f"  {kind}", count) for kind, count in facts.kinds.items()),
        ("mean length in bytes", f"{facts.mean_length:.2f}"),
        ("not UTF-8 on their own", facts.partial_utf8),
        ("spanning several words", facts.multiword),
        ("bytes that several ids share", facts.duplicates),
        ("unreachable", facts.unreachable),
        ("empty", facts.empty),
        ("bytes without a token", facts.missing_bytes),
    ]
    output.table(["vocabulary", ""], rows, numbers=[1])

    tokens = sum(facts.lengths.values()) or 1
    bins = histogram(facts.lengths)
    top = max((count for _, count in bins), default=1) or 1
    output.heading("Length of tokens")
    output.table(
        ["bytes", "tokens", "share", ""],
        [(name, n, f"{n / tokens:.1%}", bar(n / top)) for name, n in bins],
        numbers=[0, 1, 2],
    )
    output.heading("Scripts of tokens")
    scripts = list(facts.scripts.items())
    rest = sum(count for _, count in scripts[SCRIPTS:])
    if rest:
        more = len(scripts) - SCRIPTS
        scripts = [*scripts[:SCRIPTS], (f"{more} more", rest)]
    top = max((count for _, count in scripts), default=1)
    output.table(
        ["script", "tokens", "share", ""],
        [(name, n, f"{n / tokens:.1%}", bar(n / top)) for name, n in scripts],
        numbers=[1, 2],
    )
    _print_roles(output, facts)
    _print_examples(output, "Longest tokens", facts.longest)
    _print_examples(output, "Tokens of several words", facts.multiword_examples)
    _print_examples(output, "Unreachable tokens", facts.unreachable_examples)
    if facts.duplicate_examples:
        output.heading("Ids with the same bytes")
        output.table(
            ["bytes", "ids"],
            [(one.text, " ".join(map(str, one.ids))) for one in facts.duplicate_examples],
        )
    if facts.problems:
        output.heading("Declarations that fit no token")
        for problem in facts.problems[:EXAMPLES]:
            output.text(visible(problem))
        if len(facts.problems) > EXAMPLES:
            output.text(f"and {len(facts.problems) - EXAMPLES} more; --json lists all")


def _print_roles(output: Output, facts: VocabularyFacts) -> None:
    if not facts.roles:
        return
    output.heading("Roles")
    merged: dict[tuple[str, int, str], list[str]] = {}
    for role in facts.roles:
        merged.setdefault((role.role, role.id, role.token), []).append(role.source)
    shown = list(merged.items())[:EXAMPLES]
    output.table(
        ["role", "id", "token", "says who"],
        [
            (role, id, token, ", ".join(sources[:3]) + (", ..." if len(sources) > 3 else ""))
            for (role, id, token), sources in shown
        ],
        numbers=[1],
    )
    if len(merged) > len(shown):
        output.text(f"and {len(merged) - len(shown)} more; --json lists all")


def _print_examples(output: Output, title: str, examples: Sequence[TokenFact]) -> None:
    if not examples:
        return
    output.heading(title)
    output.table(
        ["id", "bytes", "token"],
        [(one.id, one.bytes, f"[{one.text}]") for one in examples],
        numbers=[0, 1],
    )


def print_cuts(output: Output, cuts: Mapping[str, Cut], limit: int) -> None:
    """Print a text's tokens, side by side where there are several tokenizers.

    Args:
        output: Where to.
        cuts: Name to cut.
        limit: Texts above this many bytes are not shown.
    """
    from anyvocab.report.terminal import has_colour, print_cut, side_by_side

    size = max(len(cut.text) for cut in cuts.values())
    if size > limit:
        output.text(f"a text of {size} bytes is not shown token by token (limit {limit})")
        return
    if len(cuts) == 1:
        (cut,) = cuts.values()
        output.console.print()
        print_cut(output.console, cut)
        ids = [str(piece.id) for piece in cut.pieces if piece.id is not None]
        if len(ids) <= IDS:
            output.console.print()
            output.text("ids: " + " ".join(ids))
    else:
        output.console.print()
        side_by_side(output.console, cuts)
    if any(piece.id is None for cut in cuts.values() for piece in cut.pieces):
        how = "underlined" if has_colour(output.console) else "between ⟨ and ⟩"
        output.text(f"Bytes {how} have no token: the normalizer drops them.")


def print_languages(output: Output, names: Sequence[str], rows: Sequence[LanguageRow]) -> None:
    """Print bytes per token, language by language."""
    from anyvocab.report.terminal import bar

    output.heading("Bytes per token by language")
    columns = ["language", "bytes", *names]
    numbers = list(range(1, 2 + len(names)))
    top = max((max(row.bytes_per_token) for row in rows), default=1.0) or 1.0
    body: list[list[object]] = []
    for row in rows:
        cells: list[object] = [row.language, row.bytes]
        cells += [f"{one:.2f}" for one in row.bytes_per_token]
        if len(names) == 2:
            first, second = row.tokens
            cells.append(f"{(second - first) / first:+.0%}" if first else "")
        else:
            cells.append(bar(row.bytes_per_token[0] / top))
        body.append(cells)
    if len(names) == 2:
        columns.append("tokens, second to first")
        numbers.append(len(columns) - 1)
    else:
        columns.append("")
    total = sum(row.bytes for row in rows)
    sums = [sum(counts) for counts in zip(*(row.tokens for row in rows), strict=True)]
    last: list[object] = ["all", total, *(f"{total / n if n else 0:.2f}" for n in sums)]
    if len(names) == 2:
        last.append(f"{(sums[1] - sums[0]) / sums[0]:+.0%}" if sums[0] else "")
    output.table(columns, [*body, last], numbers=numbers)
