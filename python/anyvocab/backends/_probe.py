"""Whether an engine computes what the model computes: a small tree against whole contexts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from anyvocab.backends._contexts import ContextTree, Node
from anyvocab.backends._network import FORWARD_ERRORS, Network

__all__ = ["Engine", "Reference", "verdict"]

WINDOW_PROBED = 64  # positions; a window up to this is exceeded by the probe's contexts
_CHAIN = 4  # ids of the probe's trunk where there is no window to exceed


class Engine(Protocol):
    """What a mode is made of."""

    @property
    def used(self) -> int:
        """How many nodes, freed ones included, have something cached."""

    def rows(self, asked: list[Node]) -> Any:
        """Yield (handle, logits) of the nodes."""

    def free(self, node: Node) -> None:
        """Forget a freed node."""

    def tidy(self) -> None:
        """Give back memory."""


class Reference:
    """The logits of the probe's contexts, each computed with its whole context at once.

    The contexts: a trunk `t`; `t x`, `t y`, `t x z`, `t y z`, `t x z x`, and `t` without its last
    id and `z`. Three of them end with `z` behind different ids, so their logits differ only by
    what attention, or a state, carries.

    Attributes:
        spread: The smallest of the largest differences between two of those three: what an engine
            would be wrong by that shows a node the wrong ancestors or position.
        bound: How far rounding may carry an engine off: 64 units in the last place of the
            largest logit in float32, 8 in the half precisions; a forward pass sums its terms in
            an order that depends on its shape.
        precise: Whether that is too little to hide a wrong state.
    """

    def __init__(self, network: Network) -> None:
        window = getattr(network.config.get_text_config(decoder=True), "sliding_window", None)
        length = _CHAIN
        if isinstance(window, int) and window <= WINDOW_PROBED:
            length = window + 2
        if network.limit is not None:
            length = max(1, min(length, network.limit - 3))
        ids = _plain_ids(network)
        self.trunk = [ids[i % len(ids)] for i in range(length)]
        self.x, self.y, self.z = (ids[(length + i) % len(ids)] for i in range(3))
        self._rows: dict[tuple[int, ...], Any] = {}
        for end in ([self.x, self.z, self.x], [self.y, self.z]):
            self._add(network, [*self.trunk, *end], len(self.trunk))
        self._add(network, [*self.trunk[:-1], self.z], len(self.trunk))
        alike = [
            self[[*self.trunk, self.x, self.z]],
            self[[*self.trunk, self.y, self.z]],
            self[[*self.trunk[:-1], self.z]],
        ]
        self.spread = min(
            float((alike[i] - alike[j]).abs().max()) for i, j in ((0, 1), (0, 2), (1, 2))
        )
        largest = max(float(row.abs().max()) for row in self._rows.values())
        self.precise = network.dtype in (torch.float32, torch.float64)
        unit = torch.finfo(torch.float32 if self.precise else network.dtype).eps
        self.bound = (64 if self.precise else 8) * unit * largest

    def __getitem__(self, context: list[int]) -> Any:
        return self._rows[tuple(context)]

    def _add(self, network: Network, ids: list[int], first: int) -> None:
        keep = range(first - 1, len(ids))
        logits, _ = network(ids, keep, caching="off")
        network.rows = int(logits.shape[-1])
        for i, at in enumerate(keep):
            self._rows.setdefault(tuple(ids[: at + 1]), logits[i].float())


def _plain_ids(network: Network) -> list[int]:
    """Return seven different ids, none of them one that the configuration names as special."""
    values = list(network.config.to_dict().values())
    special = {one for one in values if isinstance(one, int)}
    special |= {id for one in values if isinstance(one, list) for id in one if isinstance(id, int)}
    total = network.tokens
    spaced = [(2 * i + 1) * total // 14 for i in range(7)]
    found: list[int] = []
    for id in spaced:
        free = (one % total for one in range(id, id + total))
        found.append(next((x for x in free if x not in special and x not in found), id))
    return found


def verdict(
    reference: Reference, make: Callable[[], Engine], careful: Callable[[], Engine] | None = None
) -> tuple[bool, str]:
    """Return whether an engine agrees with the reference, and the finding in words.

    In half precision the allowance for rounding is wide enough to hide a state that is not read
    on from. There an engine must not be off by over four times what the `careful` one is, which
    does the same in smaller steps.

    The engine evaluates a trunk and two twigs, then a second generation behind its cache, frees a
    branch, gives back memory, reads a node again and goes on from it, by one id and by two at once.
    """
    try:
        error = _largest_error(reference, make())
    except FORWARD_ERRORS as found:
        return False, f"{type(found).__name__}: {str(found).strip().partition(chr(10))[0]}"
    allowed = min(reference.bound, reference.spread / 4)
    if careful is not None and not reference.precise and error <= allowed:
        allowed = min(allowed, 4 * _largest_error(reference, careful()))
    if not error <= allowed:  # NaN too
        return False, f"differs from recomputation by {error:.2g}, over {allowed:.2g}"
    return True, f"agrees with recomputation to {error:.1g} (largest allowed {allowed:.1g})"


def _largest_error(reference: Reference, engine: Engine) -> float:
    tree = ContextTree(on_free=engine.free)
    trunk, x, y, z = reference.trunk, reference.x, reference.y, reference.z
    errors: list[Any] = []

    def ask(*handles: int) -> None:
        for handle, row in engine.rows([tree.node(one) for one in handles]):
            expected = reference[tree.ids(tree.node(handle))]
            errors.append((row.float() - expected.to(row.device)).abs().max())

    base = tree.root(trunk)
    tx, ty = tree.extend(base, x), tree.extend(base, y)
    ask(base, tx, ty)
    txz, tyz = tree.extend(tx, z), tree.extend(ty, z)
    aside = tree.root([*trunk[:-1], z])
    ask(txz, tyz, aside)
    tree.release(ty)
    tree.release(tyz)
    engine.tidy()
    last = tree.extend(txz, x)
    ask(txz, last)
    ask(base)
    ty = tree.extend(base, y)
    tyz = tree.extend(ty, z)
    ask(tyz)  # two ids behind a state: recurrent layers may only know how to go on by one
    for handle in (last, txz, tx, base, aside, ty, tyz):
        tree.release(handle)
    engine.tidy()
    return float(torch.stack([error.cpu() for error in errors]).max())
