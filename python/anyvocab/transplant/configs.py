"""`config.json` and `generation_config.json` of a swapped model: every id said anew.

An old id that survives means another token: generation then runs on, or ends in the middle of a
word. So every field that holds ids is either translated, or left out and named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeGuard

from anyvocab import errors
from anyvocab.transplant.ids import IdTranslator

__all__ = ["Remapped", "generation_config", "model_config"]

# Sub-configurations that speak of the same text tokens.
TEXT_CONFIGS: Final = ("text_config", "llm_config", "language_config", "thinker_config")
_ROLE_FIELDS: Final = {
    "bos_token_id": "bos",
    "pad_token_id": "pad",
    "sep_token_id": "sep",
    "cls_token_id": "cls",
    "mask_token_id": "mask",
    "unk_token_id": "unk",
}
# These name a token by what it does for one task: what the id is decides, not a role.
_ONE_FIELDS: Final = (
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "no_timestamps_token_id",
)
_LIST_FIELDS: Final = ("suppress_tokens", "begin_suppress_tokens")
_TEXT_FIELDS: Final = ("bad_words_ids", "force_words_ids")
_ID_FIELD: Final = re.compile(r".*_token_(?:id|ids|index)")
_ROWS_FIELD: Final = re.compile(r"(?:.+_)?vocab_size(?:_.+)?")
# Positions of these are counted from the padding id: another id moves every position.
_COUNT_FROM_PADDING: Final = frozenset(
    {
        "camembert",
        "data2vec-text",
        "fsmt",
        "ibert",
        "layoutlmv3",
        "lilt",
        "longformer",
        "luke",
        "m2m_100",
        "markuplm",
        "mpnet",
        "nllb-moe",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)
_MULTIPLES: Final = ("pad_vocab_size_multiple", "pad_vocab_size_multiple_of")


@dataclass(frozen=True)
class Remapped:
    """A configuration in the target's ids.

    Attributes:
        contents: What to write.
        notes: What was left out or decided, in words.
    """

    contents: dict[str, object]
    notes: tuple[str, ...] = ()


@dataclass
class _Writer:
    """Says the ids of one file anew."""

    ids: IdTranslator
    file: str
    notes: list[str] = field(default_factory=list)

    def note(self, name: str, text: str) -> None:
        self.notes.append(f"{self.file}: {name}: {text}")

    def remapped(self, contents: Mapping[str, object]) -> dict[str, object]:
        """Return `contents` with every known field of ids translated; unknown ones untouched."""
        found: dict[str, object] = {}
        for name, value in contents.items():
            says = self.translation(name)
            new = value if says is None or value is None else says(name, value)
            if new is not None or value is None:
                found[name] = new
        return found

    def translation(self, name: str) -> Callable[[str, object], object] | None:
        if name == "eos_token_id":
            return self.ends
        if name in _ROLE_FIELDS:
            return self.role
        if name in _ONE_FIELDS:
            return self.one
        if name in _LIST_FIELDS:
            return self.each
        if name in _TEXT_FIELDS:
            return self.texts
        return {
            "sequence_bias": self.biases,
            "forced_decoder_ids": self.forced,
            "lang_to_id": self.named,
            "task_to_id": self.named,
        }.get(name)

    def ends(self, name: str, value: object) -> object:
        old = _ids_in(value)
        new = list(dict.fromkeys(end for id in old for end in self.ids.ends(id)))
        lost = [id for id in old if not self.ids.ends(id)]
        if lost:
            self.note(
                name, f"left out, without a counterpart: {', '.join(map(self.ids.name, lost))}"
            )
        if not new:
            new = list(self.ids.target.vocabulary.ids_of_role("eos")[:1])
            if new:
                self.note(
                    name, f"{new[0]}, the target's end, since nothing takes the row of the old one"
                )
        if not new:
            self.note(name, "left out: no token of the target ends a text, generation never ends")
            return None
        return new if isinstance(value, list) or len(new) > 1 else new[0]

    def role(self, name: str, value: object) -> object:
        new = self.ids.with_role(_ROLE_FIELDS[name], value) if _is_id(value) else None
        if new is None:
            self.note(name, f"left out, without a counterpart: {self.shown(value)}")
        return new

    def one(self, name: str, value: object) -> object:
        if isinstance(value, list):
            return self.each(name, value)
        new = self.ids.one(value) if _is_id(value) else None
        if new is None:
            self.note(name, f"left out, without a counterpart: {self.shown(value)}")
        return new

    def each(self, name: str, value: object) -> object:
        old = _ids_in(value)
        lost = [id for id in old if self.ids.one(id) is None]
        if lost:
            shown = ", ".join(map(self.ids.name, lost[:5])) + " ..." * (len(lost) > 5)
            self.note(name, f"{len(lost)} ids left out, no token is the same: {shown}")
        new = [one for id in old if (one := self.ids.one(id)) is not None]
        return list(dict.fromkeys(new)) or None

    def texts(self, name: str, value: object) -> object:
        """Translate lists of ids at any depth, each as a text."""
        if not isinstance(value, list):
            return None
        old = _ids_in(value)
        if old and len(old) == len(value):
            new = self.ids.text(old)
            if not new:
                self.note(name, f"left out, cannot be said: {', '.join(map(self.ids.name, old))}")
            return new or None
        return [one for part in value if (one := self.texts(name, part)) is not None] or None

    def biases(self, name: str, value: object) -> object:
        pairs = [one for one in value if _is_pair(one)] if isinstance(value, list) else []
        new = [[self.texts(name, ids), bias] for ids, bias in pairs]
        return [pair for pair in new if pair[0] is not None] or None

    def forced(self, name: str, value: object) -> object:
        pairs = [one for one in value if _is_pair(one)] if isinstance(value, list) else []
        new = [[at, None if id is None else self.one(name, id)] for at, id in pairs]
        keep = [
            pair
            for pair, (_, id) in zip(new, pairs, strict=True)
            if id is None or pair[1] is not None
        ]
        return keep or None

    def named(self, name: str, value: object) -> object:
        entries = value.items() if isinstance(value, Mapping) else ()
        new = {key: self.one(f"{name}.{key}", id) for key, id in entries}
        return {key: id for key, id in new.items() if id is not None} or None

    def shown(self, value: object) -> str:
        return self.ids.name(value) if _is_id(value) else repr(value)


def _is_id(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _ids_in(value: object) -> list[int]:
    return [id for id in (value if isinstance(value, list) else [value]) if _is_id(id)]


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2


def generation_config(
    contents: Mapping[str, object],
    ids: IdTranslator,
    *,
    config: Mapping[str, object] | None = None,
) -> Remapped:
    """Return `generation_config.json` in the target's ids; all other fields as they were.

    End ids become every token that takes an old end's row; a field whose tokens have no counterpart
    is left out and noted. No padding token is invented.

    Args:
        contents: The source's file; empty where it has none, which makes a new one.
        ids: Translates.
        config: The new `config.json`: what a new file is made from.
    """
    writer = _Writer(ids, "generation_config.json")
    if not contents:
        text = next(_text_configs(config or {}), {})
        both = {**text, **(config or {})}
        names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
        made = {name: both[name] for name in names if both.get(name) is not None}
        if made:
            writer.note("file", "the source had none; made from config.json")
        return Remapped(made, tuple(writer.notes))
    found = writer.remapped(contents)
    for name in [name for name in found if writer.translation(name) is None]:
        # A field that this version does not know and that by its name holds an id.
        if _ID_FIELD.fullmatch(name) and found[name] is not None:
            new = writer.one(name, found[name])
            if new is None:
                del found[name]
            else:
                found[name] = new
    if "pad_token_id" not in contents and ids.target.vocabulary.ids_of_role("pad"):
        writer.note("pad_token_id", "the source names none; the target's is not added")
    return Remapped(found, tuple(writer.notes))


def model_config(
    contents: Mapping[str, object],
    ids: IdTranslator,
    *,
    rows: int,
    tied: bool | None = None,
    other_rows: Mapping[str, int] | None = None,
) -> Remapped:
    """Return `config.json` for matrices of `rows` rows, in the target's ids.

    `vocab_size` and every id are set, in `text_config` and its like too; lengths and everything
    else stay. Begin and end are written even where the source leaves them to the defaults of its
    class, since those are old ids.

    Args:
        contents: The source's file.
        ids: Translates.
        rows: Rows of the new matrices.
        tied: Whether input and output matrix are one; None to leave what is said.
        other_rows: Further fields that count rows of vocabulary tables, and what to write.

    Raises:
        InvalidValue: A field counts rows or names a token (of an image, say) and nothing says what
            becomes of it; the message names all of them.
    """
    writer = _Writer(ids, "config.json")
    problems: list[str] = []
    new = _config(contents, writer, rows, other_rows or {}, problems, "")
    if problems:
        raise errors.build(
            errors.InvalidValue,
            "; ".join(problems),
            field=problems[0].partition(" ")[0],
            file="config.json",
            fix="map the tokens with --map NEW=OLD, or swap a model that does not need them",
        )
    if tied is not None:
        for level in (new, *_text_configs(new)):
            if level is new or "tie_word_embeddings" in level:
                level["tie_word_embeddings"] = tied
    return Remapped(new, tuple(writer.notes))


def _text_configs(config: Mapping[str, object]) -> Iterator[dict[str, object]]:
    for name in TEXT_CONFIGS:
        value = config.get(name)
        if isinstance(value, dict):
            yield value
            yield from _text_configs(value)


def _config(
    contents: Mapping[str, object],
    writer: _Writer,
    rows: int,
    other_rows: Mapping[str, int],
    problems: list[str],
    path: str,
) -> dict[str, object]:
    # What has no counterpart is null, not absent: absent is the class's default, an old id.
    new = {**dict.fromkeys(contents), **writer.remapped(contents)}
    old_rows = contents.get("vocab_size")
    for name, value in contents.items():
        if name in TEXT_CONFIGS and isinstance(value, Mapping):
            new[name] = _config(value, writer, rows, other_rows, problems, f"{path}{name}.")
        elif name == "vocab_size":
            new[name] = rows
        elif name in other_rows:
            new[name] = other_rows[name]
        elif _ROWS_FIELD.fullmatch(name) and name not in _MULTIPLES and isinstance(value, int):
            if value == old_rows or name.startswith("vocab_size"):
                problems.append(f"{path}{name} counts rows of another table of the vocabulary")
        elif _ID_FIELD.fullmatch(name) and writer.translation(name) is None:
            _further_ids(name, value, new, writer, problems, path)
    _check_positions(contents, new, problems, path)
    if "vocab_size" in contents:
        _name_ends(contents, new, writer)
    return new


def _further_ids(
    name: str,
    value: object,
    new: dict[str, object],
    writer: _Writer,
    problems: list[str],
    path: str,
) -> None:
    """Translate ids of tokens that stand for no text: of images, of sound."""
    old = _ids_in(value)
    said = [writer.ids.one(id) for id in old]
    lost = [id for id, one in zip(old, said, strict=True) if one is None]
    if lost:
        shown = ", ".join(map(writer.ids.name, lost))
        problems.append(f"{path}{name} is {shown}, which has no counterpart")
    elif isinstance(value, list):
        new[name] = said
    elif said:
        new[name] = said[0]


def _check_positions(
    contents: Mapping[str, object],
    new: Mapping[str, object],
    problems: list[str],
    path: str,
) -> None:
    kind, old = contents.get("model_type"), contents.get("pad_token_id", 1)
    if kind in _COUNT_FROM_PADDING and new.get("pad_token_id", old) != old:
        problems.append(
            f"{path}pad_token_id is {old} and would be {new.get('pad_token_id')}: positions of a "
            f"{kind} model are counted from it; use a tokenizer whose padding token has id {old}"
        )


def _name_ends(contents: Mapping[str, object], new: dict[str, object], writer: _Writer) -> None:
    for name, role in (("bos_token_id", "bos"), ("eos_token_id", "eos")):
        if name in contents:
            continue
        old = writer.ids.source.vocabulary.ids_of_role(role)
        value: object = None
        if old:
            value = writer.ends(name, old[0]) if role == "eos" else writer.role(name, old[0])
        new[name] = value
        writer.note(name, f"{value}; the source leaves it to its class, whose default is an old id")
