"""Tokenizers: text to ids and back, id for id as the original does it.

Text is bytes here. A `str` becomes its UTF-8 bytes at the door; a lone surrogate in it becomes the
three bytes that the `surrogatepass` handler gives, which are not valid UTF-8. Bytes outside valid
UTF-8 match no character class of any pattern, and no normalizer touches them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import numpy as np

from anyvocab import _core, errors
from anyvocab._source import Source, read_source
from anyvocab.vocabulary import Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from anyvocab.roles import Declarations

__all__ = ["Encoding", "IncrementalEncoder", "Ragged", "Tokenizer"]

Text = str | bytes
Specials = Literal["parse", "text"]
Ids: TypeAlias = "Sequence[int] | NDArray[np.integer[Any]]"


@dataclass(frozen=True, eq=False)
class Encoding:
    """The ids of a text and where each lies in it.

    Attributes:
        ids: uint32[n].
        offsets: int64[n, 2]: start and end of each token in the text, in bytes. What a normalizer
            changed points at the bytes it came from; ids that stand for no text (a bos that was
            added) have an empty span.
    """

    ids: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of ids of different lengths in one buffer: row `i` is `ids[offsets[i]:offsets[i + 1]]`.

    Attributes:
        ids: uint32[total].
        offsets: int64[rows + 1], from 0 to total.
    """

    ids: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, row: int) -> NDArray[np.uint32]: ...
    @overload
    def __getitem__(self, row: slice) -> Ragged: ...
    def __getitem__(self, row: int | slice) -> NDArray[np.uint32] | Ragged:
        """Return a row as a view, or the rows of a slice."""
        if isinstance(row, slice):
            start, stop, step = row.indices(len(self))
            if step == 1:
                stop = max(start, stop)
                first, last = self.offsets[start], self.offsets[stop]
                return Ragged(self.ids[first:last], self.offsets[start : stop + 1] - first)
            rows = [self[i] for i in range(start, stop, step)]
            lengths = [len(one) for one in rows]
            ids = np.concatenate(rows) if rows else self.ids[:0]
            return Ragged(ids, np.cumsum([0, *lengths], dtype=np.int64))
        index = row + len(self) if row < 0 else row
        if not 0 <= index < len(self):
            raise IndexError(f"row {row} of {len(self)} rows")
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[NDArray[np.uint32]]:
        return (self[i] for i in range(len(self)))

    def lengths(self) -> NDArray[np.int64]:
        """Return the number of ids of each row, int64[rows]."""
        return np.diff(self.offsets)

    def to_list(self) -> list[list[int]]:
        """Return the rows as lists of Python ints."""
        flat, ends = self.ids.tolist(), self.offsets.tolist()
        return [flat[start:end] for start, end in pairwise(ends)]


class IncrementalEncoder:
    """Encodes a text that grows at its end and shrinks again. Not to be shared between threads.

    At any moment `ids()` equals `tokenizer.encode(text so far)`; the first `stable()` of them no
    further text can change. Made by :meth:`Tokenizer.incremental`.

    >>> import anyvocab as av
    >>> encoder = av.Tokenizer.load("pico:code-4k").incremental()
    >>> encoder.append("def f(x):")
    >>> encoder.rollback(4)
    >>> len(encoder)
    5
    """

    def __init__(self, core: _core.IncrementalEncoder) -> None:
        self._core = core

    def append(self, text: Text) -> None:
        """Add text at the end."""
        self._core.append(_bytes(text))

    def rollback(self, nbytes: int) -> None:
        """Take `nbytes` bytes from the end.

        Raises:
            InvalidValue: There are fewer.
        """
        if not 0 <= nbytes <= len(self):
            raise errors.build(
                errors.InvalidValue,
                f"{nbytes} of {len(self)} bytes cannot be taken back",
                field="nbytes",
                fix=f"give 0..{len(self)}",
            )
        self._core.rollback(nbytes)

    def ids(self) -> NDArray[np.uint32]:
        """Return the ids of the whole text so far, uint32[n]."""
        return self._core.ids()

    def stable(self) -> int:
        """Return how many leading ids no further text can change."""
        return self._core.stable()

    def __len__(self) -> int:
        """Return the length of the text so far, in bytes."""
        return len(self._core)


