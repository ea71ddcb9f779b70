"""What every byte-level model can do, given its next-byte distributions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from anyvocab import errors
from anyvocab.bytelm.completion import Completion
from anyvocab.bytelm.context import to_bytes, to_stops
from anyvocab.bytelm.sampling import Sampler, utf8_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.bytelm.context import Context, Each

__all__ = ["ByteModel", "State", "prefixes_of"]

END = 256


class State(Protocol):
    """A prefix of bytes."""

    @property
    def text(self) -> bytes:
        """The open text and what was pushed."""

    def push(self, more: bytes | str | int) -> Any:
        """Append bytes."""

    def rollback(self, count: int) -> Any:
        """Take bytes away."""

    def fork(self) -> Any:
        """Return a copy that goes its own way."""

    def logprobs(self) -> NDArray[np.float64]:
        """Return the log-probabilities of the next byte, float64[257]."""


class ByteModel(ABC):
    """A language model over bytes."""

    @abstractmethod
    def start(self, context: Context | Each = b"") -> State:
        """Return the state of a context."""

    @abstractmethod
    def next_byte_logprobs(
        self, text: bytes | str, prefix: Context | Each = b""
    ) -> NDArray[np.float64]:
        """Return the next-byte distributions of all positions of a text, float64[n + 1, 257]."""

    def _rows(self, states: Sequence[Any]) -> list[NDArray[np.float64]]:
        """Return the next-byte distributions of several states."""
        return [state.logprobs() for state in states]

    def score(self, text: bytes | str, prefix: Context | Each = b"", *, end: bool = False) -> float:
        """Return the log-probability of `text` behind `prefix`, in nats.

        Args:
            text: The bytes that are scored.
            prefix: The context before them.
            end: Whether the text ends there, too.
        """
        return float(self.score_batch([text], [prefix], end=end)[0])

    def score_batch(
        self,
        texts: Sequence[bytes | str],
        prefixes: Sequence[Context | Each] | None = None,
        *,
        end: bool = False,
    ) -> NDArray[np.float64]:
        """Return the log-probability of each text behind its prefix, float64[n], in nats."""
        before = prefixes_of(texts, prefixes)
        scores = np.zeros(len(texts))
        for at, (text, prefix) in enumerate(zip(texts, before, strict=True)):
            data = to_bytes(text)
            rows = self.next_byte_logprobs(data, prefix)
            steps = rows[np.arange(len(data)), np.frombuffer(data, np.uint8)]
            scores[at] = steps.sum() + (rows[-1, END] if end else 0.0)
        return scores

    def bits_per_byte(self, text: bytes | str, prefix: Context | Each = b"") -> float:
        """Return the mean bits of a byte of `text`, its end not counted."""
        data = to_bytes(text)
        if not data:
            raise errors.build(errors.InvalidValue, "is empty", field="text")
        return -self.score(data, prefix) / (len(data) * float(np.log(2)))

    def sample(
        self,
        context: Context | Each = b"",
        *,
        max_bytes: int = 64,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float | None = None,
        utf8: bool = False,
        stop: Sequence[bytes | str] = (),
        seed: int = 0,
        heard: Callable[[bytes], None] | None = None,
    ) -> Completion:
        """Return bytes drawn one by one behind a context.

        Temperature, top-k, top-p and min-p act on the distribution of the next byte (END is one of
        its 257 outcomes), in this order. `temperature=0` takes the likeliest byte.

        Args:
            context: What stands before.
            max_bytes: The most bytes; fewer where the longest context of the model ends before.
            temperature: What log-probabilities are divided by.
            top_k: How many outcomes are left.
            top_p: The share of probable outcomes that is left.
            min_p: What is less probable than this share of the likeliest outcome is left out.
            utf8: Whether only bytes may follow that make UTF-8. `max_bytes` may still end the text
                inside a character.
            stop: Where one of these appears, the text ends before it.
            seed: Of the choices.
            heard: Called with bytes as soon as they are certain not to be cut off again; joined,
                they are the sample's.
        """
        writer = self._writer(context, seed, stop, utf8, max_bytes)
        for part in self._written(writer, Sampler(temperature, top_p, top_k, 0, min_p)):
            if heard is not None:
                heard(part)
        return writer.completion()

    def sample_batch(
        self,
        contexts: Sequence[Context | Each],
        *,
        max_bytes: int = 64,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float | None = None,
        utf8: bool = False,
        stop: Sequence[bytes | str] = (),
        seeds: Sequence[int] | None = None,
    ) -> list[Completion]:
        """Return a sample for each context, all drawn in step: one model pass per byte for all.

        The same as calling :meth:`sample` with each context and its seed (0, 1, ... when left out).
        """
        _refuse_one(contexts, "contexts")
        chosen = list(range(len(contexts))) if seeds is None else list(seeds)
        if len(chosen) != len(contexts):
            found = f"{len(chosen)} seeds for {len(contexts)} contexts"
            raise errors.build(errors.InvalidValue, found, field="seeds", fix="give one for each")
        sampler = Sampler(temperature, top_p, top_k, 0, min_p)
        writers = [
            self._writer(context, seed, stop, utf8, max_bytes)
            for context, seed in zip(contexts, chosen, strict=True)
        ]
        while unfinished := [writer for writer in writers if not writer.finish]:
            self._write(unfinished, sampler)
        return [writer.completion() for writer in writers]

    def stream(
        self,
        context: Context | Each = b"",
        *,
        max_bytes: int = 64,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float | None = None,
        utf8: bool = False,
        stop: Sequence[bytes | str] = (),
        seed: int = 0,
    ) -> Iterator[bytes]:
        """Yield what :meth:`sample` returns, as soon as it is certain not to be cut off again."""
        writer = self._writer(context, seed, stop, utf8, max_bytes)
        return self._written(writer, Sampler(temperature, top_p, top_k, 0, min_p))

    def _writer(
        self,
        context: Context | Each,
        seed: int,
        stop: Sequence[bytes | str],
        utf8: bool,
        max_bytes: int,
    ) -> _Writer:
        return _Writer(self.start(context), seed, to_stops(stop), utf8, max_bytes)

    def _write(self, writers: Sequence[_Writer], sampler: Sampler) -> None:
        """Write a byte more of each text; one whose context the model can no longer read ends."""
        try:
            rows = self._rows([writer.state for writer in writers])
        except errors.LimitExceeded as error:
            if len(writers) == 1:
                writers[0].end(error)
                return
            for writer in writers:
                self._write([writer], sampler)
            return
        for writer, row in zip(writers, rows, strict=True):
            writer.write(sampler, row)

    def _written(self, writer: _Writer, sampler: Sampler) -> Iterator[bytes]:
        """Yield what a text grows by, without an end that a stop string may begin in."""
        given = 0
        while writer.finish == "":
            self._write([writer], sampler)
            until = len(writer.written) - (0 if writer.finish else writer.held)
            if until > given:
                yield bytes(writer.written[given:until])
                given = until


class _Writer:
    """One text that is being written."""

    def __init__(
        self, state: State, seed: int, stop: Sequence[bytes], utf8: bool, max_bytes: int
    ) -> None:
        if max_bytes < 0:
            found = f"must be at least 0, got {max_bytes}"
            raise errors.build(errors.InvalidValue, found, field="max_bytes")
        self.state = state
        self.written = bytearray()
        self.logprob = 0.0
        self.finish = "" if max_bytes else "length"
        self._generator = np.random.default_rng(seed)
        self.held = max(map(len, stop), default=1) - 1
        self._stop = stop
        self._before = state.text[-3:] if utf8 else None
        self._max_bytes = max_bytes

    def write(self, sampler: Sampler, row: NDArray[np.float64]) -> None:
        """Take the next byte from a distribution."""
        offered = row
        if self._before is not None:
            tail = self._before + bytes(self.written[-3:])
            offered = np.where(utf8_bytes(tail), row, -np.inf)
        if not offered.max() > -np.inf:
            raise errors.build(
                errors.InvalidValue,
                "no byte can follow"
                + (" that makes UTF-8" if row.max() > -np.inf else ": the context is impossible"),
                field="context",
                fix="check the context, or use another law",
            )
        byte = sampler.choose(offered, self._generator)
        self.logprob += float(row[byte])
        if byte == END:
            self.finish = "end"
            return
        self.written.append(byte)
        ended = [one for one in self._stop if self.written.endswith(one)]
        if ended:
            del self.written[len(self.written) - max(map(len, ended)) :]
            self.finish = "stop"
        elif len(self.written) >= self._max_bytes:
            self.finish = "length"
        else:
            try:
                self.state.push(byte)
            except errors.LimitExceeded as error:  # the marginal law asks the model here
                self.end(error)

    def end(self, error: errors.LimitExceeded) -> None:
        """End the text where the model's longest context does, if there is a text at all.

        Raises:
            LimitExceeded: `error`: nothing was written, or the limit is another.
        """
        if error.field != "nodes" or not self.written:
            raise error
        self.finish = "length"

    def completion(self) -> Completion:
        """Return what was written."""
        return Completion(bytes(self.written), self.logprob, self.finish)


def prefixes_of(
    texts: Sequence[bytes | str], prefixes: Sequence[Context | Each] | None
) -> Sequence[Context | Each]:
    """Return the prefix of each text; nothing for each when left out.

    Raises:
        InvalidValue: Their numbers differ, or one text stands where a list of texts belongs.
    """
    _refuse_one(texts, "texts")
    if prefixes is not None:
        _refuse_one(prefixes, "prefixes")
    if prefixes is None:
        return [b""] * len(texts)
    if len(prefixes) != len(texts):
        raise errors.build(
            errors.InvalidValue,
            f"{len(prefixes)} prefixes for {len(texts)} texts",
            field="prefixes",
            fix="give one for each text",
        )
    return prefixes


def _refuse_one(given: object, field: str) -> None:
    if isinstance(given, str | bytes):
        found = f"is one text, {given!r}"
        raise errors.build(errors.InvalidValue, found, field=field, fix="give a list")
