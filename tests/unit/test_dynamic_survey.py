"""What merging does to texts of several kinds, and how it is shown."""

from __future__ import annotations

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import anyvocab as av
from anyvocab.dynamic.survey import survey
from anyvocab.report import svg
from anyvocab.report.dynamic_texts import cut_merged, cuts_of, lengths_of

KINDS = {
    "code": [
        b"def tokenize(tokenizer):\n    return tokenizer.tokenize_tokens()\n",
        b"class Tokenizer:\n    tokenizers = []  # tokenizers\n",
        b"tokenizer = Tokenizer()\nprint(tokenizer.tokenizers)\n",
    ],
    "prose": [
        b"The tokenizer tokenizes what tokenizers tokenize.",
        b"",
        "é \xff".encode("latin-1"),
    ],
}


@pytest.fixture(scope="module")
def dyn() -> av.DynamicTokenizer:
    return av.DynamicTokenizer("pico:code-4k")


def test_rows_have_the_lengths_of_batches_merged_one_by_one(dyn: av.DynamicTokenizer) -> None:
    found = survey(dyn, KINDS, batch=2, attainable=0.5)
    for row, texts in zip(found.rows, KINDS.values(), strict=True):
        batches = [dyn.merge(texts[i : i + 2], attainable=0.5) for i in range(0, len(texts), 2)]
        assert row.lengths.tolist() == [n for one in batches for n in one.lengths().tolist()]
        assert row.base_tokens == sum(len(one.base.ids) for one in batches)
        assert row.merges == sum(len(one.merges) for one in batches)
        assert row.attainable == sum(one.attainable for one in batches)
        assert row.bytes.tolist() == list(map(len, texts))
    assert [row.batches for row in found.rows] == [2, 2]


@pytest.mark.parametrize(("boundary", "transition"), [("pretoken", None), ("superword", 3)])
def test_the_curve_is_what_every_number_of_merges_gives(
    dyn: av.DynamicTokenizer, boundary: str, transition: int | None
) -> None:
    stopped = survey(dyn, KINDS, boundary=boundary, transition=transition, max_merges=2)  # type: ignore[arg-type]
    base = stopped.total.base_tokens
    for merges, gone in enumerate(stopped.curve.tolist()):
        left = sum(
            len(dyn.merge(texts, boundary=boundary, transition=transition, max_merges=merges).ids)  # type: ignore[arg-type]
            for texts in KINDS.values()
        )
        assert gone == (base - left) / base
    assert stopped.total.reduction == pytest.approx(float(stopped.curve[2]), abs=1e-15)
    assert stopped.total.attainable_reduction == pytest.approx(float(stopped.curve[-1]), abs=1e-15)


def test_merges_for_a_share_are_the_fewest_that_reach_it(dyn: av.DynamicTokenizer) -> None:
    found = survey(dyn, KINDS)
    for share in (0.0, 0.3, 0.5, 1.0):
        merges = found.merges_for(share)
        assert found.curve[merges] >= share * found.curve[-1]
        assert merges == 0 or found.curve[merges - 1] < share * found.curve[-1]


def test_points_of_the_curve_go_from_its_start_to_its_end(dyn: av.DynamicTokenizer) -> None:
    found = survey(dyn, KINDS)
    places = [at for at, _ in found.points()]
    assert places[0] == 0
    assert places[-1] == len(found.curve) - 1
    assert all(first < second for first, second in pairwise(places))


def test_what_pairs_replaced_is_what_is_gone(dyn: av.DynamicTokenizer) -> None:
    found = survey(dyn, KINDS, batch=1)
    total = found.total
    assert sum(one.replaced for one in found.merges) == total.base_tokens - total.tokens
    replaced = [one.replaced for one in found.merges]
    assert replaced == sorted(replaced, reverse=True)


def test_new_tokens_are_those_that_stand_in_the_texts(dyn: av.DynamicTokenizer) -> None:
    found = survey(dyn, KINDS, batch=1)
    uses: dict[bytes, int] = {}
    batches: dict[bytes, int] = {}
    asked = met = 0
    for text in (text for texts in KINDS.values() for text in texts):
        one = dyn.merge([text])
        new = [one.bytes_of(id) or b"" for id in one.ids.tolist() if id >= dyn.first_new_id]
        asked += len(set(new))
        met += len(set(new) & set(uses))
        for token in new:
            uses[token] = uses.get(token, 0) + 1
        for token in set(new):
            batches[token] = batches.get(token, 0) + 1
    assert {one.token: one.uses for one in found.new_tokens} == uses
    assert {one.token: one.batches for one in found.new_tokens} == batches
    assert all(b"".join(one.pieces) == one.token for one in found.new_tokens)
    assert (found.asked, found.met) == (asked, met)
    assert 0 < found.hit_rate == met / asked


def test_the_mean_counts_every_kind_the_same(dyn: av.DynamicTokenizer) -> None:
    found = survey(dyn, KINDS)
    first, second = (row.reduction for row in found.rows)
    assert found.mean_reduction == (first + second) / 2
    assert found.mean_reduction != found.total.reduction


def test_a_batch_that_cannot_be_shortened_so_far_says_of_which_kind_it_is(
    dyn: av.DynamicTokenizer,
) -> None:
    with pytest.raises(av.InvalidValue, match=r"^prose: reduction: .* cannot be reached") as raised:
        survey(dyn, {"code": KINDS["code"], "prose": [b"a b c"]}, reduction=0.2)
    assert raised.value.file == "prose"
    assert "ask for less" in raised.value.fix
    with pytest.raises(av.InvalidValue, match=r"^reduction: "):
        survey(dyn, {"prose": [b"a b c"]}, reduction=0.2)


