"""A model that reads and writes with a vocabulary much larger than the one it was trained with."""

from __future__ import annotations

import codecs
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from anyvocab import errors
from anyvocab._torch import import_torch
from anyvocab.bytelm.sampling import Sampler
from anyvocab.dynamic.cached import CachedBody
from anyvocab.dynamic.grown import GrownVocabulary
from anyvocab.dynamic.large_steps import Chooser, Finish, Generation, Step
from anyvocab.dynamic.longest import LongestPrefix
from anyvocab.dynamic.output_rows import OutputRows
from anyvocab.dynamic.search import BlockedSearch, RowSearch
from anyvocab.evaluate.bits import BitsPerByte, check_first_ids
from anyvocab.evaluate.models import LoadedModel, open_model
from anyvocab.evaluate.scoring import sizes_of, windows_of
from anyvocab.tokenizer import Text, _bytes
from anyvocab.transplant.files import vocabulary_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Encoding", "LargeVocabularyLM"]

Encoding = Literal["canonical", "longest"]
Search = Literal["exact", "faiss"]
SCORED_AT_ONCE: Final = 64  # states whose sums over all rows are made in one pass
PROBE: Final = b"def f(x):\n    return"  # several tokens: what the model does to rows is read off


class LargeVocabularyLM:
    """A causal model with a grown vocabulary: rows of new tokens read, written and scored.

    The model's own ids keep their rows. A new id is read as its row, given to the model as an
    embedding, and written where its output row is found by a search over all rows. The model keeps
    its own cache of keys and values, so a token costs one forward pass of one position and one
    pass over the rows. Rows of the model that belong to no id take no part.

    Args:
        model: What :func:`anyvocab.evaluate.models.open_model` gives, or takes.
        vocabulary: The grown vocabulary.
        encoding: How a text is encoded: `canonical`, as the grown tokenizer does, or `longest`,
            the longest token first inside each pretoken.
        block_rows: Of the exact search; see :class:`anyvocab.dynamic.search.BlockedSearch`.

    Attributes:
        model: The model and its own tokenizer.
        tokenizer: The grown tokenizer.
        rows: The output rows of all ids.
        exact: The exact search.
        ends: The ids that end a text.
        first_ids: What stands before a text.

    Raises:
        InvalidValue: The vocabulary was grown from another one, rows do not fit the model's, or
            the model is none that takes embeddings and gives linear logits.
        NumericsError: A row is not finite.
    """

    def __init__(
        self,
        model: object,
        vocabulary: GrownVocabulary,
        *,
        encoding: Encoding = "canonical",
        block_rows: int | None = None,
    ) -> None:
        if encoding not in get_args(Encoding):
            raise errors.build(
                errors.InvalidValue,
                f"{encoding!r} is no choice",
                field="encoding",
                fix=" or ".join(get_args(Encoding)),
            )
        self.model = model if isinstance(model, LoadedModel) else open_model(model)
        self.tokenizer = vocabulary.tokenizer
        self._check_vocabulary(vocabulary)
        probe = [*self.model.first_ids, *self.model.tokenizer.encode(PROBE).tolist()]
        self._body = CachedBody(self.model.network, probe)
        self._first_new = vocabulary.first_new_id
        own = self._body.rows
        device = own.input.device
        self._check_rows(vocabulary)
        self._new_input = vocabulary.rows.input.to(device)
        new = vocabulary.rows.head.to(device)
        head = own.input if own.output is None else own.output
        bias = None
        if own.bias is not None and vocabulary.rows.bias is not None:
            bias = [own.bias[: self._first_new], vocabulary.rows.bias.to(device)]
        self.rows = OutputRows(
            [head[: self._first_new], new], bias, scale=self._body.scale, cap=self._body.cap
        )
        self.exact = BlockedSearch(self.rows, block_rows=block_rows)
        self.first_ids = self.model.first_ids
        self.ends = _ends(self.model)
        self._longest = LongestPrefix(self.tokenizer) if encoding == "longest" else None
        self._faiss: RowSearch | None = None

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        model: object = None,
        *,
        encoding: Encoding = "canonical",
        device: str | None = None,
        dtype: str = "float32",
        block_rows: int | None = None,
    ) -> LargeVocabularyLM:
        """Return the model of a grown vocabulary's folder.

        Args:
            folder: What :func:`anyvocab.dynamic.grow` wrote.
            model: The model it was grown for, or one fine-tuned from it with the same vocabulary: a
                folder, a hub id, `pico:NAME`, or what :func:`anyvocab.evaluate.models.open_model`
                gives. What the folder names when left out.
            encoding: See the class.
            device: Where all of it runs; on the CPU when left out.
            dtype: What the model's weights are converted to; new rows stay as they are stored.
            block_rows: See the class.

        Raises:
            SourceNotFound: There is no grown vocabulary, or no such model.
            WeightsFormatError: Files are malformed or contradict one another.
            MissingExtra: torch or transformers is not installed.
            The errors of the class.
        """
        vocabulary = GrownVocabulary.open(folder)
        if model is None:
            if not vocabulary.model:
                raise errors.build(
                    errors.InvalidValue,
                    "the grown vocabulary does not say which model it is for",
                    field="model",
                    fix="give the model's folder",
                )
            model = vocabulary.model
        loaded = open_model(model, device=device, dtype=dtype)
        return cls(loaded, vocabulary, encoding=encoding, block_rows=block_rows)

    def _check_vocabulary(self, vocabulary: GrownVocabulary) -> None:
        own = self.model.tokenizer.vocabulary
        wanted = vocabulary.source_digest
        if (wanted is not None and wanted != vocabulary_digest(own)) or vocabulary.first_new_id != (
            len(own)
        ):
            raise errors.build(
                errors.InvalidValue,
                "the vocabulary was grown from another one than this model's",
                field="model",
                fix="give the model that it was grown for"
                + (f": {vocabulary.model}" if vocabulary.model else ""),
            )

    def _check_rows(self, vocabulary: GrownVocabulary) -> None:
        own, new = self._body.rows, vocabulary.rows
        count = len(vocabulary.tokenizer.vocabulary) - self._first_new
        problem = None
        if len(own) < self._first_new:
            problem = f"the model has {len(own)} rows for {self._first_new} ids of its own"
        elif len(new) != count or new.input.shape[1] != own.width:
            problem = (
                f"{len(new)} new rows of {new.input.shape[1]} numbers, where {count} of "
                f"{own.width} belong"
            )
        elif own.output is not None and new.output is None:
            problem = "new tokens have one row for both sides, and the model a matrix for each"
        elif own.bias is not None and new.bias is None:
            problem = "new tokens have no bias, and the model's head has one"
        if problem is not None:
            raise errors.build(
                errors.InvalidValue, problem, field="rows", fix="grow the vocabulary again"
            )

    def encode(self, text: Text) -> NDArray[np.uint32]:
        """Return the ids of a text, by the chosen encoding, uint32[n]."""
        data = _bytes(text)
        return self.tokenizer.encode(data) if self._longest is None else self._longest.encode(data)

    def generate(
        self,
        prompt: Text | Sequence[int],
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        search: Search | RowSearch = "exact",
    ) -> Generation:
        """Return what the model writes behind a prompt.

        Args:
            prompt: A text, behind `first_ids`; or ids, taken as they are.
            max_new_tokens: The most tokens.
            temperature: What logits are divided by; 0 takes the best token, the lower id of equals.
            top_k: How many of the best are left to draw from. Without it an exact search hands all
                logits of a position over, one number for every id, and sorting them is what
                takes the time.
            top_p: The smallest set of the best that holds this share of what is left.
            min_p: What is less probable than this share of the best is left out.
            repetition_penalty: What the logits of all ids in the context are divided by where they
                are positive, and multiplied by elsewhere (Keskar et al., arXiv:1909.05858); exact:
                it is applied before anything is cut off.
            seed: Of the draws.
            search: `exact`; `faiss`, an index that is built when it is first used and looks at
                some candidates alone; or a search of your own over `rows`.

        Raises:
            InvalidValue: A number is out of range, the prompt is empty or too long, or a search is
                over other rows.
            MissingExtra: `search="faiss"` without faiss.
            NumericsError: The model gives a state that is not finite.
        """
        ids: list[int] = []
        logprobs: list[float] = []
        end, finish = None, None
        data = bytearray()
        using = self._search(search)
        for step in self.stream(
            prompt,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
            search=using,
        ):
            finish = step.finish
            if finish == "end":
                end = step.logprob
                break
            ids.append(step.id)
            logprobs.append(step.logprob)
            data += step.bytes
        return Generation(
            np.array(ids, dtype=np.uint32),
            bytes(data),
            np.array(logprobs, dtype=np.float64),
            end,
            finish or "length",
            "rows" if using.candidates is None else "candidates",
        )

    def stream(
        self,
        prompt: Text | Sequence[int],
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        search: Search | RowSearch = "exact",
    ) -> Iterator[Step]:
        """Return an iterator over the tokens that the model writes, each when it is known.

        Arguments and errors are those of :meth:`generate`; they are checked before the first token.
        """
        sampler = Sampler(temperature, top_p, top_k, seed, min_p)
        if not 0 < repetition_penalty < math.inf:
            raise errors.build(
                errors.InvalidValue,
                f"must be a positive number, got {repetition_penalty}",
                field="repetition_penalty",
                fix="1 leaves logits as they are",
            )
        if max_new_tokens < 0:
            raise errors.build(
                errors.InvalidValue,
                f"must be at least 0, got {max_new_tokens}",
                field="max_new_tokens",
            )
        ids = self._prompt(prompt)
        return self._steps(ids, max_new_tokens, sampler, repetition_penalty, self._search(search))

    def _steps(
        self, ids: list[int], most: int, sampler: Sampler, penalty: float, search: RowSearch
    ) -> Iterator[Step]:
        chooser = Chooser(self.exact, search, sampler, penalty)
        chooser.see(ids)
        vocabulary = self.tokenizer.vocabulary
        characters = codecs.getincrementaldecoder("utf-8")("replace")
        context = self._body.positions
        unread, cache, length = ids, None, len(ids)
        for count in range(1, most + 1):
            states, cache = self._body.read(self.embed(unread), cache)
            id, logprob = chooser.choose(states[-1])
            length += 1
            finish: Finish | None = None
            if id in self.ends:
                finish = "end"
            elif count == most:
                finish = "length"
            elif context is not None and length > context:
                finish = "context"
            data = b"" if finish == "end" else vocabulary.token_bytes(id) or b""
            text = characters.decode(data, final=finish is not None)
            yield Step(id, data, logprob, text, finish)
            if finish is not None:
                return
            unread = [id]
            chooser.see(unread)

    def _search(self, search: Search | RowSearch) -> RowSearch:
        if search == "exact":
            return self.exact
        if search == "faiss":
            if self._faiss is None:
                from anyvocab.dynamic.faiss_search import FaissSearch

                self._faiss = FaissSearch(self.rows)
            return self._faiss
        if isinstance(search, str):
            raise errors.build(
                errors.InvalidValue,
                f"{search!r} is no choice",
                field="search",
                fix=f"{' or '.join(get_args(Search))}, or a search over lm.rows",
            )
        if len(search.rows) != len(self.rows):
            raise errors.build(
                errors.InvalidValue,
                f"it is over {len(search.rows)} rows, and the vocabulary has {len(self.rows)}",
                field="search",
                fix="make it of lm.rows",
            )
        return search

    def _prompt(self, prompt: Text | Sequence[int]) -> list[int]:
        if isinstance(prompt, str | bytes | bytearray | memoryview):
            ids = [*self.first_ids, *self.encode(_bytes(prompt)).tolist()]
        else:
            ids = [int(id) for id in prompt]
            outside = next((id for id in ids if not 0 <= id < len(self.rows)), None)
            if outside is not None:
                raise errors.build(
                    errors.InvalidValue,
                    f"{outside} is no id of this vocabulary",
                    field="prompt",
                    fix=f"ids are 0..{len(self.rows) - 1}",
                )
        if not ids:
            raise errors.build(
                errors.InvalidValue,
                "nothing stands before the first token",
                field="prompt",
                fix="give a text, or the id that texts begin with in training",
            )
        context = self._body.positions
        if context is not None and len(ids) > context:
            raise errors.build(
                errors.InvalidValue,
                f"{len(ids)} tokens, and the model has {context} positions",
                field="prompt",
                fix="give a shorter prompt",
            )
        return ids

    def embed(self, ids: Sequence[int] | NDArray[np.integer[Any]]) -> Any:
        """Return what the model reads for ids, (n, D), in the type of its own rows.

        Raises:
            InvalidValue: An id is outside the vocabulary.
        """
        torch = import_torch()
        own = self._body.rows.input
        flat = np.asarray(ids, dtype=np.int64)
        if len(flat) and not 0 <= int(flat.min()) <= int(flat.max()) < len(self.rows):
            raise errors.build(
                errors.InvalidValue,
                f"ids are 0..{len(self.rows) - 1}, got {int(flat.min())} to {int(flat.max())}",
                field="ids",
            )
        found = torch.empty((len(flat), own.shape[1]), dtype=own.dtype, device=own.device)
        new = flat >= self._first_new
        for chosen, matrix, first in ((~new, own, 0), (new, self._new_input, self._first_new)):
            at = torch.from_numpy(np.flatnonzero(chosen)).to(own.device)
            inside = torch.from_numpy(flat[chosen] - first).to(own.device)
            found[at] = matrix[inside].to(own.dtype)
        return found

    def states(self, ids: Sequence[int] | NDArray[np.integer[Any]]) -> Any:
        """Return the final states of ids, (n, D): what output rows are multiplied with.

        Raises:
            InvalidValue: An id is outside the vocabulary.
        """
        return self._body.states(self.embed(ids))

    def bits_per_byte(
        self,
        texts: Iterable[Text],
        *,
        window: int | None = None,
        stride: int | None = None,
    ) -> BitsPerByte:
        """Return how well the model predicts texts with the grown vocabulary.

        Comparable with :func:`anyvocab.bits_per_byte` of the model itself: the same windows in ids,
        the same bytes. Each text is scored in its one encoding; probabilities are over all rows.

        Args:
            texts: Texts; empty ones count nothing.
            window: Ids the model sees at once; what it was built for, at most 2048, when left out.
            stride: Ids that a further window scores; half a window when left out.

        Raises:
            InvalidValue: There is nothing to score, no id to begin with, or `window` or `stride` is
                out of range.
            NumericsError: The model gives a state that is not finite.
        """
        if isinstance(texts, str | bytes | bytearray | memoryview):
            raise TypeError("texts must be several texts; for one, give [text]")
        window, stride = sizes_of(self.model.network, window, stride)
        check_first_ids(self.first_ids, window)
        before = np.array(self.first_ids, dtype=np.uint32)
        size = tokens = 0
        nats: list[float] = []
        for text in texts:
            data = _bytes(text)
            row = np.concatenate((before, self.encode(data)))
            size, tokens = size + len(data), tokens + len(row) - len(before)
            for ids, first in windows_of(row, len(before), window, stride):
                nats += self._nats(np.asarray(ids, dtype=np.int64), first)
        if not size or not tokens:
            raise errors.build(errors.InvalidValue, "there is no byte to score", field="texts")
        return BitsPerByte(math.fsum(nats), size, tokens, window, stride)

    def _nats(self, ids: NDArray[np.int64], first: int) -> list[float]:
        """Return the nats of the ids of a window from `first` on."""
        states = self.states(ids)
        found: list[float] = []
        for start in range(first, len(ids), SCORED_AT_ONCE):
            wanted = ids[start : start + SCORED_AT_ONCE]
            some = states[start - 1 : start - 1 + len(wanted)]
            total = self.exact.top(some, 0, total=True).log_total
            if total is None:
                raise errors.InternalError("a search did not give the total it was asked for")
            found += (total - self.rows.logits(wanted, some)).tolist()
        return found


def _ends(model: LoadedModel) -> tuple[int, ...]:
    """Return the ids that end a text: by role, and by what the model's generation stops at."""
    named = getattr(getattr(model.network, "generation_config", None), "eos_token_id", None)
    ids = named if isinstance(named, list) else [] if named is None else [named]
    size = len(model.tokenizer.vocabulary)
    found = {*model.tokenizer.vocabulary.ids_of_role("eos"), *(int(id) for id in ids)}
    return tuple(sorted(id for id in found if 0 <= id < size))
