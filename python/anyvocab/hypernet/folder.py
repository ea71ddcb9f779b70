"""A hypernetwork's own folder: `hypernet.json`, `hypernet.safetensors`, and a card for people.

The description names the digest of the weights and that of the source's vocabulary, and is written
last: a folder without it is no hypernetwork yet. Reading it takes no torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from anyvocab import _core, errors
from anyvocab._save import refuse_existing, sync_folder, write_atomically
from anyvocab._source import read_json
from anyvocab._torch import on_device
from anyvocab.hypernet.readme import readme

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


__all__ = [
    "ENTRIES",
    "MANIFEST",
    "SHIPPED",
    "WEIGHTS",
    "Card",
    "Kind",
    "check_source",
    "find_hypernet",
    "identity",
    "load_network",
    "read_card",
    "save_network",
    "shipped",
]

logger = logging.getLogger(__name__)

Kind = Literal["residual", "zett"]
MANIFEST: Final = "hypernet.json"
WEIGHTS: Final = "hypernet.safetensors"
SHIPPED: Final = "hypernet"  # the folder in a model's folder that holds its hypernetwork
FORMAT_VERSION: Final = 1
BLOCK: Final = 16 << 20  # bytes that are hashed at once
_CONFIG = "config.json"  # of a released ZeTT folder
ENTRIES: Final = frozenset(
    {
        "anyvocab_version",
        "config",
        "files",
        "format_version",
        "kind",
        "measured",
        "model",
        "rows",
        "source_digest",
        "trained",
    }
)


@dataclass(frozen=True)
class Card:
    """What a hypernetwork is.

    Attributes:
        kind: `residual`, or `zett`: the graph of the released checkpoints.
        config: The network's shape.
        model: The name of the model that it was made for.
        source_digest: :func:`anyvocab.transplant.files.vocabulary_digest` of that model's
            vocabulary; None where nothing says so.
        rows: Rows of the model's matrices; a piece of id `rows + b` is the network's own row.
        trained: On what, and for how long; empty for a network that was not trained.
        measured: Measurements on held-out text, in their order.
        version: The anyvocab that wrote it.
    """

    kind: Kind
    config: Mapping[str, Any]
    model: str = ""
    source_digest: str | None = None
    rows: int = 0
    trained: Mapping[str, Any] = field(default_factory=dict)
    measured: tuple[Mapping[str, Any], ...] = ()
    version: str = _core.__version__

    @property
    def tied(self) -> bool:
        """Whether it predicts one row for both sides of a token."""
        return bool(self.config.get("tied", False))

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages it tells apart."""
        return tuple(self.config.get("languages", ()))

    def to_dict(self) -> dict[str, Any]:
        """Return what `hypernet.json` says of it."""
        return {
            "anyvocab_version": self.version,
            "config": dict(self.config),
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "measured": [dict(one) for one in self.measured],
            "model": self.model,
            "rows": self.rows,
            "source_digest": self.source_digest,
            "trained": dict(self.trained),
        }


def shipped(model: Path) -> Path | None:
    """Return the folder of the hypernetwork beside a model's weights, or None."""
    place = model / SHIPPED
    return place if (place / MANIFEST).is_file() else None


def find_hypernet(place: str | os.PathLike[str]) -> Path:
    """Return the folder of a hypernetwork: itself, or the one shipped with a model.

    Args:
        place: A hypernetwork's folder, a released ZeTT folder, a model's folder with a
            hypernetwork in it, or `pico:NAME`.

    Raises:
        SourceNotFound: There is no hypernetwork.
    """
    from anyvocab.evaluate.models import find_folder

    text = os.fsdecode(place)
    folder = find_folder(text) if text.startswith("pico:") else Path(text)
    if (folder / MANIFEST).is_file():
        return folder
    inside = shipped(folder)
    if inside is not None:
        return inside
    if (folder / _CONFIG).is_file() and _is_released(folder):
        return folder
    what = "no model of this name has one" if text.startswith("pico:") else "there is none"
    raise errors.build(
        errors.SourceNotFound,
        what if folder.exists() else "there is no such folder",
        field="hypernet",
        file=text,
        fix="train one with `anyvocab hypernet train MODEL --corpus FILES`",
    )


def _is_released(folder: Path) -> bool:
    return any(name.startswith("hn_") for name in read_json(folder / _CONFIG))


