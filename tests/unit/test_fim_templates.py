"""Fill-in-the-middle templates: which marks mean which prompt, and what is done at its edges."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

import anyvocab as av
from anyvocab.bytelm import Ids
from anyvocab.bytelm.edges import (
    continuation_head,
    encode_spelled,
    has_dummy_prefix,
    incomplete_tail,
    settled_end,
)
from anyvocab.bytelm.fim import LAYOUTS, FimTemplate, Order
from anyvocab.bytelm.fim_families import choose_template, find_templates
from anyvocab.pico import fim as pico_fim
from anyvocab.testing import tiny_tokenizer

BARRED = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
PLAIN = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
ORDERS: tuple[Order, ...] = tuple(LAYOUTS)
HAN = "中".encode()  # three bytes


def added(spellings: Sequence[str], first: int) -> list[dict[str, object]]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [
        {"id": first + at, "content": one, "special": True, **flags}
        for at, one in enumerate(spellings)
    ]


def marked(*spellings: str) -> av.Tokenizer:
    """Return the tiny byte-level tokenizer with these control tokens, ids from 260 on."""
    document = tiny_tokenizer(added_tokens=added(spellings, 260))
    return av.Tokenizer.load(json.dumps(document).encode())


def spaced(*spellings: str) -> av.Tokenizer:
    """Return a SentencePiece-like tokenizer that puts a space before a text, marks from 262 on."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "x", "▁x"]
    document = tiny_tokenizer(
        added_tokens=added(["<unk>", "<s>", "</s>"], 0) + added(spellings, len(tokens)),
        normalizer={
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        pre_tokenizer=None,
        decoder={
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
    )
    document["model"] = {
        "type": "BPE",
        "unk_token": "<unk>",
        "byte_fallback": True,
        "fuse_unk": True,
        "vocab": {token: id for id, token in enumerate(tokens)},
        "merges": [["▁", "x"]],
    }
    return av.Tokenizer.load(json.dumps(document).encode())


def labels(tokenizer: av.Tokenizer) -> list[str]:
    return [one.label for one in find_templates(tokenizer)]


# Which family -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spellings", "expected"),
    [
        (["<|endoftext|>", *PLAIN, "<fim_pad>"], ["starcoder/psm", "starcoder/spm"]),
        (
            ["<|endoftext|>", "<fim-prefix>", "<fim-middle>", "<fim-suffix>", "<fim-pad>"],
            ["santacoder/psm", "santacoder/spm"],
        ),
        (["<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>", "<|EOT|>"], ["deepseek/psm"]),
        ([*BARRED, "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"], ["qwen/psm"]),
        ([*BARRED, "<|file_separator|>"], ["codegemma/psm"]),
        ([*BARRED, "<|end_of_text|>"], ["fim/psm", "fim/spm"]),  # Granite 4
        (["[SUFFIX]", "[PREFIX]", "[MIDDLE]", "</s>"], ["mistral/sp"]),
        (["<|endoftext|>", *BARRED, "<|fim_pad|>"], ["pico/spm", "pico/psm"]),
        ([], []),
        (["<|fim_prefix|>", "<|fim_suffix|>"], []),  # no middle mark
    ],
)
def test_a_family_is_known_by_the_spelling_of_its_marks(
    spellings: list[str], expected: list[str]
) -> None:
    assert labels(marked(*spellings)) == expected


@pytest.mark.parametrize(
    ("name", "expected", "ends"),
    [
        ("starcoder", ["starcoder/psm", "starcoder/spm"], "<|endoftext|>"),
        ("deepseek_coder", ["deepseek/psm"], "<｜end▁of▁sentence｜>"),
        ("qwen2", [], ""),
        ("llama2", [], ""),
        ("gpt2", [], ""),
    ],
)
def test_real_tokenizers_have_the_templates_of_their_makers(
    fixtures: Path, name: str, expected: list[str], ends: str
) -> None:
    tokenizer = av.Tokenizer.load(fixtures / "tokenizers" / name)
    found = find_templates(tokenizer)
    assert [one.label for one in found] == expected
    for one in found:
        assert ends.encode() in {tokenizer.vocabulary.spelling(id) for id in one.end_ids}


def test_deepseeks_hole_is_where_the_suffix_begins_and_its_end_where_the_middle_does() -> None:
    template = choose_template(marked("<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>"))
    # begin, prefix, hole, suffix, end, as in arXiv:2401.14196; ids: hole 260, begin 261, end 262
    assert template.plain_prompt(b"a", b"b").pieces == ((261,), b"a", (260,), b"b", (262,))


def test_codestral_is_shown_the_suffix_first_and_goes_on_from_the_prefix() -> None:
    template = choose_template(marked("[SUFFIX]", "[PREFIX]"))
    assert template.prompt(b"a", b"b").pieces == ((260,), b"b", (261,), b"a")
    assert template.prompt(b"a", b"b").open == b"a"


@pytest.mark.parametrize(
    ("spellings", "order", "pieces"),
    [
        # Code Llama's own code: the prefix is encoded with SentencePiece's space, the suffix not.
        (["▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>"], "psm", ((262,), b" x", (264,), b"y", (263,))),
        (["▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>"], "spm", ((262, 264), b"y", (263,), b" x")),
        # Mistral's documentation: `<s>[SUFFIX]suffix[PREFIX] prefix` with its first tokenizers.
        (["[PREFIX]", "[SUFFIX]"], "sp", ((263,), b"y", (262,), b" x")),
    ],
)
def test_sentencepieces_space_stands_before_the_prefix_and_nowhere_else(
    spellings: list[str], order: str, pieces: tuple[object, ...]
) -> None:
    template = choose_template(spaced(*spellings), order)
    assert template.plain_prompt(b"x", b"y").pieces == pieces
    assert b" " not in template.plain_prompt(b"", b"y").pieces  # an empty prefix has none


def test_code_llamas_end_of_middle_ends_it() -> None:
    tokenizer = spaced("▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>")
    assert set(choose_template(tokenizer).end_ids) == {2, 265}  # </s>, <EOT>


def test_a_byte_level_tokenizer_puts_no_space_before_mistrals_prefix() -> None:
    assert choose_template(marked("[SUFFIX]", "[PREFIX]")).lead == b""


def test_marks_of_two_families_are_ambiguous_until_one_is_named() -> None:
    tokenizer = marked("<|end|>", *BARRED, *PLAIN)
    with pytest.raises(av.InvalidValue, match=r"several families .*starcoder/psm.*fim/psm"):
        choose_template(tokenizer)
    with pytest.raises(av.InvalidValue, match="several families"):
        choose_template(tokenizer, "spm")
    assert choose_template(tokenizer, "starcoder").label == "starcoder/psm"
    assert choose_template(tokenizer, "fim/spm").label == "fim/spm"


def test_without_marks_the_error_lists_what_was_looked_for_and_how_to_give_a_template() -> None:
    with pytest.raises(av.UnsupportedTokenizer) as caught:
        choose_template(marked("<|end|>"))
    text = str(caught.value)
    assert "no fill-in-the-middle marks" in text
    assert "<fim_prefix> <fim_suffix> <fim_middle>" in text
    assert "FimTemplate(" in text


def test_marks_of_no_known_family_are_not_guessed_but_named() -> None:
    # CodeGeeX's: they stand inside a chat prompt, suffix first
    spellings = ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>")
    with pytest.raises(av.UnsupportedTokenizer, match=r"fim_suffix '<\|code_suffix\|>' \(id 261\)"):
        choose_template(marked(*spellings))


def test_a_template_by_hand_is_taken_as_it_is() -> None:
    template = FimTemplate("mine", "spm-closed", 261, 260, 262, end_ids=(263,))
    assert choose_template(marked("<a>", "<b>", "<c>", "<d>"), template) is template


def test_a_template_whose_ids_the_tokenizer_does_not_have_is_refused() -> None:
    template = FimTemplate("mine", "psm", 260, 261, 9999, end_ids=())
    with pytest.raises(av.InvalidValue, match="9999 is no id"):
        choose_template(marked("<a>", "<b>"), template)


def test_an_unknown_name_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(av.InvalidValue, match="it has starcoder/psm, starcoder/spm"):
        choose_template(marked(*PLAIN), "qwen")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": "mps"}, "'mps' is no order"),
        ({"edge": "word"}, "'word' is no edge"),
        ({"middle_id": None}, "has a mark before the middle"),
        ({"suffix_id": 1}, "share an id"),
        ({"end_ids": (3,)}, "share an id"),
        ({"prefix_id": -1}, "-1 is no id"),
    ],
)
def test_a_template_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {
        "name": "mine", "order": "psm", "prefix_id": 1, "suffix_id": 2, "middle_id": 3,
        "end_ids": (0,),
    }  # fmt: skip
    with pytest.raises(av.InvalidValue, match=message):
        FimTemplate(**{**fields, **changes})  # type: ignore[arg-type]


