"""`anyvocab dynamic`: texts cut by tokens that they decide themselves, and what a model says."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anyvocab.cli.byte_options import DeviceOption, DtypeOption, shown, to_bytes
from anyvocab.cli.output import (
    ExitCode,
    FieldOption,
    HtmlOption,
    JsonOption,
    Output,
    TextsOption,
)
from anyvocab.cli.progress import ProgressLine
from anyvocab.cli.spoken import spoken

if TYPE_CHECKING:
    from anyvocab import DynamicModel, DynamicTokenizer
    from anyvocab.dynamic.judged import Judged
    from anyvocab.dynamic.stops import Stops
    from anyvocab.report.pieces import Cut

__all__ = ["command"]

FORMAT_VERSION = 1
GIVEN = "given"  # what the texts of the command line are called together
EXAMPLES, EXAMPLE_BYTES = 3, 800  # texts that are shown, and how much of each
PAGE_EXAMPLES, PAGE_BYTES = 8, 1200
ALIASES = {  # arguments of the library whose options have other names here
    "hypernet": "--rows",
    "kinds": "TEXT",
    "max_merges": "--merges",
    "target_length": "--length",
    "text": "--file",
    "texts": "TEXT",
}


@spoken(ALIASES)
def command(
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT...", help="Texts.", show_default=False),
    ] = None,
    file: TextsOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A model folder, a hub id, or pico:code-4k: also bits per byte and time.",
            show_default=False,
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE", help="In place of a model: a tokenizer.", show_default=False
        ),
    ] = None,
    reduction: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="So many tokens fewer: 20% or 0.2.", show_default=False),
    ] = None,
    attainable: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="So much of what all merges would save: 50%. Without a stop, all.",
            show_default=False,
        ),
    ] = None,
    merges: Annotated[
        int | None, typer.Option(metavar="N", help="Merges at most.", show_default=False)
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(metavar="N", help="So many tokens in a batch.", show_default=False),
    ] = None,
    min_count: Annotated[
        int, typer.Option(metavar="N", help="Merge no pair that occurs less often in a batch.")
    ] = 1,
    unreached: Annotated[
        str,
        typer.Option(
            metavar="raise|keep",
            help="When --reduction or --length cannot be reached: an error, or what there is.",
        ),
    ] = "raise",
    boundary: Annotated[
        str,
        typer.Option(metavar="pretoken|word|sentence|superword", help="What no merge crosses."),
    ] = "pretoken",
    transition: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="With superword: the merges before they may cross pretokens.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", help="Texts that merge together.")] = 32,
    documents: Annotated[
        str, typer.Option(metavar="file|line", help="What a text of --file is.")
    ] = "file",
    field: FieldOption = "text",
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="BYTES", help="Read so many bytes of each file.", show_default=False
        ),
    ] = None,
    rows: Annotated[
        str,
        typer.Option(
            metavar="auto|mean|hypernet|FOLDER",
            help="Rows of new tokens: the model's hypernetwork, the mean of the pieces, or a "
            "folder's hypernetwork.",
        ),
    ] = "auto",
    base_rows: Annotated[
        str,
        typer.Option(
            metavar="source|predicted", help="Rows of the model's tokens: its own, or predicted."
        ),
    ] = "source",
    language: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="For a hypernetwork that tells languages apart: that of the texts.",
            show_default=False,
        ),
    ] = None,
    keep_last: Annotated[
        int,
        typer.Option(
            metavar="N", help="With --model: leave the last N tokens of a context as they are."
        ),
    ] = 0,
    device: DeviceOption = None,
    dtype: DtypeOption = "float32",
    html: HtmlOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
    json: JsonOption = False,
) -> ExitCode:
    """Merge what texts repeat into new tokens: before and after, lengths, merges, bits per byte."""
    if (model is None) == (tokenizer is None):
        raise typer.BadParameter("give one: --model MODEL or --tokenizer SOURCE")
    if not texts and not file:
        raise typer.BadParameter("give a text, or --file FILES")
    output = Output(json=json)
    stops: Stops = {
        "max_merges": merges,
        "reduction": _share(reduction, "--reduction"),
        "attainable": _share(attainable, "--attainable"),
        "target_length": length,
        "min_count": min_count,
        "transition": transition,
        "unreached": unreached,  # type: ignore[typeddict-item]  # checked there
    }
    kinds = _kinds(texts or [], file or [], field=field, limit=limit, documents=documents)
    from anyvocab.dynamic.stops import limits
    from anyvocab.dynamic.survey import survey

    limits(boundary, **stops)  # before a model is loaded
    progress = _Progress(output, quiet=quiet)
    judged: Judged | None = None
    try:
        loaded, merger = _open(
            progress,
            model,
            tokenizer,
            rows=rows,
            base_rows=base_rows,
            language=language,
            device=device,
            dtype=dtype,
        )
        found = survey(
            merger,
            kinds,
            boundary=boundary,  # type: ignore[arg-type]  # checked there, with the choices named
            batch=batch,
            examples=PAGE_EXAMPLES if len(kinds) == 1 else 1,
            progress=progress.of("merging"),
            **stops,
        )
        if loaded is not None:
            from anyvocab.dynamic.judged import judge_kinds

            judged = judge_kinds(
                loaded, kinds, found, keep_last=keep_last, progress=progress.of("scoring")
            )
    finally:
        progress.end()
    from anyvocab.report.dynamic_texts import cuts_of, lengths_of

    cut = partial(cuts_of, merger.tokenizer, found)
    lengths = lengths_of(found, kinds)
    if html is not None:
        from anyvocab._save import write_atomically
        from anyvocab.report.dynamic_page import dynamic_page

        cuts = cut(most=PAGE_EXAMPLES, limit=PAGE_BYTES)
        page = dynamic_page(_label(model or tokenizer or ""), found, cuts, lengths, judged)
        write_atomically(html, page.encode("utf-8", "backslashreplace"))
    if json:
        output.document(
            {
                "format_version": FORMAT_VERSION,
                "model": model,
                "tokenizer": tokenizer,
                **found.to_dict(),
                "texts": [one.to_dict() for one in lengths],
                "examples": [
                    {"name": name, "before": _tokens(before), "after": _tokens(after)}
                    for name, (before, after) in cut(most=EXAMPLES, limit=EXAMPLE_BYTES).items()
                ],
                "judged": None if judged is None else judged.to_dict(),
            }
        )
    else:
        from anyvocab.cli.dynamic_tables import print_judged, print_survey

        print_survey(output, found, cut(most=EXAMPLES, limit=EXAMPLE_BYTES), lengths)
        if judged is not None:
            print_judged(output, judged)
    if html is not None and not quiet:
        output.progress(f"wrote {html}")
    return ExitCode.DONE


class _Progress:
    """A progress line, or nothing at all."""

    def __init__(self, output: Output, *, quiet: bool) -> None:
        self._line = None if quiet else ProgressLine(output)

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._line is not None:
            self._line(stage, done, total)

    def of(self, what: str) -> Callable[[str, int, int], None]:
        """Return the same for what is done to each kind of text."""
        return lambda name, done, total: self(f"{name}: {what}", done, total)

    def end(self) -> None:
        if self._line is not None:
            self._line.end()


def _share(said: str | None, option: str) -> float | None:
    """Return the share that `20%`, `20 %` or `0.2` says.

    Raises:
        InvalidValue: It says none.
    """
    from anyvocab import errors

    if said is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(%?)", said.strip())
    if found is None:
        raise errors.build(
            errors.InvalidValue,
            f"{said!r} is no share",
            field=option,
            fix="write 20% or 0.2",
        )
    share = Fraction(found[1]) / (100 if found[2] else 1)
    if share > 1:
        fix = "a share is at most 100%" if found[2] else f"for a per cent, write {said.strip()}%"
        if not found[2] and share > 100:
            fix = "write 20% or 0.2"
        raise errors.build(errors.InvalidValue, f"{said!r} is more than all", field=option, fix=fix)
    return float(share)


def _kinds(
    texts: Sequence[str],
    files: Sequence[str],
    *,
    field: str,
    limit: int | None,
    documents: str,
) -> dict[str, list[bytes]]:
    """Return name to texts: those of the command line together, then each file.

    Raises:
        AnyvocabError: A file is not there or no text, there is nothing in one, or `documents` is
            no choice.
    """
    from anyvocab import errors
    from anyvocab.evaluate import read_domains

    if documents not in ("file", "line"):
        raise errors.build(
            errors.InvalidValue,
            f"{documents!r} is no choice",
            field="--documents",
            fix="use file, or line for every line of a file as a text",
        )
    kinds: dict[str, list[bytes]] = {}
    if texts:
        kinds[GIVEN] = [to_bytes(text) for text in texts]
    for domain in read_domains(files, field=field, limit=limit) if files else []:
        name = domain.name if domain.name not in kinds else f"{domain.name} (2)"
        kinds[name] = list(domain.documents)
        if documents == "line":
            lines = (line for one in domain.documents for line in one.splitlines())
            kinds[name] = [line for line in lines if line.strip()]
    if not any(map(any, kinds.values())):
        raise errors.build(
            errors.InvalidValue, "all texts are empty", field="TEXT", fix="give one with text"
        )
    return kinds


def _open(
    progress: _Progress,
    model: str | None,
    tokenizer: str | None,
    *,
    rows: str,
    base_rows: str,
    language: str | None,
    device: str | None,
    dtype: str,
) -> tuple[DynamicModel | None, DynamicTokenizer]:
    if model is None:
        from anyvocab import DynamicTokenizer

        return None, DynamicTokenizer(tokenizer)
    from anyvocab import DynamicModel

    progress(f"{model}: loading", 0, 1)
    loaded = DynamicModel.load(
        model,
        rows=rows,
        base_rows=base_rows,  # type: ignore[arg-type]  # checked there, with the choices named
        language=language,
        device=device,
        dtype=dtype,
    )
    return loaded, loaded.tokenizer


def _label(source: str) -> str:
    """Return a short name: the last part of a path, other sources as they are."""
    return Path(source).name if Path(source).exists() else source


def _tokens(cut: Cut) -> list[str]:
    return [shown(piece.text) for piece in cut.pieces if piece.id is not None]
