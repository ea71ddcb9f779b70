"""Roles of control tokens, on small configurations in the shape of well-known families."""

from __future__ import annotations

import time

import pytest

from anyvocab.roles import Declarations, RoleTable, find_roles, role_of_name

LLAMA3_TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)
CHATML_TEMPLATE = (
    "{%- if messages[0]['role'] == 'system' %}"
    "{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    '{%- if (message.role == "user") or (message.role == "assistant") %}'
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
DEEPSEEK_TEMPLATE = (
    "{{ bos_token }}{%- for message in messages %}"
    "{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}"
    "{%- if message['role'] == 'assistant' %}"
    "{{'<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}{%- endif %}"
    "{%- endfor -%}"
    "{% if add_generation_prompt %}{{'<｜Assistant｜>'}}{% endif %}"
)
MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
    "{% endif %}{% endfor %}"
)
PHI3_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'assistant' %}"
    "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)


def triples(table: RoleTable) -> set[tuple[str, int, str]]:
    return {(record.role, record.id, record.source) for record in table}


def test_llama3_takes_every_end_id_from_generation_config() -> None:
    controls = {
        "<|begin_of_text|>": 100,
        "<|end_of_text|>": 101,
        "<|reserved_special_token_0|>": 102,
        "<|finetune_right_pad_id|>": 104,
        "<|start_header_id|>": 106,
        "<|end_header_id|>": 107,
        "<|eom_id|>": 108,
        "<|eot_id|>": 109,
        "<|python_tag|>": 110,
    }
    table = find_roles(
        111,
        controls,
        Declarations(
            generation_config={"bos_token_id": 100, "eos_token_id": [101, 108, 109]},
            tokenizer_config={"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
            chat_templates={"default": LLAMA3_TEMPLATE},
        ),
    )
    assert table.problems == ()
    assert table.ids("eos") == (101, 108, 109)
    assert table.sources("eos", 109)[0] == "generation_config.json: eos_token_id"
    assert table.ids("bos") == (100,)
    assert table.ids("header_start") == (106,)
    assert table.ids("header_end") == (107,)
    assert table.sources("header_start", 106)[0] == "chat template"
    assert table.of(109) == ("eos", "turn_end")
    assert table.sources("turn_end", 109)[0] == "chat template"
    assert table.of(108) == ("eos", "message_end")
    assert table.ids("pad") == (104,)
    assert table.ids("reserved") == (102,)
    assert table.ids("tool_call_start") == (110,)
    assert "turn_start" not in {record.role for record in table}


def test_qwen_finds_turns_in_chatml_and_fim_in_the_spellings() -> None:
    controls = {
        "<|endoftext|>": 43,
        "<|im_start|>": 44,
        "<|im_end|>": 45,
        "<|fim_prefix|>": 59,
        "<|fim_middle|>": 60,
        "<|fim_suffix|>": 61,
        "<|fim_pad|>": 62,
        "<|repo_name|>": 63,
        "<|file_sep|>": 64,
        "<tool_call>": 57,
        "</tool_call>": 58,
        "<think>": 65,
        "</think>": 66,
    }
    table = find_roles(
        70,
        controls,
        Declarations(
            generation_config={"eos_token_id": [45, 43], "pad_token_id": 43, "bos_token_id": 43},
            tokenizer_config={
                "bos_token": None,
                "eos_token": "<|im_end|>",
                "pad_token": "<|endoftext|>",
                "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
            },
            chat_templates={"default": CHATML_TEMPLATE},
        ),
    )
    assert table.problems == ()
    assert table.of(43) == ("bos", "eos", "pad")
    assert table.of(45)[:2] == ("eos", "turn_end")
    assert table.ids("turn_start") == (44,)
    assert [table.ids(f"fim_{part}") for part in ("prefix", "suffix", "middle", "pad")] == [
        (59,),
        (61,),
        (60,),
        (62,),
    ]
    assert table.sources("fim_prefix", 59)[0] == "spelling"
    assert table.ids("repository_name") == (63,)
    assert table.ids("file_separator") == (64,)
    assert table.of(57) == ("tool_call_start",)
    assert table.of(66) == ("think_end",)
    assert table.ids("user") == ()


def test_gemma_finds_turns_in_its_template() -> None:
    controls = {
        "<pad>": 0,
        "<eos>": 1,
        "<bos>": 2,
        "<unk>": 3,
        "<mask>": 4,
        "<unused0>": 7,
        "<start_of_turn>": 106,
        "<end_of_turn>": 107,
    }
    table = find_roles(
        200,
        controls,
        Declarations(
            generation_config={"eos_token_id": [1, 107], "bos_token_id": 2, "pad_token_id": 0},
            tokenizer_config={"bos_token": "<bos>", "unk_token": {"content": "<unk>"}},
            chat_templates={"default": GEMMA_TEMPLATE},
        ),
    )
    assert table.problems == ()
    assert table.ids("turn_start") == (106,)
    assert table.sources("turn_start", 106)[0] == "chat template"
    assert table.of(107) == ("eos", "turn_end")
    assert table.sources("unk", 3)[0] == "tokenizer_config.json: unk_token"
    assert table.ids("mask") == (4,)
    assert table.of(7) == ("reserved",)


def test_deepseek_speakers_and_its_own_order_of_fim_words() -> None:
    controls = {
        "<｜begin▁of▁sentence｜>": 0,
        "<｜end▁of▁sentence｜>": 1,
        "<｜▁pad▁｜>": 2,
        "<｜fim▁hole｜>": 10,
        "<｜fim▁begin｜>": 11,
        "<｜fim▁end｜>": 12,
        "<｜User｜>": 20,
        "<｜Assistant｜>": 21,
        "<｜tool▁calls▁begin｜>": 22,
        "<｜tool▁call▁begin｜>": 23,
    }
    table = find_roles(
        30,
        controls,
        Declarations(
            tokenizer_config={
                "bos_token": {"__type": "AddedToken", "content": "<｜begin▁of▁sentence｜>"},
                "eos_token": {"__type": "AddedToken", "content": "<｜end▁of▁sentence｜>"},
            },
            chat_templates={"default": DEEPSEEK_TEMPLATE},
        ),
    )
    assert table.problems == ()
    assert table.ids("fim_prefix") == (11,)
    assert table.ids("fim_suffix") == (10,)
    assert table.ids("fim_middle") == (12,)
    assert table.sources("user", 20)[0] == "chat template"
    assert table.sources("assistant", 21)[0] == "chat template"
    assert table.ids("turn_end") == (1,)
    assert table.ids("pad") == (2,)
    assert table.ids("tool_calls_start") == (22,)
    assert table.ids("tool_call_start") == (23,)


def test_mistral_speakers_stand_in_brackets_and_eos_closes_the_answer() -> None:
    controls = {
        "<unk>": 0,
        "<s>": 1,
        "</s>": 2,
        "[INST]": 3,
        "[/INST]": 4,
        "[TOOL_CALLS]": 5,
        "[AVAILABLE_TOOLS]": 6,
        "[/AVAILABLE_TOOLS]": 7,
        "[PREFIX]": 8,
        "[MIDDLE]": 9,
        "[SUFFIX]": 10,
        "[control_8]": 11,
    }
    table = find_roles(
        20,
        controls,
        Declarations(
            special_tokens_map={"bos_token": "<s>", "eos_token": "</s>"},
            chat_templates={"default": MISTRAL_TEMPLATE},
        ),
        declared=[("bos", 1, "trainer_spec.bos_id"), ("unk", 0, "trainer_spec.unk_id")],
    )
    assert table.problems == ()
    assert table.sources("bos", 1)[0] == "special_tokens_map.json: bos_token"
    assert table.sources("unk", 0)[0] == "trainer_spec.unk_id"
    assert table.of(3) == ("user", "turn_start")
    assert "turn_end" in table.of(4)
    assert table.of(2)[:2] == ("eos", "turn_end")
    assert [table.ids(f"fim_{part}") for part in ("prefix", "suffix", "middle")] == [
        (8,),
        (10,),
        (9,),
    ]
    assert table.of(11) == ("reserved",)
    assert table.of(6) == ("tools_start",)


def test_phi3_speaker_tokens_and_the_shared_end() -> None:
    controls = {
        "<|endoftext|>": 0,
        "<|assistant|>": 1,
        "<|system|>": 6,
        "<|end|>": 7,
        "<|user|>": 10,
    }
    table = find_roles(
        11,
        controls,
        Declarations(
            tokenizer_config={"eos_token": "<|endoftext|>"},
            chat_templates={"default": PHI3_TEMPLATE},
        ),
    )
    assert (table.ids("user"), table.ids("assistant"), table.ids("system")) == ((10,), (1,), (6,))
    assert table.sources("user", 10)[0] == "chat template"
    assert table.ids("turn_end") == (7,)


def test_codellama_fim_tokens_carry_a_word_mark() -> None:
    controls = {"<s>": 1, "</s>": 2, "▁<PRE>": 7, "▁<MID>": 9, "▁<SUF>": 8, "▁<EOT>": 10}
    table = find_roles(32, controls, Declarations())
    assert table.ids("fim_prefix") == (7,)
    assert table.ids("fim_suffix") == (8,)
    assert table.ids("fim_middle") == (9,)
    assert table.ids("bos") == (1,)
    assert table.ids("eos") == (2,)


def test_starcoder_names_repositories_and_files() -> None:
    controls = {
        "<|endoftext|>": 0,
        "<fim_prefix>": 1,
        "<fim_middle>": 2,
        "<fim_suffix>": 3,
        "<fim_pad>": 4,
        "<filename>": 5,
        "<reponame>": 16,
    }
    table = find_roles(
        20, controls, Declarations(special_tokens_map={"bos_token": "<|endoftext|>"})
    )
    assert table.of(0) == ("bos", "eos")
    assert [table.of(id) for id in (1, 2, 3, 4, 5, 16)] == [
        ("fim_prefix",),
        ("fim_middle",),
        ("fim_suffix",),
        ("fim_pad",),
        ("file_name",),
        ("repository_name",),
    ]


@pytest.mark.parametrize(
    ("spelling", "role"),
    [
        ("<fim-prefix>", "fim_prefix"),
        ("<[fim-suffix]>", "fim_suffix"),
        ("<|code_middle|>", "fim_middle"),
        ("<|reserved_token_12|>", "reserved"),
        ("<extra_id_3>", "sentinel"),
        ("[unused17]", "reserved"),
        ("[CLS]", "cls"),
        ("user", None),
        ("the", None),
        ("<div>", None),
        ("<>", None),
        ("", None),
    ],
)
def test_a_spelling_suggests_a_role_only_when_it_is_decorated(
    spelling: str, role: str | None
) -> None:
    assert role_of_name(spelling) == role


def test_bert_post_processor_gives_cls_and_sep_and_no_bos() -> None:
    controls = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102}
    post_processor = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
        ],
        "special_tokens": {
            "[CLS]": {"id": "[CLS]", "ids": [101], "tokens": ["[CLS]"]},
            "[SEP]": {"id": "[SEP]", "ids": [102], "tokens": ["[SEP]"]},
        },
    }
    config = {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    table = find_roles(
        110, controls, Declarations(tokenizer_config=config), post_processor=post_processor
    )
    assert triples(table) >= {
        ("cls", 101, "tokenizer_config.json: cls_token"),
        ("sep", 102, "tokenizer_config.json: sep_token"),
    }
    assert table.ids("bos") == ()
    roberta = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}
    table = find_roles(3, {"<s>": 0, "</s>": 2}, Declarations(), post_processor=roberta)
    assert ("cls", 0, "post_processor.cls") in triples(table)


