"""The chat template of a swapped model: kept, taken or translated, and compared by rendering.

A model answers in the format it was trained with. Its rows move to other ids, so the format moves
with them: `translate` writes the source's template in the target's control tokens. `take` uses the
target's own template, whose tokens may have rows that were never trained in its format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from anyvocab import errors
from anyvocab._save import _declared_ids
from anyvocab.transplant.ids import fitness
from anyvocab.transplant.overrides import LOOKS_LIKE_CONTROL
from anyvocab.transplant.roles import CONTROL_KINDS, ControlMap
from anyvocab.transplant.sandbox import Rendered, render_all
from anyvocab.transplant.templates import rewrite, split_text

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer

__all__ = ["POLICIES", "ChatPlan", "Policy", "plan_chat"]

Policy = Literal["keep", "take", "translate", "none"]
POLICIES: tuple[Policy, ...] = ("keep", "take", "translate", "none")

_NAMED_ROLES = ("bos", "eos", "pad", "unk", "cls", "sep", "mask")
_TURNS = (("user", "First question"), ("assistant", "First answer")) * 2
_SYSTEM = (("system", "Be brief."),)
_WORD = re.compile(r"\w+")
FIELD = "chat_template"


@dataclass(frozen=True)
class ChatPlan:
    """The chat templates that a swapped model gets.

    Attributes:
        policy: What was done.
        templates: Name to Jinja text; `default` is the one used; empty for none.
        notes: What the user ought to know: tokens without rows, templates left out.
    """

    policy: Policy
    templates: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def plan_chat(
    source: Tokenizer,
    target: Tokenizer,
    controls: ControlMap,
    policy: Policy | None = None,
    *,
    spellings: Mapping[str, str] | None = None,
) -> ChatPlan:
    """Return the chat templates for the swapped model, checked by rendering a short conversation.

    - `take`: the target's. Every control token it writes must exist.
    - `keep`: the source's, unchanged. Every control token it writes must exist in the target under
      the same spelling, and what it calls `bos_token` must be the same text.
    - `translate`: the source's, its control tokens replaced by those that take their rows. Both
      templates are rendered, with and without a system message and the prompt for generation, and
      must write the same texts in the same order with corresponding tokens between them.
    - `none`: no template.

    Left out, the target's is taken where it has one, else the source's is translated where that
    can be done, else there is none.

    Args:
        source: The model's own tokenizer.
        target: The new tokenizer.
        controls: What :func:`anyvocab.transplant.roles.map_controls` says about them.
        policy: What to do.
        spellings: For `translate`: a source control token's spelling to the text that stands for
            it, empty to leave it out; goes before `controls`.

    Raises:
        ChatTemplateError: There is no template, it cannot be rendered within bounds, or it writes
            a token that has no counterpart.
        InvalidValue: `policy` is none of these.
        MissingExtra: jinja2 is not installed.
    """
    if policy is None:
        return _default(source, target, controls, spellings or {})
    if policy == "take":
        return _take(target, controls)
    if policy == "keep":
        return _keep(source, target)
    if policy == "translate":
        return _translate(source, target, controls, spellings or {})
    if policy == "none":
        return ChatPlan("none")
    raise errors.build(
        errors.InvalidValue,
        f"{policy!r} is no choice",
        field="chat",
        fix=f"use one of {', '.join(POLICIES)}",
    )


def _default(
    source: Tokenizer, target: Tokenizer, controls: ControlMap, spellings: Mapping[str, str]
) -> ChatPlan:
    if _templates(target):
        return _take(target, controls)
    if not _templates(source):
        return ChatPlan("none")
    try:
        return _translate(source, target, controls, spellings)
    except errors.ChatTemplateError as error:
        note = f"the source's chat template is left out, as it cannot be translated: {error}"
        return ChatPlan("none", {}, (note,))


def _templates(tokenizer: Tokenizer) -> dict[str, str]:
    found = dict(tokenizer.declarations.chat_templates)
    own = tokenizer.chat_template
    return found if own is None else {"default": own, **found}


def _required(tokenizer: Tokenizer, which: str, policy: str) -> dict[str, str]:
    found = _templates(tokenizer)
    if "default" not in found:
        raise errors.build(
            errors.ChatTemplateError,
            f"the {which} has no chat template",
            field=FIELD,
            fix=f"do not ask for {policy!r}, or give a folder with a chat_template.jinja",
        )
    return found


@dataclass(frozen=True)
class _Speaker:
    """A tokenizer as a template sees it: its control tokens and the variables that name them."""

    controls: dict[str, int]
    variables: dict[str, str]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> _Speaker:
        vocabulary = tokenizer.vocabulary
        controls: dict[str, int] = {}
        for kind in CONTROL_KINDS:
            for id in vocabulary.ids_of_kind(kind).tolist():
                spelling = (vocabulary.spelling(id) or b"").decode("utf-8", "replace")
                # An added token that only spells text (runs of spaces) is text to a template.
                if kind == "control" or vocabulary.roles_of(id) or _is_control(spelling):
                    controls.setdefault(spelling, id)
        variables = {}
        for role in _NAMED_ROLES:
            ids = _declared_ids(tokenizer, role)
            spelling_bytes = vocabulary.spelling(ids[0]) if ids else None
            if spelling_bytes is not None:
                variables[f"{role}_token"] = spelling_bytes.decode("utf-8", "replace")
        return cls(controls, variables)


def _is_control(spelling: str) -> bool:
    return LOOKS_LIKE_CONTROL.fullmatch(spelling) is not None


def _conversations(variables: Mapping[str, str]) -> list[Mapping[str, object]]:
    """Return what to render: two turns, and the prompt for the answer to the second question."""
    return [
        {
            **variables,
            "messages": [{"role": role, "content": text} for role, text in (*before, *turns)],
            "add_generation_prompt": prompt,
            "tools": None,
            "documents": None,
        }
        for before in ((), _SYSTEM)
        for turns, prompt in ((_TURNS, False), (_TURNS[:3], True))
    ]


def _rendered(name: str, *jobs: tuple[str, Mapping[str, str]]) -> list[list[Rendered]]:
    """Return the renderings of all conversations by templates, each with its variables."""
    asked = [(template, _conversations(variables)) for template, variables in jobs]
    return render_all(asked, name=name)


def _check_rendered(found: list[Rendered], name: str) -> None:
    """Raise where no conversation could be rendered; some may fail (a system message, say)."""
    if not any(one.text for one in found):
        raise errors.build(
            errors.ChatTemplateError,
            f"cannot be rendered ({found[0].error or 'it writes nothing'})",
            field=name,
            fix="mend it, or choose another policy",
        )


def _take(target: Tokenizer, controls: ControlMap) -> ChatPlan:
    found = _required(target, "target", "take")
    speaker = _Speaker.of(target)
    written: dict[int, None] = {}
    for name, template in found.items():
        (rendered,) = _rendered(_name(name), (template, speaker.variables))
        _check_rendered(rendered, _name(name))
        for one in rendered:
            parts = split_text(one.text or "", speaker.controls)
            unknown = [s for text in parts if isinstance(text, str) for s in _controls_in(text)]
            if unknown:
                raise errors.build(
                    errors.ChatTemplateError,
                    f"writes {unknown[0]!r}, which is no token of the target",
                    field=_name(name),
                    fix="add the token to the tokenizer, or use the template that belongs to it",
                )
            written |= dict.fromkeys(part for part in parts if isinstance(part, int))
    rowless = [controls[id] for id in written if id in controls and not controls[id].sources]
    note = "the template writes tokens that have no counterpart in the source: "
    notes = (note + ", ".join(row.spelling for row in rowless),) if rowless else ()
    return ChatPlan("take", found, notes)


def _controls_in(text: str) -> list[str]:
    return LOOKS_LIKE_CONTROL.findall(text)


def _keep(source: Tokenizer, target: Tokenizer) -> ChatPlan:
    found = _required(source, "source", "keep")
    old, new = _Speaker.of(source), _Speaker.of(target)
    spelled = {id: spelling for spelling, id in old.controls.items()}
    for name, template in found.items():
        before, after = _rendered(_name(name), (template, old.variables), (template, new.variables))
        _check_rendered(before, _name(name))
        if before != after:
            differing = sorted(
                key
                for key in {*old.variables, *new.variables}
                if old.variables.get(key) != new.variables.get(key) and key in template
            )
            raise errors.build(
                errors.ChatTemplateError,
                f"writes something else with the target's {', '.join(differing)}",
                field=_name(name),
                fix="translate it",
            )
        unknown = [
            part
            for one in before
            for part in split_text(one.text or "", old.controls)
            if isinstance(part, int) and spelled[part] not in new.controls
        ]
        if unknown:
            raise errors.build(
                errors.ChatTemplateError,
                f"writes {spelled[unknown[0]]!r}, which is no control token of the target",
                field=_name(name),
                fix="translate it",
            )
    return ChatPlan("keep", found)


@dataclass(frozen=True)
class _Dictionary:
    """Source texts in the words of the target, and back.

    Attributes:
        there: A source control token, or a sequence that one target token stands for, to what may
            stand for it, the best first.
        back: A target control token to the source texts that it stands for.
        spellings: What the user says, source to target.
    """

    there: dict[str, tuple[str, ...]]
    back: dict[str, tuple[str, ...]]
    spellings: Mapping[str, str]

    @classmethod
    def of(
        cls,
        source: Tokenizer,
        old: _Speaker,
        controls: ControlMap,
        spellings: Mapping[str, str],
    ) -> _Dictionary:
        there: dict[str, tuple[str, ...]] = {}
        back: dict[str, tuple[str, ...]] = {}
        for row in controls:
            sides = {row.sources, row.input_sources} - {()}
            back[row.spelling] = tuple(sorted(source.decode_text(side) for side in sides))
            if len(row.sources) > 1:
                there.setdefault(source.decode_text(row.sources), (row.spelling,))
        for spelling, id in old.controls.items():
            roles = set(source.vocabulary.roles_of(id))
            fit = sorted((fitness(controls[taker], roles), taker) for taker in controls.takers(id))
            if fit:
                there[spelling] = tuple(controls[taker].spelling for _, taker in fit)
        there |= {old_text: (new_text,) for old_text, new_text in spellings.items()}
        return cls(there, back, spellings)

    @property
    def replacements(self) -> dict[str, str]:
        """What to replace in a template. A bare word would be code or prose as well: it stays."""
        return {
            text: options[0]
            for text, options in self.there.items()
            if options[0] != text and not _WORD.fullmatch(text)
        }

    def assignments(self, template: str, old: _Speaker, new: _Speaker) -> str:
        """Return what defines variables whose value in the target is no counterpart."""
        lines = []
        for variable, value in old.variables.items():
            options = self.there.get(value, ())
            used = re.search(rf"\b{variable}\b", template)
            if options and used and new.variables.get(variable) not in options:
                quoted = options[0].replace("\\", "\\\\").replace("'", "\\'")
                lines.append(f"{{%- set {variable} = '{quoted}' -%}}")
        return "".join(lines)

    def unknown(self, rendered: str, old: _Speaker) -> str | None:
        """Return the first control token that a source template writes and nothing stands for."""
        texts = list(dict.fromkeys((*self.there, *old.controls)))
        parts = split_text(rendered, {text: at for at, text in enumerate(texts)})
        written = (texts[part] for part in parts if isinstance(part, int))
        return next((text for text in written if text not in self.there), None)

    def agrees(self, before: str, after: str, new: _Speaker) -> bool:
        """Whether `after`, token by token in the source's words, is `before`."""
        for text in sorted(self.spellings, key=len, reverse=True):
            before = before.replace(text, self.spellings[text])
        spelled = {id: spelling for spelling, id in new.controls.items()}
        position = 0
        for part in split_text(after, new.controls):
            if isinstance(part, str):
                options: tuple[str, ...] = (part,)
            else:
                own = spelled[part]
                said = (own,) if own in self.spellings.values() else ()
                options = (*self.back.get(own, ()), *said)
            fitting = [len(one) for one in options if one and before.startswith(one, position)]
            if not fitting:
                return False
            position += max(fitting)
        return position == len(before)