def read_card(folder: str | os.PathLike[str]) -> Card:
    """Return what a hypernetwork's folder says of it; no weights are read.

    Raises:
        SourceNotFound: There is no hypernetwork in the folder.
        WeightsFormatError: The description is malformed, or of another format.
    """
    place = Path(folder)
    if not (place / MANIFEST).is_file():
        if (place / _CONFIG).is_file() and _is_released(place):
            return _released_card(place)
        raise errors.build(
            errors.SourceNotFound,
            f"there is no {MANIFEST}",
            field="hypernet",
            file=str(place),
            fix="give the folder of a hypernetwork",
        )
    document: Mapping[str, Any] = read_json(place / MANIFEST)
    file = str(place / MANIFEST)
    version, kind = document.get("format_version"), str(document.get("kind"))
    if version != FORMAT_VERSION:
        raise errors.build(
            errors.WeightsFormatError,
            f"a hypernetwork of format {version!r}, this version reads {FORMAT_VERSION}",
            field="format_version",
            file=file,
            fix="train it again, or use the version that wrote it",
        )
    if kind not in get_args(Kind):
        raise errors.build(
            errors.WeightsFormatError,
            f"{kind!r} is no kind of hypernetwork",
            field="kind",
            file=file,
        )
    for name in sorted(set(document) - ENTRIES):
        logger.warning("%s: %s: an unknown entry is not read", file, name)
    config = _typed(document, "config", dict, {}, file)
    found: dict[str, Any] = {
        name: _typed(document, name, type(other), other, file)
        for name, other in (("model", ""), ("rows", 0), ("trained", {}), ("measured", []))
    }
    digest = document.get("source_digest")
    return Card(
        "zett" if kind == "zett" else "residual",
        config,
        found["model"],
        None if digest is None else str(digest),
        found["rows"] or int(config.get("source_rows", 0)),
        found["trained"],
        tuple(one for one in found["measured"] if isinstance(one, dict)),
        str(document.get("anyvocab_version", "")),
    )


def _typed(document: Mapping[str, Any], name: str, kind: type, other: Any, file: str) -> Any:
    value = document.get(name, other)
    if not isinstance(value, kind):
        raise errors.build(
            errors.WeightsFormatError,
            f"must be of type {kind.__name__}, got {type(value).__name__}",
            field=name,
            file=file,
            fix="the file was changed by hand, or is no hypernetwork's",
        )
    return value


def _released_card(place: Path) -> Card:
    """Return the card of a released ZeTT folder, which says little of itself."""
    config: Mapping[str, Any] = read_json(place / _CONFIG)
    told = {
        "tied": not config.get("separate_out_embeddings", False),
        "source_rows": config.get("original_vocab_size", 0),
    }
    return Card("zett", told, str(config.get("_name_or_path", "")), None, told["source_rows"])


def identity(folder: str | os.PathLike[str]) -> str:
    """Return a digest of a hypernetwork: of its description and its weights."""
    place = Path(folder)
    if (place / MANIFEST).is_file():
        names = [MANIFEST]
        # The description holds the digest of the weights where this module wrote it.
        if not read_json(place / MANIFEST).get("files"):
            names.append(WEIGHTS)
    else:
        names = [_CONFIG, *sorted(one.name for one in place.glob("*.safetensors"))]
    found = hashlib.sha256()
    for name in names:
        found.update(_file_digest(place / name).encode())
    return found.hexdigest()


def _file_digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()


