"""Errors of the library in the words of the command line: `unreached="keep"` is `--unreached keep`.

The library's messages name arguments, and their fixes say what to write in Python. What a command's
own parameters are called is read off the command (:func:`options_of`), for every command; a command
says only what is called otherwise in the library (:func:`spoken`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyvocab.errors import AnyvocabError

__all__ = ["options_of", "spoken", "translated"]

_ARGUMENT = re.compile(r'(?<![\w.-])([\w.]+)=("[^"]*"|[^\s,;)]+)')
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
        raise translated(error, options) from error


def options_of(command: Callable[..., object]) -> dict[str, str]:
    """Return what each parameter of a command is called on the command line."""
    found = {}
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        for told in getattr(parameter.annotation, "__metadata__", ()):
            spellings = getattr(told, "param_decls", None) or ()
            long = [one.split("/")[0] for one in spellings if one.startswith("--")]
            positional = type(told).__name__ == "ArgumentInfo"
            plain = name.upper() if positional else "--" + name.replace("_", "-")
            found[name] = (told.metavar or plain) if positional else next(iter(long), plain)
    return found


def translated(
    error: AnyvocabError, options: Mapping[str, str], *, in_files: bool = True
) -> AnyvocabError:
    """Return an error that names a command's options; its class and file stay.

    Args:
        error: Of the library.
        options: As for :func:`spoken`.
        in_files: Whether the field of an error that names a file is an argument, too, and not a
            field of the file.
    """
    told, field = str(error), error.field
    named = error.file is None or in_files
    say = _in_options if named else _given
    name, bracket, at = field.partition("[")  # `special_tokens[0]` is `--special[0]`
    option = options.get(name, name) + bracket + at if named else field
    head = "" if error.file is None else f"{error.file}: "
    if told.startswith(f"{head}{field}: "):
        told = f"{head}{option}: {say(told.removeprefix(f'{head}{field}: '), options)}"
    else:  # a message of another form
        told = say(told, options)
    made = type(error)(told)
    made.file, made.field, made.fix = error.file, option, say(error.fix, options)
    return made


def _in_options(text: str, options: Mapping[str, str]) -> str:
    """Return a text with `argument=value`, and names that are no English words, as options."""
    names = "|".join(sorted(map(re.escape, options), key=len, reverse=True))
    bare = re.compile(rf"(?<![\w.-])({names})(?!\w)")
    return bare.sub(lambda at: options[at[1]] if "_" in at[1] else at[1], _given(text, options))


def _given(text: str, options: Mapping[str, str]) -> str:
    """Return a text with `argument=value` as options; `existing="replace"` may be a flag, too."""

    def said(at: re.Match[str]) -> str:
        name, value = at[1], at[2]
        flag = value.strip('"')
        if name in options:
            return f"{options[name]} {_WORD.sub(_inside, value)}"
        return options[flag] if options.get(flag, "") == f"--{flag}" else at[0]

    return _ARGUMENT.sub(said, text)
