"""What each control token is for, and which file or convention says so.

A role is read from data: configuration files, the post-processor's template, what the tokenizer
file declares, the chat template and, last, the spelling. Nothing is decided by a class name, and
a chat template is read as text: it is never rendered.

One id may have several roles (`bos`, `eos` and `pad` in one is common) and one role several ids
(the end ids of a chat model). Records come in the order of their sources, best first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from anyvocab._chat_template import TEMPLATE_LIMIT, template_roles

__all__ = [
    "Declarations",
    "RoleProblem",
    "RoleRecord",
    "RoleTable",
    "find_roles",
    "parse_post_processor",
    "role_of_name",
]


@dataclass(frozen=True, slots=True, order=True)
class RoleRecord:
    """One source's word for one role of one id.

    Attributes:
        role: `bos`, `eos`, `pad`, `unk`, `cls`, `sep`, `mask`, `turn_start`, `fim_prefix`, ...
        id: The token id.
        source: Who says so: `generation_config.json: eos_token_id`, `chat template`, `spelling`.
    """

    role: str
    id: int
    source: str


@dataclass(frozen=True, slots=True)
class RoleProblem:
    """A declaration that fits no token: `generation_config.json: eos_token_id: 200 is no id`."""

    source: str
    found: str


@dataclass(frozen=True)
class Declarations:
    """Everything that stands beside a tokenizer file and speaks about its special tokens.

    Attributes:
        generation_config: The contents of `generation_config.json`.
        config: The contents of `config.json`.
        tokenizer_config: The contents of `tokenizer_config.json`.
        special_tokens_map: The contents of `special_tokens_map.json`.
        chat_templates: Name to Jinja text; the one used by default is called `default`.
    """

    generation_config: Mapping[str, object] = field(default_factory=dict)
    config: Mapping[str, object] = field(default_factory=dict)
    tokenizer_config: Mapping[str, object] = field(default_factory=dict)
    special_tokens_map: Mapping[str, object] = field(default_factory=dict)
    chat_templates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RoleTable:
    """The roles of a vocabulary.

    Attributes:
        records: One per role, id and source, best source first.
        problems: Declarations that fit no token.
    """

    records: tuple[RoleRecord, ...]
    problems: tuple[RoleProblem, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[RoleRecord]:
        return iter(self.records)

    @cached_property
    def _by_id(self) -> dict[int, dict[str, list[str]]]:
        """Id to role to sources."""
        roles: dict[int, dict[str, list[str]]] = {}
        for record in self.records:
            roles.setdefault(record.id, {}).setdefault(record.role, []).append(record.source)
        return roles

    def of(self, id: int) -> tuple[str, ...]:
        """Return the roles of an id, best source first; empty for ordinary tokens."""
        return tuple(self._by_id.get(id, ()))

    def ids(self, role: str) -> tuple[int, ...]:
        """Return the ids of a role, best source first."""
        return tuple(dict.fromkeys(record.id for record in self.records if record.role == role))

    def sources(self, role: str, id: int) -> tuple[str, ...]:
        """Return everybody who says that `id` has `role`, best first; empty for nobody."""
        return tuple(self._by_id.get(id, {}).get(role, ()))


# A name is a spelling without its brackets, bars and word marks, in lower case: `<|fim_prefix|>`,
# `<fim-prefix>` and `<[fim-prefix]>` are all `fim_prefix`. A leading `/` closes what a name opens.
_ROLE_OF_NAME = {
    # The order in the text decides, not the word: DeepSeek writes begin, prefix, hole, suffix, end.
    "fim_begin": "fim_prefix",
    "fim_hole": "fim_suffix",
    "fim_end": "fim_middle",
    "fim_prefix": "fim_prefix",
    "fim_suffix": "fim_suffix",
    "fim_middle": "fim_middle",
    "fim_pad": "fim_pad",
    "fim_eot": "fim_end",
    "pre": "fim_prefix",
    "suf": "fim_suffix",
    "mid": "fim_middle",
    "eot": "turn_end",
    "prefix": "fim_prefix",
    "suffix": "fim_suffix",
    "middle": "fim_middle",
    "code_prefix": "fim_prefix",
    "code_suffix": "fim_suffix",
    "code_middle": "fim_middle",
    "repo_name": "repository_name",
    "reponame": "repository_name",
    "file_sep": "file_separator",
    "file_separator": "file_separator",
    "filename": "file_name",
    "im_start": "turn_start",
    "im_end": "turn_end",
    "start_of_turn": "turn_start",
    "end_of_turn": "turn_end",
    "turn": "turn_start",
    "/turn": "turn_end",
    "start_header_id": "header_start",
    "end_header_id": "header_end",
    "header_start": "header_start",
    "header_end": "header_end",
    "start_of_role": "header_start",
    "end_of_role": "header_end",
    "eot_id": "turn_end",
    "eom_id": "message_end",
    "eom": "message_end",
    "end": "turn_end",
    "start": "turn_start",
    "message": "header_end",
    "channel": "channel",
    "return": "turn_end",
    "call": "tool_call_end",
    "inst": "turn_start",
    "/inst": "turn_end",
    "sys": "system",
    "system": "system",
    "system_prompt": "system",
    "/system_prompt": "system_end",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "python_tag": "tool_call_start",
    "tool_call": "tool_call_start",
    "/tool_call": "tool_call_end",
    "tool_calls": "tool_call_start",
    "tool_call_begin": "tool_call_start",
    "tool_call_end": "tool_call_end",
    "tool_calls_begin": "tool_calls_start",
    "tool_calls_end": "tool_calls_end",
    "tool_response": "tool_response_start",
    "/tool_response": "tool_response_end",
    "tool_output_begin": "tool_response_start",
    "tool_output_end": "tool_response_end",
    "tool_results": "tool_response_start",
    "/tool_results": "tool_response_end",
    "available_tools": "tools_start",
    "/available_tools": "tools_end",
    "tools": "tools_start",
    "/tools": "tools_end",
    "think": "think_start",
    "/think": "think_end",
    "begin_of_thought": "think_start",
    "end_of_thought": "think_end",
    "bos": "bos",
    "begin_of_text": "bos",
    "begin_of_sentence": "bos",
    "startoftext": "bos",
    "s": "bos",
    "eos": "eos",
    "end_of_text": "eos",
    "end_of_sentence": "eos",
    "endoftext": "eos",
    "/s": "eos",
    "pad": "pad",
    "padding": "pad",
    "finetune_right_pad_id": "pad",
    "unk": "unk",
    "cls": "cls",
    "sep": "sep",
    "mask": "mask",
}
_SENTINEL_NAME = re.compile(r"extra_id_\d+|sentinel_\d+|mask:\d+")  # T5, InCoder
_RESERVED_NAME = re.compile(
    r"(?:reserved|unused|extra|dummy|placeholder|place_holder|control|special)"
    r"(?:_(?:special|token|control))*(?:_?token)?_?\d+"
)
# Spellings with these are decorated; a bare word (`user`) is a role's name only in a chat template.
_BRACKETS = "<>[]{}()|｜"
_CONTROL_SPELLING = re.compile(r"^[▁Ġ ]?[<\[｜|{(].*[>\]｜|})]$", re.DOTALL)


def _name(spelling: str) -> str:
    """Return the name inside a decorated spelling, or an empty string."""
    if not _CONTROL_SPELLING.match(spelling):
        return ""
    inner = spelling.lstrip("▁Ġ ").strip(_BRACKETS)
    return re.sub(r"[▁\-\s]+", "_", inner).strip("_").lower()


def role_of_name(spelling: str) -> str | None:
    """Return the role that a control token's spelling suggests, or None.

    This is a convention, not a declaration: every other source goes before it.

    >>> role_of_name("<｜fim▁hole｜>"), role_of_name("▁<SUF>"), role_of_name("the")
    ('fim_suffix', 'fim_suffix', None)
    """
    name = _name(spelling)
    if not name:
        return None
    if _RESERVED_NAME.fullmatch(name):
        return "reserved"
    if _SENTINEL_NAME.fullmatch(name):
        return "sentinel"
    return _ROLE_OF_NAME.get(name)


class _Collector:
    """Records in the order they come."""

    def __init__(self, size: int, find: Callable[[str], int | None]) -> None:
        self.size = size
        self.find = find
        self.records: dict[RoleRecord, None] = {}
        self.pairs: dict[tuple[str, int], None] = {}
        self.problems: list[RoleProblem] = []

    def has(self, role: str, id: object) -> bool:
        return (role, id) in self.pairs

    def ids_of(self, role: str) -> list[int]:
        return [id for other, id in self.pairs if other == role]

    def add_id(self, role: str, id: object, source: str) -> None:
        if id is None:
            return
        if isinstance(id, bool) or not isinstance(id, int) or id < 0:
            self.problems.append(RoleProblem(source, f"{id!r} is no id"))
        elif id >= self.size:
            self.problems.append(
                RoleProblem(source, f"{id} is no id of this vocabulary of {self.size}")
            )
        else:
            self.records[RoleRecord(role, id, source)] = None
            self.pairs[role, id] = None

    def add_ids(self, role: str, ids: object, source: str) -> None:
        for one in ids if isinstance(ids, list) else [ids]:
            self.add_id(role, one, source)

    def add_spelling(self, role: str, spelling: object, source: str) -> None:
        text = _content(spelling)
        if text is None:
            self.problems.append(RoleProblem(source, f"{spelling!r} is no token's text"))
            return
        id = self.find(text)
        if id is None:
            self.problems.append(RoleProblem(source, f"{text!r} is no token of this vocabulary"))
        else:
            self.add_id(role, id, source)


def _content(value: object) -> str | None:
    """Return the text of a token as configuration files write it: a string or an object."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        content = value.get("content")
        return content if isinstance(content, str) else None
    return None


