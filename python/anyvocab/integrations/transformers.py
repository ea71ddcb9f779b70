r"""`model.generate` of transformers, going on from the prompt's bytes instead of its tokens.

>>> from anyvocab.integrations.transformers import byte_generate
>>> outputs = model.generate(  # doctest: +SKIP
...     **tokenizer("def f(x):\n    retu", return_tensors="pt"),
...     custom_generate=byte_generate(tokenizer), max_new_tokens=16, do_sample=True)

A prompt that ends inside a token is a context that a model has rarely seen. Here the text at the
end of `input_ids` is read as bytes, one encoding that covers them is drawn by its share of the
model's probability, and the model generates behind it as always.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anyvocab import errors
from anyvocab._torch import import_torch
from anyvocab.bytelm.completing import cover_of
from anyvocab.bytelm.context import Ids
from anyvocab.bytelm.lm import ByteLM, Law, Policy
from anyvocab.bytelm.sampling import Sampler
from anyvocab.tokenizer import Tokenizer

if TYPE_CHECKING:
    from anyvocab.bytelm.state import ByteState

__all__ = ["ByteGenerate", "byte_generate"]

# Made by `generate` from the configuration and the prompt's length, so made anew for another one.
_BY_LENGTH = frozenset(
    {
        "EosTokenCriteria",
        "ForcedEOSTokenLogitsProcessor",
        "MaxLengthCriteria",
        "MinLengthLogitsProcessor",
        "MinNewTokensLengthLogitsProcessor",
    }
)
# What the processors of the first call do already is not done twice.
_NEUTRAL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "typical_p": 1.0, "max_time": None}


def byte_generate(
    tokenizer: object,
    *,
    law: Law = "local",
    first_ids: Sequence[int] | None = None,
    specials: Mapping[int | str, Policy] | None = None,
    eps: float = 1e-3,
    budget: int = 64,
) -> ByteGenerate:
    """Return what `model.generate(..., custom_generate=...)` takes.

    Keep it for further calls: what it knows of the vocabulary is made once for a model.

    Args:
        tokenizer: The model's, in any form that :meth:`anyvocab.Tokenizer.load` takes.
        law: Over which encodings the text at the prompt's end is summed, as for
            :class:`~anyvocab.bytelm.ByteLM`. Under `marginal` (with `eps=0` and a budget that does)
            `do_sample=True` at temperature 1 draws from the model's distribution given the bytes,
            exactly; under the others the encoding is a canonical one.
        first_ids: What stands before a prompt without special tokens, as for `ByteLM`.
        specials: Policies of ids, as for `ByteLM`.
        eps: As for `ByteLM`.
        budget: As for `ByteLM`.
    """
    options = {"first_ids": first_ids, "specials": specials, "eps": eps, "budget": budget}
    return ByteGenerate(Tokenizer.load(tokenizer), law, options)


class ByteGenerate:
    """A generation loop for transformers; made by :func:`byte_generate`.

    - Ids up to the last special token of a row are kept as they are. The text behind it is encoded
      anew, so the last prompt tokens of a returned row may differ from those of `input_ids`, in
      number too, and the last of them may reach beyond the prompt: what was written begins behind
      the prompt's *bytes*. Decode the whole row and cut the prompt's text off.
    - A row without a special token has the model's first ids (bos, say) put in front, in what is
      returned too: a text has no probability behind nothing.
    - With `do_sample` every row, each of `num_return_sequences` too, draws its own encoding, from
      torch's generator (`torch.manual_seed`); without, the weightiest is taken. Temperature and
      truncation do not change this draw, as they do not change a prompt.
    - `max_new_tokens` counts tokens behind the encoding.
    - Rows of different length are padded on the left, as `generate` wants its input; padding on
      either side of `input_ids` is left out by the attention mask.

    Greedy search and sampling are done. transformers gives such a function no streamer, no
    assistant model and no `tokenizer=`, so no `stop_strings`.
    """

    def __init__(self, tokenizer: Tokenizer, law: Law, options: Mapping[str, Any]) -> None:
        self.tokenizer = tokenizer
        self.law: Law = law
        self._options = dict(options)
        self._made: tuple[Any, ByteLM] | None = None
        vocabulary = tokenizer.vocabulary
        kinds = ("text", "byte", "added")
        self._text = [vocabulary.kind(id) in kinds for id in range(len(vocabulary))]

    def byte_lm(self, model: Any) -> ByteLM:
        """Return the byte-level model of `model`; made once for each."""
        if self._made is None or self._made[0] is not model:
            from anyvocab.backends import TransformersBackend

            lm = ByteLM(TransformersBackend(model), self.tokenizer, law=self.law, **self._options)
            self._made = (model, lm)
        return self._made[1]

    def __call__(
        self,
        model: Any,
        input_ids: Any,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **model_kwargs: Any,
    ) -> Any:
        """Return what `generate` would, for the prompt's bytes; called by `generate`.

        Args:
            model: Whose `generate` it is.
            input_ids: int64[B, T], already one row for each returned sequence.
            logits_processor: As prepared.
            stopping_criteria: As prepared.
            generation_config: As prepared.
            model_kwargs: Among them `attention_mask`, int64[B, T], or None for no padding.

        Raises:
            InvalidValue: A generation mode other than greedy search and sampling, inputs that are
                no ids, or a text that no sequence of tokens spells.
        """
        _check(model, generation_config, model_kwargs)
        mask = model_kwargs.get("attention_mask")
        prompts = self._encoded(model, _rows(input_ids, mask), bool(generation_config.do_sample))
        ids, padding = _padded(prompts, _pad(generation_config), input_ids)
        config = copy.deepcopy(generation_config)
        config.update(**_NEUTRAL)
        length = input_ids.shape[1]
        config.max_new_tokens = generation_config.max_length - length
        config.max_length = None
        if not config.min_new_tokens and config.min_length:
            config.min_new_tokens = max(0, config.min_length - length)
        config.min_length = 0
        config.num_return_sequences = 1  # the rows are expanded
        if config.pad_token_id is None:
            config.pad_token_id = _pad(generation_config)
        return model.generate(
            ids,
            attention_mask=padding,
            generation_config=config,
            logits_processor=_others(logits_processor),
            stopping_criteria=_others(stopping_criteria),
        )

    def _encoded(
        self, model: Any, rows: Sequence[tuple[int, ...]], sampled: bool
    ) -> list[list[int]]:
        """Return the ids of each row with its last text encoded anew."""
        lm = self.byte_lm(model)
        states: dict[tuple[int, ...], ByteState] = {
            row: self._state(lm, row) for row in dict.fromkeys(rows)
        }
        lm.contexts.evaluate([state.job() for state in states.values()])
        torch = import_torch()
        draws = torch.rand(len(rows), dtype=torch.float64).tolist() if sampled else []
        prompts = []
        for at, row in enumerate(rows):
            state = states[row]
            cover = state.pick(draws[at]) if sampled else None
            if cover is None:  # greedy, or nothing to draw from, which `cover_of` explains
                cover = cover_of(state, Sampler(0.0))
            prompts.append([*state.root, *cover.tokens])
        return prompts

    def _state(self, lm: ByteLM, row: tuple[int, ...]) -> ByteState:
        at = len(row)
        while at and row[at - 1] < len(self._text) and self._text[row[at - 1]]:
            at -= 1
        vocabulary = self.tokenizer.vocabulary
        text = b"".join(vocabulary.token_bytes(id) or b"" for id in row[at:])
        return lm.start([Ids(row[:at] or lm.first_ids), text])


def _check(model: Any, config: Any, model_kwargs: Mapping[str, Any]) -> None:
    mode = str(config.get_generation_mode().value)
    if mode not in ("greedy_search", "sample"):
        raise errors.build(
            errors.InvalidValue,
            f"{mode} is not done from bytes",
            field="generation_config",
            fix="use greedy search or sampling: num_beams=1, no penalty_alpha",
        )
    if model.config.is_encoder_decoder or model_kwargs.get("inputs_embeds") is not None:
        raise errors.build(
            errors.InvalidValue,
            "the prompt is not given as the ids of a decoder",
            field="input_ids",
            fix="give input_ids to a decoder-only model",
        )


def _rows(input_ids: Any, mask: Any) -> list[tuple[int, ...]]:
    """Return the ids of each row, without padding."""
    rows = input_ids.tolist()
    if mask is None:
        return [tuple(row) for row in rows]
    return [
        tuple(id for id, seen in zip(row, seens, strict=True) if seen)
        for row, seens in zip(rows, mask.tolist(), strict=True)
    ]


def _pad(config: Any) -> int:
    """Return the id that rows are padded with: where none is known, 0, which the mask hides."""
    for given in (getattr(config, "_pad_token_tensor", None), config.pad_token_id):
        if given is not None:
            return int(given)
    return 0


def _padded(prompts: Sequence[Sequence[int]], pad: int, like: Any) -> tuple[Any, Any]:
    """Return the prompts and their attention mask, int64[B, T], padded on the left."""
    length = max(map(len, prompts))
    rows = [[pad] * (length - len(prompt)) + [*prompt] for prompt in prompts]
    masks = [[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return like.new_tensor(rows), like.new_tensor(masks)


def _others(prepared: Any) -> Any:
    """Return those of the prepared processors or criteria that know no prompt's length."""
    return type(prepared)(one for one in prepared if type(one).__name__ not in _BY_LENGTH)
