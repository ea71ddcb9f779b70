"""Writing a tokenizer: stock files, each one whole or not there, the manifest last."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anyvocab import _core, errors

if TYPE_CHECKING:
    from anyvocab.roles import Declarations
    from anyvocab.tokenizer import Tokenizer

__all__ = ["MANIFEST", "check_place", "save"]

MANIFEST = "anyvocab.json"
FORMAT_VERSION = 1
TOKENIZER_CLASS = "PreTrainedTokenizerFast"

# transformers has a `<role>_token` for these.
_NAMED_ROLES = ("bos", "eos", "pad", "unk", "cls", "sep", "mask")
# What a configuration says about a model's use of its tokenizer; the rest described the old files.
_KEPT = ("model_max_length", "padding_side", "truncation_side", "model_input_names")
# Beside a new tokenizer.json these would still describe another tokenizer, and some loaders read
# them first.
_CONTRADICTING = (
    "added_tokens.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
)


def save(
    tokenizer: Tokenizer,
    declarations: Declarations,
    folder: str | os.PathLike[str],
    *,
    existing: Literal["refuse", "replace"],
) -> Path:
    """Write `tokenizer` into `folder` and return it; see :meth:`anyvocab.Tokenizer.save`."""
    if existing not in {"refuse", "replace"}:
        raise errors.build(
            errors.InvalidValue,
            f"{existing!r} is no choice",
            field="existing",
            fix='use "refuse" or "replace"',
        )
    files = _files(tokenizer, declarations)
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    _check(path, [*files, MANIFEST], existing)
    (path / MANIFEST).unlink(missing_ok=True)  # until the last file is there, nothing is finished
    for name, data in files.items():
        write_atomically(path / name, data)
    write_atomically(path / MANIFEST, _manifest(tokenizer, files))
    return path


def check_place(
    folder: str | os.PathLike[str], *, existing: Literal["refuse", "replace"] = "refuse"
) -> None:
    """Refuse a folder that a tokenizer cannot be written into, before hours of work are lost on it.

    Raises:
        OutputExists: It holds what would be overwritten, or would contradict.
    """
    _check(Path(folder), ["tokenizer.json", "tokenizer_config.json", MANIFEST], existing)


def refuse_existing(folder: Path, names: Sequence[str], existing: str) -> None:
    """Refuse a folder that holds what would be written, unless it may be replaced.

    Raises:
        OutputExists: It does, and `existing` is `refuse`.
    """
    there = [name for name in names if (folder / name).exists()]
    if there and existing == "refuse":
        raise errors.build(
            errors.OutputExists,
            f"the folder already holds {', '.join(there)}",
            field="folder",
            file=str(folder),
            fix='save into another folder, or use existing="replace"',
        )


def _check(folder: Path, names: Sequence[str], existing: str) -> None:
    refuse_existing(folder, names, existing)
    contradicting = [name for name in _CONTRADICTING if (folder / name).exists()]
    if contradicting:
        raise errors.build(
            errors.OutputExists,
            f"{', '.join(contradicting)} in the folder would contradict the new tokenizer",
            field="folder",
            file=str(folder),
            fix="save into another folder, or move these files away",
        )


def _files(tokenizer: Tokenizer, declarations: Declarations) -> dict[str, bytes]:
    files = {
        "tokenizer.json": tokenizer.to_json(),
        "tokenizer_config.json": _json(_config(tokenizer, declarations)),
    }
    template = tokenizer.chat_template
    if template is not None:
        files["chat_template.jinja"] = template.encode("utf-8", "surrogatepass")
    for name, text in declarations.chat_templates.items():
        # A name from a file may not lead out of the folder.
        if name != "default" and name.replace("_", "").replace("-", "").isalnum():
            place = f"additional_chat_templates/{name}.jinja"
            files[place] = text.encode("utf-8", "surrogatepass")
    return files


def _config(tokenizer: Tokenizer, declarations: Declarations) -> dict[str, object]:
    vocabulary = tokenizer.vocabulary
    config: dict[str, object] = {
        key: declarations.tokenizer_config[key]
        for key in _KEPT
        if key in declarations.tokenizer_config
    }
    for key in ("additional_special_tokens", "extra_special_tokens"):
        value = declarations.tokenizer_config.get(key)
        if value and _names_tokens(tokenizer, value):
            config[key] = value
    config["tokenizer_class"] = TOKENIZER_CLASS
    config["clean_up_tokenization_spaces"] = False
    for role in _NAMED_ROLES:
        ids = _declared_ids(tokenizer, role)
        spelling = vocabulary.spelling(ids[0]) if ids else None
        if spelling is not None:
            config[f"{role}_token"] = spelling.decode("utf-8", "replace")
    config["added_tokens_decoder"] = {
        str(token.id): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for token in sorted(vocabulary.added_tokens())
    }
    return config


def _names_tokens(tokenizer: Tokenizer, value: object) -> bool:
    """Whether a list or object of special tokens names only tokens that exist."""
    known = {token.content for token in tokenizer.vocabulary.added_tokens()}
    tokens = value.values() if isinstance(value, dict) else value
    if not isinstance(tokens, Iterable):
        return False
    return all((t.get("content") if isinstance(t, dict) else t) in known for t in tokens)


def _declared_ids(tokenizer: Tokenizer, role: str) -> list[int]:
    """Return the ids of a role, what names a tokenizer's own token first.

    `generation_config.json` lists where generation stops; its first eos need not be the eos token
    that `tokenizer_config.json` names, and a guess from the spelling is not written down as fact.
    """
    records = [r for r in tokenizer.vocabulary.roles if r.role == role and r.source != "spelling"]
    own = ("tokenizer_config.json", "special_tokens_map.json")
    records.sort(key=lambda record: not record.source.startswith(own))  # stable: else best first
    return [record.id for record in records]


def _manifest(tokenizer: Tokenizer, files: dict[str, bytes]) -> bytes:
    return _json(
        {
            "anyvocab_version": _core.__version__,
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
            "format_version": FORMAT_VERSION,
            "kind": "tokenizer",
            "read_from": tokenizer.format,
            "tokens": len(tokenizer.vocabulary),
        }
    )


def _json(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode(
        "utf-8", "surrogatepass"
    )


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file beside its place, flush it to the disk and rename it.

    Another process sees the old file or the new one. On failure the old one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a rename to the disk, where the system can (Windows cannot open a folder)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
