"""A task with labels, for a classifier of texts or of tokens: loss, and accuracy by merging."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from anyvocab import errors
from anyvocab.dynamic.labels import IGNORED, word_labels, word_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.dynamic.batch import DynamicBatch
    from anyvocab.dynamic.model import DynamicModel
    from anyvocab.dynamic.parts import Reading
    from anyvocab.dynamic.tokenizer import Boundary
    from anyvocab.tokenizer import Specials

__all__ = ["Examples", "RateScore", "TaskKind", "evaluate", "logits_and_labels", "task_kind"]

TaskKind = Literal["sequence", "token"]
RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
_HEADS: dict[str, TaskKind] = {
    "ForSequenceClassification": "sequence",
    "ForTokenClassification": "token",
}


@dataclass(frozen=True, eq=False)
class Examples:
    """Texts and their labels.

    Attributes:
        texts: Texts, pairs (tuples) or lists of words, as :meth:`DynamicModel.merge` takes them.
        labels: For each text its class; for a classifier of tokens, for each text a class for each
            word, :data:`anyvocab.dynamic.labels.IGNORED` for one that has none.
    """

    texts: Sequence[Reading]
    labels: Sequence[Any]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels) or not len(self.texts):
            raise errors.build(
                errors.InvalidValue,
                f"{len(self.texts)} texts and {len(self.labels)} labels",
                field="examples",
                fix="give at least one text, and labels for each",
            )

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.texts)

    def part(self, which: Sequence[int] | NDArray[np.int64]) -> Examples:
        """Return some of the examples, in the order that is given."""
        return Examples([self.texts[i] for i in which], [self.labels[i] for i in which])

    def batches(self, size: int) -> Iterator[Examples]:
        """Return the examples in batches, in their order."""
        for start in range(0, len(self), size):
            yield Examples(self.texts[start : start + size], self.labels[start : start + size])


@dataclass(frozen=True)
class RateScore:
    """What a classifier does at one amount of merging.

    Attributes:
        rate: The share of the attainable reduction that each batch was asked for.
        reduction: The share of all base tokens, special ones among them, that was gone.
        base_tokens: Tokens before merging.
        accuracy: The share of texts, or of labelled words, that got their class. A word without a
            token of its own counts as wrong.
        macro_f1: The mean over the classes that occur of the harmonic mean of precision and recall.
        loss: The mean cross-entropy of what has a label and a token, nats.
        seconds: Wall time of merging, rows and the model.
        merge_seconds: That of encoding and merging alone.
    """

    rate: float
    reduction: float
    base_tokens: int
    accuracy: float
    macro_f1: float
    loss: float
    seconds: float
    merge_seconds: float


def task_kind(network: Any) -> TaskKind:
    """Return what a model classifies, by the name of its class.

    Raises:
        InvalidValue: It is no classifier of texts or tokens.
    """
    name = type(network).__name__
    for ending, kind in _HEADS.items():
        if name.endswith(ending):
            return kind
    raise errors.build(
        errors.InvalidValue,
        f"{name} classifies neither texts nor tokens",
        field="model",
        fix="load it with AutoModelForSequenceClassification or AutoModelForTokenClassification",
    )


def logits_and_labels(
    model: DynamicModel, batch: DynamicBatch, labels: Sequence[Any]
) -> tuple[Any, Any]:
    """Run a classifier over a merged batch, with gradients where they are wanted.

    Args:
        model: The classifier.
        batch: Its tokens.
        labels: As of :class:`Examples`.

    Returns:
        Logits (n, C), float32, and labels int64 (n,): of texts, n = B; of tokens, n = m, where
        :data:`anyvocab.dynamic.labels.IGNORED` stands for a token without a label.

    Raises:
        InvalidValue: A label is no class of the model, or words and labels do not fit.
    """
    import torch

    inputs = model.embed(batch, side=model.side_of(batch))
    logits = model.network(**model.arguments(inputs)).logits.float()
    if task_kind(model.network) == "token":
        logits = inputs.ragged(logits)
        wanted = word_labels(batch, labels).values
    else:
        wanted = np.asarray(labels, dtype=np.int64)
    classes = int(logits.shape[-1])
    wrong = wanted[(wanted != IGNORED) & ((wanted < 0) | (wanted >= classes))]
    if len(wrong):
        raise errors.build(
            errors.InvalidValue,
            f"{wrong[0]} is no class: the model has {classes}",
            field="labels",
            fix="load the model with num_labels=",
        )
    return logits, torch.from_numpy(wanted).to(logits.device)


def evaluate(
    model: DynamicModel,
    examples: Examples,
    *,
    rates: Sequence[float] = RATES,
    boundary: Boundary = "word",
    specials: Specials = "parse",
    batch_size: int = 32,
) -> list[RateScore]:
    """Return what a classifier does at several amounts of merging.

    Every batch merges for itself, in the order of the examples. The first rate that makes a token
    also pays for its row, so times fall when the rates are gone through again.

    Args:
        model: A classifier of texts or tokens.
        examples: What it is judged by.
        rates: Shares of the attainable reduction: 0 is the tokenizer's own tokens, 1 all merges.
        boundary: As for :meth:`DynamicModel.merge`.
        specials: As there.
        batch_size: Texts of a batch.

    Raises:
        InvalidValue: The model is no classifier, or the examples do not fit it.
    """
    network = model.network
    task_kind(network)
    training = network.training
    network.eval()
    try:
        return [
            _score(model, examples, rate, boundary, specials, max(1, batch_size)) for rate in rates
        ]
    finally:
        network.train(training)


def _score(
    model: DynamicModel,
    examples: Examples,
    rate: float,
    boundary: Boundary,
    specials: Specials,
    batch_size: int,
) -> RateScore:
    import torch
    from torch.nn import functional

    of_tokens = task_kind(model.network) == "token"
    truth: list[NDArray[np.int64]] = []
    said: list[NDArray[np.int64]] = []
    base = left = counted = 0
    loss = merging = 0.0
    begun = time.perf_counter()
    for part in examples.batches(batch_size):
        before = time.perf_counter()
        batch = model.merge(part.texts, boundary=boundary, specials=specials, attainable=rate)
        merging += time.perf_counter() - before
        base, left = base + len(batch.base.ids), left + len(batch.ids)
        with torch.no_grad():
            logits, labels = logits_and_labels(model, batch, part.labels)
            lost = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        loss += float(lost)
        counted += int((labels != IGNORED).sum())
        best = logits.argmax(dim=-1).cpu().numpy()
        if of_tokens:
            said += word_values(batch, best, [len(one) for one in part.labels])
            truth += [np.asarray(one, dtype=np.int64) for one in part.labels]
        else:
            said.append(best)
            truth.append(labels.cpu().numpy())
    seconds = time.perf_counter() - begun
    wanted, found = np.concatenate(truth), np.concatenate(said)
    has_label = wanted != IGNORED
    accuracy, f1 = _agreement(wanted[has_label], found[has_label])
    return RateScore(
        rate=float(rate),
        reduction=1 - left / base if base else 0.0,
        base_tokens=base,
        accuracy=accuracy,
        macro_f1=f1,
        loss=loss / counted if counted else 0.0,
        seconds=seconds,
        merge_seconds=merging,
    )


def _agreement(wanted: NDArray[np.int64], found: NDArray[np.int64]) -> tuple[float, float]:
    """Return accuracy and macro F1; 0 where nothing has a label."""
    if not len(wanted):
        return 0.0, 0.0
    scores = []
    for label in np.unique(wanted):
        right = int(((wanted == label) & (found == label)).sum())
        either = int((wanted == label).sum()) + int((found == label).sum())
        scores.append(2 * right / either)
    return float((wanted == found).mean()), float(np.mean(scores))
