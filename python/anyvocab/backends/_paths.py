"""Contexts one path at a time, for models that take no tree mask.

A request is cut into segments, chains of nodes that one forward pass reads behind the cache of
what comes before. Three ways to have that cache:

- `crop`: the cache of a path can be cut back to any node of it, and goes on from there.
- `snapshot`: the state after a node is kept as it is, and copied before a pass changes it
  (sliding windows, recurrent layers). Segments end where the tree branches.
- `recompute`: there is none; every segment is read with its whole context.

However little is left in the cache, the answer is the same: a segment whose base is gone is read
from the nearest ancestor that is still there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal

import torch
from transformers import cache_utils

from anyvocab import errors
from anyvocab.backends._contexts import Node, chains
from anyvocab.backends._network import Network

__all__ = ["Paths"]

KEPT = 8  # caches kept at a time; the least recently used goes first
SHORT = 32  # ids; a path that would lose more than this by cropping is kept beside the new one

PathMode = Literal["crop", "snapshot", "recompute"]


class _Line:
    """A cache and the nodes that it holds: a whole path (`crop`), or its end (`snapshot`)."""

    __slots__ = ("cache", "path")

    def __init__(self, cache: Any, path: list[Node]) -> None:
        self.cache = cache
        self.path = path


class Paths:
    """The engine of the modes `crop`, `snapshot` and `recompute`.

    Args:
        network: The model.
        mode: Which of them.
        chunk: The most nodes of one pass.
        logit_bytes: The most memory for the logits of one pass.
        stride: How many ids the model can read at once behind a state; None for any number.
    """

    def __init__(
        self,
        network: Network,
        mode: PathMode,
        *,
        chunk: int,
        logit_bytes: int,
        stride: int | None = None,
    ) -> None:
        self.network = network
        self.mode = mode
        self.chunk = chunk
        self.logit_bytes = logit_bytes
        self.stride = stride
        self._lines: list[_Line] = []  # the least recently used first
        self._line_of: dict[int, _Line] = {}  # by the handle of every node that one holds

    @property
    def used(self) -> int:
        """How many nodes have something cached."""
        return len(self._line_of)

    def free(self, node: Node) -> None:
        """Forget what is cached for a node that was freed. Descendants are freed first."""
        if self._line_of.pop(node.handle, None) is None:
            return
        for line in [one for one in self._lines if one.path[-1] is node]:
            line.path.pop()
            if not line.path:
                self._lines.remove(line)

    def tidy(self) -> None:
        """Forget every cache: what is asked next is read from the beginning."""
        self._lines.clear()
        self._line_of.clear()

    def rows(self, asked: list[Node]) -> Iterator[tuple[int, Any]]:
        """Yield the logits of the nodes asked for, and evaluate what they need."""
        wanted = {node.handle for node in asked}
        limit = self.chunk
        if self.network.keeps == "all":
            limit = max(1, min(limit, self.logit_bytes // (self.network.rows * 4)))
        at_branches: Literal["through", "end"] = "end" if self.mode == "snapshot" else "through"
        for chain in chains(asked, self._line_of, at_branches=at_branches):
            for at in range(0, len(chain), limit):
                yield from self._read(chain[at : at + limit], wanted)

    def _read(self, segment: list[Node], wanted: set[int]) -> Iterator[tuple[int, Any]]:
        """Read a segment; yield the rows of those of its nodes that were asked for."""
        answers = max(1, self.logit_bytes // (self.network.rows * 4))
        while segment:
            size, asked = 0, 0
            while size < len(segment) and asked < answers:
                asked += segment[size].handle in wanted
                size += 1
            part, segment = segment[:size], segment[size:]
            if self.mode == "recompute" and not asked:
                continue  # it would leave nothing behind
            keep = [i for i, node in enumerate(part) if node.handle in wanted]
            handles = [part[i].handle for i in keep]
            logits = self._pass(part, keep)
            for i, handle in enumerate(handles):
                yield handle, logits[i]

    def _pass(self, part: list[Node], keep: list[int]) -> Any:
        """Run the model over a chain; return the logits at `keep`, [len(keep), rows]."""
        line, at, lead = self._base(part[0])
        read = lead + part
        ids = [node.token for node in read]
        keep = [len(lead) + i for i in keep]
        if self.mode == "recompute":
            return self.network(ids, keep, caching="off")[0]
        if line is None or at is None:
            logits, cache = self._run(ids, keep, None)
            self._add(_Line(cache, [read[-1]] if self.mode == "snapshot" else read))
            return logits
        self._lines.remove(line)
        self._lines.append(line)
        if self.mode == "snapshot":
            logits, cache = self._run(ids, keep, _copy(line.cache))
            self._add(_Line(cache, [read[-1]]))
            return logits
        lost = len(line.path) - at.depth
        if lost > min(SHORT, len(read)):  # rather both paths: this one shares what it can
            logits, cache = self._run(ids, keep, _cut(line.cache, at.depth))
            if len(read) > SHORT:
                self._add(_Line(cache, line.path[: at.depth] + read))
            return logits
        self._unmap(line, line.path[at.depth :])
        del line.path[at.depth :]
        cache, line.cache = _cut(line.cache, at.depth), None
        try:
            logits, line.cache = self._run(ids, keep, cache)
        finally:
            if line.cache is None:  # the pass failed, and left a cache of neither length
                self._drop(line)
        line.path += read
        self._line_of.update((node.handle, line) for node in read)
        return logits

    def _run(self, ids: list[int], keep: list[int], cache: Any) -> tuple[Any, Any]:
        """Return the logits at `keep`, [len(keep), rows], and the cache behind the last id."""
        network, stride = self.network, self.stride
        if cache is None or stride is None:
            logits, cache = network(ids, keep or [len(ids) - 1], cache=cache)
        else:
            rows = []
            asked = set(keep)
            for at in range(0, len(ids), stride):
                part = ids[at : at + stride]
                here = [i for i in range(len(part)) if at + i in asked]
                logits, cache = network(part, here or [0], cache=cache)
                if here:
                    rows.append(logits)
            logits = torch.cat(rows) if rows else None
        if cache is None:
            raise errors.build(
                errors.InvalidValue, "the model returned no cache", field="model.forward"
            )
        return logits, cache

    # ------------------------------------------------------------------- what is kept

    def _base(self, first: Node) -> tuple[_Line | None, Node | None, list[Node]]:
        """Return a line behind which `first` can be read, where on it, and the nodes between."""
        lead: list[Node] = []
        at = first.parent
        line = None
        while at is not None and at.parent is not None:
            line = self._line_of.get(at.handle)
            if line is not None:
                break
            lead.append(at)
            at = at.parent
        lead.reverse()
        return line, at, lead

    def _add(self, line: _Line) -> None:
        """Keep a line, as the one used last."""
        if self.mode == "snapshot" and line.path[-1].handle in self._line_of:
            self._drop(self._line_of[line.path[-1].handle])
        self._lines.append(line)
        self._line_of.update((node.handle, line) for node in line.path)
        while len(self._lines) > KEPT:
            self._drop(self._lines[0])

    def _drop(self, line: _Line) -> None:
        """Forget a line."""
        self._lines.remove(line)
        self._unmap(line, line.path)

    def _unmap(self, line: _Line, nodes: list[Node]) -> None:
        """Look for nodes elsewhere from now on: on another line that holds them, or nowhere."""
        for node in nodes:
            if self._line_of.get(node.handle) is not line:
                continue
            del self._line_of[node.handle]
            for other in self._lines:
                at = 0 if self.mode == "snapshot" else node.depth - 1
                if other is not line and len(other.path) > at and other.path[at] is node:
                    self._line_of[node.handle] = other
                    break


def _cut(cache: Any, length: int) -> Any:
    """Return a cache of full attention that holds only the first `length` positions.

    The tensors are shared: `DynamicLayer` replaces them when it grows, and never writes into them.

    Raises:
        InvalidValue: A layer keeps something else than the keys and values of all positions.
    """
    layers = getattr(cache, "layers", None)
    for layer in layers or [cache]:
        # A sliding layer can be cut while it is short, and no longer once its window is full.
        if type(layer).__name__ not in ("DynamicLayer", "DummyLayer"):
            raise errors.build(
                errors.InvalidValue,
                f"a {type(layer).__name__} cannot be cut back to any position",
                field="model.cache",
            )
    cut = copy.copy(cache)
    cut.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in cut.layers:
        if getattr(layer, "is_initialized", False):
            layer.keys = layer.keys[..., :length, :]
            layer.values = layer.values[..., :length, :]
    return cut


def _copy(cache: Any) -> Any:
    """Return a cache that a pass may change while the first stays as it is."""
    if not isinstance(cache, cache_utils.Cache):
        return copy.deepcopy(cache)
    shared = (cache_utils.DynamicLayer, cache_utils.DynamicSlidingWindowLayer)
    other = copy.copy(cache)
    other.layers = [
        copy.copy(layer) if type(layer) in shared else copy.deepcopy(layer)
        for layer in cache.layers
    ]
    return other
