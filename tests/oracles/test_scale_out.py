"""Counting with datatrove, Ray Data and Spark: the shard, and so the tokenizer, of one process.

Each engine runs here, with its own local executor; one that is not installed is skipped by name.
"""

from __future__ import annotations

import importlib
import logging
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import anyvocab as av
from anyvocab.errors import InvalidValue, MissingExtra, OutputExists, TokenizerFormatError
from anyvocab.training.shards import load_counts, read_header

pytest.importorskip("pyarrow", reason="pyarrow is missing: install anyvocab[train]")

from anyvocab.integrations import _parts

ENGINES = ("datatrove", "ray", "spark")
WEIGHTS = {"code": 3.0, "de": 0.5}
FILES = 5
pytestmark = [
    # Said by the engines about one another's versions and about what they leave open.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@dataclass(frozen=True)
class Corpus:
    """Parquet files with the columns `text`, `lang` and `id`, and what one process counts."""

    folder: Path
    texts: dict[str, list[str]]
    plain: Path
    weighted: Path

    @property
    def files(self) -> list[str]:
        return sorted(map(str, self.folder.glob("*.parquet")))


def words(draw: random.Random, language: str, count: int) -> str:
    """Return a text whose words are as unequal as those of a language."""
    letters = {"en": "etaoinshr", "de": "enisratäöß", "code": "xyzi01_(="}[language]
    vocabulary = ["".join(draw.choices(letters, k=draw.randint(1, 8))) for _ in range(300)]
    return " ".join(vocabulary[int(draw.paretovariate(1.0)) % 300] for _ in range(count))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    import pyarrow as pa
    import pyarrow.parquet

    base = tmp_path_factory.mktemp("scale")
    folder = base / "corpus"
    folder.mkdir()
    draw = random.Random(5)
    texts: dict[str, list[str]] = {"code": [], "de": [], "en": []}
    for number in range(FILES):
        rows = []
        for row in range(17 + number):
            language = draw.choice(sorted(texts))
            text = words(draw, language, draw.randint(1, 400))
            texts[language].append(text)
            rows.append({"text": text, "lang": language, "id": f"{number}/{row}"})
        rows.insert(3, {"text": None, "lang": "en", "id": "none"})  # passed over by all
        pa.parquet.write_table(
            pa.Table.from_pylist(rows), folder / f"{number}.parquet", row_group_size=10
        )
    plain, weighted = base / "plain.parquet", base / "weighted.parquet"
    av.count(iter([one for name in texts for one in texts[name]]), plain, threads=2)
    sources = {name: iter(some) for name, some in texts.items()}
    av.count(sources, weighted, pattern="gpt2", normalizer="nfd", weights=WEIGHTS, seed=7)
    return Corpus(folder, texts, plain, weighted)


def tokenizer(counts: Path, folder: Path) -> bytes:
    av.train(load_counts(counts), vocab_size=600, special_tokens=["<|end|>"]).save(folder)
    return (folder / "tokenizer.json").read_bytes()


def assert_same(found: Path, expected: Path, folder: Path) -> None:
    assert read_header(found) == read_header(expected)
    assert load_counts(found).to_dict() == load_counts(expected).to_dict()
    assert found.read_bytes() == expected.read_bytes()
    assert tokenizer(found, folder / "found") == tokenizer(expected, folder / "expected")
    assert len(av.Tokenizer.load(folder / "found").vocabulary) == 600  # there was much to learn


@pytest.fixture(scope="module")
def datatrove() -> Any:
    pytest.importorskip("datatrove", reason="datatrove is missing: install anyvocab[datatrove]")
    module = importlib.import_module("anyvocab.integrations.datatrove")
    from datatrove.utils.logging import logger

    logger.remove()
    return module


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    pytest.importorskip("ray.data", reason="ray[data] is missing: install anyvocab[ray]")
    folder = tempfile.mkdtemp(prefix="ray-")  # short: paths of sockets are
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")  # no test uses the network
        import ray

        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=128 << 20,
            _temp_dir=folder,
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield ray
        ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("pyspark", reason="pyspark is missing: install anyvocab[spark]")
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        pytest.skip("Java is missing: pyspark needs version 17 or later")
    from pyspark.sql import SparkSession

    folder = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        builder = SparkSession.builder.master("local[2]")
        for key, value in {
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "spark.driver.memory": "512m",
            "spark.local.dir": str(folder),
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
        }.items():
            builder = builder.config(key, value)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("OFF")
        yield session
        session.stop()


def run_datatrove(
    datatrove: Any, corpus: Corpus, folder: Path, *between: Any, workers: int = 2, **options: Any
) -> Path:
    """Count and merge with an executor each, and return the merged shard."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader

    out = folder / "out.parquet"
    reader = ParquetReader(str(corpus.folder))
    count = LocalPipelineExecutor(
        [reader, *between, datatrove.CountPretokens(str(folder / "shards"), **options)],
        tasks=FILES + 1,  # one has no file
        workers=workers,
        logging_dir=str(folder / "logs"),
    )
    merge = LocalPipelineExecutor(
        [datatrove.MergeCounts(str(folder / "shards"), out, weights=options.get("weights"))],
        workers=1,
        logging_dir=str(folder / "merge-logs"),
        depends=count,
    )
    merge.run()
    return out


def test_datatrove_counts_as_one_process_does(
    datatrove: Any, corpus: Corpus, tmp_path: Path
) -> None:
    options = {"pattern": "gpt2", "normalizer": "nfd", "seed": 7}
    out = run_datatrove(datatrove, corpus, tmp_path, source="lang", weights=WEIGHTS, **options)
    assert len(list((tmp_path / "shards").iterdir())) == FILES + 1
    assert_same(out, corpus.weighted, tmp_path)


def dataset_of(ray: Any, corpus: Corpus) -> Any:
    """Return the corpus with a block for each file; Ray's own reader starts many processes."""
    import pyarrow.parquet

    return ray.data.from_arrow([pyarrow.parquet.read_table(file) for file in corpus.files])


def test_ray_counts_as_one_process_does(
    ray: Any, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anyvocab.integrations.ray import count_dataset

    monkeypatch.setattr(_parts, "FAN_IN", 2)  # merged in tasks, and then by the driver
    options = {"pattern": "gpt2", "normalizer": "nfd", "seed": 7}
    out = tmp_path / "out.parquet"
    report = count_dataset(dataset_of(ray, corpus), out, source="lang", weights=WEIGHTS, **options)
    assert report.header == read_header(out)
    assert_same(out, corpus.weighted, tmp_path)


def test_spark_counts_as_one_process_does(spark: Any, corpus: Corpus, tmp_path: Path) -> None:
    from anyvocab.integrations.spark import count_dataframe

    frame = spark.read.parquet(str(corpus.folder))
    out = tmp_path / "plain.parquet"
    report = count_dataframe(frame, out)
    assert report.header == read_header(out)
    assert_same(out, corpus.plain, tmp_path)
    options = {"pattern": "gpt2", "normalizer": "nfd", "seed": 7}
    out = tmp_path / "weighted.parquet"
    count_dataframe(frame, out, source="lang", weights=WEIGHTS, **options)
    assert out.read_bytes() == corpus.weighted.read_bytes()


def test_spark_puts_a_shard_of_many_blocks_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyspark", reason="pyspark is missing: install anyvocab[spark]")
    from anyvocab.integrations import spark

    monkeypatch.setattr(_parts, "shard_bytes", lambda *_, **__: iter([b"one", b"two", b"three"]))
    how: dict[str, Any] = {"plan": None, "weights": None, "column": "text", "source": None}
    rows = [
        row
        for partition in (spark._count_partition([], **how), spark._count_partition([], **how))
        for batch in partition
        for row in batch.to_pylist()
    ]
    assert [row["is_last"] for row in rows] == [False, False, True] * 2

    class Frame:
        def toLocalIterator(self) -> Iterator[Any]:
            return (type("Row", (), row) for row in rows)

    paths = spark._shards(Frame(), tmp_path)
    assert [path.read_bytes() for path in paths] == [b"onetwothree"] * 2


class _Once:
    """A step that fails in one task, the first time."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        for number, document in enumerate(data):
            if rank == 2 and number == 5 and not self.flag.exists():
                self.flag.touch()
                raise RuntimeError("the node went away")
            yield document


def test_a_datatrove_task_that_fails_leaves_no_shard_and_runs_again(
    datatrove: Any, corpus: Corpus, tmp_path: Path
) -> None:
    failing = _Once(tmp_path / "failed")
    with pytest.raises(RuntimeError, match="the node went away"):
        run_datatrove(datatrove, corpus, tmp_path, failing, workers=1)
    assert sorted(path.name[:5] for path in (tmp_path / "shards").iterdir()) == ["00000", "00001"]
    with pytest.raises(InvalidValue, match="4 of 6 tasks left no shard: 2, 3, 4, 5"):
        list(datatrove.MergeCounts(str(tmp_path / "shards"), tmp_path / "out.parquet").run())
    out = run_datatrove(datatrove, corpus, tmp_path, failing, workers=1)
    assert out.read_bytes() == corpus.plain.read_bytes()


@dataclass
class _Document:
    text: str
    id: str
    metadata: dict[str, Any]


def documents(*texts: str, **metadata: Any) -> Iterator[_Document]:
    return (_Document(text, f"d{i}", metadata) for i, text in enumerate(texts))


def count_here(step: Any, *parts: Iterator[_Document]) -> list[Any]:
    """Run every task of a step, and return what passed."""
    return [one for i, part in enumerate(parts) for one in step.run(part, i, len(parts))]


def test_datatrove_counts_into_folders_that_are_no_paths(datatrove: Any, tmp_path: Path) -> None:
    folder = "memory://counts-of-a-test"
    step = datatrove.CountPretokens(folder)
    passed = count_here(step, documents("to be"), documents("or not", " to be"))
    assert [one.text for one in passed] == ["to be", "or not", " to be"]
    list(datatrove.MergeCounts(folder, tmp_path / "out.parquet").run())
    av.count([b"to be", b"or not", b" to be"], tmp_path / "one.parquet", threads=1)
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()


def test_datatrove_says_what_a_task_counted(datatrove: Any, tmp_path: Path) -> None:
    step = datatrove.CountPretokens(str(tmp_path / "shards"))
    count_here(step, documents("to be or not to be", "to"))
    found = {name: step.stats[name].total for name in ("documents", "bytes", "pretokens")}
    assert found == {"documents": 2, "bytes": 20, "pretokens": 7}


def test_shards_of_two_runs_are_not_merged(datatrove: Any, tmp_path: Path) -> None:
    step = datatrove.CountPretokens(str(tmp_path / "shards"))
    count_here(step, documents("a"), documents("b"))
    count_here(step, documents("a"), documents("b"), documents("c"))
    with pytest.raises(InvalidValue, match="shards of runs with 2 and 3 tasks"):
        list(datatrove.MergeCounts(str(tmp_path / "shards"), tmp_path / "out.parquet").run())


def test_what_datatrove_cannot_count_is_named(datatrove: Any, tmp_path: Path) -> None:
    folder, out = str(tmp_path / "shards"), tmp_path / "out.parquet"
    with pytest.raises(InvalidValue, match="put a reader before it"):
        list(datatrove.CountPretokens(folder).run(None))
    with pytest.raises(InvalidValue, match=r"d0: document: .*UTF-8"):
        count_here(datatrove.CountPretokens(folder, invalid="error"), documents("\ud800"))
    with pytest.raises(InvalidValue, match=r"d0: metadata\['lang'\]: a document has no source"):
        count_here(datatrove.CountPretokens(folder, source="lang"), documents("a", language="en"))
    with pytest.raises(InvalidValue, match="there are no shards"):
        list(datatrove.MergeCounts(str(tmp_path / "nowhere"), out).run())
    assert not list((tmp_path / "shards").glob("*"))
    weights = {"fr": 2.0}
    count_here(datatrove.CountPretokens(folder, source="lang"), documents("a", lang="en"))
    with pytest.raises(InvalidValue, match="no document is of source 'fr'; use en"):
        list(datatrove.MergeCounts(folder, out, weights=weights).run())
    out.touch()
    with pytest.raises(OutputExists, match="it exists"):
        list(datatrove.MergeCounts(folder, out).run())
    list(datatrove.MergeCounts(folder, out, existing="replace").run())
    assert load_counts(out).to_dict() == {b"a": 1}


@dataclass(frozen=True)
class Counted:
    """Counts the corpus with an engine."""

    engine: str
    count: Callable[..., Any]
    data: Any

    def __call__(self, out: Path, **options: Any) -> Any:
        return self.count(self.data, out, **options)


@pytest.fixture(params=["ray", "spark"])
def counted(request: pytest.FixtureRequest, corpus: Corpus) -> Counted:
    engine = request.getfixturevalue(request.param)
    if request.param == "ray":
        from anyvocab.integrations.ray import count_dataset

        return Counted("ray", count_dataset, dataset_of(engine, corpus))
    from anyvocab.integrations.spark import count_dataframe

    return Counted("spark", count_dataframe, engine.read.parquet(str(corpus.folder)))


def test_what_cannot_be_counted_is_refused_before_an_engine_works(
    counted: Counted, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    with pytest.raises(InvalidValue, match="there is no column 'body'; use one of text, lang, id"):
        counted(out, column="body")
    with pytest.raises(InvalidValue, match="source: there is no column 'language'"):
        counted(out, source="language")
    with pytest.raises(TokenizerFormatError, match="pattern"):
        counted(out, pattern="(")
    with pytest.raises(InvalidValue, match="weights"):
        counted(out, weights={"en": -1.0})
    out.touch()
    with pytest.raises(OutputExists, match="it exists"):
        counted(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_a_source_that_is_not_there_is_refused_and_nothing_is_left(
    counted: Counted, tmp_path: Path
) -> None:
    with pytest.raises(InvalidValue, match="no document is of source 'fr'; use code, de, en"):
        counted(tmp_path / "out.parquet", source="lang", weights={"fr": 2.0})
    assert not list(tmp_path.iterdir())


def test_an_error_of_a_task_is_in_what_the_engine_raises(counted: Counted, tmp_path: Path) -> None:
    failed = {"ray": "ray.exceptions.RayError", "spark": "pyspark.errors.PySparkException"}
    module, _, name = failed[counted.engine].rpartition(".")
    error = getattr(importlib.import_module(module), name)
    with pytest.raises(error, match=r"document 0: document: .* over the limit of 10"):
        counted(tmp_path / "out.parquet", pattern=r"[a-z]+|[^a-z]+", document_bytes=10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        {"documents": "line"},
        {"invalid": "skip", "seed": 3},
        {"pattern": r"[a-z]+|[^a-z]+", "memory_bytes": 1 << 20},
    ],
    ids=["lines", "skipped", "any pattern"],
)
def test_sources_that_take_turns_are_counted_as_they_are_apart(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_parts, "BATCH_DOCUMENTS", 4)
    draw = random.Random(8)
    given = [
        (words(draw, name, 30).encode().replace(b"s", draw.choice([b"\n", b"s", b"\xff"])), name)
        for name in draw.choices(["code", "de", "en"], k=50)
    ]
    plan = _parts.checked_plan(options, WEIGHTS)
    for number in range(3):  # as three tasks would
        part = _parts.Part(plan, WEIGHTS, tmp_path, f"task {number}")
        for document, name in given[number::3]:
            part.add(document, name)
        part.write(tmp_path / f"{number}.parquet")
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    _parts.finish(paths, tmp_path / "out.parquet", tmp_path, weights=WEIGHTS, started=0.0)
    sources = {name: [one for one, its in given if its == name] for _, name in given}
    av.count(sources, tmp_path / "one.parquet", weights=WEIGHTS, threads=2, **options)
    assert read_header(tmp_path / "out.parquet") == read_header(tmp_path / "one.parquet")
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()


def test_shards_over_the_fan_in_are_merged_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_parts, "FAN_IN", 3)
    paths, given = [], []
    for number in range(11):
        given.append(f"a{number % 4} b c{number}".encode())
        paths.append(tmp_path / f"{number}.parquet")
        av.count([given[-1]], paths[-1], threads=1)
    av.count(given, tmp_path / "one.parquet", threads=1)
    _parts.merge_many(paths, tmp_path / "out.parquet", tmp_path / "sums")
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert all(path.exists() for path in paths)  # they were not made here


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_is_not_installed_is_named_with_its_extra(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = {"spark": "pyspark"}.get(engine, engine)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"anyvocab.integrations.{engine}", raising=False)
    with pytest.raises(MissingExtra, match=rf"anyvocab\[{engine}\]"):
        importlib.import_module(f"anyvocab.integrations.{engine}")
