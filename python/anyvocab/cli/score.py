"""`anyvocab score`: how probable a text is, whatever the model's tokenizer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anyvocab.cli.byte_options import (
    DeviceOption,
    DtypeOption,
    LawOption,
    ModelArgument,
    finite,
    open_model,
    read_bytes,
    shown,
    to_bytes,
)
from anyvocab.cli.output import ExitCode, JsonOption, Output

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["command"]

FORMAT_VERSION = 1
END = 256
BAR = 24  # characters
FULL_BAR = 12.0  # bits that fill a bar; a byte has 8, a surprise more


def command(
    model: ModelArgument,
    text: Annotated[
        str | None, typer.Argument(help="What is scored; stdin if left out.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="What is scored, from a file.", exists=True, dir_okay=False, show_default=False
        ),
    ] = None,
    prefix: Annotated[str, typer.Option(help="What stands before; it is not scored.")] = "",
    end: Annotated[bool, typer.Option("--end", help="The text ends there, too.")] = False,
    law: LawOption = "local",
    per_byte: Annotated[
        bool, typer.Option("--per-byte", help="Every byte's log-probability.")
    ] = False,
    window: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="BYTES",
            help="Read in windows that overlap by half; the text whole.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = "float32",
    json: JsonOption = False,
) -> ExitCode:
    """Score a text behind a prefix, in nats and bits per byte, each cut anywhere.

    The end is not scored without --end, and its bits are no byte's: bits per byte leave it out.
    """
    from anyvocab import errors

    if end and window is not None:
        raise typer.BadParameter("--window scores no end", param_hint="--end")
    data, before = read_bytes(text, file, name="text"), to_bytes(prefix)
    if not data and not end:
        raise errors.build(errors.InvalidValue, "is empty", field="text")
    output = Output(json=json)
    lm = open_model(output, model, law=law, device=device, dtype=dtype)
    steps, with_end = [], None
    try:
        if window is not None:
            from anyvocab.evaluate.byte_scores import byte_logprobs

            steps = byte_logprobs(lm, data, window=window, before=before).tolist()
            logprob = math.fsum(steps)
        else:
            logprob = lm.score(data, before)
            with_end = lm.score(data, before, end=True) if end else None
            if per_byte:
                rows = lm.next_byte_logprobs(data, before)
                steps = [float(row[byte]) for row, byte in zip(rows, [*data, END], strict=True)]
                steps = steps if end else steps[:-1]
    except errors.LimitExceeded as error:
        if error.field != "nodes":
            raise
        raise errors.build(
            errors.LimitExceeded,
            f"these are more ids than the {lm.backend.max_context} that the model sees at once",
            field="text" if window is None else "window",
            fix=f"give a {'' if window is None else 'smaller '}--window",
        ) from error
    bits = -logprob / (len(data) * math.log(2)) if data else math.nan
    if json:
        found: dict[str, object] = {
            "format_version": FORMAT_VERSION,
            "model": model,
            "law": law,
            "bytes": len(data),
            "prefix_bytes": len(before),
            "logprob": finite(logprob),
            "logprob_with_end": None if with_end is None else finite(with_end),
            "bits_per_byte": finite(bits),
        }
        if per_byte:
            found["per_byte"] = [
                {
                    "byte": byte,
                    "text": "END" if byte is None else shown(bytes([byte])),
                    "logprob": finite(step),
                }
                for byte, step in zip([*data, None], steps, strict=False)
            ]
        output.document(found)
        return ExitCode.DONE
    if per_byte:
        _print_steps(output, data, steps)
    whole = [] if with_end is None else [["log-probability with its end (nats)", f"{with_end:.4f}"]]
    output.table(
        ["text", ""],
        [
            ["bytes", len(data)],
            ["log-probability (nats)", f"{logprob:.4f}"],
            *whole,
            ["bits per byte", f"{bits:.4f}"],
            ["law", law],
        ],
        numbers=[1],
    )
    return ExitCode.DONE


def _print_steps(output: Output, data: bytes, steps: Sequence[float]) -> None:
    from anyvocab.report.cover_page import next_byte_name
    from anyvocab.report.terminal import bar

    rows: list[list[object]] = []
    total = 0.0
    for at, step in enumerate(steps):
        byte = data[at] if at < len(data) else END
        total += step
        bits = -step / math.log(2)
        rows.append(
            [
                at,
                next_byte_name(byte),
                "" if byte == END else f"{byte:02x}",
                f"{step:.4f}",
                f"{bits:.3f}",
                f"{total:.3f}",
                bar(min(bits, FULL_BAR) / FULL_BAR, BAR),
            ]
        )
    output.table(["at", "byte", "hex", "nats", "bits", "sum", ""], rows, numbers=[0, 2, 3, 4, 5])
    output.text("")
