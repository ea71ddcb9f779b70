"""Text made visible: what cannot be seen, or would act on a terminal or a page, is spelled out.

Spaces stay spaces: background colour shows them. A line break is shown and then made.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

__all__ = ["NEWLINE", "one_line", "visible", "visible_bytes"]

NEWLINE = "⏎"
_SHOWN = {"\n": NEWLINE + "\n", "\t": "⇥", "\r": "␍", "\x7f": "␡"}
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@lru_cache(maxsize=4096)
def _character(character: str) -> str:
    shown = _SHOWN.get(character)
    if shown is not None:
        return shown
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # its control picture
    category = unicodedata.category(character)
    if category in _HIDDEN or (category == "Zs" and character != " "):
        return f"\\u{{{code:04x}}}"
    return character


def visible(text: str) -> str:
    r"""Return `text` with everything unseen spelled out; a line feed becomes ⏎ and a line feed.

    A combining mark at the start gets a dotted circle to stand on, so that it does not join the
    token before it.

    >>> visible("a\tb\x1b")
    'a⇥b␛'
    """
    shown = "".join(map(_character, text))
    if text and unicodedata.category(text[0]) in {"Mn", "Mc", "Me"}:
        return "◌" + shown
    return shown


def visible_bytes(data: bytes) -> str:
    r"""Return bytes as visible text; bytes that are not UTF-8 become `\xNN`.

    >>> visible_bytes(b"caf\xc3\xa9 \xff")
    'café \\xff'
    """
    parts: list[str] = []
    position = 0
    while position < len(data):
        try:
            parts.append(visible(data[position:].decode("utf-8")))
            break
        except UnicodeDecodeError as error:
            valid = data[position : position + error.start]
            if valid:
                parts.append(visible(valid.decode("utf-8")))
            bad = data[position + error.start : position + error.end]
            parts.append("".join(f"\\x{byte:02x}" for byte in bad))
            position += error.end
    return "".join(parts)


def one_line(data: bytes, *, limit: int = 60) -> str:
    """Return bytes as visible text without line breaks, cut at `limit` characters with `…`."""
    text = visible_bytes(data[: 4 * limit]).replace("\n", "")
    return text if len(text) <= limit and len(data) <= 4 * limit else text[: limit - 1] + "…"
