"""`anyvocab complete`: what a model writes behind a text, wherever the text ends."""

from __future__ import annotations

import codecs
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    finite,
    open_model,
    read_bytes,
    shown,
    to_bytes,
)
from anyvocab.cli.output import ExitCode, JsonOption, Output, harmless

if TYPE_CHECKING:
    from anyvocab import ByteLM, Completion
    from anyvocab.report.covers import Explanation

__all__ = ["command"]

FORMAT_VERSION = 1
BYTES_OF_A_TOKEN = 4  # the budget of --bytes, where only --max-new-tokens is given


@dataclass(frozen=True)
class Written:
    """A continuation and what is said of it.

    Attributes:
        how: `tokens behind a cover`, `bytes` or `plain tokens`.
        completion: What was written.
        nats: The log-probability of its bytes under the byte-level model, END not counted.
        seconds: How long it took.
    """

    how: str
    completion: Completion
    nats: float
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """Return it as plain data for JSON."""
        return {
            "how": self.how,
            **self.completion.to_dict(),
            "byte_logprob": finite(self.nats),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Options:
    """How a text is written."""

    max_new_tokens: int
    max_bytes: int | None
    temperature: float
    top_p: float
    top_k: int | None
    min_p: float | None
    stop: tuple[bytes, ...]
    seed: int
    utf8: bool


def command(
    model: ModelArgument,
    prompt: Annotated[
        str | None, typer.Argument(help="The text before; stdin if left out.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="The text before, from a file.", exists=True, dir_okay=False, show_default=False
        ),
    ] = None,
    bytes_: Annotated[
        bool, typer.Option("--bytes", help="Write byte by byte, each by its own distribution.")
    ] = False,
    law: LawOption = "local",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The most tokens written.")] = 64,
    max_bytes: Annotated[
        int | None, typer.Option(min=1, help="The most bytes written.", show_default=False)
    ] = None,
    temperature: TemperatureOption = 0.0,
    top_p: TopPOption = 1.0,
    top_k: TopKOption = None,
    min_p: Annotated[
        float | None,
        typer.Option(
            help="What is less probable than this share of the likeliest is left out.",
            show_default=False,
        ),
    ] = None,
    seed: SeedOption = 0,
    stop: StopOption = None,
    utf8: Annotated[
        bool, typer.Option("--utf8", help="With --bytes: only bytes that make UTF-8.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Beside it, what plain tokens and bytes write.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Show the covers of the prompt and how its next byte arises."
        ),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Write the explanation as a self-contained page.",
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = "float32",
    json: JsonOption = False,
) -> ExitCode:
    """Go on with a text, which may end anywhere: inside a token, inside a character.

    A cover of the prompt is drawn, and tokens are written behind it. The completion alone goes to
    stdout; what is said of it, to stderr.
    """
    if utf8 and not bytes_:
        raise typer.BadParameter("--utf8 is for --bytes", param_hint="--utf8")
    context = read_bytes(prompt, file, name="prompt")
    output = Output(json=json)
    options = Options(
        max_new_tokens,
        max_bytes,
        temperature,
        top_p,
        top_k,
        min_p,
        tuple(to_bytes(one) for one in stop or []),
        seed,
        utf8,
    )
    lm = open_model(output, model, law=law, device=device, dtype=dtype)
    quiet = json or compare or explain
    written = [_write(output, lm, context, options, byte_by_byte=bytes_, quiet=quiet)]
    if compare or html is not None:
        written.append(_write(output, lm, context, options, byte_by_byte=not bytes_, quiet=True))
        written.append(_plain(lm, context, options))
    explanation = None
    if explain or html is not None:
        from anyvocab.report.covers import explain as explain_

        explanation = explain_(lm, context)
    if html is not None and explanation is not None:
        _write_page(html, model, explanation, written)
    chosen = written if compare else written[:1]
    if json:
        output.document(_document(model, lm, context, chosen, explanation if explain else None))
    else:
        if explain and explanation is not None:
            from anyvocab.cli.cover_tables import print_explanation

            print_explanation(output, explanation)
        if compare:
            _print_compared(output, chosen)
        elif explain:
            _print_one(output, written[0])
    _say(output, written[0])
    if html is not None:
        output.progress(f"wrote {html}")
    return ExitCode.DONE


def _write(
    output: Output,
    lm: ByteLM,
    context: bytes,
    options: Options,
    *,
    byte_by_byte: bool,
    quiet: bool,
) -> Written:
    """Return a completion; unless it is to be quiet, its bytes are printed as they come."""
    started = time.perf_counter()
    screen = None if quiet else _Screen(output, context)
    common: dict[str, Any] = {
        "temperature": options.temperature,
        "top_k": options.top_k,
        "top_p": options.top_p,
        "min_p": options.min_p,
        "stop": options.stop,
        "seed": options.seed,
    }
    if byte_by_byte:
        budget = options.max_bytes or BYTES_OF_A_TOKEN * options.max_new_tokens
        done = lm.sample(
            context,
            max_bytes=budget,
            utf8=options.utf8,
            heard=screen,
            **common,
        )
    else:
        done = lm.complete(
            context,
            max_new_tokens=options.max_new_tokens,
            max_bytes=options.max_bytes,
            heard=screen,
            **common,
        )
    if screen is not None:
        screen.end()
    seconds = time.perf_counter() - started
    how = "bytes" if byte_by_byte else "tokens behind a cover"
    return Written(how, done, _nats(lm, context, done.bytes), seconds)


def _plain(lm: ByteLM, context: bytes, options: Options) -> Written:
    """Return what plain generation writes behind the prompt's own tokens."""
    from anyvocab.bytelm import Completion
    from anyvocab.bytelm.baselines import Sampler, context_ids, generate

    started = time.perf_counter()
    found = generate(
        lm,
        context_ids(lm, context),
        ends=lm.ends,
        sampler=Sampler(
            options.temperature, options.top_p, options.top_k, options.seed, options.min_p
        ),
        max_new_tokens=options.max_new_tokens,
        max_bytes=options.max_bytes,
        stop=options.stop,
    )
    text = found.bytes
    at = min((i for i in (text.find(one) for one in options.stop) if i >= 0), default=len(text))
    seconds = time.perf_counter() - started
    done = Completion(text[:at], found.logprob, found.finish, len(found.ids))
    return Written("plain tokens", done, _nats(lm, context, done.bytes), seconds)


def _nats(lm: ByteLM, context: bytes, written: bytes) -> float:
    return lm.score(written, prefix=context) if written else 0.0


class _Screen:
    """Bytes that are printed as they come; on a terminal behind the prompt, characters whole."""

    def __init__(self, output: Output, prompt: bytes) -> None:
        self._output = output
        self._live = output.is_live
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._last = b"\n"
        if self._live and prompt:
            from rich.text import Text

            start = prompt[prompt.rfind(b"\n", 0, len(prompt) - 1) + 1 :]
            output.console.print(Text(harmless(start), style="dim"), end="")

    def __call__(self, data: bytes) -> None:
        if data:
            self._last = data[-1:]
        self._output.raw(self._decoder.decode(data).encode() if self._live else data)

    def end(self) -> None:
        """Print what is left of a character that never ended, and end the line on a terminal."""
        if self._live:
            self._output.raw(self._decoder.decode(b"", final=True).encode())
            if self._last != b"\n":
                self._output.raw(b"\n")


def _document(
    model: str,
    lm: ByteLM,
    context: bytes,
    written: Sequence[Written],
    explanation: Explanation | None,
) -> dict[str, object]:
    found: dict[str, object] = {
        "format_version": FORMAT_VERSION,
        "model": model,
        "law": lm.law,
        "prompt": shown(context),
        "completion": written[0].to_dict(),
    }
    if len(written) > 1:
        found["compared"] = [one.to_dict() for one in written[1:]]
    if explanation is not None:
        found["explanation"] = explanation.to_dict()
    return found


def _print_one(output: Output, one: Written) -> None:
    from anyvocab.report.visible import visible_bytes

    output.heading(f"What is written: {one.how}")
    output.text(visible_bytes(one.completion.bytes))


def _print_compared(output: Output, written: Sequence[Written]) -> None:
    from anyvocab.report.visible import visible_bytes

    for one in written:
        output.heading(one.how)
        output.text(visible_bytes(one.completion.bytes))
    output.console.print()
    output.table(
        ["written by", "bytes", "ended", "log-probability of the bytes", "seconds"],
        [
            [
                one.how,
                len(one.completion.bytes),
                one.completion.finish,
                f"{one.nats:.2f}",
                f"{one.seconds:.2f}",
            ]
            for one in written
        ],
        numbers=[1, 3, 4],
    )


def _say(output: Output, one: Written) -> None:
    done = one.completion
    tokens = f", {done.tokens} tokens" if done.tokens else ""
    output.progress(
        f"{len(done.bytes)} bytes{tokens}; ended: {done.finish}; "
        f"{one.nats:.2f} nats; {one.seconds:.2f} s"
    )


def _write_page(
    place: Path, model: str, explanation: Explanation, written: Sequence[Written]
) -> None:
    from anyvocab._save import write_atomically
    from anyvocab.report.cover_page import cover_page

    lines = [(one.how, one.completion.bytes, one.nats) for one in written]
    html = cover_page(model, explanation, lines)
    write_atomically(place, html.encode("utf-8", "backslashreplace"))