def test_what_the_post_processor_writes_first_is_bos() -> None:
    post_processor = {
        "type": "Sequence",
        "processors": [
            {"type": "ByteLevel"},
            {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "B"}}, {"Sequence": {"id": "A"}}],
                "special_tokens": {"B": {"id": "B", "ids": [5], "tokens": ["B"]}},
            },
        ],
    }
    table = find_roles(6, {"B": 5}, Declarations(), post_processor=post_processor)
    assert triples(table) == {("bos", 5, "post_processor.processors[1].single")}


def test_declarations_that_fit_no_token_are_problems_and_not_roles() -> None:
    table = find_roles(
        10,
        {"<s>": 1},
        Declarations(
            generation_config={"eos_token_id": [2, 200, -1, True, "x"], "pad_token_id": None},
            tokenizer_config={"bos_token": "<s>", "pad_token": "[PAD]", "unk_token": 7},
        ),
    )
    assert [(problem.source, problem.found) for problem in table.problems] == [
        ("generation_config.json: eos_token_id", "200 is no id of this vocabulary of 10"),
        ("generation_config.json: eos_token_id", "-1 is no id"),
        ("generation_config.json: eos_token_id", "True is no id"),
        ("generation_config.json: eos_token_id", "'x' is no id"),
        ("tokenizer_config.json: pad_token", "'[PAD]' is no token of this vocabulary"),
        ("tokenizer_config.json: unk_token", "7 is no token's text"),
    ]
    assert table.ids("eos") == (2,)