def save_network(
    network: Module,
    card: Card,
    folder: str | os.PathLike[str],
    *,
    existing: Literal["refuse", "replace"] = "refuse",
) -> Path:
    """Write a hypernetwork into a folder and return it; the description comes last.

    Args:
        network: The network; its buffers are written, too.
        card: What it is.
        folder: Where to; made when it is missing.
        existing: What becomes of a hypernetwork that is there already.

    Raises:
        OutputExists: One is there, and `existing` is `refuse`.
        NumericsError: A weight is not finite.
    """
    errors.check_choice("existing", existing, ("refuse", "replace"))
    place = Path(folder)
    refuse_existing(place, (MANIFEST, WEIGHTS), existing)
    tensors = {
        name: tensor.detach().to("cpu").contiguous()
        for name, tensor in sorted(network.state_dict().items())
    }
    parameters = {name for name, _ in network.named_parameters()}
    for name, tensor in tensors.items():
        _check_finite(name, tensor, place, strict=name in parameters)
    place.mkdir(parents=True, exist_ok=True)
    (place / MANIFEST).unlink(missing_ok=True)  # until the last file is there, nothing is finished
    _write_tensors(place / WEIGHTS, tensors)
    document = {**card.to_dict(), "files": {WEIGHTS: _file_digest(place / WEIGHTS)}}
    write_atomically(place / "README.md", readme(card).encode())
    text = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    write_atomically(place / MANIFEST, text.encode())
    return place


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        save_file(tensors, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def load_network(
    folder: str | os.PathLike[str],
    *,
    device: str | None = None,
    source_digest: str | None = None,
) -> tuple[Module, Card]:
    """Return the network in a folder, in evaluation mode, and its card.

    Args:
        folder: Of a hypernetwork of either kind, a released ZeTT folder included.
        device: Where it shall live; on the CPU when left out.
        source_digest: The digest of the vocabulary that it is wanted for; not checked when left
            out.

    Raises:
        SourceNotFound: There is no hypernetwork, or its weights are missing.
        WeightsFormatError: A file is malformed, or the files contradict one another.
        NumericsError: A weight is not finite.
        InvalidValue: It was made for another vocabulary; a device is unknown.
    """
    place = Path(folder)
    card = read_card(place)
    check_source(card, source_digest, place)
    if card.kind == "zett":
        from anyvocab.hypernet.zett_files import load_zett

        made = load_zett(place, device=device or "cpu", source_digest=source_digest)
        return made, replace(card, config=made.config.to_dict(), rows=made.config.source_rows)
    return on_device(_load_residual(place, card), device), card


def check_source(card: Card, digest: str | None, place: Path) -> None:
    """Raise where a hypernetwork was made for another vocabulary.

    Raises:
        InvalidValue: It was.
    """
    if digest is not None and card.source_digest is not None and digest != card.source_digest:
        raise errors.build(
            errors.InvalidValue,
            "the hypernetwork was made for another vocabulary"
            + (f", that of {card.model}" if card.model else ""),
            field="hypernet",
            file=str(place),
            fix="a hypernetwork serves the model it was trained for, and what was fine-tuned from "
            "it with the same vocabulary",
        )


def _load_residual(place: Path, card: Card) -> Module:
    import torch
    from safetensors import SafetensorError, safe_open

    from anyvocab.hypernet.network import NetworkConfig, ResidualHypernet

    path = place / WEIGHTS
    if not path.is_file():
        raise errors.build(
            errors.SourceNotFound,
            "the weights are missing",
            field="hypernet",
            file=str(path),
            fix="copy the whole folder",
        )
    files: Any = read_json(place / MANIFEST).get("files")
    stored_digest = files.get(WEIGHTS) if isinstance(files, dict) else None
    if stored_digest is not None and stored_digest != _file_digest(path):
        raise _malformed(f"its digest is not the one in {MANIFEST}", "weights", path)
    network = ResidualHypernet(NetworkConfig.from_dict(dict(card.config)))
    wanted = network.state_dict()
    parameters = {name for name, _ in network.named_parameters()}
    tensors: dict[str, torch.Tensor] = {}
    try:
        with safe_open(path, framework="pt") as stored:
            names = set(stored.keys())
            for name in sorted(names ^ wanted.keys()):
                why = "is missing" if name in wanted else "does not belong to this network"
                raise _malformed(why, name, path)
            for name in sorted(names):
                tensor = stored.get_tensor(name)
                if tensor.shape != wanted[name].shape:
                    found, due = tuple(tensor.shape), tuple(wanted[name].shape)
                    raise _malformed(f"has the shape {found}, and {due} belongs there", name, path)
                _check_finite(name, tensor, path, strict=name in parameters)
                tensors[name] = tensor.to(wanted[name].dtype)
    except (SafetensorError, OSError) as error:
        raise _malformed(str(error), "weights", path) from error
    network.load_state_dict(tensors)
    return network.eval()


def _malformed(found: str, field: str, path: Path) -> errors.WeightsFormatError:
    return errors.build(
        errors.WeightsFormatError, found, field=field, file=str(path), fix="copy the folder again"
    )


def _check_finite(name: str, tensor: Tensor, path: Path, *, strict: bool) -> None:
    """Raise where a number is not finite; a bound of what was seen may be infinite."""
    import torch

    bad = ~torch.isfinite(tensor) if strict else torch.isnan(tensor)
    if bool(bad.any()):
        raise errors.build(
            errors.NumericsError,
            "holds a NaN or an infinity",
            field=name,
            file=str(path),
            fix="take an earlier checkpoint, or copy the folder again",
        )
