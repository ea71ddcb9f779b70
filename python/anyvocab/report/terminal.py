"""Cuts, tables and bars for a terminal.

Tokens are background colours, neighbours never the same; where there is no colour, bars stand
between them. A line of the text is a row, so two tokenizers can stand side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from anyvocab.report.visible import NEWLINE

if TYPE_CHECKING:
    from rich.console import Console

    from anyvocab.report.pieces import Cut, Piece

__all__ = ["bar", "cut_lines", "has_colour", "histogram", "palette", "print_cut", "side_by_side"]

SEPARATOR = "│"
SHARED = "·"  # a token without bytes of its own
# Light backgrounds under black text read well on dark terminals and on light ones.
_STYLES = tuple(f"color(16) on color({n})" for n in (157, 189, 223, 159))
_STYLES_OF_16 = ("black on green", "black on cyan", "black on yellow")
_CONTROL = "bold bright_white on magenta"
_GAP = "dim underline"
_MERGED = "bold underline"


def has_colour(console: Console) -> bool:
    """Return whether the console shows colour (a terminal, and NO_COLOR is not set)."""
    return console.color_system is not None and not console.no_color


def palette(console: Console) -> Sequence[str]:
    """Return the background styles that the console can show; none without colour."""
    if not has_colour(console):
        return ()
    return _STYLES_OF_16 if console.color_system in {"standard", "windows"} else _STYLES


def cut_lines(cut: Cut, styles: Sequence[str]) -> list[Text]:
    """Return a text's tokens, one item per line of the text.

    Args:
        cut: The text and its tokens.
        styles: Their styles in turn; bars stand between tokens when there are none.
    """
    lines = [Text()]
    number = 0
    colour = bool(styles)
    for piece in cut.pieces:
        style = _style(piece, number, styles)
        shown = piece.shown if piece.text else SHARED
        number += piece.id is not None
        for i, part in enumerate(shown.split("\n")):
            if i:
                lines.append(Text())
            if part:
                bare = colour or piece.id is not None
                lines[-1].append(part if bare else f"⟨{part}⟩", style)
        if not colour and piece is not cut.pieces[-1]:
            lines[-1].append(SEPARATOR)
    if len(lines) > 1 and not lines[-1].plain.strip(SEPARATOR):
        lines.pop()
    return lines


def _style(piece: Piece, number: int, styles: Sequence[str]) -> str:
    if not styles:
        return ""
    if piece.id is None:
        return _GAP
    if piece.kind == "control":
        return _CONTROL
    style = styles[number % len(styles)]
    return f"{_MERGED} {style}" if piece.merged else style


def print_cut(console: Console, cut: Cut) -> None:
    """Print a text's tokens."""
    for line in cut_lines(cut, palette(console)):
        console.print(line)


def side_by_side(console: Console, cuts: Mapping[str, Cut]) -> None:
    """Print the same text as several tokenizers cut it, aligned by the lines of the text.

    Columns where they fit the terminal, else one line under the other.
    """
    columns = [cut_lines(cut, palette(console)) for cut in cuts.values()]
    height = max(map(len, columns))
    rows = [[column[i] if i < len(column) else Text() for column in columns] for i in range(height)]
    width = max(line.cell_len for column in columns for line in column)
    wide = len(cuts) * (min(width, 44) + 3) <= console.width
    if wide:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for name in cuts:
            table.add_column(Text(name), overflow="fold", ratio=1 if width > 44 else None)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    label = max(map(len, cuts))
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(min_width=label, no_wrap=True)
    table.add_column(overflow="fold")
    shown = [row for row in rows if any(line.plain.strip(NEWLINE + SEPARATOR) for line in row)]
    for i, row in enumerate(shown):
        if i:
            table.add_row("", "")
        for name, line in zip(cuts, row, strict=True):
            table.add_row(Text(name, style="bold"), line)
    console.print(table)


def bar(share: float, width: int = 24) -> str:
    """Return a horizontal bar for a share of 0..1, an eighth of a character fine."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def histogram(lengths: Mapping[int, int], *, last: int = 16) -> Sequence[tuple[str, int]]:
    """Return lengths up to `last` with their counts, everything longer in one row."""
    rows = [(str(n), lengths.get(n, 0)) for n in range(1, last + 1) if any(k >= n for k in lengths)]
    longer = sum(count for length, count in lengths.items() if length > last)
    return [*rows, (f"{last + 1}+", longer)] if longer else rows
