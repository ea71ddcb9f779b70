"""Folders of ZeTT hypernetworks: those that were released, and this library's own.

A released folder holds `config.json`, whose `hn_` entries are the hypernetwork's and whose others
are left over from the source model, `model.safetensors` (whole or in shards) and the rewritten
tokenizer. An own folder holds `hypernet.json` and `hypernet.safetensors`. No code of a folder is
run, nothing is unpickled.

The five released hypernetworks (XLM-R, Mistral-7B twice, TinyLlama, Llama-3-8B) differ in their
sizes, in whether sides are tied and whether languages are told apart. Every other switch of the
authors' code has one value in all of them, and a folder with another value is refused by name.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor

from anyvocab import _core, errors
from anyvocab._safetensors import INDEX, SINGLE, Header, HeaderError, read_header, read_index
from anyvocab._save import refuse_existing, sync_folder, write_atomically
from anyvocab._source import read_json
from anyvocab.hypernet.folder import ENTRIES
from anyvocab.hypernet.zett import ZettConfig, ZettHypernet
from anyvocab.hypernet.zett_pieces import ZettTokenizer

__all__ = ["MANIFEST", "WEIGHTS", "load_zett", "save_zett"]

logger = logging.getLogger(__name__)

MANIFEST: Final = "hypernet.json"
WEIGHTS: Final = "hypernet.safetensors"
CONFIG: Final = "config.json"
FORMAT_VERSION: Final = 1
LAYERS_LIMIT: Final = 1024

# What every release has in its configuration, the authors' default, and what another value means.
_SWITCHES: Final[tuple[tuple[str, object, object, str], ...]] = (
    ("hn_model_type", "roberta", "roberta", "layers that are not RoBERTa's"),
    ("hn_model_name_or_path", "roberta-base", "roberta-base", "layers that are not roberta-base's"),
    ("hn_embed_using_source_embeddings", True, False, "pieces with embeddings of their own"),
    ("hn_rescale_embeddings", True, False, "rows that are not rescaled"),
    ("hn_add_inter_token_attention", False, False, "inter-token attention"),
    ("hn_embed_target_priors", False, False, "embedded unigram probabilities"),
    ("hn_concat_last_hidden_state", False, False, "heads that read every position"),
    ("hn_single_head", False, False, "one head for both sides"),
    ("hn_language_adapter_bottleneck_dim", 0, 0, "adapters for languages"),
)
# In released files, and read by nothing: RoBERTa's own token table (2 GB of Llama-3's), buffers.
_UNREAD: Final = frozenset(
    f"model.embeddings.{name}"
    for name in ("word_embeddings.weight", "position_ids", "token_type_ids")
)
_POSITION_TABLE: Final = "model.embeddings.position_embeddings.weight"
_LFS: Final = b"version https://git-lfs"


def load_zett(
    folder: str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    source_digest: str | None = None,
) -> ZettHypernet:
    """Return the hypernetwork in a folder, in evaluation mode.

    Memory is about its weights once; they are read tensor by tensor.

    Args:
        folder: A released folder, or one that :func:`save_zett` wrote.
        dtype: The type to run in; that of the file when left out.
        device: Where it shall live.
        source_digest: The digest of the source's vocabulary. An own folder that names another one
            is refused; a released one names none.

    Raises:
        SourceNotFound: There is no hypernetwork in the folder, or a shard is missing.
        UnsupportedHypernet: It is of a kind that no release is of; the message names it.
        UnsupportedWeights: The weights are pickled, or a flax file; the message says how to convert
            it.
        WeightsFormatError: A file is malformed, or files contradict one another.
        NumericsError: A weight is not finite.
        InvalidValue: It was made for another source.
    """
    place = Path(folder)
    if (place / MANIFEST).is_file():
        headers = {WEIGHTS: _header(place / WEIGHTS)}
        config = _own_config(place, source_digest)
    elif (place / CONFIG).is_file():
        headers = _shards(place)
        config = _released_config(place / CONFIG, headers)
    else:
        raise errors.build(
            errors.SourceNotFound,
            f"there is neither {MANIFEST} nor {CONFIG}",
            field="folder",
            file=str(place),
            fix="give the folder of a hypernetwork",
        )
    with torch.device("meta"):
        network = ZettHypernet(config)
    _check_names(place, network, headers)
    network.load_state_dict(_tensors(place, network, headers, dtype, device), assign=True)
    return network.eval()


def save_zett(
    network: ZettHypernet,
    folder: str | os.PathLike[str],
    *,
    tokenizer: ZettTokenizer | None = None,
    model: str = "",
    source_digest: str | None = None,
    form: Literal["anyvocab", "released"] = "anyvocab",
    existing: Literal["refuse", "replace"] = "refuse",
) -> Path:
    """Write a hypernetwork into a folder and return it; the description comes last.

    Args:
        network: The hypernetwork.
        folder: Where to; made when it is missing.
        tokenizer: The rewritten tokenizer, kept as `tokenizer.json`.
        model: The name of the source model.
        source_digest: The digest of its vocabulary; the released form has no place for it.
        form: Whose layout.
        existing: What becomes of a hypernetwork that is there already.

    Raises:
        OutputExists: One is there, and `existing` is `refuse`.
        InvalidValue: A choice is none.
    """
    errors.check_choice("form", form, ("anyvocab", "released"))
    errors.check_choice("existing", existing, ("refuse", "replace"))
    place = Path(folder)
    own = form == "anyvocab"
    description, weights = (MANIFEST, WEIGHTS) if own else (CONFIG, SINGLE)
    files = [MANIFEST, CONFIG, weights, *([] if tokenizer is None else ["tokenizer.json"])]
    refuse_existing(place, files, existing)
    place.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, CONFIG):  # until the last file is there, nothing is finished
        (place / name).unlink(missing_ok=True)
    _write_tensors(place / weights, network)
    if tokenizer is not None:
        write_atomically(place / "tokenizer.json", tokenizer.json)
    if own:
        document: dict[str, object] = {
            "anyvocab_version": _core.__version__,
            "config": network.config.to_dict(),
            "format_version": FORMAT_VERSION,
            "kind": "zett",
            "model": model,
            "source_digest": source_digest,
        }
    else:
        document = _released_document(network.config, model)
    text = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    write_atomically(place / description, text.encode())
    return place


def _write_tensors(path: Path, network: ZettHypernet) -> None:
    """Write a file beside its place, flush it to the disk and rename it."""
    from safetensors.torch import save_file

    tensors = {name: one.contiguous().cpu() for name, one in network.state_dict().items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        save_file(tensors, temporary, metadata={"format": "pt"})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _own_config(place: Path, source_digest: str | None) -> ZettConfig:
    """Return what the manifest of an own folder says."""
    document, file = read_json(place / MANIFEST), str(place / MANIFEST)
    if document.get("format_version") != FORMAT_VERSION:
        raise errors.build(
            errors.WeightsFormatError,
            f"a hypernetwork of format {document.get('format_version')!r}, this version reads "
            f"{FORMAT_VERSION}",
            field="format_version",
            file=file,
        )
    if document.get("kind") != "zett":
        raise errors.build(
            errors.WeightsFormatError,
            f"a hypernetwork of kind {document.get('kind')!r}",
            field="kind",
            file=file,
            fix="load it with anyvocab.Hypernet",
        )
    for name in sorted(set(document) - ENTRIES):
        logger.warning("%s: %s: an unknown entry is not read", file, name)
    stored = document.get("source_digest")
    if source_digest is not None and stored is not None and stored != source_digest:
        raise errors.build(
            errors.InvalidValue,
            "the hypernetwork was made for another source vocabulary",
            field="source_digest",
            file=file,
            fix="give the model that it was trained for",
        )
    found = document.get("config")
    return _checked(found if isinstance(found, dict) else {}, file)


def _checked(found: dict[str, Any], file: str) -> ZettConfig:
    """Return a config, an error in it as one of its file."""
    try:
        config = ZettConfig.from_dict(found)
        if config.layers > LAYERS_LIMIT:
            raise errors.build(errors.InvalidValue, f"over {LAYERS_LIMIT}", field="layers")
    except errors.InvalidValue as error:
        raise errors.build(
            errors.WeightsFormatError, f"({error})", field="config", file=file
        ) from error
    return config


def _released_config(path: Path, headers: Mapping[str, Header]) -> ZettConfig:
    """Return what a released config.json says; only `hn_` entries speak of the hypernetwork."""
    document, file = read_json(path), str(path)
    for name, wanted, default, meaning in _SWITCHES:
        value = document.get(name, default)
        if type(value) is not type(wanted) or value != wanted:
            raise errors.build(
                errors.UnsupportedHypernet,
                f"{meaning} ({value!r}; every released hypernetwork has {wanted!r})",
                field=name,
                file=file,
                fix="use a released hypernetwork, or train one with anyvocab",
            )
    positions = [
        header.entries[_POSITION_TABLE].shape[0]
        for header in headers.values()
        if header.entries.get(_POSITION_TABLE) is not None and header.entries[_POSITION_TABLE].shape
    ]
    found = {
        "width": document.get("n_embd"),
        "tied": not document.get("separate_out_embeddings", False),
        "source_rows": document.get("original_vocab_size"),
        "pad_id": document.get("pad_token_id"),
        "hidden": document.get("hn_hidden_size"),
        "inner": document.get("hn_intermediate_size"),
        "heads": document.get("hn_num_attention_heads") or 0,
        "layers": document.get("hn_n_layers", 3),
        "extra_rows": document.get("hn_n_extra_tokens"),
        "max_pieces": document.get("hn_surface_maxlen"),
        "bias": document.get("hn_predict_bias", True) is True,
        "languages": list(_languages(document, file)),
        "positions": positions[0] if positions else 1,
    }
    return _checked(found, file)


def _languages(document: Mapping[str, object], file: str) -> tuple[str, ...]:
    """Return the names of languages: `langs`, or numbers where they were not kept."""
    if document.get("hn_embed_lang_id", False) is not True:
        return ()
    count, names = document.get("n_langs"), document.get("langs")
    if names is None and type(count) is int and 0 < count <= 1 << 16:
        return tuple(map(str, range(count)))
    if (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and len(names) == count
        and len({*names}) == count
    ):
        return tuple(names)
    raise errors.build(
        errors.WeightsFormatError,
        f"no list of {count!r} different names",
        field="langs",
        file=file,
        fix="repair the file, or take `langs` out and use numbers",
    )


def _released_document(config: ZettConfig, model: str) -> dict[str, object]:
    """Return the config.json of the released form."""
    return {
        **{name: wanted for name, wanted, _, _ in _SWITCHES},
        "_name_or_path": model,
        "architectures": ["ZettHypernet"],
        "hn_embed_lang_id": bool(config.languages),
        "hn_hidden_size": config.hidden,
        "hn_intermediate_size": config.inner,
        "hn_n_extra_tokens": config.extra_rows,
        "hn_n_layers": config.layers,
        "hn_num_attention_heads": config.heads,
        "hn_predict_bias": config.bias,
        "hn_surface_maxlen": config.max_pieces,
        "langs": list(config.languages),
        "model_type": "zett_hypernetwork",
        "n_embd": config.width,
        "n_langs": len(config.languages),
        "original_vocab_size": config.source_rows,
        "pad_token_id": config.pad_id,
        "separate_out_embeddings": not config.tied,
    }


def _header(path: Path) -> Header:
    """Return what a file of weights holds."""
    if not path.is_file():
        raise errors.build(
            errors.SourceNotFound,
            f"there is no {path.name}",
            field="weights",
            file=str(path.parent),
            fix="download the whole folder",
        )
    with path.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise errors.build(
                errors.WeightsFormatError,
                "a pointer of git-lfs, not the file itself",
                field="weights",
                file=str(path),
                fix="run `git lfs pull` in the folder",
            )
    try:
        return read_header(path)
    except HeaderError as error:
        raise errors.build(
            errors.WeightsFormatError, str(error), field="header", file=str(path)
        ) from error


def _shards(place: Path) -> dict[str, Header]:
    """Return file name to contents of a released folder's weights."""
    if (place / SINGLE).is_file():
        return {SINGLE: _header(place / SINGLE)}
    if (place / INDEX).is_file():
        try:
            index = read_index(place / INDEX)
        except HeaderError as error:
            raise errors.build(
                errors.WeightsFormatError, str(error), field="index", file=str(place / INDEX)
            ) from error
        if index.outside:
            raise errors.build(
                errors.WeightsFormatError,
                f"names {index.outside[0]!r}, a file outside the folder",
                field="weight_map",
                file=str(place / INDEX),
            )
        return {file: _header(place / file) for file in sorted({*index.files.values()})}
    if (place / "flax_model.msgpack").is_file():
        raise errors.build(
            errors.UnsupportedWeights,
            "the weights are there as a flax file only",
            field="flax_model.msgpack",
            file=str(place),
            fix="take the model.safetensors of the same release, or write one with "
            "scripts/convert_to_pt.py of the authors' repository (bminixhofer/zett)",
        )
    pickles = sorted(path.name for kind in ("*.bin", "*.pt", "*.pth") for path in place.glob(kind))
    if pickles:
        raise errors.build(
            errors.UnsupportedWeights,
            "the weights are pickled, and loading a pickle can run code",
            field=pickles[0],
            file=str(place),
            fix="take the model.safetensors of the release, or save the model as safetensors",
        )
    raise errors.build(
        errors.SourceNotFound,
        f"there is no {SINGLE}",
        field="weights",
        file=str(place),
        fix="download the whole folder",
    )


