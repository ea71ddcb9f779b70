"""Logits of tree nodes from llama.cpp, by llama-cpp-python: one path, cut back and gone on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab import errors
from anyvocab.backends._contexts import ContextTree, Node, chains

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LlamaCppBackend"]


class LlamaCppBackend:
    """A `llama_cpp.Llama` as a :class:`~anyvocab.backends.TokenBackend`.

    **This was written against the source of llama-cpp-python 0.3.35 and tested with a stand-in for
    it; it was not run against the library itself.**

    The engine holds the keys and values of one path of the tree. A node that is not on it cuts it
    back to their last common ancestor (`llama_memory_seq_rm`) and reads on from there, so a twig
    costs one pass over one token, and returning to another prompt costs that prompt. Where the
    memory cannot be cut (recurrent and hybrid models; sliding windows kept without `swa_full`),
    the context is read from its beginning. Requests are ordered so that little is read twice.

    Every node asked for ends a pass, whose last logits are read in place
    (`llama_get_logits_ith`); `logits_all` and its memory are not needed.

    Rows are float32[rows], views of the engine's memory. The `Llama` must not be used for anything
    else until the backend is closed.

    Args:
        llama: A `llama_cpp.Llama`.

    Attributes:
        evaluated: How many tokens were read.

    Raises:
        MissingExtra: llama-cpp-python is not installed.
    """

    def __init__(self, llama: Any) -> None:
        library = _import_llama_cpp()
        self._library = library
        self._llama = llama
        self._rows = int(llama.n_vocab())
        model = llama.model
        stateful = library.llama_model_is_recurrent(model) or library.llama_model_is_hybrid(model)
        # A window that forgets reports its cut as done and has lost what the shorter path needs.
        forgets = library.llama_model_n_swa(model) > 0 and not llama.context_params.swa_full
        self._cuts = not (stateful or forgets)
        self._path: list[Node] = []
        self._on_path: set[int] = set()
        self.evaluated = 0
        self._tree = ContextTree(
            tokens=self._rows, max_context=int(llama.n_ctx()), on_free=self._free
        )
        self._cut(0)

    @classmethod
    def load(
        cls, file: str | os.PathLike[str], *, n_ctx: int = 4096, **options: Any
    ) -> LlamaCppBackend:
        """Return a backend for a GGUF file.

        Args:
            file: Where it is.
            n_ctx: The longest context in ids; the engine takes memory for all of them at once.
            options: Further arguments of `llama_cpp.Llama`.

        Raises:
            MissingExtra: llama-cpp-python is not installed.
        """
        settings: dict[str, Any] = {"n_ctx": n_ctx, "swa_full": True, "verbose": False}
        llama = _import_llama_cpp().Llama(model_path=os.fsdecode(file), **(settings | options))
        return cls(llama)

    @property
    def rows(self) -> int:
        """The length of a row of logits."""
        return self._rows

    @property
    def max_context(self) -> int | None:
        """The `n_ctx` of the engine."""
        return self._tree.max_context

    def root(self, ids: Sequence[int]) -> int:
        """Return the node of a whole context."""
        return self._tree.root(ids)

    def extend(self, parent: int, token: int) -> int:
        """Return the node one token longer."""
        return self._tree.extend(parent, token)

    def logits(self, nodes: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the logits of every distinct node, ancestors first."""
        asked = self._tree.asked(nodes, empty="refused")
        return self._tree.hold_while(asked, self._rows_of(asked))

    def release(self, node: int) -> None:
        """Give up one claim to a node."""
        self._tree.release(node)

    def close(self) -> None:
        """Forget the tree. The `Llama` is the caller's, and is left empty."""
        if self._path:
            self._cut(0)
        self._tree.close()

    def _rows_of(self, asked: list[Node]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        wanted = {node.handle for node in asked}
        held = self._on_path if self._cuts else frozenset[int]()
        for chain in chains(asked, held, at_branches="through"):
            part: list[Node] = []
            for node in chain:
                part.append(node)
                if node.handle in wanted:
                    self._read(part)
                    part = []
                    yield node.handle, self._last_row()

    def _read(self, part: list[Node]) -> None:
        """Read a chain behind what it follows, so that its last node is the last of the path."""
        at = part[0].parent
        lead: list[Node] = []
        while at is not None and at.parent is not None and at.handle not in self._on_path:
            lead.append(at)
            at = at.parent
        lead.reverse()
        base = 0 if at is None else at.depth
        if base < len(self._path) and not self._cut(base):
            lead = self._path_to(part[0].parent)
        read = lead + part
        self._llama.eval([node.token for node in read])
        self.evaluated += len(read)
        self._path += read
        self._on_path.update(node.handle for node in read)

    def _path_to(self, node: Node | None) -> list[Node]:
        """Return the nodes from the beginning to `node`."""
        path = []
        while node is not None and node.parent is not None:
            path.append(node)
            node = node.parent
        path.reverse()
        return path

    def _cut(self, length: int) -> bool:
        """Cut the path back to `length` ids; return False where all of it had to be forgotten."""
        library, llama = self._library, self._llama
        memory = library.llama_get_memory(llama.ctx)
        cut = self._cuts and library.llama_memory_seq_rm(memory, 0, length, -1)
        if not cut:
            library.llama_memory_clear(memory, True)
        llama.n_tokens = length if cut else 0  # where eval() goes on
        gone = self._path[llama.n_tokens :]
        self._on_path.difference_update(node.handle for node in gone)
        del self._path[llama.n_tokens :]
        return bool(cut) or length == 0

    def _last_row(self) -> NDArray[np.float32]:
        pointer = self._library.llama_get_logits_ith(self._llama.ctx, -1)
        row: NDArray[np.float32] = np.ctypeslib.as_array(pointer, shape=(self._rows,))
        return row

    def _free(self, node: Node) -> None:
        """Drop a freed node from the end of the path; descendants are freed first."""
        if self._path and self._path[-1] is node:
            self._cut(len(self._path) - 1)


def _import_llama_cpp() -> Any:
    try:
        return import_module("llama_cpp")
    except ImportError as error:
        raise errors.build(
            errors.MissingExtra,
            "llama-cpp-python is not installed",
            field="llama",
            fix="pip install llama-cpp-python, or use TransformersBackend",
        ) from error
