"""What a model says of texts of several kinds, read merged and as they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from anyvocab import errors
from anyvocab.dynamic.judge import Judgement, Side, judge

if TYPE_CHECKING:
    from anyvocab.dynamic.model import DynamicModel
    from anyvocab.dynamic.stops import Stops
    from anyvocab.dynamic.survey import Survey
    from anyvocab.tokenizer import Text

__all__ = ["Judged", "judge_kinds"]

ALL = "all"


@dataclass(frozen=True, eq=False)
class Judged:
    """What :func:`judge_kinds` found.

    Attributes:
        rows: What made the rows of new tokens: `mean`, `hypernet`.
        keep_last: How many tokens at the end of each context did not merge.
        by_kind: The judgement of each kind that could be judged.
        hit_rate: The share of new tokens, over all kinds, whose rows were in the cache.
        notes: Why what is missing is missing.
    """

    rows: str
    keep_last: int
    by_kind: Mapping[str, Judgement]
    hit_rate: float = 0.0
    notes: tuple[str, ...] = ()

    @cached_property
    def listed(self) -> dict[str, Judgement]:
        """The judgements by name; `all` of them together first where there are several."""
        if len(self.by_kind) < 2:
            return dict(self.by_kind)
        return {ALL: _pooled(list(self.by_kind.values()), self.hit_rate), **self.by_kind}

    @property
    def total(self) -> Judgement | None:
        """All kinds together; None where none could be judged."""
        return next(iter(self.listed.values()), None)

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON knows it."""
        return {
            "rows": self.rows,
            "keep_last": self.keep_last,
            "hit_rate": round(self.hit_rate, 6),
            "kinds": [{"name": name, **one.to_dict()} for name, one in self.listed.items()],
            "notes": list(self.notes),
        }


def judge_kinds(
    model: DynamicModel,
    kinds: Mapping[str, Sequence[Text]],
    found: Survey,
    *,
    keep_last: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Judged:
    """Return what a model says of the texts of a survey, with its boundary, stops and batches.

    Of each text only the first half is merged (see :func:`anyvocab.dynamic.judge.judge`), so the
    target of whole texts may be out of reach: what is reached is kept, and the judgement has it. A
    length that was asked for becomes the reduction that it was.

    Args:
        model: The model. An encoder has no bits per byte: a note says so.
        kinds: Name to texts; those too short to have a context get a note.
        found: What :func:`anyvocab.dynamic.survey.survey` said of them.
        keep_last: How many base tokens at the end of each context never merge.
        progress: Called with a kind's name, the pieces that are done and their number.

    Raises:
        InvalidValue: As for `judge`, for other reasons than short texts.
    """
    rows = model.cache.make.name
    if model.kind != "causal":
        return Judged(
            rows, keep_last, {}, notes=("a model that reads both ways has no bits per byte",)
        )
    stops: Stops = {**found.stops, "unreached": "keep"}
    if stops.get("target_length") is not None:
        stops["reduction"], stops["target_length"] = found.total.reduction, None
    by_kind: dict[str, Judgement] = {}
    notes: list[str] = []
    hits, misses = model.cache.hits, model.cache.misses
    for name, texts in kinds.items():

        def told(done: int, total: int, name: str = name) -> None:
            if progress is not None:
                progress(name, done, total)

        try:
            by_kind[name] = judge(
                model,
                texts,
                boundary=found.boundary,
                keep_last=keep_last,
                batch=found.batch_size or len(texts),
                progress=told,
                **stops,
            )
        except errors.InvalidValue as error:
            if error.field != "texts":
                raise
            notes.append(f"{name}: {error}")
    met = model.cache.hits - hits
    asked = met + model.cache.misses - misses
    return Judged(rows, keep_last, by_kind, met / asked if asked else 0.0, tuple(notes))


def _pooled(some: Sequence[Judgement], hit_rate: float) -> Judgement:
    """Return judgements of different texts as one of all of them."""
    base = _side([one.base for one in some])
    merged = _side([one.merged for one in some])
    return Judgement(
        base,
        merged,
        1 - merged.context_tokens / base.context_tokens,
        hit_rate,
        sum(one.pieces for one in some),
        sum(one.left_out for one in some),
    )


def _side(parts: Sequence[Side]) -> Side:
    size = sum(one.scored_bytes for one in parts)
    return Side(
        math.fsum(one.bits_per_byte * one.scored_bytes for one in parts) / size,
        sum(one.tokens for one in parts),
        sum(one.context_tokens for one in parts),
        size,
        {step: math.fsum(one.seconds[step] for one in parts) for step in parts[0].seconds},
        tuple(bits for one in parts for bits in one.by_text),
    )
