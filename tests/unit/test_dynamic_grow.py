"""Growing a model's vocabulary: tokens, rows, the folder, and encoding by the longest prefix."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")
pytest.importorskip("safetensors", reason="safetensors is missing")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.dynamic import (  # noqa: E402
    GrownVocabulary,
    GrowReport,
    LargeVocabularyLM,
    LongestPrefix,
    grow,
)
from anyvocab.dynamic.grown import MANIFEST, ROWS  # noqa: E402
from anyvocab.evaluate.models import open_model  # noqa: E402
from anyvocab.hypernet.predict import SourceModel  # noqa: E402

MODEL, OWN, SIZE = "pico:code-4k", 4096, 4400
SOURCES = sorted(Path(av.__file__).parent.glob("*.py"))


def corpus() -> list[bytes]:
    return [path.read_bytes() for path in SOURCES]


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> GrowReport:
    out = tmp_path_factory.mktemp("grow") / "predicted"
    return grow(MODEL, corpus(), out, size=SIZE, dtype="float32")


@pytest.fixture(scope="module")
def mean(tmp_path_factory: pytest.TempPathFactory) -> GrowReport:
    return grow(MODEL, corpus(), tmp_path_factory.mktemp("grow") / "mean", size=SIZE, hypernet=None)


def test_the_report_says_what_there_is(predicted: GrowReport, mean: GrowReport) -> None:
    for report, how, dtype in ((predicted, "hypernet", "float32"), (mean, "mean", "bfloat16")):
        assert (report.outcome, report.asked, report.tokens) == ("complete", SIZE, SIZE)
        assert (report.rows_from, report.dtype, report.first_new_id) == (how, dtype, OWN)
        assert report.new_tokens == SIZE - OWN
        assert (report.folder / ROWS).stat().st_size == report.row_bytes
        assert f"{SIZE:,} tokens" in str(report)


def test_own_ids_keep_their_bytes_and_new_ones_are_those_of_extend(predicted: GrowReport) -> None:
    own, grown = av.Tokenizer.load(MODEL), av.Tokenizer.load(predicted.folder)
    extended = av.extend(own, corpus(), SIZE - OWN)
    for id in range(SIZE):
        token = grown.vocabulary.token_bytes(id)
        assert token == extended.vocabulary.token_bytes(id)
        assert id >= OWN or token == own.vocabulary.token_bytes(id)
    assert grown.vocabulary.ids_of_role("eos") == own.vocabulary.ids_of_role("eos")


def test_the_written_tokenizer_is_a_stock_one(predicted: GrowReport) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is missing")
    stock = tokenizers.Tokenizer.from_file(str(predicted.folder / "tokenizer.json"))
    text = SOURCES[0].read_text()
    found = av.Tokenizer.load(predicted.folder).encode(text).tolist()
    assert stock.encode(text, add_special_tokens=False).ids == found


def test_predicted_rows_are_those_of_the_hypernetwork(predicted: GrowReport) -> None:
    found = GrownVocabulary.open(predicted.folder)
    right = av.Hypernet.load(MODEL).predict(found.tokenizer)
    rows = right.rows().input[torch.from_numpy(np.flatnonzero(right.ids >= OWN))]
    assert found.rows.output is None
    assert found.rows.bias is None
    # Chunks of other sizes: sums of at most a few hundred numbers, in another order, layer by
    # layer.
    bound = 1000 * 2.0**-24 * float(rows.abs().max())
    assert float((found.rows.input - rows).abs().max()) <= bound


def test_mean_rows_are_the_means_of_their_pieces(mean: GrowReport) -> None:
    found = GrownVocabulary.open(mean.folder)
    source = SourceModel.open(MODEL)
    matrix = source.rows.input.double().numpy()
    for id in range(OWN, SIZE):
        token = found.tokenizer.vocabulary.token_bytes(id) or b""
        row = found.rows.input[id - OWN].double().numpy()
        right = matrix[source.tokenizer.encode(token, specials="text")].mean(axis=0)
        assert np.abs(row - right).max() <= 2.0**-8 * np.abs(right).max()  # bfloat16: 8 bits


def test_a_corpus_that_gives_fewer_tokens_is_no_error(tmp_path: Path) -> None:
    text = b"xylophone xylophone\n"
    report = grow(MODEL, [text, text], tmp_path / "out", size=10_000, hypernet=None)
    assert report.outcome == "exhausted"
    assert 0 < report.new_tokens < 20
    assert "10,000 were asked for" in str(report)
    assert len(GrownVocabulary.open(report.folder).rows) == report.new_tokens
    none = grow(MODEL, [b"a b"], tmp_path / "none", size=10_000)
    assert (none.new_tokens, none.outcome) == (0, "exhausted")
    assert len(GrownVocabulary.open(none.folder).rows) == 0


def test_what_is_there_is_not_written_over(mean: GrowReport, tmp_path: Path) -> None:
    with pytest.raises(errors.OutputExists, match="out"):
        grow(MODEL, corpus(), mean.folder, size=SIZE)
    (tmp_path / "file").write_text("x")
    with pytest.raises(errors.OutputExists):
        grow(MODEL, corpus(), tmp_path, size=SIZE)
    assert (tmp_path / "file").read_text() == "x"


def test_after_an_interrupt_there_is_nothing(tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage == "rows":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grow(MODEL, corpus(), tmp_path / "out", size=SIZE, hypernet=None, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"size": OWN}, errors.InvalidValue),
        ({"dtype": "float16"}, errors.InvalidValue),
        ({"min_count": -1}, errors.InvalidValue),
        ({"hypernet": "pico:code-2k"}, errors.InvalidValue),  # of another vocabulary
        ({"hypernet": "no/such/folder"}, errors.SourceNotFound),
        ({"depth": 3}, TypeError),
    ],
)
def test_what_cannot_be_grown_is_refused_by_name(
    tmp_path: Path, options: dict[str, Any], error: type[Exception]
) -> None:
    how = {"model": MODEL, "size": SIZE, **options}
    with pytest.raises(error):
        grow(how.pop("model"), corpus(), out=tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()


def test_a_model_with_byte_fallback_grows(tmp_path: Path) -> None:
    own = av.Tokenizer.load("pico:code-2k")
    size = len(own.vocabulary) + 300
    report = grow("pico:code-2k", corpus(), tmp_path / "grown", size=size)
    assert (report.outcome, report.tokens, report.rows_from) == ("complete", size, "hypernet")
    lm = LargeVocabularyLM.open(report.folder, open_model("pico:code-2k"))
    text = SOURCES[1].read_text()[:2000]
    ids = lm.encode(text)
    assert lm.tokenizer.decode(ids) == text.encode()
    assert len(ids) < len(own.encode(text))
    assert 0 < lm.bits_per_byte([text]).bits_per_byte < 8


def _edit(**changes: object) -> Any:
    def edit(folder: Path) -> None:
        document = json.loads((folder / MANIFEST).read_bytes())
        (folder / MANIFEST).write_text(json.dumps({**document, **changes}))

    return edit


def _cut(folder: Path) -> None:
    data = (folder / ROWS).read_bytes()
    (folder / ROWS).write_bytes(data[:-2])


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), errors.SourceNotFound),
        (lambda folder: (folder / ROWS).unlink(), errors.SourceNotFound),
        (_cut, errors.WeightsFormatError),
        (_edit(digest="0" * 64), errors.WeightsFormatError),
        (_edit(format_version=9), errors.WeightsFormatError),
        (_edit(width=7), errors.WeightsFormatError),
        (_edit(dtype="float32"), errors.WeightsFormatError),
        (_edit(first_new_id=4000), errors.WeightsFormatError),
        (_edit(first_new_id="4096"), errors.WeightsFormatError),
    ],
)
def test_a_damaged_folder_is_refused(
    mean: GrowReport, tmp_path: Path, damage: Any, error: type[Exception]
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(mean.folder, folder)
    damage(folder)
    with pytest.raises(error):
        GrownVocabulary.open(folder)


def test_an_unknown_entry_is_named_and_not_read(
    mean: GrowReport, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "newer"
    shutil.copytree(mean.folder, folder)
    _edit(colour="blue")(folder)
    GrownVocabulary.open(folder)
    assert "colour" in caplog.text


def _longest(tokenizer: av.Tokenizer, text: str) -> list[int]:
    """The definition: in each pretoken the longest token first, the lower id of equal tokens."""
    vocabulary = tokenizer.vocabulary
    ids = []
    for pretoken in tokenizer.pretokenize(text):
        while pretoken:
            sizes = range(len(pretoken), 0, -1)
            size = next(one for one in sizes if len(vocabulary.ids_of(pretoken[:one])))
            ids.append(int(min(vocabulary.ids_of(pretoken[:size]))))
            pretoken = pretoken[size:]
    return ids


def test_longest_prefix_is_its_definition(mean: GrowReport) -> None:
    tokenizer = av.Tokenizer.load(mean.folder)
    longest = LongestPrefix(tokenizer)
    text = SOURCES[1].read_text()[:3000] + "\n€uro 'quotes' \"double\" back\\slash\x00\x7f naïve"
    assert longest.encode(text).tolist() == _longest(tokenizer, text)
    assert longest.encode(text).tolist() != tokenizer.encode(text).tolist()
    assert longest.encode("").tolist() == []


def test_longest_prefix_keeps_special_tokens_and_bytes(mean: GrowReport) -> None:
    tokenizer = av.Tokenizer.load(mean.folder)
    longest = LongestPrefix(tokenizer)
    end = tokenizer.vocabulary.ids_of_role("eos")[0]
    spelt = (tokenizer.vocabulary.spelling(end) or b"").decode()
    found = longest.encode(f"def f(x):{spelt}{spelt}\n    return").tolist()
    parts = [*_longest(tokenizer, "def f(x):"), end, end, *_longest(tokenizer, "\n    return")]
    assert found == parts
    for raw in (b"\xff\xfe ab\xc3", bytes(range(256))):
        assert tokenizer.decode(longest.encode(raw)) == raw
