"""Jinja text rewritten without being run: control tokens replaced where a template writes them."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping

from anyvocab import errors

__all__ = ["rewrite", "split_text"]

_RAW = re.compile(r"\{%[-+]?\s*raw\s*[-+]?%\}")
_END_RAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_CLOSES = {"{{": "}}", "{%": "%}", "{#": "#}"}
_OPENS = re.compile(r"\{[{%#]")
_ESCAPED = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def split_text(text: str, spellings: Mapping[str, int]) -> list[str | int]:
    """Return text and the control tokens in it, in order: strings and ids; no empty strings.

    The longest spelling counts where several begin.
    """
    parts: list[str | int] = []
    position = 0
    for match in _any_of(spellings).finditer(text) if spellings else ():
        if match.start() > position:
            parts.append(text[position : match.start()])
        parts.append(spellings[match[0]])
        position = match.end()
    return [*parts, text[position:]] if position < len(text) else parts


def _any_of(spellings: Mapping[str, object]) -> re.Pattern[str]:
    longest_first = sorted(filter(None, spellings), key=lambda one: (-len(one), one))
    return re.compile("|".join(map(re.escape, longest_first)))


def rewrite(template: str, replacements: Mapping[str, str]) -> str:
    """Return `template` with texts replaced where it writes them: outside blocks and in literals.

    Code and comments stay as they are. A replacement that stands in a literal is quoted for it.

    Raises:
        ChatTemplateError: A replacement would open a block where it has to stand.
    """
    if not replacements:
        return template
    return "".join(_rewritten(template, replacements))


def _rewritten(template: str, replacements: Mapping[str, str]) -> Iterator[str]:
    position = 0
    while position < len(template):
        opening = _OPENS.search(template, position)
        start = opening.start() if opening else len(template)
        yield _plain(template[position:start], replacements)
        if opening is None:
            return
        raw = _RAW.match(template, start)
        if raw:
            end = _END_RAW.search(template, raw.end())
            position = end.start() if end else len(template)
            yield raw[0] + _plain(template[raw.end() : position], replacements)
            # The closing tag is a block as any other.
        elif opening[0] == "{#":
            end_at = template.find("#}", start)
            position = len(template) if end_at < 0 else end_at + 2
            yield template[start:position]
        else:
            position = yield from _block(template, start, _CLOSES[opening[0]], replacements)


def _plain(text: str, replacements: Mapping[str, str]) -> str:
    def replaced(match: re.Match[str]) -> str:
        new = replacements[match[0]]
        if _OPENS.search(new):
            raise errors.build(
                errors.ChatTemplateError,
                f"{new!r} cannot stand in a template's text: it opens a block",
                field="chat_template",
                fix="take the target's own template",
            )
        return new

    return _any_of(replacements).sub(replaced, text)


def _block(
    template: str, start: int, close: str, replacements: Mapping[str, str]
) -> Generator[str, None, int]:
    """Yield a block's code, its literals rewritten, and return where it ends."""
    position = start + 2
    yield template[start:position]
    depth = 0  # of braces: `}}` may close a dictionary within an expression
    while position < len(template):
        character = template[position]
        if character in "'\"":
            end = _literal_end(template, position)
            yield _literal(template[position:end], replacements)
            position = end
            continue
        if template.startswith(close, position) and depth == 0:
            yield close
            return position + 2
        depth += (character == "{") - (character == "}")
        yield character
        position += 1
    return position


def _literal_end(template: str, start: int) -> int:
    quote, position = template[start], start + 1
    while position < len(template) and template[position] != quote:
        position += 2 if template[position] == "\\" else 1
    return min(position + 1, len(template))


def _literal(literal: str, replacements: Mapping[str, str]) -> str:
    quote = literal[0]
    spelled = {text: _quoted(new, quote) for text, new in replacements.items()}
    spelled |= {_quoted(text, quote): _quoted(new, quote) for text, new in replacements.items()}
    return _any_of(spelled).sub(lambda match: spelled[match[0]], literal)


def _quoted(text: str, quote: str) -> str:
    return "".join(_ESCAPED.get(one, "\\" + one if one == quote else one) for one in text)
