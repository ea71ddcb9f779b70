"""What the released ZeTT checkpoints see of a token: its pieces, by a tokenizer of bytes.

Before training, the authors rewrite the source's tokenizer so that it cuts bytes. Ids below V stay
what they are; what the rewriting lacks is appended, in this order, and has rows of the network's
own:

1. single bytes that no token stands for, ascending: all above 127 and the unused controls for a
   tokenizer of characters, 0xFF for one with byte-fallback tokens;
2. for BPE over characters, the strings in between when a character is put together from its bytes,
   sorted by their spelling in the GPT-2 alphabet.

XLM-R has 161, TinyLlama 362 and Mistral 522 of them: `hn_n_extra_tokens` in the released
configurations.

Nothing is put in front of a token, nothing normalises it and no pattern cuts it: the model alone
does. A control token of the source is one piece, its own.

Two things differ from the authors' code. Their rewriting misses the byte-fallback token of 0xFF
(`range(255)`), so that byte, which no UTF-8 text holds, gets an appended row that was trained as a
wrong answer only; here it gets its token's, and the appended ids stay where they were. (The text
`<0xFF>` is that token, too, as it was in training.) And their merges that put characters together
stand in the order of a Python set of strings, another one in every process; a released folder holds
the tokenizer that was used, and :meth:`ZettTokenizer.load` reads it. Without one,
:meth:`ZettTokenizer.from_source` puts short characters first: the ids are the same, and a character
of which two bytes also stand together in another one may be cut otherwise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anyvocab import errors
from anyvocab._source import Source, read_json
from anyvocab.tokenizer import Tokenizer, _Origin

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ZettTokenizer", "zett_pieces"]

MISSING_SCORE: Final = -100_000.0  # of an appended byte in a Unigram model
_WORD_MARK: Final = "\u2581"


def _alphabet() -> list[str]:
    """Return the character of each byte in GPT-2's alphabet."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte if byte in shown else next(hidden)) for byte in range(256)]


_CHARACTERS: Final = _alphabet()
_BYTES: Final = {character: byte for byte, character in enumerate(_CHARACTERS)}


