"""The pico models' data: the split, the fill-in-the-middle transform, packing."""

from __future__ import annotations

import random

import pytest

from anyvocab.pico import fim, names, path
from anyvocab.pico.data import (
    HELD_OUT,
    Document,
    docstrings,
    long_lines,
    overlap,
    split_modules,
    stdlib_root,
    table_share,
)

IDS = fim.FimIds(prefix=-1, suffix=-2, middle=-3, eos=-4)
TEXTS = ["", "x", "def f(x):\n\treturn x  # é 😀\n", "a" * 300, "\n\n  \n", "▁ <fim_prefix>"]


def encode(text: str) -> list[int]:
    return [ord(character) for character in text]


def decode(ids: list[int]) -> str:
    return "".join(chr(index) for index in ids)


@pytest.mark.parametrize("order", ["psm", "spm"])
@pytest.mark.parametrize("text", TEXTS)
def test_fim_is_invertible(order: fim.Order, text: str) -> None:
    rng = random.Random(7)
    for _ in range(50):
        parts = fim.cut(text, rng)
        assert parts.join() == text
        assert fim.read(fim.write(parts, order, encode, IDS), decode, IDS) == text


def test_fim_orders_are_written_as_published() -> None:
    # text "abc|de|f": PSM is P abc S f M de E; the second SPM variant is P S f M abcde E
    parts = fim.Parts("abc", "de", "f")
    a, b, c, d, e, f = encode("abcdef")
    assert fim.write(parts, "psm", encode, IDS) == [-1, a, b, c, -2, f, -3, d, e, -4]
    assert fim.write(parts, "spm", encode, IDS) == [-1, -2, f, -3, a, b, c, d, e, -4]
    assert fim.prompt("abc", "f", encode, IDS) == [-1, a, b, c, -2, f, -3]


def test_fim_reading_refuses_what_was_not_written() -> None:
    with pytest.raises(ValueError, match="each of the three marks"):
        fim.read([-1, 97, -2, -2, -3, -4], decode, IDS)
    with pytest.raises(ValueError, match="begin with the prefix mark"):
        fim.read([97, -4], decode, IDS)
    with pytest.raises(ValueError, match="before the suffix mark"):
        fim.read([-1, -3, -2, -4], decode, IDS)


def test_cuts_fall_on_every_character_position() -> None:
    rng = random.Random(0)
    starts = {len(fim.cut("abcdef", rng).prefix) for _ in range(300)}
    assert starts == set(range(7))


def test_cut_is_a_function_of_the_seed() -> None:
    first = [fim.cut(TEXTS[3], random.Random(5)) for _ in range(2)]
    assert first[0] == first[1]


def module(seed: int, lines: int = 40) -> str:
    rng = random.Random(seed)
    words = ["alpha", "beta", "gamma", "delta", "kappa", "sigma"]
    return "".join(
        f"{words[i % 6]}_{seed} = compute({rng.random()}, {rng.random()})\n" for i in range(lines)
    )


def test_no_held_out_line_of_substance_reaches_training() -> None:
    held = min(HELD_OUT)
    copy = module(1) + module(2, lines=5)
    corpus = split_modules([(held, module(1)), ("copied", copy), ("other", module(3))])
    assert [document.name for document in corpus.held_out] == [held]
    assert [document.name for document in corpus.train] == ["other"]
    assert ("copied", "shares lines with a held-out module") in corpus.dropped


def test_the_tests_of_a_held_out_module_are_held_out_too() -> None:
    corpus = split_modules(
        [
            ("json.encoder", module(1)),
            ("test.test_json.test_dump", module(2)),
            ("test.test_csv", module(3)),
            ("test.test_dict", module(4)),
        ]
    )
    assert [(one.name, one.kind) for one in corpus.train] == [("test.test_dict", "tests")]
    assert ("test.test_csv", "tests a held-out module") in corpus.dropped
    assert ("test.test_json.test_dump", "tests a held-out module") in corpus.dropped


def test_a_repeated_module_is_kept_once() -> None:
    corpus = split_modules([("first", module(1)), ("second", module(1))])
    assert [document.name for document in corpus.train] == ["first"]


def test_a_table_is_left_out() -> None:
    table = "T = {\n" + "".join(f"    0x{i:04x}: 'c{i}',\n" for i in range(99)) + "}\n"
    assert table_share(table) > 0.9
    assert split_modules([("table", table)]).dropped == (("table", "table"),)
    assert table_share(module(1, lines=99)) == 0.0


def test_docstrings_come_dedented_in_source_order() -> None:
    source = 'class A:\n    """One.\n\n    Two.\n    """\n    def f(self):\n        "Three."\n'
    assert docstrings(source) == ["One.\n\nTwo.", "Three."]
    assert docstrings("def broken(:\n") == []


def test_overlap_counts_long_lines_only() -> None:
    text = "pass\n" + "x" * 40 + "\n" + "y" * 40 + "\n"
    assert overlap(text, {"pass", "x" * 40}) == 0.5
    assert overlap("pass\n", {"pass"}) == 0.0


def test_every_held_out_module_exists_in_this_python() -> None:
    root = stdlib_root()
    missing = [
        name
        for name in sorted(HELD_OUT)
        if not root.joinpath(*name.split(".")).with_suffix(".py").is_file()
    ]
    assert missing == []


def test_held_out_and_training_share_no_module() -> None:
    pairs = [(name, module(i)) for i, name in enumerate([*sorted(HELD_OUT), "a", "b"])]
    corpus = split_modules(pairs)
    trained = {document.name.split("#")[0] for document in corpus.train}
    assert trained == {"a", "b"}
    assert {document.name for document in corpus.held_out} == HELD_OUT
    assert corpus.digest() == split_modules(pairs).digest()
    assert not long_lines(corpus.train[0].text) & long_lines(corpus.held_out[0].text)


def test_names_are_the_models_and_a_wrong_name_is_refused() -> None:
    assert names() == ("code-2k", "code-4k")
    with pytest.raises(ValueError, match="code-2k, code-4k"):
        path("code-3k")


def test_a_document_says_what_it_is() -> None:
    source = 'def f():\n    """' + "Prose about f. " * 20 + '"""\n'
    kinds = [document.kind for document in split_modules([("m", source)]).train]
    assert kinds == ["source", "docstrings"]
    assert isinstance(split_modules([("m", source)]).train[0], Document)
