"""The shapes of a model's vocabulary matrices, from safetensors headers alone.

What a header says of its data is not looked at: a model that is still being downloaded is examined
too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from anyvocab._safetensors import INDEX, SINGLE, HeaderError, read_document, read_index, shape_of

__all__ = ["INDEX", "SINGLE", "Matrix", "Weights", "read_header", "read_weights"]

_INPUT = frozenset(
    {
        "embed_in",
        "embed_tokens",
        "embedding",
        "embeddings",
        "shared",
        "tok_embeddings",
        "token_embedding",
        "word_embeddings",
        "wte",
    }
)
_OUTPUT = frozenset({"lm_head", "embed_out", "output_projection"})


@dataclass(frozen=True)
class Matrix:
    """A matrix with a row for every id.

    Attributes:
        side: `input` or `output`.
        name: The tensor's name.
        file: The file that holds it.
        rows: Its rows.
        width: Its columns.
    """

    side: str
    name: str
    file: str
    rows: int
    width: int


@dataclass(frozen=True)
class Weights:
    """What the headers say.

    Attributes:
        files: The safetensors files that were looked at or are named by the index.
        matrices: Every vocabulary matrix.
        problems: `(where, found, fix)` of what cannot be read or must not be followed.
    """

    files: tuple[str, ...] = ()
    matrices: tuple[Matrix, ...] = ()
    problems: tuple[tuple[str, str, str], ...] = ()


def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Return tensor name to shape.

    Raises:
        ValueError: It is no safetensors file; the message says why.
        OSError: It cannot be read.
    """
    document, _, _ = read_document(path)
    return {
        name: shape_of(name, value) for name, value in document.items() if name != "__metadata__"
    }


def _side(name: str, shape: tuple[int, ...]) -> str | None:
    parts = name.split(".")
    if len(shape) != 2 or len(parts) < 2 or parts[-1] != "weight":
        return None
    if parts[-2] in _INPUT:
        return "input"
    return "output" if parts[-2] in _OUTPUT or name == "output.weight" else None


@dataclass
class _Reader:
    folder: Path
    matrices: list[Matrix] = field(default_factory=list)
    problems: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, file: str) -> None:
        path = self.folder / file
        try:
            shapes = read_header(path)
        except FileNotFoundError:
            self.problems.append((file, "the file is missing", "download the model again"))
            return
        except (OSError, ValueError) as error:
            self.problems.append((file, str(error), "download the file again"))
            return
        for name, shape in sorted(shapes.items()):
            side = _side(name, shape)
            if side is not None:
                self.matrices.append(Matrix(side, name, file, shape[0], shape[1]))


def read_weights(folder: Path) -> Weights:
    """Return the vocabulary matrices of the model in `folder`. Nothing is raised for bad files."""
    reader = _Reader(folder)
    if (folder / INDEX).is_file():
        named = _named_by_index(folder / INDEX, reader.problems)
        # Shards can be many: open those that hold a matrix, and look for the others.
        wanted = sorted({file for name, file in named.items() if _side(name, (0, 0))})
        others = sorted({*named.values()} - {*wanted})
        for file in wanted:
            reader.add(file)
        reader.problems += [
            (file, f"{INDEX} names this file; it is missing", "download the model again")
            for file in others
            if not (folder / file).is_file()
        ]
        files = (*wanted, *others)
    else:
        files = (SINGLE,) if (folder / SINGLE).is_file() else ()
        for file in files:
            reader.add(file)
    return Weights(files, tuple(reader.matrices), tuple(reader.problems))


def _named_by_index(path: Path, problems: list[tuple[str, str, str]]) -> dict[str, str]:
    """Return tensor name to file; files outside the folder are problems and left out."""
    try:
        index = read_index(path)
    except (OSError, HeaderError) as error:
        problems.append((path.name, f"cannot be read: {error}", "download the file again"))
        return {}
    problems += [
        (
            f"{path.name}: weight_map",
            f"{file[:120]!r} lies outside the folder; it is not opened",
            "do not load this model: a weights index must name files beside it",
        )
        for file in index.outside
    ]
    return dict(index.files)
