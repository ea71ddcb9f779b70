"""Gradient steps on some rows of a model's vocabulary matrices, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anyvocab import errors

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.tokenizer import Tokenizer
    from anyvocab.transplant.plan import Side

__all__ = ["RowTrainer", "windows_of"]

LOGITS: Final = 1 << 26  # numbers that one forward pass may make: 256 MiB
_IGNORED: Final = -100  # a target that cross-entropy leaves out


def windows_of(
    tokenizer: Tokenizer, texts: Iterable[bytes], first: Sequence[int], window: int
) -> list[NDArray[np.int64]]:
    """Return the texts as windows of ids, each behind the ids that texts begin with.

    Args:
        tokenizer: What encodes them.
        texts: The texts.
        first: The ids before each window.
        window: The most ids of one, `first` included.
    """
    step = max(1, window - len(first))
    before = np.array(first, dtype=np.int64)
    found = []
    for text in texts:
        ids = tokenizer.encode(text, specials="text").astype(np.int64)
        for start in range(0, len(ids), step):
            one = np.concatenate((before, ids[start : start + step]))
            if len(one) > 1:
                found.append(one)
    return found


class RowTrainer:
    """AdamW on chosen rows; the rest of the model is frozen.

    The gradient of a whole matrix exists until its rows are taken out of it, and no longer.

    Attributes:
        rates: Side to the highest learning rate.
        kept: The step whose rows were kept last.
    """

    def __init__(
        self,
        model: Any,
        ids: Mapping[Side, NDArray[np.int64]],
        windows: Sequence[NDArray[np.int64]],
        *,
        batch_size: int,
        rate: float | None,
        share: float,
        seed: int,
    ) -> None:
        """Take the rows out of the model.

        Args:
            model: A causal language model of transformers, in evaluation mode: nothing is dropped.
            ids: Side to the rows to train; of tied matrices the input alone.
            windows: What to train on.
            batch_size: Windows of a step.
            rate: The highest learning rate; None for `share` of the rows' root mean square.
            share: See `rate`.
            seed: For the order of the windows.

        Raises:
            InvalidValue: There is nothing to train or nothing to train on.
        """
        import torch

        if not windows or not any(map(len, ids.values())):
            raise errors.build(
                errors.InvalidValue,
                "no row to train" if windows else "no text to train on",
                field="heal",
            )
        self.model, self.windows, self.batch_size = model, windows, batch_size
        self.device = model.get_input_embeddings().weight.device
        self.order = self._order(np.random.default_rng(seed))
        self.rates: dict[str, float] = {}
        self.kept = 0
        self._weights: dict[Side, Any] = {}
        self._ids: dict[Side, Tensor] = {}
        self._rows: dict[Side, Any] = {}
        self._best: dict[Side, Tensor] = {}
        model.requires_grad_(requires_grad=False)
        groups = []
        for side, chosen in ids.items():
            if not len(chosen):
                continue
            module = (
                model.get_input_embeddings() if side == "input" else model.get_output_embeddings()
            )
            weight, where = module.weight, torch.from_numpy(chosen).to(self.device)
            rows = torch.nn.Parameter(weight.detach()[where].clone())
            size = float(weight.detach().square().mean().sqrt())
            self.rates[side] = share * size if rate is None else rate
            self._weights[side], self._ids[side], self._rows[side] = weight, where, rows
            weight.requires_grad_(requires_grad=True)
            weight.register_post_accumulate_grad_hook(self._taker(rows, where))
            groups.append({"params": [rows], "lr": self.rates[side], "side": side})
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        self.vocabulary = model.get_input_embeddings().weight.shape[0]

    @staticmethod
    def _taker(rows: Any, where: Tensor) -> Any:
        def take(weight: Any) -> None:
            found = weight.grad[where]
            rows.grad = found if rows.grad is None else rows.grad + found
            weight.grad = None

        return take

    def _order(self, rng: np.random.Generator) -> Iterator[int]:
        while True:
            yield from rng.permutation(len(self.windows)).tolist()

    def step(self, share: float) -> float:
        """Take a step on the next windows and return their loss, nats per token.

        Args:
            share: Of the highest learning rate.
        """
        chosen = [self.windows[next(self.order)] for _ in range(self.batch_size)]
        whole = sum(len(one) - 1 for one in chosen)
        rows = max(1, LOGITS // (self.vocabulary * max(map(len, chosen))))
        loss = 0.0
        for start in range(0, len(chosen), rows):
            part = self._loss(chosen[start : start + rows]) / whole
            part.backward()
            loss += float(part.detach())
        for group in self.optimizer.param_groups:
            group["lr"] = share * self.rates[group["side"]]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._put(self._rows)
        return loss

    def _loss(self, windows: Sequence[NDArray[np.int64]]) -> Tensor:
        """Return the sum of the losses of all targets, nats."""
        import torch
        from torch.nn.functional import cross_entropy

        longest = max(map(len, windows))
        ids = torch.zeros(len(windows), longest, dtype=torch.long)
        targets = torch.full((len(windows), longest), _IGNORED)
        for at, one in enumerate(windows):  # what follows a window's end is not seen from within it
            ids[at, : len(one)] = torch.from_numpy(one)
            targets[at, : len(one) - 1] = torch.from_numpy(one[1:])
        ids, targets = ids.to(self.device), targets.to(self.device)
        logits = self.model(ids).logits.float()  # (B, T, V)
        return cross_entropy(
            logits.flatten(0, 1),
            targets.flatten(),
            ignore_index=_IGNORED,
            reduction="sum",
        )

    def keep(self, step: int) -> None:
        """Keep the rows as they are now."""
        self._best = {side: rows.detach().clone() for side, rows in self._rows.items()}
        self.kept = step

    def restore(self, dtypes: Mapping[Side, Any]) -> dict[Side, Tensor]:
        """Put the kept rows into the model, rounded to these types, and return them."""
        found = {side: rows.to(dtypes[side]) for side, rows in self._best.items()}
        self._put(found)
        return {side: rows.cpu() for side, rows in found.items()}

    def _put(self, rows: Mapping[Side, Any]) -> None:
        import torch

        with torch.no_grad():
            for side, some in rows.items():
                weight = self._weights[side]
                weight[self._ids[side]] = some.detach().to(weight.dtype)