@dataclass(frozen=True)
class _Origin:
    """What a tokenizer was made from: enough to make it again in another process."""

    source: Source
    pattern: str | None = None
    special_tokens: dict[str, int] | None = None


class Tokenizer:
    """A tokenizer. Immutable; safe to share between threads; can be pickled.

    Its ids equal those of the library the file was made for (`tokenizers`, `sentencepiece`,
    `tiktoken`); a file that asks for what cannot be represented exactly is refused by name.

    >>> import anyvocab as av
    >>> tok = av.Tokenizer.load("pico:code-4k")
    >>> tok.decode(tok.encode("def f(x): return x"))
    b'def f(x): return x'
    """

    def __init__(self, core: _core.Tokenizer, origin: _Origin) -> None:
        """Use :meth:`load`."""
        self._core = core
        self._origin = origin

    @classmethod
    def load(
        cls,
        source: object,
        *,
        pattern: str | None = None,
        special_tokens: Mapping[str, int] | None = None,
        revision: str | None = None,
    ) -> Tokenizer:
        """Return the tokenizer of `source`.

        Args:
            source: One of
                a folder: its `tokenizer.json`, else `tokenizer.model`, `spiece.model`,
                `sentencepiece.bpe.model`, the only `*.model`, `*.tiktoken`, `*.gguf` or
                `rwkv_vocab*.txt`, in this order;
                a file of one of these formats, known by its contents, else by its suffix;
                `pico:code-4k` or `pico:code-2k`, the embedded models;
                a hub id `org/name`, where huggingface_hub is installed;
                the contents of such a file, as bytes;
                a transformers or tokenizers tokenizer, through its serialized JSON;
                an anyvocab tokenizer, returned as it is.
            pattern: For rank files: how text is cut, a known name (`cl100k`, `o200k`) or a regular
                expression.
            special_tokens: For rank files: text to id of the special tokens; those of a
                `tokenizer_config.json` beside the file when left out.
            revision: For hub ids: a branch, tag or commit.

        Raises:
            SourceNotFound: Nothing is there; the message lists what was found instead.
            TokenizerFormatError: The file is malformed or contradicts itself.
            UnsupportedTokenizer: It asks for what cannot be represented exactly.
            LimitExceeded: It is over a bound for untrusted files.
            MissingExtra: A hub id without huggingface_hub.
            InvalidValue: `pattern` or `special_tokens` for a file that is no rank file, or a rank
                file without a pattern.
        """
        if isinstance(source, Tokenizer):
            return source
        found = read_source(source, revision=revision)
        for name, given in (("pattern", pattern), ("special_tokens", special_tokens)):
            if given is not None and found.format != "tiktoken":
                raise errors.build(
                    errors.InvalidValue,
                    f"a {found.format} file says this itself",
                    field=name,
                    file=found.file,
                    fix="leave it out; it is for rank files",
                )
        specials = found.special_tokens if special_tokens is None else special_tokens
        return cls._build(_Origin(found, pattern, None if specials is None else dict(specials)))

    @classmethod
    def _build(cls, origin: _Origin) -> Tokenizer:
        source = origin.source
        core = _core.Tokenizer.from_bytes(
            source.data,
            source.format,
            file=source.file,
            pattern=origin.pattern,
            special_tokens=origin.special_tokens,
        )
        if source.format == "tokenizer.json":
            # The core can write it again; other formats it cannot always.
            origin = replace(origin, source=replace(source, data=b""))
        return cls(core, origin)

    def __repr__(self) -> str:
        name = self._origin.source.name
        shown = f"{name!r}, " if name else ""
        return f"Tokenizer({shown}{self.model_type} from {self.format}, {len(self.vocabulary)} ids)"

    def __reduce__(self) -> tuple[object, ...]:
        origin = self._origin
        if origin.source.format == "tokenizer.json":
            origin = replace(origin, source=replace(origin.source, data=self._core.to_json()))
        return Tokenizer._build, (origin,)

    @property
    def format(self) -> str:
        """The format it was read from: `tokenizer.json`, `tiktoken`, `sentencepiece`, ..."""
        return self._core.format

    @property
    def model_type(self) -> str:
        """The kind of model: `BPE`, `Unigram`, `WordPiece`, `WordLevel`, `Trie`."""
        return self._core.model_type

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Every id's bytes, kind and roles."""
        return Vocabulary(self._core, self.declarations)

    @property
    def chat_template(self) -> str | None:
        """The default chat template as Jinja text, or None. It is never rendered here."""
        return self.declarations.chat_templates.get("default", self._core.chat_template)

    @property
    def declarations(self) -> Declarations:
        """What the files beside the tokenizer say about its special tokens."""
        return self._origin.source.declarations

    def with_declarations(self, declarations: Declarations) -> Tokenizer:
        """Return the same tokenizer beside other files; ids and bytes are shared."""
        source = replace(self._origin.source, declarations=declarations)
        return Tokenizer(self._core, replace(self._origin, source=source))

    def components(self) -> str:
        """Return the pipeline as JSON text, as `tokenizer.json` spells it, without tables."""
        return self._core.components()

    def encode(
        self,
        text: Text,
        *,
        specials: Specials = "parse",
        add_special_tokens: bool = False,
    ) -> NDArray[np.uint32]:
        """Return the ids of `text`, uint32[n].

        Args:
            text: Text; bytes may be anything.
            specials: What the spelling of a special token in the text means: `"parse"`: the token;
                `"text"`: the characters it is written with.
            add_special_tokens: Whether the post-processor adds its ids (a bos, say).
        """
        return self._core.encode(_bytes(text), specials, add_special_tokens)

    def encode_with_offsets(
        self,
        text: Text,
        *,
        specials: Specials = "parse",
        add_special_tokens: bool = False,
    ) -> Encoding:
        """Return the ids of `text` and the bytes each stands for; arguments as for `encode`."""
        return Encoding(*self._core.encode_with_offsets(_bytes(text), specials, add_special_tokens))

    def encode_batch(
        self,
        texts: Iterable[Text],
        *,
        specials: Specials = "parse",
        add_special_tokens: bool = False,
        threads: int | None = None,
    ) -> Ragged:
        """Return the ids of every text; equal to `encode` of each for any number of threads.

        Args:
            texts: Texts.
            specials: As for `encode`.
            add_special_tokens: As for `encode`.
            threads: How many threads; as many as this process may use when left out.

        Raises:
            InvalidValue: `threads` is not positive.
        """
        if isinstance(texts, str | bytes | bytearray | memoryview):
            raise TypeError("texts must be several texts; for one, use encode()")
        count = _threads(threads)
        encoded = [_bytes(text) for text in texts]
        return Ragged(*self._core.encode_batch(encoded, specials, add_special_tokens, count))

    def count(self, text: Text, *, specials: Specials = "parse") -> int:
        """Return the number of ids of `text` without making them."""
        return self._core.count(_bytes(text), specials)

    def normalize(self, text: Text) -> bytes:
        """Return `text` as the normalizer leaves it."""
        return self._core.normalize(_bytes(text))

    def pretokenize(self, text: Text) -> list[bytes]:
        """Return the pretokens of `text`: the pieces inside which tokens are found."""
        return self._core.pretokenize(_bytes(text))

    def decode(self, ids: Ids, *, skip_special: bool = False) -> bytes:
        """Return the bytes that `ids` stand for.

        Args:
            ids: Ids, a sequence of ints or an integer array of one dimension.
            skip_special: Whether special tokens are left out.

        Raises:
            InvalidValue: An id is outside the vocabulary.
        """
        return self._core.decode(_ids(ids), skip_special)

    def decode_text(self, ids: Ids, *, skip_special: bool = False, errors: str = "replace") -> str:
        """Return the text that `ids` stand for.

        Args:
            ids: As for `decode`.
            skip_special: As for `decode`.
            errors: What becomes of bytes that are not UTF-8, as for `bytes.decode`.

        Raises:
            InvalidValue: An id is outside the vocabulary.
            UnicodeDecodeError: `errors="strict"` and the bytes are not UTF-8.
        """
        return self.decode(ids, skip_special=skip_special).decode("utf-8", errors)

    def is_canonical(self, ids: Ids) -> bool:
        """Return whether `ids` are what the tokenizer itself gives for their text.

        Raises:
            InvalidValue: An id is outside the vocabulary.
        """
        return self._core.is_canonical(_ids(ids))

    def incremental(self, *, specials: Specials = "parse") -> IncrementalEncoder:
        """Return an encoder of a growing text, empty at first."""
        return IncrementalEncoder(self._core.incremental(specials))

    def to_json(self) -> bytes:
        """Return the tokenizer as a stock `tokenizer.json`.

        Raises:
            UnsupportedTokenizer: No `tokenizer.json` gives the same ids (RWKV).
        """
        return self._core.to_json()

    def save(
        self, folder: str | os.PathLike[str], *, existing: Literal["refuse", "replace"] = "refuse"
    ) -> Path:
        """Write a stock `tokenizer.json` and `tokenizer_config.json`, and return the folder.

        `tokenizers` and `transformers` load them with identical ids. The chat templates are kept.
        Every file is written beside its place and renamed; the manifest comes last, so a folder
        without `anyvocab.json` was not finished.

        Args:
            folder: Where to; made when it is missing. Other files in it are left alone.
            existing: What becomes of a tokenizer that is there already.

        Raises:
            OutputExists: The folder holds a tokenizer and `existing` is `"refuse"`, or a file
                that would contradict the new one.
            UnsupportedTokenizer: No `tokenizer.json` gives the same ids (RWKV).
        """
        from anyvocab._save import save

        return save(self, self.declarations, folder, existing=existing)


