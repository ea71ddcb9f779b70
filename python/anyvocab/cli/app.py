"""The commands by name, and the one place where exceptions become messages and exit codes.

`anyvocab --help` starts here, so this module and the command modules import nothing heavy at their
top: what a command needs is imported when it runs.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from anyvocab.cli import (
    compare,
    complete,
    count,
    demo,
    doctor,
    dynamic,
    ensemble,
    hypernet_train,
    infill,
    score,
)
from anyvocab.cli import eval as eval_
from anyvocab.cli import extend as extend_
from anyvocab.cli import hypernet as hypernet_
from anyvocab.cli import inspect as inspect_
from anyvocab.cli import swap as swap_
from anyvocab.cli import sweep as sweep_
from anyvocab.cli import train as train_
from anyvocab.cli.output import ExitCode, Output
from anyvocab.cli.spoken import options_of, translated

__all__ = ["app", "run"]

PROGRAM = "anyvocab"
HELP = """Tokenizers as bytes: load any tokenizer exactly, look into it, check it, swap it; ask any
model for bytes.

A SOURCE is a folder, a tokenizer file, a hub id, or an embedded model: pico:code-4k, pico:code-2k.
Every command takes --json. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a check failed,
130 interrupted."""

# Plain help: rich would cost as much time as everything else together. Tables do use it.
app = typer.Typer(
    name=PROGRAM,
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from anyvocab._core import __version__

        Output(json=False).text(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    pass


def _guard(command: Callable[..., ExitCode]) -> Callable[..., None]:
    """Wrap a command: its return value is the exit code, a typed error is a message.

    Other exceptions are bugs and keep their traceback.
    """

    @functools.wraps(command)
    def guarded(*args: object, **options: object) -> None:
        output = Output(json=bool(options.get("json", False)))
        try:
            # Missing in a source checkout that was never built: the message says how.
            from anyvocab.errors import AnyvocabError
        except ModuleNotFoundError as error:
            if error.name != "anyvocab._core":
                raise
            output.error(error)
            raise typer.Exit(ExitCode.FAILED) from None
        try:
            code = command(*args, **options)
            sys.stdout.flush()
        except KeyboardInterrupt:
            output.progress("interrupted")
            code = ExitCode.INTERRUPTED
        except BrokenPipeError:
            # The reader has gone (`| head`). Python would complain again when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = ExitCode.FAILED
        except AnyvocabError as error:
            output.error(translated(error, options_of(command), in_files=False))
            code = ExitCode.FAILED
        except OSError as error:
            output.error(error)
            code = ExitCode.FAILED
        raise typer.Exit(int(code))

    # typer reads the options from the signature.
    guarded.__signature__ = inspect.signature(command, eval_str=True).replace(  # type: ignore[attr-defined]
        return_annotation=None
    )
    guarded.__annotations__ = dict(
        inspect.get_annotations(command, eval_str=True), **{"return": None}
    )
    return guarded


for _name, _command in (
    ("demo", demo.command),
    ("inspect", inspect_.command),
    ("doctor", doctor.command),
    ("count", count.command),
    ("train", train_.command),
    ("extend", extend_.command),
    ("sweep", sweep_.command),
    ("swap", swap_.command),
    ("eval", eval_.command),
    ("compare", compare.command),
    ("complete", complete.command),
    ("score", score.command),
    ("infill", infill.command),
    ("ensemble", ensemble.command),
    ("dynamic", dynamic.command),
):
    app.command(_name, no_args_is_help=_name != "demo")(_guard(_command))


hypernets = typer.Typer(
    help=hypernet_.HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
hypernets.command("train", no_args_is_help=True)(_guard(hypernet_train.command))
hypernets.command("transfer", no_args_is_help=True)(_guard(hypernet_.transfer))
hypernets.command("show", no_args_is_help=True)(_guard(hypernet_.show))
app.add_typer(hypernets, name="hypernet")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name=PROGRAM)
    except SystemExit as exit_:
        if isinstance(exit_.code, int):
            return exit_.code
        return ExitCode.DONE if exit_.code is None else ExitCode.FAILED
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return ExitCode.DONE
