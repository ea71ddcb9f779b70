"""Where a tokenizer comes from: folders, files, hub ids, pico models, objects, bytes.

Everything ends as a `Source`: the bytes of one tokenizer file, its format, and what stands beside
it. A file's format is read from its contents; its name decides only when the contents do not.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from anyvocab import errors
from anyvocab.roles import Declarations

__all__ = ["FILE_LIMIT", "SIDECAR_LIMIT", "Source", "read_source", "sniff"]

FILE_LIMIT: Final = 256 << 20  # bytes: the core's own limit, applied before reading
SIDECAR_LIMIT: Final = 64 << 20  # bytes
GGUF_LIMIT: Final = (
    64 << 20
)  # bytes: the metadata of a GGUF file; the weights behind it stay unread

_PICO = "pico:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_HUB_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "*.tiktoken",
    "tiktoken.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "config.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
# In a folder the first of these that exists is the tokenizer. A pattern must match one file.
_PRECEDENCE = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "*.model",
    "*.tiktoken",
    "*.gguf",
    "rwkv_vocab*.txt",
)
_SUFFIXES = {
    ".json": "tokenizer.json",
    ".model": "sentencepiece",
    ".tiktoken": "tiktoken",
    ".gguf": "gguf",
    ".rwkv": "rwkv",
    ".txt": "rwkv",
}
_TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/]{2,}={0,2} [0-9]+\r?")
_RWKV_LINE = re.compile(rb"[0-9]+ b?(['\"]).*\1 [0-9]+\r?")
_JSON_START = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\{")


@dataclass(frozen=True)
class Source:
    """A tokenizer's bytes and what stands beside them."""

    data: bytes
    format: str  # as `_core.Tokenizer.from_bytes` names it
    file: str | None = None  # for messages
    name: str = ""  # what the caller would recognise
    declarations: Declarations = field(default_factory=Declarations)
    special_tokens: Mapping[str, int] | None = None  # what stands beside says, for rank files


def sniff(data: bytes) -> str | None:
    """Return the format that a file's contents show, or None when they show none.

    >>> sniff(b"IQ== 0")
    'tiktoken'
    """
    head = data[: 1 << 16]
    if head.startswith(b"GGUF"):
        return "gguf"
    if _JSON_START.match(head):
        return "tokenizer.json"
    first = head.partition(b"\n")[0]
    if _TIKTOKEN_LINE.fullmatch(first):
        return "tiktoken"
    if _RWKV_LINE.fullmatch(first):
        return "rwkv"
    return "sentencepiece" if _is_sentencepiece(data) else None


def _is_sentencepiece(data: bytes) -> bool:
    """Whether a file begins as a SentencePiece model does.

    It is a protobuf whose first field is a piece (field 1, a message), whose first field is its
    text (field 1, a string); the lengths must fit.
    """
    if data[:1] != b"\x0a":
        return False
    outer = _varint(data, 1)
    if outer is None:
        return False
    length, position = outer
    if length > len(data) - position or data[position : position + 1] != b"\x0a":
        return False
    inner = _varint(data, position + 1)
    return inner is not None and inner[0] <= position + length - inner[1]


