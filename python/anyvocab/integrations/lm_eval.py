"""A byte-level model for lm-evaluation-harness.

>>> import lm_eval, anyvocab as av  # doctest: +SKIP
>>> from anyvocab.bytelm import ByteLM
>>> from anyvocab.integrations.lm_eval import ByteHarness
>>> lm_eval.simple_evaluate(  # doctest: +SKIP
...     model=ByteHarness(ByteLM.load("pico:code-4k")), tasks=["arc_easy"])

After this module has been imported, the model is also known by the name `anyvocab`:
`simple_evaluate(model="anyvocab", model_args="pretrained=pico:code-4k,law=local", ...)`.

Contexts and continuations are bytes here. Where one ends and the other begins no token has to end,
so a space may stand on either side of the cut, a continuation of no tokens of its own (`: C` as one
token, EleutherAI/lm-evaluation-harness#1053) has a probability like any other, and scores of models
with different tokenizers are scores of the same thing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from anyvocab import errors
from anyvocab.bytelm.base import ByteModel
from anyvocab.bytelm.context import to_bytes
from anyvocab.bytelm.ensemble import Ensemble
from anyvocab.bytelm.lm import ByteLM
from anyvocab.integrations._windows import Room

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "lm_eval":
        raise
    raise errors.missing_extra(
        "lm-eval is not installed", field="lm_eval", extra="harness"
    ) from None

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from anyvocab.bytelm.lm import Law

__all__ = ["ByteHarness", "Greedy"]

Greedy = Literal["bytes", "skip"]

MAX_GEN_TOKS: Final = 256  # tokens that are written where a task does not say; the harness's number

# What the harness calls the number of tokens to write, the first that is there counting.
_LENGTHS: Final = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_KNOWN: Final = {*_LENGTHS, "until", "do_sample", "temperature", "top_k", "top_p", "min_p", "seed"}

_logger = logging.getLogger(__name__)


@register_model("anyvocab")
class ByteHarness(LM):
    """Any byte-level model as a model of lm-evaluation-harness.

    - `loglikelihood`: `log P(continuation | context)` in nats, over all encodings that the model's
      law sums: :meth:`~anyvocab.bytelm.ByteLM.score_batch`. `is_greedy` says whether each byte of
      the continuation is the likeliest next byte (the first of equals, END among the 257) behind
      the context and the bytes before it: whether greedy writing byte by byte would begin with it.
      This is not the harness's greedy path of tokens, which may write other bytes.
    - `loglikelihood_rolling`: `log P(text)`. A text that the model's context does not hold is cut
      into windows: the first as long as can be, each other with half of the context for what stood
      before, the last with all of it that is left. Nothing is scored twice.
    - `generate_until`: :meth:`~anyvocab.bytelm.ByteLM.complete`, so a prompt may end inside a
      token; greedily unless the task samples. An ensemble writes byte by byte, four for a token.

    A context that is too long loses its beginning. Chat templates are not applied: the harness says
    so where a task asks for one.

    Args:
        pretrained: A byte-level model (:class:`~anyvocab.bytelm.ByteLM` or
            :class:`~anyvocab.bytelm.Ensemble`), or what `ByteLM.load` takes.
        batch_size: How many requests are scored together.
        greedy: `bytes`: `is_greedy` as above. `skip`: it is False always, which saves about one
            model token for each byte of a continuation whose first byte is the likeliest.
        max_length: The most tokens of a context and what is scored or written behind it; when left
            out, what the model holds.
        seed: Of tasks that sample; request `i` of a call is drawn with `seed + i`.
        law: For `ByteLM.load`.
        tokenizer: For `ByteLM.load`.
        device: For `ByteLM.load`.
        dtype: For `ByteLM.load`.
        max_batch_size: Taken because the harness gives it, and not used.

    Raises:
        InvalidValue: An option is out of range.
    """

    def __init__(
        self,
        pretrained: object,
        *,
        batch_size: int | str | None = 64,
        greedy: Greedy = "bytes",
        max_length: int | None = None,
        seed: int = 0,
        law: Law = "local",
        tokenizer: object = None,
        device: str | None = None,
        dtype: str = "float32",
        max_batch_size: int | None = None,  # noqa: ARG002
    ) -> None:
        super().__init__()
        if greedy not in get_args(Greedy):
            raise errors.build(
                errors.InvalidValue,
                f"{greedy!r} is no choice",
                field="greedy",
                fix=", ".join(get_args(Greedy)),
            )
        # The harness's `auto` asks for the largest batch that fits; texts are batched by bytes.
        chosen = 64 if batch_size in (None, "auto") else int(str(batch_size))
        if chosen < 1:
            found = f"must be at least 1, got {batch_size}"
            raise errors.build(errors.InvalidValue, found, field="batch_size")
        if isinstance(pretrained, ByteModel):
            self.model: ByteModel = pretrained
        else:
            self.model = ByteLM.load(
                pretrained, law=law, tokenizer=tokenizer, device=device, dtype=dtype
            )
        self.batch_size = chosen
        self.greedy = greedy
        self.seed = seed
        self._room = Room(self.model, max_length)

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Return the log-probability of each continuation behind its context, and `is_greedy`."""
        answers: list[tuple[float, bool]] = []
        for at in range(0, len(requests), self.batch_size):
            batch = [tuple(one.args) for one in requests[at : at + self.batch_size]]
            texts = [to_bytes(text) for _, text in batch]
            contexts = [
                self._room.behind(to_bytes(context), text)
                for (context, _), text in zip(batch, texts, strict=True)
            ]
            scores = self.model.score_batch(texts, contexts)
            paths = self._greedy(contexts, texts)
            for asked, score, path in zip(batch, scores.tolist(), paths, strict=True):
                answers.append((score, path))
                self.cache_hook.add_partial("loglikelihood", asked, answers[-1])
            _logger.info("loglikelihood: %d of %d requests", len(answers), len(requests))
        return answers

    def _greedy(self, contexts: Sequence[bytes], texts: Sequence[bytes]) -> list[bool]:
        if self.greedy == "skip":
            return [False] * len(texts)
        # Most continuations differ in their first byte from what the model would write, and all
        # first bytes are asked for together.
        rows = self.model._rows([self.model.start(context) for context in contexts])
        return [
            not text or (int(row.argmax()) == text[0] and self._all_greedy(context, text))
            for context, text, row in zip(contexts, texts, rows, strict=True)
        ]

    def _all_greedy(self, context: bytes, text: bytes) -> bool:
        # The rows behind text[:0] to text[:n - 1]; the last byte needs no row behind it.
        rows = self.model.next_byte_logprobs(text[:-1], context)
        return bool((rows.argmax(axis=1) == np.frombuffer(text, np.uint8)).all())

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """Return the log-probability of each text, behind nothing but the model's first ids."""
        answers: list[float] = []
        for request in requests:
            (text,) = request.args
            windows = list(self._room.windows(to_bytes(text)))
            total = 0.0
            for at in range(0, len(windows), self.batch_size):
                some = windows[at : at + self.batch_size]
                total += float(
                    self.model.score_batch([new for _, new in some], [old for old, _ in some]).sum()
                )
            answers.append(total)
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
            _logger.info("loglikelihood_rolling: %d of %d texts", len(answers), len(requests))
        return answers

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Return what the model writes behind each context, up to a string of `until`.

        Bytes that are no UTF-8 (the last character, where the length ran out inside it) are
        replaced by U+FFFD.
        """
        answers = []
        for at, request in enumerate(requests):
            context, options = request.args
            most, chosen = _generation(options)
            chosen.setdefault("seed", self.seed + at)
            prompt = self._room.before(to_bytes(context), most)
            answers.append(self._complete(prompt, most, chosen))
            self.cache_hook.add_partial("generate_until", (context, options), answers[-1])
            _logger.info("generate_until: %d of %d requests", len(answers), len(requests))
        return answers

    def _complete(self, prompt: bytes, most: int, options: Mapping[str, Any]) -> str:
        model = self.model
        if isinstance(model, ByteLM | Ensemble):
            return model.complete(prompt, max_new_tokens=most, **options).text
        return model.sample(prompt, max_bytes=4 * most, **options).text


def _generation(given: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return how many tokens a task asks for, and its options as `complete` takes them.

    `do_sample=False` is greedy whatever the temperature; left out, a temperature over 0 samples;
    `do_sample=True` without a temperature samples at 1, as transformers does.
    """
    until = given.get("until") or []
    options: dict[str, Any] = {"stop": [until] if isinstance(until, str) else list(until)}
    temperature, sampled = given.get("temperature"), given.get("do_sample")
    if sampled is False or (sampled is None and not temperature):
        options["temperature"] = 0.0
    else:
        options["temperature"] = 1.0 if temperature is None else float(temperature)
    for name, kind in (("top_k", int), ("top_p", float), ("min_p", float), ("seed", int)):
        if given.get(name) is not None:
            options[name] = kind(given[name])
    if options.get("top_k") == 0:  # transformers' word for all
        del options["top_k"]
    unknown = sorted(given.keys() - _KNOWN)
    if unknown:
        _logger.warning("generation options that are not known here: %s", ", ".join(unknown))
    lengths: Iterator[Any] = (given[name] for name in _LENGTHS if given.get(name) is not None)
    return int(next(lengths, MAX_GEN_TOKS)), options
