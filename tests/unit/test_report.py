"""What people look at: visible text, scripts, cuts, languages, and pages that obey nobody."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import anyvocab as av
from anyvocab.cli.output import Output
from anyvocab.report import (
    compare_languages,
    cut_text,
    read_languages,
    vocabulary_facts,
)
from anyvocab.report.inspect_page import inspect_page
from anyvocab.report.page import page, table
from anyvocab.report.pieces import _share
from anyvocab.report.sample import SAMPLE
from anyvocab.report.scripts import PARTIAL, SEVERAL, script_of
from anyvocab.report.svg import bar, columns, stacked
from anyvocab.report.terminal import bar as text_bar
from anyvocab.report.terminal import cut_lines, histogram
from anyvocab.report.visible import one_line, visible, visible_bytes
from anyvocab.testing import tiny_tokenizer


@pytest.fixture
def tokenizer(tiny: bytes) -> av.Tokenizer:
    return av.Tokenizer.load(tiny)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a b"),
        ("a\nb", "a⏎\nb"),
        ("\t\r\x00\x1b\x7f", "⇥␍␀␛␡"),
        ("\u200b\u202e\u00a0", "\\u{200b}\\u{202e}\\u{00a0}"),
        ("\u0301a", "◌\u0301a"),
        ("日本", "日本"),
    ],
)
def test_unseen_characters_are_spelled_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_bytes_that_are_no_text_are_hexadecimal() -> None:
    assert visible_bytes(b"a\xff\xe6\x97 \xc3\xa9") == "a\\xff\\xe6\\x97 é"
    assert one_line(b"a\nb") == "a⏎b"
    assert one_line(b"x" * 100, limit=10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    ("token", "script"),
    [
        ("the", "Latin"),
        (" Straße", "Latin"),
        ("мир", "Cyrillic"),
        ("漢字", "Han"),
        ("ひらがな", "Hiragana"),
        ("日本の", "Japanese (mixed)"),
        ("한국", "Hangul"),
        ("नमस्ते", "Devanagari"),
        ("aб", SEVERAL),
        (" 2026", "digits"),
        ("!?", "punctuation"),
        ("😀", "symbols and emoji"),
        (" \n", "white space"),
    ],
)
def test_letters_decide_the_script(token: str, script: str) -> None:
    assert script_of(token.encode()) == script


def test_half_a_character_has_no_script() -> None:
    assert script_of(b"\xe6\x97") == PARTIAL


def test_pieces_joined_are_the_text(tokenizer: av.Tokenizer) -> None:
    for text in ("hello hello", "wörld\n\n  x", "日本<|end|>!", "", "\xff"):
        data = text.encode()
        cut = cut_text(tokenizer, text)
        assert b"".join(piece.text for piece in cut.pieces) == data
        assert cut.tokens == len(tokenizer.encode(text))
    assert [p.text for p in cut_text(tokenizer, "hello hello").pieces] == [
        b"hell",
        b"o",
        b" hell",
        b"o",
    ]


def test_tokens_that_share_bytes_each_get_their_own() -> None:
    assert _share(b"\xe2\x98\x95", [b"\xe2\x98", b"\x95 "]) == [b"\xe2\x98", b"\x95"]
    assert _share("ﬁ".encode(), [b"f", b"i"]) == ["ﬁ".encode(), b""]


def test_dropped_bytes_are_gaps_and_word_spaces_belong_to_words(fixtures: Path) -> None:
    bert = av.Tokenizer.load(fixtures / "tokenizers" / "bert_uncased")
    pieces = cut_text(bert, "Hello  World").pieces
    assert [(piece.kind, piece.text) for piece in pieces] == [
        ("text", b"Hello"),
        ("gap", b" "),
        ("text", b" World"),
    ]


def test_lines_of_a_cut_have_bars_only_without_colour(tokenizer: av.Tokenizer) -> None:
    cut = cut_text(tokenizer, "hello\nhell")
    assert [line.plain for line in cut_lines(cut, ())] == ["hell│o│⏎", "│hell"]
    coloured = cut_lines(cut, ("black on red", "black on green"))
    assert [line.plain for line in coloured] == ["hello⏎", "hell"]
    styles = [str(span.style) for span in coloured[0].spans]
    assert styles == ["black on red", "black on green", "black on red"]


def test_bars_and_histograms() -> None:
    assert text_bar(0.5, 4) == "██"
    assert text_bar(2.0, 4) == "████"
    assert histogram({1: 5, 2: 1, 40: 2}, last=3) == [("1", 5), ("2", 1), ("3", 0), ("4+", 2)]


def test_facts_of_the_tiny_vocabulary(tokenizer: av.Tokenizer) -> None:
    facts = vocabulary_facts(tokenizer, name="tiny")
    assert (facts.name, facts.ids, facts.kinds) == ("tiny", 262, {"text": 260, "control": 2})
    assert facts.lengths == {1: 256, 2: 2, 4: 1, 5: 1}
    assert facts.mean_length == (256 + 4 + 4 + 5) / 260
    assert (facts.partial_utf8, facts.missing_bytes, facts.holes, facts.empty) == (128, 0, 0, 0)
    assert sum(facts.scripts.values()) == 260
    assert facts.longest[0].text == " hell"
    json.dumps(facts.to_dict())


def tiny_with(tokens: dict[str, int]) -> dict[str, object]:
    """The tiny tokenizer and more text tokens, from id 262 on."""
    document = tiny_tokenizer()
    model = document["model"]
    assert isinstance(model, dict)
    controls = {"<|end|>": 260, "<|fim_prefix|>": 261}
    return document | {"model": model | {"vocab": model["vocab"] | controls | tokens}}


def test_tokens_of_several_words_are_counted() -> None:
    document = tiny_with({"heĠhe": 262})
    facts = vocabulary_facts(av.Tokenizer.load(json.dumps(document).encode()))
    assert facts.multiword == 1
    assert facts.multiword_examples[0].text == "he he"


def test_languages_are_files_of_a_folder(tmp_path: Path, tokenizer: av.Tokenizer) -> None:
    (tmp_path / "one.txt").write_text("hell", encoding="utf-8")
    (tmp_path / "two.tsv").write_text("n1\thell\nn2\thello\n", encoding="utf-8")
    (tmp_path / "three.jsonl").write_text('{"id": "x", "text": "é"}\n"hell"\n', encoding="utf-8")
    (tmp_path / "notes.md").write_text("not a language")
    languages = read_languages(tmp_path)
    assert languages == {"one": "hell", "two": "hell\nhello\n", "three": "é\nhell"}
    (row, *_) = compare_languages({"tiny": tokenizer}, languages)
    assert (row.language, row.bytes, row.tokens) == ("one", 4, (1,))
    assert row.bytes_per_token == (4.0,)


def test_languages_may_be_one_file(tmp_path: Path) -> None:
    (tmp_path / "all.json").write_text('{"de": "ja", "fr": ["oui", "non"]}')
    (tmp_path / "all.tsv").write_text("de\tja\nfr\toui\nde\tnein\n")
    assert read_languages(tmp_path / "all.json") == {"de": "ja", "fr": "oui\nnon"}
    assert read_languages(tmp_path / "all.tsv") == {"de": "ja\nnein", "fr": "oui"}


def test_languages_that_cannot_be_read_are_typed_errors(tmp_path: Path) -> None:
    with pytest.raises(av.SourceNotFound, match="no text of a language"):
        read_languages(tmp_path)
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(av.TokenizerFormatError, match="no valid UTF-8"):
        read_languages(tmp_path)
    (tmp_path / "x.txt").unlink()
    (tmp_path / "x.jsonl").write_text("{")
    with pytest.raises(av.TokenizerFormatError, match="line 1"):
        read_languages(tmp_path)


def test_the_sample_is_one_article_in_many_scripts() -> None:
    assert len(SAMPLE) >= 12
    assert {script_of(text.encode()) for text in SAMPLE.values()} >= {"Latin", "Cyrillic", "Arabic"}
    assert all(100 < len(text.encode()) < 600 for text in SAMPLE.values())


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile() -> tuple[str, _Page]:
    """A page about a vocabulary, a text, languages and names that all try to be HTML."""
    evil = '</pre><script>alert("1")</script>'
    image = "<img src=x onerror=alert(1)>"
    document = tiny_with({"<script>": 262, "\"onload='x'": 263, image: 264})
    added = document["added_tokens"]
    assert isinstance(added, list)
    document["added_tokens"] = [*added, added[0] | {"id": 264, "content": image}]
    tokenizer = av.Tokenizer.load(json.dumps(document).encode())
    names = [evil, "<b>"]
    text = evil + "<script><img src=x onerror=alert(1)> \x1b[2J\u202e&amp;"
    whole = inspect_page(
        {name: vocabulary_facts(tokenizer, name=name) for name in names},
        {name: cut_text(tokenizer, text) for name in names},
        compare_languages(dict.fromkeys(names, tokenizer), {"<i>x": "hell"}),
        origin="<u>",
    )
    parsed = _Page()
    parsed.feed(whole)
    return whole, parsed


def test_token_text_never_becomes_markup() -> None:
    whole, parsed = hostile()
    tags = {tag for tag, _ in parsed.tags}
    assert not tags & {"script", "img", "b.", "u", "iframe", "link", "object"}
    assert not [name for _, attributes in parsed.tags for name in attributes if name[:2] == "on"]
    assert "<script>" in parsed.text  # it is there, as text
    assert "\x1b" not in whole
    assert "\u202e" not in whole


def test_a_page_needs_nothing_else() -> None:
    whole, parsed = hostile()
    policy = next(
        attributes["content"]
        for tag, attributes in parsed.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    for tag, attributes in parsed.tags:
        assert not {"src", "href", "style", "srcset", "action"} & attributes.keys(), tag
    assert not re.search(r"url\(|@import|https?://", whole)
    assert "prefers-color-scheme: dark" in whole
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        parsed.tags
    )


def test_a_page_is_well_formed() -> None:
    whole, _ = hostile()
    for tag in ("section", "div", "table", "tr", "td", "svg", "span", "pre", "ul", "li", "h3", "p"):
        assert len(re.findall(rf"<{tag}[ >]", whole)) == whole.count(f"</{tag}>"), tag


def test_the_builders_escape_what_is_text() -> None:
    assert "<b>" not in page("<b>", [], made_by="<b>")
    assert "<b>" not in table(["<b>"], [])
    assert "<b>" not in stacked([("<b>", 3)]) + columns([("<b>", [("<b>", 0.5)])], unit="<b>")
    assert 'width="100.00"' in bar(7.0)


def test_columns_beside_each_other_take_as_many_tables_as_the_width_asks_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "48")
    names = ["short", "[b]no markup", *(f"a name of many words {i}" for i in range(4))]
    rows: list[list[object]] = [
        ["tokens", *range(6)],
        ["ids that occur", *("1,234 (50%)" for _ in names)],
    ]
    Output(json=False).beside("", names, rows)
    told = capsys.readouterr().out
    lines = [line.rstrip() for line in told.splitlines()]
    assert max(map(len, lines)) <= 48
    assert sum(line.startswith("ids that occur") for line in lines) == 3  # two columns each
    assert " ".join(re.findall(r"tokens +(\d) +(\d)", told)[0]) == "0 1"
    assert "[b]no markup" in told


def test_a_long_title_of_a_page_takes_lines_and_a_short_one_none() -> None:
    made = table(["", "plain", "a name that is far too long for one line"], [["a", "1", "2"]])
    assert '<span class="long">a name' in made
    assert "<th>plain</th>" in made
    many = table([str(i) for i in range(8)], [["x"] * 8])
    assert '<table class="many">' in many
    assert 'class="many"' not in made
