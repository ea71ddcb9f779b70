"""Bytes per token, language by language: whom a vocabulary treats well.

Languages come from a folder (each file one), from one JSON or TSV file, or from the small built-in
sample. Bytes per token compare tokenizers within a language; between languages they also reflect
how many bytes a script needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anyvocab import errors

if TYPE_CHECKING:
    from anyvocab import Tokenizer

__all__ = ["LanguageRow", "compare_languages", "read_languages"]

FILE_LIMIT = 16 << 20  # bytes read of one file
FILES_LIMIT = 2000
SUFFIXES = (".txt", ".tsv", ".jsonl", ".json")


@dataclass(frozen=True)
class LanguageRow:
    """A language and what it costs in each tokenizer.

    Attributes:
        language: Its name.
        bytes: The length of its text.
        tokens: The number of tokens, one per tokenizer.
    """

    language: str
    bytes: int
    tokens: tuple[int, ...]

    @property
    def bytes_per_token(self) -> tuple[float, ...]:
        """The length over the number of tokens, one per tokenizer; 0 without tokens."""
        return tuple(self.bytes / count if count else 0.0 for count in self.tokens)


def compare_languages(
    tokenizers: Mapping[str, Tokenizer], languages: Mapping[str, str | bytes]
) -> list[LanguageRow]:
    """Return a row per language, in the order given."""
    rows = []
    for language, text in languages.items():
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        counts = tuple(tokenizer.count(data) for tokenizer in tokenizers.values())
        rows.append(LanguageRow(language, len(data), counts))
    return rows


def read_languages(place: Path) -> dict[str, str]:
    """Return language to text.

    Args:
        place: A folder, each of whose `.txt`, `.tsv`, `.jsonl` and `.json` files is a language
            named as the file; or a JSON file, an object from language to text or a list of texts;
            or a TSV file, `language TAB text` in each line. In a folder the last column of a TSV
            line is its text, and a JSON line is a text or an object with a `text` (else all of its
            strings).

    Raises:
        SourceNotFound: There is nothing, or nothing that can be read as a language.
        TokenizerFormatError: A file is no UTF-8 or no JSON.
        LimitExceeded: A file is over `FILE_LIMIT` bytes, or there are over `FILES_LIMIT` files.
    """
    if place.is_dir():
        files = sorted(path for path in place.iterdir() if path.suffix in SUFFIXES)
        if len(files) > FILES_LIMIT:
            raise errors.build(
                errors.LimitExceeded,
                f"{len(files)} files, over {FILES_LIMIT}",
                field="languages",
                file=str(place),
            )
        found = {path.stem: "\n".join(_texts(path)) for path in files if path.is_file()}
    elif place.suffix == ".json":
        document = _json(_read(place), place, "document")
        found = {}
        if isinstance(document, dict):
            found = {str(name): "\n".join(_strings(text)) for name, text in document.items()}
    elif place.suffix == ".tsv":
        rows: dict[str, list[str]] = {}
        for line in _read(place).split("\n"):
            language, tab, text = line.partition("\t")
            if tab:
                rows.setdefault(language, []).append(text)
        found = {language: "\n".join(texts) for language, texts in rows.items()}
    else:
        found = {place.stem: "\n".join(_texts(place))} if place.is_file() else {}
    found = {language: text for language, text in found.items() if text.strip()}
    if not found:
        raise errors.build(
            errors.SourceNotFound,
            "holds no text of a language",
            field="languages",
            file=str(place),
            fix=f"give a folder of {', '.join(SUFFIXES)} files, each one language",
        )
    return found


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise errors.build(
            errors.LimitExceeded,
            f"over the limit of {FILE_LIMIT} bytes",
            field="file size",
            file=str(path),
            fix="give a sample of the text",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise errors.build(
            errors.TokenizerFormatError,
            f"no valid UTF-8 at byte {error.start}",
            field="text",
            file=str(path),
            fix="convert the file to UTF-8",
        ) from error


def _json(text: str, path: Path, field: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise errors.build(
            errors.TokenizerFormatError, f"no valid JSON ({error})", field=field, file=str(path)
        ) from error


def _texts(path: Path) -> Iterator[str]:
    contents = _read(path)
    if path.suffix == ".tsv":
        for line in contents.split("\n"):
            yield line.rpartition("\t")[2]
    elif path.suffix == ".jsonl":
        for number, line in enumerate(contents.split("\n"), 1):
            if line.strip():
                yield from _strings(_json(line, path, f"line {number}"))
    elif path.suffix == ".json":
        yield from _strings(_json(contents, path, "document"))
    else:
        yield contents


def _strings(value: object) -> Iterator[str]:
    """Yield the texts in a JSON value; of an object its `text` alone where it has one."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, dict):
        text = value.get("text")
        if isinstance(text, str):
            yield text
        else:
            for one in value.values():
                yield from _strings(one)