def _check_names(place: Path, network: ZettHypernet, headers: Mapping[str, Header]) -> None:
    """Refuse tensors that are missing, too many, there twice, or of another shape."""
    wanted = {name: tuple(one.shape) for name, one in network.state_dict().items()}
    found: dict[str, tuple[int, ...]] = {}
    problem, name = "", ""
    for file, header in headers.items():
        for name, entry in header.entries.items():
            if name in found:
                problem = f"stands in {file}, too"
            elif name not in wanted and name not in _UNREAD:
                problem = "no such tensor belongs to this hypernetwork"
            elif name in wanted and entry.shape != wanted[name]:
                problem = f"has the shape {entry.shape}, and {wanted[name]} belongs there"
            elif name in wanted and entry.dtype not in {"F64", "F32", "F16", "BF16"}:
                problem = f"is of type {entry.dtype}"
            if problem:
                raise errors.build(
                    errors.WeightsFormatError, problem, field=name, file=str(place / file)
                )
            found[name] = entry.shape
    missing = [name for name in wanted if name not in found]
    if missing:
        raise errors.build(
            errors.WeightsFormatError,
            f"{len(missing)} tensors are missing",
            field=missing[0],
            file=str(place),
            fix="download the whole folder; config.json must be of the same release",
        )


def _tensors(
    place: Path,
    network: ZettHypernet,
    headers: Mapping[str, Header],
    dtype: torch.dtype | None,
    device: str | torch.device,
) -> dict[str, Tensor]:
    """Return every tensor of the network, finite."""
    from safetensors import safe_open

    wanted = set(network.state_dict())
    found: dict[str, Tensor] = {}
    for file, header in headers.items():
        with safe_open(place / file, framework="pt") as stored:
            for name in header.entries:
                if name not in wanted:
                    continue
                tensor = stored.get_tensor(name)
                if not bool(torch.isfinite(tensor).all()):
                    raise errors.build(
                        errors.NumericsError,
                        "holds a NaN or an infinity",
                        field=name,
                        file=str(place / file),
                        fix="download the file again",
                    )
                found[name] = tensor.to(device=device, dtype=dtype)
    return found
