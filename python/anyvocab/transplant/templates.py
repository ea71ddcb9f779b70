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
    return "".join(_Scanner(template, replacements).parts()) if replacements else template


class _Scanner:
    """Yields a template part by part, the replaceable ones replaced. One pass."""

    def __init__(self, template: str, replacements: Mapping[str, str]) -> None:
        self.template = template
        self.plain = _Replacer(replacements)
        self.literals = {quote: _Replacer(_for_literals(replacements, quote)) for quote in "'\""}

    def parts(self) -> Iterator[str]:
        template, position = self.template, 0
        while position < len(template):
            opening = _OPENS.search(template, position)
            start = opening.start() if opening else len(template)
            yield self.text(template[position:start])
            if opening is None:
                return
            raw = _RAW.match(template, start)
            if raw:
                end = _END_RAW.search(template, raw.end())
                position = end.start() if end else len(template)
                yield raw[0] + self.plain(template[raw.end() : position])
                # The closing tag is a block as any other.
            elif opening[0] == "{#":
                end_at = template.find("#}", start)
                position = len(template) if end_at < 0 else end_at + 2
                yield template[start:position]
            else:
                position = yield from self.block(start, _CLOSES[opening[0]])

    def text(self, text: str) -> str:
        new = self.plain(text)
        opens = _OPENS.search(new) if new != text else None
        if opens:
            raise errors.build(
                errors.ChatTemplateError,
                f"a replacement opens a block: {new[opens.start() :][:40]!r}",
                field="chat_template",
                fix="take the target's own template",
            )
        return new

    def block(self, start: int, close: str) -> Generator[str, None, int]:
        """Yield a block's code, its literals rewritten, and return where it ends."""
        template, position = self.template, start + 2
        yield template[start:position]
        depth = 0  # of braces: `}}` may close a dictionary within an expression
        while position < len(template):
            character = template[position]
            if character in self.literals:
                end = _literal_end(template, position)
                yield self.literals[character](template[position:end])
                position = end
                continue
            if depth == 0 and template.startswith(close, position):
                yield close
                return position + 2
            depth += (character == "{") - (character == "}")
            yield character
            position += 1
        return position


class _Replacer:
    def __init__(self, replacements: Mapping[str, str]) -> None:
        self.replacements = replacements
        self.pattern = _any_of(replacements)

    def __call__(self, text: str) -> str:
        return self.pattern.sub(lambda match: self.replacements[match[0]], text)


def _literal_end(template: str, start: int) -> int:
    quote, position = template[start], start + 1
    while position < len(template) and template[position] != quote:
        position += 2 if template[position] == "\\" else 1
    return min(position + 1, len(template))


def _for_literals(replacements: Mapping[str, str], quote: str) -> dict[str, str]:
    """Return what to replace in a literal, where line breaks may be written either way."""
    spelled = {text: _quoted(new, quote) for text, new in replacements.items()}
    return spelled | {
        _quoted(text, quote): _quoted(new, quote) for text, new in replacements.items()
    }


def _quoted(text: str, quote: str) -> str:
    return "".join(_ESCAPED.get(one, "\\" + one if one == quote else one) for one in text)