# What is done at the edges ----------------------------------------------------------------------


def template(order: Order, **changes: object) -> FimTemplate:
    middle = None if order == "sp" else 3
    return FimTemplate("mine", order, 1, 2, middle, end_ids=(0,), **changes)  # type: ignore[arg-type]


def test_the_four_orders_are_written_as_published() -> None:
    written = {order: template(order).plain_prompt(b"P", b"S").pieces for order in ORDERS}
    assert written == {
        "psm": ((1,), b"P", (2,), b"S", (3,)),
        "spm": ((1, 2), b"S", (3,), b"P"),
        "sp": ((2,), b"S", (1,), b"P"),
        "spm-closed": ((2,), b"S", (1,), b"P", (3,)),
    }


@pytest.mark.parametrize("order", ORDERS)
def test_empty_texts_leave_no_empty_piece(order: Order) -> None:
    pieces = template(order).prompt(b"", b"").pieces
    assert len(pieces) == 1
    assert sorted(pieces[0]) == ([1, 2] if order == "sp" else [1, 2, 3])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_a_character_cut_in_two_is_whole_again_around_the_middle(order: Order, cut: int) -> None:
    # prefix and suffix share a character: what is open, the middle and what closes it are one text
    text = b"a" + HAN + b"b"
    prompt = template(order, edge="character").prompt(text[: 1 + cut], text[1 + cut :])
    shown = b"".join(piece for piece in prompt.pieces if isinstance(piece, bytes))
    assert sorted(shown + prompt.closing) == sorted(text)
    assert prompt.closing == (HAN[cut:] if 0 < cut < 3 else b"")
    partial = HAN[:cut] if cut < 3 else b""
    assert prompt.open == (text[: 1 + cut] if order in ("spm", "sp") else partial)
    if prompt.open:
        assert prompt.pieces[-1] == prompt.open