def _translate(
    source: Tokenizer, target: Tokenizer, controls: ControlMap, spellings: Mapping[str, str]
) -> ChatPlan:
    found = _required(source, "source", "translate")
    old, new = _Speaker.of(source), _Speaker.of(target)
    words = _Dictionary.of(source, old, controls, spellings)
    templates: dict[str, str] = {}
    notes: list[str] = []
    for name, template in found.items():
        translated = words.assignments(template, old, new) + rewrite(template, words.replacements)
        try:
            _compare(template, translated, old, new, words, _name(name))
        except errors.ChatTemplateError as error:
            if name == "default":
                raise
            notes.append(f"left out: {error}")
            continue
        templates[name] = translated
        unsaid = sorted(s for s in old.controls if s not in words.there and s in template)
        unsaid = [spelling for spelling in unsaid if not _WORD.fullmatch(spelling)]
        if unsaid:
            notes.append(
                f"{_name(name)} names tokens without a counterpart in branches that a plain "
                f"conversation does not reach: {', '.join(unsaid)}"
            )
    return ChatPlan("translate", templates, tuple(notes))


def _compare(
    template: str, translated: str, old: _Speaker, new: _Speaker, words: _Dictionary, name: str
) -> None:
    before, after = _rendered(name, (template, old.variables), (translated, new.variables))
    _check_rendered(before, name)
    for one in before:
        unknown = words.unknown(one.text or "", old)
        if unknown is not None:
            raise errors.build(
                errors.ChatTemplateError,
                f"writes {unknown!r}, which has no counterpart in the target",
                field=name,
                fix=f"name one with --map 'NEW={unknown}', take the target's template, or have "
                "none",
            )
    _check_rendered(after, name)
    for one, other in zip(before, after, strict=True):
        failed = (one.text is None) != (other.text is None)
        if failed or not words.agrees(one.text or "", other.text or "", new):
            raise errors.build(
                errors.ChatTemplateError,
                f"the translation writes {(other.text or other.error)[:120]!r} for "
                f"{(one.text or one.error)[:120]!r}",
                field=name,
                fix="take the target's template, or have none",
            )


def _name(name: str) -> str:
    return FIELD if name == "default" else f"{FIELD} {name!r}"