_ID_FIELDS = (
    ("bos", "bos_token_id"),
    ("eos", "eos_token_id"),
    ("pad", "pad_token_id"),
    ("sep", "sep_token_id"),
    ("decoder_start", "decoder_start_token_id"),
)
_TOKEN_FIELDS = tuple(
    (role, f"{role}_token") for role in ["bos", "eos", "pad", "unk", "cls", "sep", "mask"]
)
_LIST_FIELDS = ("additional_special_tokens", "extra_special_tokens")


def _from_ids(out: _Collector, contents: Mapping[str, object], source: str) -> None:
    for role, name in _ID_FIELDS:
        if name in contents:
            out.add_ids(role, contents[name], f"{source}: {name}")


def _from_tokens(out: _Collector, contents: Mapping[str, object], source: str) -> None:
    for role, name in _TOKEN_FIELDS:
        if contents.get(name) is not None:
            out.add_spelling(role, contents[name], f"{source}: {name}")
    for name in _LIST_FIELDS:
        value = contents.get(name)
        # transformers writes a list, or an object from a role's name (`image_token`) to its token.
        if isinstance(value, Mapping):
            for key, token in value.items():
                out.add_spelling(str(key).removesuffix("_token"), token, f"{source}: {name}")
        elif isinstance(value, list):
            for token in value:
                text = _content(token) or ""
                out.add_spelling(role_of_name(text) or "additional", token, f"{source}: {name}")


