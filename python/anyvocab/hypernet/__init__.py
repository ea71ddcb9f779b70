"""Hypernetworks: rows of a new vocabulary, predicted from the rows of the old one.

>>> import anyvocab as av
>>> hasattr(av.Hypernet, "predict")
True

Importing this package loads no torch: networks are imported when one is loaded or trained.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from anyvocab.hypernet.folder import Card
    from anyvocab.hypernet.predict import Dtype, Predictions, SourceModel

__all__ = ["Hypernet"]


@dataclass(frozen=True, eq=False)
class Hypernet:
    """A network that predicts the rows of any tokenizer's tokens, for one model.

    Attributes:
        network: The torch module.
        card: What it is: its kind, its shape, its model, what it was trained on.
        folder: Where it was loaded from; None for one that was made in memory.
    """

    network: Any = field(repr=False)
    card: Card
    folder: Path | None = None

    @classmethod
    def load(
        cls,
        place: str | os.PathLike[str],
        *,
        device: str | None = None,
        source_digest: str | None = None,
    ) -> Hypernet:
        """Return a hypernetwork of a folder.

        Args:
            place: What :func:`anyvocab.hypernet.folder.find_hypernet` takes: a hypernetwork's
                folder, a released ZeTT folder, a model's folder with one in it, or `pico:NAME`.
            device: Where it shall live; on the CPU when left out.
            source_digest: The digest of the vocabulary it is wanted for; not checked when left
                out.

        Raises:
            SourceNotFound: There is no hypernetwork.
            WeightsFormatError: A file is malformed, or files contradict one another.
            NumericsError: A weight is not finite.
            InvalidValue: It was made for another vocabulary.
        """
        from anyvocab._torch import import_torch
        from anyvocab.hypernet.folder import find_hypernet, load_network

        import_torch()
        folder = find_hypernet(place)
        network, card = load_network(folder, device=device, source_digest=source_digest)
        return cls(network, card, folder)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        existing: Literal["refuse", "replace"] = "refuse",
    ) -> Path:
        """Write the hypernetwork into a folder and return it.

        Raises:
            OutputExists: One is there, and `existing` is `refuse`.
            NumericsError: A weight is not finite.
        """
        from anyvocab.hypernet.folder import save_network

        return save_network(self.network, self.card, folder, existing=existing)

    @classmethod
    def fit(
        cls,
        model: str | os.PathLike[str],
        corpus: Any,
        out: str | os.PathLike[str],
        **options: Any,
    ) -> Hypernet:
        """Train a hypernetwork for a model, and return it as its folder holds it.

        Args:
            model: A folder, a hub id, or `pico:NAME`.
            corpus: What :func:`anyvocab.count` takes.
            out: The folder.
            options: The other arguments of :func:`anyvocab.hypernet.training.fit`.
        """
        from anyvocab.hypernet.training import fit

        fit(model, corpus, out, **options)
        return cls.load(out)

    def predict(
        self,
        tokenizer: object,
        model: str | os.PathLike[str] | SourceModel | None = None,
        *,
        language: str | None = None,
        device: str | None = None,
        dtype: Dtype = "float32",
        chunk_bytes: int | None = None,
    ) -> Predictions:
        """Return the rows of a tokenizer's text tokens, to be read in chunks.

        Control tokens, holes and unused ids have no bytes to predict from, and get no row: a swap
        gives them theirs by role. Peak memory is the source's matrices, the network and a chunk;
        what keeps the rows needs the new matrices beside it.

        Args:
            tokenizer: Anything :meth:`anyvocab.Tokenizer.load` takes.
            model: The model whose rows are read: a folder, a hub id, `pico:NAME`, or a
                :class:`anyvocab.hypernet.predict.SourceModel`; the card's when left out. A model
                that was fine-tuned from it will do, too, if its vocabulary is the same.
            language: For a network that tells languages apart.
            device: Where the network runs; where it was loaded to when left out.
            dtype: Of the network's products.
            chunk_bytes: How much the network may hold of the tokens that it is at.

        Returns:
            Predictions; `.ids` says which target ids, and iterating gives places in it and rows.

        Raises:
            InvalidValue: The model's vocabulary or matrices are not those of the hypernetwork's.
        """
        from anyvocab.hypernet.folder import check_source
        from anyvocab.hypernet.predict import CHUNK_BYTES, Predictions, SourceModel, text_ids
        from anyvocab.tokenizer import Tokenizer
        from anyvocab.transplant.files import vocabulary_digest
        from anyvocab.transplant.identity import token_table

        target = Tokenizer.load(tokenizer)
        source = model if isinstance(model, SourceModel) else SourceModel.open(self._model(model))
        place = Path() if self.folder is None else self.folder
        check_source(self.card, vocabulary_digest(source.tokenizer.vocabulary), place)
        ids, table = text_ids(target), token_table(target.vocabulary)
        return Predictions(
            self.network,
            self.card,
            source,
            [table[id] or b"" for id in ids.tolist()],
            ids=ids,
            folder=self.folder,
            language=language,
            device=device,
            dtype=dtype,
            chunk_bytes=CHUNK_BYTES if chunk_bytes is None else chunk_bytes,
        )

    def _model(self, model: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
        from anyvocab import errors

        if model is not None:
            return model
        inside = None if self.folder is None else self.folder.resolve().parent
        if inside is not None and (inside / "config.json").is_file():  # it lies in its model's
            return inside
        if self.card.model:
            return self.card.model
        raise errors.build(
            errors.InvalidValue,
            "the hypernetwork does not say which model it is for",
            field="model",
            fix="give the model's folder",
        )
