"""Trained story models among each other's vocabularies and in real ones, between known bounds."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.models
pytest.importorskip("torch", reason="torch is missing")
pytest.importorskip("transformers", reason="transformers is missing")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402

FLOORS = ("mean-row", "random")
SMALL = [
    ("stories260K", "aidreams260K"),
    ("babyllama105", "stories260K"),
    ("babyllama105", "aidreams260K"),
]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("llama3", "qwen2")]
ENDS = {
    "gpt2": [50256],
    "llama2": [1, 2],
    "llama3": [128000, 128001, 128009],
    "qwen2": [151643, 151645],
}


@pytest.fixture(scope="module")
def text(fixtures: Path) -> bytes:
    stories = fixtures / "text" / "stories" / "tinystories_train_head_100k.txt"
    return stories.read_bytes()[:2000]


@pytest.fixture(scope="module")
def bits(fixtures: Path, text: bytes, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return bits per byte of a source model, or of it with a tokenizer made by a strategy."""
    place = tmp_path_factory.mktemp("swaps") / "new"

    @cache
    def get(source: str, target: str = "", strategy: str = "mean") -> float:
        model = fixtures / "models" / source
        if not target:
            return av.bits_per_byte(model, [text]).bits_per_byte
        report = swapped(fixtures, source, target, place, strategy=strategy)
        assert report.ok
        found = av.bits_per_byte(place, [text]).bits_per_byte
        shutil.rmtree(place)
        return found

    return get


def swapped(fixtures: Path, source: str, target: str, out: Path, **options: Any) -> av.SwapReport:
    folders = [fixtures / kind / target for kind in ("models", "tokenizers")]
    (folder,) = [folder for folder in folders if folder.is_dir()]
    options = {"verification": "files", "calibrate": "off", **options}
    return av.swap(fixtures / "models" / source, folder, out, **options)


@pytest.mark.parametrize(("source", "target"), SMALL)
def test_bits_per_byte_lie_between_the_source_and_the_floors(
    bits: Any, source: str, target: str
) -> None:
    ceiling, made = bits(source), bits(source, target)
    assert ceiling < made < min(bits(source, target, floor) for floor in FLOORS)


@pytest.mark.parametrize("target", ["llama2", pytest.param("gpt2", marks=pytest.mark.slow), *SLOW])
def test_a_real_vocabulary_lies_between_the_source_and_the_mean_row(bits: Any, target: str) -> None:
    assert (
        bits("stories260K") < bits("stories260K", target) < bits("stories260K", target, FLOORS[0])
    )


@pytest.mark.parametrize("target", ["llama2", "gpt2", *SLOW])
def test_generation_ends_with_what_takes_the_rows_of_the_ends(
    fixtures: Path, tmp_path: Path, target: str
) -> None:
    # The story models end a story with 1, what begins the next one, and declare 2 as well.
    report = swapped(fixtures, "stories260K", target, tmp_path / "new", strategy="mean-row")
    config = json.loads((tmp_path / "new" / "generation_config.json").read_text())
    vocabulary = av.Tokenizer.load(tmp_path / "new").vocabulary
    ends = config["eos_token_id"]
    assert sorted(ends) == ENDS[target]
    assert list(report.ends) == ends
    assert all(vocabulary.kind(id) == "control" for id in ends)
    assert config.get("pad_token_id") in (None, *vocabulary.ids_of_role("pad"), 0)


@pytest.mark.parametrize(("target", "copied"), [("babyllama105", 105), ("aidreams260K", 396)])
def test_both_directions_copy_the_same_tokens(
    fixtures: Path, tmp_path: Path, target: str, copied: int
) -> None:
    there = swapped(fixtures, "stories260K", target, tmp_path / "there", strategy="mean")
    back = swapped(fixtures, target, "stories260K", tmp_path / "back", strategy="mean", force=True)
    counts = [one.counts["input"] for one in (there, back)]
    sums = [one["copied"] + one["role"] for one in counts]
    assert sums[0] == copied
    # A byte-fallback token that has its own row in one has none in the other: it is quiet there.
    assert sums[1] + counts[1].get("quiet", 0) >= copied


def test_white_space_that_a_vocabulary_drops_is_a_reason_to_refuse(
    fixtures: Path, tmp_path: Path
) -> None:
    with pytest.raises(errors.IncompatibleTokenizer, match="runs of spaces"):
        swapped(fixtures, "aidreams260K", "babyllama105", tmp_path / "new", strategy="mean")
    assert list(tmp_path.iterdir()) == []
    report = swapped(
        fixtures, "aidreams260K", "babyllama105", tmp_path / "new", strategy="mean", force=True
    )
    assert report.ok
    assert [one.code for one in report.findings if one.severity == "refuse"]
