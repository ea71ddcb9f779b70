"""A model of transformers whose tokens are decided by what it reads."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

from anyvocab import errors
from anyvocab._torch import import_torch
from anyvocab.dynamic.parts import base_of
from anyvocab.dynamic.rows import CACHE_BYTES, RowCache, row_maker
from anyvocab.dynamic.stops import Stops, limits
from anyvocab.dynamic.tokenizer import Boundary, DynamicTokenizer
from anyvocab.dynamic.wrapped import base_rows_of, check_reading, kind_of, positions_of, source_of
from anyvocab.evaluate.scoring import BATCH

if TYPE_CHECKING:
    from anyvocab.dynamic.batch import DynamicBatch
    from anyvocab.dynamic.embed import DynamicInputs, Side
    from anyvocab.dynamic.generate import Allowed, GeneratedBatch
    from anyvocab.dynamic.parts import Reading
    from anyvocab.dynamic.rows import RowMaker
    from anyvocab.dynamic.scoring import PrefixScores
    from anyvocab.dynamic.wrapped import BaseRows
    from anyvocab.hypernet import Hypernet
    from anyvocab.hypernet.body import Body
    from anyvocab.hypernet.network import Use
    from anyvocab.tokenizer import Specials, Text

__all__ = ["DynamicModel", "DynamicOutput"]


@dataclass(frozen=True, eq=False)
class DynamicOutput:
    """What a model says of a batch.

    Attributes:
        inputs: The batch as it was read.
        output: What the model returned, padded as the inputs are.
    """

    inputs: DynamicInputs
    output: Any

    @property
    def batch(self) -> DynamicBatch:
        """The tokens."""
        return self.inputs.batch


class DynamicModel:
    """A causal model, a masked model or a classifier that reads merged batches.

    Its own weights are not changed. Without a merge it computes what it always did; a new token is
    read by a row that is made from its bytes.

    Attributes:
        network: The model, as transformers makes it.
        tokenizer: What merges.
        kind: `causal` or `encoder`.
        first_ids: What stands before every text of a causal model.
        cache: The rows of new tokens; `cache.hit_rate` says how many were found.

    >>> import anyvocab as av
    >>> model = av.DynamicModel.load("pico:code-4k")
    >>> said = model(["def tokenize(tokenizer):", "tokenizer.tokenize"], attainable=1.0)
    >>> len(said.batch.ids) < len(said.batch.base.ids)
    True
    >>> said.output.logits.shape[:2] == said.inputs.attention_mask.shape
    True
    """

    def __init__(
        self,
        network: Any,
        tokenizer: object,
        *,
        rows: str | os.PathLike[str] | Hypernet | RowMaker = "auto",
        base_rows: BaseRows = "source",
        cache_bytes: int = CACHE_BYTES,
        first_ids: Sequence[int] | None = None,
        language: str | None = None,
        model: str | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            network: A model of transformers: causal, masked, or with a head for sequences or
                tokens.
            tokenizer: Its tokenizer: anything :meth:`anyvocab.Tokenizer.load` takes.
            rows: Where the rows of new tokens come from: see
                :func:`anyvocab.dynamic.rows.row_maker`.
            base_rows: Rows of the model's own tokens: its own (`source`), or what a hypernetwork
                predicts for them, too (`predicted`).
            cache_bytes: How many bytes of rows are kept between batches.
            first_ids: The ids before a text of a causal model; when left out, as
                :func:`anyvocab.evaluate.models.open_model` has it.
            language: For a hypernetwork that tells languages apart.
            model: Where the model came from, if its folder has a hypernetwork in it.

        Raises:
            InvalidValue: The model takes no `inputs_embeds`, or does not compute from them what it
                computes from ids; it is an encoder-decoder; an option is none.
            SourceNotFound: There is no hypernetwork where one is asked for.
            MissingExtra: torch is not installed.
        """
        import_torch()
        from anyvocab.dynamic.embed import Embedder
        from anyvocab.evaluate.models import first_ids_of

        self.network, self.tokenizer = network, DynamicTokenizer(tokenizer)
        self.kind = kind_of(network)
        self._source = source_of(network, self.tokenizer)
        use: Use = "vocabulary" if base_rows == "predicted" else "merged"
        maker = row_maker(rows, self._source, model=model, language=language, use=use)
        base = base_rows_of(base_rows, maker, self._source)
        weight = self._source.rows.input
        self.cache = RowCache(
            maker, max_bytes=cache_bytes, device=weight.device, dtype=weight.dtype
        )

        self.embedder = Embedder(network, self.cache, base=base)
        if first_ids is None:
            first_ids = first_ids_of(self.tokenizer.tokenizer)[0] if self.kind == "causal" else ()
        self.first_ids = tuple(int(id) for id in first_ids)
        check_reading(network, self._sample_ids())

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str],
        *,
        rows: str | os.PathLike[str] | Hypernet | RowMaker = "auto",
        base_rows: BaseRows = "source",
        cache_bytes: int = CACHE_BYTES,
        language: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
    ) -> DynamicModel:
        """Return the model of a folder, a hub id or `pico:NAME`, wrapped.

        Args:
            model: Where it is. Its class is the one it was saved from.
            rows: As for the constructor.
            base_rows: As there.
            cache_bytes: As there.
            language: As there.
            device: Where it runs; on the CPU when left out.
            dtype: Of its weights.

        Raises:
            SourceNotFound: There is no such model, or no hypernetwork where one is asked for.
            InvalidValue: As for the constructor.
            MissingExtra: torch or transformers is not installed.
        """
        from anyvocab.evaluate.models import load_model

        place = os.fsdecode(model)
        network = load_model(place, device=device, dtype=dtype, kinds=("causal", "encoder"))
        return cls(
            network,
            place,
            rows=rows,
            base_rows=base_rows,
            cache_bytes=cache_bytes,
            language=language,
            model=place,
        )

    def __repr__(self) -> str:
        return f"DynamicModel({type(self.network).__name__}, rows={self.cache.make.name!r})"

    def merge(
        self,
        texts: Iterable[Reading],
        *,
        boundary: Boundary = "pretoken",
        specials: Specials = "parse",
        keep_last: int = 0,
        **stops: Unpack[Stops],
    ) -> DynamicBatch:
        """Return the merged tokens of texts, with what the model wants around them.

        Args:
            texts: At least one: a text; a pair of texts, as a tuple; or the words of a text, as a
                list. See :func:`anyvocab.dynamic.parts.base_of`.
            boundary: As for :meth:`anyvocab.DynamicTokenizer.merge`.
            specials: As there.
            keep_last: How many base tokens at the end of each text never merge.
            stops: See :class:`anyvocab.dynamic.Stops`.

        Raises:
            InvalidValue: As there.
        """
        limits(boundary, **stops)  # what is wrong is said before anything is encoded
        base = base_of(
            self.tokenizer,
            texts,
            boundary=boundary,
            specials=specials,
            add_special_tokens=self.kind == "encoder",
        )
        kept = base.keeping(keep_last).after(self.first_ids)
        return self.tokenizer.merge_base(kept, **stops)

    def embed(self, batch: DynamicBatch, *, side: Side = "right") -> DynamicInputs:
        """Return a batch as the model takes it; see :class:`anyvocab.dynamic.DynamicInputs`.

        Args:
            batch: Tokens of this model's tokenizer.
            side: Where shorter texts are padded.

        Raises:
            InvalidValue: The batch has no tokens, or more in a text than the model has positions.
        """
        longest = int(batch.lengths().max(initial=0))
        most = positions_of(self.network)
        if most is not None and longest > most:
            raise errors.build(
                errors.InvalidValue,
                f"a text has {longest} tokens, and the model has positions for {most}",
                field="texts",
                fix="cut it, or ask for more reduction",
            )
        return self.embedder(batch, side=side)

    def arguments(self, inputs: DynamicInputs) -> dict[str, Any]:
        """Return the keywords that the model is called with for a batch."""
        found: dict[str, Any] = {
            "inputs_embeds": inputs.inputs_embeds,
            "attention_mask": inputs.attention_mask,
        }
        counted = self.kind == "causal" or inputs.side == "left"
        if counted and "position_ids" in self._names:
            found["position_ids"] = inputs.position_ids
        types = inputs.batch.types
        if types is not None and "token_type_ids" in self._names and self._types > 1:
            found["token_type_ids"] = inputs.padded(types, fill=0)
        return found

    @cached_property
    def _types(self) -> int:
        """How many kinds of places the model tells apart."""
        return getattr(self.network.config, "type_vocab_size", None) or 0

    @cached_property
    def side(self) -> Side:
        """Where a call pads shorter texts; see :func:`anyvocab.dynamic.padding.padding_side`."""
        from anyvocab.dynamic.padding import padding_side

        return padding_side(self.network)

    def side_of(self, batch: DynamicBatch) -> Side:
        """Return where a call pads the shorter texts of a batch; texts of one length have none.

        Raises:
            InvalidValue: They need padding, and it changes the model's answers on either side.
        """
        return "right" if len(set(batch.lengths().tolist())) == 1 else self.side

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(inspect.signature(self.network.forward).parameters)

    def __call__(
        self,
        texts: Iterable[Reading],
        *,
        boundary: Boundary = "pretoken",
        specials: Specials = "parse",
        **stops: Unpack[Stops],
    ) -> DynamicOutput:
        """Run the model over a merged batch, without gradients.

        For training, call `model.network(**model.arguments(model.embed(batch)), labels=...)`.

        Args:
            texts: As for :meth:`merge`.
            boundary: As there.
            specials: As there.
            stops: As there.

        Raises:
            InvalidValue: As for :meth:`merge` and :meth:`embed`.
        """
        import torch

        batch = self.merge(texts, boundary=boundary, specials=specials, **stops)
        inputs = self.embed(batch, side=self.side_of(batch))
        with torch.no_grad():
            return DynamicOutput(inputs, self.network(**self.arguments(inputs)))

    def score(
        self,
        texts: Iterable[Text],
        prefixes: Iterable[Text],
        *,
        boundary: Boundary = "pretoken",
        specials: Specials = "parse",
        keep_last: int = 0,
        window: int | None = None,
        stride: int | None = None,
        batch_size: int = BATCH,
        **stops: Unpack[Stops],
    ) -> PrefixScores:
        """Return what texts cost behind prefixes that are merged; the texts are not.

        Prefix and text are encoded apart, and only base tokens are scored, so that scores compare
        whatever was merged. What is longer than `window` is read in windows that move by `stride`,
        as by :func:`anyvocab.bits_per_byte`; further ones have the last tokens of the prefix.

        Args:
            texts: What is scored, at least one.
            prefixes: As many; merged together, as one batch. An empty one is none.
            boundary: As for :meth:`merge`.
            specials: As there.
            keep_last: As there.
            window: As for :func:`anyvocab.bits_per_byte`.
            stride: As there.
            batch_size: As there.
            stops: As for :meth:`merge`.

        Raises:
            InvalidValue: The model is an encoder, there are not as many prefixes as texts, no id
                stands before a text, an option is out of range or a score is not finite.

        >>> import anyvocab as av
        >>> model = av.DynamicModel.load("pico:code-4k")
        >>> prefix = "def add(first, second):"
        >>> found = model.score([" return first + second"], [prefix], attainable=1.0)
        >>> 0 < found.bits_per_byte < 8
        True
        """
        from anyvocab.dynamic.scoring import score

        return score(
            self,
            texts,
            prefixes,
            boundary=boundary,
            specials=specials,
            keep_last=keep_last,
            window=window,
            stride=stride,
            batch_size=batch_size,
            **stops,
        )

    def generate(
        self,
        prompts: Iterable[Text],
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float | None = None,
        seed: int = 0,
        stop: Sequence[bytes | str] = (),
        new_tokens: Allowed = "none",
        boundary: Boundary = "pretoken",
        specials: Specials = "parse",
        keep_last: int = 0,
        **stops: Unpack[Stops],
    ) -> GeneratedBatch:
        """Return what a causal model writes behind prompts that are merged.

        The prompts are read in one pass, padded on their left; what follows uses a normal cache, by
        the model's own `generate`. Of its `generation_config`, stop strings, what bars or favours
        ids that are written, and the kind of cache hold; beams, what counts the ids of a prompt (a
        repetition penalty), what draws and limits of time are off. Without a merge the greedy
        output is what `generate` gives for the ids then; an id that the tokenizer does not have is
        never written.

        Where new tokens may be written the head has a row more for each, and the loop is ours: of
        the `generation_config` it has the end ids and the stop strings. The mean of rows is a poor
        guess of an output row; look at what comes.

        Args:
            prompts: At least one.
            max_new_tokens: The most tokens that are written behind each.
            temperature: 0 is greedy; as for :meth:`anyvocab.ByteLM.complete`.
            top_k: As there.
            top_p: As there.
            min_p: As there.
            seed: Of the choices; each prompt draws on its own.
            stop: Where one of these appears, the text ends before it.
            new_tokens: Which may be written besides base tokens: `"none"`, those that stand in the
                text's own `"prompt"`, or in any of the `"batch"`.
            boundary: As for :meth:`merge`.
            specials: As there.
            keep_last: As there.
            stops: As there.

        Raises:
            InvalidValue: The model is an encoder or keeps no cache, a prompt is empty, positions do
                not suffice, an option is out of range, logits are not finite, or new tokens may be
                written and the model's head is not linear.

        >>> import anyvocab as av
        >>> model = av.DynamicModel.load("pico:code-4k")
        >>> found = model.generate(["import os, sys; import numpy"], max_new_tokens=4, max_merges=2)
        >>> len(found[0].ids), found[0].data == b"".join(found[0].tokens)
        (4, True)
        """
        from anyvocab.bytelm.sampling import Sampler
        from anyvocab.dynamic.generate import generate

        return generate(
            self,
            prompts,
            max_new_tokens=max_new_tokens,
            new_tokens=new_tokens,
            sampler=Sampler(temperature, top_p, top_k, seed, min_p),
            stop=stop,
            boundary=boundary,
            specials=specials,
            keep_last=keep_last,
            **stops,
        )

    @cached_property
    def body(self) -> Body:
        """The model without its vocabulary; refused where its head is not linear."""
        from anyvocab.hypernet.body import Body

        return Body.of(
            self.network, self._sample_ids(), kind="causal" if self.kind == "causal" else "masked"
        )

    def _sample_ids(self) -> list[int]:
        vocabulary = self.tokenizer.tokenizer.vocabulary
        text = [id for id in range(min(64, len(vocabulary))) if vocabulary.token_bytes(id)]
        return [*self.first_ids, *text[:6]]
