"""What a corpus may be, and what is said when it is not."""

from __future__ import annotations

import builtins
import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import anyvocab as av
from anyvocab.training.corpus import sources_of
from anyvocab.training.counting import Plan, count_corpus

ONE = Plan(threads=1)
AB = {b" b": 1, b"a": 1}


def counted(corpus: object, field: str = "text") -> dict[bytes, int]:
    return count_corpus(corpus, ONE, field=field).to_dict()


def test_folders_patterns_and_lists_of_places_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.py").write_text("b")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / ".hidden").write_text("h")
    (source,) = sources_of(tmp_path)
    assert [Path(one.name).name for one in source.inputs] == ["a.txt", "b.py"]
    assert counted(str(tmp_path)) == {b"a": 1, b"b": 1}
    assert counted(f"{tmp_path}/**/*.py") == {b"b": 1}
    assert counted([tmp_path / "a.txt", str(tmp_path / "sub")]) == {b"a": 1, b"b": 1}


@pytest.mark.parametrize(
    "corpus",
    [
        [b"a b"],
        (bytearray(b"a b"),),
        iter(["a b"]),
        iter([b"a b"]),
        [{"text": "a b"}],
        iter([{"text": b"a b", "id": 3}]),
    ],
    ids=["list of bytes", "bytearray", "iterator of str", "of bytes", "rows", "iterator of rows"],
)
def test_iterables_of_texts_are_counted(corpus: object) -> None:
    assert counted(corpus) == AB


def test_jsonl_has_a_text_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a b"}\n\n"a b"\n')
    assert counted(path) == {b" b": 2, b"a": 2}
    (tmp_path / "b.ndjson.gz").write_bytes(gzip.compress(b'{"content": "a b"}'))
    assert counted(tmp_path / "b.ndjson.gz", "content") == AB


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "line 2: is no JSON"), ('{"body": 1}', "line 2: has no text in 'text'.*'body'")],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'"fine"\n{line}\n')
    with pytest.raises(av.InvalidValue, match=rf"a\.jsonl: {message}"):
        counted(path)


def test_packed_files_are_unpacked_and_damaged_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    packed = gzip.compress(b"a b")
    path.write_bytes(packed)
    assert counted(path) == AB
    for damaged in (packed[:-4], b"no gzip", packed[:12] + b"xx" + packed[14:]):
        path.write_bytes(damaged)
        with pytest.raises(av.StorageError, match=r"a\.txt\.gz: corpus: "):
            counted(path)


def test_zstd_is_unpacked_or_its_extra_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.zst"
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow, which packs for this test")
    with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
        file.write(b"a b")
    try:
        if sys.version_info >= (3, 14):
            import compression.zstd  # noqa: F401
        else:
            import zstandard  # noqa: F401
    except ImportError:
        with pytest.raises(av.MissingExtra, match=r"zstandard.*anyvocab\[train\]"):
            counted(path)
        return
    assert counted(path) == AB
    frame = path.read_bytes()
    path.write_bytes(frame + frame)  # a file may have several frames
    assert counted(path) == counted(iter([b"a ba b"]))
    path.write_bytes(frame[:-3])
    with pytest.raises(av.StorageError, match=r"a\.txt\.zst"):
        counted(path)


def test_parquet_and_arrow_streams_have_a_column_of_text(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is missing")
    import pyarrow.parquet

    table = pa.table({"id": [1, 2], "text": ["a b", None], "raw": [b"a b", None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for field in ("text", "raw"):
        assert counted(tmp_path / "a.parquet", field) == AB
        assert counted(table, field) == AB
        assert counted(table.to_reader(), field) == AB
    with pytest.raises(av.InvalidValue, match=r"no column 'content'.*id, text, raw"):
        counted(table, "content")
    with pytest.raises(av.InvalidValue, match="id: holds int64, no text"):
        counted(table, "id")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    with pytest.raises(av.StorageError, match=r"b\.parquet"):
        counted(tmp_path / "b.parquet")


def test_a_data_set_is_counted_by_its_rows() -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is missing")
    assert counted(datasets.Dataset.from_dict({"text": ["a b"]})) == AB


def test_a_data_set_of_the_hub_that_cannot_be_reached_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is missing")

    def load_dataset(path: str, name: str | None, *, split: str, streaming: bool) -> object:
        if path == "org/gone":
            raise ConnectionError("offline")
        return [{"text": f"{path} {name} {split} {streaming}"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    words = b"".join(counted("hub:org/name:en:test"))
    assert sorted(words) == sorted(b"org/name en test True")
    with pytest.raises(av.SourceNotFound, match=r"hub:org/gone.*offline"):
        counted("hub:org/gone")


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.split(".")[0] in {"pyarrow", "datasets"}:
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(av.MissingExtra, match=r"anyvocab\[train\]"):
        av.count([b"a"], "out.parquet", threads=1)
    with pytest.raises(av.MissingExtra, match="pip install datasets"):
        counted("hub:org/name")


def test_a_place_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(av.SourceNotFound, match="no such file"):
        counted(tmp_path / "none.txt")
    with pytest.raises(av.SourceNotFound, match=r"iter\(texts\)"):
        counted(["to be or not to be"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(av.SourceNotFound, match="it holds no file"):
        counted({"en": tmp_path / "empty"})


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    path.chmod(0)
    with pytest.raises(av.StorageError, match=r"a\.txt.*Permission denied"):
        counted(path)


def test_a_file_whose_reading_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")

    real = builtins.open

    def fail(file: Any, *rest: Any, **options: Any) -> Any:
        if str(file) == str(path):
            raise OSError(5, "Input/output error")
        return real(file, *rest, **options)

    monkeypatch.setattr(builtins, "open", fail)
    with pytest.raises(av.StorageError, match=r"a\.txt: corpus: Input/output error"):
        counted(path)


def test_an_item_that_is_no_text_is_named_by_its_place() -> None:
    with pytest.raises(av.InvalidValue, match=r"corpus\[1\]: is a int"):
        counted(iter(["a", 3]))
    with pytest.raises(av.InvalidValue, match=r"corpus\[0\]: is a row.*one of 'body'"):
        counted([{"body": "a"}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"fr": 1}}, "no source 'fr'.*use one of en"),
        ({"weights": {"en": 0}}, "must be over 0"),
        ({"weights": {"en": float("nan")}}, "must be over 0"),
        ({"limit_bytes": {"fr": 1}}, "no source 'fr'"),
        ({"limit_bytes": 0}, "must be at least 1"),
    ],
)
def test_weights_and_limits_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(av.InvalidValue, match=message):
        sources_of({"en": [b"a"]}, **options)


def test_a_source_is_reported_with_what_it_gave(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps("a b") for _ in range(3)))
    header = count_corpus({"x": tmp_path, "b": iter(["c"])}, ONE, weights={"b": 4}).header
    assert list(header.sources) == ["b", "x"]
    assert header.sources["x"] == (3, 9, 1.0, 3, 9)
    assert header.sources["b"] == (1, 1, 4.0, 1, 1)
    assert (header.documents, header.bytes, header.pretokens) == (4, 10, 10)
