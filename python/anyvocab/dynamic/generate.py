"""Generation behind merged prompts: one prefill of fewer tokens, then an ordinary KV cache.

Source: dynamic prefill is that of Feher et al. 2024, arXiv:2411.18553; that a model may also write
the tokens which its prompt made, with rows of their own in its head, is after zip2zip,
arXiv:2506.01084.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Unpack, get_args

import numpy as np

from anyvocab import errors
from anyvocab.bytelm.context import first_stop, to_stops
from anyvocab.bytelm.sampling import Sampler
from anyvocab.dynamic.scoring import Reader, check_causal
from anyvocab.dynamic.wrapped import evaluating, positions_of
from anyvocab.evaluate.greedy import CACHES, can_generate

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.dynamic.batch import DynamicBatch
    from anyvocab.dynamic.embed import DynamicInputs
    from anyvocab.dynamic.model import DynamicModel
    from anyvocab.dynamic.stops import Stops
    from anyvocab.dynamic.tokenizer import Boundary
    from anyvocab.hypernet.body import Body
    from anyvocab.tokenizer import Specials, Text

__all__ = ["Allowed", "Generated", "GeneratedBatch", "generate"]

_KEPT = (  # of a model's generation config: what is about the ids that are written, and the cache
    "bad_words_ids",
    "begin_suppress_tokens",
    "cache_config",
    "cache_implementation",
    "exponential_decay_length_penalty",
    "forced_eos_token_id",
    "min_new_tokens",
    "sequence_bias",
    "suppress_tokens",
)
Allowed = Literal["none", "prompt", "batch"]
"""Which new tokens a text may be written with: those in its own prompt, in any of the batch."""


@dataclass(frozen=True, eq=False)
class Generated:
    """What a model wrote behind one prompt.

    Attributes:
        ids: The ids, uint32[n], without the one that ended the text; new tokens have the ids of the
            prompts' batch.
        tokens: The bytes of each; None for a special token. Joined they are `data`, but for a stop
            string.
        data: The bytes, up to a stop string; without those of special tokens.
        finish: `end`: the model ended the text; `stop`: a stop string came, which is cut off;
            `length`: the budget was used up.
        base_ids: The ids with every new token as the base ids that it stands for, uint32[m].
    """

    ids: NDArray[np.uint32]
    tokens: tuple[bytes | None, ...]
    data: bytes
    finish: str
    base_ids: NDArray[np.uint32]

    @property
    def text(self) -> str:
        """The bytes as text; what is not UTF-8 is replaced."""
        return self.data.decode("utf-8", "replace")


@dataclass(frozen=True, eq=False)
class GeneratedBatch:
    """What a model wrote behind every prompt of a batch; item `i` is that of prompt `i`.

    Attributes:
        outputs: One for each prompt.
        prompts: The merged prompts, with what stands before every text.
    """

    outputs: tuple[Generated, ...]
    prompts: DynamicBatch

    def __len__(self) -> int:
        return len(self.outputs)

    def __getitem__(self, index: int) -> Generated:
        return self.outputs[index]

    def __iter__(self) -> Iterator[Generated]:
        return iter(self.outputs)


def generate(
    model: DynamicModel,
    prompts: Iterable[Text],
    *,
    max_new_tokens: int,
    new_tokens: Allowed,
    sampler: Sampler,
    stop: Sequence[bytes | str],
    boundary: Boundary,
    specials: Specials,
    keep_last: int,
    **stops: Unpack[Stops],
) -> GeneratedBatch:
    """Return what the model writes: see :meth:`DynamicModel.generate`."""
    import torch

    check_causal(model)
    own = getattr(getattr(model.network, "generation_config", None), "stop_strings", None)
    ends = [*to_stops(stop), *to_stops([own] if isinstance(own, str) else own or ())]
    _check(model, max_new_tokens, new_tokens)
    batch = model.merge(prompts, boundary=boundary, specials=specials, keep_last=keep_last, **stops)
    if not batch.lengths().all():
        raise errors.build(
            errors.InvalidValue,
            "a prompt is empty and no id stands before a text",
            field="prompts",
            fix="give it some text, or the model first_ids",
        )
    _check_room(model, batch, max_new_tokens)
    inputs = model.embed(batch, side="left")
    last = _end_ids(model)
    writers = [
        _Writer(batch, last, ends, np.random.default_rng([sampler.seed, i]))
        for i in range(len(batch))
    ]
    with torch.inference_mode(), evaluating(model.network):
        if new_tokens == "none" and _goes_on_from_rows(model.network):
            _write_base(model, inputs, writers, sampler, max_new_tokens, last)
        else:
            _write_any(model, inputs, writers, sampler, max_new_tokens, new_tokens)
    return GeneratedBatch(tuple(writer.done() for writer in writers), batch)


class _Writer:
    """Keeps what is written behind one prompt: ids, bytes, and whether it has ended."""

    def __init__(
        self,
        batch: DynamicBatch,
        last: frozenset[int],
        stops: Sequence[bytes],
        generator: np.random.Generator,
    ) -> None:
        self.generator = generator
        self.finish = ""  # while it goes on
        self._batch, self._last, self._stops = batch, last, stops
        self._held = max(map(len, stops), default=1) - 1
        self._ids: list[int] = []
        self._data = bytearray()
        self._cut: int | None = None

    def push(self, id: int) -> None:
        """Take one more id; none is taken after the end."""
        if self.finish:
            return
        if id in self._last:
            self.finish = "end"
            return
        self._ids.append(id)
        since = max(0, len(self._data) - self._held)  # where a stop string may begin
        self._data += self._batch.bytes_of(id) or b""
        found = first_stop(self._data[since:], self._stops)
        if found is not None:
            self.finish, self._cut = "stop", since + found[0]

    def done(self) -> Generated:
        first, pieces = self._batch.new_tokens.first_id, self._batch.new_tokens.pieces
        base = [[id] if id < first else pieces[id - first].tolist() for id in self._ids]
        return Generated(
            np.array(self._ids, dtype=np.uint32),
            tuple(self._batch.bytes_of(id) for id in self._ids),
            bytes(self._data[: self._cut]),
            self.finish or "length",
            np.array([id for ids in base for id in ids], dtype=np.uint32),
        )


def _write_base(
    model: DynamicModel,
    inputs: DynamicInputs,
    writers: Sequence[_Writer],
    sampler: Sampler,
    budget: int,
    last: frozenset[int],
) -> None:
    """Let the model's own `generate` write base tokens."""
    from transformers import GenerationConfig

    size = inputs.batch.new_tokens.first_id

    def choose(_: Tensor, scores: Tensor) -> Tensor:
        """Leave one id to choose for each row; none beyond the tokenizer's."""
        return _one_left(scores[:, :size], scores, writers, sampler)

    def is_done(ids: Tensor, _: Any, **__: Any) -> Tensor:
        import torch

        for writer, id in zip(writers, ids[:, -1].tolist(), strict=True):
            writer.push(id)
        return torch.tensor([bool(writer.finish) for writer in writers], device=ids.device)

    own = model.network.generation_config
    kept = {name: getattr(own, name, None) for name in _KEPT}
    config = GenerationConfig(
        max_new_tokens=budget,
        do_sample=False,  # `choose` has drawn
        eos_token_id=sorted(last) or None,
        pad_token_id=min(last, default=0),
        **{name: value for name, value in kept.items() if value is not None},
    )
    # What a call leaves open is taken from there, so that must be the same.
    model.network.generation_config = config
    try:
        model.network.generate(
            **model.arguments(inputs),
            generation_config=config,
            logits_processor=[choose],
            stopping_criteria=[is_done],
        )
    finally:
        model.network.generation_config = own


