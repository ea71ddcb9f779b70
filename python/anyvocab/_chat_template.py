"""Roles that a chat template gives to control tokens; the template is text here, never a program.

A template writes turns: a control token, a speaker's name, a message, a control token. This module
finds those neighbourhoods in the template's text. What it cannot see (text built by loops, tokens
passed as arguments) it does not guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

__all__ = ["TEMPLATE_LIMIT", "template_roles"]

TEMPLATE_LIMIT = 1 << 18  # characters; the longest public template is about 30,000
SPELLING_LIMIT = 128  # characters; longer control tokens are not looked for

# Templates are untrusted text: everything here is one pass, and no pattern backtracks over more
# than a word. Quotes and blocks are closed by `str.find`, not by a pattern.
_WORD = re.compile(r"[A-Za-z_]\w*+")
_KEY = re.compile(r"\[\s*+(['\"])(\w++)\1\s*+\]")  # message['content']
_ROLE_TEST = re.compile(
    r"""\brole\b['"\]\s)]*==\s*['"](?P<right>\w+)['"]"""
    r"""|['"](?P<left>\w+)['"]\s*==\s*\w+(?:\.|\[['"])role\b"""
)
_SPEAKERS = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "model": "assistant",
    "gpt": "assistant",
    "tool": "tool",
}


class _What(Enum):
    CONTROL = auto()  # a control token
    SPEAKER = auto()  # a speaker's name, or the variable that holds it
    MESSAGE = auto()  # a message's text, or the variable that holds it
    BRANCH = auto()  # the text goes on under another speaker


@dataclass(frozen=True, slots=True)
class _Event:
    what: _What
    id: int = -1
    speaker: str = ""  # whose turn the conditions around the event say it is


class _Spellings:
    """Finds control tokens in text, the longest at every place."""

    def __init__(self, controls: Mapping[str, int]) -> None:
        self.controls = controls
        self.lengths: dict[str, list[int]] = {}  # by first character, longest first
        for spelling in controls:
            if 0 < len(spelling) <= SPELLING_LIMIT:
                lengths = self.lengths.setdefault(spelling[0], [])
                if len(spelling) not in lengths:
                    lengths.append(len(spelling))
        for lengths in self.lengths.values():
            lengths.sort(reverse=True)

    def find(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Yield `(start, end, id)` of every control token, from the left."""
        position = 0
        while position < len(text):
            for length in self.lengths.get(text[position], ()):
                piece = text[position : position + length]
                if piece in self.controls:
                    yield position, position + len(piece), self.controls[piece]
                    position += len(piece)
                    break
            else:
                position += 1


def _blocks(template: str) -> Iterator[tuple[str, str]]:
    """Yield `(kind, text)`: kind is "text", "{{" or "{%"; comments and open blocks go."""
    position = 0
    while True:
        opening = template.find("{", position)
        while opening >= 0 and template[opening : opening + 2] not in {"{{", "{%", "{#"}:
            opening = template.find("{", opening + 1)
        if opening < 0:
            yield "text", template[position:]
            return
        kind = template[opening : opening + 2]
        closing = template.find({"{{": "}}", "{%": "%}", "{#": "#}"}[kind], opening + 2)
        yield "text", template[position:opening]
        if closing < 0:
            return
        if kind != "{#":
            yield kind, template[opening + 2 : closing].strip("-").strip()
        position = closing + 2


def _terms(code: str) -> Iterator[tuple[str, str]]:
    """Yield `(kind, text)` of an expression: kind is "literal", "key" or "word"."""
    position = 0
    while position < len(code):
        character = code[position]
        if character in "'\"":
            end = position + 1
            while end < len(code) and code[end] != character:
                end += 2 if code[end] == "\\" else 1
            if end >= len(code):
                return
            yield "literal", code[position + 1 : end]
            position = end + 1
        elif character == "[" and (key := _KEY.match(code, position)):
            yield "key", key[2]
            position = key.end()
        elif word := _WORD.match(code, position):
            yield "word", word[0]
            position = word.end()
        else:
            position += 1


