"""Logits of tree nodes from a transformers model, with as few forward passes as it allows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from anyvocab import errors
from anyvocab._torch import import_torch
from anyvocab.backends._contexts import ContextTree

if TYPE_CHECKING:
    from anyvocab.backends._probe import Reference

__all__ = ["Mode", "TransformersBackend"]

Mode = Literal["tree", "crop", "snapshot", "recompute"]
MODES: tuple[Mode, ...] = ("tree", "crop", "snapshot", "recompute")
CHUNK = 512  # nodes of one pass
LOGIT_BYTES = 64 << 20


class TransformersBackend:
    """A transformers causal language model as a :class:`~anyvocab.backends.TokenBackend`.

    How much of a request one forward pass can do depends on the model, and is found out when the
    backend is made, by comparing a small tree with whole contexts numerically:

    - `tree`: the model takes an attention mask of four dimensions and explicit positions. One pass
      reads nodes of all trees together, behind one cache of keys and values. Layers that see a
      sliding window have it in their mask, as long as the configuration says; windows of up to 64
      positions are exceeded by the comparison, longer ones are taken on trust.
    - `crop`: the cache can be cut back to any position, but there is no tree mask (flash
      attention, ALiBi). One pass per branch.
    - `snapshot`: the state is copied where the tree branches (recurrent and hybrid models). One
      pass per branch; the states of the eight nodes used last are kept, and a node whose state is
      gone is read again from the nearest ancestor that has one.
    - `recompute`: no cache works. One pass over the whole context per branch.

    All four give the logits of the context, up to the rounding of the model's precision: a pass of
    another shape sums in another order. (A mixture of experts may route a token differently when
    its router is that close to a tie.)

    Rows are tensors on the device of the model, in its precision: views of the logits of a pass.
    They are inference tensors, without gradients. A model in training mode is put in evaluation
    mode for the length of each pass.

    Args:
        model: A causal language model of transformers. It is used as it is, not copied.
        device: Where to move the model; left where it is when left out.
        dtype: What to convert its weights to (`"bfloat16"`, or torch's own); as they are when left
            out.
        chunk: The most nodes of one pass.
        logit_bytes: The most memory for the logits of one pass (one row at least).
        mode: `auto`, or a mode that has to be used.

    Attributes:
        model: The model.
        mode: The mode in use.
        why: What the probes of this mode and of those before it found.

    Raises:
        InvalidValue: It is no decoder-only transformers model, or `mode` does not work for it.
        MissingExtra: torch or transformers is not installed.

    Example:
        >>> from anyvocab.backends import TransformersBackend
        >>> backend = TransformersBackend.load("pico:code-4k")
        >>> node = backend.root([1, 2, 3])
        >>> [tuple(row.shape) for _, row in backend.logits([node])] == [(backend.rows,)]
        True
        >>> backend.mode
        'tree'
    """

    def __init__(
        self,
        model: Any,
        *,
        device: str | None = None,
        dtype: Any = None,
        chunk: int = CHUNK,
        logit_bytes: int = LOGIT_BYTES,
        mode: Literal["auto"] | Mode = "auto",
    ) -> None:
        if chunk < 1:
            raise errors.build(
                errors.InvalidValue, f"must be at least 1, got {chunk}", field="chunk"
            )
        if mode != "auto" and mode not in MODES:
            raise errors.build(
                errors.InvalidValue,
                f"{mode!r} is no choice",
                field="mode",
                fix=f"auto, {', '.join(MODES)}",
            )
        torch = import_torch()
        try:
            from anyvocab.backends._network import Network
            from anyvocab.backends._probe import Reference
        except ImportError as error:
            raise errors.build(
                errors.MissingExtra,
                "transformers is not installed",
                field="model",
                fix="pip install 'anyvocab[models]'",
            ) from error
        if dtype is not None:
            model = model.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)
        if device is not None:
            model = model.to(device)
        self.model = model
        self._network = Network(model)
        self._sizes = {"chunk": chunk, "logit_bytes": logit_bytes}
        self.mode: Mode
        self.why: str
        self._engine: Any
        self.mode, self.why, self._engine = self._choose(mode, Reference(self._network))
        self._network.forwards = 0
        self._tree = ContextTree(
            tokens=self._network.tokens,
            max_context=self._network.limit,
            on_free=self._engine.free,
        )

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str],
        *,
        device: str | None = None,
        dtype: str = "float32",
        chunk: int = CHUNK,
        logit_bytes: int = LOGIT_BYTES,
        mode: Literal["auto"] | Mode = "auto",
    ) -> TransformersBackend:
        """Return a backend for the model of a folder, a hub id or `pico:NAME`.

        Only safetensors weights are read, and no code of the folder's is run.

        Args:
            source: Where the model is.
            device: Where it runs (`cuda`); on the CPU when left out.
            dtype: What its weights are converted to: float32, bfloat16 or float16.
            chunk: As of the class.
            logit_bytes: As of the class.
            mode: As of the class.

        Raises:
            SourceNotFound: There is no model, or it has no weights.
            InvalidValue: It is no causal language model, or an argument is no choice.
            MissingExtra: torch or transformers is not installed.
        """
        from anyvocab.evaluate.models import load_model

        model = load_model(source, device=device, dtype=dtype)
        return cls(model, chunk=chunk, logit_bytes=logit_bytes, mode=mode)

    @property
    def rows(self) -> int:
        """The length of a row of logits."""
        return self._network.rows

    @property
    def max_context(self) -> int | None:
        """The longest context that the model's configuration allows."""
        return self._network.limit

    @property
    def forwards(self) -> int:
        """How many forward passes ran since the backend was made."""
        return self._network.forwards

    @property
    def cached(self) -> int:
        """How many nodes have something cached, freed ones that still take room included."""
        return 0 if self._engine is None else int(self._engine.used)

    @property
    def nodes(self) -> int:
        """How many contexts live, those that only lead to others included."""
        return len(self._tree)

    def root(self, ids: Sequence[int]) -> int:
        """Return the node of a whole context."""
        return self._tree.root(ids)

    def extend(self, parent: int, token: int) -> int:
        """Return the node one token longer."""
        return self._tree.extend(parent, token)

    def logits(self, nodes: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Yield the logits of every distinct node, (rows,), ancestors first."""
        asked = self._tree.asked(nodes, empty="refused")
        return self._tree.hold_while(asked, self._engine.rows(asked))

    def release(self, node: int) -> None:
        """Give up one claim to a node."""
        self._tree.release(node)

    def close(self) -> None:
        """Free all that is cached. The model is the caller's and stays as it is."""
        self._tree.on_free = None
        self._tree.close()
        self._engine = None

    def _choose(self, mode: Literal["auto"] | Mode, reference: Reference) -> tuple[Mode, str, Any]:
        """Return the first mode that works, what was found, and its engine."""
        from anyvocab.backends._probe import verdict

        findings = []
        for name, make, careful in self._candidates():
            if mode not in ("auto", name):
                continue
            right, found = verdict(reference, make, careful)
            findings.append(f"{name}: {found}")
            if right:
                return name, "; ".join(findings), make()
        if mode in ("auto", "recompute"):
            findings.append("recompute: needs nothing of the model")
            return "recompute", "; ".join(findings), self._paths("recompute")
        raise errors.build(
            errors.InvalidValue,
            f"{mode!r} does not work for this model: {'; '.join(findings)}",
            field="mode",
            fix="leave it out: the best mode that works is found",
        )

    def _candidates(self) -> Iterator[tuple[Mode, Callable[[], Any], Callable[[], Any] | None]]:
        """Yield the modes to probe, the best first: what makes its engine, and a careful one."""
        from anyvocab.backends._forest import Forest

        if "position_ids" in self._network.takes and self._network.cache_name is not None:
            yield "tree", lambda: Forest(self._network, **self._sizes), None
        if self._network.cache_name is not None:
            by_one = partial(self._paths, "snapshot", stride=1)
            yield "crop", partial(self._paths, "crop"), None
            yield "snapshot", partial(self._paths, "snapshot"), by_one
            yield "snapshot", by_one, None

    def _paths(self, mode: Literal["crop", "snapshot", "recompute"], **more: int) -> Any:
        from anyvocab.backends._paths import Paths

        return Paths(self._network, mode, **self._sizes, **more)
