"""Chat templates of swapped models: kept, taken, translated; and hostile ones."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import anyvocab as av
from anyvocab import errors
from anyvocab.roles import Declarations
from anyvocab.testing import tiny_tokenizer
from anyvocab.transplant.chat import ChatPlan, Policy, plan_chat
from anyvocab.transplant.roles import map_controls
from anyvocab.transplant.sandbox import CHARACTERS, render, render_all
from anyvocab.transplant.templates import rewrite, split_text

needs_jinja = pytest.mark.skipif(
    not importlib.util.find_spec("jinja2"), reason="jinja2 missing: install anyvocab[models]"
)

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = (
    "{% for message in messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA2 = (
    "{% for message in messages %}{% if message.role == 'system' %}"
    "{{ raise_exception('no system message') }}"
    "{% elif message.role == 'user' %}{{ bos_token + '[INST] ' + message.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + message.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
HEADERS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)


def speaker(*controls: str, template: str | None = None, **roles: str) -> av.Tokenizer:
    """Return the tiny tokenizer with control tokens, roles and a chat template."""
    document = tiny_tokenizer()
    like = document["added_tokens"][0]  # type: ignore[index]
    document["added_tokens"] = [
        {**like, "id": 260 + i, "content": content} for i, content in enumerate(controls)
    ]
    declared = Declarations(
        tokenizer_config={f"{role}_token": spelling for role, spelling in roles.items()},
        chat_templates={} if template is None else {"default": template},
    )
    return av.Tokenizer.load(json.dumps(document).encode()).with_declarations(declared)


def chatml(template: str | None = CHATML) -> av.Tokenizer:
    return speaker(*IM, template=template, eos="<|im_end|>", pad="<|endoftext|>")


def llama3(template: str | None = LLAMA3, *more: str) -> av.Tokenizer:
    return speaker(*HEADERS, *more, template=template, bos="<|begin_of_text|>", eos="<|eot_id|>")


def plan(
    source: av.Tokenizer,
    target: av.Tokenizer,
    policy: Policy | None = None,
    overrides: dict[str, str] | None = None,
    spellings: dict[str, str] | None = None,
) -> ChatPlan:
    controls = map_controls(source, target, overrides)
    return plan_chat(source, target, controls, policy, spellings=spellings)


def write(planned: ChatPlan, *, prompt: bool = False, **variables: object) -> str:
    messages = [{"role": "user", "content": "Hi"}]
    known = {"messages": messages, "add_generation_prompt": prompt, **variables}
    (rendered,) = render(planned.templates["default"], [known])
    assert rendered.text is not None
    return rendered.text


@needs_jinja
def test_chatml_is_translated_into_llama3_tokens() -> None:
    planned = plan(chatml(), llama3(None), "translate")
    assert planned.policy == "translate"
    # The texts between the tokens are the source's: they are what its weights know.
    assert write(planned, prompt=True) == (
        "<|start_header_id|>user\nHi<|eot_id|>\n<|start_header_id|>assistant\n"
    )


@needs_jinja
def test_a_token_without_counterpart_stops_the_translation() -> None:
    with pytest.raises(errors.ChatTemplateError, match="no counterpart in the target") as raised:
        plan(llama3(), chatml(None), "translate")
    assert "'<|begin_of_text|>'" in str(raised.value)
    assert "--map" in raised.value.fix


@needs_jinja
def test_the_user_says_what_stands_for_a_token_without_counterpart() -> None:
    spellings = {"<|begin_of_text|>": "", "<|end_header_id|>": ":"}
    planned = plan(llama3(), chatml(None), "translate", spellings=spellings)
    assert write(planned) == "<|im_start|>user:\n\nHi<|im_end|>"


@needs_jinja
def test_a_map_lets_a_template_be_translated() -> None:
    overrides = {"<|x|>": "<|begin_of_text|>", "<|y|>": "<|end_header_id|>"}
    target = speaker(*IM, "<|x|>", "<|y|>", eos="<|im_end|>")
    planned = plan(llama3(), target, "translate", overrides)
    assert write(planned) == "<|x|><|im_start|>user<|y|>\n\nHi<|im_end|>"


@needs_jinja
def test_a_sequence_is_written_as_the_token_that_stands_for_it() -> None:
    target = llama3(None, "<|answer|>")
    overrides = {"<|answer|>": "<|im_start|>assistant\n"}
    planned = plan(chatml(), target, "translate", overrides)
    assert write(planned, prompt=True).endswith("<|eot_id|>\n<|answer|>")


@needs_jinja
def test_variables_keep_their_names_where_they_name_counterparts() -> None:
    source = speaker("<s>", "</s>", template=LLAMA2, bos="<s>", eos="</s>")
    target = speaker("<|begin|>", "<|done|>", bos="<|begin|>", eos="<|done|>")
    planned = plan(source, target, "translate")
    assert planned.templates["default"] == LLAMA2
    assert write(planned, bos_token="<|begin|>") == "<|begin|>[INST] Hi [/INST]"


@needs_jinja
def test_one_token_may_stand_for_begin_and_end() -> None:
    source = speaker("<s>", "</s>", template=LLAMA2, bos="<s>", eos="</s>")
    target = speaker("<|endoftext|>", bos="<|endoftext|>", eos="<|endoftext|>")
    planned = plan(source, target)
    assert planned.policy == "translate"
    assert planned.templates["default"] == LLAMA2


@needs_jinja
def test_a_variable_that_names_another_token_is_set_by_the_template() -> None:
    source = speaker("</s>", template=LLAMA2.replace("bos_token + ", ""), eos="</s>")
    target = speaker("<|a|>", "<|b|>", eos="<|a|>")
    planned = plan(source, target, "translate", {"<|b|>": "</s>", "<|a|>": "he"})
    assert planned.templates["default"].startswith("{%- set eos_token = '<|b|>' -%}")


@needs_jinja
def test_the_targets_template_goes_first_when_nothing_is_asked() -> None:
    planned = plan(llama3(), chatml())
    assert (planned.policy, planned.templates["default"]) == ("take", CHATML)


@needs_jinja
def test_what_cannot_be_translated_unasked_is_left_out_and_said() -> None:
    planned = plan(llama3(), chatml(None))
    assert (planned.policy, planned.templates) == ("none", {})
    assert "cannot be translated" in planned.notes[0]


def test_a_source_without_chat_gives_none() -> None:
    plain = speaker("<|endoftext|>", eos="<|endoftext|>")
    assert plan(plain, chatml(None)) == ChatPlan("none")
    assert plan(plain, chatml(), "none") == ChatPlan("none")


@pytest.mark.parametrize("policy", ["take", "keep", "translate"])
def test_a_template_that_is_not_there_cannot_be_used(policy: Policy) -> None:
    plain = speaker("<|endoftext|>", eos="<|endoftext|>")
    with pytest.raises(errors.ChatTemplateError, match="has no chat template"):
        plan(plain, plain, policy)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(errors.InvalidValue, match="use one of keep, take, translate, none"):
        plan(chatml(), chatml(), "old")  # type: ignore[arg-type]


@needs_jinja
def test_taking_a_template_that_writes_unknown_tokens_is_refused() -> None:
    target = speaker("</s>", template=CHATML, eos="</s>")
    with pytest.raises(errors.ChatTemplateError, match=r"'<\|im_start\|>', which is no token"):
        plan(chatml(), target, "take")


@needs_jinja
def test_taking_a_template_names_its_tokens_that_have_no_row() -> None:
    planned = plan(speaker("</s>", eos="</s>"), chatml(), "take")
    assert planned.notes == (
        "the template writes tokens that have no counterpart in the source: <|im_start|>",
    )


@needs_jinja
def test_a_template_is_kept_where_all_its_tokens_exist() -> None:
    target = speaker("<|im_end|>", "<|im_start|>", eos="<|im_end|>")
    assert plan(chatml(), target, "keep").templates == {"default": CHATML}


@needs_jinja
def test_keeping_a_template_needs_its_tokens_and_its_variables() -> None:
    with pytest.raises(errors.ChatTemplateError, match=r"'<\|im_start\|>', which is no control"):
        plan(chatml(), llama3(), "keep")
    target = speaker(*HEADERS, bos="<|end_of_text|>", eos="<|eot_id|>")
    with pytest.raises(errors.ChatTemplateError, match="with the target's bos_token"):
        plan(llama3(), target, "keep")


@needs_jinja
def test_other_templates_that_cannot_be_translated_are_left_out() -> None:
    source = chatml()
    templates = {"default": CHATML, "tools": "<|endoftext|>{{ messages[0].content }}"}
    source = source.with_declarations(replace(source.declarations, chat_templates=templates))
    target = speaker("<|im_start|>", "<|im_end|>", eos="<|im_end|>")
    planned = plan(source, target, "translate")
    assert list(planned.templates) == ["default"]
    assert "left out: chat_template 'tools'" in planned.notes[0]


@needs_jinja
def test_tokens_in_branches_that_were_not_reached_are_named() -> None:
    template = CHATML + "{% if tools %}<|endoftext|>{% endif %}"
    target = speaker("<|im_start|>", "<|im_end|>", eos="<|im_end|>")
    planned = plan(chatml(template), target, "translate")
    assert "branches that a plain conversation does not reach: <|endoftext|>" in planned.notes[0]


HOSTILE = {
    "{{ ''.__class__.__mro__[1].__subclasses__() }}": "SecurityError",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}": "SecurityError",
    "{{ messages.append(1) }}": "SecurityError",
    "{% include '/etc/passwd' %}": "no loader",
    "{% for i in range(99999) %}aaaaaaaa{% endfor %}": f"more than {CHARACTERS} characters",
    "{% for i in range(10 ** 9) %}{% endfor %}": "OverflowError",
    "{{ 'a' * 10 ** 10 }}": "MemoryError",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}": "RecursionError",
    "{% for x in %}": "TemplateSyntaxError",
    "{{ raise_exception('not today') }}": "not today",
}


@needs_jinja
def test_hostile_templates_are_named_errors_and_stop_no_others() -> None:
    honest = "{{ messages[0].content }}"
    known = [{"messages": [{"role": "user", "content": "Hi"}]}]
    *hostile, after = render_all([(one, known) for one in (*HOSTILE, honest)])
    assert after[0].text == "Hi"
    for (rendered,), (template, reason) in zip(hostile, HOSTILE.items(), strict=True):
        assert rendered.text is None, template
        assert reason in rendered.error


@needs_jinja
def test_nothing_is_imported_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jinja2.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *sys.path])
    assert render("{{ 1 + 1 }}", [{}])[0].text == "2"


@needs_jinja
def test_a_template_without_end_is_stopped() -> None:
    loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(errors.ChatTemplateError, match="is not rendered within"):
        render_all([(loops, [{}])], seconds=1)


@needs_jinja
def test_a_hostile_template_stops_the_plan_that_uses_it() -> None:
    with pytest.raises(errors.ChatTemplateError, match="SecurityError"):
        plan(chatml("{{ ''.__class__.__mro__ }}"), llama3(None), "translate")


def test_a_template_that_is_too_long_is_not_rendered() -> None:
    with pytest.raises(errors.ChatTemplateError, match="over the limit"):
        render("x" * (1 << 18) + "x", [{}])


@needs_jinja
def test_the_sandbox_renders_as_transformers_does() -> None:
    template = (
        "{% for m in messages %}\n    {% generation %}{{ m | tojson }}{% endgeneration %}\n"
        "    {% if loop.first %}{% continue %}{% endif %}\n{% endfor %}"
    )
    transformers = pytest.importorskip("transformers.utils.chat_template_utils")
    messages = [{"content": "é<"}, {"content": "2"}]
    expected = transformers._compile_jinja_template(template).render(messages=messages)
    assert render(template, [{"messages": messages}])[0].text == expected


def test_literals_and_text_are_rewritten_and_code_is_not() -> None:
    template = (
        "<s>{# <s> #}{% if x == '<s>' and {'a': {}}.a %}{{ \"it's <s>\" ~ s['<s>\\n'] }}"
        "{% raw %}{{ '<s>' }}{% endraw %}<s"
    )
    assert rewrite(template, {"<s>": "<|'|>", "<s>\n": "N"}) == (
        "<|'|>{# <s> #}{% if x == '<|\\'|>' and {'a': {}}.a %}{{ \"it's <|'|>\" ~ s['N'] }}"
        "{% raw %}{{ '<|'|>' }}{% endraw %}<s"
    )


def test_a_replacement_may_not_open_a_block() -> None:
    with pytest.raises(errors.ChatTemplateError, match="a replacement opens a block"):
        rewrite("<s>", {"<s>": "{{ x }}"})


@given(st.lists(st.sampled_from([*"{}%#'\"\\<s>-", "raw", "endraw", "{%", "%}", "<s>", "\n"])))
def test_replacing_a_token_by_itself_changes_no_template(parts: list[str]) -> None:
    template = "".join(parts)
    assert rewrite(template, {"<s>": "<s>"}) == template


def test_rewriting_is_one_pass_over_a_template_of_any_size() -> None:
    replacements = {f"<|{i}|>": f"<|{i + 1}|>" for i in range(300)}
    template = "{{ '' }}" * 30_000  # as many literals as the limit leaves room for
    assert rewrite(template, replacements) == template


def test_unclosed_blocks_and_literals_are_copied() -> None:
    for template in ("{{ '<s", "{% if", "{# <s>", "a{{", "{% raw %}<x>"):
        assert rewrite(template, {"<s>": "</s>"}) == template


def test_the_longest_control_token_counts() -> None:
    assert split_text("a<s><s>>b", {"<s>": 1, "<s>>": 2}) == ["a", 1, 2, "b"]
    assert split_text("", {"<s>": 1}) == []