class _Reader:
    """Turns a template's text into events, in the order of the text."""

    def __init__(self, controls: Mapping[str, int], named: Mapping[str, int]) -> None:
        self.spellings = _Spellings(controls)
        self.named = named
        self.events: list[_Event] = []
        self.speakers: list[str] = [""]  # of the open blocks, the speaker in force

    def add(self, what: _What, id: int = -1) -> None:
        self.events.append(_Event(what, id, self.speakers[-1]))

    def read(self, template: str) -> list[_Event]:
        for kind, text in _blocks(template):
            if kind == "text":
                self.text(text)
            elif kind == "{{":
                self.expression(text)
            else:
                self.statement(text)
        return self.events

    def statement(self, code: str) -> None:
        keyword, _, rest = code.partition(" ")
        if keyword in {"if", "for"}:
            self.speakers.append(self.speakers[-1])
        if keyword in {"elif", "else"} and len(self.speakers) > 1:
            self.speakers[-1] = self.speakers[-2]
        if keyword in {"endif", "endfor"} and len(self.speakers) > 1:
            self.speakers.pop()
        if keyword in {"if", "elif"} and (tests := _ROLE_TEST.findall(rest)):
            self.add(_What.BRANCH)
            if len(tests) == 1 and len(self.speakers) > 1:
                self.speakers[-1] = tests[0][0] or tests[0][1]
        if keyword == "else":
            self.add(_What.BRANCH)
        if keyword == "set" and next(self.spellings.find(rest), None):
            self.expression(rest.partition("=")[2])

    def expression(self, code: str) -> None:
        if "raise_exception" in code:
            return
        for kind, text in _terms(code):
            if kind == "literal":
                self.text(text.replace("\\n", "\n"))
            elif text == "role":
                self.add(_What.SPEAKER)
            elif text == "content":
                self.add(_What.MESSAGE)
            elif kind == "word" and text in self.named:
                self.add(_What.CONTROL, self.named[text])

    def text(self, text: str) -> None:
        position = 0
        for start, end, id in self.spellings.find(text):
            self.words(text[position:start], follows=position > 0, leads=True)
            self.add(_What.CONTROL, id)
            position = end
        self.words(text[position:], follows=position > 0, leads=False)

    def words(self, words: str, *, follows: bool, leads: bool) -> None:
        """Read text between control tokens of one literal; `follows` one and `leads` to the next.

        A literal that holds no control token can be anything (a filter's argument): it counts
        only when it is a speaker's name.
        """
        first, _, rest = words.strip(" ").partition("\n")
        if first.strip() in _SPEAKERS:
            self.add(_What.SPEAKER)
            words = rest
        if (follows or leads) and words.strip():
            self.add(_What.MESSAGE)


def template_roles(
    template: str, controls: Mapping[str, int], named: Mapping[str, int]
) -> Iterator[tuple[str, int]]:
    """Yield `(role, id)` for the control tokens whose place in a template shows what they do.

    - Two control tokens around a speaker's name, before a message: `header_start`, `header_end`.
    - A control token before a speaker's name otherwise: `turn_start`.
    - A control token before a message, under a condition on the speaker: that speaker.
    - The control token after a message: `turn_end`.

    Args:
        template: Jinja text of at most `TEMPLATE_LIMIT` characters.
        controls: Spelling to id of every control token.
        named: Variable to id: `bos_token`, `eos_token`, `pad_token`.
    """
    if len(template) > TEMPLATE_LIMIT:
        raise ValueError(f"a template of {len(template)} characters is over {TEMPLATE_LIMIT}")
    events = _Reader(controls, named).read(template)
    whats = [event.what for event in events]
    c, s, m = _What.CONTROL, _What.SPEAKER, _What.MESSAGE
    # First the headers: a later place may show the opening token without its message (the prompt
    # for generation ends after the header).
    headers = {
        (events[i].id, events[i + 2].id)
        for i in range(len(events) - 3)
        if whats[i : i + 4] == [c, s, c, m] and events[i].id != events[i + 2].id
    }
    starts = {first for first, _ in headers}
    ends = {second for _, second in headers}
    for i, event in enumerate(events):
        before = events[i - 1] if i else _Event(_What.BRANCH)
        if event.what == s and before.what == c:
            if before.id in starts:
                yield "header_start", before.id
            else:
                yield "turn_start", before.id
        elif event.what == c and event.id in ends and before.what == s:
            yield "header_end", event.id
        elif event.what == m and before.what == c and before.id not in ends:
            speaker = _SPEAKERS.get(event.speaker)
            if speaker is not None:
                yield speaker, before.id
        elif event.what == c and before.what == m:
            yield "turn_end", event.id
