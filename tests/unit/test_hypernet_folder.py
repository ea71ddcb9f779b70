"""A hypernetwork's folder: what comes back, and what is refused."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.hypernet.folder import MANIFEST, WEIGHTS, identity, read_card  # noqa: E402
from anyvocab.hypernet.predict import SourceModel  # noqa: E402
from anyvocab.hypernet.rows import SourceRows  # noqa: E402
from anyvocab.testing import tiny_tokenizer  # noqa: E402
from anyvocab.testing.hypernets import tiny_hypernet  # noqa: E402

SOURCE = SourceModel(
    av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode()),
    SourceRows(torch.randn(262, 8, generator=torch.Generator().manual_seed(0))),
)


def hypernet(**options: Any) -> av.Hypernet:
    return tiny_hypernet(SOURCE, model="tiny", weights="drawn", **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return hypernet().save(tmp_path / "hypernet")


def change(folder: Path, **entries: Any) -> None:
    document = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_text(json.dumps({**document, **entries}))


def rewrite(folder: Path, tensors: dict[str, Any]) -> None:
    """Write other weights, and take the digest of the old ones out of the description."""
    from safetensors.torch import save_file

    save_file(tensors, folder / WEIGHTS)
    change(folder, files={})


def stored(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / WEIGHTS))


def test_what_was_saved_comes_back_bit_for_bit(folder: Path) -> None:
    first, again = hypernet(), av.Hypernet.load(folder)
    assert again.card == first.card
    assert again.folder == folder
    assert not again.network.training
    before, after = first.network.state_dict(), again.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_bounds_of_what_was_seen_come_back_too(tmp_path: Path) -> None:
    made = hypernet()
    made.network.bound_features(torch.arange(5.0), torch.full((5,), torch.inf))
    again = av.Hypernet.load(made.save(tmp_path / "new"))
    assert again.network.low.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert again.network.high.isinf().all()


def test_one_shipped_with_a_model_is_found_in_its_folder(folder: Path, tmp_path: Path) -> None:
    assert av.Hypernet.load(tmp_path).card.model == "tiny"
    assert av.Hypernet.load(tmp_path).folder == folder


def test_the_same_network_gives_the_same_files(folder: Path, tmp_path: Path) -> None:
    other = hypernet().save(tmp_path / "other")
    assert identity(folder) == identity(other)
    assert {one.name for one in other.iterdir()} == {MANIFEST, WEIGHTS, "README.md"}
    assert identity(hypernet(seed=1).save(tmp_path / "third")) != identity(folder)


def test_one_that_is_there_is_not_overwritten_unasked(folder: Path) -> None:
    with pytest.raises(errors.OutputExists, match="already holds"):
        hypernet().save(folder)
    hypernet(seed=1).save(folder, existing="replace")
    assert av.Hypernet.load(folder).card.model == "tiny"


def test_an_unknown_entry_is_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    change(folder, colour="green")
    with caplog.at_level(logging.WARNING):
        read_card(folder)
    assert "colour" in caplog.text


def test_another_vocabulary_is_refused_with_the_name_of_its_model(folder: Path) -> None:
    with pytest.raises(errors.InvalidValue, match="another vocabulary, that of tiny"):
        av.Hypernet.load(folder, source_digest="0" * 64)


def test_weights_that_are_not_finite_are_neither_written_nor_read(folder: Path) -> None:
    made = hypernet()
    with torch.no_grad():
        made.network.readout[0] = torch.nan
    with pytest.raises(errors.NumericsError, match="readout"):
        made.save(folder, existing="replace")
    tensors = stored(folder)
    tensors["readout"][0] = torch.inf
    rewrite(folder, tensors)
    with pytest.raises(errors.NumericsError, match="readout"):
        av.Hypernet.load(folder)


def test_changed_weights_are_noticed(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(errors.WeightsFormatError, match="digest"):
        av.Hypernet.load(folder)


@pytest.mark.parametrize("what", ["missing", "another", "shape", "cut"])
def test_weights_of_another_network_are_refused_by_name(folder: Path, what: str) -> None:
    tensors = stored(folder)
    if what == "missing":
        tensors.pop("readout")
    if what == "another":
        tensors["writeout"] = torch.zeros(3)
    if what == "shape":
        tensors["readout"] = torch.zeros(3)
    rewrite(folder, tensors)
    if what == "cut":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])
    name = {"another": "writeout", "cut": "weights"}.get(what, "readout")
    with pytest.raises(errors.WeightsFormatError, match=name):
        av.Hypernet.load(folder)


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"format_version": 99}, errors.WeightsFormatError),
        ({"kind": "wishful"}, errors.WeightsFormatError),
        ({"rows": "many"}, errors.WeightsFormatError),
        ({"config": {"width": 8}}, errors.InvalidValue),
        ({"config": {"width": 8, "tied": True, "depth": 3}}, errors.InvalidValue),
    ],
)
def test_a_description_that_is_not_understood_is_refused(
    folder: Path, entry: dict[str, Any], kind: type[Exception]
) -> None:
    change(folder, **entry)
    with pytest.raises(kind):
        av.Hypernet.load(folder)


def test_where_there_is_none_the_message_says_how_to_make_one(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(errors.SourceNotFound, match="hypernet train"):
        av.Hypernet.load(tmp_path / "nowhere")
    (folder / WEIGHTS).unlink()
    with pytest.raises(errors.SourceNotFound, match="weights are missing"):
        av.Hypernet.load(folder)


def test_reading_a_card_takes_no_torch(folder: Path) -> None:
    code = (
        "import sys; from anyvocab.hypernet.folder import read_card; "
        f"print(read_card({str(folder)!r}).model, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["tiny", "False"]
