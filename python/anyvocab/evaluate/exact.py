"""Whether a model still computes the same where its tokenizer's change cannot be seen.

Where two tokenizers cut bytes into the same tokens, a model whose rows were moved from one id to
another gets the same vectors, so its hidden states must be the same bits. They depend on the
shapes of the matrix products, so both models read the same shapes, one run at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab import errors
from anyvocab._torch import import_torch
from anyvocab.evaluate.identity import shared_ids
from anyvocab.evaluate.models import LoadedModel
from anyvocab.evaluate.scoring import token_ends

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer

__all__ = ["Exactness", "Run", "exactness", "shared_runs"]

PROMPTS = 16
LONGEST = 32  # ids of a prompt
SHORTEST = 2
SEARCHED = 1 << 20  # bytes of the texts that are searched for prompts


@dataclass(frozen=True)
class Run:
    """Bytes that two tokenizers cut into the same tokens.

    Attributes:
        text: The bytes.
        before: Their ids in the first tokenizer.
        after: Their ids in the second.
    """

    text: bytes
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class Exactness:
    """How far hidden states moved on tokens that both vocabularies have.

    Attributes:
        largest_difference: The largest absolute difference of a final hidden state; 0.0 means the
            same bits, or signs of zero.
        prompts: How many runs of shared tokens were compared.
        tokens: How many tokens they have.
        same_body: Whether all weights but the vocabulary matrices are equal. Where they are, a
            difference is a fault of the change; where they are not, it is expected.
    """

    largest_difference: float
    prompts: int
    tokens: int
    same_body: bool


def shared_runs(
    before: Tokenizer,
    after: Tokenizer,
    texts: Iterable[bytes],
    *,
    id_map: Mapping[int, int] | None = None,
    count: int = PROMPTS,
) -> list[Run]:
    """Return the longest runs of texts that both tokenizers cut into the same shared tokens.

    Args:
        before: The first tokenizer.
        after: The second.
        texts: Where to look; the first `SEARCHED` bytes of them.
        id_map: First tokenizer's id to the second's; by bytes when left out.
        count: The most runs; each has `SHORTEST` to `LONGEST` tokens.
    """
    mapping = shared_ids(before.vocabulary, after.vocabulary) if id_map is None else id_map
    runs: dict[tuple[int, ...], Run] = {}
    room = SEARCHED
    for text in texts:
        text = text[:room]
        room -= len(text)
        for run in _runs(before, after, text, mapping):
            runs.setdefault(run.before, run)
        if not room:
            break
    return sorted(runs.values(), key=lambda run: -len(run.before))[:count]  # stable


def _runs(
    before: Tokenizer, after: Tokenizer, text: bytes, mapping: Mapping[int, int]
) -> Iterable[Run]:
    first = before.encode_with_offsets(text, specials="text")
    second = after.encode_with_offsets(text, specials="text")
    ends = token_ends(before, text, first).tolist()
    theirs = token_ends(after, text, second).tolist()
    # Start and end of every token of the second encoding; a token without bytes has no place.
    places = {
        (start, end): id
        for start, end, id in zip([0, *theirs], theirs, second.ids.tolist(), strict=False)
        if start < end
    }
    run: list[tuple[int, int]] = []
    begun = done = 0
    for start, end, id in zip([0, *ends], ends, first.ids.tolist(), strict=False):
        other = places.get((start, end))
        same = other is not None and mapping.get(id) == other
        if run and (not same or len(run) == LONGEST):
            if len(run) >= SHORTEST:
                yield _run(text[begun:done], run)
            run = []
        if same and other is not None:
            begun = begun if run else start
            run.append((id, other))
            done = end
    if len(run) >= SHORTEST:
        yield _run(text[begun:done], run)


def _run(text: bytes, pairs: list[tuple[int, int]]) -> Run:
    return Run(text, tuple(one for one, _ in pairs), tuple(one for _, one in pairs))


def exactness(
    before: LoadedModel,
    after: LoadedModel,
    id_map: Mapping[int, int] | None,
    texts: Iterable[bytes],
    *,
    count: int = PROMPTS,
    progress: Callable[[int, int], None] | None = None,
) -> Exactness:
    """Return how far final hidden states differ on runs of shared tokens found in `texts`.

    Nothing is put before a run: what begins a text need not have a twin.

    Args:
        before: The model before the change.
        after: The model after it, of the same width.
        id_map: Ids before to ids after; tokens with the same bytes when left out.
        texts: Where runs are looked for.
        count: The most runs.
        progress: Is told how many runs are done, and of how many.

    Raises:
        InvalidValue: No run is found, the hidden states have different widths or are not finite,
            or a model does not give its hidden states.
    """
    torch = import_torch()
    runs = shared_runs(before.tokenizer, after.tokenizer, texts, id_map=id_map, count=count)
    if not runs:
        raise errors.build(
            errors.InvalidValue,
            f"no {SHORTEST} tokens in a row are the same in both tokenizers",
            field="texts",
            fix="give more text, or text of another kind",
        )
    largest = 0.0
    with torch.inference_mode():
        for done, run in enumerate(runs, 1):
            first, second = _hidden(before, run.before), _hidden(after, run.after)
            if first.shape != second.shape:
                raise errors.build(
                    errors.InvalidValue,
                    f"hidden states of widths {first.shape[-1]} and {second.shape[-1]}",
                    field="model",
                    fix="compare a model with its own copy under another tokenizer",
                )
            largest = max(largest, float(np.abs(first - second).max()))
            if progress is not None:
                progress(done, len(runs))
    tokens = sum(len(run.before) for run in runs)
    return Exactness(largest, len(runs), tokens, _same_body(before.network, after.network))


def _same_body(first: Any, second: Any) -> bool:
    """Whether two models are equal but for the matrices with a row for every id."""
    torch = import_torch()
    ours, theirs = _body(first), _body(second)
    return ours.keys() == theirs.keys() and all(
        weight.shape == theirs[name].shape
        and bool(torch.equal(weight, theirs[name].to(weight.device)))
        for name, weight in ours.items()
    )


def _body(network: Any) -> dict[str, Any]:
    sides = (network.get_input_embeddings(), network.get_output_embeddings())
    rows = {id(one) for side in sides if side is not None for one in side.parameters()}
    return {name: one for name, one in network.named_parameters() if id(one) not in rows}


def _last(made: Any) -> Any:
    """Return the states of the last layer, with whatever the model puts behind it; None: none."""
    whole = getattr(made, "last_hidden_state", None)
    if whole is not None:
        return whole
    layers = getattr(made, "decoder_hidden_states", None) or getattr(made, "hidden_states", None)
    return layers[-1] if layers else None  # T5 with a head names no body of its own


def _hidden(model: LoadedModel, ids: tuple[int, ...]) -> Any:
    """Return the hidden states that the output matrix would be given, float64 (T, D)."""
    torch = import_torch()
    body = getattr(model.network, "base_model", None)
    rows = torch.tensor([ids], device=getattr(model.network, "device", None))
    both = getattr(getattr(model.network, "config", None), "is_encoder_decoder", False)
    inputs = {"decoder_input_ids": rows} if both else {}  # the decoder's states of the same ids
    hidden = None if body is None else _last(body(rows, output_hidden_states=True, **inputs))
    if hidden is None:
        raise errors.build(
            errors.InvalidValue,
            f"{model.name} does not give its hidden states",
            field="model",
            fix="give a model that transformers loads",
        )
    states = hidden[0].double().cpu().numpy()  # (T, D)
    if not np.isfinite(states).all():
        raise errors.build(
            errors.InvalidValue,
            f"hidden states of {model.name} are not finite",
            field="model",
            fix="check its weights for NaN",
        )
    return states
