"""The explanation of a prompt's end on a terminal: covers, and how the next byte arises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyvocab.cli.output import Output

if TYPE_CHECKING:
    from rich.text import Text

    from anyvocab.report.covers import CoverContext, Explanation

__all__ = ["print_explanation"]

TOKENS = 5  # of a context that are shown
WIDTH = 18  # characters of a bar


def print_explanation(output: Output, found: Explanation) -> None:
    """Print the covers of a prompt, their weights, and what each adds to the next byte."""
    from anyvocab.report.cover_page import missing_said, next_byte_name
    from anyvocab.report.cover_tree import percent
    from anyvocab.report.terminal import bar

    output.heading("Covers of the prompt")
    rows: list[list[object]] = []
    for number, context in enumerate(found.contexts):
        tops = "  ".join(f"{_name(top.bytes)} {percent(top.share)}" for top in context.tops)
        rows.append(
            [
                chr(ord("A") + number),
                percent(context.share),
                bar(context.share, 10),
                _tokens(output, found, context),
                tops or "(ends with the prompt)",
            ]
        )
    if found.others[0]:
        rows.append(["", percent(found.others[1]), "", f"{found.others[0]} more contexts", ""])
    output.table(
        ["", "share", "", "tokens inside the prompt", "tokens over its end"], rows, numbers=[1]
    )
    output.heading("The next byte")
    names = [chr(ord("A") + i) for i in range(len(found.contexts))]
    top = max(max(one.probability, one.plain) for one in found.bytes) or 1.0
    output.table(
        ["byte", "by bytes", "", *names, "plain tokens", ""],
        [
            [
                next_byte_name(one.byte),
                percent(one.probability),
                bar(one.probability / top, WIDTH),
                *(percent(part) if part else "" for part in one.parts),
                percent(one.plain),
                bar(one.plain / top, WIDTH),
            ]
            for one in found.bytes
        ],
        numbers=[1, *range(3, 4 + len(names))],
    )
    output.text("")
    output.text(
        f"{percent(found.plain_share)} of the mass is in the prompt's own tokens; the two "
        f"distributions are {found.distance:.2f} apart (0: the same, 1: nothing shared)."
    )
    if said := missing_said(found):
        output.text(said)


def _name(token: bytes) -> str:
    from anyvocab.report.visible import visible_bytes

    return f"[{visible_bytes(token)}]".replace("\n", "")


def _tokens(output: Output, found: Explanation, context: CoverContext) -> Text:
    """Return the last tokens of a context, and the bytes behind them that they do not reach."""
    from rich.text import Text

    from anyvocab.report.terminal import SEPARATOR, palette
    from anyvocab.report.visible import visible_bytes

    styles = palette(output.console)
    shown = context.tokens[-TOKENS:]
    line = Text("… " if len(shown) < len(context.tokens) else "")
    first = len(context.tokens) - len(shown)
    for number, token in enumerate(shown, first):
        if number > first and not styles:
            line.append(SEPARATOR)
        style = styles[number % len(styles)] if styles else ""
        line.append(visible_bytes(token.bytes).replace("\n", ""), style)
    if context.open:
        rest = visible_bytes(found.text[len(found.text) - context.open :]).replace("\n", "")
        line.append(f"⟨{rest}⟩", "dim")
    return line
