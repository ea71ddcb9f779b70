"""Sums over a vocabulary where its logits are: 257 numbers and one short slice leave the device."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab import errors
from anyvocab._torch import import_torch

if TYPE_CHECKING:
    from anyvocab import _core

__all__ = ["DeviceSums"]

ROWS_KEPT = 64  # rows of contexts that end at a prefix's end: 0.5 MB each for 128,000 tokens
_BYTES = 256
# Sums smaller than this may have lost digits at the end of float64's range: such rows go to the
# core, which makes them again on a scale of their own.
_SMALL = 2.0**-900


class DeviceSums:
    """The root sums of rows of logits, on the device that holds them.

    A context's logits are summed by the first byte of the tokens that the law allows, in float64
    with the maximum taken off, by a sum over each byte's own stretch of the sorted tokens (no
    differences of running sums). What comes back is one number per byte, those of a few ids, and
    the logits of the tokens that agree with the prefix.

    Rows of contexts that end at a prefix's end are kept on the device until the next byte says
    which slice of them is wanted.

    Args:
        core: The cover model whose tokens are summed.
        device: Where the logits are.
    """

    def __init__(self, core: _core.CoverModel, device: Any) -> None:
        torch = import_torch()
        ids, bounds, forbidden, counted = core.layout()
        self.device = device
        self._ids = torch.from_numpy(ids.astype(np.int64)).to(device)
        self._forbidden = torch.from_numpy(forbidden.astype(np.int64)).to(device)
        self._counted = torch.from_numpy(counted.astype(np.int64)).to(device)
        lengths = np.diff(bounds)
        owner = np.repeat(np.arange(_BYTES), lengths)
        self._owner = torch.from_numpy(owner).to(device)
        self._rows: OrderedDict[int, Any] = OrderedDict()

    def kept(self, id: int) -> Any:
        """Return the kept row of a context, or None."""
        return self._rows.get(id)

    def keep(self, id: int, row: Any) -> None:
        """Keep a copy of a row: what a backend yields is good until the next one."""
        self._rows[id] = row.detach().clone()
        self._rows.move_to_end(id)
        while len(self._rows) > ROWS_KEPT:
            self._rows.popitem(last=False)

    def drop(self, id: int) -> None:
        """Forget a row."""
        self._rows.pop(id, None)

    def feed(self, target: _core.CoverState | _core.Sweep, id: int, row: Any) -> bool:
        """Give a context what it wants of a row; False where the core has to see all of it.

        Raises:
            NumericsError: A logit is NaN or plus infinity.
        """
        torch = import_torch()
        words, children, (low, high) = target.wanted(id)
        logits = row.detach().to(torch.float64)
        top = logits.max()
        if not bool(torch.isfinite(top)):  # NaN too: a maximum over NaN is NaN
            raise errors.build(
                errors.NumericsError,
                f"the largest logit of a context is {float(top)}",
                field="logits",
                fix="look for an overflow in the model's output",
            )
        weights = torch.exp(logits - top)
        sorted_weights = weights[self._ids]
        allowed = self._allowed(words)
        if allowed is not None:
            sorted_weights = sorted_weights * allowed
        bytes_ = torch.zeros(_BYTES, dtype=torch.float64, device=self.device)
        bytes_.index_add_(0, self._owner, sorted_weights)
        all_rows = weights.sum()
        forbidden = weights[self._forbidden].sum() if len(self._forbidden) else all_rows * 0
        wanted = torch.from_numpy(np.asarray(children, np.int64)).to(self.device)
        numbers = (
            torch.cat(
                (
                    bytes_,
                    torch.stack((all_rows, forbidden, top)),
                    logits[self._counted],
                    logits[wanted],
                    logits[self._ids[low:high]],
                )
            )
            .cpu()
            .numpy()
        )
        sums, (whole, left_out, most), rest = np.split(numbers, [_BYTES, _BYTES + 3])
        if left_out > whole / 2 or ((sums > 0) & (sums < _SMALL)).any():
            return False
        if self._underflows(sums, allowed, row):
            return False
        with np.errstate(divide="ignore"):
            target.feed_sums(
                id,
                float(most + np.log(whole - left_out)),
                most + np.log(sums),
                rest[: len(self._counted)],
                rest[len(self._counted) : len(self._counted) + len(children)],
                rest[len(self._counted) + len(children) :].astype(np.float32),
            )
        return True

    def _allowed(self, words: Any) -> Any:
        """Return a mask's words as bool[n] on the device, in the order of places; None for all."""
        if words is None:
            return None
        bits = np.unpackbits(words.view(np.uint8), count=len(self._ids), bitorder="little")
        return import_torch().from_numpy(bits.astype(np.bool_)).to(self.device)

    def _underflows(self, sums: Any, allowed: Any, row: Any) -> bool:
        """Return whether a byte's sum is 0 though some allowed token of it has a finite logit."""
        torch = import_torch()
        finite = torch.isfinite(row[self._ids])
        if allowed is not None:
            finite &= allowed
        has = torch.zeros(_BYTES, dtype=torch.bool, device=self.device)
        has[self._owner[finite]] = True
        return bool((has.cpu().numpy() & (sums == 0)).any())