def _one_left(
    allowed: Tensor, scores: Tensor, writers: Sequence[_Writer], sampler: Sampler
) -> Tensor:
    """Return scores in which one of the allowed ids of each row is left, (B, V)."""
    import torch

    chosen = _choose(allowed, writers, sampler)
    left = torch.full_like(scores, -torch.inf)
    left.scatter_(1, chosen[:, None], 0.0)
    return left


def _choose(logits: Tensor, writers: Sequence[_Writer], sampler: Sampler) -> Tensor:
    """Return the chosen column of each row, int64 (B,)."""
    import torch

    if bool(torch.isnan(logits).any()):
        raise errors.build(
            errors.InvalidValue,
            "some logits are NaN",
            field="model",
            fix="load the model in float32, and check its weights for NaN",
        )
    if sampler.temperature == 0:
        return logits.argmax(-1)
    rows = logits.double().cpu().numpy()
    chosen = [
        0 if writer.finish else sampler.choose(row, writer.generator)
        for row, writer in zip(rows, writers, strict=True)
    ]
    return torch.tensor(chosen, device=logits.device)


def _write_any(
    model: DynamicModel,
    inputs: DynamicInputs,
    writers: Sequence[_Writer],
    sampler: Sampler,
    budget: int,
    new_tokens: Allowed,
) -> None:
    """Write base tokens, and new ones where they are allowed: the head has a row more for each."""
    import torch

    body, reader = _body(model, new_tokens), Reader(model, inputs.batch)
    head, shape = model.network.get_output_embeddings(), body.shape()
    size = inputs.batch.new_tokens.first_id
    ids = np.concatenate((np.arange(size), size + reader.used))  # of each column
    barred = _barred(inputs.batch, reader.used, new_tokens, reader.device)
    network = model.network.base_model
    names = inspect.signature(network.forward).parameters
    cache = next(name for name in CACHES if name in names)
    given, mask, past = inputs.inputs_embeds, inputs.attention_mask, None
    positions = inputs.position_ids
    for step in range(budget):
        options: dict[str, Any] = {cache: past}
        if "position_ids" in names:
            options["position_ids"] = positions
        out = network(inputs_embeds=given, attention_mask=mask, use_cache=True, **options)
        past = out.get(cache)
        state = out.last_hidden_state[:, -1]  # (B, D)
        logits = head(state)[:, :size]  # (B, V)
        if reader.rows is not None:
            more = state @ reader.rows.head.mT  # (B, K)
            if reader.rows.bias is not None:
                more = more + reader.rows.bias
            logits = torch.cat((logits, more.to(logits.dtype)), dim=1)  # (B, V + K)
        if shape is not None:
            logits = shape(logits)
        chosen = ids[
            _choose(logits.masked_fill(barred, -torch.inf), writers, sampler).cpu().numpy()
        ]
        for writer, id in zip(writers, chosen.tolist(), strict=True):
            writer.push(id)
        if step + 1 == budget or all(writer.finish for writer in writers):
            return
        if past is None:
            raise errors.build(
                errors.InvalidValue,
                f"{type(model.network).__name__} keeps its cache to itself",
                field="new_tokens",
                fix='only new_tokens="none" can be had of it',
            )
        given = reader.embeds(chosen[:, None])  # (B, 1, D)
        mask = torch.cat((mask, mask.new_ones(len(writers), 1)), dim=1)
        positions = positions[:, -1:] + 1


