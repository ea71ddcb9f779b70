"""The text the pico models learn from: the standard library of the running Python.

Sources, docstrings as prose, the language reference that `pydoc` carries, and the library's own
tests. A fixed list of modules is held out, from the tokenizers too. Everything here is a function
of the library's files and a seed.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import platform
import re
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Kind = Literal["source", "docstrings", "reference", "tests"]

HELD_OUT = frozenset(
    {
        "bisect",
        "calendar",
        "cmd",
        "colorsys",
        "configparser",
        "contextlib",
        "csv",
        "difflib",
        "fnmatch",
        "fractions",
        "graphlib",
        "heapq",
        "json.encoder",
        "netrc",
        "pprint",
        "queue",
        "sched",
        "shlex",
        "statistics",
        "textwrap",
        "timeit",
        "wsgiref.headers",
    }
)
"""Modules no model and no tokenizer sees: pure Python, present in 3.11 to 3.14, of many styles."""

SKIPPED_FOLDERS = frozenset({"site-packages", "__pycache__"})
TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})
TABLE_SHARE = 0.5  # encodings/cp*.py measure 0.55 and more, ordinary modules below 0.25
TABLE_MIN_LINES = 60
LEAK_LINE_CHARS = 32  # a shorter line is an idiom, not a copy
LEAK_SHARE = 0.10
REPEAT_SHARE = 0.60
MIN_DOCSTRING_CHARS = 200
MIN_DOCUMENT_CHARS = 64

_TABLE_LINE = re.compile(
    r"""\s*(?:(?:b|u)?(?:'[^']*'|"[^"]*")|-?(?:0x)?[0-9A-Fa-f]+)\s*(?:[:,]|\#|$)"""
)


@dataclass(frozen=True)
class Document:
    """One text. `name` is a dotted module, with a suffix for what was taken out of it."""

    name: str
    kind: Kind
    text: str


