"""What can go wrong: one root, one class per kind of trouble, each naming file, field and fix.

The classes that the compiled core raises are made there; those below belong to folders, packages,
weights and outputs, which the core never sees. All of them can be pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

try:
    from anyvocab._core import (
        AnyvocabError,
        InternalError,
        InvalidValue,
        LimitExceeded,
        StorageError,
        TokenizerFormatError,
        UnsupportedTokenizer,
    )
except ModuleNotFoundError as error:
    if error.name != "anyvocab._core":
        raise
    raise ModuleNotFoundError(
        "anyvocab._core, the compiled core, is missing from this installation: run `make build` "
        "in a source checkout, or install a wheel with `pip install anyvocab`",
        name=error.name,
    ) from None

__all__ = [
    "AnyvocabError",
    "ChatTemplateError",
    "IncompatibleTokenizer",
    "InternalError",
    "InvalidValue",
    "LimitExceeded",
    "MissingExtra",
    "NumericsError",
    "OutputExists",
    "SourceNotFound",
    "StorageError",
    "TokenizerFormatError",
    "UnsupportedHypernet",
    "UnsupportedTokenizer",
    "UnsupportedWeights",
    "VerificationFailed",
    "WeightsFormatError",
    "build",
    "check_choice",
    "missing_extra",
]


class SourceNotFound(AnyvocabError, FileNotFoundError):
    """There is no tokenizer where the caller pointed."""


class MissingExtra(AnyvocabError, ImportError):
    """An optional package is needed for this call and is not installed."""


class OutputExists(AnyvocabError, FileExistsError):
    """Writing would overwrite or contradict a file that is already there."""


class WeightsFormatError(AnyvocabError, ValueError):
    """A model's weights are malformed, or its files contradict one another."""


class UnsupportedWeights(AnyvocabError):
    """A model's weights are sound, and of a kind that is not read: pickled or quantised ones."""


class UnsupportedHypernet(AnyvocabError):
    """A hypernetwork is sound, and of a kind that is not read: one with inter-token attention."""


class VerificationFailed(AnyvocabError):
    """What was about to be written would not read back as what it is."""


class NumericsError(AnyvocabError, ValueError):
    """A number is not finite where it has to be."""


class IncompatibleTokenizer(AnyvocabError, ValueError):
    """A tokenizer would harm the model that is to have it; `force` overrules this."""


class ChatTemplateError(AnyvocabError, ValueError):
    """A chat template cannot be rendered, or writes tokens that do not exist."""


_Error = TypeVar("_Error", bound=AnyvocabError)


def build(
    kind: type[_Error], found: str, *, field: str, fix: str = "", file: str | None = None
) -> _Error:
    """Return an error of class `kind` in the form of the core's: `file: field: found; fix`.

    Args:
        kind: The class.
        found: What is wrong, in words.
        field: What it is about: a path in a file (`model.merges[17]`) or an argument's name.
        fix: How to mend it; empty when there is nothing to say.
        file: The file it is about, where there is one.
    """
    head = f"{file}: {field}: {found}" if file is not None else f"{field}: {found}"
    error = kind(f"{head}; {fix}" if fix else head)
    error.file = file
    error.field = field
    error.fix = fix
    return error


def check_choice(field: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        InvalidValue: It is none; the choices are the fix.
    """
    if value not in choices:
        raise build(
            InvalidValue,
            f"{value!r} is no choice",
            field=field,
            fix=" or ".join(f'"{one}"' for one in choices),
        )


def missing_extra(
    found: str, *, field: str, otherwise: str = "", extra: str = "models"
) -> MissingExtra:
    """Return the error for a package of the extra `extra`; `otherwise` ends its fix."""
    fix = f"install it with `pip install 'anyvocab[{extra}]'`{otherwise}"
    return build(MissingExtra, found, field=field, fix=fix)
