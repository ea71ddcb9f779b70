"""The small files of a swapped model, each as name to bytes; the caller writes them.

Weights are not among them. Nothing here reads or writes a disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from anyvocab import _core
from anyvocab._save import _files
from anyvocab.transplant.card import model_card
from anyvocab.transplant.configs import Remapped, generation_config, model_config
from anyvocab.transplant.ids import IdTranslator
from anyvocab.vocabulary import KINDS

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer
    from anyvocab.transplant.chat import ChatPlan
    from anyvocab.transplant.roles import ControlMap
    from anyvocab.vocabulary import Vocabulary

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "Remapped",
    "SmallFiles",
    "config_files",
    "generation_config",
    "manifest",
    "model_card",
    "model_config",
    "tokenizer_files",
    "vocabulary_digest",
]

MANIFEST: Final = "swap.json"
FORMAT_VERSION: Final = 1

_PLAIN_KINDS: Final = frozenset({"text", "byte", "hole"})
# How a model uses its tokenizer is the model's: its window does not grow with the vocabulary.
_OF_THE_MODEL: Final = ("model_max_length", "padding_side", "truncation_side", "model_input_names")


@dataclass(frozen=True)
class SmallFiles:
    """Files by name, and what the user ought to know about them."""

    files: dict[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def tokenizer_files(source: Tokenizer, target: Tokenizer, chat: ChatPlan) -> dict[str, bytes]:
    """Return the target's tokenizer files, the chat templates of the plan among them.

    What `tokenizer_config.json` says about the model (its window, its side of padding, its inputs)
    is the source's; where the source says nothing about its window, `config.json` does.

    Raises:
        UnsupportedTokenizer: No `tokenizer.json` gives the same ids (RWKV).
    """
    used = {
        key: value
        for key, value in source.declarations.tokenizer_config.items()
        if key in _OF_THE_MODEL
    }
    window = source.declarations.config.get("max_position_embeddings")
    if isinstance(window, int) and not isinstance(window, bool):
        used.setdefault("model_max_length", window)
    theirs = {
        key: value
        for key, value in target.declarations.tokenizer_config.items()
        if key not in _OF_THE_MODEL
    }
    declarations = replace(
        target.declarations,
        tokenizer_config={**theirs, **used},
        chat_templates=dict(chat.templates),
    )
    files = _files(target.with_declarations(declarations), declarations)
    if not chat.templates:
        files.pop("chat_template.jinja", None)  # one that the tokenizer's own file holds
    return files


def config_files(
    source: Tokenizer,
    target: Tokenizer,
    controls: ControlMap,
    *,
    rows: int,
    tied: bool | None = None,
    other_rows: Mapping[str, int] | None = None,
) -> SmallFiles:
    """Return `config.json` and `generation_config.json` from what stands beside the source.

    Args:
        source: The model's own tokenizer, with its declarations.
        target: The new tokenizer.
        controls: Which rows the target's control tokens take.
        rows: Rows of the new matrices.
        tied: Whether input and output matrix are one; None to leave what is said.
        other_rows: Further fields that count rows of vocabulary tables, and what to write.

    Raises:
        InvalidValue: A field names a token or counts rows and nothing says what becomes of it.
    """
    ids = IdTranslator(source, target, controls, tied=bool(tied))
    declared = source.declarations
    config = model_config(declared.config, ids, rows=rows, tied=tied, other_rows=other_rows)
    generation = generation_config(declared.generation_config, ids, config=config.contents)
    files = {"config.json": _json(config.contents)}
    if generation.contents:
        files["generation_config.json"] = _json(generation.contents)
    return SmallFiles(files, (*config.notes, *generation.notes))


def vocabulary_digest(vocabulary: Vocabulary) -> str:
    """Return the SHA-256 of a vocabulary: every id's kind and bytes, control tokens' spellings.

    Equal vocabularies have equal digests whatever file they were read from. It says nothing about
    merges or normalizers. O(V).
    """
    data, offsets = vocabulary.table()
    digest = hashlib.sha256(offsets.astype("<i8").tobytes())
    digest.update(data)
    for kind in KINDS:
        ids = vocabulary.ids_of_kind(kind)
        digest.update(f"{kind} {len(ids)} ".encode() + ids.astype("<u4").tobytes())
        for id in ids.tolist() if kind not in _PLAIN_KINDS else ():
            spelling = vocabulary.spelling(id) or b""
            digest.update(f"{len(spelling)} ".encode() + spelling)
    return digest.hexdigest()


def manifest(
    source: Tokenizer,
    target: Tokenizer,
    *,
    strategy: Mapping[str, object],
    options: Mapping[str, object],
    origins: Mapping[str, int],
    chat: ChatPlan,
    controls: ControlMap,
    files: Mapping[str, bytes] | None = None,
    notes: Sequence[str] = (),
) -> dict[str, bytes]:
    """Return `swap.json`: enough to say what was done, and to notice that it was done to others.

    Args:
        source: The model's own tokenizer.
        target: The new tokenizer.
        strategy: Side to strategy and its parameters.
        options: What the user asked for.
        origins: Origin to how many rows it made.
        chat: The chat template's policy and notes.
        controls: The rows of control tokens, written one by one.
        files: The other small files, for their digests.
        notes: What the user ought to know.
    """
    document = {
        "anyvocab_version": _core.__version__,
        "chat": {"notes": list(chat.notes), "policy": chat.policy},
        "control_tokens": [
            {
                "id": row.id,
                "input_sources": list(row.sources_on("input")),
                "output_sources": list(row.sources_on("output")),
                "reason": row.reason,
                "roles": list(row.roles),
                "rule": row.rule,
                "spelling": row.spelling,
            }
            for row in controls
        ],
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in (files or {}).items()},
        "format_version": FORMAT_VERSION,
        "kind": "swap",
        "notes": list(notes),
        "options": dict(options),
        "origins": dict(origins),
        "source_vocabulary": _vocabulary(source),
        "strategy": dict(strategy),
        "target_vocabulary": _vocabulary(target),
        "unclaimed_source_ids": list(controls.unclaimed),
    }
    return {MANIFEST: _json(document)}


def _vocabulary(tokenizer: Tokenizer) -> dict[str, object]:
    vocabulary = tokenizer.vocabulary
    return {"ids": len(vocabulary), "sha256": vocabulary_digest(vocabulary)}


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    return text.encode("utf-8", "surrogatepass")
