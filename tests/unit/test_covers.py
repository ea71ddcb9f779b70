"""A look inside a prompt's end: the numbers against definitions, the drawing, the page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

import anyvocab as av
from anyvocab.backends import TableBackend
from anyvocab.bytelm.baselines import context_ids, next_bytes
from anyvocab.bytelm.lm import Policy
from anyvocab.report.cover_page import cover_page, missing_said, next_byte_name
from anyvocab.report.cover_tree import byte_cells, cover_tree, percent
from anyvocab.report.covers import explain

ROWS = 264
FIRST, LAST = 260, 261
SPECIALS: dict[int | str, Policy] = {LAST: "end"}
PROMPTS = (b"hell", b"he", b"a hel", b" h", b"x", b"", "é".encode()[:1], b"hello hell")


@pytest.fixture(params=[0, 1])
def lm(request: pytest.FixtureRequest, tiny: bytes) -> av.ByteLM:
    return av.ByteLM(
        TableBackend(ROWS, seed=request.param), tiny, first_ids=[FIRST], specials=SPECIALS
    )


@pytest.mark.parametrize("prompt", PROMPTS)
def test_what_contexts_add_sums_to_the_bytes_probability(lm: av.ByteLM, prompt: bytes) -> None:
    found = explain(lm, prompt, contexts=32, bytes_shown=257)
    row = np.exp(lm.start(prompt).logprobs())
    assert sorted(one.byte for one in found.bytes) == list(range(257))
    for one in found.bytes:
        assert one.probability == row[one.byte]
        # Sums of at most 300 masses, each off by a few units in the last place.
        assert sum(one.parts) == pytest.approx(one.probability, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_an_open_context_adds_its_tokens_by_the_byte_over_the_end(
    lm: av.ByteLM, prompt: bytes
) -> None:
    found = explain(lm, prompt, contexts=32, tokens=ROWS, bytes_shown=257)
    for at, context in enumerate(found.contexts):
        if not context.open:
            assert not context.tops
            continue
        added = dict.fromkeys(range(257), 0.0)
        for top in context.tops:
            if len(top.bytes) > context.open:
                added[top.bytes[context.open]] += top.share
        for one in found.bytes:
            assert one.parts[at] == pytest.approx(added[one.byte], rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_shares_of_contexts_sum_to_one(lm: av.ByteLM, prompt: bytes) -> None:
    found = explain(lm, prompt, contexts=2)
    assert sum(one.share for one in found.contexts) + found.others[1] == pytest.approx(1.0)
    shares = [one.share for one in found.contexts]
    assert shares == sorted(shares, reverse=True)


def test_the_end_is_added_by_the_context_that_ends_with_the_prompt(lm: av.ByteLM) -> None:
    found = explain(lm, b"he", contexts=32, bytes_shown=257)
    (end,) = (one for one in found.bytes if one.byte == 256)
    (closed,) = (at for at, one in enumerate(found.contexts) if not one.open)
    assert len(found.contexts) == 2
    assert end.probability > 0
    assert end.parts[closed] == pytest.approx(end.probability)


def test_the_plain_next_byte_is_the_softmax_by_first_bytes(lm: av.ByteLM) -> None:
    backend = lm.backend
    assert isinstance(backend, TableBackend)
    ids = context_ids(lm, b"hell")
    assert ids == [FIRST, *lm.tokenizer.encode("hell").tolist()]
    logits, masses = backend.row(ids), np.zeros(257)
    for id in range(ROWS):
        token = lm.tokenizer.vocabulary.token_bytes(id) if id < 262 else None
        if id in lm.ends:
            masses[256] += np.exp(logits[id])
        elif token:
            masses[token[0]] += np.exp(logits[id])
    expected = masses / masses.sum()
    assert np.exp(next_bytes(lm, ids, ends=lm.ends)) == pytest.approx(expected, rel=1e-12)
    assert backend.nodes == 0  # what was asked for is given back


def test_the_prompts_own_tokens_are_the_closed_cover(lm: av.ByteLM) -> None:
    found = explain(lm, b"hell")
    (closed,) = (one for one in found.contexts if not one.open)
    assert found.plain_share == closed.share
    assert [one.id for one in found.plain_tokens] == [one.id for one in closed.tokens]


def test_the_distance_is_the_total_variation(lm: av.ByteLM) -> None:
    found = explain(lm, b"hell", bytes_shown=257)
    assert found.distance == pytest.approx(
        sum(abs(one.probability - one.plain) for one in found.bytes) / 2
    )


def test_under_the_canonical_law_parts_keep_their_ratio(tiny: bytes) -> None:
    lm = av.ByteLM(
        TableBackend(ROWS, seed=3), tiny, first_ids=[FIRST], specials=SPECIALS, law="canonical"
    )
    found = explain(lm, b"hell", contexts=32, bytes_shown=257)
    assert sum(sum(one.parts) for one in found.bytes) == pytest.approx(1.0)


def test_mass_that_was_not_evaluated_is_said(tiny: bytes) -> None:
    backend = TableBackend(ROWS, seed=3)
    lm = av.ByteLM(
        backend, tiny, first_ids=[FIRST], specials=SPECIALS, law="marginal", eps=0.5, budget=1
    )
    found = explain(lm, b"a hel")
    assert found.missing == lm.start(b"a hel").missing_mass
    assert 0 < found.missing <= 1
    assert missing_said(found)[:5] == "Up to"
    assert missing_said(found) in cover_page("m", found).replace("&#x27;", "'")
    exact = av.ByteLM(backend, tiny, first_ids=[FIRST], specials=SPECIALS)
    assert missing_said(explain(exact, b"a hel")) == ""


def test_what_plain_tokens_hold_likely_is_among_the_bytes_shown(lm: av.ByteLM) -> None:
    plain = next_bytes(lm, context_ids(lm, b"hell"), ends=lm.ends)
    shown = {one.byte for one in explain(lm, b"hell", bytes_shown=4).bytes}
    assert len(shown) == 4
    assert int(plain.argmax()) in shown


def test_cells_stand_over_whole_characters_and_single_bytes() -> None:
    assert list(byte_cells("a 中".encode() + b"\xe4\xb8\x00")) == [
        (0, 1, "a"),
        (1, 1, "␣"),
        (2, 3, "中"),
        (5, 1, "e4"),
        (6, 1, "b8"),
        (7, 1, "␀"),
    ]


@pytest.mark.parametrize(
    ("share", "shown"),
    [(1.0, "100.0%"), (0.25, "25.0%"), (0.0123, "1.23%"), (1e-6, "<0.01%"), (0.0, "0.0%")],
)
def test_shares_are_as_fine_as_they_have_to_be(share: float, shown: str) -> None:
    assert percent(share) == shown


def test_next_bytes_have_names() -> None:
    assert [next_byte_name(byte) for byte in (97, 32, 10, 256, 0xC3)] == [
        "a",
        "␣",
        "⏎",
        "END",
        "\\xc3",
    ]


@pytest.mark.parametrize("prompt", [*PROMPTS, b"<script>&\x00hell", b"hello " * 40 + b"hell"])
def test_the_tree_is_well_formed_and_has_a_row_for_each_way_to_the_end(
    lm: av.ByteLM, prompt: bytes
) -> None:
    found = explain(lm, prompt)
    drawing = cover_tree(found)
    root = ElementTree.fromstring(drawing)
    shares = [one for one in root.iter("text") if (one.text or "").endswith("%")]
    rows = 0
    for context in found.contexts:
        rest = context.share - sum(one.share for one in context.tops)
        rows += len(context.tops) + (rest > 1e-9)
    assert len(shares) == rows


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert "style" not in dict(attrs)  # the page's policy forbids it
        assert not any(name.startswith("on") for name, _ in attrs)


def test_a_page_obeys_no_prompt_and_no_model(lm: av.ByteLM) -> None:
    hostile = b"<img src=x onerror=alert(1)>hell"
    html = cover_page(
        "<b>model</b>", explain(lm, hostile), [("bytes", b"<script>alert(1)</script>", -1.0)]
    )
    parser = Tags()
    parser.feed(html)
    assert not parser.tags & {"img", "script", "iframe", "link"}
    assert "&lt;b&gt;model&lt;/b&gt;" in html
    assert "http" not in re.sub(r"http-equiv", "", html)
