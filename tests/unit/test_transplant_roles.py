"""Control tokens of a target and the source rows they take."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.roles import Declarations
from anyvocab.testing import tiny_tokenizer
from anyvocab.transplant.overrides import parse_overrides
from anyvocab.transplant.roles import ControlMap, map_controls

FIRST = 260  # the tiny tokenizer's first control token


def tiny_with(*controls: str, special: bool = True, **declared: object) -> av.Tokenizer:
    """Return the tiny tokenizer with other control tokens, 260 on, and a tokenizer_config.json."""
    document = tiny_tokenizer()
    template = document["added_tokens"][0]  # type: ignore[index]
    document["added_tokens"] = [
        {**template, "id": FIRST + i, "content": content, "special": special}
        for i, content in enumerate(controls)
    ]
    tokenizer = av.Tokenizer.load(json.dumps(document).encode())
    return tokenizer.with_declarations(Declarations(tokenizer_config=declared))


def sources(controls: ControlMap) -> dict[str, tuple[int, ...]]:
    return {row.spelling: row.sources for row in controls}


@cache
def load(fixtures: Path, name: str) -> av.Tokenizer:
    return av.Tokenizer.load(fixtures / "tokenizers" / name)


def instructed(tokenizer: av.Tokenizer, **generation: object) -> av.Tokenizer:
    declared = replace(tokenizer.declarations, generation_config=generation)
    return tokenizer.with_declarations(declared)


def test_one_source_token_serves_as_begin_end_and_padding() -> None:
    controls = map_controls(av.Tokenizer.load("pico:code-4k"), av.Tokenizer.load("pico:code-2k"))
    assert sources(controls) == {
        "<unk>": (),
        "<s>": (4091,),
        "</s>": (4091,),
        "<fim_prefix>": (4092,),
        "<fim_suffix>": (4093,),
        "<fim_middle>": (4094,),
        "<fim_pad>": (4095,),
    }
    assert controls.unclaimed == ()
    assert [row.spelling for row in controls.missing] == ["<unk>"]


def test_a_token_that_begins_and_ends_is_read_as_the_begin_and_predicted_as_the_end() -> None:
    controls = map_controls(av.Tokenizer.load("pico:code-2k"), av.Tokenizer.load("pico:code-4k"))
    row = controls[4091]
    assert (row.sources_on("input"), row.sources_on("output"), row.sources) == ((1,), (2,), (2,))
    assert controls.takers(1) == controls.takers(2) == (4091,)
    assert controls.unclaimed == (0,)


def test_begin_rows_that_repeat_the_end_are_named_as_echoes() -> None:
    controls = map_controls(av.Tokenizer.load("pico:code-4k"), av.Tokenizer.load("pico:code-2k"))
    assert controls.echoes() == {1: 2}  # `<s>` would be sampled as often as `</s>`


@pytest.mark.parametrize("name", ["gpt2", "llama2", "llama3", "t5", "bert_uncased", "clip"])
def test_the_same_vocabulary_maps_every_token_to_itself(fixtures: Path, name: str) -> None:
    tokenizer = load(fixtures, name)
    bare = load(fixtures, f"{name}/tokenizer.json")
    for source, target in ((tokenizer, tokenizer), (tokenizer, bare), (bare, tokenizer)):
        controls = map_controls(source, target)
        assert all(row.sources == (row.id,) and not row.input_sources for row in controls)
        assert controls.unclaimed == ()


def test_a_declared_role_goes_before_one_that_only_a_spelling_suggests() -> None:
    source = tiny_with("</s>", "<|done|>", eos_token="<|done|>")
    target = tiny_with("<|stop|>", eos_token="<|stop|>")
    assert sources(map_controls(source, target)) == {"<|stop|>": (FIRST + 1,)}
    assert map_controls(source, target).unclaimed == (FIRST,)


def test_a_declared_end_is_not_given_up_for_the_same_spelling() -> None:
    source = tiny_with("</s>", "<|done|>", eos_token="<|done|>")
    target = tiny_with("</s>", eos_token="</s>")
    assert sources(map_controls(source, target)) == {"</s>": (FIRST + 1,)}


def test_a_guess_about_the_target_keeps_the_same_spelling() -> None:
    source = tiny_with("</s>", "<pad>", eos_token="</s>", pad_token="</s>")
    target = tiny_with("<pad>", "<|x|>")
    assert map_controls(source, target)[FIRST].sources == (FIRST + 1,)


def test_what_ends_a_turn_takes_the_row_of_what_ends_a_turn(fixtures: Path) -> None:
    source = instructed(load(fixtures, "llama3"), eos_token_id=[128001, 128009])
    target = instructed(load(fixtures, "qwen2"), eos_token_id=[151645, 151643])
    there = sources(map_controls(source, target))
    assert (there["<|im_end|>"], there["<|endoftext|>"]) == ((128009,), (128001,))
    back = sources(map_controls(target, source))
    assert (back["<|eot_id|>"], back["<|end_of_text|>"]) == ((151645,), (151643,))


def test_an_end_that_also_begins_is_no_end_of_turns(fixtures: Path) -> None:
    source = instructed(
        load(fixtures, "qwen2"),
        bos_token_id=151643,
        pad_token_id=151643,
        eos_token_id=[151645, 151643],
    )
    controls = sources(map_controls(source, load(fixtures, "llama3")))
    assert controls["<|end_of_text|>"] == controls["<|begin_of_text|>"] == (151643,)
    assert controls["<|eot_id|>"] == (151645,)


def test_among_several_ends_the_first_declared_one_counts(fixtures: Path) -> None:
    # These models end a story with `<s>`, and their generation_config.json says so first.
    source = av.Tokenizer.load(fixtures / "models" / "stories260K")
    target = tiny_with("<|endoftext|>", eos_token="<|endoftext|>")
    controls = map_controls(source, target)
    assert (controls[FIRST].sources, controls.unclaimed) == ((1,), (0, 2))


def test_roles_stand_in_for_those_the_source_lacks(fixtures: Path) -> None:
    controls = map_controls(load(fixtures, "gpt2"), load(fixtures, "llama3"))
    row = controls[128009]
    assert (row.spelling, row.sources, row.rule) == ("<|eot_id|>", (50256,), "family")
    assert row.reason == "no turn_end in the source: its eos stands in"
    assert controls[128001].reason == "role eos: tokenizer_config.json: eos_token"
    # Two end tokens and a begin token repeat one output row; the end of a text keeps it.
    assert controls.echoes() == {128000: 128001, 128009: 128001}


def test_a_padding_token_the_source_lacks_takes_its_end() -> None:
    source = tiny_with("</s>", eos_token="</s>")
    target = tiny_with("<pad>", "<unk>", "<|fim_middle|>", pad_token="<pad>", unk_token="<unk>")
    assert sources(map_controls(source, target)) == {
        "<pad>": (FIRST,),
        "<unk>": (),
        "<|fim_middle|>": (),
    }


def test_padding_takes_the_end_of_texts_not_that_of_turns(fixtures: Path) -> None:
    source = instructed(load(fixtures, "qwen2"), eos_token_id=[151645, 151643])
    controls = map_controls(source, tiny_with("<pad>", pad_token="<pad>"))
    assert controls[FIRST].sources == (151643,)


def test_a_token_without_counterpart_is_not_cut_into_its_characters() -> None:
    plain = tiny_with()
    controls = map_controls(plain, tiny_with("<|end_of_text|>", eos_token="<|end_of_text|>"))
    row = controls[FIRST]
    assert (row.sources, row.rule, row.reason) == ((), "none", "no counterpart")


def test_reserved_tokens_map_by_their_spelling_only(fixtures: Path) -> None:
    source = tiny_with("<|reserved_special_token_7|>", "<|reserved_special_token_3|>")
    target = tiny_with("<|reserved_special_token_3|>", "<|reserved_special_token_9|>")
    assert list(sources(map_controls(source, target)).values()) == [(FIRST + 1,), ()]


def test_an_added_token_that_spells_text_takes_the_row_of_its_bytes() -> None:
    controls = map_controls(tiny_with(), tiny_with("hell", special=False))
    assert [(row.sources, row.rule) for row in controls if row.spelling == "hell"] == [
        ((258,), "bytes")
    ]


def test_a_map_goes_before_roles_and_may_name_ids() -> None:
    source, target = tiny_with("<|a|>", "<|b|>", eos_token="<|a|>"), tiny_with("<|c|>", "<|d|>")
    for overrides in ({"<|c|>": "<|b|>"}, {"260": "261"}):
        row = map_controls(source, target, overrides)[FIRST]
        assert (row.sources, row.rule) == ((FIRST + 1,), "override")
        assert row.reason.startswith("map given: ")


def test_a_control_token_may_stand_for_a_sequence(fixtures: Path) -> None:
    source = load(fixtures, "qwen2")
    target = load(fixtures, "llama3")
    controls = map_controls(source, target, {"<|start_header_id|>": "<|im_start|>user\n"})
    expected = tuple(source.encode("<|im_start|>user\n").tolist())
    assert controls[128006].sources == expected
    assert expected[0] == 151644
    assert len(expected) == 3


def test_a_sequence_is_no_echo_of_its_first_token() -> None:
    source = tiny_with("<|a|>")
    controls = map_controls(source, tiny_with("<|b|>", "<|a|>"), {"<|b|>": "<|a|>he"})
    assert controls[FIRST].sources == (FIRST, 256)
    assert controls.echoes() == {}
    assert controls.takers(FIRST) == (FIRST + 1,)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"<|eot|>": "<|a|>"}, "'<|eot|>' is no token of the new tokenizer; near ones are <|eos|>"),
        ({"<|eos|>": "<|aa|>"}, "'<|aa|>' is no token of the old tokenizer; near ones are <|a|>"),
        ({"<|eos|>": "x<|bb|>y"}, "'<|bb|>' is no token of the old tokenizer; near ones are"),
        ({"<|eos|>": "262"}, "262 is no id of a token; ids are 0..261"),
        ({"9999": "<|a|>"}, "9999 is no id of a token; ids are 0..260"),
        ({"<|eos|>": "<|a|>", "260": "<|a|>"}, "'260' is mapped twice"),
        ({"<|eos|>": ""}, "'' has no tokens in the old tokenizer"),
    ],
)
def test_a_map_that_fits_no_token_says_what_is_near(
    overrides: dict[str, str], message: str
) -> None:
    with pytest.raises(errors.InvalidValue, match="map: ") as raised:
        map_controls(tiny_with("<|a|>", "<|b|>"), tiny_with("<|eos|>"), overrides)
    assert message in str(raised.value)


def test_a_source_token_without_a_row_gives_none() -> None:
    source = tiny_with("<|x|>", "<|y|>", eos_token="<|y|>")
    target = tiny_with("<|y|>", eos_token="<|y|>")
    controls = map_controls(source, target, source_rows=FIRST + 1)
    assert (controls[FIRST].sources, controls.unclaimed) == ((), (FIRST,))
    with pytest.raises(errors.InvalidValue, match="261 has no row in the model, which has 261"):
        map_controls(source, target, {"<|y|>": "<|y|>"}, source_rows=FIRST + 1)


def test_maps_are_parsed_at_the_end_of_a_token_that_exists() -> None:
    target = tiny_with("<|a=b|>")
    assert parse_overrides(["<|a=b|>=<|x|>"], target) == {"<|a=b|>": "<|x|>"}
    assert parse_overrides(["a=b=c"]) == {"a": "b=c"}


def test_escapes_in_a_map_are_the_characters_they_name() -> None:
    assert parse_overrides([r"<|a|>=<|b|>user\n\t\\n"]) == {"<|a|>": "<|b|>user\n\t\\n"}


@pytest.mark.parametrize("text", ["", "=", "a", "a=", "=a"])
def test_a_map_without_two_sides_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidValue, match="is not NEW=OLD"):
        parse_overrides([text])


def test_a_token_mapped_twice_is_refused() -> None:
    with pytest.raises(errors.InvalidValue, match="'a' is mapped twice"):
        parse_overrides(["a=b", "a=c"])


def test_asking_for_a_text_token_is_a_named_error() -> None:
    controls = map_controls(tiny_with("<|a|>"), tiny_with("<|a|>"))
    assert 0 not in controls
    with pytest.raises(errors.InvalidValue, match="0 is no control token of the target"):
        controls[0]
