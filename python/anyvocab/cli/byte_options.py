"""What the commands of byte-level models share: options, inputs, and how a model is opened."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anyvocab.cli.output import Output

if TYPE_CHECKING:
    from anyvocab import ByteLM

__all__ = [
    "DeviceOption",
    "DtypeOption",
    "LawOption",
    "ModelArgument",
    "SeedOption",
    "StopOption",
    "TemperatureOption",
    "TopKOption",
    "TopPOption",
    "finite",
    "open_model",
    "read_bytes",
    "read_file",
    "read_stdin",
    "shown",
    "to_bytes",
]

FILE_LIMIT = 64 << 20  # bytes of an input

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model folder, a hub id, or an embedded model (pico:code-4k).",
        show_default=False,
    ),
]
LawOption = Annotated[
    str,
    typer.Option(metavar="local|canonical|marginal", help="Which distribution of bytes is meant."),
]
TemperatureOption = Annotated[
    float, typer.Option(min=0.0, help="0 takes the most probable.", show_default=True)
]
TopPOption = Annotated[
    float, typer.Option(help="The share of probable outcomes that is kept.", show_default=True)
]
TopKOption = Annotated[
    int | None, typer.Option(min=1, help="How many outcomes are kept.", show_default=False)
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the choices.")]
StopOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        help="The text ends before this. May be given several times.",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="Where models run: cuda, mps; the CPU.", show_default=False)
]
DtypeOption = Annotated[str, typer.Option(help="float32, bfloat16 or float16.")]


def open_model(output: Output, source: str, *, law: str, device: str | None, dtype: str) -> ByteLM:
    """Return the byte-level model of a source, saying so on stderr."""
    from anyvocab import ByteLM

    output.progress(f"{source}: loading ...")
    # An unknown law is refused there, with the choices named.
    return ByteLM.load(source, law=law, device=device, dtype=dtype)  # type: ignore[arg-type]


def read_bytes(text: str | None, file: Path | None, *, name: str) -> bytes:
    """Return the one input that is given: an argument, a file, or else stdin.

    Args:
        text: The argument.
        file: The file.
        name: What the input is called, for the message.
    """
    if text is not None and file is not None:
        raise typer.BadParameter(f"give one {name}: {name.upper()} or --file")
    if text is not None:
        return to_bytes(text)
    if file is not None:
        return read_file(file)
    if sys.stdin is None or sys.stdin.isatty():
        raise typer.BadParameter(f"give a {name}: {name.upper()}, --file, or on stdin")
    return read_stdin()


def read_file(file: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        LimitExceeded: It is too long.
    """
    with file.open("rb") as stream:
        return _limited(stream.read(FILE_LIMIT + 1), str(file))


def read_stdin() -> bytes:
    """Return what comes on stdin.

    Raises:
        LimitExceeded: It is too long.
    """
    return _limited(sys.stdin.buffer.read(FILE_LIMIT + 1), "stdin")


def _limited(data: bytes, name: str) -> bytes:
    from anyvocab import errors

    if len(data) > FILE_LIMIT:
        raise errors.build(
            errors.LimitExceeded,
            f"over the limit of {FILE_LIMIT} bytes",
            field="--file",
            file=name,
            fix="give a part of it",
        )
    return data


def to_bytes(text: str) -> bytes:
    """Return an argument as the bytes that the shell gave: what was no UTF-8 comes back."""
    return text.encode("utf-8", "surrogateescape")


def shown(data: bytes) -> str:
    """Return bytes as text for JSON; what is not UTF-8 is escaped."""
    return data.decode("utf-8", "backslashreplace")


def finite(value: float) -> float | None:
    """Return a number that JSON knows: None for a log-probability of minus infinity."""
    return value if math.isfinite(value) else None
