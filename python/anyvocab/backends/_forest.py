"""Tree attention: all nodes of all trees in one cache, and a mask that shows each its ancestors.

A forward pass reads any set of nodes at once. Each has its depth as position, and its mask hides
every slot but those of its ancestors, so it computes what it would compute at the end of its own
context. Slots of freed nodes stay until they are more than the live ones; one index selection per
layer then moves the live ones together, which is O(1) amortised per node.

Where the nodes of a pass need less than half of the slots (a fresh text beside long prompts), only
those they need are gathered: a pass costs what its own contexts cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anyvocab.backends._contexts import Node
from anyvocab.backends._network import Network
from anyvocab.backends._slots import SlotCache

__all__ = ["Forest"]

SCORES_LIMIT = 1 << 22  # query-key pairs of one pass: 16 MiB per head where scores are stored
MIN_CHUNK = 16
MIN_GARBAGE = 64  # slots; below this, moving costs more than it frees

Bools = NDArray[np.bool_]


class Forest:
    """The engine of tree mode.

    Args:
        network: The model.
        chunk: The most nodes of one pass.
        logit_bytes: The most memory for the logits of one pass.

    Raises:
        InvalidValue: The model's layers cannot be kept in slots.
    """

    def __init__(self, network: Network, *, chunk: int, logit_bytes: int) -> None:
        self.network = network
        self.chunk = chunk
        self.logit_bytes = logit_bytes
        self.slots = SlotCache(network.config)
        self._at: list[Node | None] = []  # the node of every slot; None for a freed one
        # Where the run of a slot begins: slots that follow each other and are each other's parent.
        self._run: list[int] = []
        self._depths: list[int] = []
        self._freed = 0

    @property
    def used(self) -> int:
        """How many slots are taken, those of freed nodes included."""
        return len(self._at)

    def free(self, node: Node) -> None:
        """Give up the slot of a node that was freed."""
        if node.slot < 0:
            return
        self._at[node.slot] = None
        self._freed += 1
        node.slot = -1
        while self._at and self._at[-1] is None:  # the end costs nothing to give back
            self._at.pop()
            self._run.pop()
            self._depths.pop()
            self._freed -= 1

    def rows(self, asked: list[Node]) -> Iterator[tuple[int, Any]]:
        """Yield the logits of the nodes asked for, and evaluate what they need."""
        wanted = {node.handle for node in asked}
        plan = _plan(asked)
        at = 0
        while at < len(plan):
            # What is evaluated or freed between items changes what is left to do, so every pass
            # is made up when its turn comes.
            room = min(self.chunk, max(MIN_CHUNK, SCORES_LIMIT // (self.used + 1)))
            answers = max(1, self.logit_bytes // (self.network.rows * 4))
            if self.network.keeps == "all":
                room = max(1, min(room, answers))
            fresh: list[Node] = []
            again: list[Node] = []
            while at < len(plan) and len(fresh) + len(again) < room and answers:
                node = plan[at]
                at += 1
                if node.slot < 0:
                    fresh.append(node)
                elif node.handle in wanted:
                    again.append(node)
                answers -= node.handle in wanted
            if fresh or again:
                yield from self._pass(fresh, again, wanted)

    def _pass(
        self, fresh: list[Node], again: list[Node], wanted: set[int]
    ) -> Iterator[tuple[int, Any]]:
        """Run one forward pass; nodes read again use slots at the end that the next pass takes."""
        if self._freed > max(MIN_GARBAGE, self.used - self._freed):
            self.tidy()
        order = fresh + again
        # Whatever lies behind is of freed nodes, nodes read again, or a pass that failed.
        self.slots.truncate(self.used)
        mask, chosen = self._sight(fresh, again)
        self.slots.choose(chosen)
        keep = [i for i, node in enumerate(order) if node.handle in wanted]
        try:
            logits, _ = self.network(
                [node.token for node in order],
                keep or [len(order) - 1],
                cache=self.slots.cache,
                mask=mask,
                positions=[node.depth - 1 for node in order],
            )
        finally:
            self.slots.choose(None)
        for node in fresh:
            self._place(node)
        # Those read again are ancestors of new ones, if anything.
        answers = sorted(range(len(keep)), key=lambda i: keep[i] < len(fresh))
        handles = [order[at].handle for at in keep]
        for i in answers:
            yield handles[i], logits[i]

    def _place(self, node: Node) -> None:
        """Give a node the next slot."""
        slot = len(self._at)
        parent = node.parent
        follows = parent is not None and slot > 0 and parent.slot == slot - 1
        self._run.append(self._run[-1] if follows else slot)
        self._at.append(node)
        self._depths.append(node.depth)
        node.slot = slot

    def tidy(self) -> None:
        """Move the live slots together; parents stay before their children."""
        live = [node for node in self._at if node is not None]
        self.slots.keep(torch.tensor([node.slot for node in live], dtype=torch.int64))
        self._at.clear()
        self._run.clear()
        self._depths.clear()
        self._freed = 0
        for node in live:
            self._place(node)

    def _ancestors(self, node: Node) -> Bools:
        """Return which slots belong to an evaluated node and its ancestors. O(runs)."""
        row = np.zeros(len(self._at), dtype=np.bool_)
        slot = node.slot
        while slot >= 0:
            start = self._run[slot]
            row[start : slot + 1] = True
            first = self._at[start]
            slot = first.parent.slot if first is not None and first.parent is not None else -1
        return row

    def _sight(self, fresh: list[Node], again: list[Node]) -> tuple[Any, Any]:
        """Return the mask of a pass and the slots that it sees; None for all of them.

        The mask is None where it would be the causal one, which models have faster ways for.
        """
        order = fresh + again
        size = len(order)
        place = {node.handle: i for i, node in enumerate(fresh)}
        old = np.zeros((size, len(self._at)), dtype=np.bool_)
        new = np.eye(size, dtype=np.bool_)
        anchors: dict[int, Bools] = {}
        for i, node in enumerate(order):
            parent = node.parent
            if parent is None:
                continue
            row = place.get(parent.handle)
            if row is not None:
                old[i] = old[row]
                new[i, :i] |= new[row, :i]
            elif parent.slot >= 0:
                if parent.handle not in anchors:
                    anchors[parent.handle] = self._ancestors(parent)
                old[i] = anchors[parent.handle]
        needed = old.any(axis=0)
        count = int(needed.sum())
        chosen = None
        if count and 2 * count < len(self._at):
            slots = np.flatnonzero(needed)
            chosen = torch.from_numpy(slots)
            old = old[:, slots]
            depths = np.array(self._depths, dtype=np.int64)[slots]
        elif count:
            depths = np.array(self._depths, dtype=np.int64)
        else:  # nothing behind it is seen: fresh trees
            chosen = torch.zeros(0, dtype=torch.int64) if self._at else None
            old = old[:, :0]
            depths = np.zeros(0, dtype=np.int64)
        if old.all() and np.array_equal(new, np.tri(size, dtype=np.bool_)):
            return None, chosen
        seen = np.concatenate((old, new), axis=1)
        own = np.array([node.depth for node in order], dtype=np.int64)
        return self._masks(seen, own, np.concatenate((depths, own))), chosen

    def _masks(self, seen: Bools, queries: NDArray[np.int64], keys: NDArray[np.int64]) -> Any:
        """Return the additive mask of every kind of layer, (1, 1, queries, keys)."""
        masks: dict[str, Any] = {}
        made: dict[int | None, Any] = {}
        for kind, window in self.slots.windows.items():
            if window not in made:
                visible = seen
                if window is not None:
                    visible = seen & (queries[:, None] - keys[None, :] < window)
                hidden = torch.from_numpy(~visible).to(self.network.device)
                blank = torch.zeros(hidden.shape, dtype=self.network.dtype, device=hidden.device)
                lowest = torch.finfo(self.network.dtype).min
                made[window] = blank.masked_fill_(hidden, lowest)[None, None]
            masks[kind] = made[window]
        return next(iter(masks.values())) if len(made) == 1 else masks


def _plan(asked: list[Node]) -> list[Node]:
    """Return the nodes to read: those asked for and their unevaluated ancestors, parents first.

    Nodes to be read again come first, then the longest new chain in one piece, so that it becomes
    one run of slots, then what branches off it.
    """
    plan = sorted((node for node in asked if node.slot >= 0), key=lambda node: node.depth)
    planned: set[int] = set()
    for node in sorted(asked, key=lambda node: -node.depth):
        chain = []
        at: Node | None = node
        while at is not None and at.parent is not None and at.slot < 0 and at.handle not in planned:
            planned.add(at.handle)
            chain.append(at)
            at = at.parent
        chain.reverse()
        plan += chain
    return plan
