"""Predicting the rows of a vocabulary, a chunk of tokens at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np

from anyvocab import errors
from anyvocab.hypernet.features import SurroundingsOf, matrix_of, pieces_of
from anyvocab.hypernet.rows import Rows, SourceRows
from anyvocab.tokenizer import Tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.hypernet.folder import Card
    from anyvocab.hypernet.network import Use

__all__ = ["CHUNK_BYTES", "Dtype", "Predictions", "SourceModel", "text_ids"]

Dtype = Literal["float32", "bfloat16"]
CHUNK_BYTES = 128 << 20  # what the network holds of the tokens that it is at
Progress = Any  # Callable[[str, int, int], None] | None


@dataclass(frozen=True, eq=False)
class SourceModel:
    """What a hypernetwork needs of a model: its tokenizer and its matrices.

    Attributes:
        tokenizer: The model's own.
        rows: Its matrices, as they are stored.
    """

    tokenizer: Tokenizer
    rows: SourceRows

    @classmethod
    def open(cls, model: str | os.PathLike[str]) -> SourceModel:
        """Return them of a folder, a hub id or `pico:NAME`; nothing else of the model is read.

        Raises:
            SourceNotFound: There is no such model.
            WeightsFormatError: Its weights are malformed.
        """
        from anyvocab.evaluate.models import find_folder
        from anyvocab.transplant.weights import Checkpoint

        folder = find_folder(os.fsdecode(model))
        checkpoint = Checkpoint.open(folder)
        read = checkpoint.matrix("input")
        headless = checkpoint.tied or checkpoint.find("output") is None
        head = None if headless else checkpoint.matrix("output")
        bias = None if checkpoint.find("bias") is None else checkpoint.matrix("bias")
        rows = SourceRows(
            read.chunk(0, read.rows),
            None if head is None else head.chunk(0, head.rows),
            None if bias is None else bias.chunk(0, bias.rows).reshape(-1),
        )
        return cls(Tokenizer.load(folder), rows)


class _Cuts(Protocol):
    """Cuts tokens into pieces, int64 (N, L), -1 behind each end."""

    def __call__(self, tokens: Sequence[bytes], *, apart: bool) -> NDArray[np.int64]: ...


def text_ids(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Return the ids that stand for text, ascending; control and empty tokens and holes do not."""
    from anyvocab.transplant.identity import token_table

    table = token_table(tokenizer.vocabulary)
    return np.array([id for id, token in enumerate(table) if token], dtype=np.int64)


