"""Rows that a hypernetwork predicts from the rows of a token's pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from anyvocab import errors
from anyvocab.hypernet.folder import find_hypernet, identity, read_card
from anyvocab.transplant.dense import Predicted
from anyvocab.transplant.strategies import strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.transplant.context import Context
    from anyvocab.transplant.forecast import Forecast
    from anyvocab.transplant.plan import Side
    from anyvocab.transplant.strategies import Need, Strategy

__all__ = ["Anchor", "FromHypernet"]

ALIKE = 0.9  # of both vocabularies: above it shared rows are copied where no text says otherwise
Anchor = Literal["auto", "hard", "soft", "none"]


def _alike(context: Context) -> float:
    """Return how many of the byte strings that either vocabulary has are in both, as a share."""
    ours, theirs = (
        {one for one in tokens if one} for tokens in (context.source_tokens, context.target_tokens)
    )
    return len(ours & theirs) / max(1, len(ours | theirs))


def _needs(one: Any) -> tuple[Need, ...]:
    return () if one.hypernet else ("hypernet",)


@strategy("hypernet", needs=_needs)
@dataclass(frozen=True)
class FromHypernet:
    """What a hypernetwork predicts (ZeTT, arXiv:2405.07883); it is trained once for a model.

    Attributes:
        hypernet: Its folder; the one shipped with the model when left out.
        anchor: What becomes of shared tokens: `hard` copies the source's rows, `none` predicts
            theirs, too, `soft` mixes both, and `auto` takes what gives the fewest bits per byte of
            the text that is learned from; without text or a model that runs, what was better when
            the network was trained, else `hard`, and `hard` between nearly equal vocabularies.
        share: The predicted part of a shared token's row where `anchor` is `soft`.
        base: The model whose rows the network reads: a folder, where the model at hand was
            fine-tuned from it and has its vocabulary.
        language: For a network that tells languages apart.
        device: Where it runs.
        dtype: Of its products: float32 or bfloat16.
    """

    hypernet: str | None = None
    anchor: Anchor = "auto"
    share: float = 0.5
    base: str | None = None
    language: str | None = None
    device: str | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.anchor not in get_args(Anchor):
            raise errors.build(
                errors.InvalidValue,
                f"{self.anchor!r} is no choice",
                field="anchor",
                fix=", ".join(get_args(Anchor)),
            )
        if not 0.0 < self.share < 1.0:
            raise errors.build(
                errors.InvalidValue,
                f"must be in (0, 1), got {self.share}",
                field="share",
                fix='0 is anchor="hard", and 1 is anchor="none"',
            )

    def __str__(self) -> str:
        """Return what becomes of shared tokens, in words."""
        names = {"hard": "copied", "soft": f"{self.share:g} predicted", "none": "predicted"}
        return names.get(self.anchor, "undecided")

    def shared_part(self, side: Side) -> float:
        """Return the predicted part of a shared token's row; undecided is copied."""
        return {"soft": self.share, "none": 1.0}.get(self.anchor, 0.0)

    def variants(self, context: Context, side: Side, *, tied: bool) -> Sequence[Strategy]:
        """Return what `anchor="auto"` chooses from.

        Raises:
            InvalidValue: One matrix shall serve both sides, and the network makes one for each.
        """
        if tied and not read_card(self._folder(context)).tied:
            raise errors.build(
                errors.InvalidValue,
                "this hypernetwork gives a token one row for reading and another for writing, and "
                "one matrix shall serve both",
                field="tie",
                fix='use tie="untie", or train one with sides="keep"',
            )
        if self.anchor != "auto":
            return (self,)
        return tuple(replace(self, anchor=one) for one in ("hard", "soft", "none"))

    def untried(self, context: Context, side: Side, *, tied: bool) -> tuple[Strategy, str]:
        """Return what was better in the network's training, else the hard anchor.

        Where both vocabularies are nearly the same a shared token is met as it was, and its row is
        right. Training measures both on held-out text under tokenizers that it never sees. Where
        nothing was measured, hidden anchors can only tell how far a prediction is from the source's
        row, and no row is nearer to it than itself: what a shared token gains in a new vocabulary
        shows in text alone. How far they are is said, as the evidence on new tokens that there is.
        """
        from anyvocab.transplant.auto import fidelity, hold_out

        alike = _alike(context)
        if alike >= ALIKE:
            words = f"shared tokens: copied, {alike:.0%} of both vocabularies are the same"
            return replace(self, anchor="hard"), words
        last = next(iter(read_card(self._folder(context)).measured[::-1]), {})
        free, copied = last.get("bits_per_byte"), last.get("anchored")
        if isinstance(free, float) and isinstance(copied, float):
            anchor: Anchor = "none" if free < copied else "hard"
            chosen = replace(self, anchor=anchor)
            words = f"predicted {free:.4f} bits per byte, copied {copied:.4f}"
            return chosen, f"shared tokens: {chosen}, as was better at the end of training: {words}"
        hidden = hold_out(context)
        words = ""
        if len(hidden):
            options = {**asdict(self), "anchor": "hard"}
            found = fidelity(context, "hypernet", side, hidden, options)
            words = (
                f"; {found.hidden} of them hidden are predicted from their pieces with a cosine of "
                f"{found.cosine:.3f}"
            )
        return (
            replace(self, anchor="hard"),
            f"shared tokens: copied, no text says that predictions are better{words}",
        )

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Predicted | Tensor:
        """Return what the network predicts, made when it is taken; hidden tokens' at once."""
        forecast = self._forecast(context)
        hidden = np.isin(ids, context.held_out)
        if hidden.any():
            return forecast.hidden(side, ids, hidden)
        made = forecast.of(side, ids, self._reference(context))
        bias = forecast.bias(ids) if context.bias is not None else None
        return Predicted(len(ids), np.arange(len(ids)), made, bias)

    def remade(
        self, context: Context, side: Side, ids: NDArray[np.int64], reference: Mapping[str, Any]
    ) -> Any:
        """Return the rows of a saved plan.

        Raises:
            InvalidValue: The hypernetwork is gone, or has changed.
        """
        try:
            folder = self._folder(context)
        except errors.SourceNotFound as error:
            raise errors.build(
                errors.InvalidValue, f"the plan's hypernetwork is gone ({error})", field="plan"
            ) from error
        if identity(folder) != reference.get("digest"):
            raise errors.build(
                errors.InvalidValue,
                "the plan's hypernetwork has changed",
                field="plan",
                file=str(folder),
                fix="make the plan again",
            )
        return self._forecast(context).of(side, ids, reference)

    def _folder(self, context: Context) -> Path:
        if self.hypernet:
            return find_hypernet(self.hypernet)
        if context.hypernet is None:
            raise errors.build(
                errors.SourceNotFound,
                "no hypernetwork is shipped with this model",
                field="hypernet",
                fix="give hypernet=FOLDER; `anyvocab hypernet train` makes one",
            )
        return context.hypernet

    def _reference(self, context: Context) -> dict[str, Any]:
        folder = self._folder(context).resolve()
        options = {**asdict(self), "hypernet": str(folder)}
        return {"digest": identity(folder), "options": options, "strategy": "hypernet"}

    def _forecast(self, context: Context) -> Forecast:
        from anyvocab.transplant.forecast import Forecast

        folder = self._folder(context)
        key = f"hypernet {folder} {self.base} {self.language} {self.device} {self.dtype}"
        found = context.shared.get(key)
        if found is None:
            found = context.shared[key] = Forecast.open(
                context,
                folder,
                base=self.base,
                language=self.language,
                device=self.device,
                dtype=self.dtype,
            )
        return found
