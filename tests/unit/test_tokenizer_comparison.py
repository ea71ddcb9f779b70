"""Tokenizers judged by their tokens: hand-checkable numbers, brute force, and what is shown."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from html.parser import HTMLParser
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab.cli.app import run
from anyvocab.evaluate import Bootstrap
from anyvocab.evaluate.tokenizers import (
    answer_letters,
    boundaries,
    fairness,
    find_scaffolds,
    gini,
    renyi_efficiency,
    renyi_entropy,
    shannon_entropy,
)
from anyvocab.evaluate.tokenizers.boundaries import excerpts
from anyvocab.evaluate.tokenizers.compare import _by_block
from anyvocab.evaluate.tokenizers.parts import merge_parts, times_made
from anyvocab.evaluate.tokenizers.shapes import shapes_of, words_of
from anyvocab.report.compare_page import compare_page
from anyvocab.report.compare_parts import mark
from anyvocab.report.svg import Mark, dots
from anyvocab.report.tokenizer_report import example_cuts, tokenizer_report
from anyvocab.testing import merged_tokenizer, tiny_tokenizer

HE, LL, HELL, SPACE_HELL = 256, 257, 258, 259
QUICK: dict[str, Any] = {"passes": 0, "excerpts": 4}


def loaded(document: dict[str, object]) -> av.Tokenizer:
    return av.Tokenizer.load(json.dumps(document).encode())


@pytest.fixture(scope="module")
def plain() -> av.Tokenizer:
    return loaded(tiny_tokenizer())


@pytest.fixture(scope="module")
def superword() -> av.Tokenizer:
    """` A` and a line feed are one token; ` of the` is one of two words. Nothing splits texts."""
    merges = [("Ġ", "A"), ("ĠA", "Ċ"), ("Ġ", "o"), ("Ġo", "f"), ("Ġ", "t"), ("Ġt", "h")]
    return loaded(merged_tokenizer([*merges, ("Ġth", "e"), ("Ġof", "Ġthe")]))


@pytest.fixture(scope="module")
def with_unknown() -> av.Tokenizer:
    """Knows the words `a` and `b`; anything else is the unknown token."""
    document = tiny_tokenizer(
        pre_tokenizer={"type": "Whitespace"},
        decoder=None,
        model={"type": "WordLevel", "vocab": {"a": 0, "b": 1, "[UNK]": 2}, "unk_token": "[UNK]"},
        added_tokens=[],
    )
    return loaded(document)


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (b"", 0),
        (b" ", 0),
        (b"ing", 1),
        (b" the", 1),
        (b" of the", 2),
        (b". The end of it", 4),
        (b"), (", 0),
        (b"x.y(z", 1),
        (b" 12 ", 1),
        (b"\xe6\x97", 1),
        ("े".encode(), 1),
        ("日本".encode(), 1),
    ],
)
def test_a_token_touches_the_stretches_with_a_letter_or_a_digit(token: bytes, words: int) -> None:
    assert words_of(token) == words


def test_characters_of_a_token_are_those_that_begin_in_it(plain: av.Tokenizer) -> None:
    shapes = shapes_of(plain.vocabulary)
    assert shapes.characters[[0x41, 0xC3, 0xA9, HELL, SPACE_HELL]].tolist() == [1, 1, 0, 4, 5]
    assert shapes.bytes[[0x41, HELL, 260]].tolist() == [1, 4, 0]
    assert int(shapes.text.sum()) == 260


def test_the_numbers_of_a_short_text_can_be_worked_out(plain: av.Tokenizer) -> None:
    # "hell", " hell", "o": three tokens for ten bytes.
    found = av.compare_tokenizers({"tiny": plain}, {"x": ["hell hello"]}, **QUICK)
    score = found["tiny"]
    assert (score.bytes, score.tokens, score.bytes_per_token) == (10, 3, 10 / 3)
    assert score.domains[0].tokens_per_word == 3 / 2
    assert (score.usage.used, score.usage.unused, score.usage.text_ids) == (3, 257, 260)
    assert score.usage.token_bytes == {1: 1, 4: 1, 5: 1}
    assert score.usage.vocabulary_bytes == {1: 256, 2: 2, 4: 1, 5: 1}
    assert score.usage.words.tokens == (0, 3, 0, 0, 0)
    assert score.usage.top == ((10, 1.0), (100, 1.0))
    # Three equal shares: sums of three terms, off by a few units in the last place.
    assert score.usage.entropy == pytest.approx(math.log2(3), rel=1e-14)
    assert score.usage.entropy_per_byte == pytest.approx(math.log2(3) * 3 / 10, rel=1e-14)
    assert score.usage.renyi_efficiency_used == pytest.approx(1.0, rel=1e-14)
    assert score.usage.renyi_efficiency == pytest.approx(math.log(3) / math.log(260), rel=1e-14)
    assert score.cost.rows == 262


def test_tokens_of_two_words_are_counted_apart(superword: av.Tokenizer) -> None:
    found = av.compare_tokenizers({"s": superword}, ["x of the y of the"], **QUICK)
    words = found["s"].usage.words
    # "x", " of the", " ", "y", " of the"
    assert words.tokens == (1, 2, 2, 0, 0)
    assert words.ids == (1, 2, 1, 0, 0)
    assert words.shares == (0.2, 0.4, 0.4, 0.0, 0.0)
    assert found["s"].usage.vocabulary_words[2] == 1


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("pick @@ed pick @@l @@ed pick @@les", 0.8031528501359657),
        ("pick @@e @@d pick @@l @@e @@d pick @@l @@e @@s", 0.9105681923824472),
    ],
)
def test_renyi_efficiency_is_that_of_tokenization_scorer(text: str, published: float) -> None:
    # The examples of its documentation; they are of order 3, though the call there says 2.5.
    counts = np.array(list(Counter(text.split()).values()))
    assert renyi_efficiency(counts, order=3) == pytest.approx(published, rel=1e-14)


def test_renyi_entropy_goes_through_shannon_entropy_at_order_one() -> None:
    counts = np.array([7, 0, 2, 1, 90])
    assert renyi_entropy(counts, 1) == shannon_entropy(counts)
    orders = [0, 0.5, 1, 2.5, 7]
    entropies = [renyi_entropy(counts, order) for order in orders]
    assert entropies == sorted(entropies, reverse=True)
    assert entropies[0] == math.log2(4)
    with pytest.raises(av.InvalidValue, match="order: must be at least 0"):
        renyi_entropy(counts, -1)
    with pytest.raises(av.InvalidValue, match="4 ids occur, more than 3"):
        renyi_efficiency(counts, 3)


def test_one_id_alone_has_no_entropy() -> None:
    counts = np.array([0, 5])
    assert (shannon_entropy(counts), renyi_entropy(counts), renyi_efficiency(counts)) == (0, 0, 0)


def test_a_part_is_made_as_often_as_what_it_is_part_of(plain: av.Tokenizer) -> None:
    counts = np.bincount(plain.encode("hell hell hello"), minlength=262)
    assert counts[[HELL, SPACE_HELL]].tolist() == [1, 2]
    parts = merge_parts(plain)
    assert parts is not None
    made = times_made(counts, parts, plain.vocabulary.lengths())
    assert made[[HE, LL, HELL, SPACE_HELL, ord("l"), ord("o")]].tolist() == [3, 3, 3, 2, 6, 1]
    found = find_scaffolds(plain, counts, least=3)
    assert found is not None
    assert [(one.token, one.made, one.left) for one in found.examples] == [
        (b"he", 3, 0),
        (b"ll", 3, 0),
    ]
    assert (found.count, found.judged) == (2, 3)


def test_tokens_are_made_as_often_as_a_plain_encoder_makes_them() -> None:
    tokenizer = av.Tokenizer.load("pico:code-4k")
    vocabulary = tokenizer.vocabulary
    text = Path(json.__file__).read_bytes()[:6000]
    model = json.loads(tokenizer.to_json())["model"]
    pairs = [one.split(" ") if isinstance(one, str) else one for one in model["merges"]]
    ranks = {(left, right): rank for rank, (left, right) in enumerate(pairs)}
    spelled = {id: vocabulary.spelling(id) for id in vocabulary}
    letter = {vocabulary.token_bytes(i): s.decode() for i, s in spelled.items() if s is not None}
    made: Counter[str] = Counter()
    for pretoken in tokenizer.pretokenize(text):
        symbols = [letter[bytes([byte])] for byte in pretoken]
        made.update(symbols)
        while True:
            pairs_here = [
                (ranks.get(pair, 1 << 30), at) for at, pair in enumerate(pairwise(symbols))
            ]
            rank, at = min(pairs_here, default=(1 << 30, 0))
            if rank == 1 << 30:
                break
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
            made[symbols[at]] += 1
    ids = tokenizer.encode(text, specials="text")
    parts = merge_parts(tokenizer)
    assert parts is not None
    counts = np.bincount(ids, minlength=len(vocabulary))
    found = times_made(counts, parts, vocabulary.lengths())
    assert int(found.sum()) > 2 * len(ids)
    assert {model["vocab"][token]: count for token, count in made.items()} == {
        int(id): int(found[id]) for id in np.flatnonzero(found)
    }


def test_a_tokenizer_without_merges_has_no_scaffolds(with_unknown: av.Tokenizer) -> None:
    assert find_scaffolds(with_unknown, np.zeros(3, dtype=np.int64)) is None


def test_an_unreachable_token_is_in_no_encoding_of_any_short_text() -> None:
    # `a b` merges first, so `bc` never meets an `a` before it.
    tokenizer = loaded(merged_tokenizer([("a", "b"), ("b", "c"), ("a", "bc")]))
    found = av.compare_tokenizers({"x": tokenizer}, ["abc cab bca"], **QUICK)["x"].unreachable
    assert (found.count, found.seen) == (1, 0)
    lost = found.examples[0]
    assert (lost.token, lost.id) == (b"abc", 258)
    seen: set[int] = set()
    for size in range(1, 7):
        for letters in product("abc", repeat=size):
            seen.update(tokenizer.encode("".join(letters)).tolist())
    assert seen == {ord("a"), ord("b"), ord("c"), 256, 257}
    assert not tokenizer.is_canonical([lost.id])


def test_unreachable_tokens_are_those_that_are_not_the_encoding_of_their_bytes() -> None:
    tokenizer = av.Tokenizer.load("pico:code-4k")
    vocabulary = tokenizer.vocabulary
    alone = [id for id in vocabulary.ids_of_kind("text") if not tokenizer.is_canonical([id])]
    found = av.compare_tokenizers({"x": tokenizer}, ["x"], **QUICK)["x"].unreachable
    assert found.count == len(alone) == 1


def begins(tokenizer: av.Tokenizer, text: bytes, place: int) -> bool:
    start: list[int] = tokenizer.encode(text[:place], specials="text").tolist()
    whole: list[int] = tokenizer.encode(text, specials="text").tolist()
    return whole[: len(start)] == start


TEXTS = [
    b"hello hell of the A\nhe",
    " Ä of the hell, 日本 ll".encode(),
    b"x  of\n\n the\xff A\n.",
    b"z",
]


@pytest.mark.parametrize("name", ["plain", "superword", "pico:code-4k"])
def test_torn_places_are_those_of_encoding_every_prefix(
    name: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = av.Tokenizer.load(name if ":" in name else request.getfixturevalue(name))
    for data in TEXTS:
        torn = [not begins(tokenizer, data, place) for place in range(1, len(data))]
        text = data.decode("utf-8", "surrogateescape")
        edges = [len(text[:n].encode("utf-8", "surrogateescape")) for n in range(1, len(text))]

        def is_word(character: str) -> bool:
            return character.isalnum()

        ends = [
            edge for n, edge in enumerate(edges, 1) if is_word(text[n - 1]) and not is_word(text[n])
        ]
        spaces = [
            edge for n, edge in enumerate(edges, 1) if text[n - 1] == " " and is_word(text[n])
        ]
        found = boundaries(tokenizer, [data])
        assert (found.bytes.count, found.bytes.torn) == (len(torn), sum(torn))
        for places, kind in (
            (edges, found.characters),
            (ends, found.words),
            (spaces, found.spaces),
        ):
            assert (kind.count, kind.torn) == (len(places), sum(torn[p - 1] for p in places))


def test_an_example_shows_the_tokens_that_change(superword: av.Tokenizer) -> None:
    found = boundaries(superword, [b"x of the"])
    assert (found.words.count, found.words.torn) == (2, 1)
    (example,) = found.examples
    assert (example.before, example.after) == (b"x of", b" the")
    assert (example.prefix_tokens, example.whole_tokens) == ((b" of",), (b" of the",))


def test_answer_letters_are_treated_unalike_by_a_superword(superword: av.Tokenizer) -> None:
    line, bracket = answer_letters(superword, [b"\n", b")"])
    assert (line.kept, line.verdict) == ("BCD", "mixed")
    assert line.tokens[:2] == ((b" A\n",), (b" ", b"B", b"\n"))
    assert (bracket.kept, bracket.verdict) == ("ABCD", "kept")
    glued = loaded(merged_tokenizer([(letter, ".") for letter in "ABCD"]))
    (stop,) = answer_letters(glued, [b"."])
    assert (stop.kept, stop.verdict) == ("", "changed")


def test_excerpts_are_pieces_between_characters() -> None:
    documents = [("日本語 " * 50 + "\n").encode() * 40, b"plain text\n" * 900, b"", b"x"]
    total = sum(map(len, documents))
    assert b"".join(excerpts(documents, total, 100)) == b"".join(documents)
    found = excerpts(documents, 12, 100)
    assert 8 <= len(found) <= 12
    for piece in found:
        assert piece.decode()
        assert 0 < len(piece) <= 103
        assert any(piece in one for one in documents)
    assert excerpts([], 3, 10) == []


def test_gini_is_the_mean_difference_of_all_pairs() -> None:
    values = np.random.default_rng(5).integers(1, 1000, size=17).tolist()
    pairs = sum(abs(a - b) for a, b in product(values, values))
    expected = pairs / (2 * len(values) * sum(values))
    assert gini(values) == pytest.approx(expected, rel=17 * 2**-50)
    assert gini([]) == gini([3]) == 0


def test_a_premium_is_tokens_over_those_of_the_language_treated_best(plain: av.Tokenizer) -> None:
    found = fairness(plain, {"en": [b"hell", b" hell"], "de": [b"Holle", b"x"]})
    assert [(one.tokens, one.premium) for one in found.languages] == [(2, 1.0), (5, 2.5)]
    assert found.best is not None
    assert (found.best.language, found.mean_premium, found.gini) == ("en", 1.75, 3 / 14)


def test_a_language_of_unknown_tokens_has_no_premium(with_unknown: av.Tokenizer) -> None:
    texts = {"en": [b"a b a b"], "de": [b"a b a b b b"], "xx": [b"strange"]}
    found = fairness(with_unknown, texts)
    assert [one.premium for one in found.languages] == [1.0, 1.5, None]
    assert found.languages[2].unknown_bytes == 7
    assert found.gini == gini([4, 6])
    score = av.compare_tokenizers({"w": with_unknown}, {"x": ["a b strange"]}, **QUICK)["w"]
    assert not score.is_encoded
    assert not score.domains[0].is_encoded
    assert any("unknown token" in note for note in score.notes)


def test_tokens_belong_to_the_block_where_they_end(plain: av.Tokenizer) -> None:
    # "hell" to byte 4, " hell" to 9, "o" to 10
    assert _by_block(plain, b"hell hello", 4).tolist() == [1, 0, 2]
    text = b"hello hell, hell. " * 30
    assert int(_by_block(plain, text, 16).sum()) == plain.count(text)


def test_documents_of_one_ratio_have_an_interval_of_no_width(plain: av.Tokenizer) -> None:
    found = av.compare_tokenizers({"a": plain}, {"x": ["hell"] * 9 + ["hell hell hell"]}, **QUICK)
    assert (found.domains[0].unit, found.domains[0].units) == ("documents", 10)
    even = av.compare_tokenizers({"a": plain}, {"x": ["hell"] * 12}, **QUICK)["a"]
    assert even.interval is not None
    assert (even.interval.low, even.interval.high) == (4.0, 4.0)


def test_few_documents_are_cut_into_blocks(plain: av.Tokenizer) -> None:
    texts = {"long": ["hello hell " * 100], "short": ["hell"]}
    found = av.compare_tokenizers({"a": plain}, texts, bootstrap=Bootstrap(block=100), **QUICK)
    long, short = found.domains
    assert (long.unit, long.units, short.unit, short.units) == ("blocks", 11, "blocks", 1)
    assert found["a"].domains[0].interval is not None
    assert found["a"].domains[1].interval is None


def test_a_tokenizer_does_not_differ_from_itself(plain: av.Tokenizer) -> None:
    documents = [f"hello {'hell ' * n}" for n in range(12)]
    found = av.compare_tokenizers({"a": plain, "b": plain}, {"x": documents, "y": ["z"]}, **QUICK)
    assert [one.domain for one in found.differences] == ["x", "y", None]
    for one in found.differences:
        assert (one.tokens, one.bytes_per_token) == (0.0, 0.0)
    first = found.differences[0]
    assert first.tokens_interval is not None
    assert first.interval is not None
    assert (first.tokens_interval.low, first.interval.high) == (0.0, 0.0)


def test_differences_are_paired(plain: av.Tokenizer, superword: av.Tokenizer) -> None:
    generator = np.random.default_rng(11)
    documents = ["hell" * int(n) + " of the" * int(n) for n in generator.integers(1, 40, size=30)]
    found = av.compare_tokenizers({"a": plain, "b": superword}, {"x": documents}, **QUICK)
    # Every document has 1 + 6 tokens a repeat in one and 4 + 1 in the other: a constant ratio.
    one = found.differences[0]
    assert one.tokens == pytest.approx(5 / 7 - 1, abs=1e-15)
    assert one.tokens_interval is not None
    assert one.tokens_interval.low == pytest.approx(5 / 7 - 1, abs=1e-15)
    assert one.tokens_interval.high == pytest.approx(5 / 7 - 1, abs=1e-15)


def test_a_score_does_not_depend_on_what_it_is_compared_with(
    plain: av.Tokenizer, superword: av.Tokenizer
) -> None:
    documents = [f"hello of the {'hell ' * n}" for n in range(12)]
    alone = av.compare_tokenizers({"s": superword}, documents, **QUICK)
    both = av.compare_tokenizers({"t": plain, "s": superword}, documents, threads=1, **QUICK)
    assert alone["s"] == both["s"]
    with pytest.raises(KeyError):
        both["u"]


KEYS = {
    "": "format_version policy intervals model_shape domains tokenizers differences",
    "domains": "name documents bytes left_out words unit units",
    "tokenizers": "name model_type format ids domains interval usage unreachable scaffolds letters "
    "boundaries fairness speed cost notes bytes tokens bytes_per_token is_encoded",
    "tokenizers.domains": "name bytes tokens tokens_per_word changed unknown unknown_bytes words "
    "interval bytes_per_token is_encoded",
    "tokenizers.usage": "text_ids used top vocabulary_words words vocabulary_bytes token_bytes "
    "vocabulary_characters token_characters entropy entropy_per_byte renyi_entropy "
    "renyi_efficiency renyi_efficiency_used frequent unused mean_bytes",
    "tokenizers.unreachable": "count seen examples",
    "tokenizers.scaffolds": "count judged least share examples",
    "tokenizers.letters": "following kept tokens verdict",
    "tokenizers.boundaries": "bytes characters words spaces excerpts examples",
    "tokenizers.boundaries.words": "count torn share",
    "tokenizers.fairness": "languages gini mean_premium",
    "tokenizers.fairness.languages": "language bytes tokens unknown_bytes premium bytes_per_token",
    "tokenizers.speed": "bytes tokens wall_seconds cpu_seconds passes megabytes_per_second "
    "megabytes_per_cpu_second tokens_per_second",
    "tokenizers.cost": "rows row_parameters body_flops output_flops flops",
    "differences": "tokenizer baseline domain bytes_per_token interval tokens tokens_interval",
}


def test_the_json_has_the_members_it_is_known_for(
    plain: av.Tokenizer, superword: av.Tokenizer
) -> None:
    found = av.compare_tokenizers(
        {"a": plain, "b": superword},
        ["hello of the\xff"],
        parallel={"en": "hell", "de": "Holle"},
        passes=1,
        excerpts=2,
    )
    document = json.loads(found.to_json())
    assert document["format_version"] == 1
    for place, names in KEYS.items():
        part = document
        for step in filter(None, place.split(".")):
            part = part[step]
            part = part[0] if isinstance(part, list) else part
        assert list(part) == names.split(), place
    assert document["intervals"] == asdict(Bootstrap())


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], ["x"]), {}, "there is no tokenizer"),
        ((["pico:code-2k"], []), {}, "there is no byte"),
        ((["pico:code-2k"], ["x"]), {"excerpts": -1}, "excerpts: must be at least 0"),
        ((["pico:code-2k"], ["x"]), {"parallel": {"en": "a"}}, "1 languages cannot be compared"),
        (
            (["pico:code-2k"], ["x"]),
            {"parallel": {"en": ["a", "b"], "de": ["c"]}},
            "'de' has 1 texts and 'en' has 2",
        ),
        ((["pico:code-2k"], ["x"]), {"parallel": {"en": "a", "de": ""}}, "'de' has no text"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    arguments: tuple[list[str], list[str]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(av.InvalidValue, match=re.escape(message)):
        av.compare_tokenizers(*arguments, **options)


def test_a_domain_that_becomes_no_token_is_refused(with_unknown: av.Tokenizer) -> None:
    with pytest.raises(av.InvalidValue, match="w makes no token of 'blank'"):
        av.compare_tokenizers({"w": with_unknown}, {"blank": ["   "]}, **QUICK)


class Attributes(HTMLParser):
    """The names of all attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.update(name for name, _ in attrs)