@dataclass(frozen=True, eq=False)
class ZettTokenizer:
    """The rewritten tokenizer of a source.

    Attributes:
        rows: V: ids of the source.
        extra: The bytes of the appended ids V, V + 1, ...
        json: A `tokenizer.json` of the rewritten model alone: what it makes of a token's bytes,
            spelt in GPT-2's alphabet, are the token's pieces.
    """

    rows: int
    extra: tuple[bytes, ...]
    json: bytes = field(repr=False)
    _tokenizer: Tokenizer = field(repr=False)
    _ids: Mapping[str, int] = field(repr=False)
    _byte_255: tuple[int, int] | None = field(repr=False)

    @classmethod
    def from_source(cls, source: Tokenizer, *, rows: int | None = None) -> ZettTokenizer:
        """Return what the rewriting makes of a source's tokenizer.

        Args:
            source: A tokenizer with a BPE or Unigram model.
            rows: V, the ids it must have; not checked when left out.

        Raises:
            UnsupportedTokenizer: It has another model, or holes between its ids.
            InvalidValue: It has another number of ids.
        """
        document = json.loads(source.to_json())
        model = document["model"]
        if model.get("type") not in {"BPE", "Unigram"}:
            raise errors.build(
                errors.UnsupportedTokenizer,
                f"a {model.get('type')} model",
                field="model.type",
                fix="no ZeTT checkpoint was released for one",
            )
        names, special = _spellings(document)
        if rows is not None and len(names) != rows:
            raise errors.build(
                errors.InvalidValue,
                f"has {len(names)} ids, and the hypernetwork was made for {rows}",
                field="source",
                fix="give the tokenizer of the model that it was trained for",
            )
        rewritten = _rewrite(model, names, special, is_byte_level=_is_byte_level(document))
        return cls._of(rewritten, len(names))

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, rows: int) -> ZettTokenizer:
        """Return the rewritten tokenizer that a released folder holds as `tokenizer.json`.

        Args:
            folder: The folder.
            rows: V: ids of the source.

        Raises:
            SourceNotFound: There is none.
            TokenizerFormatError: It is malformed, or not a tokenizer of bytes with V ids.
        """
        path = Path(folder) / "tokenizer.json"
        if not path.is_file():
            raise errors.build(
                errors.SourceNotFound,
                "there is no tokenizer.json",
                field="folder",
                file=str(folder),
                fix="use ZettTokenizer.from_source with the tokenizer of the model",
            )
        document = read_json(path)
        made = cls._of(document.get("model"), rows, file=str(path))
        missing = [byte for byte, one in enumerate(_CHARACTERS) if one not in made._ids]
        if missing or not set(range(rows)) <= {*made._ids.values(), *_added(document)}:
            what = f"byte 0x{missing[0]:02X} has no token" if missing else "an id has no token"
            raise errors.build(
                errors.TokenizerFormatError,
                f"not the rewritten tokenizer of a source with {rows} ids ({what})",
                field="model.vocab",
                file=str(path),
                fix="use ZettTokenizer.from_source with the tokenizer of the model",
            )
        return made

    @classmethod
    def _of(cls, model: object, rows: int, *, file: str | None = None) -> ZettTokenizer:
        """Return what pieces need of a rewritten model, read as carefully as any tokenizer."""
        data = _document(model)
        source = Source(data, "tokenizer.json", file=file)
        tokenizer = Tokenizer._build(_Origin(source))
        ids = _ids(json.loads(tokenizer.to_json())["model"])
        appended = sorted((id, name) for name, id in ids.items() if id >= rows)
        extra = tuple(_unspelt(name) for _, name in appended)
        # Only where the byte was appended although the source has a token for it.
        last, own = ids.get(_CHARACTERS[255], -1), ids.get("<0xFF>", -1)
        swap = (last, own) if 0 <= own < rows <= last else None
        return cls(rows, extra, data, tokenizer, ids, swap)

    def pieces(self, tokens: Sequence[bytes | int], *, max_pieces: int) -> NDArray[np.int64]:
        """Return the pieces of tokens, int64 (N, max_pieces), -1 behind each end.

        Args:
            tokens: A token's bytes, which need not be UTF-8; or a source id: a control token that
                is that of the source.
            max_pieces: How many are kept of a token.

        Raises:
            InvalidValue: A token is empty, an id is outside the source, or nothing is kept.

        >>> import anyvocab as av
        >>> tokenizer = ZettTokenizer.from_source(av.Tokenizer.load("pico:code-4k"))
        >>> tokenizer.pieces([b"return", 0], max_pieces=3)[1].tolist()
        [0, -1, -1]
        """
        if max_pieces < 1:
            raise errors.build(
                errors.InvalidValue, f"must be at least 1, got {max_pieces}", field="max_pieces"
            )
        texts = [_spelt(token) for token in tokens if not isinstance(token, int)]
        found = self._tokenizer.encode_batch(texts, specials="text")
        ids = found.ids.astype(np.int64)
        if self._byte_255 is not None:
            ids[ids == self._byte_255[0]] = self._byte_255[1]
        made = np.full((len(tokens), max_pieces), -1, dtype=np.int64)
        spans = pairwise(found.offsets.tolist())
        for row, token in zip(made, tokens, strict=True):
            if isinstance(token, int):
                self._check(token)
                row[0] = token
                continue
            start, stop = next(spans)
            if start == stop:
                raise errors.build(errors.InvalidValue, "a token is empty", field="tokens")
            kept = ids[start : min(stop, start + max_pieces)]
            row[: len(kept)] = kept
        return made

    def _check(self, id: int) -> None:
        if not 0 <= id < self.rows:
            raise errors.build(errors.InvalidValue, f"the source has no id {id}", field="tokens")


def zett_pieces(
    source: Tokenizer | ZettTokenizer, tokens: Sequence[bytes | int], *, max_pieces: int = 7
) -> NDArray[np.int64]:
    """Return what a released hypernetwork sees of tokens, int64 (N, max_pieces); -1 behind an end.

    Args:
        source: The rewritten tokenizer, or that of the source; for many calls rewrite it once.
        tokens: As for :meth:`ZettTokenizer.pieces`.
        max_pieces: As for it.

    Raises:
        UnsupportedTokenizer: The source's tokenizer is neither BPE nor Unigram.
        InvalidValue: A token is empty, an id is outside the source, or nothing is kept.
    """
    if isinstance(source, Tokenizer):
        source = ZettTokenizer.from_source(source)
    return source.pieces(tokens, max_pieces=max_pieces)


def _ids(model: Mapping[str, Any]) -> dict[str, int]:
    """Return spelling to id of a model's vocabulary; among twins the last, as `tokenizers` does."""
    vocab = model["vocab"]
    if isinstance(vocab, Mapping):
        return dict(vocab)
    return {name: id for id, (name, _) in enumerate(vocab)}


def _spellings(document: Mapping[str, Any]) -> tuple[list[str], set[str]]:
    """Return the spelling of every id, and the spellings of special tokens."""
    vocab = document["model"]["vocab"]
    pairs: Iterable[tuple[str, int]] = (
        vocab.items()
        if isinstance(vocab, Mapping)
        else ((name, id) for id, (name, _) in enumerate(vocab))
    )
    names = {id: name for name, id in pairs}
    added = document.get("added_tokens") or []
    names |= {token["id"]: token["content"] for token in added}
    holes = [id for id in range(len(names)) if id not in names]
    if holes:
        raise errors.build(
            errors.UnsupportedTokenizer,
            f"no token has the id {holes[0]}",
            field="model.vocab",
            fix="ids that are appended behind a vocabulary with holes are not defined",
        )
    special = {token["content"] for token in added if token["special"]}
    return [names[id] for id in range(len(names))], special


