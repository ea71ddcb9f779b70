"""Counting pretokens: the counts themselves, whatever the order, threads, memory and blocks."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import anyvocab as av
from anyvocab import _core
from anyvocab.training import counting, sampling
from anyvocab.training.corpus import Blocks, sources_of
from anyvocab.training.counting import Plan, count_corpus

ONE = Plan(threads=1)


def counted(corpus: object, plan: Plan = ONE, **options: object) -> dict[bytes, int]:
    return count_corpus(corpus, plan, **options).to_dict()  # type: ignore[arg-type]


def words(seed: int, number: int) -> str:
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefgh", k=draw.randint(1, 6))) for _ in range(number))


@pytest.mark.parametrize("name", ["llama3", "gpt2", "o200k", "qwen2", "superbpe"])
def test_counts_are_those_of_the_tokenizers_wheel(fixtures: Path, name: str) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the oracle `tokenizers` is missing")
    patterns = {
        "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "superbpe": r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]{2,}[\r\n/]*| +(?!\S)",
        "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    }
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(patterns[name]), "isolated")
    texts = [path.read_bytes() for path in sorted((fixtures / "text/udhr").glob("*.txt"))[:40]]
    expected: Counter[bytes] = Counter()
    for text in texts:
        expected.update(one.encode() for one, _ in split.pre_tokenize_str(text.decode()))
    assert counted(texts, Plan(pattern=name, threads=2)) == expected
    assert counted(texts, Plan(pattern=patterns[name], threads=1)) == expected


def test_a_pattern_without_a_scanner_counts_as_the_wheel_does(fixtures: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the oracle `tokenizers` is missing")
    pattern = r"\p{Lu}\p{Ll}*(?=\s)|\d|\s+"
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    text = (fixtures / "text/udhr/eng.txt").read_bytes()
    expected = Counter(one.encode() for one, _ in split.pre_tokenize_str(text.decode()))
    assert counted([text], Plan(pattern=pattern, threads=1)) == expected


def test_lines_are_counted_as_hugging_face_reads_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one  \n  two\r\n\n")
    counts = count_corpus(path, Plan(documents="line", threads=1))
    # The blanks before and behind the line feed are not seen together.
    assert counts.to_dict() == {b"\n": 1, b"\r\n": 1, b"  \n": 1, b" ": 1, b" two": 1, b"one": 1}
    assert counts.header.documents == 3
    assert counted(path) == {b"  \n": 1, b" ": 1, b" two": 1, b"\r\n\n": 1, b"one": 1}


def test_the_whole_document_is_a_pretoken_without_a_pattern() -> None:
    plan = Plan(pattern="none", threads=1)
    assert counted([b"a b", b"c", b"a b", b""], plan) == {b"a b": 2, b"c": 1}


def test_a_normalizer_changes_what_is_counted() -> None:
    text = "cafe\u0301"
    assert counted(iter([text]), Plan(normalizer="nfc", threads=1)) == {"café".encode(): 1}
    assert counted(iter([text])) == {b"cafe": 1, "\u0301".encode(): 1}


def test_order_threads_memory_and_batches_do_not_change_the_shard(tmp_path: Path) -> None:
    texts = [words(seed, 4000).encode() for seed in range(30)]
    shards = []
    for i, (threads, memory, order) in enumerate(
        [(1, 1 << 30, 1), (3, 1 << 30, -1), (1, 1 << 16, 1), (2, 1 << 17, -1)]
    ):
        path = tmp_path / f"{i}.parquet"
        av.count(texts[::order], path, threads=threads, memory_bytes=memory)
        shards.append(path.read_bytes())
    assert shards[1:] == shards[:-1]
    assert sorted(one.name for one in tmp_path.iterdir()) == [f"{i}.parquet" for i in range(4)]


@pytest.mark.parametrize("pattern", ["llama3", "superbpe", "bloom"])
def test_a_document_in_blocks_counts_as_a_whole_one(tmp_path: Path, pattern: str) -> None:
    text = (words(1, 200_000) + "\n" + "中文 ABC  123\n" * 5000).encode() * 12
    assert len(text) > 8 << 20

    def batches(counter: _core.Counter) -> object:
        return counter.finish().next_batch(1 << 40, 1 << 40)

    made = [_core.Counter(pattern, spill_folder=str(tmp_path), threads=2) for _ in range(3)]
    made[0].add([text])
    for counter, block in ((made[1], 1 << 20), (made[2], 5_000_011)):
        for start in range(0, len(text), block):
            counter.feed(text[start : start + block])
        counter.end_document()
    assert {one.totals() for one in made} == {made[0].totals()}
    first, *others = (
        [part.tobytes() for part in batches(one)]  # type: ignore[attr-defined]
        for one in made
    )
    assert others == [first, first]


def test_a_file_too_long_to_hold_comes_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text(words(3, 20_000))
    whole = counted(path)
    monkeypatch.setattr("anyvocab.training.corpus.WHOLE", 1000)
    monkeypatch.setattr("anyvocab.training.corpus.BLOCK", 777)
    ((source,)) = sources_of(path)
    (document,) = source.inputs[0].open()
    assert isinstance(document, Blocks)
    assert counted(path) == whole
    assert counted(path, Plan(documents="line", threads=1)) == whole
    assert counted({"a": path}, weights={"a": 2.0}) == {k: 2 * v for k, v in whole.items()}


def test_one_giant_line_is_counted() -> None:
    text = b"word " * (21 << 20)  # 105 MiB, and no line feed
    plan = Plan(documents="line", threads=2, memory_bytes=1 << 20)
    assert counted([text], plan) == {b"word": 1, b" word": (21 << 20) - 1, b" ": 1}


def test_a_document_that_must_be_held_is_refused_over_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a b " * 1000)
    plan = Plan(pattern=r"\w+|\W", threads=1, document_bytes=1000)
    with pytest.raises(av.LimitExceeded, match=r"a\.txt.*4000 bytes.*documents=\"line\""):
        count_corpus(path, plan)
    counts = count_corpus(path, Plan(threads=1, document_bytes=1000))
    assert counts.to_dict() == {b"a": 1, b" a": 999, b" b": 1000, b" ": 1}


def test_bytes_that_are_no_utf8_are_counted_skipped_or_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine")
    (tmp_path / "b.bin").write_bytes(b"ab\xff\xfe\x00")
    assert counted(tmp_path) == {b"ab": 1, b"fine": 1, b"\xff\xfe": 1, b"\x00": 1}
    counts = count_corpus(tmp_path, Plan(invalid="skip", threads=1))
    assert counts.to_dict() == {b"fine": 1}
    assert counts.header.sources["corpus"][:5] == (1, 4, 1.0, 2, 9)
    with pytest.raises(av.InvalidValue, match=r"b\.bin: document: not UTF-8: byte 0xff.*offset 2"):
        count_corpus(tmp_path, Plan(invalid="error", threads=1))


def test_a_lone_surrogate_is_no_utf8() -> None:
    with pytest.raises(av.InvalidValue, match="not UTF-8"):
        count_corpus(iter(["a\ud800"]), Plan(invalid="error", threads=1))


@pytest.mark.parametrize(
    ("corpus", "message"),
    [([b""], "no text"), (iter([]), "no text"), (b"text", "bytes are no place"), (3, "int is")],
)
def test_a_corpus_without_text_is_refused(corpus: object, message: str) -> None:
    with pytest.raises(av.InvalidValue, match=message):
        count_corpus(corpus, ONE)


def test_a_source_that_gives_nothing_is_refused_by_name() -> None:
    with pytest.raises(av.InvalidValue, match="no text in source 'fr'"):
        count_corpus({"en": [b"text"], "fr": [b""]}, ONE)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"pattern": "llama-3"}, "neither a known name nor a pattern"),
        ({"pattern": "(a"}, "pattern"),
        ({"normalizer": "nfx"}, "normalizer"),
        ({"threads": 0}, "threads"),
        ({"memory_bytes": 10}, "memory_bytes"),
        ({"documents": "word"}, "documents"),
        ({"invalid": "drop"}, "invalid"),
        ({"seed": -1}, "seed"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(
    option: dict[str, object], message: str
) -> None:
    with pytest.raises(av.AnyvocabError, match=message):
        count_corpus([b"a"], Plan(**option))  # type: ignore[arg-type]


def test_whole_weights_are_exact_and_others_draw_by_hash() -> None:
    texts = [words(seed, 20).encode() for seed in range(400)]
    once = counted(texts)
    assert counted({"a": texts}, weights={"a": 3}) == {k: 3 * v for k, v in once.items()}
    half = count_corpus({"a": texts}, ONE, weights={"a": 1.5})
    # Every document once, and about half of them once more: a binomial's standard deviation is 10.
    more = half.header.pretokens / sum(once.values())
    assert 1.35 < more < 1.65
    drawn = count_corpus({"a": texts}, ONE, weights={"a": 0.5}).header.sources["a"]
    assert 150 <= drawn.documents <= 250
    assert drawn.seen_documents == 400


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_order() -> None:
    texts = [words(seed, 20).encode() for seed in range(200)]
    draws = [
        counted({"a": order}, Plan(seed=seed, threads=1), weights={"a": 0.5})
        for order, seed in ((texts, 0), (texts[::-1], 0), (texts, 1))
    ]
    assert draws[0] == draws[1] != draws[2]


def test_a_limit_takes_documents_from_everywhere_and_not_the_head(tmp_path: Path) -> None:
    for i in range(100):
        (tmp_path / f"{i:03}.txt").write_text(f"{chr(ord('a') + i // 50)}{'x' * 96}{i:03}")
    counts = count_corpus({"a": tmp_path}, ONE, limit_bytes={"a": 2000})
    header = counts.header.sources["a"]
    assert (header.documents, header.bytes, header.seen_bytes) == (20, 2000, 10_000)
    first_half = counts.to_dict()[b"a" + b"x" * 96]
    assert 3 <= first_half <= 17  # a hypergeometric draw of 20 from 50 + 50: 10, deviation 2
    texts = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    for order in (texts, texts[::-1]):
        again = count_corpus({"a": iter(order)}, ONE, limit_bytes=2000)  # read but once
        assert again.to_dict() == counts.to_dict()
        assert again.header == counts.header


@pytest.mark.parametrize("seed", range(20))
def test_a_limit_on_an_iterator_takes_what_a_limit_on_files_takes(seed: int) -> None:
    draw = random.Random(seed)
    texts = [bytes([65 + draw.randrange(6)]) * draw.choice([1, 5, 30, 400]) for _ in range(40)]
    (source,) = sources_of({"a": iter([])}, limit_bytes=100)
    cutoff = sampling.draw_limit(texts, source, seed)
    drawer = sampling.Drawer(source, seed, cutoff)
    taken = sorted(text for text in texts if drawer.weight(text))
    draw.shuffle(texts)
    assert sorted(sampling.keep_limit(texts, source, seed)) == taken
    assert 0 < sum(map(len, taken)) <= 100


def test_a_limit_below_every_document_is_an_error() -> None:
    with pytest.raises(av.InvalidValue, match="no document of source 'a' fits into 3 bytes"):
        count_corpus({"a": iter(["long text"])}, ONE, limit_bytes=3)


def test_lines_can_be_drawn(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join(words(i, 3) for i in range(300)))
    plan = Plan(documents="line", threads=1)
    totals = count_corpus({"a": path}, plan, limit_bytes=1000).header.sources["a"]
    assert totals.bytes <= 1000 < totals.seen_bytes
    assert totals.seen_documents == 300


def test_progress_is_told_the_bytes_of_the_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_bytes(b"text " * 10)
    told: list[tuple[str, int, int]] = []
    count_corpus(tmp_path, ONE, progress=lambda *state: told.append(state))
    assert told == [("counting", 50, 100), ("counting", 100, 100)]


def test_an_iterator_is_read_once_and_lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "BATCH_DOCUMENTS", 10)
    given = 0

    def texts() -> Iterator[str]:
        nonlocal given
        for _ in range(95):
            given += 1
            yield "a"

    assert counted(texts()) == {b"a": 95}
    assert given == 95


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
@pytest.mark.parametrize("pattern", ["llama3", r"\\w+(?=\\s)|\\W"])
def test_ctrl_c_is_heard_while_counting(pattern: str) -> None:
    program = f"""
from anyvocab import _core
import tempfile
counter = _core.Counter("{pattern}", spill_folder=tempfile.gettempdir(), document_bytes=1 << 31)
text = b"hello hell yes, 12 times over the hills " * (1 << 21)
print("ready", flush=True)
while True:
    counter.add([text] * 20)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
        time.sleep(0.5)
        start = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=20)
        waited = time.monotonic() - start
    assert b"KeyboardInterrupt" in said
    # The bound is one second; a loaded machine may be slow to take the process down.
    assert waited < 3.0, f"{waited:.1f} s"