def test_the_unsettled_end_of_a_closed_prefix_opens_the_middle() -> None:
    tokenizer = marked(*PLAIN)  # he, ll, hell and " hell" are tokens
    prompt = template("psm").prompt(b"x hel", b"o", tokenizer=tokenizer)
    # `x` ends a pretoken that is settled by what follows; ` hel` may still become ` hell`
    assert prompt.pieces == ((1,), b"x", (2,), b"o", (3,), b" hel")
    assert prompt.open == b" hel"


def test_an_unsettled_end_cannot_be_found_without_the_tokenizer() -> None:
    with pytest.raises(av.InvalidValue, match="needed to find where a token"):
        template("psm").prompt(b"x hel", b"o")
    assert template("psm").prompt(b"", b"o").open == b""  # nothing is there to be found


@pytest.mark.parametrize("edge", ["character", "none"])
def test_with_another_edge_the_cut_inside_a_token_is_kept(edge: str) -> None:
    prompt = template("psm", edge=edge).prompt(b"x hel", b"o")
    assert prompt.pieces == ((1,), b"x hel", (2,), b"o", (3,))
    assert prompt.open == b""


def test_without_an_edge_a_character_stays_cut_in_two() -> None:
    prompt = template("psm", edge="none").prompt(HAN[:2], b"")
    assert prompt.pieces == ((1,), HAN[:2], (2, 3))


@pytest.mark.parametrize("name", ["code-4k", "code-2k"])
@pytest.mark.parametrize("edge", ["token", "character"])
def test_what_stands_before_a_closing_mark_never_ends_inside_a_character(
    name: str, edge: str
) -> None:
    tokenizer = av.Tokenizer.load(f"pico:{name}")
    text = "x = 'é中文😀𝔘n' # ß\n".encode()
    for cut in range(len(text) + 1):
        prompt = template("psm", edge=edge).prompt(text[:cut], b"", tokenizer=tokenizer)
        before = text[: cut - len(prompt.open)]
        assert before == b"" or before in prompt.pieces
        before.decode()  # raises where a character is cut


