"""What a hypernetwork predicts for a swap: made once for both sides, kept in the model's type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab import errors
from anyvocab.transplant.identity import token_table
from anyvocab.transplant.plan import Side

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.hypernet import Hypernet
    from anyvocab.hypernet.predict import Predictions, SourceModel
    from anyvocab.transplant.context import Context
    from anyvocab.transplant.plan import Matrix

__all__ = ["Forecast", "ForecastRows"]


@dataclass(eq=False)
class Forecast:
    """Rows that a network predicts for the target's text tokens.

    Both sides come out of one pass, and whoever asks for one side will ask for the other; so both
    are kept, for the ids that were asked for, in the type of the model's own matrices. That is what
    the new matrices take, no more.

    Attributes:
        hypernet: The network.
        context: What is known.
        source: The model whose rows are read.
        options: Of :class:`anyvocab.hypernet.predict.Predictions`.
    """

    hypernet: Hypernet
    context: Context
    source: SourceModel
    options: dict[str, Any]
    _rows: dict[Side, Tensor] = field(default_factory=dict, repr=False)
    _bias: NDArray[np.float32] | None = None
    _place: NDArray[np.int64] | None = None

    @classmethod
    def open(
        cls,
        context: Context,
        folder: Path,
        *,
        base: str | None,
        language: str | None,
        device: str | None,
        dtype: str,
    ) -> Forecast:
        """Load the network and the matrices that it reads.

        Raises:
            InvalidValue: The network is for another vocabulary or for other matrices; `base` has
                another vocabulary than the model.
            SourceNotFound: There is no hypernetwork, or no such base.
        """
        from anyvocab.hypernet import Hypernet
        from anyvocab.hypernet.predict import SourceModel
        from anyvocab.hypernet.rows import SourceRows
        from anyvocab.transplant.files import vocabulary_digest

        digest = vocabulary_digest(context.source.vocabulary)
        hypernet = Hypernet.load(folder, device=device, source_digest=digest)
        if base is not None:
            source = SourceModel.open(base)
            check_variant(digest, source, base, context)
        else:
            read, head = (_whole(context.matrices[side]) for side in ("input", "output"))
            bias = None if context.bias is None else _whole(context.bias).reshape(-1)
            source = SourceModel(
                context.source, SourceRows(read, None if context.tied else head, bias)
            )
        options = {"language": language, "device": device, "dtype": dtype, "folder": folder}
        return cls(hypernet, context, source, options)

    @property
    def two_sided(self) -> bool:
        """Whether the network gives a token a row for each side."""
        return bool(self.hypernet.network.config.sides > 1)

    def of(self, side: Side, ids: NDArray[np.int64], reference: Mapping[str, Any]) -> ForecastRows:
        """Return rows of target ids, predicted when one of them is taken."""
        return ForecastRows(self, side, ids, dict(reference))

    def bias(self, ids: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return the output biases of target ids, float32 (n,); None: the network makes none."""
        if not getattr(self.hypernet.network.config, "bias", False):
            return None
        places = self.ready(ids)
        return None if self._bias is None else self._bias[places]

    def hidden(self, side: Side, ids: NDArray[np.int64], hidden: NDArray[np.bool_]) -> Tensor:
        """Return rows of ids, some of them as if the source did not have them, float32 (n, D)."""
        found = self._predictions(ids, hidden).rows()
        return found.head if side == "output" else found.input

    def take(self, side: Side, ids: NDArray[np.int64]) -> Tensor:
        """Return rows of target ids that are ready, in the type they are kept in."""
        import torch

        places = self.ready(ids)
        rows = self._rows.get(side, self._rows["input"])
        return rows[torch.from_numpy(places)]

    def ready(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Predict what is missing of the ids, and return where each of them is kept."""
        import torch

        if self._place is None:
            self._place = np.full(len(self.context.target.vocabulary), -1, dtype=np.int64)
        missing = np.unique(ids[self._place[ids] < 0])
        if not len(missing):
            return self._place[ids]
        predictions = self._predictions(missing)
        first = 0 if not self._rows else len(self._rows["input"])
        stop, width = first + len(missing), self.source.rows.width
        sides: tuple[Side, ...] = ("input", "output") if self.two_sided else ("input",)
        for side in sides:
            grown = torch.empty(stop, width, dtype=self.context.matrices[side].dtype)
            if first:
                grown[:first] = self._rows[side]
            self._rows[side] = grown
        biases = np.zeros(stop, dtype=np.float32)
        if self._bias is not None:
            biases[:first] = self._bias
        self._bias = biases
        for places, found in predictions.chunks(progress=self.context.progress):
            where = torch.from_numpy(places + first)
            for side in sides:
                made = found.head if side == "output" else found.input
                self._rows[side][where] = made.to(self._rows[side].dtype)
            if found.bias is not None:
                biases[places + first] = found.bias.numpy()
        self._place[missing] = np.arange(first, stop)
        return self._place[ids]

    def _predictions(
        self, ids: NDArray[np.int64], apart: NDArray[np.bool_] | None = None
    ) -> Predictions:
        from anyvocab.hypernet.predict import Predictions

        table = self.context.target_tokens
        return Predictions(
            self.hypernet.network,
            self.hypernet.card,
            self.source,
            [table[id] or b"" for id in ids.tolist()],
            ids=ids,
            vocabulary=[token for token in table if token],
            apart=apart,
            **self.options,
        )


@dataclass(frozen=True, eq=False)
class ForecastRows:
    """Dense parts of a plan: what a network predicts for target ids.

    Attributes:
        forecast: What predicts them.
        side: Which matrix they are for.
        ids: int64[m].
        told: What a plan's file holds of them.
    """

    forecast: Forecast
    side: Side
    ids: NDArray[np.int64]
    told: dict[str, Any]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)

    def take(self, places: NDArray[np.integer[Any]]) -> Tensor:
        """Return some of the rows, float32 (n, D), in the order given."""
        self.forecast.ready(self.ids)  # all at once: tokens with as many pieces go together
        return self.forecast.take(self.side, self.ids[places]).float()

    def reference(self) -> Mapping[str, Any]:
        """Return what makes them again."""
        return self.told


def check_variant(digest: str, base: SourceModel, name: str, context: Context) -> None:
    """Raise unless a model may stand for another: the same vocabulary, as wide, as many rows.

    Raises:
        InvalidValue: It may not; the first token that differs is named.
    """
    from anyvocab.transplant.files import vocabulary_digest

    fix = "a variant shares its base's vocabulary: give the model it was fine-tuned from"
    vocabulary = base.tokenizer.vocabulary
    if vocabulary_digest(vocabulary) != digest:
        ours, theirs = context.source_tokens, token_table(vocabulary)
        short = min(len(ours), len(theirs))
        at = next((i for i in range(short) if ours[i] != theirs[i]), short)
        raise errors.build(
            errors.InvalidValue,
            f"its vocabulary is not the model's: {len(theirs)} and {len(ours)} ids, "
            f"the first difference at id {at}",
            field="base",
            file=name,
            fix=fix,
        )
    matrix = context.matrices["input"]
    if (len(base.rows), base.rows.width) != (matrix.rows, matrix.width):
        raise errors.build(
            errors.InvalidValue,
            f"it has {len(base.rows)} rows of {base.rows.width} numbers, the model "
            f"{matrix.rows} of {matrix.width}",
            field="base",
            file=name,
            fix=fix,
        )


def _whole(matrix: Matrix) -> Tensor:
    return matrix.chunk(0, matrix.rows)
