"""A rewritten model: bit-identical where nothing changes, whole after every interruption."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from anyvocab import errors
from anyvocab.transplant.weights import Checkpoint, Rows, RowSource, finish, rewrite, writer
from anyvocab.transplant.weights import matrix as matrix_module

pytestmark = pytest.mark.models

V, D, W = 96, 16, 130  # rows, width, rows afterwards
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def llama(folder: Path, *, tied: bool = False, dtype: str = "float32", shards: bool = False) -> Any:
    import torch
    import transformers

    torch.manual_seed(7)
    config = transformers.LlamaConfig(
        vocab_size=V,
        hidden_size=D,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
        tie_word_embeddings=tied,
    )
    network: Any = transformers.LlamaForCausalLM(config)
    network = network.to(getattr(torch, dtype)).eval()
    network.save_pretrained(folder, max_shard_size="7KB" if shards else "1GB")
    return network


def model(folder: Path, made: Mapping[str, Any]) -> Path:
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    save_file(dict(made), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"vocab_size": V, "hidden_size": D}))
    return folder


def configured(source: Path, target: Path, **changes: object) -> Path:
    """Copy what is no weights file, the config with changes."""
    for path in source.glob("*.json"):
        if "index" not in path.name:
            shutil.copyfile(path, target / path.name)
    config = json.loads((source / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | changes))
    return target


def weights(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.name.startswith("model")
    }


def identity(checkpoint: Checkpoint) -> dict[str, RowSource]:
    return {tensor.name: checkpoint.matrix(tensor.name) for tensor in checkpoint.tensors}


def longer(checkpoint: Checkpoint, rows: int = W) -> dict[str, RowSource]:
    """Return every vocabulary tensor with rows of zeros behind its own."""
    import torch

    found: dict[str, RowSource] = {}
    for tensor in checkpoint.tensors:
        stored = torch.cat(list(checkpoint.matrix(tensor.name).chunks()))
        more = torch.zeros(rows - tensor.rows, tensor.width, dtype=stored.dtype)
        whole = torch.cat([stored, more]).reshape(tensor.shape_for(rows))
        found[tensor.name] = Rows.of(whole)
    return found


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.name.endswith(".tmp"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shards", [False, True])
def test_the_same_rows_give_the_same_files(tmp_path: Path, dtype: str, shards: bool) -> None:
    llama(tmp_path / "in", dtype=dtype, shards=shards)
    checkpoint = Checkpoint.open(tmp_path / "in")
    done = rewrite(checkpoint, tmp_path / "out", identity(checkpoint))
    assert weights(tmp_path / "out") == weights(tmp_path / "in")
    changed = {tensor.file for tensor in checkpoint.tensors}
    assert {file for file, how in done.files.items() if how == "written"} == changed
    for file in checkpoint.shards:
        same = (tmp_path / "out" / file).samefile(tmp_path / "in" / file)
        assert same == (file not in changed)
    assert len(checkpoint.shards) > 2 or not shards


def test_layouts_with_biases_and_integers_come_back_bit_for_bit(tmp_path: Path) -> None:
    import torch

    made = {
        "shared.weight": torch.randn(V, D, generator=torch.Generator().manual_seed(7)),
        "final_logits_bias": torch.zeros(1, V),
        "lm_head.bias": torch.zeros(V),
        "position_ids": torch.arange(7),
        "mask": torch.ones(3, dtype=torch.bool),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.0, dtype=torch.float16),
    }
    checkpoint = Checkpoint.open(model(tmp_path / "in", made))
    rewrite(checkpoint, tmp_path / "out", identity(checkpoint))
    assert weights(tmp_path / "out") == weights(tmp_path / "in")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shards", [False, True])
def test_transformers_loads_the_result(tmp_path: Path, tied: bool, shards: bool) -> None:
    import torch
    from transformers import LlamaForCausalLM

    source = llama(tmp_path / "in", tied=tied, shards=shards)
    checkpoint = Checkpoint.open(tmp_path / "in")
    rewrite(checkpoint, tmp_path / "staging", longer(checkpoint))
    configured(tmp_path / "in", tmp_path / "staging", vocab_size=W)
    out = finish(tmp_path / "staging", tmp_path / "out", manifest=("swap.json", b"{}"))
    loaded: Any = LlamaForCausalLM.from_pretrained(out)
    ids = torch.tensor([[1, 5, 95, 0]])
    with torch.no_grad():
        before, after = source(ids), loaded.eval()(ids)
    assert torch.equal(after.logits[..., :V], before.logits)
    assert not after.logits[..., V:].any()
    again = Checkpoint.open(out)
    assert (again.rows, again.tied) == (W, tied)


def test_the_index_counts_what_is_there(tmp_path: Path) -> None:
    llama(tmp_path / "in", shards=True)
    checkpoint = Checkpoint.open(tmp_path / "in")
    rewrite(checkpoint, tmp_path / "out", longer(checkpoint))
    name = "model.safetensors.index.json"
    before, after = (json.loads((tmp_path / f / name).read_text()) for f in ("in", "out"))
    grown = 2 * (W - V) * D
    assert after["weight_map"] == before["weight_map"]
    for key, size in (("total_size", 4), ("total_parameters", 1)):
        assert after["metadata"][key] == before["metadata"][key] + grown * size


def test_a_head_is_added_and_dropped_again(tmp_path: Path) -> None:
    from safetensors import safe_open

    llama(tmp_path / "in", tied=True, shards=True)
    tied = Checkpoint.open(tmp_path / "in")
    rewrite(tied, tmp_path / "apart", {}, add={HEAD: tied.matrix("input")})
    configured(tmp_path / "in", tmp_path / "apart", tie_word_embeddings=False)
    apart = Checkpoint.open(tmp_path / "apart")
    head = apart.find("output")
    assert head is not None
    assert (head.copy_of, apart.tied) == (EMBED, False)
    with safe_open(tmp_path / "apart" / head.file, framework="pt") as stored:
        assert stored.get_tensor(HEAD).equal(stored.get_tensor(EMBED))
    rewrite(apart, tmp_path / "again", {}, drop=[HEAD])
    assert weights(tmp_path / "again") == weights(tmp_path / "in")


def test_a_shard_with_nothing_left_is_left_out(tmp_path: Path) -> None:
    llama(tmp_path / "in", shards=True)
    checkpoint = Checkpoint.open(tmp_path / "in")
    (file,) = [t.file for t in checkpoint.tensors if t.name == HEAD]
    assert list(checkpoint.shards[file].entries) == [HEAD]
    done = rewrite(checkpoint, tmp_path / "out", {}, drop=[HEAD])
    assert file not in done.files
    configured(tmp_path / "in", tmp_path / "out", tie_word_embeddings=True)
    assert Checkpoint.open(tmp_path / "out").tie.stored == "once"


class Fails:
    """Rows that raise behind the first piece."""

    def __init__(self, rows: RowSource, error: BaseException) -> None:
        self.shape, self.dtype = rows.shape, rows.dtype
        self._rows, self._error = rows, error

    def chunks(self) -> Iterator[Any]:
        whole = next(iter(self._rows.chunks()))
        yield whole[:9]
        raise self._error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of luck")])
def test_an_interrupted_rewrite_goes_on_where_it_was(tmp_path: Path, error: BaseException) -> None:
    llama(tmp_path / "in", shards=True)
    checkpoint = Checkpoint.open(tmp_path / "in")
    rows = longer(checkpoint)
    rewrite(checkpoint, tmp_path / "straight", rows, plan_key="a")
    files = {tensor.name: tensor.file for tensor in checkpoint.tensors}
    first, second = sorted(files, key=files.__getitem__)
    staging = tmp_path / "out"
    with pytest.raises(type(error)):
        rewrite(checkpoint, staging, {**rows, second: Fails(rows[second], error)}, plan_key="a")
    assert not leftovers(staging)
    assert not (staging / files[second]).exists()
    inode = (staging / files[first]).stat().st_ino

    untouched = Fails(rows[first], AssertionError("made twice"))
    done = rewrite(checkpoint, staging, {**rows, first: untouched}, plan_key="a")
    assert (done.files[files[first]], done.files[files[second]]) == ("reused", "written")
    assert (staging / files[first]).stat().st_ino == inode
    assert weights(staging) == weights(tmp_path / "straight")


@pytest.mark.parametrize("changed", ["plan", "source", "file"])
def test_a_shard_made_from_other_inputs_is_made_anew(tmp_path: Path, changed: str) -> None:
    llama(tmp_path / "in")
    checkpoint = Checkpoint.open(tmp_path / "in")
    rewrite(checkpoint, tmp_path / "out", longer(checkpoint), plan_key="a")
    expected = weights(tmp_path / "out")
    if changed == "source":
        os.utime(tmp_path / "in" / "model.safetensors", ns=(0, 0))
    elif changed == "file":
        os.truncate(tmp_path / "out" / "model.safetensors", 99)
    done = rewrite(
        checkpoint,
        tmp_path / "out",
        longer(checkpoint),
        plan_key="b" if changed == "plan" else "a",
    )
    assert done.files == {"model.safetensors": "written"}
    assert weights(tmp_path / "out") == expected


def test_another_plan_leaves_no_file_of_the_earlier_one(tmp_path: Path) -> None:
    llama(tmp_path / "in", shards=True)
    checkpoint = Checkpoint.open(tmp_path / "in")
    rewrite(checkpoint, tmp_path / "out", {})
    rewrite(checkpoint, tmp_path / "out", {}, drop=[HEAD])
    rewrite(checkpoint, tmp_path / "straight", {}, drop=[HEAD])
    assert weights(tmp_path / "out") == weights(tmp_path / "straight")
    assert (tmp_path / "in" / "model.safetensors.index.json").is_file()


def test_weights_that_no_rewrite_made_are_not_carried_along(tmp_path: Path) -> None:
    llama(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "adapter.safetensors").write_bytes(b"mine")
    with pytest.raises(errors.InvalidValue, match=r"holds adapter.safetensors, which is no part"):
        rewrite(Checkpoint.open(tmp_path / "in"), tmp_path / "out", {})
    assert (tmp_path / "out" / "adapter.safetensors").read_bytes() == b"mine"


def test_a_linked_file_is_never_written_into(tmp_path: Path) -> None:
    llama(tmp_path / "in", shards=True)
    before = weights(tmp_path / "in")
    checkpoint = Checkpoint.open(tmp_path / "in")
    rewrite(checkpoint, tmp_path / "out", {})
    rewrite(checkpoint, tmp_path / "out", longer(checkpoint))
    assert weights(tmp_path / "in") == before
    done = rewrite(checkpoint, tmp_path / "out", {}, link="copy")
    assert set(done.files.values()) == {"copied"}
    assert weights(tmp_path / "in") == before == weights(tmp_path / "out")
    assert not any((tmp_path / "out" / f).samefile(tmp_path / "in" / f) for f in done.files)


KILLED = """
import os, signal, sys
from anyvocab.transplant.weights import Checkpoint, Rows, rewrite
checkpoint = Checkpoint.open(sys.argv[1])
rows = checkpoint.matrix("input")
def make():
    yield rows.chunk(0, 9)
    os.kill(os.getpid(), signal.SIGKILL)
