"""The embedded default models: two small language models with different vocabularies.

Both are trained by :mod:`anyvocab.pico.train` on Python's standard library. This module knows
where they lie and nothing else: importing it loads neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["names", "path"]

_FOLDER = Path(__file__).resolve().parent
_FOLDERS = {"code-2k": "code_2k", "code-4k": "code_4k"}


def names() -> tuple[str, ...]:
    """Return the names of the embedded models, sorted."""
    return tuple(sorted(_FOLDERS))


def path(name: str) -> Path:
    """Return the folder of the embedded model `name`: a complete transformers checkpoint.

    Raises:
        ValueError: No embedded model has this name.
        FileNotFoundError: The name is known but this installation holds no weights for it.

    >>> path("code-4k").name
    'code_4k'
    """
    if name not in _FOLDERS:
        known = ", ".join(names())
        raise ValueError(f"no embedded model is named {name!r}; the embedded models are {known}")
    folder = _FOLDER / _FOLDERS[name]
    if not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"{folder} holds no model.safetensors; train it with "
            f"`python -m anyvocab.pico.train {name} --out runs/{name}`"
        )
    return folder
