"""`anyvocab inspect`: what a tokenizer's vocabulary holds, and how it cuts a text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anyvocab.cli.output import (
    ExitCode,
    JsonOption,
    Output,
    PatternOption,
    RevisionOption,
    SourceArgument,
)

if TYPE_CHECKING:
    from anyvocab import Tokenizer
    from anyvocab.report import Cut, LanguageRow, VocabularyFacts

__all__ = ["command"]

FORMAT_VERSION = 1
FILE_LIMIT = 64 << 20  # bytes of --file
SHOWN_LIMIT = 20_000  # bytes of a text that are shown token by token


def command(
    source: SourceArgument,
    text: Annotated[
        str | None, typer.Option(help="Show the tokens of this text.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Show the tokens of this file's text.",
            exists=True,
            dir_okay=False,
            readable=True,
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Compare with another tokenizer.", show_default=False),
    ] = None,
    languages: Annotated[
        Path | None,
        typer.Option(
            metavar="PLACE",
            help="Bytes per token of these languages: a folder with a file for each, or one .json "
            "or .tsv file; a small built-in sample with --against or --html.",
            exists=True,
            readable=True,
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write a self-contained page.", dir_okay=False, writable=True, show_default=False
        ),
    ] = None,
    pattern: PatternOption = None,
    revision: RevisionOption = None,
    json: JsonOption = False,
) -> ExitCode:
    """Show a vocabulary's facts, the tokens of a text, and how another tokenizer compares."""
    from anyvocab import Tokenizer
    from anyvocab.report import compare_languages, cut_text, vocabulary_facts

    if text is not None and file is not None:
        raise typer.BadParameter("give one text: --text or --file")
    output = Output(json=json)
    tokenizers = {_label(source): Tokenizer.load(source, pattern=pattern, revision=revision)}
    if against is not None:
        name = _label(against)
        tokenizers[name if name not in tokenizers else f"{name} (2)"] = _other(against, pattern)
    facts = {name: vocabulary_facts(one, name=name) for name, one in tokenizers.items()}
    data = _text(text, file)
    cuts = {name: cut_text(one, data) for name, one in tokenizers.items()} if data else {}
    by_language: list[LanguageRow] = []
    if languages is not None or against is not None or html is not None:
        by_language = compare_languages(tokenizers, _languages(languages))
    if html is not None:
        _write_page(html, facts, cuts, by_language, languages)
    if json:
        output.document(_document(source, against, facts, cuts, by_language))
    else:
        _print(output, tokenizers, facts, cuts, by_language)
        if html is not None:
            output.progress(f"wrote {html}")
    return ExitCode.DONE


def _label(source: str) -> str:
    """Return a short name: the last part of a path, other sources as they are."""
    return Path(source).name if Path(source).exists() else source


def _other(source: str, pattern: str | None) -> Tokenizer:
    """Load the second tokenizer; `--pattern` is for it too where it is a rank file."""
    from anyvocab import Tokenizer, errors

    if pattern is None:
        return Tokenizer.load(source)
    try:
        return Tokenizer.load(source, pattern=pattern)
    except errors.InvalidValue as error:
        if error.field != "pattern":
            raise
        return Tokenizer.load(source)


def _text(text: str | None, file: Path | None) -> bytes:
    from anyvocab import errors

    if file is None:
        return b"" if text is None else text.encode("utf-8", "surrogatepass")
    with file.open("rb") as stream:
        data = stream.read(FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise errors.build(
            errors.LimitExceeded,
            f"over the limit of {FILE_LIMIT} bytes",
            field="--file",
            file=str(file),
            fix="give a part of it",
        )
    return data


def _languages(place: Path | None) -> Mapping[str, str]:
    from anyvocab.report import read_languages
    from anyvocab.report.sample import SAMPLE

    return SAMPLE if place is None else read_languages(place)


def _write_page(
    path: Path,
    facts: Mapping[str, VocabularyFacts],
    cuts: Mapping[str, Cut],
    languages: list[LanguageRow],
    place: Path | None,
) -> None:
    from anyvocab._save import write_atomically
    from anyvocab.report.inspect_page import inspect_page
    from anyvocab.report.sample import SAMPLE_NAME

    origin = SAMPLE_NAME if place is None else place.name
    page = inspect_page(facts, cuts, languages, origin=origin)
    write_atomically(path, page.encode("utf-8", "backslashreplace"))


def _document(
    source: str,
    against: str | None,
    facts: Mapping[str, VocabularyFacts],
    cuts: Mapping[str, Cut],
    languages: list[LanguageRow],
) -> dict[str, object]:
    """The first tokenizer's facts are the document; what compares goes under its own name."""
    first, *others = facts.values()
    document: dict[str, object] = {"format_version": FORMAT_VERSION, "source": source}
    document |= first.to_dict()
    texts = list(cuts.values())
    if texts:
        document["text"] = _cut_summary(texts[0])
        document["tokens"] = _tokens(texts[0])
    if others:
        document["against"] = {
            "source": against,
            **others[0].to_dict(),
            **({"text": _cut_summary(texts[1]), "tokens": _tokens(texts[1])} if texts else {}),
        }
    if languages:
        document["languages"] = [
            {
                "language": row.language,
                "bytes": row.bytes,
                "tokens": list(row.tokens),
                "bytes_per_token": [round(one, 4) for one in row.bytes_per_token],
            }
            for row in languages
        ]
    return document


def _cut_summary(cut: Cut) -> dict[str, object]:
    return {
        "bytes": len(cut.text),
        "tokens": cut.tokens,
        "bytes_per_token": round(cut.bytes_per_token, 4),
    }


def _tokens(cut: Cut) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    start = 0
    for piece in cut.pieces:
        end = start + len(piece.text)
        if piece.id is not None:
            found.append(
                {
                    "id": piece.id,
                    "text": piece.text.decode("utf-8", "backslashreplace"),
                    "start": start,
                    "end": end,
                    "kind": piece.kind,
                }
            )
        start = end
    return found


def _print(
    output: Output,
    tokenizers: Mapping[str, Tokenizer],
    facts: Mapping[str, VocabularyFacts],
    cuts: Mapping[str, Cut],
    languages: list[LanguageRow],
) -> None:
    from anyvocab.cli import tables

    for one in facts.values() if not cuts else ():
        tables.print_facts(output, one)
    if cuts:
        output.table(
            ["tokenizer", "model", "ids", "tokens", "bytes per token"],
            [
                [
                    name,
                    facts[name].model_type,
                    facts[name].ids,
                    cut.tokens,
                    f"{cut.bytes_per_token:.2f}",
                ]
                for name, cut in cuts.items()
            ],
            numbers=[2, 3, 4],
        )
        tables.print_cuts(output, cuts, SHOWN_LIMIT)
    if languages:
        tables.print_languages(output, list(tokenizers), languages)
