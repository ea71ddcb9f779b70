"""Bits per byte: the one score of a language model that does not depend on its tokenizer."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyvocab import errors
from anyvocab.tokenizer import Text, Tokenizer, _bytes

__all__ = ["BitsPerByte", "bits_per_byte", "load_model"]

BATCH = 8  # windows of one forward pass
WINDOW_LIMIT = 2048  # ids; models that see more are scored in windows of this, unless asked
LOGITS_LIMIT = 1 << 28  # numbers in the logits of one forward pass: 1 GiB of float32
SCORED_AT_ONCE = 256  # rows of logits in float64


@dataclass(frozen=True)
class BitsPerByte:
    """How well a model predicts texts.

    Attributes:
        nats: The negative log-probability of all scored ids, in nats.
        bytes: The length of all texts, in bytes.
        tokens: How many ids were scored.
        window: How many ids the model saw at once.
        stride: How many ids a further window of a text scores.
    """

    nats: float
    bytes: int
    tokens: int
    window: int
    stride: int

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte; lower is better. Comparable between models with different tokenizers."""
        return self.nats / math.log(2) / self.bytes

    @property
    def bytes_per_token(self) -> float:
        """How many bytes an id stands for on average."""
        return self.bytes / self.tokens


def bits_per_byte(
    model: Any,
    texts: Iterable[Text],
    *,
    tokenizer: object = None,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int = BATCH,
    first_ids: Sequence[int] | None = None,
) -> BitsPerByte:
    """Return how well `model` predicts `texts`: total negative log2-likelihood over total bytes.

    Every text is scored on its own, in the tokenizer's own encoding, behind `first_ids`. A text
    that is longer than `window` is read in windows that move by `stride`: each id is scored once,
    and sees at least `window - stride` ids before it, except near the start. The end of a text is
    not scored. This is the probability of one encoding of a text, and so an upper bound of the
    bits that its bytes take.

    Args:
        model: A folder, `pico:NAME`, or a transformers causal language model in evaluation mode.
        texts: Texts; empty ones count nothing.
        tokenizer: Anything :meth:`anyvocab.Tokenizer.load` takes; what lies in the model's folder
            when left out.
        window: Ids the model sees at once; what it was built for, at most 2048, when left out.
        stride: Ids that a further window scores; half a window when left out.
        batch_size: Windows of one forward pass, fewer where the logits would be too large.
        first_ids: The ids before a text. When left out: what the tokenizer's post-processor puts
            there, else the `bos` id, else the `eos` id.

    Raises:
        InvalidValue: There is nothing to score, no id to begin with, `window`, `stride` or
            `batch_size` is out of range, the model has no logit for an id, or a score is not
            finite.
        SourceNotFound: There is no such model.
        MissingExtra: torch or transformers is not installed.
    """
    if isinstance(texts, str | bytes | bytearray | memoryview):
        raise TypeError("texts must be several texts; for one, give [text]")
    place = _place(model)
    if tokenizer is None and place is None:
        raise errors.build(
            errors.InvalidValue,
            "a model object does not say which tokenizer it has",
            field="tokenizer",
            fix="give tokenizer=, or the model's folder instead of the model",
        )
    loaded = Tokenizer.load(place if tokenizer is None else tokenizer)
    network = model if place is None else load_model(place)
    window, stride = _sizes(network, window, stride)
    if batch_size < 1:
        raise errors.build(
            errors.InvalidValue, f"must be at least 1, got {batch_size}", field="batch_size"
        )
    before = _first_ids(loaded) if first_ids is None else [int(id) for id in first_ids]
    if not 0 < len(before) < window:
        raise errors.build(
            errors.InvalidValue,
            "nothing stands before a text, so its first id cannot be scored"
            if not before
            else f"{len(before)} ids leave no room in a window of {window}",
            field="first_ids",
            fix="give first_ids: the ids that texts begin with in training, a bos for example",
        )
    data = [_bytes(text) for text in texts]
    rows = [before + ids.tolist() for ids in map(loaded.encode, data)]
    size, tokens = sum(map(len, data)), sum(len(row) - len(before) for row in rows)
    if not size or not tokens:
        raise errors.build(errors.InvalidValue, "there is no byte to score", field="texts")
    jobs = [job for row in rows for job in _windows(row, len(before), window, stride)]
    jobs.sort(key=lambda job: len(job[0]))  # stable: equal lengths stay in order
    nats = _score_all(network, jobs, batch_size)
    if not math.isfinite(nats):
        raise errors.build(
            errors.InvalidValue,
            f"the score is {nats}: some logits are not finite, or an id has probability 0",
            field="model",
            fix="load the model in float32, and check its weights for NaN",
        )
    return BitsPerByte(nats, size, tokens, window, stride)


def _place(model: object) -> str | None:
    """Return the folder or name that a model is given by; None for a model object."""
    if isinstance(model, str | os.PathLike):
        return os.fsdecode(model)
    return None