rewrite(checkpoint, sys.argv[2], {rows.tensor.name: Rows(rows.shape, rows.dtype, make)})
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_a_killed_rewrite_leaves_nothing_under_a_final_name(tmp_path: Path) -> None:
    llama(tmp_path / "in", tied=True)
    out = tmp_path / "out"
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "in"), str(out)]
    assert subprocess.run(arguments, check=False).returncode == -9
    assert not weights(out)
    assert len(leftovers(out)) == 1
    checkpoint = Checkpoint.open(tmp_path / "in")
    rewrite(checkpoint, out, identity(checkpoint))
    assert weights(out) == weights(tmp_path / "in")
    assert not leftovers(out)


def test_a_hub_cache_is_linked_to_its_blobs(tmp_path: Path) -> None:
    llama(tmp_path / "blobs", shards=True)
    (tmp_path / "in").mkdir()
    for path in (tmp_path / "blobs").iterdir():
        (tmp_path / "in" / path.name).symlink_to(path)
    checkpoint = Checkpoint.open(tmp_path / "in")
    rewrite(checkpoint, tmp_path / "out", {})
    for file in checkpoint.shards:
        assert not (tmp_path / "out" / file).is_symlink()
        assert (tmp_path / "out" / file).samefile(tmp_path / "blobs" / file)


