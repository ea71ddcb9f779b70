"""`anyvocab train`: a corpus, or counts of one, into a tokenizer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from anyvocab.cli.corpus_options import (
    CountsOption,
    DocumentsOption,
    FieldOption,
    FilesArgument,
    InvalidOption,
    LimitOption,
    MergingMemoryOption,
    OutFolderOption,
    ReplaceOption,
    SeedOption,
    ThreadsOption,
    WeightOption,
    limits_of,
    weights_of,
)
from anyvocab.cli.count import places, size
from anyvocab.cli.learning_options import (
    LEARNING,
    MaxDigitsOption,
    MaxTokenBytesOption,
    MaxWordsOption,
    MinFrequencyOption,
    NormalizerOption,
    OneScriptOption,
    VetoOption,
)
from anyvocab.cli.output import ExitCode, JsonOption, Output, TextsOption, printable
from anyvocab.cli.progress import ProgressLine
from anyvocab.cli.spoken import spoken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anyvocab import Tokenizer
    from anyvocab.evaluate import Domain
    from anyvocab.training.bpe import Trained
    from anyvocab.training.counts import Counts
    from anyvocab.training.export import Verification
    from anyvocab.training.options import TrainOptions
    from anyvocab.training.superwords import Recipe

__all__ = ["command", "counts_for", "load_shards", "recipe_of_options", "specials_of"]

FORMAT_VERSION = 1


@spoken(LEARNING)
def command(
    out: OutFolderOption,
    files: FilesArgument = None,
    vocab_size: Annotated[
        int, typer.Option(min=1, help="Ids, special tokens and alphabet included.")
    ] = 32_000,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="A known pattern's name, a regular expression, or none; llama3, or the counts'.",
            show_default=False,
        ),
    ] = None,
    normalizer: NormalizerOption = None,
    from_counts: CountsOption = None,
    min_frequency: MinFrequencyOption = 2,
    special: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[ROLE=]TEXT",
            help="A special token, with its role: eos=<|end|>. Several times, in order.",
            show_default=False,
        ),
    ] = None,
    seed_token: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="A text that must be a token. Several times.", show_default=False
        ),
    ] = None,
    alphabet: Annotated[
        str, typer.Option(metavar="bytes|seen", help="All 256 bytes, or those of the corpus.")
    ] = "bytes",
    max_token_bytes: MaxTokenBytesOption = None,
    max_words: MaxWordsOption = None,
    max_digits: MaxDigitsOption = None,
    one_script: OneScriptOption = False,
    veto: VetoOption = None,
    superwords: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="Tokens that cross words: supertokens, superbpe or boundless.",
            show_default=False,
        ),
    ] = None,
    transition: Annotated[
        float | None,
        typer.Option(
            help="superbpe, boundless: tokens after the first stage, or their share up to 1.",
            show_default=False,
        ),
    ] = None,
    resamplings: Annotated[
        int | None,
        typer.Option(min=1, help="supertokens: cuts of each document.", show_default=False),
    ] = None,
    export_as: Annotated[
        str | None,
        typer.Option(
            metavar="superbpe",
            help="boundless: the nearest form that a tokenizer.json says; ids differ in part.",
            show_default=False,
        ),
    ] = None,
    parity: Annotated[
        bool,
        typer.Option("--parity", help="The source that takes the most tokens a byte chooses."),
    ] = False,
    global_merges: Annotated[
        int, typer.Option(min=0, help="With --parity: first so many ordinary merges.")
    ] = 0,
    jsonl_field: FieldOption = "text",
    documents: DocumentsOption = "file",
    weight: WeightOption = None,
    limit: LimitOption = None,
    invalid: InvalidOption = "bytes",
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    memory: MergingMemoryOption = None,
    replace: ReplaceOption = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE",
            help="Write a page that judges the tokenizer, on --text and beside --against.",
            dir_okay=False,
            writable=True,
            show_default=False,
        ),
    ] = None,
    text: TextsOption = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOKENIZER",
            help="For --report: another tokenizer, also as NAME=SOURCE. Several times.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> ExitCode:
    """Train a byte-level BPE tokenizer and write a stock tokenizer.json.

    The merges are those of Hugging Face's trainer on the same pretokens. What is written is read
    back first, here and by `tokenizers` where it is installed; exit code 3 when ids differ.
    """
    from anyvocab import errors
    from anyvocab._save import check_place
    from anyvocab.training.bpe import DEFAULT_PATTERN, train_corpus
    from anyvocab.training.counting import Plan
    from anyvocab.training.export import save_verified
    from anyvocab.training.options import Parity, TrainOptions, Veto, special_tokens_of

    if bool(files) == bool(from_counts):
        raise typer.BadParameter("give FILES, or --from-counts SHARD")
    if from_counts and (pattern or normalizer):
        raise typer.BadParameter("counts know their pattern and normalizer", param_hint="--pattern")
    if from_counts and parity:
        raise typer.BadParameter("it needs FILES by language: NAME=PLACE", param_hint="--parity")
    if report is None and (text or against):
        raise typer.BadParameter(
            "it says what a page is about: give --report PAGE",
            param_hint="--text" if text else "--against",
        )
    recipe = recipe_of_options(superwords, transition, resamplings, export_as)
    output = Output(json=json)
    rules = Veto(max_words=max_words, max_digits=max_digits, one_script=one_script, pattern=veto)
    options = TrainOptions(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=special_tokens_of(specials_of(special or [])),
        initial_alphabet=cast(Literal["bytes", "seen"], alphabet),
        veto=None if rules.is_empty else rules,
        seed_tokens=tuple(one.encode("utf-8", "surrogateescape") for one in seed_token or []),
        max_token_bytes=max_token_bytes,
        memory_bytes=None if memory is None else size(memory),
    )
    plan = Plan(
        pattern=pattern or DEFAULT_PATTERN,
        normalizer=normalizer,
        documents=cast(Literal["file", "line"], documents),
        invalid=cast(Literal["bytes", "skip", "error"], invalid),
        seed=seed,
        threads=threads,
        memory_bytes=size(memory or "1GB"),
    )
    existing: Literal["refuse", "replace"] = "replace" if replace else "refuse"
    # What can be refused is refused before the work.
    check_place(out, existing=existing)
    beside = None if report is None else opened(report, text or [], against or [], jsonl_field)
    started = time.perf_counter()
    progress = ProgressLine(output)
    try:
        corpus: Any = places(files or [])
        if from_counts:
            corpus = counts_for(from_counts, recipe)
        trained = train_corpus(
            corpus,
            options,
            plan,
            superwords=recipe,
            parity=Parity(global_merges=global_merges) if parity else None,
            field=jsonl_field,
            weights=weights_of(weight),
            limit_bytes=limits_of(limit),
            progress=progress,
        )
    finally:
        progress.end()
    try:
        checked = save_verified(trained.tokenizer, out, trained.sample, existing=existing)
    except errors.VerificationFailed as error:
        output.error(error)
        return ExitCode.VERIFICATION_FAILED
    _report(output, trained, options, checked, out, time.perf_counter() - started)
    if report is not None and beside is not None:
        judge(output, trained.tokenizer, out.name, report, *beside)
    return ExitCode.DONE


def opened(
    page: Path, texts: Sequence[str], against: Sequence[str], field: str
) -> tuple[list[Domain], dict[str, Tokenizer]]:
    """Return what a page about a tokenizer needs: the texts, and the tokenizers beside it."""
    from anyvocab.cli.compare import opened_by_name, texts_of
    from anyvocab.report.sample import SAMPLE

    if not page.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {page.parent}", param_hint="--report")
    return texts_of(texts, SAMPLE, field, None), opened_by_name(against, None)


def judge(
    output: Output,
    tokenizer: Tokenizer,
    name: str,
    page: Path,
    texts: Sequence[Domain],
    beside: Mapping[str, Tokenizer],
) -> None:
    """Write a page about a tokenizer, measured on texts that it was not trained on."""
    from anyvocab.report.tokenizer_report import tokenizer_report

    progress = ProgressLine(output)
    try:
        made = tokenizer_report(
            tokenizer,
            texts,
            name=name,
            baselines=beside,
            progress=lambda one, step, done, total: progress(f"{one}: {step}", done, total),
        )
    finally:
        progress.end()
    made.save(page)
    output.progress(f"wrote {page}")


def recipe_of_options(
    superwords: str | None,
    transition: float | None,
    resamplings: int | None,
    export_as: str | None,
) -> Recipe | None:
    """Return the recipe that the options say."""
    from dataclasses import replace

    from anyvocab.training.superwords import Boundless, SuperBPE, Supertokens, recipe_of

    recipe = None if superwords is None else recipe_of(superwords)
    for name, value, field, kinds in (
        ("--transition", transition, "transition", (SuperBPE, Boundless)),
        ("--resamplings", resamplings, "resamplings", (Supertokens,)),
        ("--export-as", export_as, "export", (Boundless,)),
    ):
        if value is None:
            continue
        if not isinstance(recipe, kinds):
            wanted = " or ".join(kind.name for kind in kinds)
            raise typer.BadParameter(f"it needs --superwords {wanted}", param_hint=name)
        changes: dict[str, Any] = {field: value}
        recipe = replace(recipe, **changes)
    return recipe


def counts_for(shards: Sequence[Path], recipe: Recipe | None) -> Any:
    """Return the counts that a training takes: of a recipe of two stages, a pair of them."""
    from anyvocab.training.shards import read_header
    from anyvocab.training.superwords import Supertokens, second_pattern

    if recipe is None or isinstance(recipe, Supertokens):
        return load_shards(shards)
    patterns = {one: read_header(one).pattern for one in shards}
    seconds = {second_pattern(recipe, pattern) for pattern in patterns.values()}
    words = [one for one in shards if patterns[one] not in seconds]
    others = [one for one in shards if patterns[one] in seconds]
    if not words or not others:
        raise typer.BadParameter(
            f"{recipe.name} needs shards of words and of "
            f"{second_pattern(recipe, min(patterns.values()))}",
            param_hint="--from-counts",
        )
    return load_shards(words), load_shards(others)


def specials_of(given: Sequence[str]) -> list[str | tuple[str, str]]:
    """Return special tokens as `ROLE=TEXT` or `TEXT` say; a role is letters and underscores."""
    out: list[str | tuple[str, str]] = []
    for one in given:
        role, equals, text = one.partition("=")
        if equals and text and role.replace("_", "").isalpha():
            out.append((role, text))
        else:
            out.append(one)
    return out


def load_shards(shards: Sequence[Path]) -> Counts:
    """Return the counts of one shard, or the sum of several."""
    import tempfile

    from anyvocab.training.shards import load_counts, merge_shards

    if len(shards) == 1:
        return load_counts(shards[0])
    with tempfile.TemporaryDirectory() as folder:
        merged = Path(folder) / "merged.parquet"
        merge_shards(shards, merged)
        return load_counts(merged)


def _report(
    output: Output,
    trained: Trained,
    options: TrainOptions,
    checked: Verification,
    out: Path,
    seconds: float,
) -> None:
    header = next(iter(trained.headers.values()))
    last = int(trained.counts[-1]) if len(trained.counts) else 0
    if output.json:
        output.document(
            {
                "format_version": FORMAT_VERSION,
                "path": str(out),
                "tokens": len(trained.tokenizer.vocabulary),
                "merges": len(trained.merges),
                "last_count": last,
                "stop": trained.stop,
                "pattern": header.pattern,
                "normalizer": header.normalizer,
                "superwords": trained.recipe,
                "transition": trained.transition,
                "documents": sum(one.documents for one in trained.headers.values()),
                "bytes": sum(one.bytes for one in trained.headers.values()),
                "special_tokens": {
                    text: id for id, text in enumerate(options.special_tokens.texts)
                },
                "verified": {
                    "texts": checked.texts,
                    "tokens": checked.tokens,
                    "tokenizers": checked.by,
                },
                "seconds": round(seconds, 3),
            }
        )
        return
    output.text(
        f"{len(trained.tokenizer.vocabulary):,} tokens, {len(trained.merges):,} merges; the last "
        f"pair occurred {last:,} times"
    )
    if trained.stop == "exhausted":
        output.text(
            f"no other pair occurs {max(options.min_frequency, 1)} times: fewer than the "
            f"{options.vocab_size:,} tokens asked for"
        )
    if trained.recipe is not None:
        at = f", {trained.transition:,} tokens in the first stage" if trained.transition else ""
        output.text(f"superwords: {trained.recipe}{at}")
    if trained.chosen_by is not None:
        for name in sorted(trained.headers):
            output.text(printable(f"{name}: chose {trained.chosen_by.count(name):,} merges"))
    output.text(printable(f"pattern {header.pattern}, normalizer {header.normalizer or 'none'}"))
    by = f"tokenizers {checked.by} and here" if checked.by else "here (tokenizers is not installed)"
    output.text(f"{checked.texts} texts, {checked.tokens:,} ids: the same read back by {by}")
    output.text(printable(f"{out}: {seconds:.1f} s"))
