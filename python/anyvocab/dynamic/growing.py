"""Growing a model's vocabulary: its tokenizer goes on learning, and new tokens get rows."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from anyvocab import errors
from anyvocab._torch import import_torch
from anyvocab.dynamic.grown import DTYPES, MANIFEST, ROWS, GrownCard, write_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.hypernet import Hypernet
    from anyvocab.hypernet.predict import SourceModel
    from anyvocab.hypernet.rows import Rows
    from anyvocab.tokenizer import Tokenizer
    from anyvocab.training.extend import Extended

__all__ = ["GrowReport", "grow"]

Progress = Callable[[str, int, int], None]
TOKENS_AT_ONCE = 1 << 16  # whose mean is taken at once


@dataclass(frozen=True)
class GrowReport:
    """What became of growing a vocabulary.

    Attributes:
        folder: Where it is.
        outcome: `complete`: it has the size that was asked for; `exhausted`: the corpus gave no
            further pair that is frequent enough, and it has fewer tokens.
        asked: The size that was asked for.
        tokens: The ids of the grown tokenizer.
        first_new_id: Ids from here on are new.
        rows_from: `hypernet`, or `mean`: each new row is the mean of its pieces' rows.
        dtype: The type of the rows.
        row_bytes: The size of their file.
        verified: How many ids the written tokenizer was checked on.
    """

    folder: Path
    outcome: Literal["complete", "exhausted"]
    asked: int
    tokens: int
    first_new_id: int
    rows_from: Literal["hypernet", "mean"]
    dtype: str
    row_bytes: int
    verified: int

    @property
    def new_tokens(self) -> int:
        """How many tokens there are more than before."""
        return self.tokens - self.first_new_id

    def __str__(self) -> str:
        short = "" if self.outcome == "complete" else f", {self.asked:,} were asked for"
        return (
            f"{self.tokens:,} tokens ({self.new_tokens:,} new{short}), "
            f"rows by {self.rows_from}, {self.row_bytes / 1e6:,.1f} MB: {self.folder}"
        )


def grow(
    model: str | os.PathLike[str],
    corpus: Any,
    out: str | os.PathLike[str],
    *,
    size: int = 1_000_000,
    hypernet: str | os.PathLike[str] | Hypernet | None = "auto",
    min_count: int = 2,
    max_token_bytes: int | None = None,
    dtype: Literal["float32", "bfloat16"] | None = None,
    language: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    **counting: Any,
) -> GrowReport:
    """Write a model's vocabulary, grown on a corpus to `size` tokens, with rows for what is new.

    The tokenizer goes on learning merges where it stopped (:func:`anyvocab.extend`): every id and
    merge stays, new ones follow. A new token's rows are what a hypernetwork predicts from its
    pieces, else their mean (Feher et al., arXiv:2411.18553, section 3.3). The model is not changed;
    :class:`anyvocab.dynamic.LargeVocabularyLM` runs it with the grown vocabulary.

    Memory is the corpus's counts while it is learnt from, then the model's matrices, the new
    tokens' pieces and one chunk of rows: new rows go into a mapped file. The folder appears when it
    is complete; after an error or Ctrl-C there is none.

    Args:
        model: A folder, a hub id, or `pico:NAME`, with a tokenizer that can be extended.
        corpus: Whatever :func:`anyvocab.extend` takes.
        out: The folder; nothing, or an empty folder, may be there.
        size: How many ids the grown tokenizer shall have, the old ones included.
        hypernet: A hypernetwork or its folder; `auto`: the one shipped with the model, the mean
            where there is none; None: the mean.
        min_count: Pairs that occur less often are not merged.
        max_token_bytes: Longest new token.
        dtype: The type of the rows; when left out bfloat16 where the model's are, else float32.
        language: For a hypernetwork that tells languages apart.
        device: Where the hypernetwork runs; on the CPU when left out.
        progress: Told a stage (`counting`, `merging`, `rows`), how much is done, and of how much.
        counting: The arguments of :func:`anyvocab.extend` that say how a corpus is counted:
            `field`, `documents`, `weights`, `limit_bytes`, `invalid`, `seed`, `threads`,
            `memory_bytes`.

    Returns:
        What there is now. A corpus that gives fewer tokens than asked for is no error:
        `outcome` says so.

    Raises:
        OutputExists: There is something at `out`.
        InvalidValue: `size` is not above the vocabulary's, another argument is out of range, the
            model has ids without a row, or the hypernetwork is for another vocabulary.
        UnsupportedTokenizer: The tokenizer cannot be continued; the message names the part.
        SourceNotFound: There is no such model or hypernetwork.
        The errors of :func:`anyvocab.count`.
    """
    from anyvocab.evaluate.models import find_folder
    from anyvocab.hypernet.predict import SourceModel
    from anyvocab.training.export import save_verified
    from anyvocab.transplant.files import vocabulary_digest
    from anyvocab.transplant.weights import finish

    torch = import_torch()
    _check_place(Path(out))
    folder = find_folder(os.fsdecode(model))
    source = SourceModel.open(folder)
    _check_rows(source, size, dtype)
    net, rows_from, digest = _chosen(hypernet, folder, source, device)
    stored = "bfloat16" if source.rows.input.dtype == torch.bfloat16 else "float32"
    kept = dtype or stored
    extended = _extended(
        source.tokenizer, corpus, size, min_count, max_token_bytes, progress, counting
    )
    grown = extended.tokenizer
    tokens = _new_tokens(grown, extended.first_new_id)
    staging = Path(out).with_name(f".{Path(out).name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        checked = save_verified(grown, staging, extended.sample)
        made = (
            _means(source, tokens, progress)
            if net is None
            else _predicted(net, source, grown, tokens, extended.first_new_id, language, progress)
        )
        untied = source.rows.output is not None
        written = write_rows(
            staging / ROWS,
            made,
            (len(tokens), source.rows.width),
            dtype=kept,
            output=untied or (net is not None and net.network.config.sides > 1),
            bias=source.rows.bias is not None,
        )
        card = GrownCard(
            model=_name(model),
            source_digest=vocabulary_digest(source.tokenizer.vocabulary),
            digest=vocabulary_digest(grown.vocabulary),
            first_new_id=extended.first_new_id,
            rows_from=rows_from,
            hypernet_digest=digest,
            width=source.rows.width,
            dtype=kept,
        )
        place = finish(staging, out, manifest=(MANIFEST, card.to_json()))
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return GrowReport(
        folder=place,
        outcome="complete" if len(grown.vocabulary) == size else "exhausted",
        asked=size,
        tokens=len(grown.vocabulary),
        first_new_id=extended.first_new_id,
        rows_from=rows_from,
        dtype=kept,
        row_bytes=written,
        verified=checked.tokens,
    )


def _name(model: str | os.PathLike[str]) -> str:
    """Return how a model is found again: a folder by its whole path."""
    text = os.fsdecode(model)
    return str(Path(text).resolve()) if Path(text).exists() else text


def _check_place(out: Path) -> None:
    """Refuse a place that is taken, before hours of work are lost on it."""
    if os.path.lexists(out) and (out.is_symlink() or not out.is_dir() or any(out.iterdir())):
        raise errors.build(
            errors.OutputExists,
            "there is something already",
            field="out",
            file=str(out),
            fix="give a name that is free, or an empty folder",
        )


def _check_rows(source: SourceModel, size: int, dtype: str | None) -> None:
    have, rows = len(source.tokenizer.vocabulary), len(source.rows)
    if have > rows:
        raise errors.build(
            errors.InvalidValue,
            f"the tokenizer has {have} ids, and the model rows for {rows} of them",
            field="model",
            fix="give a model with a row for every id",
        )
    if size <= have:
        raise errors.build(
            errors.InvalidValue,
            f"must be above the {have} ids that there are, got {size}",
            field="size",
            fix="give a larger size",
        )
    if dtype is not None and dtype not in DTYPES:
        raise errors.build(
            errors.InvalidValue, f"{dtype!r} is no choice", field="dtype", fix=" or ".join(DTYPES)
        )


def _chosen(
    hypernet: Any, folder: Path, source: SourceModel, device: str | None
) -> tuple[Hypernet | None, Literal["hypernet", "mean"], str | None]:
    """Return the hypernetwork (None for the mean), what rows are made by, and its digest."""
    from anyvocab.hypernet import Hypernet
    from anyvocab.hypernet.folder import check_source, identity, shipped
    from anyvocab.transplant.files import vocabulary_digest

    if hypernet == "auto":
        hypernet = shipped(folder)
    if hypernet is None:
        return None, "mean", None
    if not isinstance(hypernet, Hypernet):
        hypernet = Hypernet.load(hypernet, device=device)
    place = hypernet.folder or Path()
    check_source(hypernet.card, vocabulary_digest(source.tokenizer.vocabulary), place)
    digest = None if hypernet.folder is None else identity(hypernet.folder)
    return hypernet, "hypernet", digest


def _extended(
    tokenizer: Tokenizer,
    corpus: Any,
    size: int,
    min_count: int,
    max_token_bytes: int | None,
    progress: Progress | None,
    counting: dict[str, Any],
) -> Extended:
    from dataclasses import replace

    from anyvocab.training.bpe import counts_of
    from anyvocab.training.extend import extend_counts, plan_of

    planned = {"documents", "invalid", "seed", "threads", "memory_bytes"}
    read = {"field": "text", "weights": None, "limit_bytes": None}
    unknown = sorted(set(counting) - planned - set(read))
    if unknown:
        raise TypeError(f"grow() got an unexpected keyword argument {unknown[0]!r}")
    plan = replace(plan_of(tokenizer), **{k: v for k, v in counting.items() if k in planned})
    how = {**read, **{k: v for k, v in counting.items() if k in read}}
    return extend_counts(
        tokenizer,
        counts_of(corpus, plan, how, progress),
        size - len(tokenizer.vocabulary),
        min_frequency=min_count,
        max_token_bytes=max_token_bytes,
        progress=progress,
    )


def _new_tokens(grown: Tokenizer, first: int) -> list[bytes]:
    data, offsets = grown.vocabulary.table()
    ends = offsets.tolist()
    return [data[ends[id] : ends[id + 1]] for id in range(first, len(grown.vocabulary))]


def _predicted(
    net: Hypernet,
    source: SourceModel,
    grown: Tokenizer,
    tokens: list[bytes],
    first: int,
    language: str | None,
    progress: Progress | None,
) -> Iterator[tuple[NDArray[np.int64], Rows]]:
    """Yield what a hypernetwork predicts for the new tokens, told of all tokens around them."""
    from anyvocab.hypernet.predict import Predictions
    from anyvocab.transplant.identity import token_table

    if not tokens:
        return
    found = Predictions(
        net.network,
        net.card,
        source,
        tokens,
        ids=np.arange(first, first + len(tokens)),
        vocabulary=[token for token in token_table(grown.vocabulary) if token],
        folder=net.folder,
        language=language,
    )
    yield from found.chunks(progress=_renamed(progress))


def _renamed(progress: Progress | None) -> Progress | None:
    if progress is None:
        return None
    return lambda _, done, total: progress("rows", done, total)


def _means(
    source: SourceModel, tokens: list[bytes], progress: Progress | None
) -> Iterator[tuple[NDArray[np.int64], Rows]]:
    """Yield the means of the rows of the new tokens' pieces, float32."""
    from anyvocab.hypernet.features import pieces_of
    from anyvocab.hypernet.rows import Rows

    torch = import_torch()
    rows = source.rows.to(dtype=torch.float32)
    bias = None if rows.bias is None else rows.bias[:, None]
    for start in range(0, len(tokens), TOKENS_AT_ONCE):
        some = tokens[start : start + TOKENS_AT_ONCE]
        # A tokenizer that can be extended has a token for every byte.
        pieces = pieces_of(source.tokenizer, some, rows=len(rows))
        flat = torch.tensor([id for one in pieces for id in one])
        starts = torch.tensor(np.cumsum([0, *map(len, pieces)])[:-1])

        def mean(matrix: Any, flat: Any = flat, starts: Any = starts) -> Any:
            return torch.nn.functional.embedding_bag(flat, matrix, starts, mode="mean")

        with torch.inference_mode():
            made = Rows(
                mean(rows.input),
                None if rows.output is None else mean(rows.output),
                None if bias is None else mean(bias)[:, 0],
            )
        yield np.arange(start, start + len(some)), made
        if progress is not None:
            progress("rows", start + len(some), len(tokens))