def test_extra_special_tokens_may_be_a_list_or_named() -> None:
    controls = {"<image>": 3, "<|fim_prefix|>": 4}
    named = find_roles(
        5,
        controls,
        Declarations(tokenizer_config={"extra_special_tokens": {"image_token": "<image>"}}),
    )
    assert ("image", 3, "tokenizer_config.json: extra_special_tokens") in triples(named)
    listed = find_roles(
        5,
        controls,
        Declarations(
            tokenizer_config={
                "additional_special_tokens": [{"content": "<|fim_prefix|>"}, "<image>"]
            }
        ),
    )
    assert listed.of(4) == ("fim_prefix",)
    assert listed.of(3) == ("additional",)


def test_a_text_token_gets_a_role_only_when_it_is_declared() -> None:
    text = {"user": 8, "</s>": 9}
    table = find_roles(10, {}, Declarations(tokenizer_config={"eos_token": "</s>"}), find=text.get)
    assert triples(table) == {("eos", 9, "tokenizer_config.json: eos_token")}


@pytest.mark.parametrize(
    "template",
    [
        "{#" * 100_000,
        "{{" * 100_000,
        "{% if " * 40_000,
        "{{ '" + "\\'" * 100_000,
        "{{ " + "'" * 200_001 + " }}",
        "{% if role" + "]" * 200_000 + " %}",
        "{{ [" + " " * 200_000 + "'content' ] }}",
        "<|a" * 80_000,
        "{% endif %}" * 20_000,
        "{% if message.role == 'user' %}" * 8_000,
    ],
    ids=lambda template: template[:12],
)
def test_a_hostile_template_is_read_in_a_moment(template: str) -> None:
    controls = {"<|a": 1, "<|a<|": 2, **{"<|a" * n: 2 + n for n in range(2, 40)}}
    start = time.process_time()
    find_roles(100, controls, Declarations(chat_templates={"default": template}))
    assert time.process_time() - start < 2.0


def test_a_template_over_the_limit_is_a_problem() -> None:
    table = find_roles(1, {"<s>": 0}, Declarations(chat_templates={"default": "x" * (1 << 19)}))
    assert [problem.source for problem in table.problems] == ["chat template"]


def test_the_table_is_the_same_every_time() -> None:
    declarations = Declarations(chat_templates={"default": DEEPSEEK_TEMPLATE})
    controls = {"<｜User｜>": 0, "<｜Assistant｜>": 1, "<｜end▁of▁sentence｜>": 2}
    assert find_roles(3, controls, declarations) == find_roles(3, controls, declarations)
