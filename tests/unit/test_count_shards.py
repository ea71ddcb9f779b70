"""Count shards: sorted, whole or not there, and mergeable in any order; resuming; the command."""

from __future__ import annotations

import builtins
import errno
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab.cli import main
from anyvocab.training import shards
from anyvocab.training.counting import Plan, count_corpus
from anyvocab.training.counts import CountHeader, Counts, SourceTotals
from anyvocab.training.shards import load_counts, merge_shards, read_header, save_counts

pa = pytest.importorskip("pyarrow", reason="pyarrow is missing: install anyvocab[train]")

ONE = Plan(threads=1)


def of(values: dict[bytes, int], name: str = "corpus", **header: Any) -> Counts:
    """Return counts as if they had been counted."""
    items = sorted(values.items())
    offsets = np.zeros(len(items) + 1, np.int64)
    offsets[1:] = np.cumsum([len(key) for key, _ in items])
    total = sum(values.values())
    made = {
        "pattern": "llama3",
        "normalizer": None,
        "documents": 1,
        "bytes": 10,
        "pretokens": total,
        "sources": {name: SourceTotals(1, 10, 1.0, 1, 10)},
        **header,
    }
    return Counts(
        np.frombuffer(b"".join(key for key, _ in items), np.uint8),
        offsets,
        np.array([count for _, count in items], np.uint64),
        CountHeader(**made),
    )


def test_a_shard_is_parquet_that_any_engine_reads(tmp_path: Path) -> None:
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    report = av.count({"en": [b"to be or not to be"]}, path, threads=1)
    table = pyarrow.parquet.read_table(path)
    assert table.schema.field("pretoken").type == pa.large_binary()
    assert table.schema.field("count").type == pa.uint64()
    assert table.column("pretoken").to_pylist() == [b" be", b" not", b" or", b" to", b"to"]
    assert table.column("count").to_pylist() == [2, 1, 1, 1, 1]
    header = json.loads(table.schema.metadata[b"anyvocab.counts"])
    assert list(header) == sorted(header)
    assert (header["pattern"], header["format_version"], header["pretokens"]) == ("llama3", 1, 6)
    assert header["sources"]["en"]["documents"] == 1
    assert table.schema.metadata[b"anyvocab.version"].decode() == av.__version__
    assert report.header == read_header(path) == load_counts(path).header
    assert (report.unique, report.path) == (5, path)


def test_counts_come_back_as_they_were_saved(tmp_path: Path) -> None:
    draw = random.Random(1)
    values = {draw.randbytes(draw.randint(1, 20)): draw.randint(1, 2**53) for _ in range(999)}
    save_counts(of(values, pretokens=1), tmp_path / "a.parquet")
    assert load_counts(tmp_path / "a.parquet").to_dict() == values
    assert len(load_counts(tmp_path / "a.parquet")) == len(values)


def test_a_shard_without_counts_can_be_saved(tmp_path: Path) -> None:
    save_counts(of({}), tmp_path / "a.parquet")
    assert load_counts(tmp_path / "a.parquet").to_dict() == {}


@pytest.mark.parametrize("rows", [1, 3, 1 << 16])
def test_a_merge_adds_up_and_does_not_depend_on_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(shards, "GROUP_ROWS", rows)
    draw = random.Random(rows)
    paths, expected = [], Counter[bytes]()
    for i in range(4):
        values = {
            bytes(draw.choices(b"ab", k=draw.randint(1, 6))): draw.randint(1, 9) for _ in range(25)
        }
        expected.update(values)
        paths.append(tmp_path / f"{i}.parquet")
        save_counts(of(values if i else {}, name=f"s{i % 2}"), paths[i])
        if not i:
            expected.subtract(values)
    expected = +expected
    results = set()
    for order in list(itertools.permutations(paths))[::5]:
        header = merge_shards(order, tmp_path / "out.parquet")
        results.add((tmp_path / "out.parquet").read_bytes())
        assert header.documents == 4
        assert header.sources["s0"] == (2, 20, 1.0, 2, 20)
    assert load_counts(tmp_path / "out.parquet").to_dict() == expected
    assert len(results) == 1


