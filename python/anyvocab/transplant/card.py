"""The model card of a swapped model: what it is, what was done, what was measured."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from anyvocab import _core

__all__ = ["model_card"]

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
# What the source's card says that stays true of a model with another tokenizer.
_INHERITED: Final = ("license", "license_name", "license_link", "pipeline_tag")
_FIELD: Final = re.compile(r"([a-z_]+):[ \t]+(\S.*?)[ \t]*")
_PLAIN: Final = re.compile(r"[A-Za-z][\w.+/ -]*|https?://[\w./%#?=&-]+")
_STRUCTURE: Final = re.compile(r"[\\`*\[\]<>|]|(?<!\w)_|_(?!\w)")  # `_` inside words is plain


def model_card(
    *,
    title: str,
    source: str,
    target: str,
    strategy: str,
    facts: Mapping[str, object],
    numbers: Mapping[str, object],
    notes: Sequence[str] = (),
    source_card: str = "",
) -> bytes:
    """Return a `README.md` with front matter that the hub accepts.

    Args:
        title: The model's name.
        source: The model it was made from: a hub id, or a name. A hub id becomes `base_model`,
            which may be nothing else; of a path only the last part is shown.
        target: Where the tokenizer is from, in the same way.
        strategy: How new rows were made, in a line.
        facts: What was done: counts by origin, options.
        numbers: What was measured.
        notes: What the reader ought to know.
        source_card: The source's `README.md`: its licence is the model's.
    """
    inherited = _inherited(source_card)
    front: dict[str, object] = {}
    if _HUB_ID.fullmatch(source):
        front["base_model"] = source
    front["library_name"] = "transformers"
    front |= inherited
    front["tags"] = ["anyvocab", "tokenizer-swap"]
    # A JSON value is a YAML value: nothing in a name can open a structure of its own.
    lines = ["---", *(f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in front.items()), "---"]
    lines += ["", f"# {_inline(title)}", ""]
    lines += [
        f"{_code(_shown(source))} with the tokenizer of {_code(_shown(target))}, made by "
        f"[anyvocab](https://pypi.org/project/anyvocab) {_core.__version__}. Only what belongs to "
        "the vocabulary was changed: the rows of its matrices, the tokenizer, ids in "
        "configurations, the chat template. Every other weight is the source's.",
        "",
        f"New rows: {_inline(strategy)}.",
        "",
    ]
    lines += _table("What was done", facts)
    lines += _table("What was measured", numbers)
    if not numbers:
        lines += ["Nothing was measured: score it (`anyvocab eval`) before you use it.", ""]
    if notes:
        lines += ["## Notes", "", *(f"- {_inline(note)}" for note in notes), ""]
    named = inherited.get("license")
    lines += [
        "## Licence",
        "",
        "The weights are derived from the source model: its licence"
        + (f" ({_inline(str(named))})" if named else "")
        + " applies to them. The tokenizer keeps the licence it came with.",
        "",
    ]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _inherited(card: str) -> dict[str, object]:
    """Return plain one-line fields of a card's front matter; anything structured is left."""
    lines = card.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    found: dict[str, object] = {}
    for line in lines[1:200]:
        if line.strip() == "---":
            return found
        match = _FIELD.fullmatch(line)
        if match and match[1] in _INHERITED:
            value = match[2].strip("\"'")
            if _PLAIN.fullmatch(value):
                found[match[1]] = value
    return {}  # the front matter was never closed


def _shown(place: str) -> str:
    if _HUB_ID.fullmatch(place) or place.startswith("pico:"):
        return place
    return re.split(r"[/\\]", place.rstrip("/\\"))[-1] or place


def _table(title: str, rows: Mapping[str, object]) -> list[str]:
    if not rows:
        return []
    lines = [f"## {title}", "", "| | |", "|---|---|"]
    lines += [f"| {_inline(name)} | {_inline(_value(value))} |" for name, value in rows.items()]
    return [*lines, ""]


def _value(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return str(value)


def _inline(text: str) -> str:
    """Return text in a line, without what Markdown or HTML would take for structure."""
    text = " ".join(text.split())
    return _STRUCTURE.sub(r"\\\g<0>", text)


def _code(text: str) -> str:
    return "`" + " ".join(text.replace("`", "'").split()) + "`"