def _from_post_processor(out: _Collector, component: object, path: str) -> None:
    """Read ids that the post-processor puts around a text.

    What stands in front is `bos` unless something better calls it `cls`; what stands behind is
    `eos` unless it is a `sep`.
    """
    if not isinstance(component, Mapping):
        return
    for i, step in enumerate(_list(component.get("processors"))):
        _from_post_processor(out, step, f"{path}.processors[{i}]")
    for role in ("cls", "sep"):  # BertProcessing, RobertaProcessing: ["[SEP]", 102]
        pair = component.get(role)
        if isinstance(pair, list) and len(pair) == 2:
            out.add_id(role, pair[1], f"{path}.{role}")
    tokens = component.get("special_tokens")
    role, other = "bos", "cls"
    for piece in _list(component.get("single")):
        if not isinstance(piece, Mapping):
            continue
        if "Sequence" in piece:
            role, other = "eos", "sep"
            continue
        special = piece.get("SpecialToken")
        name = special.get("id") if isinstance(special, Mapping) else None
        entry = tokens.get(name) if isinstance(tokens, Mapping) else None
        ids = entry.get("ids") if isinstance(entry, Mapping) else None
        for id in _list(ids):
            out.add_id(other if out.has(other, id) else role, id, f"{path}.single")


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


