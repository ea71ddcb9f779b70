"""`anyvocab extend`: more tokens for a tokenizer, its ids and merges untouched."""

from __future__ import annotations

import time
from dataclasses import replace as changed
from typing import Annotated, Any, Literal, cast

import typer

from anyvocab.cli.corpus_options import (
    CountsOption,
    DocumentsOption,
    FieldOption,
    FilesArgument,
    InvalidOption,
    LimitOption,
    MemoryOption,
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
    OneScriptOption,
    VetoOption,
)
from anyvocab.cli.output import ExitCode, JsonOption, Output, SourceArgument, printable
from anyvocab.cli.progress import ProgressLine
from anyvocab.cli.spoken import spoken
from anyvocab.cli.train import load_shards

__all__ = ["command"]

FORMAT_VERSION = 1


@spoken(LEARNING)
def command(
    tokenizer: SourceArgument,
    out: OutFolderOption,
    tokens: Annotated[
        int, typer.Option(min=1, help="How many tokens are added.", show_default=False)
    ],
    files: FilesArgument = None,
    from_counts: CountsOption = None,
    min_frequency: MinFrequencyOption = 2,
    max_token_bytes: MaxTokenBytesOption = None,
    max_words: MaxWordsOption = None,
    max_digits: MaxDigitsOption = None,
    one_script: OneScriptOption = False,
    veto: VetoOption = None,
    jsonl_field: FieldOption = "text",
    documents: DocumentsOption = "file",
    weight: WeightOption = None,
    limit: LimitOption = None,
    invalid: InvalidOption = "bytes",
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    memory: MemoryOption = "1GB",
    replace: ReplaceOption = False,
    json: JsonOption = False,
) -> ExitCode:
    """Add tokens learnt from a corpus to a BPE tokenizer: byte-level, or with byte fallback.

    Every id keeps its bytes and every merge its rank; new ids follow the largest. What is written
    is read back first; exit code 3 when ids differ.
    """
    from anyvocab import errors
    from anyvocab._save import check_place
    from anyvocab.tokenizer import Tokenizer
    from anyvocab.training.bpe import counts_of
    from anyvocab.training.export import save_verified
    from anyvocab.training.extend import extend_counts, plan_of
    from anyvocab.training.options import Veto

    if bool(files) == bool(from_counts):
        raise typer.BadParameter("give FILES, or --from-counts SHARD")
    output = Output(json=json)
    existing: Literal["refuse", "replace"] = "replace" if replace else "refuse"
    check_place(out, existing=existing)
    rules = Veto(max_words=max_words, max_digits=max_digits, one_script=one_script, pattern=veto)
    started = time.perf_counter()
    source = Tokenizer.load(tokenizer)
    plan = changed(
        plan_of(source),
        documents=cast(Literal["file", "line"], documents),
        invalid=cast(Literal["bytes", "skip", "error"], invalid),
        seed=seed,
        threads=threads,
        memory_bytes=size(memory),
    )
    how: dict[str, Any] = {
        "field": jsonl_field,
        "weights": weights_of(weight),
        "limit_bytes": limits_of(limit),
    }
    progress = ProgressLine(output)
    try:
        corpus: Any = load_shards(from_counts) if from_counts else places(files or [])
        extended = extend_counts(
            source,
            counts_of(corpus, plan, how, progress),
            tokens,
            min_frequency=min_frequency,
            veto=None if rules.is_empty else rules,
            max_token_bytes=max_token_bytes,
            progress=progress,
        )
    finally:
        progress.end()
    try:
        checked = save_verified(extended.tokenizer, out, extended.sample, existing=existing)
    except errors.VerificationFailed as error:
        output.error(error)
        return ExitCode.VERIFICATION_FAILED
    seconds = time.perf_counter() - started
    if json:
        output.document(
            {
                "format_version": FORMAT_VERSION,
                "path": str(out),
                "tokens": len(extended.tokenizer.vocabulary),
                "new_tokens": extended.new_tokens,
                "first_new_id": extended.first_new_id,
                "merges": len(extended.merges),
                "stop": extended.stop,
                "pattern": extended.header.pattern,
                "verified": {
                    "texts": checked.texts,
                    "tokens": checked.tokens,
                    "tokenizers": checked.by,
                },
                "seconds": round(seconds, 3),
            }
        )
        return ExitCode.DONE
    output.text(
        f"{extended.new_tokens:,} tokens more, from id {extended.first_new_id:,} on; "
        f"{len(extended.tokenizer.vocabulary):,} in all"
    )
    if extended.new_tokens < tokens:
        output.text(f"no other pair occurs {max(min_frequency, 1)} times: fewer than {tokens:,}")
    by = f"tokenizers {checked.by} and here" if checked.by else "here (tokenizers is not installed)"
    output.text(f"{checked.texts} texts, {checked.tokens:,} ids: the same read back by {by}")
    output.text(printable(f"{out}: {seconds:.1f} s"))
    return ExitCode.DONE