def _varint(data: bytes, position: int) -> tuple[int, int] | None:
    """Return the number at `position` and where it ends; None when it is cut or over 32 bits."""
    value = 0
    for i, byte in enumerate(data[position : position + 5]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, position + i + 1
    return None


def read_source(source: object, *, revision: str | None = None) -> Source:
    """Return what a caller's `source` stands for.

    Raises:
        SourceNotFound: Nothing is there.
        TokenizerFormatError: A file is malformed or of no known format.
        UnsupportedTokenizer: An object that holds no serialized tokenizer.
        MissingExtra: A hub id without huggingface_hub.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return Source(data, _format_of(data, "", "the given bytes"), name="bytes")
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        if not isinstance(text, str):
            text = os.fsdecode(text)
        return _read_place(text, revision)
    return _read_object(source)


def _read_place(text: str, revision: str | None) -> Source:
    if text.startswith(_PICO):
        return _read_folder(_pico_folder(text), name=text)
    path = Path(text)
    try:
        if path.is_dir():
            return _read_folder(path, name=text)
        if path.is_file():
            return _read_file(path, name=text)
        exists = path.exists()
    except errors.AnyvocabError:  # some of them are OSError or ValueError too
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise errors.build(
            errors.SourceNotFound, f"cannot be read ({error})", field="source", file=text
        ) from error
    if not exists and _HUB_ID.fullmatch(text) and not text.startswith("."):
        return _read_folder(_hub_folder(text, revision), name=text)
    raise errors.build(
        errors.SourceNotFound,
        "neither a file nor a folder" if exists else "no such file, folder or model id",
        field="source",
        file=text,
        fix="give a path, `pico:code-4k`, or a hub id such as `org/name`",
    )


def _pico_folder(text: str) -> Path:
    from anyvocab.pico import names, path

    try:
        return path(text.removeprefix(_PICO))
    except (ValueError, FileNotFoundError) as error:
        raise errors.build(
            errors.SourceNotFound,
            str(error),
            field="source",
            fix="embedded models are " + ", ".join(_PICO + name for name in names()),
        ) from error


def _hub_folder(repository: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise errors.missing_extra(
            f"{repository!r} is no local path, and huggingface_hub is not installed",
            field="source",
            otherwise=", or give a local folder",
        ) from error
    try:
        folder = snapshot_download(repository, revision=revision, allow_patterns=list(_HUB_FILES))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "")
        state = f" (HF_HUB_OFFLINE={offline})" if offline else ""
        reason = str(error).strip().partition("\n")[0]
        raise errors.build(
            errors.SourceNotFound,
            f"{repository!r} is no local path, and the hub did not give it{state}: {reason}",
            field="source",
            fix="check the id and the network; offline, give a local folder or a cached id",
        ) from error
    return Path(folder)


def _read_folder(folder: Path, *, name: str) -> Source:
    path = _tokenizer_file(folder)
    declarations = read_declarations(folder)
    found = _read_file(path, name=name)
    return Source(
        found.data,
        found.format,
        found.file,
        name,
        declarations,
        _added_tokens_decoder(declarations) if found.format == "tiktoken" else None,
    )


def _tokenizer_file(folder: Path) -> Path:
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    for pattern in _PRECEDENCE:
        matches = sorted(path for path in folder.glob(pattern) if path.is_file())
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise errors.build(
                errors.TokenizerFormatError,
                f"several files match {pattern}: {', '.join(path.name for path in matches)}",
                field="source",
                file=str(folder),
                fix="give the path of one of them",
            )
    shown = ", ".join(files[:12]) + (f" and {len(files) - 12} more" if len(files) > 12 else "")
    fix = f"a tokenizer is one of {', '.join(_PRECEDENCE)}"
    if {"vocab.json", "merges.txt"} <= set(files) or "vocab.txt" in files:
        fix = "save it once with transformers (`save_pretrained`), which writes a tokenizer.json"
    elif "tekken.json" in files:
        fix = "tekken.json is not read; give the tokenizer.json of the same model"
    raise errors.build(
        errors.SourceNotFound,
        f"the folder holds no tokenizer; it holds {shown or 'no files'}",
        field="source",
        file=str(folder),
        fix=fix,
    )


def _read_file(path: Path, *, name: str) -> Source:
    with path.open("rb") as file:
        # Model weights follow the metadata of a GGUF file: read the metadata only.
        magic = file.read(4)
        limit = GGUF_LIMIT if magic == b"GGUF" else FILE_LIMIT
        data = magic + file.read(limit + 1 - len(magic))
    if len(data) > limit and magic != b"GGUF":
        raise errors.build(
            errors.LimitExceeded,
            f"over the limit of {limit} bytes",
            field="file size",
            file=str(path),
            fix="a tokenizer file is far smaller: check that this is one",
        )
    return Source(data, _format_of(data, path.suffix, str(path)), str(path), name)


def _format_of(data: bytes, suffix: str, file: str) -> str:
    found = sniff(data) or _SUFFIXES.get(suffix.lower())
    if found is None:
        raise errors.build(
            errors.TokenizerFormatError,
            "the contents are of no known format" if data else "there are no contents",
            field="format",
            file=file,
            fix="known are tokenizer.json, SentencePiece .model, .tiktoken, .gguf, RWKV .txt",
        )
    return found


def read_json(path: Path) -> dict[str, object]:
    """Return the object in a JSON file that stands beside a tokenizer; empty when there is none.

    Raises:
        TokenizerFormatError: It is no JSON object.
        LimitExceeded: It is over `SIDECAR_LIMIT` bytes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(SIDECAR_LIMIT + 1)
    except FileNotFoundError:
        return {}
    if len(data) > SIDECAR_LIMIT:
        raise errors.build(
            errors.LimitExceeded,
            f"over the limit of {SIDECAR_LIMIT} bytes",
            field="file size",
            file=str(path),
        )
    try:
        contents = json.loads(data)
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, huge numbers, deep nesting
        raise errors.build(
            errors.TokenizerFormatError,
            f"no valid JSON ({error})",
            field="document",
            file=str(path),
            fix="repair or remove the file",
        ) from error
    if not isinstance(contents, dict):
        raise errors.build(
            errors.TokenizerFormatError,
            f"a JSON {type(contents).__name__} where an object belongs",
            field="document",
            file=str(path),
            fix="repair or remove the file",
        )
    return contents


def read_declarations(folder: Path) -> Declarations:
    """Return what the files beside a tokenizer say.

    Raises:
        TokenizerFormatError: One of them is malformed.
        LimitExceeded: One of them is too large.
    """
    tokenizer_config = read_json(folder / "tokenizer_config.json")
    templates = templates_of(tokenizer_config.get("chat_template"))
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        templates[path.stem] = _read_text(path)
    if (folder / "chat_template.jinja").is_file():
        templates["default"] = _read_text(folder / "chat_template.jinja")
    return Declarations(
        generation_config=read_json(folder / "generation_config.json"),
        config=read_json(folder / "config.json"),
        tokenizer_config=tokenizer_config,
        special_tokens_map=read_json(folder / "special_tokens_map.json"),
        chat_templates=templates,
    )


def templates_of(value: object) -> dict[str, str]:
    """Return chat templates by name from a configuration's value: text, a list, an object."""
    if isinstance(value, str):
        return {"default": value}
    if isinstance(value, list):
        value = {one.get("name"): one.get("template") for one in value if isinstance(one, dict)}
    if isinstance(value, Mapping):
        return {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, str)}
    return {}