# What a token's name says it is, a chat template's layout does not overrule: `<｜User｜>` that
# follows a message begins the next turn and ends none.
_NO_TURN_END = {"system", "user", "assistant", "tool", "turn_start", "header_start", "bos"}
_NO_TURN_START = {"turn_end", "bos", "eos"}


def _from_chat_template(
    out: _Collector, template: str, controls: Mapping[str, int], source: str
) -> None:
    if len(template) > TEMPLATE_LIMIT:
        found = f"{len(template)} characters, over {TEMPLATE_LIMIT}: not read for roles"
        out.problems.append(RoleProblem(source, found))
        return
    named = {f"{r}_token": ids[0] for r in ("bos", "eos", "pad") if (ids := out.ids_of(r))}
    by_name = {id: role_of_name(spelling) for spelling, id in controls.items()}
    bos = set(out.ids_of("bos")) - set(out.ids_of("eos"))
    for role, id in template_roles(template, controls, named):
        if id in bos:
            continue
        if role == "turn_end" and by_name.get(id) in _NO_TURN_END:
            continue
        if role == "turn_start" and by_name.get(id) in _NO_TURN_START:
            continue
        out.add_id(role, id, source)


def find_roles(
    size: int,
    controls: Mapping[str, int],
    declarations: Declarations,
    *,
    find: Callable[[str], int | None] | None = None,
    declared: Iterable[tuple[str, int, str]] = (),
    post_processor: object = None,
) -> RoleTable:
    """Return every role that some source gives to an id.

    Sources in order: `generation_config.json`, `config.json`, `tokenizer_config.json`,
    `special_tokens_map.json`, the post-processor, what the tokenizer file declares, the chat
    templates, spellings.

    Args:
        size: The number of ids; a declared id at or above it is a problem, not a role.
        controls: Spelling to id of every token that is not plain text.
        declarations: What stands beside the tokenizer file.
        find: Spelling to id of any token, for declarations that name a text token; `controls`
            alone when it is left out.
        declared: `(role, id, field)` as the tokenizer file declares them.
        post_processor: The post-processor of `tokenizer.json`, parsed.

    Returns:
        The table. Nothing is raised: what fits no token is a problem in it.
    """

    def find_any(spelling: str) -> int | None:
        id = controls.get(spelling)
        return find(spelling) if id is None and find is not None else id

    out = _Collector(size, find_any)
    _from_ids(out, declarations.generation_config, "generation_config.json")
    _from_ids(out, declarations.config, "config.json")
    text_config = declarations.config.get("text_config")
    if isinstance(text_config, Mapping):
        _from_ids(out, text_config, "config.json: text_config")
    _from_tokens(out, declarations.tokenizer_config, "tokenizer_config.json")
    _from_tokens(out, declarations.special_tokens_map, "special_tokens_map.json")
    _from_post_processor(out, post_processor, "post_processor")
    for role, id, name in declared:
        out.add_id(role, id, name)
    for name, template in declarations.chat_templates.items():
        source = "chat template" if name == "default" else f"chat template {name!r}"
        _from_chat_template(out, template, controls, source)
    for spelling, id in controls.items():
        suggested = role_of_name(spelling)
        if suggested is not None:
            out.add_id(suggested, id, "spelling")
    return RoleTable(tuple(out.records), tuple(out.problems))


def parse_post_processor(components: str) -> object:
    """Return the post-processor from the pipeline's JSON text; None when there is none."""
    parsed = json.loads(components)
    return parsed.get("post_processor") if isinstance(parsed, dict) else None
