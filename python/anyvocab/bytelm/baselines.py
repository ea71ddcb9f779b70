"""Token-level generation from a prompt: what byte-level completion is compared with.

Two ways that are in use, on any backend and on the same model:

`tokens`
    The prompt is encoded as it is, and ids are generated. Where the prompt ends inside a token, the
    model is asked to go on from a token boundary that its training text did not have.
`healing`
    Token healing (guidance; Athiwaratkun et al., arXiv:2403.08688 do it with a trie): the prompt's
    last tokens are taken off and the next ones have to spell their bytes. A local constraint: each
    id is chosen among those that agree with the bytes, by its own probability, whatever the text
    behind it is worth. It is not the model's distribution given the bytes.

In both, an id that stands for no text ends the middle if it is one of the end ids, and cannot be
chosen otherwise; nor can padded rows. A byte-level model forbids them likewise unless it is told
otherwise, so that the three differ in the prompt's edge and not in what they may write.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anyvocab import errors
from anyvocab.bytelm.edges import encode_spelled
from anyvocab.bytelm.sampling import Sampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.bytelm.context import Context
    from anyvocab.bytelm.fim import FimPrompt
    from anyvocab.bytelm.lm import ByteLM
    from anyvocab.tokenizer import Tokenizer

__all__ = [
    "Generated",
    "Sampler",
    "context_ids",
    "first_ids",
    "generate",
    "heal",
    "next_bytes",
    "prompt_ids",
    "score_ids",
]

BACKOFF: Final = 4  # tokens that healing takes off at most; llguidance looks back as far


@dataclass(frozen=True)
class Generated:
    """What a model wrote, id by id.

    Attributes:
        bytes: What it wrote behind the prompt.
        logprob: Of the ids chosen, the end included, in nats: each among those that could be.
        finish: `end`: an end id; `stop`: a stop string, which `bytes` ends with; `length`.
        ids: The ids, without the end.
    """

    bytes: bytes
    logprob: float
    finish: str
    ids: tuple[int, ...]


def first_ids(lm: Any) -> tuple[int, ...]:
    """Return the ids that a model's contexts begin with: its own word, else its tokenizer's."""
    from anyvocab.evaluate.models import first_ids_of

    given = getattr(lm, "first_ids", None)
    return tuple(first_ids_of(lm.tokenizer)[0] if given is None else given)


def prompt_ids(lm: Any, prompt: FimPrompt) -> list[int]:
    """Return the whole context of a prompt, each of its texts encoded on its own."""
    ids = list(first_ids(lm))
    for piece in prompt.pieces:
        ids += encode_spelled(lm.tokenizer, piece) if isinstance(piece, bytes) else piece
    return ids


def context_ids(lm: ByteLM, context: Context) -> list[int]:
    """Return a context as it is encoded when nobody thinks of its end: closed like all before."""
    prompt = lm.prompt(context)
    if prompt.first:
        text: list[int] = lm.tokenizer.encode(prompt.text, specials="text").tolist()
    else:
        text = encode_spelled(lm.tokenizer, prompt.text)
    return [*prompt.ids, *text]


def next_bytes(lm: Any, ids: Sequence[int], *, ends: Sequence[int] = ()) -> NDArray[np.float64]:
    """Return the distribution of the byte behind `ids` if a token begins there, float64[257], nats.

    Every id that `generate` could choose, by its first byte; the ends are END, at 256. For a text
    this is the distribution of its next byte only where no token reaches over its end.
    """
    backend, vocabulary = lm.backend, lm.tokenizer.vocabulary
    choices = _Choices(lm.tokenizer, ends, int(backend.rows))
    node = backend.root([int(id) for id in ids])
    try:
        logprobs = _row(backend, node, choices.free)
    finally:
        backend.release(node)
    masses = np.zeros(257)
    for id in np.flatnonzero(choices.free).tolist():
        token = b"" if id in choices.ends else vocabulary.token_bytes(id)
        masses[token[0] if token else 256] += np.exp(logprobs[id])
    with np.errstate(divide="ignore"):
        result: NDArray[np.float64] = np.log(masses)
    return result


def heal(
    tokenizer: Tokenizer, ids: Sequence[int], loose: int, *, backoff: int = BACKOFF
) -> tuple[list[int], bytes]:
    """Return the ids that stay of a prompt, and the bytes of those that are taken off.

    Taken off are as many of the last ids as possible, `backoff` at most, whose bytes some longer
    token begins with; where no token goes on from the prompt's end, none.

    Args:
        tokenizer: Whose ids they are.
        ids: The prompt.
        loose: How many of its last ids are text that may be encoded anew.
        backoff: How many are taken off at most.
    """
    vocabulary = tokenizer.vocabulary
    lengths = vocabulary.lengths()
    taken, best, kept = b"", b"", len(ids)
    for at in range(len(ids) - 1, len(ids) - 1 - min(loose, backoff), -1):
        token = vocabulary.token_bytes(int(ids[at]))
        if token is None:
            break
        taken = token + taken
        if lengths[vocabulary.ids_with_prefix(taken)].max(initial=0) > len(taken):
            best, kept = taken, at
    return list(ids[:kept]), best


class _Choices:
    """Which ids may be chosen, as positions in a row of logits."""

    def __init__(
        self, tokenizer: Tokenizer, ends: Sequence[int], rows: int, barred: Sequence[int] = ()
    ) -> None:
        self.tokenizer = tokenizer
        vocabulary = tokenizer.vocabulary
        size = min(len(vocabulary), rows)
        may = np.zeros(rows, dtype=np.bool_)
        may[:size] = vocabulary.lengths()[:size] > 0
        may[list(barred)] = False
        self.texts = may
        self.ends = frozenset(id for id in ends if id < rows)
        self.free = may.copy()
        self.free[sorted(self.ends)] = True

    def spelling(self, pending: bytes) -> NDArray[np.bool_]:
        """Return the ids that begin `pending` or reach beyond it, bool[rows]."""
        vocabulary = self.tokenizer.vocabulary
        may = np.zeros_like(self.free)
        ids: list[int] = vocabulary.ids_with_prefix(pending).tolist()
        for end in range(1, len(pending)):
            ids += vocabulary.ids_of(pending[:end]).tolist()
        may[[id for id in ids if id < len(may)]] = True
        return may & self.texts


def generate(
    lm: Any,
    ids: Sequence[int],
    *,
    pending: bytes = b"",
    ends: Sequence[int] = (),
    barred: Sequence[int] = (),
    sampler: Sampler | None = None,
    max_new_tokens: int = 128,
    max_bytes: int | None = None,
    stop: Sequence[bytes] = (),
    closed: Callable[[bytes], bool] | None = None,
) -> Generated:
    """Return what a model writes behind `ids`, id by id.

    Args:
        lm: A model with a `tokenizer` and a `backend`.
        ids: The whole context.
        pending: Bytes that the first ids have to spell; they are no part of what is returned.
        ends: Ids that end the text.
        barred: Ids of text that cannot be chosen all the same.
        sampler: How ids are chosen; greedily when left out.
        max_new_tokens: The most ids; fewer where the longest context of the model ends before.
        max_bytes: The most bytes; what is over is cut off.
        stop: Where one of these appears, the text ends.
        closed: Asked after each id with the bytes so far: whether the text ends here.

    Raises:
        LimitExceeded: `ids` are more than the model's longest context.
        NumericsError: A row of logits has no finite number among the ids that may be chosen, or
            one that is not a number.
    """
    sampler = Sampler() if sampler is None else sampler
    generator = np.random.default_rng(sampler.seed)
    backend, vocabulary = lm.backend, lm.tokenizer.vocabulary
    choices = _Choices(lm.tokenizer, ends, int(backend.rows), barred)
    written, logprob, finish = b"", 0.0, "length"
    taken: list[int] = []
    if backend.max_context is not None:  # the last id is written behind all that the model reads
        max_new_tokens = min(max_new_tokens, max(1, backend.max_context - len(ids) + 1))
    node = backend.root([int(id) for id in ids])
    try:
        while len(taken) < max_new_tokens and (max_bytes is None or len(written) < max_bytes):
            logprobs = _row(backend, node, choices.spelling(pending) if pending else choices.free)
            chosen = sampler.choose(logprobs, generator)
            logprob += float(logprobs[chosen])
            if not pending and chosen in choices.ends:
                finish = "end"
                break
            taken.append(chosen)
            token = vocabulary.token_bytes(chosen) or b""
            written += token[len(pending) :]
            pending = pending[len(token) :]
            if any(one in written for one in stop) or (closed is not None and closed(written)):
                finish = "stop"
                break
            after = backend.extend(node, chosen)
            backend.release(node)
            node = after
    finally:
        backend.release(node)
    if max_bytes is not None and len(written) > max_bytes:
        written, finish = written[:max_bytes], "length"
    return Generated(written, logprob, finish, tuple(taken))


def _row(backend: Any, node: int, may: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the log-probabilities of a node's ids among those that may be, float64[rows]."""
    (row,) = [_numbers(row) for _, row in backend.logits([node])]
    return _normalised(row, may)


