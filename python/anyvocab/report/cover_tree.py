"""The covers of a prompt, drawn: tokens as boxes over the bytes they spell, branches as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from anyvocab.report.page import text
from anyvocab.report.svg import CLASSES
from anyvocab.report.visible import visible, visible_bytes

if TYPE_CHECKING:
    from anyvocab.report.covers import CoverContext, Explanation, TokenShare

__all__ = ["byte_cells", "cover_tree", "percent"]

_CELL: Final = 15  # px that a byte is wide
_ROW: Final = 30  # px from a row to the next
_BOX: Final = 22  # px that a token is high
_LEFT: Final = 26  # px for the mark of what is not shown
_NUMBERS: Final = 250  # px for shares and their bars, at the right
_BEFORE: Final = 34  # bytes shown before the end at most
_OVER: Final = (10, 14)  # bytes shown over the end, at least and at most
_MARKS: Final = {"\n": "⏎", "\t": "⇥", "\r": "␍", " ": "␣"}


def percent(share: float) -> str:
    """Return a share as a percentage, as fine as it has to be.

    >>> percent(0.9), percent(0.0123), percent(2e-7)
    ('90.0%', '1.23%', '<0.01%')
    """
    if 0 < share < 1e-4:
        return "<0.01%"
    return f"{share:.1%}" if share >= 0.1 or not share else f"{share:.2%}"


def byte_cells(data: bytes) -> Iterator[tuple[int, int, str]]:
    r"""Yield what is shown of bytes: where, over how many bytes, and the text.

    A whole character stands over all of its bytes; a byte of a character that is not whole is two
    hexadecimal digits.

    >>> list(byte_cells(b"a \xc3\xa9\xc3"))
    [(0, 1, 'a'), (1, 1, '␣'), (2, 2, 'é'), (4, 1, 'c3')]
    """
    at = 0
    while at < len(data):
        for size in range(1, 5):
            try:
                character = data[at : at + size].decode("utf-8")
            except UnicodeDecodeError:
                continue
            shown = _MARKS.get(character) or visible(character)
            yield at, size, shown if len(shown) <= 2 * size else "�"
            at += size
            break
        else:
            yield at, 1, f"{data[at]:02x}"
            at += 1


@dataclass
class _Node:
    """A token that covers begin with, and what follows it."""

    token: TokenShare
    start: int
    share: float = 0.0
    context: int | None = None
    children: dict[int, _Node] = field(default_factory=dict)


@dataclass(frozen=True)
class _Leaf:
    """The end of a cover: a token over the prompt's end, the rest of them, or the end itself."""

    context: int
    start: int
    token: TokenShare | None
    share: float
    more: bool = False


def cover_tree(found: Explanation) -> str:
    """Return the drawing of an explanation's covers, and beside each its share of the mass.

    Rows are contexts and the tokens by which they reach the end; a token is drawn where covers
    first differ in it. Colours are those of the contexts, in their order.
    """
    root = _grow(found)
    trunk, top = _trunk(root)
    edge = len(found.text) - _BEFORE
    begin = min((node.start for node in trunk if node.start >= edge), default=max(0, edge))
    drawing = _Drawing(found, begin)
    x = drawing.x(begin)
    for node in trunk:
        drawing.box(node.token.bytes, node.start, 0, drawing.css(node))
        x = drawing.x(node.start + len(node.token.bytes))
    rows = drawing.branches(top, 0, x)
    return drawing.finish(max(1, rows))


def _grow(found: Explanation) -> _Node:
    from anyvocab.report.covers import TokenShare

    root = _Node(TokenShare(-1, b""), 0)
    for number, context in enumerate(found.contexts):
        node, at = root, len(found.text) - context.open
        at -= sum(len(one.bytes) for one in context.tokens)
        root.start = min(root.start, at)
        for one in context.tokens:
            node.share += context.share
            node = node.children.setdefault(one.id, _Node(one, at))
            at += len(one.bytes)
        node.share += context.share
        node.context = number
    return root


def _trunk(root: _Node) -> tuple[list[_Node], _Node]:
    """Return the tokens that every cover has, and the node behind them."""
    trunk, node = [], root
    while len(node.children) == 1 and node.context is None:
        (node,) = node.children.values()
        trunk.append(node)
    return trunk, node


