"""Superwords: the recipes against their definitions, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.cli import main
from anyvocab.training import boundless as boundless_
from anyvocab.training.boundless import train_boundless
from anyvocab.training.bpe import Trained, train_corpus
from anyvocab.training.counting import Plan, count_corpus
from anyvocab.training.options import TrainOptions, Veto
from anyvocab.training.stages import count_both
from anyvocab.training.superwords import (
    Boundless,
    SuperBPE,
    Supertokens,
    recipe_of,
    second_pattern,
)
from anyvocab.training.sweep import sweep

SAYING = "in the end of the day we go to the house by the sea and see what is there to be seen"
WORDS = SAYING.split()
MARKS = [*[""] * 9, ",", ".\n", ":", " --", " 1234"]
PLAN = Plan(pattern="llama3", threads=1)


def texts_of(seed: int, number: int, *, words: int = 40) -> list[bytes]:
    """Return texts in which words follow one another as in speech, with figures and marks."""
    random = np.random.default_rng(seed)
    out = []
    for _ in range(number):
        at = random.integers(len(WORDS))
        parts = []
        for _ in range(words):
            at = (at + 1) % len(WORDS) if random.random() < 0.8 else random.integers(len(WORDS))
            mark = random.choice(MARKS)
            parts.append(WORDS[at] + mark)
        out.append(" ".join(parts).encode())
    return out


TEXTS = texts_of(1, 60)
HELD_OUT = [text.decode() for text in texts_of(2, 20)]


def learn(superwords: object, vocab_size: int = 330, plan: Plan = PLAN, **how: object) -> Trained:
    options = TrainOptions(vocab_size=vocab_size, **how)  # type: ignore[arg-type]
    return train_corpus(iter(TEXTS), options, plan, superwords=superwords)


def merges_of(trained: Trained) -> list[tuple[bytes, bytes]]:
    token = trained.tokenizer.vocabulary.token_bytes
    return [(token(int(a)) or b"", token(int(b)) or b"") for a, b, _ in trained.merges]


def tokens_of(trained: Trained) -> set[bytes]:
    vocabulary = trained.tokenizer.vocabulary
    return {vocabulary.token_bytes(i) or b"" for i in range(len(vocabulary))}


# Definitions, written for reading.

Sequences = list[tuple[list[bytes], int]]


def merged(sequence: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    """Replace a pair from the left."""
    out: list[bytes] = []
    for token in sequence:
        if out and (out[-1], token) == pair:
            out[-1:] = [out[-1] + token]
            continue
        out.append(token)
    return out


def most_frequent(
    sequences: Sequences, ids: dict[bytes, int], veto: Veto, least: int
) -> tuple[tuple[bytes, bytes], int] | None:
    pairs: Counter[tuple[bytes, bytes]] = Counter()
    for sequence, count in sequences:
        for pair in pairwise(sequence):
            pairs[pair] += count
    allowed = [one for one in pairs if pairs[one] >= least and not veto.forbids(one[0] + one[1])]
    if not allowed:
        return None
    best = min(allowed, key=lambda one: (-pairs[one], ids[one[0]], ids[one[1]]))
    return best, pairs[best]


def greedy(
    sequences: Sequences, ids: dict[bytes, int], veto: Veto, merges: int, least: int = 2
) -> list[tuple[tuple[bytes, bytes], int]]:
    """Merge the most frequent pair again and again, of equals the one with the smallest ids."""
    learnt: list[tuple[tuple[bytes, bytes], int]] = []
    while len(learnt) < merges:
        best = most_frequent(sequences, ids, veto, least)
        if best is None:
            break
        learnt.append(best)
        ids.setdefault(b"".join(best[0]), len(ids))
        sequences = [(merged(sequence, best[0]), count) for sequence, count in sequences]
    return learnt


def first_ids(trained: Trained, tokens: int) -> dict[bytes, int]:
    vocabulary = trained.tokenizer.vocabulary
    return {vocabulary.token_bytes(i) or b"": i for i in range(tokens)}


def single_bytes(text: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in text]


def test_superbpe_is_the_naive_procedure_of_its_paper() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    trained = learn(SuperBPE(transition=290), vocab_size=330)
    first = learn(None, vocab_size=290)
    assert merges_of(trained)[: len(first.merges)] == merges_of(first)
    # Chunks of the wider pattern, on which all merges of the first stage are replayed in order.
    regex = r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]{2,}[\r\n/]*| +(?!\S)"
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(regex), "isolated")
    chunks = Counter(chunk for text in TEXTS for chunk, _ in split.pre_tokenize_str(text.decode()))
    sequences: Sequences = []
    for chunk, count in chunks.items():
        sequence = single_bytes(chunk.encode())
        for pair in merges_of(first):
            sequence = merged(sequence, pair)
        sequences.append((sequence, count))
    veto = Veto(max_words=4, inside=(": ",))
    expected = greedy(sequences, first_ids(trained, 290), veto, 40)
    assert merges_of(trained)[len(first.merges) :] == [pair for pair, _ in expected]
    assert trained.counts[len(first.merges) :].tolist() == [count for _, count in expected]
    assert any(b"n the " in token or b"f the" in token for token in tokens_of(trained))


def test_boundless_supermerges_are_those_of_the_naive_procedure() -> None:
    made = train_boundless(
        iter(TEXTS),
        recipe=Boundless(transition=300),
        plan=PLAN,
        options=TrainOptions(vocab_size=330),
    )
    word = learn(None, vocab_size=300).tokenizer
    runs: Sequences = []
    for text in TEXTS:
        run: list[bytes] = []
        for pretoken in [*word.pretokenize(text), b"."]:
            eligible = len(word.encode(pretoken)) == 1 and any(map(str.isalpha, pretoken.decode()))
            if eligible:
                run.append(pretoken)
                continue
            if len(run) > 1:
                runs.append((run, 1))
            run = []
    ids = {word.vocabulary.token_bytes(i) or b"": i for i in range(300)}
    expected = greedy(runs, ids, Veto(), 30)
    found = [
        ((made.token_bytes(int(a)), made.token_bytes(int(b))), int(count))
        for (a, b, _), count in zip(made.supermerges, made.supermerge_counts, strict=True)
    ]
    assert made.transition == 300
    assert found == expected


def test_boundless_encoding_merges_runs_of_whole_pretokens() -> None:
    made = train_boundless(iter(TEXTS), plan=PLAN, options=TrainOptions(vocab_size=330))
    word = learn(None, vocab_size=made.transition).tokenizer
    rank = {(int(a), int(b)): i for i, (a, b, _) in enumerate(made.supermerges)}
    products = {(int(a), int(b)): int(c) for a, b, c in made.supermerges}
    parts = {one for pair in rank for one in pair}

    def joined(run: list[int]) -> list[int]:
        while True:
            pairs = [(rank[p], i, p) for i, p in enumerate(pairwise(run)) if p in rank]
            if not pairs:
                return run
            _, at, pair = min(pairs)
            run[at : at + 2] = [products[pair]]

    for text in HELD_OUT:
        expected: list[int] = []
        run: list[int] = []
        for pretoken in word.pretokenize(text.encode()):
            ids = word.encode(pretoken).tolist()
            if len(ids) == 1 and ids[0] in parts:
                run += ids
                continue
            expected += [*joined(run), *ids]
            run = []
        assert made.encode(text).tolist() == [*expected, *joined(run)]
        assert made.decode(made.encode(text)) == text.encode()


def test_the_crossing_takes_the_larger_count_and_of_equal_ones_the_word() -> None:
    options = TrainOptions(vocab_size=340)
    words, runs = count_both(iter(TEXTS), PLAN, Boundless())
    lists = boundless_.learn_lists(words, runs, options, PLAN, options)
    merged_counts: list[tuple[int, int]] = []
    w, s = lists.word_counts.tolist(), lists.supermerge_counts.tolist()
    while len(merged_counts) < 340 - 256:
        is_super = bool(s) and (not w or s[0] > w[0])
        merged_counts.append((int(is_super), (s if is_super else w).pop(0)))
    for size in (257, 270, 300, 320, 340):
        made = lists.select(size)
        supers = sum(is_super for is_super, _ in merged_counts[: size - 256])
        assert len(made) == size
        assert len(made.supermerges) == supers
        assert made.transition == size - supers
        direct = train_boundless(iter(TEXTS), plan=PLAN, options=TrainOptions(vocab_size=size))
        assert made.supermerges.tolist() == direct.supermerges.tolist()
        assert made.merges.tolist() == direct.merges.tolist()


@pytest.mark.parametrize(
    "recipe",
    [
        Supertokens(seed=3, resamplings=2),
        Supertokens(cuts="graphemes"),
        Supertokens(cuts="pretokens"),
        SuperBPE(),
        SuperBPE(transition=1.0),
        Boundless(export="superbpe"),
    ],
    ids=str,
)
def test_tokenizers_reads_the_same_ids_from_the_file(recipe: object) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    trained = learn(recipe, vocab_size=400)
    theirs = tokenizers.Tokenizer.from_str(trained.tokenizer.to_json().decode())
    texts = [*HELD_OUT, "  \n\n\t x1234567: é漢😀 -- //\r\n ", ""]
    for text in texts:
        ids = trained.tokenizer.encode(text).tolist()
        assert ids == theirs.encode(text).ids
        assert trained.tokenizer.decode(ids) == text.encode()


def test_supertokens_cut_nothing_when_they_encode() -> None:
    trained = learn(Supertokens(), vocab_size=400)
    assert trained.tokenizer.pretokenize(TEXTS[0]) == [TEXTS[0]]
    longest = max(map(len, tokens_of(trained)))
    assert 8 < longest < 30  # the bound is exclusive, as in `tokenizers`
    assert any(b" " in token.strip() for token in tokens_of(trained))


@pytest.mark.parametrize("cuts", ["characters", "graphemes", "pretokens"])
def test_chunks_hold_every_byte_once_for_each_resampling(cuts: str) -> None:
    texts = [*TEXTS, b"=" * 100, "e\u0301".encode() * 50, b"\xff\x80 \xe2\x82"]
    recipe = Supertokens(cuts=cuts, resamplings=3, seed=5)  # type: ignore[arg-type]
    counts = count_corpus(iter(texts), replace(PLAN, pattern=recipe.pattern("llama3")))
    total = [0] * 256
    for chunk, count in counts:
        for byte in chunk:
            total[byte] += count
    assert total == [3 * b"".join(texts).count(bytes([byte])) for byte in range(256)]


def test_chunks_between_pretokens_end_where_pretokens_do() -> None:
    recipe = Supertokens(cuts="pretokens", probability=0.5)
    counts = count_corpus(iter(TEXTS), replace(PLAN, pattern=recipe.pattern("gpt2"))).to_dict()
    tokenizer = av.train(iter(TEXTS), 300, pattern="gpt2")
    pretokens = {one for text in TEXTS for one in tokenizer.pretokenize(text)}
    whole = sum(len(tokenizer.pretokenize(text)) for text in TEXTS)
    boundaries = whole - len(TEXTS)
    # Each boundary is cut with probability 1/2: five standard deviations around the mean.
    cut = sum(counts.values()) - len(TEXTS)
    assert abs(cut - boundaries / 2) < 5 * (boundaries / 4) ** 0.5
    assert all(set(tokenizer.pretokenize(chunk)) <= pretokens for chunk in counts)


def test_another_seed_gives_other_tokens_and_the_same_seed_the_same() -> None:
    first, again, other = (
        merges_of(learn(Supertokens(seed=seed), vocab_size=400)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    "recipe", [Supertokens(), SuperBPE(), Boundless(export="superbpe")], ids=str
)
def test_threads_memory_and_the_order_of_documents_change_nothing(recipe: object) -> None:
    expected = merges_of(learn(recipe, vocab_size=400))
    small = replace(PLAN, threads=2, memory_bytes=1 << 19)
    assert merges_of(learn(recipe, vocab_size=400, plan=small)) == expected
    backwards = train_corpus(
        iter(TEXTS[::-1]), TrainOptions(vocab_size=400), PLAN, superwords=recipe
    )
    assert merges_of(backwards) == expected


def test_the_rules_of_superbpe_hold_beside_those_of_the_user() -> None:
    made = learn(SuperBPE(transition=290), vocab_size=400, veto=Veto(max_words=2, inside=("the ",)))
    late = [a + b for a, b in merges_of(made)]
    assert all(len([w for w in token.split(b" ") if w]) <= 2 for token in late)
    assert not any(b": " in token or b"the " in token for token in late)
    assert any(b": " in token for token in tokens_of(learn(SuperBPE(290, inside=()), 400)))


def test_both_stages_see_the_same_documents_with_the_same_weights() -> None:
    corpus = {"a": iter(TEXTS[:30]), "b": iter(TEXTS[30:])}
    words, chunks = count_both(
        corpus, PLAN, SuperBPE(), weights={"a": 2.5}, limit_bytes={"b": 3000}
    )
    assert words.header.sources == chunks.header.sources
    assert 0 < words.header.sources["b"].bytes <= 3000

    def letters(counts: object) -> Counter[int]:
        total: Counter[int] = Counter()
        for piece, count in counts:  # type: ignore[attr-defined]
            for byte in piece:
                total[byte] += count
        return total

    assert letters(words) == letters(chunks)


def test_counts_made_before_give_the_same_tokenizer() -> None:
    options = TrainOptions(vocab_size=400)
    for recipe in (SuperBPE(), Boundless(export="superbpe")):
        second = second_pattern(recipe, "llama3") or ""
        pair = (
            count_corpus(iter(TEXTS), PLAN),
            count_corpus(iter(TEXTS), replace(PLAN, pattern=second)),
        )
        made = train_corpus(pair, options, PLAN, superwords=recipe)
        assert merges_of(made) == merges_of(learn(recipe, vocab_size=400))
    chunks = count_corpus(iter(TEXTS), replace(PLAN, pattern=Supertokens().pattern("llama3")))
    made = train_corpus(chunks, options, PLAN, superwords="supertokens")
    assert merges_of(made) == merges_of(learn("supertokens", vocab_size=400))


def test_a_second_stage_of_other_documents_is_refused() -> None:
    pair = (
        count_corpus(iter(TEXTS), PLAN),
        count_corpus(iter(TEXTS[:5]), replace(PLAN, pattern="superbpe")),
    )
    with pytest.raises(errors.InvalidValue, match="documents: 5 in the second stage, and 60"):
        train_corpus(pair, TrainOptions(vocab_size=300), PLAN, superwords="superbpe")
    with pytest.raises(errors.InvalidValue, match="counts of one"):
        train_corpus(pair[0], TrainOptions(vocab_size=300), PLAN, superwords="superbpe")
    with pytest.raises(errors.InvalidValue, match="not 'superbpe'"):
        train_corpus((pair[0], pair[0]), TrainOptions(vocab_size=300), PLAN, superwords="superbpe")


def test_boundless_is_refused_by_name_with_the_nearest_form() -> None:
    with pytest.raises(errors.UnsupportedTokenizer, match=r'Boundless\(export="superbpe"\)'):
        learn("boundless")
    made = train_boundless(iter(TEXTS), plan=PLAN, options=TrainOptions(vocab_size=400))
    nearest = learn(Boundless(export="superbpe"), vocab_size=400)
    assert nearest.transition == made.transition
    assert [a + b for a, b in merges_of(nearest)][-1] == made.token_bytes(399)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: recipe_of("superpbe"), "no recipe"),
        (lambda: SuperBPE(transition=0), "transition"),
        (lambda: SuperBPE(transition=1.5), "transition"),
        (lambda: SuperBPE(max_words=0), "max_words"),
        (lambda: Supertokens(resamplings=0), "resamplings"),
        (lambda: Supertokens(probability=0), "probability"),
        (lambda: Supertokens(seed=-1), "seed"),
        (lambda: Supertokens(cuts="words"), "cuts"),  # type: ignore[arg-type]
        (lambda: Boundless(export="hf"), "export"),  # type: ignore[arg-type]
        (lambda: learn("superbpe", seed_tokens=(b"x",)), "seed_tokens"),
        (lambda: learn("superbpe", limit_alphabet=10), "limit_alphabet"),
        (lambda: learn(SuperBPE(transition=10)), "transition: 10 is less than 256"),
        (lambda: learn(SuperBPE(), vocab_size=10), "vocab_size"),
    ],
)
def test_what_a_recipe_cannot_be_is_refused(make: object, found: str) -> None:
    with pytest.raises(errors.InvalidValue, match=found):
        make()  # type: ignore[operator]


def test_a_sweep_measures_what_training_apart_would_give() -> None:
    report = sweep(
        {"a": iter(TEXTS[:30]), "b": iter(TEXTS[30:])},
        sizes=[300, 340],
        transitions=[0.9, 1.0],
        held_out=0.2,
        plan=PLAN,
    )
    assert [(row.vocab_size, row.transition) for row in report.rows] == [
        (300, 270),
        (300, 300),
        (340, 306),
        (340, 340),
    ]
    held = sum(report.held_out.values())
    assert held > 0
    assert report.header.documents == 60 - held
    assert set(report.rows[0].tokens) == {"a", "b"}
    # Most pairs of words come again: superwords must win on such text.
    assert report.rows[2].bytes_per_token > report.rows[3].bytes_per_token
    assert report.to_dict()["rows"]


def test_a_sweep_of_boundless_takes_every_crossing_from_one_pair_of_lists() -> None:
    report = sweep(iter(TEXTS), sizes=[300, 340], recipe="boundless", held_out=0.2, plan=PLAN)
    apart = sweep(iter(TEXTS), sizes=[300], recipe="boundless", held_out=0.2, plan=PLAN)
    assert report.rows[0] == apart.rows[0]
    fixed = sweep(
        iter(TEXTS), sizes=[340], transitions=[0.9], recipe="boundless", held_out=0.2, plan=PLAN
    )
    assert fixed.rows[0].transition == 306


def test_a_sweep_without_held_out_text_is_refused() -> None:
    with pytest.raises(errors.InvalidValue, match="no document was held out"):
        sweep(iter([TEXTS[0]]), sizes=[300], held_out=1e-9, plan=PLAN)
    with pytest.raises(errors.InvalidValue, match="has no transition"):
        sweep(iter(TEXTS), recipe="supertokens", plan=PLAN)  # type: ignore[arg-type]


def run(arguments: Sequence[str]) -> int:
    return int(main(list(arguments)))


def test_the_commands_train_and_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, text in enumerate(TEXTS):
        (tmp_path / f"{number}.txt").write_bytes(text)
    files, out = str(tmp_path / "*.txt"), tmp_path / "out"
    common = ["train", files, "--vocab-size", "330", "--json"]
    done = run([*common, "--out", str(out), "--superwords", "superbpe", "--transition", "290"])
    assert done == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["superwords"], report["transition"]) == ("superbpe", 290)
    expected = learn(SuperBPE(transition=290), vocab_size=330).tokenizer
    loaded = av.Tokenizer.load(out)
    assert loaded.encode(HELD_OUT[0]).tolist() == expected.encode(HELD_OUT[0]).tolist()
    assert run([*common, "--out", str(out), "--transition", "0.5"]) == 2
    assert run([*common, "--out", str(tmp_path / "b"), "--superwords", "boundless"]) == 1
    capsys.readouterr()
    arguments = ["sweep", files, "--sizes", "300,320", "--transitions", "0.9,1.0"]
    assert run([*arguments, "--held-out", "0.2", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 4


def test_train_takes_shards_of_both_stages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    shards = [tmp_path / "words.parquet", tmp_path / "chunks.parquet"]
    for shard, pattern in zip(shards, ("llama3", "superbpe"), strict=True):
        av.count(iter(TEXTS), shard, pattern=pattern, threads=1)
    given = [item for shard in shards for item in ("--from-counts", str(shard))]
    out = tmp_path / "out"
    options = ["--vocab-size", "330", "--superwords", "superbpe", "--out", str(out)]
    assert run(["train", *given, *options]) == 0
    other = [*options[:-1], str(tmp_path / "other")]
    assert run(["train", *given[:2], *other]) == 2
    assert not (tmp_path / "other").exists()
    expected = learn("superbpe", vocab_size=330).tokenizer
    assert av.Tokenizer.load(out).to_json() == expected.to_json()