class Predictions:
    """Rows of tokens, made when they are asked for.

    Iterating gives `(places, rows)`: which of the tokens, and their rows, float32, on the CPU.
    Tokens with as many pieces come together, so a chunk is dense; every token comes once. Memory is
    the source's matrices, the network and a chunk.

    Attributes:
        ids: int64[n]: the target ids that the tokens have.
    """

    def __init__(
        self,
        network: Any,
        card: Card,
        source: SourceModel,
        tokens: Sequence[bytes],
        *,
        ids: NDArray[np.int64] | None = None,
        vocabulary: Sequence[bytes] | None = None,
        apart: NDArray[np.bool_] | None = None,
        folder: Path | None = None,
        language: str | None = None,
        use: Use = "vocabulary",
        device: str | None = None,
        dtype: Dtype = "float32",
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        """Prepare predictions; nothing is predicted yet.

        Args:
            network: The hypernetwork.
            card: What it is.
            source: The model.
            tokens: Byte strings, none of them empty.
            ids: Their target ids; 0, 1, ... when left out.
            vocabulary: All text tokens around them; the tokens themselves when left out.
            apart: bool[n]: which of them are cut as if the source did not have them.
            folder: Where the network came from: a released one keeps its tokenizer there.
            language: Which language they are of, for a network that tells languages apart.
            use: Where the rows will stand: in a vocabulary whose every row is predicted, or among
                the source's own (`merged`). A network with a head for the latter then gives a row
                for each side.
            device: Where the network runs; where it is when left out.
            dtype: Of its products.
            chunk_bytes: See `CHUNK_BYTES`.

        Raises:
            InvalidValue: The matrices are not those of the network's source, or a choice is none.
        """
        _check(network, card, source, dtype, chunk_bytes)
        self.ids = np.arange(len(tokens)) if ids is None else ids
        self._network, self._dtype = network, dtype
        own = use == "merged" and getattr(network.config, "merged", "shared") == "own"
        self._sides = 2 if own else network.config.sides
        self._given: dict[str, Any] = {"use": use} if own else {}
        self._language = _language(card, language)
        self._device = device
        self._rows = source.rows
        self._tokens = list(tokens)
        self._cut = _cuts(card, source, folder)
        hidden = np.zeros(len(tokens), dtype=np.bool_) if apart is None else apart
        self._pieces: list[Any] = [None] * len(tokens)
        for separate in (False, True):
            places = np.flatnonzero(hidden == separate)
            cut = self._cut([self._tokens[i] for i in places.tolist()], apart=separate)
            for place, row in zip(places.tolist(), cut, strict=True):
                self._pieces[place] = row[row >= 0].astype(np.int32)
        self._lengths = np.fromiter(map(len, self._pieces), np.int64, len(tokens))
        self._features: NDArray[np.float32] | None = None
        if getattr(network.config, "features", 0) and len(tokens):
            around = self._tokens if vocabulary is None else vocabulary
            # Rows that pad the matrices stand for no token, as in training.
            surroundings = SurroundingsOf(source.tokenizer, len(source.rows))
            self._features = surroundings(self._tokens, around)
        config = network.config
        sides = config.sides * config.width
        # Of a position: states, queries, keys and values, the inner layer, the source's rows.
        self._position_bytes = 4 * (8 * config.hidden + 3 * config.inner + 3 * sides)
        self._chunk_bytes = chunk_bytes

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self._tokens)

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], Rows]]:
        """Yield places and rows of all tokens."""
        return self.chunks()

    def chunks(
        self, places: NDArray[np.int64] | None = None, *, progress: Progress = None
    ) -> Iterator[tuple[NDArray[np.int64], Rows]]:
        """Yield places and rows of some tokens.

        Args:
            places: Which; all when left out.
            progress: Told `hypernetwork`, how many are done and how many there are.

        Raises:
            NumericsError: A predicted number is not finite.
        """
        import torch

        wanted = np.arange(len(self)) if places is None else np.asarray(places, dtype=np.int64)
        ordered = wanted[np.argsort(self._lengths[wanted], kind="stable")]
        device = torch.device(self._device) if self._device else _device_of(self._network)
        network, rows = self._network.to(device), self._rows.to(device)
        start = 0
        while start < len(ordered):
            stop = start + self._fitting(ordered[start:])
            chosen = ordered[start:stop]
            cast: Any = nullcontext()
            if self._dtype == "bfloat16":
                cast = torch.autocast(device.type, torch.bfloat16)
            with torch.no_grad(), cast:
                found = self._predict(network, rows, chosen, device)
            self._check_finite(found, chosen)
            yield chosen, found
            start = stop
            if progress is not None:
                progress("hypernetwork", start, len(ordered))

    def rows(self) -> Rows:
        """Return the rows of all tokens, float32, in the order of the tokens."""
        import torch

        config = self._network.config
        read = torch.empty(len(self), config.width)
        head = torch.empty(len(self), config.width) if self._sides > 1 else None
        bias: Tensor | None = None
        for places, found in self:
            where = torch.from_numpy(places)
            read[where] = found.input
            if head is not None and found.output is not None:
                head[where] = found.output
            if found.bias is not None:
                bias = torch.zeros(len(self)) if bias is None else bias
                bias[where] = found.bias
        return Rows(read, head, bias)

    def _fitting(self, left: NDArray[np.int64]) -> int:
        """Return how many of the tokens, ordered by length, make a chunk; at least one."""
        positions = np.arange(1, len(left) + 1) * (self._lengths[left] + 1)
        most = self._chunk_bytes // self._position_bytes
        return max(1, int(np.searchsorted(positions, most, side="right")))

    def _predict(
        self, network: Any, rows: SourceRows, chosen: NDArray[np.int64], device: Any
    ) -> Rows:
        import torch

        cut = matrix_of([self._pieces[i] for i in chosen.tolist()]).astype(np.int64)
        features = language = None
        if self._features is not None:
            features = torch.from_numpy(self._features[chosen]).to(device)
        if self._language is not None:
            language = torch.full((len(chosen),), self._language, device=device)
        found = network(
            torch.from_numpy(cut).to(device),
            rows,
            features=features,
            language=language,
            **self._given,
        )
        made: Rows = found.each(lambda one: one.float().cpu())
        return made

    def _check_finite(self, found: Rows, chosen: NDArray[np.int64]) -> None:
        import torch

        for one in found.parts:
            if one is not None and not bool(torch.isfinite(one).all()):
                bad = ~torch.isfinite(one.reshape(len(chosen), -1)).all(dim=1)
                place = int(chosen[int(bad.nonzero()[0, 0])])
                raise errors.build(
                    errors.NumericsError,
                    f"the row predicted for id {int(self.ids[place])} is not finite",
                    field="hypernet",
                    fix='try dtype="float32"; else the network or the model is damaged',
                )