def _no_links(self: Path, target: Path) -> None:
    raise OSError(errno.EXDEV, "another disk")


def _no_kernel_copy(*_: object) -> int:
    raise OSError(errno.EXDEV, "another disk")


def test_files_are_copied_where_the_system_links_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "hardlink_to", _no_links)
    monkeypatch.setattr(os, "copy_file_range", _no_kernel_copy, raising=False)
    monkeypatch.setattr(writer, "BLOCK", 100)
    llama(tmp_path / "in", shards=True)
    checkpoint = Checkpoint.open(tmp_path / "in")
    done = rewrite(checkpoint, tmp_path / "out", identity(checkpoint))
    assert set(done.files.values()) == {"copied", "written"}
    assert weights(tmp_path / "out") == weights(tmp_path / "in")
    again = rewrite(checkpoint, tmp_path / "out", identity(checkpoint))
    assert set(again.files.values()) == {"reused"}


def test_progress_counts_every_byte_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_module, "BLOCK", 500)
    llama(tmp_path / "in", shards=True)
    checkpoint = Checkpoint.open(tmp_path / "in")
    seen: list[tuple[int, int]] = []
    done = rewrite(
        checkpoint, tmp_path / "out", longer(checkpoint), progress=lambda *one: seen.append(one)
    )
    size = sum(len(b) for name, b in weights(tmp_path / "out").items() if "index" not in name)
    assert {total for _, total in seen} == {size} == {done.bytes}
    assert [count for count, _ in seen] == sorted(count for count, _ in seen)
    assert seen[-1] == (size, size)
    assert 0 < done.written < done.bytes


