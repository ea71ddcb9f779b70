"""Errors of the library in the words of a command's options."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer

from anyvocab import errors
from anyvocab.cli.spoken import options_of, translated


def _command(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    text: Annotated[str, typer.Argument()],
    vocab_size: Annotated[int, typer.Option()] = 0,
    keep: Annotated[bool, typer.Option("--keep/--drop")] = False,
    law: Annotated[str, typer.Option("-l", "--law-name")] = "local",
) -> None: ...


OPTIONS = options_of(_command)


def _said(found: str, field: str, fix: str, file: str | None = None) -> str:
    error = errors.build(errors.InvalidValue, found, field=field, fix=fix, file=file)
    return str(translated(error, OPTIONS, in_files=False))


def test_parameters_are_named_as_they_are_typed() -> None:
    assert OPTIONS == {
        "model": "MODEL",
        "text": "TEXT",
        "vocab_size": "--vocab-size",
        "keep": "--keep",
        "law": "--law-name",
    }


@pytest.mark.parametrize(
    ("field", "fix", "said"),
    [
        ("vocab_size", "use at least 256", "--vocab-size: is bad; use at least 256"),
        ("other", 'use law="marginal"', "other: is bad; use --law-name marginal"),
        ("text", 'give other="keep"', "TEXT: is bad; give --keep"),
        ("text", 'give other="thing"', 'TEXT: is bad; give other="thing"'),
        ("text", "raise vocab_size, or the text", "TEXT: is bad; raise --vocab-size, or the text"),
    ],
)
def test_arguments_become_options(field: str, fix: str, said: str) -> None:
    assert _said("is bad", field, fix) == said


def test_fields_of_a_file_stay_what_the_file_calls_them() -> None:
    told = _said("is 3", "model", 'mend vocab_size, or give law="local"', "config.json")
    assert told == "config.json: model: is 3; mend vocab_size, or give --law-name local"


def test_a_dotted_argument_is_no_argument_of_its_last_name() -> None:
    told = _said("is bad", "text", "lower other.vocab_size=3")
    assert told == "TEXT: is bad; lower other.vocab_size=3"