def test_nothing_to_merge_is_an_error_and_texts_without_tokens_are_none(
    dyn: av.DynamicTokenizer,
) -> None:
    for kinds in ({}, {"none": []}):
        with pytest.raises(av.InvalidValue, match="there is no text"):
            survey(dyn, kinds)
    with pytest.raises(av.InvalidValue, match="batch: must be at least 1, got 0"):
        survey(dyn, KINDS, batch=0)
    found = survey(dyn, {"empty": [b""]})
    assert found.total.reduction == found.hit_rate == 0.0
    assert found.curve.tolist() == [0.0]


@pytest.mark.parametrize("limit", [0, 1, 20, 10_000])
def test_both_cuts_of_a_text_have_the_same_bytes(dyn: av.DynamicTokenizer, limit: int) -> None:
    text = b"tokenizers <|endoftext|> tokenizer\xff tokenizers \xc3\xa9\xc3\xa9\n" * 3
    batch = dyn.merge([b"another", text], boundary="word")
    before, after = cut_merged(dyn.tokenizer, text, batch, 1, limit=limit)
    assert before.text == after.text == b"".join(piece.text for piece in after.pieces)
    assert text.startswith(before.text)
    assert len(before.text) >= min(limit, len(text))
    ids = batch.rows[1].tolist()
    assert [piece.id for piece in after.pieces] == ids[: after.tokens]
    assert [piece.id for piece in before.pieces] == batch.base[1].tolist()[: before.tokens]
    sizes = np.diff(batch.starts)[batch.offsets[1] :].tolist()
    for piece, size in zip(after.pieces, sizes, strict=False):
        assert len(piece.merged) == (size if size > 1 else 0)
        assert not piece.merged or b"".join(piece.merged) == piece.token


def test_bytes_that_a_normalizer_drops_stay_between_merged_tokens(fixtures: Path) -> None:
    dyn = av.DynamicTokenizer(fixtures / "tokenizers" / "bert_uncased")
    text = "Müßiggang   ist aller Laster Anfang ".encode()
    before, after = cut_merged(dyn.tokenizer, text, dyn.merge([text]), 0, limit=1000)
    assert b"".join(piece.text for piece in after.pieces) == text == before.text
    assert next(piece.text for piece in after.pieces if piece.merged) == "Müßiggang".encode()
    assert sum(len(piece.merged) or 1 for piece in after.pieces if piece.id is not None) == (
        before.tokens
    )


def test_a_cut_text_is_compared_as_the_whole_was_cut(dyn: av.DynamicTokenizer) -> None:
    text = b"tokenizer " * 4000
    batch = dyn.merge([text], max_merges=3)
    before, after = cut_merged(dyn.tokenizer, text, batch, 0, limit=100)
    assert 100 <= len(before.text) < 120
    assert after.tokens < before.tokens


def test_texts_of_one_kind_have_lengths_of_their_own(dyn: av.DynamicTokenizer) -> None:
    code = {"code": KINDS["code"]}
    found = survey(dyn, code, examples=2)
    names = [one.name for one in lengths_of(found, code)]
    assert names[0] == "1: def tokenize(tokenizer):⏎    re…"
    assert [one.after for one in lengths_of(found, code)] == found.rows[0].lengths.tolist()
    assert list(cuts_of(dyn.tokenizer, found, most=9, limit=50)) == names[:2]
    found = survey(dyn, KINDS)
    assert [one.name for one in lengths_of(found, KINDS)] == ["code", "prose"]
    assert list(cuts_of(dyn.tokenizer, found, most=9, limit=50)) == ["code", "prose"]


def test_a_curve_is_drawn_inside_its_frame() -> None:
    drawing = svg.curve([(0, 0.0), (3, 0.1), (9, 0.4)], unit="<b>", line=0.4, mark=(3, 0.1))
    points = drawing.split('points="')[1].split('"')[0].split()
    places = [tuple(map(float, one.split(","))) for one in points]
    assert places[0][1] > places[1][1] > places[2][1] >= 12
    assert 46 == places[0][0] < places[2][0] == 700
    assert "<b>" not in drawing
    assert "nan" not in svg.curve([(0, 0.0)], unit="merges")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    file = Path(__file__).resolve().parents[2] / "benches" / "python" / "dynamic_languages.py"
    spec = importlib.util.spec_from_file_location("dynamic_languages", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_bench_measures_what_merging_whole_languages_gives(
    dyn: av.DynamicTokenizer, bench: ModuleType
) -> None:
    texts = [text.decode() for text in KINDS["code"]]
    row = bench.measure(dyn, "code", texts)
    assert row.word == dyn.merge(texts, boundary="word").reduction
    assert row.pretoken == dyn.merge(texts).reduction
    assert row.first[10] == pytest.approx(
        dyn.merge(texts, boundary="word", max_merges=10).reduction, abs=1e-15
    )
    assert row.repeated == dyn.merge(texts, boundary="word", min_count=2).reduction
    assert bench.mean([row, row], "mean").word == row.word


def test_words_are_over_a_fifth_shorter_in_every_language_of_the_bench(
    bench: ModuleType, fixtures: Path
) -> None:
    dyn = av.DynamicTokenizer(fixtures / "tokenizers" / "gpt2")
    rows = [bench.measure(dyn, one, bench.texts_of("udhr", one, 8)) for one in ("de", "hi", "sw")]
    assert min(row.word for row in rows) > 0.2