def _threads(asked: int | None) -> int:
    """Return how many threads to use: as many as this process may when `asked` is None."""
    if asked is not None:
        if asked < 1:
            raise errors.build(
                errors.InvalidValue,
                f"must be at least 1, got {asked}",
                field="threads",
                fix="leave it out to use every core",
            )
        return asked
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _bytes(text: object) -> bytes:
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")
    if isinstance(text, bytes):
        return text
    if isinstance(text, bytearray | memoryview):
        return bytes(text)
    raise TypeError(f"text must be str or bytes, got {type(text).__name__}")


def _ids(ids: object) -> NDArray[np.uint32]:
    """Return `ids` as uint32[n]; a value that is no id is an error, never wrapped around."""
    if isinstance(ids, np.ndarray) and ids.dtype == np.uint32 and ids.ndim == 1:
        return ids
    if isinstance(ids, str | bytes):
        raise TypeError(f"ids must be integers, got {type(ids).__name__}")
    array = np.asarray(ids)
    if array.ndim != 1:
        raise TypeError(f"ids must have one dimension, got shape {array.shape}")
    if array.size == 0:
        return np.zeros(0, dtype=np.uint32)
    if array.dtype.kind == "O" and all(isinstance(one, int) for one in array):
        outside = next(one for one in array if not 0 <= one < 1 << 32)  # too large for int64
    elif array.dtype.kind not in "iu":
        raise TypeError(f"ids must be integers, got {array.dtype}")
    elif array.min() < 0 or array.max() >= 1 << 32:
        outside = int(array.min()) if array.min() < 0 else int(array.max())
    else:
        return array.astype(np.uint32)
    raise errors.build(
        errors.InvalidValue, f"{outside} is no id", field="ids", fix="ids are 0..len(vocabulary)-1"
    )