def page_of(tokenizers: dict[str, av.Tokenizer], texts: Sequence[str]) -> str:
    found = av.compare_tokenizers(
        tokenizers, texts, parallel={"en": "hell", "<i>": "Holle"}, passes=1, excerpts=2
    )
    from anyvocab.evaluate import Domain

    domains = [Domain("text", tuple(text.encode() for text in texts))]
    return compare_page(found, example_cuts(tokenizers, domains), parallel="<u>here</u>")


def test_a_page_needs_nothing_else_and_obeys_nobody(
    plain: av.Tokenizer, superword: av.Tokenizer, with_unknown: av.Tokenizer
) -> None:
    names = {"<script>x</script>": plain, "s": superword, "w": with_unknown}
    html = page_of(names, ["<img src=x> hello of the A\n" * 60])
    assert "<script" not in html
    assert "<img" not in html
    assert "<i>" not in html
    assert "<u>" not in html
    parser = Attributes()
    parser.feed(html)
    assert not parser.names & {"src", "href", "srcset", "action", "poster", "style", "onload"}
    assert "url(" not in html
    assert "@import" not in html
    assert "http://" not in html
    assert "https://" not in html


def test_every_part_of_a_page_says_a_number_of_the_comparison(
    plain: av.Tokenizer, superword: av.Tokenizer
) -> None:
    texts = [f"hello of the A\n{'hell ' * n}" for n in range(20)]
    found = av.compare_tokenizers({"t": plain, "s": superword}, texts, **QUICK)
    html = compare_page(found, {})
    score = found["s"]
    assert score.interval is not None
    assert score.boundaries is not None
    ends = score.boundaries.words
    for value in (
        f"{score.bytes_per_token:.3f}",
        f"{score.interval.low:.3f} to {score.interval.high:.3f}",
        f"{found.differences[0].tokens:+.1%}",
        f"{score.usage.words.shares[2]:.1%}",
        f"{ends.torn:,} of {ends.count:,}",
        "only BCD",
        f"{score.cost.rows:,}",
    ):
        assert value in html, value