def _is_byte_level(document: Mapping[str, Any]) -> bool:
    step = document.get("pre_tokenizer") or {}
    steps = step.get("pretokenizers", [step])
    return any(one.get("type") == "ByteLevel" for one in steps)


def _spelt(data: bytes) -> str:
    """Return bytes in the alphabet."""
    return "".join(map(_CHARACTERS.__getitem__, data))


def _unspelt(name: str) -> bytes:
    """Return the bytes of a spelling; a character outside the alphabet stands for its UTF-8."""
    return b"".join(
        bytes([_BYTES[one]]) if one in _BYTES else one.encode("utf-8", "surrogatepass")
        for one in name
    )


def _respelt(text: str) -> str:
    """Return a token of characters in the alphabet of bytes, its word marks as spaces."""
    return _spelt(text.replace(_WORD_MARK, " ").encode("utf-8", "surrogatepass"))


def _added(document: Mapping[str, object]) -> set[int]:
    """Return the ids of added tokens of a file that need not be sound."""
    added = document.get("added_tokens")
    tokens = added if isinstance(added, list) else []
    ids = [token.get("id") for token in tokens if isinstance(token, Mapping)]
    return {id for id in ids if isinstance(id, int)}


def _document(model: object) -> bytes:
    """Return a tokenizer that is nothing but a model: of text in the alphabet it makes pieces."""
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": model,
    }
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _rewrite(
    model: Mapping[str, Any], names: list[str], special: set[str], *, is_byte_level: bool
) -> dict[str, Any]:
    """Return the model over bytes; see the module."""
    spelt = [name if is_byte_level or name in special else _respelt(name) for name in names]
    fallback = {f"<0x{byte:02X}>": _CHARACTERS[byte] for byte in range(255)}
    if model.get("byte_fallback"):
        there = set(spelt)
        spelt = [
            fallback[name] if fallback.get(name, name) not in there else name for name in spelt
        ]
    else:
        fallback = {}
    there = set(spelt)
    spelt += [character for character in _CHARACTERS if character not in there]
    # Every byte has a token now: nothing falls back, and nothing is unknown.
    rewritten = {**model, "byte_fallback": False}
    if model["type"] == "Unigram":
        scores = {_respelt(name): score for name, score in model["vocab"]}
        scores = dict.fromkeys(_CHARACTERS, MISSING_SCORE) | scores
        rewritten["vocab"] = [[name, scores.get(name, 0.0)] for name in spelt]
        return rewritten
    if is_byte_level:
        rewritten["vocab"] = {name: id for id, name in enumerate(spelt)}
        return rewritten
    merges = [(_respelt(left), _respelt(right)) for left, right in _pairs(model["merges"])]
    leaves = _leaves([name for name in spelt if name not in special | set(fallback)], merges)
    put_together = [pair for leaf in leaves for pair in _put_together(leaf)]
    between = {left + right for left, right in put_together} - set(spelt)
    spelt += sorted(between)
    rewritten["vocab"] = {name: id for id, name in enumerate(spelt)}
    rewritten["merges"] = [list(pair) for pair in dict.fromkeys((*put_together, *merges))]
    return rewritten


def _pairs(merges: Iterable[Any]) -> Iterable[tuple[str, str]]:
    for merge in merges:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right


def _leaves(names: Iterable[str], merges: Iterable[tuple[str, str]]) -> list[str]:
    """Return strings of several bytes that tokens are merged from and no merge makes.

    The shortest first, then by spelling.
    """
    made_from: dict[str, list[tuple[str, str]]] = {}
    for left, right in merges:
        made_from.setdefault(left + right, []).append((left, right))
    seen: set[str] = set()
    leaves: set[str] = set()
    left_over = list(names)
    while left_over:
        name = left_over.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in made_from:
            left_over.extend(part for pair in made_from[name] for part in pair)
        elif len(name) > 1:
            leaves.add(name)
    return sorted(leaves, key=lambda leaf: (len(leaf), leaf))


def _put_together(leaf: str) -> list[tuple[str, str]]:
    """Return merges that make a string from its characters.

    In rounds: each round goes over the neighbours as they stood at its start, from left to right,
    and merges every pair that still is one.
    """
    parts = list(leaf)
    merges: list[tuple[str, str]] = []
    while len(parts) > 1:
        for left, right in pairwise(list(parts)):
            merged: list[str] = []
            for part in parts:
                if merged and merged[-1] == left and part == right:
                    merged[-1] = left + right
                else:
                    merged.append(part)
            if len(merged) < len(parts):
                merges.append((left, right))
                parts = merged
    return merges