def _pieces(*pieces: Any, shape: tuple[int, ...] = (V, D)) -> Callable[[], Rows]:
    def make() -> Rows:
        import torch

        made = [torch.zeros(rows, width, dtype=getattr(torch, t)) for rows, width, t in pieces]
        return Rows(shape, torch.float32, lambda: iter(made))

    return make


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_pieces((V - 1, D, "float32")), "95 rows, its shape is"),
        (_pieces((V, D, "float32"), (1, D, "float32")), "more rows than its shape"),
        (_pieces((V, D, "float16")), "a piece of type torch.float16, promised was torch.float32"),
        (_pieces((V // 2, 2 * D, "float32")), "rows are 16 wide"),
        (_pieces(shape=(V, 2 * D)), r"rows of shape \[96, 32\]"),
        (_pieces(shape=(V,)), r"rows of shape \[96\]"),
        (_pieces(shape=()), r"rows of shape \[\]"),
    ],
)
def test_rows_that_break_their_promise_are_refused(
    tmp_path: Path, make: Callable[[], Rows], why: str
) -> None:
    llama(tmp_path / "in", tied=True)
    checkpoint = Checkpoint.open(tmp_path / "in")
    with pytest.raises(errors.InvalidValue, match=why):
        rewrite(checkpoint, tmp_path / "out", {EMBED: make()})
    assert not weights(tmp_path / "out")
    assert not leftovers(tmp_path / "out")


def test_new_rows_that_are_not_finite_are_named(tmp_path: Path) -> None:
    import torch

    llama(tmp_path / "in", tied=True, dtype="bfloat16")
    checkpoint = Checkpoint.open(tmp_path / "in")
    whole = torch.zeros(V, D, dtype=torch.bfloat16)
    whole[[70, 71], 3] = torch.inf
    rows = Rows((V, D), torch.bfloat16, lambda: iter(whole.split(40)))
    with pytest.raises(errors.NumericsError, match=f"{EMBED}: NaN or infinity in rows 70, 71;"):
        rewrite(checkpoint, tmp_path / "out", {EMBED: rows})
    assert not weights(tmp_path / "out")


def test_a_vocabulary_tensor_cannot_be_forgotten(tmp_path: Path) -> None:
    llama(tmp_path / "in")
    checkpoint = Checkpoint.open(tmp_path / "in")
    rows = longer(checkpoint)
    with pytest.raises(errors.InvalidValue, match=r"replace every vocabulary tensor"):
        rewrite(checkpoint, tmp_path / "out", {HEAD: rows[HEAD]})
    rewrite(checkpoint, tmp_path / "out", {EMBED: rows[EMBED]}, drop=[HEAD])


def test_names_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    import torch

    llama(tmp_path / "in")
    checkpoint = Checkpoint.open(tmp_path / "in")
    rows = identity(checkpoint)
    out = tmp_path / "out"
    for arguments, why in (
        ({"replacements": {"x": rows[HEAD]}}, "x: there is no such tensor"),
        ({"replacements": {}, "drop": ["x"]}, "x: there is no such tensor"),
        ({"replacements": {}, "add": {HEAD: rows[HEAD]}}, "there already"),
        ({"replacements": rows, "drop": [HEAD]}, "replaced and dropped"),
        ({"replacements": {HEAD: Rows.of(torch.zeros(V, D, dtype=torch.int8))}}, "torch.int8"),
        ({"replacements": {}, "link": "soft"}, "'soft' is no choice"),
    ):
        with pytest.raises(errors.InvalidValue, match=why):
            rewrite(checkpoint, out, **arguments)
    with pytest.raises(errors.InvalidValue, match="over their source"):
        rewrite(checkpoint, tmp_path / "in", rows)


def test_a_full_disk_is_seen_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama(tmp_path / "in")
    checkpoint = Checkpoint.open(tmp_path / "in")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 0, 9))  # type: ignore[attr-defined]
    with pytest.raises(errors.LimitExceeded, match="bytes are to be written, 9 are free"):
        rewrite(checkpoint, tmp_path / "out", identity(checkpoint))
    assert not weights(tmp_path / "out")