def load_model(source: str | os.PathLike[str]) -> Any:
    """Return the causal language model of a folder or of `pico:NAME`, float32, for evaluation.

    Only safetensors weights are read, and no code of the folder's is run.

    Raises:
        SourceNotFound: There is no model.
        MissingExtra: torch or transformers is not installed.
    """
    text = os.fsdecode(source)
    folder = _pico_folder(text) if text.startswith("pico:") else Path(text)
    if not (folder / "config.json").is_file():
        raise errors.build(
            errors.SourceNotFound,
            "is no model folder: it has no config.json",
            field="model",
            file=text,
            fix="give a folder as transformers saves it, or `pico:code-4k`",
        )
    try:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise errors.build(
            errors.MissingExtra,
            "torch and transformers are needed to run a model",
            field="model",
            fix="install them with `pip install 'anyvocab[models]'`",
        ) from error
    had_bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # library code prints nothing
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, KeyError) as error:
        raise errors.build(
            errors.SourceNotFound,
            f"transformers cannot load it: {str(error).strip().partition(chr(10))[0]}",
            field="model",
            file=text,
            fix="check the folder with `anyvocab doctor`",
        ) from error
    finally:
        if had_bar:
            transformers_logging.enable_progress_bar()
    return model.eval()


def _pico_folder(text: str) -> Path:
    from anyvocab.pico import names, path

    try:
        return path(text.removeprefix("pico:"))
    except (ValueError, FileNotFoundError) as error:
        raise errors.build(
            errors.SourceNotFound,
            str(error),
            field="model",
            fix="embedded models are " + ", ".join(f"pico:{name}" for name in names()),
        ) from error


def _sizes(model: Any, window: int | None, stride: int | None) -> tuple[int, int]:
    if window is None:
        config = getattr(model, "config", None)
        config = getattr(config, "text_config", config)
        named = (
            getattr(config, name, None)
            for name in ("max_position_embeddings", "n_positions", "n_ctx", "seq_length")
        )
        window = next((one for one in named if isinstance(one, int) and one > 0), WINDOW_LIMIT)
        window = min(window, WINDOW_LIMIT)
    if window < 2:
        raise errors.build(errors.InvalidValue, f"must be at least 2, got {window}", field="window")
    if stride is None:
        stride = max(1, window // 2)
    if not 1 <= stride < window:
        raise errors.build(
            errors.InvalidValue,
            f"must be 1..{window - 1}, got {stride}",
            field="stride",
            fix="leave it out for half a window",
        )
    return window, stride


def _first_ids(tokenizer: Tokenizer) -> list[int]:
    """Return what the post-processor puts before a text, else the bos id, else the eos id."""
    plain: list[int] = tokenizer.encode("a").tolist()
    full: list[int] = tokenizer.encode("a", add_special_tokens=True).tolist()
    for at in range(1, len(full) - len(plain) + 1):
        if full[at : at + len(plain)] == plain:
            return full[:at]
    roles = tokenizer.vocabulary.roles
    return list((roles.ids("bos") or roles.ids("eos"))[:1])


def _windows(
    row: list[int], first: int, window: int, stride: int
) -> Iterator[tuple[list[int], int]]:
    """Yield `(ids, at)`: score the ids from position `at` on. Every id from `first` on, once."""
    scored = first
    while scored < len(row):
        end = min(len(row), max(window, scored + stride))
        start = max(0, end - window)
        yield row[start:end], scored - start
        scored = end


def _score_all(model: Any, jobs: Sequence[tuple[list[int], int]], batch_size: int) -> float:
    try:
        import torch
    except ImportError as error:
        raise errors.build(
            errors.MissingExtra,
            "torch is needed to run a model",
            field="model",
            fix="install it with `pip install 'anyvocab[models]'`",
        ) from error
    scores: list[float] = []
    at, width = 0, 0
    with torch.inference_mode():
        while at < len(jobs):
            longest = len(jobs[min(len(jobs), at + batch_size) - 1][0])
            room = LOGITS_LIMIT // (longest * width) if width else 1  # the first pass tells V
            batch = jobs[at : at + max(1, min(batch_size, room))]
            nats, width = _score(torch, model, batch)
            scores += nats
            at += len(batch)
    return math.fsum(scores)  # exact: does not depend on how windows were batched


def _score(
    torch: Any, model: Any, batch: Sequence[tuple[list[int], int]]
) -> tuple[list[float], int]:
    width = max(len(ids) for ids, _ in batch)
    # Padding stands on the right of a causal model: nothing that is scored sees it.
    rows = torch.tensor(
        [ids + [0] * (width - len(ids)) for ids, _ in batch],
        device=getattr(model, "device", None),
    )
    logits = model(rows).logits  # (B, T, V)
    size = int(logits.shape[-1])
    largest = max(max(ids) for ids, _ in batch)
    if largest >= size:
        raise errors.build(
            errors.InvalidValue,
            f"the model has {size} logits, none for id {largest}",
            field="tokenizer",
            fix="give the tokenizer that belongs to the model",
        )
    nats = []
    for row, scores, (ids, first) in zip(rows, logits, batch, strict=True):
        for start in range(first, len(ids), SCORED_AT_ONCE):
            end = min(len(ids), start + SCORED_AT_ONCE)
            given, wanted = scores[start - 1 : end - 1], row[start:end]  # (n, V), (n,)
            loss = torch.nn.functional.cross_entropy(given.double(), wanted, reduction="sum")
            nats.append(float(loss))
    return nats, size