class _Drawing:
    def __init__(self, found: Explanation, begin: int) -> None:
        self.found = found
        self.begin = begin
        self.end = len(found.text)
        over = [len(top.bytes) - context.open for context in found.contexts for top in context.tops]
        self.over = min(_OVER[1], max([_OVER[0], *over]))
        self.width = self.x(self.end + self.over) + _NUMBERS
        self.top = 58
        self.parts: list[str] = []

    def x(self, at: int) -> float:
        return _LEFT + (at - self.begin) * _CELL

    def y(self, row: int) -> float:
        return self.top + row * _ROW

    def branches(self, node: _Node, row: int, x: float) -> int:
        """Draw what follows a node, from a row on; return the next free row."""
        above = row
        for number, branch in enumerate(self._branches(node)):
            if number:
                self._joint(x, above, row, onward=number > 1)
                above = row
            if isinstance(branch, _Leaf):
                self._leaf(branch, row)
                row += 1
                continue
            self.box(branch.token.bytes, branch.start, row, self.css(branch), share=branch.share)
            row = self.branches(branch, row, self.x(branch.start + len(branch.token.bytes)))
        return row

    def css(self, node: _Node) -> str:
        """Return a token's colour: its context's where it ends with the prompt."""
        if node.context is None or self.found.contexts[node.context].open:
            return "h"
        return CLASSES[node.context % len(CLASSES)]

    def _branches(self, node: _Node) -> list[_Node | _Leaf]:
        branches: list[_Node | _Leaf] = list(node.children.values())
        if node.context is not None:
            branches += _leaves(self.found.contexts[node.context], node.context, self.end)
        return sorted(branches, key=lambda one: (isinstance(one, _Leaf) and one.more, -one.share))

    def _joint(self, x: float, above: int, row: int, *, onward: bool) -> None:
        """Draw how a branch hangs on the one before it."""
        up, down = self.y(above) + (_BOX / 2 - 4 if onward else _BOX), self.y(row) + _BOX / 2
        self.parts.append(f'<path d="M{x - 4:.1f} {up:.1f}V{down - 4:.1f}q0 4 4 4" class="joint"/>')

    def box(self, token: bytes, start: int, row: int, css: str, *, share: float = 0.0) -> None:
        """Draw a token over its bytes; the part over the prompt's end is shaded."""
        end = start + len(token)
        left, right = max(start, self.begin), min(end, self.end + self.over)
        if right <= left:
            return
        y, name = self.y(row), text(f"[{visible_bytes(token)}]".replace("\n", ""))
        said = f"{name}, {text(percent(share))} of the mass" if share else name
        self.parts.append(f"<g><title>{said}</title>")
        self.parts.append(
            f'<rect x="{self.x(left) + 1:.1f}" y="{y}" width="{(right - left) * _CELL - 2}" '
            f'height="{_BOX}" rx="4" class="box {css}"/>'
        )
        if end > self.end:
            over = max(left, self.end)
            self.parts.append(
                f'<rect x="{self.x(over):.1f}" y="{y}" width="{(right - over) * _CELL - 1}" '
                f'height="{_BOX}" rx="4" class="over {css}"/>'
            )
        self._bytes(token, start, y + 15.5)
        self.parts.append("</g>")

    def _bytes(self, data: bytes, start: int, y: float, css: str = "mono") -> None:
        edge = self.end + self.over
        for at, size, shown in byte_cells(data):
            first = start + at
            if first < self.begin or first >= edge:
                continue
            cut = first + size >= edge and start + len(data) > edge
            kind = f"{css} mark" if shown in _MARKS.values() or cut else css
            middle = self.x(first) + size * _CELL / 2
            self.parts.append(
                f'<text x="{middle:.1f}" y="{y:.1f}" class="{kind}" text-anchor="middle">'
                f"{'…' if cut else text(shown)}</text>"
            )

    def _leaf(self, leaf: _Leaf, row: int) -> None:
        y, css = self.y(row), CLASSES[leaf.context % len(CLASSES)]
        if leaf.token is not None:
            self.box(leaf.token.bytes, leaf.start, row, css, share=leaf.share)
        else:
            said = "more tokens" if leaf.more else "ends with the prompt"
            x = self.x(self.end)
            self.parts.append(f'<text x="{x + 7:.1f}" y="{y + 15}">{said}</text>')
        x = self.width - _NUMBERS + 14
        bar = max(1.0, 150 * min(1.0, leaf.share))
        self.parts.append(
            f'<rect x="{x}" y="{y + 6}" width="{bar:.1f}" height="10" class="{css}"/>'
            f'<text x="{self.width - 4}" y="{y + 15}" text-anchor="end">'
            f"{text(percent(leaf.share))}</text>"
        )

    def finish(self, rows: int) -> str:
        """Return the whole drawing: the prompt above, its end as a line, and the rows."""
        high, edge = self.y(rows) + 2, self.x(self.end)
        drawn, self.parts = self.parts, []
        self._bytes(self.found.text, 0, self.top - 20, "mono strong")
        head = [
            f'<text x="{edge:.1f}" y="14" text-anchor="middle">the prompt ends here</text>',
            f'<path d="M{edge:.1f} 20V{high:.1f}" class="edge"/>',
            f'<text x="{self.width - 4}" y="{self.top - 20}" text-anchor="end">'
            "share of the mass</text>",
        ]
        if self.begin > 0:
            head.append(f'<text x="6" y="{self.top - 20}">…</text>')
            head.append(f'<text x="6" y="{self.top + 15}">…</text>')
        said = "Covers of the prompt as a tree of tokens over its bytes"
        return (
            f'<div class="wrap"><svg class="tree" role="img" aria-label="{said}" '
            f'width="{self.width:.0f}" height="{high:.0f}" '
            f'viewBox="0 0 {self.width:.0f} {high:.0f}">'
            f"{''.join([*head, *self.parts, *drawn])}</svg></div>"
        )


def _leaves(context: CoverContext, number: int, end: int) -> Sequence[_Leaf]:
    """Return how a context reaches the prompt's end."""
    start = end - context.open
    if not context.open:
        return [_Leaf(number, start, None, context.share)]
    found = [_Leaf(number, start, one, one.share) for one in context.tops]
    rest = context.share - sum(one.share for one in context.tops)
    # A context whose listed tokens are all it has leaves rounding behind, and no row.
    return [*found, _Leaf(number, start, None, rest, more=True)] if rest > 1e-9 else found
