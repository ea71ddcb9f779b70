"""A tokenized language model as a byte-level one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from anyvocab import _core, errors
from anyvocab.bytelm.base import END, ByteModel, prefixes_of
from anyvocab.bytelm.context import Each, Prompt, read_context, to_bytes, to_stops
from anyvocab.bytelm.contexts import Contexts
from anyvocab.bytelm.state import ByteState
from anyvocab.tokenizer import Tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.backends import TokenBackend
    from anyvocab.bytelm.completion import Completion
    from anyvocab.bytelm.context import Context

__all__ = ["ByteLM", "Law", "Policy"]

Law = Literal["local", "canonical", "marginal"]
Policy = Literal["text", "end", "forbid", "drop", "spell", "latent"]

BATCH_BYTES = 1 << 16  # bytes of texts that are scored together

_logger = logging.getLogger(__name__)


class ByteLM(ByteModel):
    """A token-level model, asked for bytes.

    Three laws say which distribution is meant:

    - `local` (default): tokens that would make the encoding another than the tokenizer's own are
      left out and the rest renormalised, token by token; then all covers of the bytes are summed.
      A proper model: conditionals multiply to the probability of the text.
    - `canonical`: the model's own probabilities, summed over canonical covers, and the next byte
      renormalised (Phan et al., arXiv:2410.09303; Hayase et al., arXiv:2506.14123). Its
      conditionals do not multiply to `log_mass`.
    - `marginal`: summed over all covers (Vieira et al., arXiv:2412.03719). Contexts with small
      shares of the mass are not evaluated (see `eps`); `missing_mass` bounds what they could add.
      Canonical ones always are, within the budget and unless `reencoded` would name the tokenizer:
      no text is lost, and its mass is at least that of the canonical covers.
      The bound grows with the text: every byte makes the mass of the whole smaller, and nothing is
      known of what a context left out would have made of it.

    What each id is for is its policy: `text` (its bytes), `end` (the end of the text), `forbid`
    (cannot occur: the others share its probability), `drop` (may occur, and no byte follows: its
    probability is missing), `spell` (the bytes of its spelling), `latent` (occurs and stands for
    nothing; marginal law only). By default eos tokens end a text, and other control tokens and rows
    without a token are forbidden.

    Args:
        backend: Who knows the logits: a :class:`~anyvocab.backends.TokenBackend`.
        tokenizer: Anything :meth:`anyvocab.Tokenizer.load` takes.
        law: Which distribution.
        first_ids: The ids before every text; when left out, what the tokenizer's post-processor
            puts there, else the `bos` id, else the `eos` id.
        specials: Policies by id, by role (`turn_end`) or by spelling, over the default.
        exact: Whether to refuse numbers that are not exact: a tokenizer whose canonical test has no
            exact form, a marginal law whose budget did not do.
        eps: For `marginal`: the part of the mass that may be missing. Contexts are evaluated until
            no more is; where the budget does not do for that, those whose likely share of the mass
            is at least a sixteenth of `eps`. 0 evaluates all, which are exponentially many.
        budget: For `marginal`: the most contexts that are evaluated per byte.
        sums: Where logits are summed: `device`: where they are, and 257 numbers come back; `host`;
            `auto`: on the device where that is no CPU. The marginal law looks at whole rows.

    Attributes:
        backend: As given.
        tokenizer: As loaded.
        law: As given.
        first_ids: As above.
        ends: The ids that end a text.
        barred: The ids whose policy, where one was given, keeps :meth:`complete` from writing them.
        reencoded: What part of the tokenizer has no exact streaming form, so that texts are encoded
            again with a few continuations; None when the canonical test is the tokenizer's own.

    Raises:
        InvalidValue: There are no ids to stand before a text, or a policy names no id.
        UnsupportedTokenizer: `exact`, and the canonical test is not.
    """

    def __init__(
        self,
        backend: TokenBackend,
        tokenizer: object,
        *,
        law: Law = "local",
        first_ids: Sequence[int] | None = None,
        specials: Mapping[int | str, Policy] | None = None,
        exact: bool = False,
        eps: float = 1e-3,
        budget: int = 64,
        sums: Literal["auto", "device", "host"] = "auto",
    ) -> None:
        if law not in get_args(Law):
            raise errors.build(
                errors.InvalidValue,
                f"{law!r} is no choice",
                field="law",
                fix=", ".join(get_args(Law)),
            )
        if not 0 <= eps < 1 or budget < 1:
            raise errors.build(
                errors.InvalidValue,
                f"eps={eps}, budget={budget}",
                field="eps",
                fix="0 <= eps < 1 and budget >= 1",
            )
        self.backend = backend
        self.tokenizer = Tokenizer.load(tokenizer)
        self.law: Law = law
        self.first_ids = _first_ids(self.tokenizer, first_ids)
        self._specials = dict(specials or {})
        self._options = {"exact": exact, "eps": eps, "budget": budget}
        self._sums: Literal["auto", "device", "host"] = sums
        policies = policies_of(self.tokenizer, int(backend.rows), self._specials)
        self.ends = tuple(sorted(id for id, policy in policies.items() if policy == "end"))
        unwritten = ("forbid", "drop", "spell", "latent")
        self.barred = tuple(sorted(id for id, policy in policies.items() if policy in unwritten))
        self._core = _core.CoverModel(
            self.tokenizer._core,
            int(backend.rows),
            law,
            list(policies.items()),
            eps=eps,
            budget=budget,
        )
        self.reencoded = self._core.reencoded
        if self.reencoded is not None:
            found = f"{self.reencoded} has no exact streaming form"
            if exact:
                fix = 'use law="marginal", or exact=False'
                raise errors.build(errors.UnsupportedTokenizer, found, field="tokenizer", fix=fix)
            _logger.warning("%s: texts are encoded again, with a few continuations", found)
        self.contexts = Contexts(self._core, backend, rounds=law == "marginal", sums=sums)

    @classmethod
    def load(
        cls,
        model: object,
        *,
        law: Law = "local",
        tokenizer: object = None,
        device: str | None = None,
        dtype: str = "float32",
        first_ids: Sequence[int] | None = None,
        specials: Mapping[int | str, Policy] | None = None,
        exact: bool = False,
        eps: float = 1e-3,
        budget: int = 64,
    ) -> ByteLM:
        """Return the byte-level model of a token-level one.

        Args:
            model: A folder, a hub id, `pico:NAME`; a transformers model or a `TokenBackend`, with
                `tokenizer`; or a pair of such a model and its tokenizer. A `ByteLM` is returned as
                it is.
            law: As for the class.
            tokenizer: The model's own when left out.
            device: Where the model runs (`cuda`); on the CPU when left out.
            dtype: `float32`, `bfloat16` or `float16`.
            first_ids: As for the class.
            specials: As for the class.
            exact: As for the class.
            eps: As for the class.
            budget: As for the class.

        Raises:
            SourceNotFound: There is no such model.
            MissingExtra: torch or transformers is not installed.

        Example:
            >>> import anyvocab as av
            >>> lm = av.ByteLM.load("pico:code-4k")
            >>> round(lm.score(b"n x", prefix=b"def f(x): retur"), 1) > -4
            True
        """
        from anyvocab.backends import TokenBackend, TransformersBackend

        if isinstance(model, ByteLM):
            return model
        if isinstance(model, tuple) and len(model) == 2:
            model, tokenizer = model
        backend: TokenBackend
        if isinstance(model, str | os.PathLike):
            if tokenizer is None:
                tokenizer = os.fsdecode(model)
            backend = TransformersBackend.load(model, device=device, dtype=dtype)
        elif isinstance(model, TokenBackend):
            backend = model
        else:
            backend = TransformersBackend(model, device=device)
        if tokenizer is None:
            raise errors.build(
                errors.InvalidValue,
                "a model object does not say which tokenizer it has",
                field="tokenizer",
                fix="give tokenizer=, or the model's folder instead of the model",
            )
        return cls(
            backend,
            tokenizer,
            law=law,
            first_ids=first_ids,
            specials=specials,
            exact=exact,
            eps=eps,
            budget=budget,
        )

    def with_specials(self, specials: Mapping[int | str, Policy]) -> ByteLM:
        """Return the same model, on the same backend, with other policies for some ids."""
        exact, eps, budget = (self._options[name] for name in ("exact", "eps", "budget"))
        return type(self)(
            self.backend,
            self.tokenizer,
            law=self.law,
            first_ids=self.first_ids,
            specials={**self._specials, **specials},
            exact=bool(exact),
            eps=float(eps),
            budget=int(budget),
            sums=self._sums,
        )

    def __repr__(self) -> str:
        rows = int(self.backend.rows)
        return f"ByteLM({type(self.backend).__name__}, {rows} rows, law={self.law!r})"

    def prompt(self, context: Context | Each) -> Prompt:
        """Return a context as the model takes it: fixed ids, and the open text."""
        if isinstance(context, Each):
            raise errors.build(
                errors.InvalidValue,
                "one model was given a context for each member of an ensemble",
                field="context",
                fix="give one context",
            )
        return read_context(context, self.tokenizer, self.first_ids)

    def start(self, context: Context | Each = b"") -> ByteState:
        """Return the state of a context: a text, or a row of texts and :class:`Ids`."""
        prompt = self.prompt(context)
        state = ByteState(self, self._core.start(prompt.first), prompt.ids)
        return state.push(prompt.text)

    def check_missing(self, core: _core.CoverState) -> None:
        """Refuse a state whose missing mass is over `eps`, if the model was asked to be exact."""
        if self._options["exact"] and self.law == "marginal":
            missing = core.missing_mass()
            if missing > float(self._options["eps"]):
                raise errors.build(
                    errors.LimitExceeded,
                    f"{missing:.3g} of the mass is missing, and the budget is used up",
                    field="budget",
                    fix="raise budget or eps, or use exact=False and read missing_mass",
                )

    def _rows(self, states: Sequence[ByteState]) -> list[NDArray[np.float64]]:
        self.contexts.evaluate([state.job() for state in states])
        return [state.logprobs() for state in states]

    def next_byte_logprobs(
        self, text: bytes | str, prefix: Context | Each = b""
    ) -> NDArray[np.float64]:
        """Return the next-byte distributions of all positions of a text, float64[n + 1, 257].

        Row `i` is the distribution behind `prefix + text[:i]`, in nats, END at 256. The contexts of
        a text's prefixes form a tree with about one node per byte: one (chunked) forward pass for
        all, where asking byte by byte takes one each. Under `marginal` it is byte by byte.

        >>> import anyvocab as av
        >>> lm = av.ByteLM.load("pico:code-4k")
        >>> rows = lm.next_byte_logprobs(b"import os")
        >>> rows.shape, bool(abs(rows[:9][range(9), list(b"import os")].sum()
        ...                      - lm.score(b"import os")) < 1e-3)
        ((10, 257), True)
        """
        data = to_bytes(text)
        state = self.start(prefix)
        if self.law != "marginal":
            return self.contexts.sweep(state._core.sweep(data), state.root)
        rows = [state.logprobs()]
        rows.extend(state.push(byte).logprobs() for byte in data)
        return np.stack(rows)

    def score_batch(
        self,
        texts: Sequence[bytes | str],
        prefixes: Sequence[Context | Each] | None = None,
        *,
        end: bool = False,
    ) -> NDArray[np.float64]:
        """Return the log-probability of each text behind its prefix, float64[n], in nats.

        The mass of prefix and text over that of the prefix, under the law: about one model token
        more per text than plain scoring, all texts in few passes. -inf for what cannot follow.

        Args:
            texts: The bytes that are scored.
            prefixes: The context before each; nothing when left out.
            end: Whether the texts end there, too.
        """
        before = prefixes_of(texts, prefixes)
        pairs = list(zip([to_bytes(text) for text in texts], before, strict=True))
        scores = np.zeros(len(pairs))
        at = 0
        while at < len(pairs):
            size, first = 0, at
            starts, ends = [], []
            while at < len(pairs) and (at == first or size < BATCH_BYTES):
                text, prefix = pairs[at]
                starts.append(self.start(prefix))
                ends.append(starts[-1].fork().push(text))
                size += len(ends[-1])
                at += 1
            # The empty prefix has all the mass under a proper law: it need not be asked for.
            empty = [self.law == "local" and not len(state) for state in starts]
            jobs = [state.job(mass_only=not end) for state in ends]
            jobs += [
                state.job(mass_only=True)
                for state, whole in zip(starts, empty, strict=True)
                if not whole
            ]
            self.contexts.evaluate(jobs)
            together = zip(starts, ends, empty, strict=True)
            for slot, (start, stop, whole) in enumerate(together, first):
                part = 0.0 if whole else start.log_mass
                scores[slot] = _difference(stop.log_mass, part)
                if end:
                    scores[slot] += stop.logprobs()[END]
        return scores

    def complete(
        self,
        context: Context | Each = b"",
        *,
        max_new_tokens: int = 128,
        max_bytes: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float | None = None,
        stop: Sequence[bytes | str] = (),
        seed: int = 0,
        heard: Callable[[bytes], None] | None = None,
    ) -> Completion:
        """Return a completion of a context at the speed of ordinary generation.

        One cover of the open text is drawn, by its share of the law's mass; behind it the model
        writes tokens as always. The prompt may end anywhere. Under `marginal` (with `eps=0` and a
        budget that does), at `temperature=1` without truncation, this draws from the model's
        distribution of token sequences given the bytes, exactly. Under the other laws the cover is
        a canonical one and the tokens behind it are the model's own choice: it may write what the
        law leaves out as not canonical. At `temperature=0` the weightiest cover is taken.
        Temperature and truncation act on tokens, the draw of the cover is not changed by them. Ids
        that are forbidden, dropped, spelled or latent are not written.

        Args:
            context: What stands before.
            max_new_tokens: The most tokens that the model writes behind the cover; fewer where the
                longest context of the model ends before.
            max_bytes: The most bytes.
            temperature: 0 takes the likeliest token.
            top_k: How many tokens are left.
            top_p: The share of probable tokens that is left.
            min_p: What is less probable than this share of the likeliest token is left out.
            stop: Where one of these appears, the text ends before it.
            seed: Of the choices.
            heard: Called with bytes as soon as they are certain not to be cut off again; joined,
                they are the completion's.

        Raises:
            InvalidValue: No token sequence spells the context.

        Example:
            >>> import anyvocab as av
            >>> lm = av.ByteLM.load("pico:code-4k")
            >>> lm.complete(b"import nu", max_new_tokens=4).finish
            'length'
        """
        from anyvocab.bytelm.completing import complete
        from anyvocab.bytelm.sampling import Sampler

        sampler = Sampler(temperature, top_p, top_k, seed, min_p)
        stops = to_stops(stop)
        return complete(self, context, sampler, max_new_tokens, max_bytes, stops, heard)


def _difference(whole: float, part: float) -> float:
    return -np.inf if whole == -np.inf else whole - part


def _first_ids(tokenizer: Tokenizer, given: Sequence[int] | None) -> tuple[int, ...]:
    from anyvocab.evaluate.models import first_ids_of

    if given is not None:
        return tuple(int(id) for id in given)
    found, _ = first_ids_of(tokenizer)
    if not found:
        raise errors.build(
            errors.InvalidValue,
            "no id stands before a text, so its first byte has no probability",
            field="first_ids",
            fix="give first_ids: the ids that texts began with in training",
        )
    return tuple(found)


def policies_of(
    tokenizer: Tokenizer, rows: int, given: Mapping[int | str, Policy]
) -> dict[int, Policy]:
    """Return the policies of ids that differ from the core's default.

    Raises:
        InvalidValue: A policy is unknown, or its key names no id.
    """
    vocabulary = tokenizer.vocabulary
    policies: dict[int, Policy] = {id: "end" for id in vocabulary.ids_of_role("eos") if id < rows}
    for key, policy in given.items():
        if policy not in get_args(Policy):
            raise errors.build(
                errors.InvalidValue,
                f"{policy!r} is no choice",
                field="specials",
                fix=", ".join(get_args(Policy)),
            )
        for id in _named(tokenizer, key):
            policies[id] = policy
    return policies


def _named(tokenizer: Tokenizer, key: int | str) -> Sequence[int]:
    if not isinstance(key, str):
        if key < 0:
            raise errors.build(
                errors.InvalidValue, f"{key} is no id", field="specials", fix="give an id from 0 on"
            )
        return [int(key)]
    vocabulary = tokenizer.vocabulary
    found = vocabulary.ids_of_role(key) or vocabulary.ids_spelt(key)
    if not found:
        raise errors.build(
            errors.InvalidValue,
            f"{key!r} is neither a role nor a token's spelling here",
            field="specials",
            fix="give an id, a role such as 'turn_end', or a spelling such as '<|im_end|>'",
        )
    return list(found)
