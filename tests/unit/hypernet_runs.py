"""Tiny trainings that tests make, here and in processes of their own: `python hypernet_runs.py`."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

import anyvocab as av
from anyvocab.hypernet.batches import Controls
from anyvocab.hypernet.body import Body
from anyvocab.hypernet.data import Texts
from anyvocab.hypernet.fit import Trainer
from anyvocab.hypernet.optim import Updates
from anyvocab.hypernet.options import FitOptions, NetworkOptions
from anyvocab.hypernet.sharding import whole
from anyvocab.testing import tiny_tokenizer

END = 260  # a control token of the tiny tokenizer
MASK = 261
WORDS = ["hello", "hell", "shell", "yes", "no", "over", "the", "hills", "and", "far", "away"]


def tokenizer() -> av.Tokenizer:
    return av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode())


def corpus() -> list[bytes]:
    made = torch.Generator().manual_seed(3)
    picks = torch.randint(len(WORDS), (24, 60), generator=made).tolist()
    return [" ".join(WORDS[i] for i in row).encode() for row in picks]


def body(kind: str = "causal", *, tied: bool = False, seed: int = 0) -> tuple[Body, Controls]:
    """A model of two layers, its head with a bias where it is a masked one."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "vocab_size": 262,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": tied,
        "initializer_range": 0.3,
    }
    if kind == "causal":
        model: Any = LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=2))
        controls = Controls(first=(END,))
    else:
        model = BertForMaskedLM(BertConfig(**shape))
        controls = Controls(first=(END,), last=(END,), mask=MASK)
    model.eval()
    model.set_attn_implementation("eager")
    return Body.of(model, [END, 104, 105, 106], kind=kind), controls  # type: ignore[arg-type]


def options(**changes: Any) -> FitOptions:
    plain: dict[str, Any] = {
        "steps": 4,
        "texts": 6,
        "window": 24,
        "span": 60,
        "rows": 301,
        "warmup": 2,
        "dtype": "float32",
        "clip": 1e9,
        "measured": 0,
        "network": NetworkOptions(hidden=16, inner=16, layers=1, heads=2),
    }
    return FitOptions(**{**plain, **changes})


def trainer(
    kind: str = "causal", *, tied: bool = False, folder: Path | None = None, **changes: Any
) -> Trainer:
    given = {name: changes.pop(name) for name in ("target", "network") if name in changes}
    made, controls = body(kind, tied=tied)
    texts = Texts.read(iter(corpus()), seed=0, held_out_share=0.1)
    return Trainer(made, tokenizer(), texts, controls, options(**changes), folder=folder, **given)


def gradients(run: Trainer) -> dict[str, torch.Tensor]:
    """Return the next step's cross-entropy, gradients and predicted rows, whole; take no step."""
    batch, lesson = run._draw()
    run.updates.clear()
    nats = run._descend(batch, lesson)
    run.updates.reduce(run._scale)
    [nats] = run.world.summed([nats])
    found = {"nats": torch.tensor(nats / batch.scored)}
    named = {**dict(run.network.named_parameters()), **run.backbone.parameters}
    for name, one in sorted(named.items()):
        # BERT has a bias that nothing reads, and steps on merged batches read one head alone.
        unread = name == "cls.predictions.bias" or run._merger is not None
        assert one.grad is not None or unread, name
        if one.grad is not None:
            found[name] = whole(one.grad).clone()
    return found


def losses(run: Trainer, until: int) -> list[float]:
    while run.progress.step < until:
        run.step()
    return run.log.losses


def _rank(rank: int, size: int, port: int, work: str, told: dict[str, Any]) -> None:
    told_of_ranks = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told_of_ranks.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    torch.set_num_threads(1)
    globals()[work](rank, told)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def cases(_: int, told: dict[str, Any]) -> None:
    """Write the gradients, losses and checkpoints of cases."""
    out = Path(told["out"])
    for name, case in told["cases"].items():
        run = trainer(**case, folder=out / name)
        found = gradients(run)
        found["losses"] = torch.tensor(losses(run, 3), dtype=torch.float64)
        run.save()
        found["bits_per_byte"] = torch.tensor(run.measure().bits_per_byte)
        if run.world.leads:
            save_file({n: t.contiguous() for n, t in found.items()}, out / f"{name}.safetensors")
        if run.backbone.names:
            run.save_backbone(out / name / "model")


