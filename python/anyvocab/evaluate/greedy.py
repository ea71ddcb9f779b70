"""Greedy continuations: does a model loop, end, and write valid text. A sanity check, no score."""

from __future__ import annotations

import codecs
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab import errors
from anyvocab._torch import import_torch
from anyvocab.evaluate.models import LoadedModel
from anyvocab.evaluate.scoring import LOGITS_LIMIT, sizes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CACHES",
    "Continuation",
    "Greedy",
    "can_generate",
    "continue_greedily",
    "pick_prompts",
    "tail_period",
]

BATCH = 16
PROMPT_BYTES = 160
NEW_TOKENS = 64
REPEATS = 3  # a tail that stands there this often is a loop
CACHES = ("cache", "past_key_values")  # transformers renamed it; the first that is there is used
LOOP_BYTES = 32  # and no shorter: `======` and an indentation are none


@dataclass(frozen=True)
class Continuation:
    """What a model wrote after a prompt, always taking the most probable id.

    Attributes:
        prompt: The bytes it was given.
        output: The bytes it wrote, without the end id.
        tokens: How many ids it wrote, without the end id.
        new_tokens: How many of these are new ids.
        ended: Whether an end id came within the budget.
        period: The length of the loop at its end in bytes; 0 for none.
        is_utf8: Whether the output is valid UTF-8; a character cut off at its end counts as valid.
    """

    prompt: bytes
    output: bytes
    tokens: int
    new_tokens: int
    ended: bool
    period: int
    is_utf8: bool


@dataclass(frozen=True)
class Greedy:
    """Continuations of several prompts, counted.

    Attributes:
        continuations: One for each prompt.
        budget: How many ids were allowed.
        has_new_ids: Whether new ids were told apart.
    """

    continuations: tuple[Continuation, ...]
    budget: int
    has_new_ids: bool

    @property
    def loop_rate(self) -> float:
        """The share of outputs that end in a loop."""
        return self._share(sum(one.period > 0 for one in self.continuations))

    @property
    def ended_rate(self) -> float:
        """The share of outputs that an end id ended within the budget."""
        return self._share(sum(one.ended for one in self.continuations))

    @property
    def utf8_rate(self) -> float:
        """The share of outputs that are valid UTF-8."""
        return self._share(sum(one.is_utf8 for one in self.continuations))

    @property
    def new_token_rate(self) -> float | None:
        """The share of new ids among those written; None where there is nothing to tell."""
        written = sum(one.tokens for one in self.continuations)
        if not self.has_new_ids or not written:
            return None
        return sum(one.new_tokens for one in self.continuations) / written

    def _share(self, count: int) -> float:
        return count / len(self.continuations)