def _device_of(network: Any) -> Any:
    return next(iter(network.parameters())).device


def _cuts(card: Card, source: SourceModel, folder: Path | None) -> _Cuts:
    """Return what cuts tokens as the network saw them in training."""
    size = card.rows if card.kind == "zett" else len(source.rows)

    def plain(tokens: Sequence[bytes], *, apart: bool) -> NDArray[np.int64]:
        found = pieces_of(source.tokenizer, tokens, rows=size, apart=apart)
        return matrix_of(found).astype(np.int64)

    if card.kind == "residual":
        return plain
    from anyvocab.hypernet.zett_pieces import ZettTokenizer

    own = folder is not None and (folder / "tokenizer.json").is_file()
    rewritten = (
        ZettTokenizer.load(folder, rows=size)
        if folder is not None and own
        else ZettTokenizer.from_source(source.tokenizer, rows=size)
    )
    most = int(card.config["max_pieces"])

    def cut(tokens: Sequence[bytes], *, apart: bool) -> NDArray[np.int64]:
        made = rewritten.pieces(tokens, max_pieces=most)
        if not apart:
            return made
        # The rewritten tokenizer knows no second best: pieces of the source's own, where it has
        # any. Ids from `size` on are bytes that the network numbers otherwise.
        others = plain(tokens, apart=True)[:, :most]
        for row, other in zip(made, others, strict=True):
            if int(other.max()) < size:
                row[:] = -1
                row[: len(other)] = other
        return made

    return cut


def _language(card: Card, name: str | None) -> int | None:
    known = card.languages
    if name is None and not known:
        return None
    if name is None and known and card.kind == "residual" and len(known) == 1:
        return 0
    if name not in known:
        raise errors.build(
            errors.InvalidValue,
            f"this hypernetwork does not know {name!r}"
            if name is not None
            else "this hypernetwork predicts rows for one language, and none was named",
            field="language",
            fix=f"it knows {', '.join(known) or 'no languages: leave it out'}",
        )
    return known.index(name)


def _check(network: Any, card: Card, source: SourceModel, dtype: str, chunk_bytes: int) -> None:
    if dtype not in get_args(Dtype):
        raise errors.build(
            errors.InvalidValue,
            f"{dtype!r} is no choice",
            field="dtype",
            fix=" or ".join(f'"{one}"' for one in get_args(Dtype)),
        )
    if chunk_bytes < 1:
        raise errors.build(
            errors.InvalidValue, f"must be at least 1, got {chunk_bytes}", field="chunk_bytes"
        )
    width, sides = network.config.width, network.config.sides
    has = len(source.rows.sides)
    if source.rows.width != width or (sides < has) or (sides > has and card.kind == "zett"):
        words = {1: "one matrix for both sides", 2: "a matrix for each side"}
        raise errors.build(
            errors.InvalidValue,
            f"the hypernetwork makes rows of {width} numbers, for a model with {words[sides]}; "
            f"this one has rows of {source.rows.width} and {words[has]}",
            field="hypernet",
            fix="give the model that it was trained for",
        )
    if card.rows and card.rows != len(source.rows) and card.kind == "residual":
        raise errors.build(
            errors.InvalidValue,
            f"the hypernetwork was made for {card.rows} rows, and the model has {len(source.rows)}",
            field="hypernet",
            fix="give the model that it was trained for",
        )