@pytest.mark.parametrize("order", ORDERS)
def test_the_plain_prompt_moves_nothing(order: Order) -> None:
    prompt = template(order).plain_prompt(b"a" + HAN[:1], HAN[1:] + b"b")
    assert {piece for piece in prompt.pieces if isinstance(piece, bytes)} == {
        b"a" + HAN[:1],
        HAN[1:] + b"b",
    }
    assert prompt.closing == b""


def test_parts_are_ids_and_bytes() -> None:
    parts = template("spm").parts(b"P", b"S")
    assert [(type(part), part) for part in parts] == [
        (Ids, Ids([1, 2])),
        (bytes, b"S"),
        (Ids, Ids([3])),
        (bytes, b"P"),
    ]


@pytest.mark.parametrize("name", ["code-4k", "code-2k"])
@pytest.mark.parametrize("order", ["psm", "spm"])
def test_pico_plain_prompts_are_the_ones_its_training_wrote(
    name: str, order: pico_fim.Order
) -> None:
    tokenizer = av.Tokenizer.load(f"pico:{name}")
    chosen = choose_template(tokenizer, order)
    middle = chosen.middle_id
    assert middle is not None
    ids = pico_fim.FimIds(chosen.prefix_id, chosen.suffix_id, middle, eos=chosen.end_ids[0])
    assert chosen.end_ids[0] == tokenizer.vocabulary.ids_of_role("eos")[0]

    def encode(text: str) -> list[int]:
        return [int(id) for id in tokenizer.encode(text, specials="text")]

    rng = random.Random(3)
    text = "def f(x):\n    return {'é': x, '中': None}  # <fim_prefix>\n\n\nclass A:\n\tpass\n" * 2
    for _ in range(40):
        parts = pico_fim.cut(text, rng)
        prompt = chosen.plain_prompt(parts.prefix.encode(), parts.suffix.encode())
        written: list[int] = []
        for piece in prompt.pieces:
            written += encode_spelled(tokenizer, piece) if isinstance(piece, bytes) else piece
        assert written == pico_fim.prompt(parts.prefix, parts.suffix, encode, ids, order=order)


# Edges of texts ---------------------------------------------------------------------------------


def test_an_incomplete_tail_is_the_beginning_of_some_character() -> None:
    # every proper beginning of every character there is
    characters = (chr(code).encode() for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    beginnings = {one[:n] for one in characters for n in range(1, len(one))}
    rng = random.Random(0)
    pool = [0x20, 0x41, 0x80, 0x9F, 0xA0, 0xBF, 0xC1, 0xC3, 0xE0, 0xE4, 0xED, 0xF0, 0xF4, 0xF5]
    for _ in range(5000):
        text = bytes(rng.choice(pool) for _ in range(rng.randint(0, 5)))
        expected = next((n for n in (3, 2, 1) if text[-n:] in beginnings and n <= len(text)), 0)
        assert incomplete_tail(text) == expected, text


def test_a_continuation_head_is_at_most_three_bytes() -> None:
    assert continuation_head(HAN[1:] + b"a") == 2
    assert continuation_head(b"\x80" * 5) == 3
    assert continuation_head(HAN) == 0


@pytest.mark.parametrize("name", ["code-4k", "code-2k"])
def test_no_continuation_moves_a_settled_end(name: str) -> None:
    tokenizer = av.Tokenizer.load(f"pico:{name}")
    rng = random.Random(1)
    text = b"def get(self, value):\n    return self.values[value]  # 1234567 \xc3\xa9\n"
    for _ in range(60):
        cut = rng.randint(1, len(text))
        at = settled_end(tokenizer, text[:cut])
        assert 0 <= at <= cut
        if name == "code-2k":
            continue  # it has no pretokens, so that a last token's start is all there may be
        for tail in (text[cut:], b"x", b"\n", b" ", b"9", b"'s"):
            offsets = tokenizer.encode_with_offsets(text[:cut] + tail, specials="text").offsets
            assert at == 0 or at in offsets[:, 1]


def test_a_text_is_spelled_without_the_tokenizers_own_space() -> None:
    tokenizer = spaced()
    assert has_dummy_prefix(tokenizer)
    assert not has_dummy_prefix(marked())
    for text in (b"x", b" x", b"xx x\n", b"\n", b"  ", HAN, b"\xff"):
        ids = encode_spelled(tokenizer, text)
        spelled = b"".join(tokenizer.vocabulary.token_bytes(id) or b"" for id in ids)
        assert spelled == text
    assert encode_spelled(tokenizer, b"") == []
