"""Errors of the library in the words of the command line: `unreached="keep"` is `--unreached keep`.

The library's messages name arguments, and their fixes say what to write in Python. A command knows
which of its options stands for which argument.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyvocab.errors import AnyvocabError

__all__ = ["spoken"]

_WORD = re.compile(r'"([\w.%/:+-]+)"')  # what a shell takes as it is


def _inside(quoted: re.Match[str]) -> str:
    return quoted[1]


@contextmanager
def spoken(options: Mapping[str, str]) -> Iterator[None]:
    """Let typed errors name a command's options; their class and file stay.

    Args:
        options: Argument of the library to option, or to the metavar of a positional argument.

    Raises:
        AnyvocabError: What the body raised, translated.

    >>> from anyvocab import errors
    >>> with spoken({"unreached": "--unreached"}):
    ...     raise errors.build(errors.InvalidValue, "no", field="unreached", fix='unreached="keep"')
    Traceback (most recent call last):
    anyvocab._core.InvalidValue: --unreached: no; --unreached keep
    """
    from anyvocab.errors import AnyvocabError

    try:
        yield
    except AnyvocabError as error:
        raise _translated(error, options) from error


def _translated(error: AnyvocabError, options: Mapping[str, str]) -> AnyvocabError:
    told, field = str(error), error.field
    head = "" if error.file is None else f"{error.file}: "
    if told.startswith(f"{head}{field}: "):
        body = told.removeprefix(f"{head}{field}: ")
        told = f"{head}{options.get(field, field)}: {_in_options(body, options)}"
    else:  # a message of another form
        told = _in_options(told, options)
    made = type(error)(told)
    made.file, made.field = error.file, options.get(field, field)
    made.fix = _in_options(error.fix, options)
    return made


def _in_options(text: str, options: Mapping[str, str]) -> str:
    """Return a text with `argument=value`, and names that are no English words, as options."""
    names = "|".join(sorted(map(re.escape, options), key=len, reverse=True))
    given = re.compile(rf'(?<![\w-])({names})=("[^"]*"|[^\s,;)]+)')
    said = given.sub(lambda at: f"{options[at[1]]} {_WORD.sub(_inside, at[2])}", text)
    bare = re.compile(rf"(?<![\w-])({names})(?!\w)")
    return bare.sub(lambda at: options[at[1]] if "_" in at[1] else at[1], said)
