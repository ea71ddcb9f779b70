"""The frozen model as a hypernetwork trains through it: embeddings in, final states out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from anyvocab import errors
from anyvocab.hypernet.rows import SourceRows

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Body", "positions_of", "reading_of"]

# Two ways to compute a product of D terms in float32 differ by about D * eps of the sum of their
# magnitudes; ten times that at D = 10,000 is 1e-2 of the largest.
TOLERANCE = 1e-2


@dataclass(frozen=True, eq=False)
class Body:
    """A model without its vocabulary.

    Attributes:
        model: The model, as transformers makes it.
        kind: `causal`, or `masked`: it sees both sides and predicts what is masked.
        rows: Its matrices.
        reading: What it multiplies a looked-up row by.
        scale: What it multiplies its logits by.
        cap: Its logits are `cap * tanh(logits / cap)`; None: they are not.
    """

    model: Any
    kind: Literal["causal", "masked"]
    rows: SourceRows
    reading: float
    scale: float
    cap: float | None

    @classmethod
    def of(cls, model: Any, ids: Sequence[int], *, kind: Literal["causal", "masked"]) -> Body:
        """Return the body of a model, and check that it is understood.

        Args:
            model: A language model of transformers, in evaluation mode.
            ids: Some text, at least two ids: the check runs it once.
            kind: What the model does.

        Raises:
            InvalidValue: Looked-up rows or logits are not what the matrices say: a factor that
                depends on the token, a head that is not linear.
        """
        import torch

        reads, writes = model.get_input_embeddings(), model.get_output_embeddings()
        if reads is None or writes is None:
            raise errors.build(
                errors.InvalidValue,
                "it has no input or no output embeddings",
                field="model",
                fix="give a language model with its head, not a bare encoder",
            )
        tied = writes.weight is reads.weight
        bias = getattr(writes, "bias", None)
        rows = SourceRows(
            reads.weight.detach(),
            None if tied else writes.weight.detach(),
            None if bias is None else bias.detach(),
        )
        with torch.no_grad():
            text = torch.tensor([list(ids)], device=reads.weight.device)
            reading = reading_of(model, ids)
            cap = getattr(getattr(model, "config", None), "final_logit_softcapping", None)
            logits = model(text).logits.double()
            if cap:
                logits = cap * torch.atanh((logits / cap).clamp(-1 + 1e-12, 1 - 1e-12))
            body = cls(model, kind, rows, reading, 1.0, float(cap) if cap else None)
            hidden = body.states(reads(text) / reading)
            linear = hidden @ writes.weight.mT
            made = linear.double() if bias is None else linear.double() + bias.double()
            scale = _factor(made, logits, "its logits are no multiple of its head's product")
        return cls(model, kind, rows, reading, scale, float(cap) if cap else None)

    @property
    def tied(self) -> bool:
        """Whether one matrix serves both sides."""
        return self.rows.output is None

    def states(self, embedded: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return what the output rows are multiplied with, (B, T, D).

        Args:
            embedded: Rows of the input matrix, (B, T, D), not yet multiplied by `reading`.
            mask: 1 where there is a token, (B, T); everywhere when left out.
        """
        if self.reading != 1.0:
            embedded = embedded * self.reading
        options: dict[str, Any] = {"inputs_embeds": embedded, "attention_mask": mask}
        if self.kind == "causal":
            said = self.model.base_model(**options, use_cache=False)
            found: Tensor | None = getattr(said, "last_hidden_state", None)
            if found is None:
                raise errors.build(
                    errors.InvalidValue,
                    f"{type(self.model).__name__} does not tell its body from its head: its "
                    "base_model gives no last_hidden_state",
                    field="model",
                    fix="give a class of transformers whose base_model is the model without a head",
                )
            return found
        with _without_decoder(self.model):
            states: Tensor = self.model(**options).logits
            return states

    def shape(self) -> Callable[[Tensor], Tensor] | None:
        """Return what the model does to its logits; None for nothing."""
        import torch

        scale, cap = self.scale, self.cap
        if cap is None and scale == 1.0:
            return None

        def shaped(logits: Tensor) -> Tensor:
            logits = logits * scale
            return logits if cap is None else cap * torch.tanh(logits / cap)

        return shaped


def reading_of(model: Any, ids: Sequence[int]) -> float:
    """Return what a model multiplies a row of its input matrix by when it looks it up.

    Args:
        model: A model of transformers.
        ids: Some of its tokens, at least one.

    Raises:
        InvalidValue: What it looks up is no multiple of its rows.
    """
    import torch

    reads = model.get_input_embeddings()
    with torch.no_grad():
        text = torch.tensor(list(ids), device=reads.weight.device)
        found, plain = reads(text).double(), reads.weight[text].double()
    return _factor(plain, found, "what it looks up is no multiple of its rows")


def positions_of(network: Any) -> int | None:
    """Return how many tokens of a text a model has positions for; None where it does not say.

    RoBERTa and its like count positions from the one behind their padding's, and so have fewer than
    their configuration says.
    """
    config = getattr(network, "config", None)
    config = getattr(config, "text_config", config)
    named = (getattr(config, name, None) for name in ("max_position_embeddings", "n_positions"))
    most = next((one for one in named if isinstance(one, int) and one > 0), None)
    embeddings = getattr(getattr(network, "base_model", None), "embeddings", None)
    padding = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return most if most is None or padding is None else most - padding - 1


def _factor(plain: Tensor, found: Tensor, wrong: str) -> float:
    scale = float((plain * found).sum() / (plain * plain).sum())
    apart = float((found - scale * plain).abs().max())
    if not apart <= TOLERANCE * float(found.abs().max()):
        raise errors.build(
            errors.InvalidValue,
            f"{wrong}: they differ by up to {apart:.3g}",
            field="model",
            fix="a hypernetwork needs rows that are looked up and a head that is linear",
        )
    # A factor that is 1 but for rounding is 1.
    return 1.0 if abs(scale - 1.0) < TOLERANCE * 0.1 else scale


@contextmanager
def _without_decoder(model: Any) -> Iterator[None]:
    """Let the model's head stop before its last product: what it gives are then the states."""
    import torch

    writes = model.get_output_embeddings()
    owner, name = next(
        (owner, name)
        for owner in model.modules()
        for name, module in owner.named_children()
        if module is writes
    )
    setattr(owner, name, torch.nn.Identity())
    try:
        yield
    finally:
        setattr(owner, name, writes)
