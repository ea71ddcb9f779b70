"""The page of `anyvocab complete --html`: what stands behind the next byte of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from anyvocab.report.cover_tree import cover_tree, percent
from anyvocab.report.page import card, page, section, table, text
from anyvocab.report.svg import CLASSES, legend
from anyvocab.report.visible import visible_bytes

if TYPE_CHECKING:
    from anyvocab.report.covers import CoverContext, Explanation, TokenShare

__all__ = ["context_name", "cover_page", "missing_said", "next_byte_name"]

END = 256
_REST = "h"  # the colour of what belongs to no context that is listed
_PLAIN = "f"
_SHOWN_TEXT = 600  # bytes of a prompt that the page shows


def cover_page(
    name: str, found: Explanation, written: Sequence[tuple[str, bytes, float]] = ()
) -> str:
    """Return the page.

    Args:
        name: The model.
        found: Its view of a prompt.
        written: Continuations: how each was made, its bytes, and their log-probability under the
            byte-level model, in nats.
    """
    from anyvocab._core import __version__

    html = [
        f"<h1>What {text(name)} sees at the end of a prompt</h1>",
        _prompt(found),
        _cards(found),
        _missing(found),
        section(
            "The covers of the prompt",
            '<p class="soft">A cover is a sequence of tokens that spells the prompt, and its last '
            "token perhaps more. Every token stands over the bytes it spells; what reaches over "
            "the end is shaded. The model may be inside any of them: their shares say how probably."
            "</p>",
            cover_tree(found),
            _others(found),
        ),
        _next_bytes(found),
    ]
    if written:
        html.append(_written(found, written))
    html.append(_method(found))
    return page(
        f"{name}: covers", html, made_by=f"anyvocab {__version__}, anyvocab complete --explain"
    )


def context_name(context: CoverContext) -> str:
    """Return a context in a few characters: its last token, and how far it is from the end."""
    last = visible_bytes(context.tokens[-1].bytes).replace("\n", "") if context.tokens else ""
    behind = f"behind [{last}]" if context.tokens else "from the start"
    if not context.open:
        return f"{behind}, at the end"
    return f"{behind}, {context.open} byte{'s' * (context.open > 1)} before the end"


def next_byte_name(byte: int) -> str:
    r"""Return a next byte as a reader sees it: a space as ␣, a byte that is no text as \xNN."""
    if byte == END:
        return "END"
    if byte == ord(" "):
        return "␣"
    return visible_bytes(bytes([byte])).replace("\n", "")


def _prompt(found: Explanation) -> str:
    shown = found.text[-_SHOWN_TEXT:]
    more = "…" if len(shown) < len(found.text) else ""
    return (
        f'<pre dir="auto">{more}{text(visible_bytes(shown))}<span class="t2" title="the end">'
        "&#8203;▏</span></pre>"
    )


def _cards(found: Explanation) -> str:
    cards = [
        card(percent(found.plain_share), "of the mass is in the prompt's own tokens"),
        card(f"{found.distance:.2f}", "how far plain tokens are off: 0 the same, 1 nothing shared"),
        card(len(found.contexts) + found.others[0], "contexts that covers begin with"),
        card(found.law, "law"),
    ]
    return f'<ul class="cards">{"".join(cards)}</ul>'


def _missing(found: Explanation) -> str:
    said = missing_said(found)
    return f'<div class="warn"><p>{text(said)}</p></div>' if said else ""


def missing_said(found: Explanation) -> str:
    """Return a sentence on the mass that is not accounted for; nothing where there is none."""
    if not found.missing:
        return ""
    return (
        f"Up to {percent(found.missing)} of the next byte's probability is not accounted for: the "
        f"law {found.law} did not evaluate every context. All shares are of what it did."
    )


def _others(found: Explanation) -> str:
    count, share = found.others
    if not count:
        return ""
    return f'<p class="soft">and {count} more contexts with {text(percent(share))} of the mass</p>'


def _next_bytes(found: Explanation) -> str:
    top = max(max(one.probability, one.plain) for one in found.bytes) or 1.0
    rows = []
    for one in found.bytes:
        parts = [
            (part, CLASSES[i % len(CLASSES)], context_name(context))
            for i, (part, context) in enumerate(zip(one.parts, found.contexts, strict=True))
        ]
        parts.append((one.rest, _REST, "other contexts"))
        plain = [(one.plain, _PLAIN, "plain tokens")]
        rows.append(
            [
                f"<code>{text(next_byte_name(one.byte))}</code>",
                f"{text(percent(one.probability))}<br><small>{text(percent(one.plain))}</small>",
                _bar(parts, top, "bar tall") + _bar(plain, top, "bar"),
            ]
        )
    grid = table(["byte", "probability", ""], rows, numbers=(1,))
    grid = grid.replace("<td><svg", '<td class="bars broad"><svg')
    names = [f"{context_name(one)} ({percent(one.share)})" for one in found.contexts]
    classes = [CLASSES[i % len(CLASSES)] for i in range(len(names))]
    if any(one.rest > 1e-9 for one in found.bytes):
        names.append("other contexts")
        classes.append(_REST)
    return section(
        "The next byte",
        '<p class="soft">Thick bars: its probability given the bytes, and which context adds how '
        "much. Thin bars and small numbers: what the model says behind the prompt's own tokens, "
        "which is what plain generation draws from.</p>",
        legend([*names, "plain tokens"], [*classes, _PLAIN]),
        grid,
    )


def _bar(parts: Sequence[tuple[float, str, str]], top: float, css: str) -> str:
    at, drawn = 0.0, []
    for share, colour, name in parts:
        width = 100 * share / top
        if width > 0:
            drawn.append(
                f'<rect class="{colour}" x="{at:.3f}" width="{width:.3f}" height="10">'
                f"<title>{text(name)}: {text(percent(share))}</title></rect>"
            )
        at += width
    return (
        f'<svg class="{css}" viewBox="0 0 100 10" preserveAspectRatio="none" role="img">'
        f"{''.join(drawn)}</svg>"
    )


def _written(found: Explanation, written: Sequence[tuple[str, bytes, float]]) -> str:
    tail = found.text[found.text.rfind(b"\n", 0, max(0, len(found.text) - 1)) + 1 :][-_SHOWN_TEXT:]
    blocks = []
    for how, more, nats in written:
        shown = text(visible_bytes(tail)) + f'<span class="t0">{text(visible_bytes(more))}</span>'
        blocks.append(
            f'<div><h3>{text(how)}</h3><pre dir="auto">{shown}</pre>'
            f"<p><small>{nats:.2f} nats, as the byte-level model sees these bytes</small></p></div>"
        )
    return section("What is written", f'<div class="pair">{"".join(blocks)}</div>')


def _method(found: Explanation) -> str:
    tokens = " ".join(f"<code>{text(_name(one))}</code>" for one in found.plain_tokens[-24:])
    more = "… " if len(found.plain_tokens) > 24 else ""
    return section(
        "How to read this",
        f"<p>The prompt's own tokens: {more}{tokens}. A model that is given them is told that a "
        "token ends where the prompt ends. If in its training text a token reached over such an "
        "end, that is information the prompt does not hold.</p>",
        "<p>A context adds to a byte the mass of its covers that go on with it. Nothing is sampled "
        "and nothing is fitted: the numbers are the model's, summed under the law "
        f"{text(found.law)}.</p>",
    )


def _name(one: TokenShare) -> str:
    return visible_bytes(one.bytes).replace("\n", "")
