"""Auxiliary vectors from a text encoder in a local folder, or from any callable.

An encoder reads text, and tokens are bytes. Bytes that are not UTF-8 are spelled `<0xE4>`, and so
is the `<` of a literal `<0x`: no two byte strings have the same spelling, none is lost in U+FFFD.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab import errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.transplant.context import Encoder

__all__ = ["CachedEncoder", "FolderEncoder", "load_encoder", "spell"]

BATCH_TOKENS = 8192
LONGEST_TEXT = 512  # in ids of the encoder; tokens are far shorter
CONFIG = "config.json"


def spell(token: bytes) -> str:
    r"""Return text that an encoder can read and that no other byte string is spelled as.

    >>> spell(b" caf\xc3"), spell(" café".encode()), spell(b"<0xC3>")
    (' caf<0xC3>', ' café', '<0x3C>0xC3>')
    """
    text = token.replace(b"<0x", b"<0x3C>0x").decode("utf-8", "surrogateescape")
    return "".join(
        f"<0x{ord(one) - 0xDC00:02X}>" if 0xDC80 <= ord(one) <= 0xDCFF else one for one in text
    )


def load_encoder(
    folder: str | os.PathLike[str], *, cache: str | os.PathLike[str] | None = None
) -> CachedEncoder:
    """Return the encoder of a sentence-transformers or transformers folder.

    Args:
        folder: With a configuration, a tokenizer and safetensors weights.
        cache: A folder where vectors are kept for the next run; memory only when left out.

    Raises:
        SourceNotFound: There is no model.
        UnsupportedWeights: It needs code of its own or pickled weights.
        MissingExtra: transformers is not installed.
    """
    encoder = FolderEncoder(Path(folder))
    return CachedEncoder(encoder, cache=cache, digest=encoder.digest() if cache else "")


class FolderEncoder:
    """Byte strings to the masked mean of an encoder's last hidden states, float32 (n, E)."""

    def __init__(self, folder: Path) -> None:
        """Load the model; errors as for :func:`load_encoder`."""
        self.folder = _transformer_folder(folder)
        try:
            from transformers import AutoModel, AutoTokenizer
        except ModuleNotFoundError as error:
            found = "an encoder folder needs transformers"
            raise errors.missing_extra(found, field="encoder") from error
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(str(self.folder), **options)
            self.model = AutoModel.from_pretrained(
                str(self.folder), use_safetensors=True, **options
            ).eval()
        except (OSError, ValueError) as error:
            raise errors.build(
                errors.UnsupportedWeights,
                f"cannot be loaded without remote code and pickles: {error}",
                field="encoder",
                file=str(folder),
                fix="use an encoder of an architecture that transformers knows, in safetensors",
            ) from error

    def digest(self) -> str:
        """Return a digest of every file that the vectors depend on."""
        found = hashlib.sha256()
        for path in sorted(self.folder.iterdir()):
            if path.suffix in {".json", ".safetensors", ".model", ".txt"}:
                found.update(path.name.encode() + b"\0")
                with path.open("rb") as file:
                    found.update(hashlib.file_digest(file, "sha256").digest())
        return found.hexdigest()

    def __call__(self, keys: Sequence[bytes]) -> NDArray[np.float32]:
        """Return the vectors; a key's does not depend on the others beyond rounding.

        Texts of the same number of ids go together, so none is padded.
        """
        import torch

        rows = self.tokenizer(
            [spell(key) for key in keys], truncation=True, max_length=LONGEST_TEXT
        )["input_ids"]
        by_length: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            by_length.setdefault(len(row), []).append(i)
        vectors = np.zeros((len(keys), int(self.model.config.hidden_size)), dtype=np.float32)
        for length, members in sorted(by_length.items()):
            if not length:  # nothing is left of the text: no vector
                continue
            step = max(1, BATCH_TOKENS // length)
            for start in range(0, len(members), step):
                chosen = members[start : start + step]
                ids = torch.tensor([rows[i] for i in chosen])  # (n, length)
                with torch.inference_mode():
                    hidden = self.model(
                        input_ids=ids, attention_mask=torch.ones_like(ids)
                    ).last_hidden_state  # (n, length, E)
                vectors[chosen] = hidden.float().mean(dim=1).numpy()
        return vectors


class CachedEncoder:
    """An encoder that is asked for every byte string once."""

    def __init__(
        self, encoder: Encoder, *, cache: str | os.PathLike[str] | None = None, digest: str = ""
    ) -> None:
        """Wrap an encoder.

        Args:
            encoder: Byte strings to vectors.
            cache: A folder where vectors are kept, as .npy files.
            digest: What tells this encoder from others in that folder.

        Raises:
            InvalidValue: A folder without a digest.
        """
        if cache is not None and not digest:
            raise errors.build(
                errors.InvalidValue,
                "a cache on disk needs a digest of the encoder",
                field="digest",
                fix="give a text that changes when the encoder's vectors do",
            )
        self.encoder, self.digest = encoder, digest
        self.cache = None if cache is None else Path(cache)
        self._row: dict[bytes, int] = {}
        self._parts: list[NDArray[np.float32]] = []

    def __call__(self, keys: Sequence[bytes]) -> NDArray[np.float32]:
        """Return a vector for every byte string, float32 (n, E).

        Raises:
            InvalidValue: The encoder gave another number of vectors, or one that is not finite.
        """
        new = sorted(set(keys) - self._row.keys())
        if new:
            vectors = self._stored(new)
            first = len(self._row)
            self._row |= {key: first + i for i, key in enumerate(new)}
            self._parts = [np.concatenate([*self._parts, vectors])]
        if not self._parts:
            return np.zeros((0, 0), dtype=np.float32)
        return self._parts[0][[self._row[key] for key in keys]]

    def _stored(self, keys: list[bytes]) -> NDArray[np.float32]:
        if self.cache is None:
            return self._made(keys)
        name = hashlib.sha256(self.digest.encode())
        for key in keys:
            name.update(len(key).to_bytes(8, "little") + key)
        path = self.cache / f"{name.hexdigest()}.npy"
        if path.is_file():
            held: NDArray[np.float32] = np.load(path, allow_pickle=False)
            if held.ndim == 2 and len(held) == len(keys) and held.dtype == np.float32:
                return held
        vectors = self._made(keys)
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.cache, suffix=".part", delete=False) as file:
            np.save(file, vectors, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
        return vectors

    def _made(self, keys: list[bytes]) -> NDArray[np.float32]:
        vectors = np.asarray(self.encoder(keys), dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(keys):
            raise errors.build(
                errors.InvalidValue,
                f"gave shape {vectors.shape} for {len(keys)} byte strings",
                field="encoder",
                fix="return one row for each",
            )
        if not np.isfinite(vectors).all():
            bad = keys[int(np.argmin(np.isfinite(vectors).all(axis=1)))]
            raise errors.build(
                errors.InvalidValue, f"the vector of {bad!r} is not finite", field="encoder"
            )
        return vectors


def _transformer_folder(folder: Path) -> Path:
    """Return where the transformer of a sentence-transformers folder lies: often the folder."""
    modules = folder / "modules.json"
    if modules.is_file():
        for module in json.loads(modules.read_bytes()):
            if str(module.get("type", "")).endswith("Transformer"):
                inner = (folder / str(module.get("path", ""))).resolve()
                if not inner.is_relative_to(folder.resolve()):
                    raise errors.build(
                        errors.UnsupportedWeights,
                        f"{module['path']!r} lies outside the folder",
                        field="path",
                        file=str(modules),
                    )
                folder = inner
                break
    if not (folder / CONFIG).is_file():
        raise errors.build(
            errors.SourceNotFound,
            f"there is no {CONFIG}",
            field="encoder",
            file=str(folder),
            fix="give a local folder of a sentence-transformers or transformers model",
        )
    return folder
