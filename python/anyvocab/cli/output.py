"""What commands print: results to stdout, as tables or as JSON; progress and errors to stderr.

Colour is rich's business: only on a terminal, and never when NO_COLOR is set.
"""

from __future__ import annotations

import io
import json as json_
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "ExitCode",
    "FieldOption",
    "HtmlOption",
    "JsonOption",
    "Output",
    "PatternOption",
    "RevisionOption",
    "SourceArgument",
    "TextsOption",
    "harmless",
    "printable",
]

TITLE_WIDTH = 16  # cells of a terminal: what a column's title takes of one line
COLUMN_GAP = 2

# JSON escapes the controls below 20 itself; these act on some terminals too. Lone surrogates are
# bytes of a path that is not UTF-8; a document that a program reads is.
_ESCAPED_IN_JSON = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *range(0xD800, 0xE000))}


class ExitCode(IntEnum):
    """What the process's exit code says."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    VERIFICATION_FAILED = 3
    INTERRUPTED = 130


SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A folder, a tokenizer file, a hub id, or an embedded model (pico:code-4k).",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
PatternOption = Annotated[
    str | None,
    typer.Option(
        help="For rank files: a known pattern's name or a regular expression.", show_default=False
    ),
]
RevisionOption = Annotated[
    str | None, typer.Option(help="For hub ids: a branch, tag or commit.", show_default=False)
]


TextsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILES",
        help="A text: a file, a folder, a pattern, or NAME=PLACE for one domain of many files. "
        "Every file is a domain. May be given several times.",
        show_default=False,
    ),
]
FieldOption = Annotated[str, typer.Option(help="The member of a .jsonl line that is its text.")]
HtmlOption = Annotated[
    Path | None,
    typer.Option(
        help="Write a self-contained page.", dir_okay=False, writable=True, show_default=False
    ),
]


class Output:
    """Where a command's words go.

    Attributes:
        json: Whether the result is one JSON document.
    """

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        """A rich console on stdout; imported when it is first used."""
        if self._console is None:
            from rich.console import Console

            if isinstance(sys.stdout, io.TextIOWrapper):
                # What the terminal's encoding lacks is escaped, never an error.
                sys.stdout.reconfigure(errors="backslashreplace")
            self._console = Console(highlight=False, soft_wrap=True)
        return self._console

    def document(self, value: Mapping[str, object]) -> None:
        """Print a result as JSON, keys in the order they were given; bytes are not allowed."""
        self.text(json_.dumps(value, ensure_ascii=False, indent=2).translate(_ESCAPED_IN_JSON))

    def text(self, line: str) -> None:
        """Print a line as it is; what the terminal cannot show is escaped, never an error."""
        try:
            sys.stdout.write(line + "\n")
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding or "ascii"
            sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")

    def raw(self, data: bytes) -> None:
        """Write bytes to stdout: as they are to a file or a pipe, made harmless on a terminal."""
        stream = getattr(sys.stdout, "buffer", None)
        if self.is_live or stream is None:  # something that takes text may stand in for stdout
            sys.stdout.write(harmless(data))
        else:
            sys.stdout.flush()
            stream.write(data)
        sys.stdout.flush()

    def result(self, data: bytes) -> None:
        """Write bytes that are the result; on a terminal their last line is ended."""
        self.raw(data + b"\n" if self.is_live and not data.endswith(b"\n") else data)

    @property
    def is_live(self) -> bool:
        """Whether stdout is a terminal."""
        return sys.stdout.isatty()

    def heading(self, title: str) -> None:
        """Print the title of a part, with an empty line before it."""
        from rich.text import Text

        self.console.print()
        self.console.print(Text(title, style="bold"))

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        numbers: Sequence[int] = (),
    ) -> None:
        """Print a table.

        Args:
            columns: Their titles, of one line or several.
            rows: Their cells; text is printed as it is, never as markup.
            numbers: Which columns are aligned to the right.
        """
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for i, column in enumerate(columns):
            title = Text("\n".join(printable(line) for line in column.split("\n")))
            table.add_column(title, justify="right" if i in numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(
                *(cell if isinstance(cell, Text) else Text(printable(str(cell))) for cell in row)
            )
        self.console.print(table)

    def beside(self, corner: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a column of numbers for each name, in as many tables as the width asks for.

        Args:
            corner: The title of the first column, which every table has.
            names: The titles of the others.
            rows: A label and a cell for each name.
        """
        from rich.cells import cell_len

        lines = [[printable(str(cell)) for cell in row] for row in rows]
        titles = ["\n".join(wrap(printable(name), TITLE_WIDTH)) for name in names]

        def width(column: int, title: str) -> int:
            cells = [*title.split("\n"), *(line[column] for line in lines)]
            return max(cell_len(cell) for cell in cells)

        label = width(0, corner)
        groups: list[list[int]] = []
        room = 0
        for column, title in enumerate(titles, 1):
            needed = width(column, title) + COLUMN_GAP
            if not groups or needed > room:
                groups.append([])
                room = self.console.width - label
            groups[-1].append(column)
            room -= needed
        for number, group in enumerate(groups):
            if number:
                self.console.print()
            columns = [corner, *(titles[column - 1] for column in group)]
            cells = [[line[0], *(line[column] for column in group)] for line in lines]
            self.table(columns, cells, numbers=range(1, len(columns)))

    def progress(self, line: str) -> None:
        """Say on stderr what is going on."""
        sys.stderr.write(line.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")
        sys.stderr.flush()

    def error(self, error: Exception) -> None:
        """Say what went wrong: `error: file: field: found; fix`; with `--json` also as JSON."""
        sys.stderr.write(f"error: {_message(error)}\n")
        if self.json:
            self.document(
                {
                    "error": {
                        "type": type(error).__name__,
                        "message": _message(error),
                        "file": getattr(error, "file", None),
                        "field": getattr(error, "field", ""),
                        "fix": getattr(error, "fix", ""),
                    }
                }
            )


def _message(error: Exception) -> str:
    """Return an error's text on one line, without control characters of untrusted files."""
    if isinstance(error, OSError) and error.strerror and not hasattr(error, "field"):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return printable(str(error) or type(error).__name__)


def printable(text: str) -> str:
    """Return text on one line, control characters spelled out: files may not steer a terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def harmless(data: bytes) -> str:
    """Return bytes as text whose lines and tabs stay; other control characters are spelled out."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(c if c in "\n\t" else printable(c) for c in text)