@dataclass(frozen=True)
class Corpus:
    """The split: no document of `held_out` shares a module with one of `train`."""

    train: tuple[Document, ...]
    held_out: tuple[Document, ...]
    dropped: tuple[tuple[str, str], ...]  # (module, reason)

    def digest(self) -> str:
        """Return a SHA-256 over every document, in order: the identity of the data."""
        digest = hashlib.sha256()
        for document in (*self.train, *self.held_out):
            for field in (document.name, document.kind, document.text):
                digest.update(field.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()


def stdlib_root() -> Path:
    """Return the folder of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def describe_source() -> str:
    """Return what the data is, for a card: implementation and version."""
    return f"{platform.python_implementation()} {platform.python_version()} standard library"


def table_share(text: str) -> float:
    """Return the share of a source's non-blank lines that are entries of a literal table."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < TABLE_MIN_LINES:
        return 0.0
    return sum(_TABLE_LINE.match(line) is not None for line in lines) / len(lines)


def module_name(relative: Path) -> str:
    """Return the dotted module of a path below the library: `json/__init__.py` is `json`."""
    parts = list(relative.with_suffix("").parts)
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    return ".".join(parts)


def read_modules(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (module, source) in sorted order, newlines as LF, without site-packages."""
    found = []
    for file in root.rglob("*.py"):
        relative = file.relative_to(root)
        if SKIPPED_FOLDERS.isdisjoint(relative.parts):
            found.append((module_name(relative), file))
    for name, file in sorted(found):
        if name.rpartition(".")[2].startswith("_sysconfigdata"):
            continue  # the build machine's paths
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # declared in another encoding; a handful of old files
        yield name, _clean(text)


def load_module(name: str, root: Path | None = None) -> Document:
    """Return the source of one module, read as for training.

    Raises:
        KeyError: The library has no Python source of this name.
    """
    folder = (root if root is not None else stdlib_root()).joinpath(*name.split("."))
    for file in (folder.with_suffix(".py"), folder / "__init__.py"):
        if file.is_file():
            return Document(name, "source", _clean(file.read_text(encoding="utf-8")))
    raise KeyError(name)


def _clean(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\f", "")


def is_test(name: str) -> bool:
    """Return whether a module is one of the library's tests."""
    return not TEST_FOLDERS.isdisjoint(name.split("."))


def tests_held_out(name: str) -> bool:
    """Return whether a test module is named for a held-out one: it would tell its manner."""
    subjects = {f"test_{module.partition('.')[0]}" for module in HELD_OUT}
    return any(part.startswith(tuple(subjects)) for part in name.split("."))


def docstrings(source: str) -> list[str]:
    """Return the docstrings of a module, its classes and functions, dedented, in source order."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=True)
            if text:
                found.append((getattr(node, "lineno", 0), text))
    return [text for _, text in sorted(found, key=lambda item: item[0])]


def reference_topics(source: str) -> list[tuple[str, str]]:
    """Return (topic, text) of `pydoc_data.topics`: the language reference, as plain text."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            topics = ast.literal_eval(node.value)
            return [(str(key), inspect.cleandoc(str(topics[key]))) for key in sorted(topics)]
    return []


def long_lines(text: str) -> set[str]:
    """Return the stripped lines of at least `LEAK_LINE_CHARS` characters."""
    stripped = (line.strip() for line in text.splitlines())
    return {line for line in stripped if len(line) >= LEAK_LINE_CHARS}


def overlap(text: str, seen: set[str]) -> float:
    """Return the share of a text's long lines that are in `seen`; 0 for a text without any."""
    lines = long_lines(text)
    return len(lines & seen) / len(lines) if lines else 0.0


def _documents_of(name: str, source: str) -> list[Document]:
    if name == "pydoc_data.topics":
        topics = reference_topics(source)
        return [Document(f"{name}#{topic}", "reference", text) for topic, text in topics]
    if is_test(name):
        return [Document(name, "tests", source)]
    documents = [Document(name, "source", source)]
    prose = "\n\n\n".join(t for t in docstrings(source) if len(t) >= MIN_DOCSTRING_CHARS)
    if prose:
        documents.append(Document(f"{name}#docstrings", "docstrings", prose + "\n"))
    return documents


def split_modules(modules: Iterable[tuple[str, str]]) -> Corpus:
    """Return the split of (module, source) pairs.

    Held-out: the sources of `HELD_OUT`. Train: every other document, unless it is a literal
    table, a test of a held-out module, shorter than `MIN_DOCUMENT_CHARS`, repeats more than
    `REPEAT_SHARE` of its long lines from training documents before it, or shares more than
    `LEAK_SHARE` of them with a held-out module. A dropped module is listed with its reason.
    """
    pairs = list(modules)
    held_out = tuple(Document(n, "source", text) for n, text in pairs if n in HELD_OUT)
    secret: set[str] = set()
    for document in held_out:
        secret |= long_lines(document.text)
    train: list[Document] = []
    dropped: list[tuple[str, str]] = []
    seen: dict[Kind, set[str]] = {kind: set() for kind in get_args(Kind)}
    for name, source in pairs:
        if name in HELD_OUT:
            continue
        if name != "pydoc_data.topics" and table_share(source) > TABLE_SHARE:
            dropped.append((name, "table"))
            continue
        if is_test(name) and tests_held_out(name):
            dropped.append((name, "tests a held-out module"))
            continue
        for document in _documents_of(name, source):
            if len(document.text) < MIN_DOCUMENT_CHARS:
                dropped.append((document.name, "short"))
            elif overlap(document.text, secret) > LEAK_SHARE:
                dropped.append((document.name, "shares lines with a held-out module"))
            elif overlap(document.text, seen[document.kind]) > REPEAT_SHARE:
                dropped.append((document.name, "repeats earlier documents"))
            else:
                seen[document.kind] |= long_lines(document.text)
                train.append(document)
    return Corpus(tuple(train), held_out, tuple(dropped))


def load_corpus(root: Path | None = None) -> Corpus:
    """Return the split of the standard library at `root`, the running Python's by default."""
    return split_modules(read_modules(root if root is not None else stdlib_root()))