def _goes_on_from_rows(network: Any) -> bool:
    """Return whether a model's own `generate` can begin with rows; some models' takes ids only."""
    return "inputs_embeds" in inspect.signature(network.prepare_inputs_for_generation).parameters


def _body(model: DynamicModel, new_tokens: Allowed) -> Body:
    """Return the model without its head, for the loop of our own.

    Raises:
        InvalidValue: The head is not linear.
    """
    try:
        return model.body
    except errors.InvalidValue as error:
        found = str(error).removeprefix(f"{error.field}: ").removesuffix(f"; {error.fix}")
        name = type(model.network).__name__
        if new_tokens == "none":
            raise errors.build(
                errors.InvalidValue,
                f"{name} generates from ids alone, and {found}",
                field="model",
                fix="give a model of transformers whose generate takes inputs_embeds",
            ) from error
        raise errors.build(
            errors.InvalidValue,
            f"{name} cannot write new tokens: {found}",
            field="new_tokens",
            fix='take new_tokens="none", or a model whose head is one linear layer',
        ) from error


def _barred(
    batch: DynamicBatch, used: NDArray[np.int64], new_tokens: Allowed, device: Any
) -> Tensor:
    """Return which columns each text may not write, bool (B, V + K)."""
    import torch

    first = batch.new_tokens.first_id
    barred = np.zeros((len(batch), first + len(used)), dtype=np.bool_)
    if new_tokens == "none":
        barred[:, first:] = True
    elif new_tokens == "prompt":
        for row, ids in zip(barred, batch.rows, strict=True):
            row[first:] = ~np.isin(first + used, ids)
    return torch.from_numpy(barred).to(device)


def _end_ids(model: DynamicModel) -> frozenset[int]:
    """Return the ids that end a text: what the model says, else its tokenizer."""
    config = getattr(model.network, "generation_config", None)
    said = getattr(config, "eos_token_id", None)
    if said is None:
        said = model.tokenizer.tokenizer.vocabulary.ids_of_role("eos")
    return frozenset(said if isinstance(said, list | tuple) else [said])


def _check(model: DynamicModel, max_new_tokens: int, new_tokens: str) -> None:
    if max_new_tokens < 1:
        raise errors.build(
            errors.InvalidValue,
            f"must be at least 1, got {max_new_tokens}",
            field="max_new_tokens",
        )
    errors.check_choice("new_tokens", new_tokens, get_args(Allowed))
    if not can_generate(model.network):
        raise errors.build(
            errors.InvalidValue,
            f"{type(model.network).__name__} takes no attention mask or no cache",
            field="model",
            fix="give a causal model of transformers that generates with a cache",
        )


def _check_room(model: DynamicModel, batch: DynamicBatch, max_new_tokens: int) -> None:
    most = positions_of(model.network)
    longest = int(batch.lengths().max())
    if most and longest + max_new_tokens - 1 > most:  # the last token is not read
        raise errors.build(
            errors.InvalidValue,
            f"a prompt has {longest} tokens, and with {max_new_tokens} more the model's "
            f"{most} positions do not suffice",
            field="max_new_tokens",
            fix="ask for fewer, cut the prompt, or merge it further",
        )
