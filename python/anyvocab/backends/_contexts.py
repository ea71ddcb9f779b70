"""The tree of contexts under every backend: nodes, claims to them, and when they are freed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Literal, TypeVar

from anyvocab import errors

__all__ = ["ContextTree", "Node", "chains"]

_Row = TypeVar("_Row")


class Node:
    """One context: its parent's and one token.

    Attributes:
        handle: Its name outside; 0 is the empty context.
        parent: The node of all ids but the last; None for the empty context.
        token: The last id; -1 for the empty context.
        depth: How many ids the context has.
        children: Handles of the nodes one token longer, by token; None while there is none.
            Handles and not nodes: without cycles a freed tree needs no garbage collector.
        claims: How often it is held: by callers, and by requests under way.
        slot: Where a backend keeps what it cached for the node; -1 when it holds nothing.
    """

    __slots__ = ("children", "claims", "depth", "handle", "parent", "slot", "token")

    def __init__(self, handle: int, parent: Node | None, token: int) -> None:
        self.handle = handle
        self.parent = parent
        self.token = token
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.children: dict[int, int] | None = None
        self.claims = 0
        self.slot = -1


class ContextTree:
    """All contexts of a backend in one tree. No method recurses, however deep it grows.

    Args:
        tokens: How many ids the model can read; None for no check.
        max_context: The longest context that can be asked for; None for no limit.
        on_free: Called with every node that is freed, children before parents.
    """

    def __init__(
        self,
        *,
        tokens: int | None = None,
        max_context: int | None = None,
        on_free: Callable[[Node], None] | None = None,
    ) -> None:
        self.tokens = tokens
        self.max_context = max_context
        self.on_free = on_free
        self.top = Node(0, None, -1)
        self._nodes: dict[int, Node] = {}
        self._next = 1
        self._closed = False

    def __len__(self) -> int:
        """Return how many nodes live, the empty context not counted."""
        return len(self._nodes)

    def node(self, handle: int) -> Node:
        """Return the node of a handle.

        Raises:
            InvalidValue: There is none.
        """
        self._check_open()
        found = self.top if handle == 0 and self.top.claims else self._nodes.get(handle)
        if found is None:
            raise errors.build(
                errors.InvalidValue,
                f"{handle!r} is no live node",
                field="node",
                fix="a node is freed by the last release of it and its descendants",
            )
        return found

    def root(self, ids: Iterable[int]) -> int:
        """Return the node of a whole context, claimed once more."""
        self._check_open()
        path = [self._token(id) for id in ids]  # all are checked before the tree changes
        node = self.top
        for token in path:
            node = self._child(node, token)
        node.claims += 1
        return node.handle

    def extend(self, parent: int, token: int) -> int:
        """Return the child of a node, claimed once more."""
        node = self._child(self.node(parent), self._token(token))
        node.claims += 1
        return node.handle

    def release(self, handle: int) -> None:
        """Give up one claim; free the node and its ancestors as far as nothing needs them."""
        node = self.node(handle)
        if not node.claims:
            raise errors.build(
                errors.InvalidValue,
                f"{handle} was released as often as it was returned",
                field="node",
                fix="release a handle once for every root() and extend() that gave it",
            )
        self.drop(node)

    def hold(self, node: Node) -> None:
        """Keep a node alive until :meth:`drop`."""
        node.claims += 1

    def drop(self, node: Node) -> None:
        """Undo one :meth:`hold`."""
        node.claims -= 1
        at: Node | None = node
        while at is not None and at.parent is not None and not at.claims and not at.children:
            if self._nodes.pop(at.handle, None) is None:
                return  # the tree was closed while a request was under way
            siblings = at.parent.children
            if siblings is not None:
                del siblings[at.token]
            if self.on_free is not None:
                self.on_free(at)
            at = at.parent

    def asked(
        self, handles: Sequence[int], *, empty: Literal["allowed", "refused"] = "allowed"
    ) -> list[Node]:
        """Return the distinct nodes of a request, in its order.

        Args:
            handles: What was asked for.
            empty: Whether the empty context may be asked for.

        Raises:
            InvalidValue: A handle is no live node, or the empty context is refused.
            LimitExceeded: A context is too long.
        """
        nodes = [self.node(handle) for handle in dict.fromkeys(handles)]
        if empty == "refused" and self.top in nodes:
            raise errors.build(
                errors.InvalidValue,
                "the empty context has no logits: the model reads at least one id",
                field="nodes",
                fix="begin with an id that texts begin with in training, a bos for example",
            )
        longest = max(nodes, key=lambda node: node.depth, default=None)
        limit = self.max_context
        if longest is not None and limit is not None and longest.depth > limit:
            raise errors.build(
                errors.LimitExceeded,
                f"a context has {longest.depth} ids, and the model sees at most {limit}",
                field="nodes",
                fix="begin again from a shorter context",
            )
        return nodes

    def hold_while(
        self, nodes: list[Node], rows: Iterator[tuple[int, _Row]]
    ) -> Iterator[tuple[int, _Row]]:
        """Yield from `rows`, and keep the nodes alive from the first item on.

        Raises:
            InvalidValue: A node was freed between the request and its first item.
        """
        for node in nodes:
            self.node(node.handle)
        for node in nodes:
            self.hold(node)
        try:
            yield from rows
        finally:
            for node in nodes:
                self.drop(node)

    def ids(self, node: Node) -> list[int]:
        """Return the context of a node. O(depth)."""
        found = []
        at = node
        while at.parent is not None:
            found.append(at.token)
            at = at.parent
        found.reverse()
        return found

    def close(self) -> None:
        """Forget everything."""
        self._nodes.clear()
        self.top = Node(0, None, -1)
        self._closed = True

    def _child(self, parent: Node, token: int) -> Node:
        if parent.children is None:
            parent.children = {}
        handle = parent.children.get(token)
        if handle is not None:
            return self._nodes[handle]
        node = Node(self._next, parent, token)
        self._next += 1
        parent.children[token] = node.handle
        self._nodes[node.handle] = node
        return node

    def _token(self, token: int) -> int:
        id = operator.index(token)
        if id < 0 or (self.tokens is not None and id >= self.tokens):
            known = "" if self.tokens is None else f"; the model reads ids 0..{self.tokens - 1}"
            raise errors.build(
                errors.InvalidValue, f"there is no token id {id}{known}", field="token"
            )
        return id

    def _check_open(self) -> None:
        if self._closed:
            raise errors.build(
                errors.InvalidValue, "the backend is closed", field="backend", fix="make a new one"
            )


def chains(
    asked: Iterable[Node], held: Container[int], *, at_branches: Literal["through", "end"]
) -> list[list[Node]]:
    """Return parent-child chains that hold every node asked for once, ancestors first.

    The chains begin behind a node that is held, or behind the empty context, and hold whatever
    lies between. Read one after another along a single path, they shorten it as little as they
    can: a chain goes on to its deepest node, and what branches off it follows from the end.

    Args:
        asked: Nodes; none of them is the empty context.
        held: Handles of nodes behind which reading can begin.
        at_branches: Whether a chain goes on where the tree branches, or ends there.
    """
    children: dict[int, list[Node]] = {}
    starts: list[Node] = []
    marked: set[int] = set()
    for node in sorted(asked, key=lambda node: -node.depth):
        at = node
        while at.handle not in marked:
            marked.add(at.handle)
            parent = at.parent
            if parent is None or parent.parent is None or parent.handle in held:
                starts.append(at)
                break
            children.setdefault(parent.handle, []).append(at)
            at = parent
    # A held node may itself be asked for: it is shallower than those behind it, and comes first.
    stack = sorted(starts, key=lambda node: -node.depth)
    found = []
    while stack:
        chain = [stack.pop()]
        while below := children.get(chain[-1].handle):
            if len(below) > 1 and at_branches == "end":
                stack += below  # the first is the one with the deepest node, and is read last
                break
            stack += below[1:]
            chain.append(below[0])
        found.append(chain)
    return found
