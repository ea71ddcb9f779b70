"""One target tokenizer in place of sampled ones, and the numbers that go to trackers."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.testing import merged_tokenizer  # noqa: E402

EPS32 = 2.0**-23


def target() -> av.Tokenizer:
    """A tokenizer with other tokens than the source's."""
    merges = [("l", "o"), ("h", "i"), ("hi", "l"), ("t", "h"), ("th", "e"), ("Ġ", "the")]
    return av.Tokenizer.load(json.dumps(merged_tokenizer(merges)).encode())


def test_its_tokens_are_the_targets_and_its_pieces_spell_them(runs: ModuleType) -> None:
    from anyvocab.hypernet.fixed import FixedSampler

    source = runs.tokenizer()
    table = [source.vocabulary.token_bytes(id) for id in range(len(source.vocabulary))]
    made = FixedSampler(target(), source, rows=262).step([])
    assert len(made) == len(made.tokens) == len(made.pieces) >= 262
    for token, pieces, length in zip(made.tokens, made.pieces, made.lengths, strict=True):
        assert b"".join(table[id] or b"" for id in pieces[:length].tolist()) == token
        assert (pieces[length:] == -1).all()


def test_it_encodes_as_the_target_does(runs: ModuleType) -> None:
    from anyvocab.hypernet.fixed import FixedSampler

    made = FixedSampler(target(), runs.tokenizer(), rows=262).peek([], step=3)
    texts = [b"over the hills", b"hello \xff", b""]
    for text, places in zip(texts, made.encode_batch(texts), strict=True):
        assert b"".join(made.tokens[place] for place in places.tolist()) == text
        assert made.ids[places].tolist() == target().encode(text).tolist()


def test_features_made_once_are_those_made_each_time(runs: ModuleType) -> None:
    from anyvocab.hypernet.features import SurroundingsOf
    from anyvocab.hypernet.fixed import FixedSampler, FixedSurroundings

    made = FixedSampler(target(), runs.tokenizer(), rows=262).step([])
    plain = SurroundingsOf(runs.tokenizer(), 262)
    some = made.tokens[40:90:7]
    found = FixedSurroundings(plain, made.tokens)(some, made.tokens)
    assert np.array_equal(found, plain(some, made.tokens))


def test_training_for_a_target_begins_with_the_given_network_and_lowers_its_loss(
    runs: ModuleType,
) -> None:
    first = runs.trainer(steps=10)
    runs.losses(first, 5)
    case = {"target": target(), "network": first.network, "rows": None, "steps": 60, "texts": 12}
    run = runs.trainer(**case, lr=3e-3)
    for name, one in run.network.state_dict().items():
        assert torch.equal(one, first.network.state_dict()[name]), name
    found = runs.losses(run, 40)
    assert np.mean(found[-5:]) < np.mean(found[:5]) - 0.1
    assert first.progress.step == 5  # the given network is copied


def test_the_weight_of_the_first_prediction_holds_rows_back(runs: ModuleType) -> None:
    first = runs.trainer()

    def moved(weight: float) -> float:
        case = {"target": target(), "network": first.network, "rows": None, "steps": 60}
        run = runs.trainer(**case, lr=3e-3, initial=weight)
        batch = run._draw()[0]
        with torch.no_grad():
            before = run.predict(batch)
        runs.losses(run, 15)
        with torch.no_grad():
            after = run.predict(batch)
        return float((after.input - before.input).square().sum())

    assert moved(1000.0) < 0.5 * moved(0.0)


def test_a_run_for_a_target_resumes_exactly(tmp_path: Path, runs: ModuleType) -> None:
    given = runs.trainer()
    case = {"target": target(), "network": given.network, "backbone": "full"}
    unbroken = runs.losses(runs.trainer(**case), 4)
    first = runs.trainer(**case, folder=tmp_path)
    runs.losses(first, 2)
    first.save()
    assert runs.losses(runs.trainer(**case, folder=tmp_path), 4) == unbroken[2:]


def test_a_checkpoint_of_another_target_is_refused(tmp_path: Path, runs: ModuleType) -> None:
    first = runs.trainer(target=target(), folder=tmp_path)
    first.save()
    with pytest.raises(errors.InvalidValue, match="another model, corpus or set of options"):
        runs.trainer(target=runs.tokenizer(), folder=tmp_path)


class Fake:
    """A tracker of accelerate's form that keeps what it is told."""

    requires_logging_directory = True
    made: ClassVar[list[Fake]] = []

    def __init__(self, name: str, folder: str) -> None:
        self.name, self.folder = name, folder
        self.told: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.ended = False
        Fake.made.append(self)

    def start(self) -> None:
        pass

    def store_init_configuration(self, told: dict[str, Any]) -> None:
        self.told = told

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.ended = True


def test_a_tracker_is_told_losses_rates_and_bits_per_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: ModuleType
) -> None:
    tracking = pytest.importorskip("accelerate.tracking", reason="accelerate is missing")
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "fake", Fake)
    run = runs.trainer(tracker="fake", folder=tmp_path, log_every=2, measured=1, measure_every=0)
    run.run()
    [fake] = Fake.made
    assert Path(fake.folder).parent == tmp_path
    assert fake.told["texts"] == 6
    assert fake.ended
    logged = {(step, name): value for step, values in fake.logged for name, value in values.items()}
    for step in (2, 4):
        assert logged[step, "nats"] == sum(run.log.losses[step - 2 : step]) / 2
    assert logged[2, "rate"] == run.options.lr * (0.05 + 0.95 * 0.75)  # after 1 of 4 steps
    bits = {step: value for (step, name), value in logged.items() if "bits" in name}
    assert bits == {one.step: one.bits_per_byte for one in run.log.measured}
    assert set(bits) == {0, 4}


def test_an_unknown_tracker_is_refused_by_name(tmp_path: Path, runs: ModuleType) -> None:
    pytest.importorskip("accelerate", reason="accelerate is missing")
    with pytest.raises(errors.InvalidValue, match="wandb"):
        runs.trainer(tracker="no such", folder=tmp_path)


def test_a_tracker_that_writes_files_needs_a_folder(runs: ModuleType) -> None:
    pytest.importorskip("accelerate", reason="accelerate is missing")
    with pytest.raises(errors.InvalidValue, match="no folder"):
        runs.trainer(tracker="tensorboard")


def test_a_tracker_without_accelerate_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, runs: ModuleType
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(errors.MissingExtra, match=r"anyvocab\[hypernet\]"):
        runs.trainer(tracker="wandb")


def test_a_tracker_whose_package_is_missing_says_so(tmp_path: Path, runs: ModuleType) -> None:
    import importlib.util

    pytest.importorskip("accelerate", reason="accelerate is missing")
    if importlib.util.find_spec("wandb"):
        pytest.skip("wandb is installed")
    with pytest.raises(errors.MissingExtra, match="wandb"):
        runs.trainer(tracker="wandb", folder=tmp_path)