def test_dots_stand_where_their_values_are() -> None:
    drawing = dots([("x", [Mark("m", 5.0, (0.0, 10.0), "a")])], low=0, high=10, unit="u")
    left, right = (
        float(re.search(rf'<text x="([\d.]+)"[^>]*>{value}</text>', drawing)[1])  # type: ignore[index]
        for value in ("0", "10")
    )
    circle = re.search(r'cx="([\d.]+)"', drawing)
    assert circle is not None
    assert float(circle[1]) == pytest.approx((left + right) / 2, abs=0.06)  # one decimal is written


def test_an_eighth_tokenizer_is_a_diamond_of_the_first_ones_colour() -> None:
    assert [mark(n, "x", 1.0).shape for n in (0, 6, 7)] == ["dot", "dot", "diamond"]
    assert mark(7, "x", 1.0).css_class == mark(0, "x", 1.0).css_class
    drawing = dots([("x", [mark(0, "a", 1.0), mark(7, "b", 2.0)])], low=0, high=3, unit="u")
    assert (drawing.count("<circle"), drawing.count("rotate(45")) == (1, 1)


def test_a_report_has_the_tokenizer_first(plain: av.Tokenizer, tmp_path: Path) -> None:
    report = tokenizer_report(
        plain, {"x": ["hello hell " * 40]}, name="mine", baselines=["pico:code-2k"], passes=0
    )
    assert [one.name for one in report.comparison.tokenizers] == ["mine", "pico:code-2k"]
    assert len(report.comparison["mine"].fairness.languages) == 15  # type: ignore[union-attr]
    report.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == report.html
    assert "The tokenizer alone" in tokenizer_report(plain, ["x"], name="alone", passes=0).html


def test_the_command_compares_files_and_folders(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "prose.txt"
    text.write_text("hello hell " * 300)
    page = tmp_path / "page.html"
    arguments = ["compare", str(tiny_folder), "b=pico:code-2k", str(text)]
    assert run([*arguments, "--json", "--html", str(page), "--passes", "0", "--excerpts", "2"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in document["tokenizers"]] == ["tiny", "b"]
    assert [one["name"] for one in document["domains"]] == ["prose"]
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert run([*arguments, "--passes", "1", "--excerpts", "1"]) == 0
    printed = capsys.readouterr().out
    for heading in ("At a glance", "Bytes per token", "Tokens against tiny", "Answer letters"):
        assert heading in printed


def test_the_command_has_texts_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "pico:code-2k", "--json", "--passes", "0", "--excerpts", "0"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["domains"]) == 15
    assert document["tokenizers"][0]["boundaries"] is None
    assert document["tokenizers"][0]["speed"] is None


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["compare"], 2),
        (["compare", "pico:code-2k", "--excerpts", "-1"], 2),
        (["compare", "no/such/folder"], 1),
        (["compare", "pico:code-2k", "--text", "no/such/text"], 1),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    assert "Traceback" not in capsys.readouterr().err
