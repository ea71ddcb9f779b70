"""What a byte-level model needs of whatever predicts tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

__all__ = ["Row", "TokenBackend"]

# A vector of `rows` numbers: a numpy array (float32 or float64) or a torch tensor (float32,
# bfloat16 or float16) on the device of the model.
Row: TypeAlias = Any


@runtime_checkable
class TokenBackend(Protocol):
    """Next-token logits at the nodes of a growing tree of contexts.

    A node stands for a context, a sequence of token ids; its handle is an `int`. All contexts of
    a backend form one tree: `extend(root([1]), 2)` and `root([1, 2])` are the same handle, and
    contexts that begin alike share the work of their beginning.

    **Handles are counted.** Every `root` and `extend` that returns a handle is to be answered by
    one `release` of it. A node is freed, with what is cached for it, when it has been released as
    often as it was returned and none of its descendants is left; a released node whose descendants
    live stays cached for their sake. Handles of freed nodes are never used again.

    **Nothing runs before it is asked for.** `root` and `extend` only take notes. `logits` runs the
    forward passes, those of ancestors that were never evaluated included.

    **Logits are not kept.** What the model needs to go on from a node (keys and values, or a
    recurrent state) is cached; its logits are not. Asking for a node again computes its last
    position again.

    Rows are logits: log-probabilities up to one constant per row. A backend whose engine returns
    log-probabilities yields those. Row `i` belongs to token id `i`; a model may have more rows
    than its tokenizer has ids.

    A backend is not safe for use from several threads at once.
    """

    @property
    def rows(self) -> int:
        """The length of a row of logits: the model's, not the tokenizer's."""

    @property
    def max_context(self) -> int | None:
        """The longest context in ids whose logits can be asked; None where there is no limit."""

    def root(self, ids: Sequence[int]) -> int:
        """Return the node of a whole context: `[bos]`, a chat prefix, a prompt. O(len(ids)).

        Raises:
            InvalidValue: The model has no such id.
        """

    def extend(self, parent: int, token: int) -> int:
        """Return the node whose context is the parent's and one token. O(1), no forward pass.

        The same parent and token give the same handle.

        Raises:
            InvalidValue: `parent` is no live node, or the model has no such id.
        """

    def logits(self, nodes: Sequence[int]) -> Iterator[tuple[int, Row]]:
        """Yield the row of every distinct node asked for, ancestors before their descendants.

        Apart from that the order is the backend's own. Forward passes run between items, so the
        memory for rows is bounded however many nodes are asked for. A row is valid until the next
        item is asked for: reduce it or copy it. Between items the caller may extend, release and
        ask; the nodes of the request live until the iterator ends or is closed.

        Args:
            nodes: Handles, in any order; one that stands twice is answered once.

        Raises:
            InvalidValue: A handle is no live node, or its context is empty and the engine has no
                logits without an id (only `TableBackend` has). Raised by the call.
            LimitExceeded: A context is longer than `max_context`. Raised by the call.
        """

    def release(self, node: int) -> None:
        """Give up one claim to a node: it will be neither extended nor asked for by its owner.

        Raises:
            InvalidValue: The node is not live, or was released as often as it was returned.
        """

    def close(self) -> None:
        """Free everything; no other call may follow. Closing twice is allowed."""
