"""`anyvocab infill`: the text between two others, and how well a model finds it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anyvocab.cli import infill_eval
from anyvocab.cli.byte_options import (
    DeviceOption,
    DtypeOption,
    LawOption,
    ModelArgument,
    SeedOption,
    StopOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    open_model,
    read_file,
    shown,
    to_bytes,
)
from anyvocab.cli.output import ExitCode, JsonOption, Output

if TYPE_CHECKING:
    from anyvocab import Infill

__all__ = ["MARKER", "command"]

FORMAT_VERSION = 1
MARKER = "<FILL>"
MODES = ("bytes", "tokens", "healing")


def command(
    model: ModelArgument,
    prefix: Annotated[str | None, typer.Option(help="The text before.", show_default=False)] = None,
    suffix: Annotated[str | None, typer.Option(help="The text behind.", show_default=False)] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help=f"Both in one file, with {MARKER} where the middle goes.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How the model is asked: psm, spm, qwen/psm; found in its vocabulary.",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            metavar="bytes|tokens|healing", help="How a prompt that ends inside a token is met."
        ),
    ] = "bytes",
    compare: Annotated[bool, typer.Option("--compare", help="All three modes.")] = False,
    until: Annotated[
        str,
        typer.Option(
            metavar="suffix|end", help="End where the suffix begins, or where the model says so."
        ),
    ] = "suffix",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The most tokens written.")] = 128,
    max_bytes: Annotated[
        int | None, typer.Option(min=1, help="The most bytes written.", show_default=False)
    ] = None,
    temperature: TemperatureOption = 0.0,
    top_p: TopPOption = 1.0,
    top_k: TopKOption = None,
    seed: SeedOption = 0,
    stop: StopOption = None,
    eval_: Annotated[
        Path | None,
        typer.Option(
            "--eval",
            metavar="FOLDER|FILE.jsonl.gz",
            help="Measure instead: holes in code, or HumanEval-Infilling.",
            exists=True,
            show_default=False,
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, help="With --eval: holes of each kind, or problems.")
    ] = 100,
    kinds: Annotated[
        str, typer.Option(help="With --eval FOLDER: where holes are cut.")
    ] = "bytes,tokens,lines",
    samples: Annotated[
        int, typer.Option(min=1, help="With problems: middles written for each.")
    ] = 1,
    k: Annotated[str, typer.Option("--k", help="With problems: pass@k for these k.")] = "1",
    run_code: Annotated[
        bool,
        typer.Option(
            "--run-code", help="With problems: run what the model wrote, under limits, here."
        ),
    ] = False,
    law: LawOption = "local",
    device: DeviceOption = None,
    dtype: DtypeOption = "float32",
    json: JsonOption = False,
) -> ExitCode:
    """Write the text between a prefix and a suffix, each cut anywhere.

    The middle alone goes to stdout. With --eval, all three modes are measured on the same holes.
    """
    output = Output(json=json)
    if eval_ is not None:
        if prefix is not None or suffix is not None or file is not None:
            raise typer.BadParameter("--eval takes no text", param_hint="--eval")
        wanted = infill_eval.Wanted(
            place=eval_,
            template=template,
            count=count,
            kinds=tuple(kinds.split(",")),
            max_new_tokens=max_new_tokens,
            until=until,
            samples=samples,
            ks=_whole_numbers(k),
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            run_code=run_code,
        )
        return infill_eval.run(output, model, wanted, law=law, device=device, dtype=dtype)
    before, after = _texts(prefix, suffix, file)
    lm = open_model(output, model, law=law, device=device, dtype=dtype)
    from anyvocab import infill

    options: dict[str, Any] = {
        "template": template,
        "max_new_tokens": max_new_tokens,
        "max_bytes": max_bytes,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "seed": seed,
        "stop": until,
        "stop_strings": [to_bytes(one) for one in stop or []],
    }
    modes = (mode, *(one for one in MODES if one != mode)) if compare else (mode,)
    # An unknown mode is refused there, with the choices named.
    done = [
        infill(lm, before, after, mode=one, **options)  # type: ignore[arg-type]
        for one in modes
    ]
    if json:
        found = {
            "format_version": FORMAT_VERSION,
            "model": model,
            "law": law,
            "prefix": shown(before),
            "suffix": shown(after),
            "middle": done[0].to_dict(),
        }
        if compare:
            found["compared"] = [one.to_dict() for one in done[1:]]
        output.document(found)
    elif compare:
        _print_compared(output, before, after, done)
    else:
        output.result(done[0].bytes)
    first = done[0]
    output.progress(
        f"{len(first.bytes)} bytes; ended: {first.finish}; {first.logprob:.2f} nats; "
        f"asked as {first.template.label}"
    )
    return ExitCode.DONE


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers", param_hint="--k") from None


def _texts(prefix: str | None, suffix: str | None, file: Path | None) -> tuple[bytes, bytes]:
    """Return prefix and suffix, given apart or in one file."""
    if file is None:
        if prefix is None and suffix is None:
            raise typer.BadParameter("give --prefix and --suffix, or --file, or --eval")
        return to_bytes(prefix or ""), to_bytes(suffix or "")
    if prefix is not None or suffix is not None:
        raise typer.BadParameter("give --prefix and --suffix, or --file", param_hint="--file")
    parts = read_file(file).split(MARKER.encode())
    if len(parts) != 2:
        from anyvocab import errors

        raise errors.build(
            errors.InvalidValue,
            f"holds {MARKER} {len(parts) - 1} times",
            field="--file",
            file=str(file),
            fix=f"write {MARKER} once, where the middle goes",
        )
    return parts[0], parts[1]


def _print_compared(output: Output, before: bytes, after: bytes, done: list[Infill]) -> None:
    from anyvocab.report.visible import one_line, visible_bytes

    head = before[before.rfind(b"\n") + 1 :]
    end = after.find(b"\n")
    tail = after if end < 0 else after[:end]
    output.heading(f"Between [{one_line(head)}] and [{one_line(tail)}]")
    for one in done:
        output.heading(one.mode)
        output.text(visible_bytes(one.bytes))
    output.console.print()
    output.table(
        ["mode", "bytes", "ended", "log-probability (nats)"],
        [[one.mode, len(one.bytes), one.finish, f"{one.logprob:.2f}"] for one in done],
        numbers=[1, 3],
    )
