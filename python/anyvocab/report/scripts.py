"""The script of a token's text, from Unicode character names.

Python has no script property. The first word of a letter's name is its script, with few
exceptions, which are listed here; so the answer follows the Unicode version of the running Python.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

__all__ = ["NO_TEXT", "PARTIAL", "SEVERAL", "script_of"]

PARTIAL = "part of a character"
SEVERAL = "several scripts"
NO_TEXT = "no text"

_RENAMED = {
    "CJK": "Han",
    "IDEOGRAPHIC": "Han",
    "MASCULINE": "Latin",
    "FEMININE": "Latin",
    "MICRO": "Greek",
    "OHM": "Greek",
    "KELVIN": "Latin",
    "ANGSTROM": "Latin",
    "DOUBLE": "Mathematical",
    "BLACK": "Mathematical",
    "SCRIPT": "Mathematical",
    "INFORMATION": "Mathematical",
    "PLANCK": "Mathematical",
    "MATHEMATICAL": "Mathematical",
    "MODIFIER": "Modifier letters",
    "COMBINING": "",  # marks belong to the letter before them
    "VARIATION": "",
}
_FIRST_OF_TWO = frozenset(
    {"CANADIAN", "MEETEI", "NEW", "NYIAKENG", "OL", "OLD", "PAU", "PHAGS", "SORA", "TAI", "WARANG"}
)
_SKIPPED = frozenset({"FULLWIDTH", "HALFWIDTH", "SMALL", "CIRCLED", "PARENTHESIZED", "SQUARED"})


@lru_cache(maxsize=1 << 14)
def _script_of_character(character: str) -> str:
    """Return a script, or a class in lower case for what has none, or nothing for marks."""
    category = unicodedata.category(character)
    major = category[0]
    if major in "LM":
        words = unicodedata.name(character, "UNNAMED").replace("-", " ").split()
        while len(words) > 1 and words[0] in _SKIPPED:
            words = words[1:]
        first = words[0]
        if first in _RENAMED:
            return _RENAMED[first]
        if first in _FIRST_OF_TWO and len(words) > 1:
            return f"{first} {words[1]}".title()
        return first.title()
    if major == "N":
        return "digits"
    if major == "P" or category in {"Sm", "Sc", "Sk"}:
        return "punctuation"
    if major == "Z" or character in "\t\n\r\v\f":
        return "white space"
    if major == "S":
        return "symbols and emoji"
    return "control characters"


_JAPANESE = frozenset({"Han", "Hiragana", "Katakana"})


def script_of(token: bytes) -> str:
    r"""Return the script of a token's letters, in one word or two.

    Letters decide; without letters digits do, then symbols, punctuation, white space. Japanese
    mixes three scripts and counts as one. Bytes that are not UTF-8 are `PARTIAL`.

    >>> script_of(" Straße".encode()), script_of(b"\xe6\x97"), script_of(b" 2026")
    ('Latin', 'part of a character', 'digits')
    """
    if not token:
        return NO_TEXT
    if token.isascii():  # most tokens of most vocabularies
        return _script_of_ascii(token)
    try:
        text = token.decode("utf-8")
    except UnicodeDecodeError:
        return PARTIAL
    return _of(set(map(_script_of_character, text)))


def _script_of_ascii(token: bytes) -> str:
    if any(65 <= byte <= 90 or 97 <= byte <= 122 for byte in token):
        return "Latin"
    return _of(set(map(_script_of_character, token.decode("ascii"))))


def _of(found: set[str]) -> str:
    found.discard("")
    letters = {script for script in found if script[:1].isupper()}
    if len(letters) == 1:
        return next(iter(letters))
    if letters:
        return "Japanese (mixed)" if letters <= _JAPANESE else SEVERAL
    for name in ("digits", "symbols and emoji", "punctuation", "control characters"):
        if name in found:
            return name
    return "white space" if found else "marks"