def _numbers(row: Any) -> NDArray[np.float64]:
    """Return a row of logits, whatever device and number type it has, float64[rows]."""
    if hasattr(row, "detach"):  # a tensor: numpy knows no bfloat16, so by way of float32
        row = row.detach().float().cpu().numpy()
    return np.array(row, dtype=np.float64)  # a copy: the row is valid until the next one


def _normalised(row: NDArray[np.float64], may: NDArray[np.bool_]) -> NDArray[np.float64]:
    masked = np.where(may, row, -np.inf)
    top = masked.max()
    if not np.isfinite(top):
        raise errors.build(
            errors.NumericsError,
            f"the largest logit of the ids that may follow is {top}",
            field="logits",
            fix="load the model in float32",
        )
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(masked - top).sum())
    result: NDArray[np.float64] = masked - top - total
    return result


def score_ids(
    lm: Any, ids: Sequence[int], scored: Sequence[int], *, pending: bytes = b"", end: Sequence[int]
) -> float:
    """Return the log-probability of writing `scored` behind `ids`, in nats, as `generate` chooses.

    One encoding's: the text's own probability, a sum over encodings, is no smaller.

    Args:
        lm: A model with a `tokenizer` and a `backend`.
        ids: The whole context.
        scored: Ids of text.
        pending: Bytes that the first of them spell because they have to.
        end: Ids that end the text; they take their share at every position.

    Returns:
        The sum, without an end; -inf where an id cannot be chosen.
    """
    if not scored:
        return 0.0
    backend, vocabulary = lm.backend, lm.tokenizer.vocabulary
    choices = _Choices(lm.tokenizer, end, int(backend.rows))
    nodes = [backend.root([int(id) for id in ids])]
    try:
        for id in scored[:-1]:
            nodes.append(backend.extend(nodes[-1], int(id)))
        asked: dict[int, tuple[int, bytes]] = {}
        for node, id in zip(nodes, scored, strict=True):
            asked[node] = (int(id), pending)
            pending = pending[len(vocabulary.token_bytes(int(id)) or b"") :]
        found = []
        for node, row in backend.logits(nodes):
            id, spelled = asked[node]
            may = choices.spelling(spelled) if spelled else choices.free
            found.append(float(_normalised(_numbers(row), may)[id]))
        return math.fsum(found)
    finally:
        for node in reversed(nodes):
            backend.release(node)
