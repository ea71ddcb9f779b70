"""One call: a model leaves with another tokenizer. Plan, apply, verify."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from anyvocab import errors
from anyvocab._save import write_atomically
from anyvocab.evaluate.models import model_kind
from anyvocab.transplant import applying, tokens
from anyvocab.transplant.files import (
    config_files,
    manifest,
    model_card,
    tokenizer_files,
    vocabulary_digest,
)
from anyvocab.transplant.heal import healing_file
from anyvocab.transplant.identity import Origin
from anyvocab.transplant.job import Job, open_job
from anyvocab.transplant.plan import SIDES, Plan, Side
from anyvocab.transplant.plan_file import save_plan
from anyvocab.transplant.planning import (
    calibration_for,
    check_sides,
    make_plan,
    named_strategies,
    strategies_of,
    wants_two,
)
from anyvocab.transplant.result import SwapReport, Verification
from anyvocab.transplant.row_statistics import RowStatistics, row_statistics
from anyvocab.transplant.verify import compare_rows, verify
from anyvocab.transplant.weights import Checkpoint, finish, rewrite

if TYPE_CHECKING:
    from anyvocab.transplant.chat import Policy
    from anyvocab.transplant.context import Encoder, Progress

__all__ = ["EXTRAS", "RUN_LIMIT", "staging_of", "swap"]

EXTRAS = "anyvocab"  # the folder of what anyvocab adds to a model: plan, origins
PLAN = "plan.safetensors"
_MADE = (Origin.COMPOSED, Origin.PREDICTED)
RUN_LIMIT = 4 << 30  # bytes of weights of a model that is run without being asked to


@dataclass
class _Clock:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


def swap(
    model: str | os.PathLike[str],
    tokenizer: object,
    out: str | os.PathLike[str],
    *,
    strategy: str | Mapping[Side, str] = "auto",
    options: Mapping[str, Any] | None = None,
    donor: str | os.PathLike[str] | None = None,
    corpus: Iterable[str | os.PathLike[str] | bytes] = (),
    judge: Iterable[str | os.PathLike[str] | bytes] = (),
    map: Mapping[str, str] | Sequence[str] = (),
    chat: Policy | None = None,
    tie: Literal["auto", "keep", "untie"] = "auto",
    calibrate: Literal["auto", "all", "off"] = "auto",
    pad_multiple: int = 1,
    encoder: Encoder | None = None,
    run: Literal["auto", "always", "never"] = "auto",
    verification: Literal["full", "files", "off"] = "full",
    force: bool = False,
    dry_run: bool = False,
    resume: bool = False,
    link: Literal["hard", "copy"] = "copy",
    seed: int = 0,
    progress: Progress | None = None,
) -> SwapReport:
    """Give a pretrained model another tokenizer, write the result, and return what was done.

    The new folder loads in transformers and whatever else reads its format. Rows of tokens that
    both vocabularies have are the source's bit for bit (unless the strategy is one that makes them
    too, and a text says that it helps: `hypernet`), but for the output row of a second id with
    the same bytes, which is made improbable; every weight that does not belong to the
    vocabulary is the source's byte for byte. Nothing appears at `out` before all of it is there.

    Args:
        model: A folder, a hub id, or `pico:NAME`.
        tokenizer: Anything :meth:`anyvocab.Tokenizer.load` takes.
        out: The new folder; there must be nothing, or an empty folder.
        strategy: A name of :func:`anyvocab.transplant.strategies.names`, one for each side, or
            `auto`: the best on hidden rows and, where the model can be run, in bits per byte.
        options: Of the named strategy.
        donor: A model that has the new vocabulary.
        corpus: Text files and folders, or texts as bytes, of the model's use. Some strategies need
            them; calibration and the measurements are better for them.
        judge: The same, for measuring only; a fifth of the corpus when left out.
        map: Control tokens by hand: new spelling to old spelling, id or text; or `NEW=OLD` texts.
        chat: `keep`, `take` or `translate` the chat template, or `none`; the target's own when
            left out, else the source's translated.
        tie: Whether tied matrices stay tied: `auto` unties them where output rows are calibrated,
            and where the strategy makes a row for each side.
        calibrate: Whether output rows are fitted to the corpus, where there is one and the model
            may be run: `auto` those of new tokens; `all` those of shared ones too where a hidden
            part of the corpus is predicted better by them, which are then no copies any more.
        pad_multiple: Rows are padded to a multiple of this.
        encoder: Byte strings to vectors of an auxiliary space, for strategies that want one.
        run: Whether the model may be run: `auto` up to `RUN_LIMIT` bytes of weights.
        verification: `full` loads the result in a process of its own; `files` compares files only.
        force: Go on although the gate refuses; its findings stay in the report.
        dry_run: Plan, and write nothing.
        resume: Go on with an interrupted swap; without it one is begun anew.
        link: `hard` links shards that do not change to the source's files; `copy` copies them.
        seed: For what draws at random.
        progress: Told the stage, how much is done and how much there is.

    Raises:
        IncompatibleTokenizer: The gate refuses the pair.
        OutputExists: There is something at `out`.
        AnyvocabError: Whatever is wrong with an input, before anything is computed.

    >>> import anyvocab as av, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = av.swap("pico:code-4k", "pico:code-2k", f"{folder}/new", strategy="mean",
    ...                      verification="files")
    ...     report.counts["input"]["copied"] > 1900, report.ok
    (True, True)
    """
    clock = _Clock()
    place = Path(out)
    _check_choice("verification", verification, ("full", "files", "off"))
    _check_choice("link", link, ("hard", "copy"))
    _check_choice("run", run, ("auto", "always", "never"))
    if not dry_run:
        applying.check_free(place)
    with clock.stage("open"):
        job = open_job(
            model,
            tokenizer,
            donor=donor,
            corpus=corpus,
            judge=judge,
            map=map,
            chat=chat,
            pad_multiple=pad_multiple,
            force=force,
            encoder=encoder,
            seed=seed,
            progress=progress,
        )
    if not dry_run:
        applying.check_apart(place, job.folder)
    runnable = _may_run(job.checkpoint, run)
    scored = runnable and model_kind(job.checkpoint.config) == "causal"
    calibration = calibration_for(job, calibrate, scored)
    wanted = named_strategies(strategy)
    two_sided = wants_two(job, wanted, options or {})
    tied = applying.will_tie(
        job.checkpoint, tie, calibrating=calibration is not None, two_sided=two_sided
    )
    check_sides(wanted, tied)
    small = config_files(job.source, job.target, job.controls, rows=job.rows, tied=tied)
    asked = {
        "strategy": wanted or "auto",
        "options": dict(options or {}),
        "donor": None if donor is None else os.fsdecode(donor),
        "corpus": hashlib.sha256(b"\0".join(job.corpus.learn)).hexdigest(),
        "calibrate": calibrate,
        "map": dict(map) if isinstance(map, Mapping) else list(map),
        "rows": job.rows,
        "tied": tied,
        "run": runnable,
        "seed": seed,
    }
    key = {
        "source vocabulary": vocabulary_digest(job.source.vocabulary),
        "target vocabulary": vocabulary_digest(job.target.vocabulary),
        "request": hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest(),
    }
    staging = staging_of(place)
    if staging.exists() and not resume and not dry_run:
        shutil.rmtree(staging)
    with clock.stage("plan"):
        plan, choice, notes = make_plan(
            job, wanted, options, tied, scored, calibration, staging / EXTRAS / PLAN, key
        )
    report = SwapReport(
        job.model,
        job.tokenizer,
        None,
        len(job.source.vocabulary),
        len(job.target.vocabulary),
        job.rows,
        tied,
        job.checkpoint.tied,
        strategies_of(plan, options),
        choice,
        {side: plan.side(side).counts() for side in (("input",) if tied else SIDES)},
        job.findings,
        job.controls,
        job.chat.policy,
        (*job.checkpoint.notes, *small.notes, *job.chat.notes, *notes),
        plan,
        corpus=job.corpus.origin,
        compression=_compression(job),
        seconds=clock.seconds,
        ends=_ends(small.files),
        source=job.source,
        target=job.target,
    )
    if dry_run:
        return replace(report, peak_bytes=_peak())
    with clock.stage("apply"):
        staging.mkdir(parents=True, exist_ok=True)
        if not (staging / EXTRAS / PLAN).exists():
            save_plan(plan, staging / EXTRAS / PLAN, belongs_to=key)
        changes = applying.exchange(job.checkpoint, plan)
        written = rewrite(
            job.checkpoint,
            staging,
            changes.replaced,
            drop=changes.dropped,
            add=changes.added,
            plan_key=json.dumps(key, sort_keys=True),
            link=link,
            progress=_named(progress, "write"),
        )
        files = {**tokenizer_files(job.source, job.target, job.chat), **small.files}
        origins = tokens.origin_lines(job.target, job.controls, plan)
        for name, data in (*files.items(), *_kept_files(job.folder)):
            write_atomically(staging / name, data)
        for name, data in origins.items():
            write_atomically(staging / EXTRAS / name, data)
        opened = Checkpoint.open(staging, values="trust")  # its rows were checked when written
        new = healing_file(opened, plan, len(job.target.vocabulary))
        for name, data in new.items():
            write_atomically(staging / name, data)
    looked: dict[str, RowStatistics] = {}
    if verification != "off":
        with clock.stage("rows"):
            looked = _row_statistics(job, plan, staging)
    with clock.stage("verify"):
        found = _verify(job, plan, staging, runnable, verification, progress)
    report = replace(
        report,
        out=place,
        files=written.files,
        bytes=written.bytes,
        written=written.written,
        verification=found,
        row_statistics=looked,
        peak_bytes=_peak(),
    )
    write_atomically(staging / "README.md", _card(job, report, place))
    document = manifest(
        job.source,
        job.target,
        strategy=dict(report.strategies),
        options={name: value for name, value in asked.items() if name != "strategy"},
        origins=report.counts["input"],
        chat=job.chat,
        controls=job.controls,
        files=files,
        notes=report.notes,
    )
    ((name, data),) = document.items()
    finish(staging, place, manifest=(name, data))
    return report


def staging_of(out: Path) -> Path:
    """Return where a new folder is made before it has its name; an interrupted swap leaves it."""
    return out.parent / f".{out.name}.swapping"


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        *others, last = (f'"{choice}"' for choice in choices)
        raise errors.build(
            errors.InvalidValue,
            f"{value!r} is no choice",
            field=name,
            fix=f"use {', '.join(others)} or {last}",
        )


def _may_run(checkpoint: Checkpoint, run: str) -> bool:
    if run != "auto":
        return run == "always"
    size = sum((checkpoint.folder / name).stat().st_size for name in checkpoint.shards)
    return size <= RUN_LIMIT


def _compression(job: Job) -> dict[str, tuple[float, float]]:
    from anyvocab.evaluate.tokens import compression

    found = {}
    for domain in job.corpus.judge:
        before, after = (
            compression(tokenizer, domain.documents).bytes_per_token
            for tokenizer in (job.source, job.target)
        )
        found[domain.name] = (before, after)
    return found


def _ends(files: Mapping[str, bytes]) -> tuple[int, ...]:
    said = json.loads(files.get("generation_config.json", b"{}")).get("eos_token_id")
    return (said,) if isinstance(said, int) else tuple(said or ())


def _row_statistics(job: Job, plan: Plan, staging: Path) -> dict[str, RowStatistics]:
    after = Checkpoint.open(staging)
    return {
        side: row_statistics(job.context.matrices[side], after.matrix(side), plan.side(side))
        for side in ((SIDES[0],) if plan.tied else SIDES)
    }


def _verify(
    job: Job,
    plan: Plan,
    staging: Path,
    runnable: bool,
    how: str,
    progress: Progress | None,
) -> Verification | None:
    if how == "off":
        return None
    began = time.perf_counter()
    if progress is not None:
        progress("verify", 0, 1)
    after = Checkpoint.open(staging)
    pairs: dict[str, tuple[Any, Any]] = {}
    for side in ("input",) if plan.tied else SIDES:
        same = plan.side(side).verbatim().nonzero()[0]
        pairs[side] = (plan.side(side).combination.select(same).columns, same)
    checks = compare_rows(job.checkpoint, after, pairs)
    if how == "files":
        return Verification(tuple(checks), None, time.perf_counter() - began)
    judged = {domain.name: domain.documents for domain in job.corpus.judge}
    remade = np.isin(plan.input.origin[: len(job.target.vocabulary)], _MADE)
    found = verify(
        staging,
        job.folder,
        tokenizer=job.target,
        texts=judged,
        run=runnable,
        copied=not (remade & (job.context.match.source_of >= 0)).any(),
    )
    return Verification((*checks, *found.checks), found.evaluation, time.perf_counter() - began)


def _kept_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield what is the model's and not the tokenizer's: licences, processors of images."""
    for path in sorted(folder.iterdir()):
        licence = path.name.upper().startswith(("LICENSE", "LICENCE", "NOTICE", "USE_POLICY"))
        processor = path.name in ("preprocessor_config.json", "processor_config.json")
        if path.is_file() and (licence or processor) and path.stat().st_size < 1 << 20:
            yield path.name, path.read_bytes()


def _card(job: Job, report: SwapReport, place: Path) -> bytes:
    card = job.folder / "README.md"
    bits = report.bits_per_byte()
    numbers: dict[str, object] = {}
    if bits is not None:
        numbers = {"bits per byte before": round(bits[0], 4), "after": round(bits[1], 4)}
        numbers["measured on"] = report.corpus
    return model_card(
        title=place.name,
        source=report.model,
        target=report.tokenizer,
        strategy=", ".join(f"{side}: {what['name']}" for side, what in report.strategies.items()),
        facts=report.counts["input"],
        numbers=numbers,
        notes=report.notes,
        source_card=card.read_text("utf-8", "replace") if card.is_file() else "",
    )


def _named(progress: Progress | None, stage: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(stage, done, total)


def _peak() -> int | None:
    """Return the most memory that this process had, in bytes, where the system tells."""
    if sys.platform == "win32":
        return None
    if sys.platform == "linux":  # getrusage begins with what the parent had when it forked
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        held = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
        if held is not None:
            return int(held[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