def test_a_source_that_shrinks_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llama(tmp_path / "in", tied=True)
    checkpoint = Checkpoint.open(tmp_path / "in")
    rows = checkpoint.matrix("input").chunk(0, V)
    os.truncate(tmp_path / "in" / "model.safetensors", 9000)
    with pytest.raises(errors.WeightsFormatError, match="the file ends at byte 9000"):
        rewrite(checkpoint, tmp_path / "out", {EMBED: Rows.of(rows)})
    os.truncate(tmp_path / "in" / "model.safetensors", 900)
    with pytest.raises(errors.WeightsFormatError, match="cut while it was in use"):
        checkpoint.matrix("input")


def test_a_finished_folder_gets_its_name_in_one_step(tmp_path: Path) -> None:
    llama(tmp_path / "in")
    checkpoint = Checkpoint.open(tmp_path / "in")
    rewrite(checkpoint, tmp_path / "staging", identity(checkpoint))
    (tmp_path / "out").mkdir()  # an empty folder may stand there
    out = finish(tmp_path / "staging", tmp_path / "out", manifest=("swap.json", b"{}"))
    assert sorted(path.name for path in out.iterdir()) == ["model.safetensors", "swap.json"]
    assert not (tmp_path / "staging").exists()


@pytest.mark.parametrize("what", ["file", "full folder", "link to nothing", "link to a folder"])
def test_what_stands_at_the_output_is_never_replaced(tmp_path: Path, what: str) -> None:
    staging, out = tmp_path / "staging", tmp_path / "out"
    staging.mkdir()
    if what == "file":
        out.write_text("mine")
    elif what == "full folder":
        out.mkdir()
        (out / "mine").write_text("mine")
    elif what == "link to nothing":
        out.symlink_to(tmp_path / "nothing")
    else:
        (tmp_path / "folder").mkdir()
        out.symlink_to(tmp_path / "folder")
    with pytest.raises(errors.OutputExists, match="out: there is something already"):
        finish(staging, out, manifest=("swap.json", b"{}"))
    assert staging.is_dir()
    assert not list(staging.iterdir())