def tail_period(sequence: Sequence[int], *, repeats: int = REPEATS, least: int = LOOP_BYTES) -> int:
    """Return the shortest period of the loop that `sequence` ends in; 0 where it ends in none.

    A loop of period `p` is a tail of at least `repeats * p` and at least `least` elements, each
    equal to the one `p` before it. O(n² / repeats).

    >>> tail_period(b"so it goes " * 4), tail_period(b"so it goes, and then it does not")
    (11, 0)
    """
    size = len(sequence)
    for period in range(1, size // repeats + 1):
        needed = max(repeats * period, least)
        if needed > size:
            continue
        if all(sequence[-i] == sequence[-i - period] for i in range(1, needed - period + 1)):
            return period
    return 0


def pick_prompts(
    documents: Sequence[bytes], *, count: int, size: int = PROMPT_BYTES, seed: int = 0
) -> list[bytes]:
    """Return `count` pieces of the documents, drawn by a seeded generator.

    Longer documents are drawn from more often. A piece begins and ends at the edge of a word where
    there is one near, else of a character. The same for every model.

    Args:
        documents: Texts, at least one of them not empty.
        count: How many pieces.
        size: The most bytes of a piece.
        seed: Of the generator.
    """
    generator = np.random.default_rng(seed)
    lengths = np.array([len(one) for one in documents], dtype=np.float64)
    prompts = []
    for index in generator.choice(len(documents), size=count, p=lengths / lengths.sum()).tolist():
        document = documents[index]
        start = int(generator.integers(0, max(1, len(document) - 2 * size)))
        if start:
            start = _edge(document, start, start + size // 2)
        end = start + size
        if end < len(document):
            space = max(document.rfind(mark, start + size // 2, end) for mark in (b" ", b"\n"))
            end = space if space > start else _character(document, end)
        prompts.append(document[start:end])
    return prompts


def _edge(text: bytes, start: int, limit: int) -> int:
    """Return where the next word begins, before `limit`; else where the character does."""
    after = [at + 1 for mark in (b" ", b"\n") if (at := text.find(mark, start, limit)) >= 0]
    return min(after, default=_character(text, start))


def _character(text: bytes, at: int) -> int:
    while at > 0 and at < len(text) and text[at] & 0xC0 == 0x80:
        at -= 1
    return at


def can_generate(network: Any) -> bool:
    """Return whether a model takes a cache and an attention mask, which generation needs."""
    try:
        names = inspect.signature(network.forward).parameters
    except (AttributeError, TypeError, ValueError):
        return False
    return "attention_mask" in names and any(name in names for name in CACHES)


def continue_greedily(
    model: LoadedModel,
    prompts: Sequence[bytes],
    *,
    new_tokens: int = NEW_TOKENS,
    new_ids: NDArray[np.uint32] | None = None,
    window: int | None = None,
    batch_size: int = BATCH,
    progress: Callable[[int, int], None] | None = None,
) -> Greedy:
    """Return what `model` writes after each prompt, most probable id by most probable id.

    Args:
        model: A model that :func:`can_generate`.
        prompts: What it is given, behind its first ids; the last ids of it where the window is
            too short for all and the budget.
        new_tokens: The most ids it may write; half the window at most.
        new_ids: Ids to count among those written.
        window: Ids the model sees at once; what it was built for when left out.
        batch_size: Prompts of one forward pass.
        progress: Is told how many prompts are done, and of how many.

    Raises:
        InvalidValue: `new_tokens` or `batch_size` is not positive, or logits are not finite.
    """
    for name, value in (("new_tokens", new_tokens), ("batch_size", batch_size)):
        if value < 1:
            raise errors.build(errors.InvalidValue, f"must be at least 1, got {value}", field=name)
    if not prompts:
        raise errors.build(errors.InvalidValue, "there is no prompt", field="prompts")
    window, _ = sizes_of(model.network, window, None)
    budget = min(new_tokens, window // 2)
    room = max(1, window - budget - len(model.first_ids))
    rows = [
        [*model.first_ids, *model.tokenizer.encode(one, specials="text").tolist()[-room:]]
        for one in prompts
    ]
    vocabulary = model.tokenizer.vocabulary
    ends = {int(id) for id in vocabulary.ids_of_role("eos")}
    found: list[Continuation] = []
    step = max(1, min(batch_size, LOGITS_LIMIT // (max(map(len, rows)) * max(1, len(vocabulary)))))
    for at in range(0, len(rows), step):
        written = _generate(model.network, rows[at : at + step], budget, ends, len(vocabulary))
        for prompt, row, ids in zip(prompts[at:], rows[at:], written, strict=False):
            found.append(_continuation(model, prompt, row, ids, ends, new_ids))
        if progress is not None:
            progress(len(found), len(rows))
    return Greedy(tuple(found), budget, new_ids is not None)


def _continuation(
    model: LoadedModel,
    prompt: bytes,
    row: list[int],
    ids: list[int],
    ends: set[int],
    new_ids: NDArray[np.uint32] | None,
) -> Continuation:
    ended = bool(ids) and ids[-1] in ends
    kept = ids[:-1] if ended else ids
    # Decoding may treat the start of a text in its own way: decode behind the prompt.
    before = model.tokenizer.decode(row)
    whole = model.tokenizer.decode([*row, *kept])
    output = whole[len(before) :] if whole.startswith(before) else model.tokenizer.decode(kept)
    new = 0 if new_ids is None else int(np.isin(kept, new_ids).sum())
    return Continuation(
        prompt, output, len(kept), new, ended, tail_period(output), _is_utf8(output)
    )


def _is_utf8(data: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(data, final=False)
    except UnicodeDecodeError:
        return False
    return True


def _generate(
    network: Any, rows: Sequence[list[int]], budget: int, ends: set[int], ids: int
) -> list[list[int]]:
    """Return the ids written after each row, an end id included.

    Rows are padded on their left: what stands there is masked, and positions count from the first
    id. Ids at or above `ids` are rows without a token; they are never written.
    """
    torch = import_torch()
    device = getattr(network, "device", None)
    width = max(map(len, rows))
    padded = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor(
        [[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device
    )  # (B, T)
    names = inspect.signature(network.forward).parameters
    takes_positions = "position_ids" in names
    cache = next(name for name in CACHES if name in names)
    written: list[list[int]] = [[] for _ in rows]
    open_rows = set(range(len(rows)))
    given, past = padded, None
    with torch.inference_mode():
        for _ in range(budget):
            options: dict[str, Any] = {cache: past}
            if takes_positions:
                positions = (mask.cumsum(-1) - 1).clamp(min=0)
                options["position_ids"] = positions[:, -given.shape[1] :]
            out = network(input_ids=given, attention_mask=mask, use_cache=True, **options)
            past = out[cache]
            logits = out.logits[:, -1, :ids]  # (B, V)
            if bool(torch.isnan(logits).any()):
                raise errors.build(
                    errors.InvalidValue,
                    "some logits are NaN",
                    field="model",
                    fix="load the model in float32, and check its weights for NaN",
                )
            best = logits.argmax(-1)  # (B,)
            for i in sorted(open_rows):
                id = int(best[i])
                written[i].append(id)
                if id in ends:
                    open_rows.discard(i)
            if not open_rows:
                break
            given = best[:, None]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], -1)
    return written
