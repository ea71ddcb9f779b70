"""`anyvocab compare`: tokenizers on the same texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anyvocab.cli.inspect import _other
from anyvocab.cli.output import (
    ExitCode,
    FieldOption,
    HtmlOption,
    JsonOption,
    Output,
    PatternOption,
    TextsOption,
    printable,
)
from anyvocab.cli.progress import ProgressLine

if TYPE_CHECKING:
    from anyvocab import Tokenizer
    from anyvocab.evaluate import Domain, Interval
    from anyvocab.evaluate.tokenizers import DomainTokens, TokenizerComparison, TokenizerScore

__all__ = ["command", "opened_by_name", "texts_of"]

WORDS = ("none", "1", "2", "3", "4+")
EXAMPLES = 8


def command(
    tokenizers: Annotated[
        list[str],
        typer.Argument(
            metavar="TOKENIZER...",
            help="Folders, tokenizer files, hub ids, or embedded models (pico:code-4k), each also "
            "as NAME=SOURCE. The first is what the others are compared with. A text file among "
            "them is one more text.",
            show_default=False,
        ),
    ],
    text: TextsOption = None,
    parallel: Annotated[
        Path | None,
        typer.Option(
            metavar="PLACE",
            help="The same content in several languages: a folder with a file for each, or one "
            ".json or .tsv file; a small built-in sample.",
            exists=True,
            readable=True,
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="BYTES", help="Read so many bytes of each domain.", show_default=False
        ),
    ] = None,
    field: FieldOption = "text",
    block: Annotated[
        int,
        typer.Option(
            min=1, metavar="BYTES", help="Of a block that intervals draw where documents are few."
        ),
    ] = 1024,
    resamples: Annotated[int, typer.Option(min=100, help="How often documents are drawn.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    excerpts: Annotated[
        int, typer.Option(min=0, help="Excerpts in which every prompt boundary is tried.")
    ] = 64,
    passes: Annotated[int, typer.Option(min=0, help="How often encoding is timed; 0: never.")] = 3,
    width: Annotated[int, typer.Option(min=1, help="Of the model whose cost is reckoned.")] = 2048,
    layers: Annotated[int, typer.Option(min=1, help="Of the model whose cost is reckoned.")] = 24,
    example: Annotated[
        str | None,
        typer.Option(help="A text that the page shows cut into tokens.", show_default=False),
    ] = None,
    html: HtmlOption = None,
    pattern: PatternOption = None,
    json: JsonOption = False,
) -> ExitCode:
    """Compare tokenizers: length, words, use, stability, fairness and cost of their tokens."""
    from anyvocab.evaluate import Bootstrap
    from anyvocab.evaluate.tokenizers import ModelShape, compare_tokenizers
    from anyvocab.report import read_languages
    from anyvocab.report.sample import SAMPLE, SAMPLE_NAME

    # A shell expands `--text *.md` into one text and many arguments.
    files = [one for one in tokenizers if _is_text(one)]
    chosen = [one for one in tokenizers if one not in files]
    if not chosen:
        raise typer.BadParameter("give a tokenizer: a folder, a file, or pico:code-4k")
    output = Output(json=json)
    languages = dict(SAMPLE) if parallel is None else read_languages(parallel)
    domains = texts_of([*(text or []), *files], languages, field, limit)
    opened = opened_by_name(chosen, pattern)
    progress = ProgressLine(output)
    try:
        comparison = compare_tokenizers(
            opened,
            domains,
            parallel=languages,
            bootstrap=Bootstrap(block=block, resamples=resamples, seed=seed),
            shape=ModelShape(width=width, layers=layers),
            excerpts=excerpts,
            passes=passes,
            progress=lambda one, step, done, total: progress(f"{one}: {step}", done, total),
        )
    finally:
        progress.end()
    if html is not None:
        from anyvocab._save import write_atomically
        from anyvocab.report.compare_page import compare_page
        from anyvocab.report.tokenizer_report import example_cuts

        shown = (example or "").encode("utf-8", "surrogatepass")
        cuts = example_cuts(opened, domains, text=shown)
        origin = SAMPLE_NAME if parallel is None else parallel.name
        page = compare_page(comparison, cuts, parallel=origin)
        write_atomically(html, page.encode("utf-8", "backslashreplace"))
    if json:
        output.document(comparison.to_dict())
    else:
        _print(output, comparison)
    if html is not None:
        output.progress(f"wrote {html}")
    return ExitCode.DONE


def _is_text(argument: str) -> bool:
    from anyvocab.evaluate.domains import SUFFIXES

    name = Path(argument).name
    named_as_one = name.startswith("rwkv_vocab") or name == "vocab.txt"
    is_text = name.removesuffix(".gz").endswith(SUFFIXES) and not named_as_one
    return is_text and Path(argument).is_file()


def opened_by_name(sources: Sequence[str], pattern: str | None) -> dict[str, Tokenizer]:
    """Return tokenizers by their names, given as SOURCE or NAME=SOURCE."""
    from anyvocab.evaluate.compare import _unique
    from anyvocab.evaluate.tokenizers.compare import name_of

    found: dict[str, Tokenizer] = {}
    for source in sources:
        name, equals, place = source.partition("=")
        named = bool(equals and name and place) and not Path(source).exists()
        loaded = _other(place if named else source, pattern)
        found[_unique(name if named else name_of(source), list(found))] = loaded
    return found


def texts_of(
    places: Sequence[str], languages: Mapping[str, str], field: str, limit: int | None
) -> list[Domain]:
    """Return the texts; the parallel ones where no other is given."""
    from anyvocab.evaluate.domains import _limited, read_domains

    if places:
        return read_domains(places, field=field, limit=limit)
    return [
        _limited(name, [text.encode("utf-8", "surrogatepass")], limit)
        for name, text in languages.items()
    ]


def _between(interval: Interval | None, form: str = ".3f") -> str:
    return "" if interval is None else f"{interval.low:{form}}..{interval.high:{form}}"


def _print(output: Output, comparison: TokenizerComparison) -> None:
    from anyvocab.report.compare_page import ALL, summary

    scores = comparison.tokenizers
    names = [one.name for one in scores]
    output.heading("At a glance")
    output.beside("", names, [[title, *cells] for title, cells in summary(scores)])
    level = f"{comparison.bootstrap.level:.0%} interval"
    several = len(comparison.domains) > 1
    output.heading("Bytes per token (higher is better)")
    rows: list[list[object]] = []
    for d, domain in enumerate(comparison.domains):
        rows += [
            _row(domain.name if not m else "", one.name, one.domains[d])
            for m, one in enumerate(scores)
        ]
    if several:
        rows += [_row(ALL if not m else "", one.name, one) for m, one in enumerate(scores)]
    output.table(
        ["domain", "tokenizer", "bytes/token", level, "bytes", "tokens"], rows, numbers=[2, 3, 4, 5]
    )
    if comparison.differences:
        output.heading(f"Tokens against {names[0]}, on the same bytes")
        output.table(
            ["domain", "tokenizer", "tokens", level],
            [
                [
                    one.domain or ALL,
                    one.tokenizer,
                    f"{one.tokens:+.2%}",
                    _between(one.tokens_interval, "+.2%"),
                ]
                for one in comparison.differences
                if one.domain is not None or several
            ],
            numbers=[2, 3],
        )
    _print_words(output, scores)
    _print_boundaries(output, scores)
    _print_languages(output, scores)
    _print_tokens(output, scores)
    _print_cost(output, comparison)
    output.text("")
    for one in scores:
        for note in one.notes:
            output.text(printable(f"{one.name}: {note}"))
    output.text(comparison.policy())
    for domain in comparison.domains:
        if domain.left_out:
            output.text(printable(f"{domain.name}: {domain.left_out} bytes left out by --limit"))


def _row(domain: str, name: str, score: DomainTokens | TokenizerScore) -> list[object]:
    return [
        domain,
        name,
        f"{score.bytes_per_token:.3f}" if score.is_encoded else "unknown",
        _between(score.interval) if score.is_encoded else "",
        score.bytes,
        score.tokens,
    ]


def _print_words(output: Output, scores: Sequence[TokenizerScore]) -> None:
    output.heading("Words that a token touches: share of tokens, and different tokens that occur")
    output.table(
        ["tokenizer", *(f"{one}" for one in WORDS), *(f"ids {one}" for one in WORDS)],
        [
            [
                one.name,
                *(f"{share:.1%}" for share in one.usage.words.shares),
                *one.usage.words.ids,
            ]
            for one in scores
        ],
        numbers=range(1, 11),
    )


def _print_boundaries(output: Output, scores: Sequence[TokenizerScore]) -> None:
    from anyvocab.report.visible import one_line

    tried = [(one.name, one.boundaries) for one in scores if one.boundaries is not None]
    if tried:
        output.heading("Places where the tokens so far are not how those of the whole begin")
        output.table(
            ["tokenizer", "ends of words", "after a space", "any character", "any byte"],
            [
                [
                    name,
                    *(
                        f"{places.share:.1%}"
                        for places in (found.words, found.spaces, found.characters, found.bytes)
                    ),
                ]
                for name, found in tried
            ],
            numbers=range(1, 5),
        )
    output.heading("Answer letters A to D whose tokens stay what they are before what follows")
    following = [one.following for one in scores[0].letters]
    output.table(
        ["tokenizer", *(f"'{one_line(one)}'" for one in following)],
        [[one.name, *(test.kept or "none" for test in one.letters)] for one in scores],
    )


def _print_languages(output: Output, scores: Sequence[TokenizerScore]) -> None:
    found = [(one.name, one.fairness) for one in scores if one.fairness is not None]
    if not found:
        return
    output.heading("Tokens of the same content, over those of the language treated best")
    rows: list[list[object]] = [
        [
            language.language,
            *(
                "unknown" if (premium := fair.languages[i].premium) is None else f"{premium:.2f}"
                for _, fair in found
            ),
        ]
        for i, language in enumerate(found[0][1].languages)
    ]
    rows.append(["Gini coefficient", *(f"{fair.gini:.3f}" for _, fair in found)])
    output.beside("language", [name for name, _ in found], rows)


def _print_tokens(output: Output, scores: Sequence[TokenizerScore]) -> None:
    from anyvocab.report.visible import one_line

    output.heading("Tokens that nothing becomes, and tokens that longer ones take up")
    rows: list[list[object]] = []
    for one in scores:
        lost, scaffolds = one.unreachable, one.scaffolds
        rows.append(
            [
                one.name,
                lost.count - lost.seen,
                " ".join(f"[{one_line(each.token)}]" for each in lost.examples[:EXAMPLES]),
                "" if scaffolds is None else scaffolds.count,
                ""
                if scaffolds is None
                else " ".join(
                    f"[{one_line(each.token)}]" for each in scaffolds.examples[:EXAMPLES]
                ),
            ]
        )
    output.table(
        ["tokenizer", "unreachable", "such as", "scaffolds", "such as"], rows, numbers=[1, 3]
    )


def _print_cost(output: Output, comparison: TokenizerComparison) -> None:
    from anyvocab.report.compare_parts import against

    scores, shape = comparison.tokenizers, comparison.shape
    first = scores[0]
    output.heading(
        f"Cost in a model of width {shape.width} and {shape.layers} layers; encoding on one thread"
    )
    output.table(
        [
            "tokenizer",
            "rows",
            "rows added",
            "tokens",
            "Mparams a matrix",
            "MFLOP/byte",
            "MB/s",
            "MB/CPU s",
        ],
        [
            [
                one.name,
                one.cost.rows,
                "" if one is first else f"{one.cost.rows - first.cost.rows:+}",
                "" if one is first else against(one, first),
                f"{one.cost.row_parameters / 1e6:.1f}",
                f"{one.cost.flops / 1e6:.0f}" if one.is_encoded else "unknown",
                "" if one.speed is None else f"{one.speed.megabytes_per_second:.1f}",
                "" if one.speed is None else f"{one.speed.megabytes_per_cpu_second:.1f}",
            ]
            for one in scores
        ],
        numbers=range(1, 8),
    )