def resumed(rank: int, told: dict[str, Any]) -> None:
    """Go on from a checkpoint, and write the losses."""
    run = trainer(**told["case"], folder=Path(told["folder"]))
    found = losses(run, told["until"])
    if rank == 0:
        Path(told["out"]).write_text(json.dumps(found))


def apart(rank: int, told: dict[str, Any]) -> None:
    """Train on another corpus on each rank, and write what comes of it."""
    made, controls = body()
    texts = Texts.read(iter(corpus()[rank:]), seed=0)
    run = Trainer(made, tokenizer(), texts, controls, options())
    try:
        run.step()
    except av.InvalidValue as error:
        Path(told["out"]).with_suffix(f".{rank}").write_text(str(error))


def killed(_: int, told: dict[str, Any]) -> None:
    """Die in the middle of a step, some steps after the last checkpoint."""
    run = trainer(**told["case"], folder=Path(told["folder"]), checkpoint_seconds=1e9)
    losses(run, told["saved"])
    run.save()
    losses(run, told["until"])
    Updates.reduce = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign,assign,return-value]
    run.step()


def interrupted(_: int, told: dict[str, Any]) -> None:
    """Train until Ctrl-C; say when it may come, and when it was heard."""
    run = trainer(**told["case"], folder=Path(told["folder"]), checkpoint_seconds=1e9)
    out = Path(told["out"])

    def watch(run: Trainer) -> None:
        if run.progress.step == 2:
            out.with_suffix(".ready").touch()

    try:
        run.run(watch)
    except KeyboardInterrupt:
        found = {"step": run.progress.step, "losses": run.log.losses}
        if run.world.leads:
            out.write_text(json.dumps(found))


class Told:
    """A tracker of accelerate's form that writes what it is told."""

    requires_logging_directory = True

    def __init__(self, _: str, folder: str) -> None:
        self.file = Path(folder).parent / "told.jsonl"

    def store_init_configuration(self, _: dict[str, Any]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)

    def log(self, values: dict[str, float], step: int) -> None:
        with self.file.open("a") as handle:
            handle.write(json.dumps([step, values]) + "\n")

    def finish(self) -> None:
        self.log({"ended": 1.0}, -1)


def timed(rank: int, told: dict[str, Any]) -> None:
    """Train for a time, with a tracker, and write after how many steps it was over."""
    from accelerate import tracking

    tracking.LOGGER_TYPE_TO_CLASS["told"] = Told
    folder = Path(told["folder"])
    run = trainer(steps=None, minutes=0.02, tracker="told", log_every=1, folder=folder)
    run.run(lambda _: time.sleep(0.05 * rank))  # one rank is slower
    Path(told["out"]).with_suffix(f".{rank}").write_text(json.dumps(vars(run.progress)))


def _main(jobs: list[dict[str, Any]]) -> None:
    """Do jobs one after the other, each in processes of its own.

    They are forked: importing torch and what goes with it takes longer than all that they do, so
    it is done once, here.
    """
    for name in (
        "accelerate.tracking",
        "peft",
        "torch.distributed.fsdp",
        "torch.distributed.tensor",
    ):
        importlib.import_module(name)
    start = multiprocessing.get_context("fork").Process
    for job in jobs:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        size = job.get("ranks", 1)
        ranks = [start(target=_rank, args=(r, size, port, job["work"], job)) for r in range(size)]
        for one in ranks:
            one.start()
        if job["work"] == "interrupted":
            ready = Path(job["out"]).with_suffix(".ready")
            while not ready.exists() and all(one.is_alive() for one in ranks):
                time.sleep(0.01)
            began = time.monotonic()
            for one in ranks:
                if one.pid is not None:
                    os.kill(one.pid, signal.SIGINT)
            for one in ranks:
                one.join()
            Path(job["out"]).with_suffix(".seconds").write_text(str(time.monotonic() - began))
        for one in ranks:
            one.join()
        codes = [one.exitcode for one in ranks]
        print(job["work"], codes, flush=True)


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