def test_merged_shards_of_parts_are_the_shard_of_the_whole(tmp_path: Path) -> None:
    texts = [f"text {i % 7} of {i} words".encode() for i in range(60)]
    for i in range(3):
        av.count(texts[i::3], tmp_path / f"{i}.parquet", threads=1)
    av.count(texts, tmp_path / "whole.parquet", threads=1)
    merge_shards([tmp_path / f"{i}.parquet" for i in (2, 0, 1)], tmp_path / "merged.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    assert (tmp_path / "merged.parquet").read_bytes() == whole


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"pattern": "gpt2"}, r"b\.parquet: pattern: 'gpt2', where .*a\.parquet has 'llama3'"),
        ({"normalizer": "nfc"}, r"normalizer: 'nfc', where .*has None"),
        ({"sources": {"corpus": SourceTotals(1, 1, 2.0)}}, r"sources.corpus.weight: 2 and 1"),
    ],
)
def test_shards_made_in_different_ways_are_not_merged(
    tmp_path: Path, other: dict[str, Any], message: str
) -> None:
    save_counts(of({b"a": 1}), tmp_path / "a.parquet")
    save_counts(of({b"a": 1}, **other), tmp_path / "b.parquet")
    with pytest.raises(av.InvalidValue, match=message):
        merge_shards([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_two_names_of_one_pattern_go_together(tmp_path: Path) -> None:
    save_counts(of({b"a": 1}), tmp_path / "a.parquet")
    save_counts(of({b"a": 1}, pattern="cl100k"), tmp_path / "b.parquet")
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    assert merge_shards(paths, tmp_path / "c.parquet") == merge_shards(
        paths[::-1], tmp_path / "c.parquet"
    )


def test_a_shard_of_another_version_is_refused(tmp_path: Path) -> None:
    save_counts(of({b"a": 1}, format_version=2), tmp_path / "a.parquet")
    with pytest.raises(av.InvalidValue, match=r"a\.parquet: format_version: is 2"):
        load_counts(tmp_path / "a.parquet")


def test_a_shard_given_twice_is_refused(tmp_path: Path) -> None:
    save_counts(of({b"a": 1}), tmp_path / "a.parquet")
    with pytest.raises(av.InvalidValue, match="given twice"):
        merge_shards([tmp_path / "a.parquet"] * 2, tmp_path / "b.parquet")
    with pytest.raises(av.InvalidValue, match="no shard"):
        merge_shards([], tmp_path / "b.parquet")


def test_what_is_no_shard_is_named(tmp_path: Path) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(av.InvalidValue, match=r"a\.parquet: shard: is no count shard"):
        load_counts(tmp_path / "a.parquet")
    with pytest.raises(av.SourceNotFound):
        load_counts(tmp_path / "none.parquet")


def test_a_truncated_shard_is_an_error_wherever_it_was_cut(tmp_path: Path) -> None:
    draw = random.Random(2)
    save_counts(of({draw.randbytes(9): 1 for _ in range(200)}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for end in [*range(0, len(whole), len(whole) // 40), len(whole) - 1]:
        (tmp_path / "b.parquet").write_bytes(whole[:end])
        with pytest.raises(av.StorageError, match=r"b\.parquet: shard: cannot be read"):
            load_counts(tmp_path / "b.parquet")


def test_a_shard_that_is_not_sorted_is_refused(tmp_path: Path) -> None:
    import pyarrow.parquet

    good = of({b"a": 1, b"b": 1})
    save_counts(good, tmp_path / "a.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    pyarrow.parquet.write_table(table.take([1, 0]), tmp_path / "b.parquet")
    with pytest.raises(av.InvalidValue, match="not sorted"):
        load_counts(tmp_path / "b.parquet")
    pyarrow.parquet.write_table(table.take([1, 0]), tmp_path / "c.parquet", row_group_size=1)
    with pytest.raises(av.StorageError, match="not sorted behind the one before"):
        merge_shards([tmp_path / "c.parquet"], tmp_path / "d.parquet")


def test_a_full_disk_is_named_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    av.count([b"old"], path, threads=1)
    old = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(av.StorageError, match=r"a\.parquet: out: the disk is full \(ENOSPC\)"):
        av.count([b"new"], path, threads=1, existing="replace")
    assert [one.name for one in tmp_path.iterdir()] == ["a.parquet"]
    assert path.read_bytes() == old


def test_a_spill_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(av.StorageError):
        av.count([b"a"], tmp_path / "a.parquet", spill_folder=tmp_path / "file", threads=1)
    words = " ".join(map(str, range(100_000))).encode()
    with pytest.raises(av.StorageError, match="spill_folder"):
        av.count(
            [words],
            tmp_path / "a.parquet",
            spill_folder="/proc/self",
            threads=1,
            memory_bytes=1 << 16,
        )
    assert not (tmp_path / "a.parquet").exists()


def test_an_output_that_exists_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    av.count([b"old"], path, threads=1)
    with pytest.raises(av.OutputExists):
        av.count([b"new"], path, threads=1)
    av.count([b"new"], path, threads=1, existing="replace")
    assert load_counts(path).to_dict() == {b"new": 1}


def corpus_of(folder: Path, files: int) -> Path:
    for i in range(files):
        (folder / f"{i:02}.txt").write_text(f"file {i} " * 2000)
    return folder


def test_resuming_gives_the_same_shard_and_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts").mkdir()
    texts = corpus_of(tmp_path / "texts", 6)
    monkeypatch.setattr("anyvocab.training.resuming.PART_BYTES", 20_000)
    av.count(texts, tmp_path / "a.parquet", threads=1)
    read: list[str] = []
    real = builtins.open

    def opened(file: Any, *args: Any, **options: Any) -> Any:
        if str(file).endswith(".txt"):
            read.append(Path(file).name)
            if len(read) == 5:
                raise KeyboardInterrupt
        return real(file, *args, **options)

    monkeypatch.setattr(builtins, "open", opened)
    out = tmp_path / "b.parquet"
    with pytest.raises(KeyboardInterrupt):
        av.count(texts, out, threads=1, resume=True)
    assert not out.exists()
    assert len(list((tmp_path / "b.parquet.parts").glob("*.parquet"))) == 2
    report = av.count(texts, out, threads=1, resume=True)
    assert report.reused_parts == 2
    assert sorted(read) == sorted(
        ["00.txt", "01.txt", "02.txt", "03.txt", "04.txt", "04.txt", "05.txt"]
    )
    assert out.read_bytes() == (tmp_path / "a.parquet").read_bytes()
    assert not (tmp_path / "b.parquet.parts").exists()


def test_a_part_is_counted_again_when_a_file_or_an_argument_changes(tmp_path: Path) -> None:
    from anyvocab.training import resuming
    from anyvocab.training.corpus import sources_of

    path = tmp_path / "a.txt"
    path.write_text("a")

    def digest(plan: Plan = ONE, **options: Any) -> str:
        (source,) = sources_of({"s": path}, **options)
        return resuming._digest(source, plan, "text", None)

    same = digest()
    assert digest(Plan(threads=2, memory_bytes=1 << 20)) == same
    others = [
        digest(Plan(pattern="gpt2")),
        digest(Plan(seed=1)),
        digest(Plan(normalizer="nfc")),
        digest(weights={"s": 2}),
    ]
    os.utime(path, ns=(1, 1))
    others.append(digest())
    assert len({same, *others}) == 6


def test_only_files_can_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(av.InvalidValue, match="resume: source 'corpus' holds something"):
        av.count([b"a"], tmp_path / "a.parquet", threads=1, resume=True)


def test_limits_and_weights_are_the_same_when_resumed(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    corpus = {"a": corpus_of(tmp_path / "texts", 8)}
    options: dict[str, Any] = {"threads": 1, "weights": {"a": 1.5}, "limit_bytes": 80_000}
    av.count(corpus, tmp_path / "a.parquet", **options)
    av.count(corpus, tmp_path / "b.parquet", **options, resume=True)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_count_leaves_nothing_half_written_and_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    texts = corpus_of(tmp_path / "texts", 40)
    out = tmp_path / "a.parquet"
    program = f"""
import time
from anyvocab.training import counting, resuming
resuming.PART_BYTES = 1
real = counting.count_source
def slow(*args):
    time.sleep(0.05)
    return real(*args)
counting.count_source = slow
print("ready", flush=True)
counting.count({str(texts)!r}, {str(out)!r}, threads=1, memory_bytes=1 << 16, resume=True)
"""
    parts = tmp_path / "a.parquet.parts"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
        deadline = time.monotonic() + 60
        while len(list(parts.glob("*.parquet"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    for part in parts.glob("*.parquet"):
        load_counts(part)  # each is whole
    (parts / ".x.tmp").write_text("left by a run that was killed")
    from anyvocab.training import resuming

    before, resuming.PART_BYTES = resuming.PART_BYTES, 1
    try:
        report = av.count(texts, out, threads=1, resume=True)
    finally:
        resuming.PART_BYTES = before
    assert report.reused_parts >= 3
    assert load_counts(out).to_dict() == count_corpus(texts, ONE).to_dict()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.parquet", "texts"]


def test_the_command_counts_and_merges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "en.txt").write_text("to be or not to be")
    (tmp_path / "fr.jsonl").write_text('{"content": "être ou ne pas être"}')
    a, b, c = (str(tmp_path / f"{name}.parquet") for name in "abc")
    plain = ["--threads", "1", "--pattern", "gpt2", "--memory", "64MB"]
    assert main(["count", f"en={tmp_path}/en.txt", "--out", a, *plain, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["pretokens"], document["unique"], document["pattern"]) == (6, 5, "gpt2")
    fr = [f"fr={tmp_path}/fr.jsonl", "--jsonl-field", "content", "--weight", "fr=2"]
    assert main(["count", *fr, "--out", b, *plain]) == 0
    assert "10 pretokens, 5 different" in capsys.readouterr().out
    assert main(["count", "--merge", a, b, "--out", c, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["pretokens"], list(document["sources"])) == (16, ["en", "fr"])
    assert load_counts(c).to_dict()["être".encode()] == 2
    assert main(["count", "--merge", a, b, "--out", c]) == 1
    assert "it exists" in capsys.readouterr().err
    assert main(["count", "--merge", a, b, "--out", c, "--replace"]) == 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--weight", "en"], 2, "not NAME=VALUE"),
        (["--weight", "en=x"], 2, "x"),
        (["--memory", "much"], 2, "no size"),
        (["--pattern", "llama-3"], 1, "known name"),
        (["--limit", "fr=1MB"], 1, "no source 'fr'"),
    ],
)
def test_the_command_refuses_what_it_cannot_read(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    message: str,
) -> None:
    (tmp_path / "a.txt").write_text("a")
    out = str(tmp_path / "a.parquet")
    assert main(["count", f"en={tmp_path}/a.txt", "--out", out, *options]) == code
    assert message in capsys.readouterr().err
    assert not Path(out).exists()


@pytest.mark.parametrize(
    ("text", "bytes_"), [("1500", 1500), ("64MB", 64_000_000), ("1.5 GiB", 3 << 29), ("2k", 2000)]
)
def test_sizes_are_read(text: str, bytes_: int) -> None:
    from anyvocab.cli.count import size

    assert size(text) == bytes_