def _read_text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise errors.build(
            errors.TokenizerFormatError,
            f"no valid UTF-8 at byte {error.start}",
            field="document",
            file=str(path),
            fix="repair or remove the file",
        ) from error


def _added_tokens_decoder(declarations: Declarations) -> dict[str, int] | None:
    """Return the special tokens that `tokenizer_config.json` lists for a rank file."""
    listed = declarations.tokenizer_config.get("added_tokens_decoder")
    if not isinstance(listed, Mapping):
        return None
    found: dict[str, int] = {}
    for key, token in listed.items():
        content = token.get("content") if isinstance(token, Mapping) else None
        if isinstance(content, str) and str(key).isdecimal():
            found[content] = int(key)
    return found or None


def _read_object(source: object) -> Source:
    """Read a transformers or tokenizers object through its serialized JSON, never its class."""
    name = type(source).__name__
    backend = getattr(source, "backend_tokenizer", None)
    serialize = getattr(source if backend is None else backend, "to_str", None)
    if callable(serialize):
        text = serialize()
        if isinstance(text, str):
            data = text.encode("utf-8")
            declarations = Declarations() if backend is None else _declarations_of(source)
            return Source(data, "tokenizer.json", None, name, declarations)
    if hasattr(source, "encode") or hasattr(source, "get_vocab"):
        raise errors.build(
            errors.UnsupportedTokenizer,
            f"a {name} object has no serialized tokenizer",
            field="source",
            fix="give a tokenizer with a tokenizer.json, or the path of its vocabulary file",
        )
    raise TypeError(
        "source must be a path, a hub id, bytes, or a tokenizers or transformers tokenizer, "
        f"got {name}"
    )


def _declarations_of(source: object) -> Declarations:
    special = getattr(source, "special_tokens_map", None)
    config = getattr(source, "init_kwargs", None)
    kept = ("model_max_length", "padding_side", "truncation_side", "model_input_names")
    return Declarations(
        tokenizer_config={k: config[k] for k in kept if k in config}
        if isinstance(config, Mapping)
        else {},
        special_tokens_map={
            str(key): [str(one) for one in value] if isinstance(value, list | tuple) else str(value)
            for key, value in (special.items() if isinstance(special, Mapping) else ())
        },
        chat_templates=templates_of(getattr(source, "chat_template", None)),
    )
