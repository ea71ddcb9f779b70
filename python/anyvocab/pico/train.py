"""Train a pico model: `python -m anyvocab.pico.train code-4k --out runs/code-4k --minutes 50`.

Runs on a CPU, needs torch and tokenizers and nothing compiled; without an installed package,
`PYTHONPATH=python/anyvocab python -m pico.train ...` is the same command. The same command again
resumes where the last checkpoint stands. Under `--steps` a resumed run repeats the uninterrupted
one bit for bit on the same machine and thread count; under `--minutes` the schedule follows the
clock, so that the learning rate always reaches its end.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer

from .data import Corpus, Document, load_corpus
from .model import IGNORED, ModelConfig, PicoLM
from .optim import OptimConfig, Optimizer, Precision
from .packing import RoleIds, Windows, build_epoch
from .vocab import SPECIALS, train_tokenizer

logger = logging.getLogger("anyvocab.pico.train")

FORMAT_VERSION = 1
CHECKPOINT = "checkpoint.safetensors"
TOKENIZER = "tokenizer.json"

MODELS = {
    "code-4k": ModelConfig(vocab_size=4096, tied=True),
    "code-2k": ModelConfig(vocab_size=2048, tied=False),
}


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast. Exactly one of `steps` and `minutes` is the budget."""

    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    batch_tokens: int = 8192
    micro_tokens: int = 8192
    short_context: int = 256
    short_share: float = 0.6  # of the budget is spent at the short context, which is faster
    warmup_steps: int = 40
    decay_share: float = 0.6  # of the budget; the rate falls linearly to 0
    log_every: int = 20
    eval_every: int = 250
    eval_tokens: int = 65_536
    checkpoint_seconds: float = 180.0
    optim: OptimConfig = field(default_factory=OptimConfig)

    @property
    def precision(self) -> Precision:
        """Of the matrix products; weights, sums and the optimizer's state are float32."""
        return self.optim.precision

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give one of steps and minutes: one of them is the budget")


@dataclass
class Progress:
    """Where a run stands; with the weights and the optimizer's state it is a checkpoint."""

    step: int = 0
    epoch: int = 0
    index: int = 0  # window of the epoch
    context: int = 0
    elapsed: float = 0.0  # seconds of training
    tokens: int = 0  # scored targets


def rate_scale(done: float, step: int, config: TrainConfig) -> float:
    """Return the factor on the learning rates: warm-up, a plateau, a linear fall to 0."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    return warm * min(1.0, max(0.0, (1.0 - done) / config.decay_share))


class Run:
    """One training run: its model, optimizer, data position and folder."""

    def __init__(
        self,
        *,
        model_config: ModelConfig,
        config: TrainConfig,
        documents: Sequence[Document],
        held_out: Sequence[Document],
        tokenizer: Tokenizer,
        roles: RoleIds,
        identity: str,
        folder: Path,
        compiled: bool = False,
    ) -> None:
        self.config, self.model_config = config, model_config
        self.documents, self.tokenizer, self.roles = documents, tokenizer, roles
        self.identity, self.folder = identity, folder
        self.model = PicoLM(model_config)
        self.model.initialise(config.seed)
        self.optimizer = Optimizer(self.model, config.optim)
        self.progress = Progress()
        self.losses: list[float] = []
        self.windows: Windows | None = None
        self.held_out = held_out
        self._held_out = lru_cache(maxsize=None)(self._build_held_out)
        if compiled:
            self.model.model.compile(dynamic=False)
        self._resume()

    def _build_held_out(self, context: int) -> Windows:
        return build_epoch(
            self.held_out, self.tokenizer, self.roles, context=context, seed=0, epoch=0
        )

    def done(self) -> float:
        """Return the share of the budget that is spent, at most 1."""
        if self.config.steps is not None:
            return min(1.0, self.progress.step / self.config.steps)
        return min(1.0, self.progress.elapsed / (60 * (self.config.minutes or 1e-9)))

    def _resume(self) -> None:
        file = self.folder / CHECKPOINT
        if not file.is_file():
            return
        with safe_open(file, framework="pt") as stored:
            meta = json.loads(stored.metadata()["pico"])
            if meta["format_version"] != FORMAT_VERSION or meta["identity"] != self.identity:
                raise ValueError(
                    f"{file} belongs to other data, another tokenizer or another shape; "
                    "choose a new --out folder"
                )
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    parameter.copy_(stored.get_tensor(f"model.{name}"))
                for name, tensor in self.optimizer.state.items():
                    tensor.copy_(stored.get_tensor(f"optim.{name}"))
        self.progress = Progress(**meta["progress"])
        self.optimizer.steps = self.progress.step
        logger.info("resumed at step %d from %s", self.progress.step, file)

    def save(self) -> None:
        """Write the checkpoint: a temporary file, fsync, rename."""
        tensors = {f"model.{n}": p.detach() for n, p in self.model.named_parameters()}
        tensors |= {f"optim.{name}": tensor for name, tensor in self.optimizer.state.items()}
        meta = {
            "format_version": FORMAT_VERSION,
            "identity": self.identity,
            "model": self.model_config.to_dict(),
            "progress": asdict(self.progress),
            "train": asdict(self.config),
        }
        target = self.folder / CHECKPOINT
        temporary = target.with_suffix(".tmp")
        save_file(tensors, temporary, metadata={"pico": json.dumps(meta, sort_keys=True)})
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(target)

    def _place(self) -> Windows:
        """Return the current epoch's windows, moving to the next epoch or context when due."""
        progress, config = self.progress, self.config
        long_context = self.model_config.context
        short = min(config.short_context, long_context)
        context = short if self.done() < config.short_share else long_context
        per_step = config.batch_tokens // context
        if self.windows is not None and progress.context == context:
            if progress.index + per_step <= len(self.windows):
                return self.windows
            progress.epoch, progress.index = progress.epoch + 1, 0
        elif progress.context != context:
            progress.epoch += progress.context != 0
            progress.context, progress.index = context, 0
        self.windows = build_epoch(
            self.documents,
            self.tokenizer,
            self.roles,
            context=context,
            seed=config.seed,
            epoch=progress.epoch,
        )
        logger.info("epoch %d: %d windows of %d", progress.epoch, len(self.windows), context)
        if len(self.windows) < per_step:
            raise ValueError(f"an epoch has {len(self.windows)} windows, a step needs {per_step}")
        return self._place()

    def step(self) -> float:
        """Do one update and return its weighted mean loss in nats per token."""
        began = time.perf_counter()
        windows = self._place()
        progress, config = self.progress, self.config
        per_step = config.batch_tokens // progress.context
        rows = slice(progress.index, progress.index + per_step)
        inputs = torch.from_numpy(windows.inputs[rows])
        targets = torch.from_numpy(windows.targets[rows])
        weights = torch.from_numpy(windows.weights[rows])
        scored = int((targets != IGNORED).sum())
        counted = float(weights.sum())
        micro = max(1, config.micro_tokens // progress.context)
        total = 0.0
        closed = torch.from_numpy(~windows.ends[rows])
        split = (torch.split(one, micro) for one in (inputs, targets, weights, closed))
        for part, wanted, counts, no_end in zip(*split, strict=True):
            with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
                loss = self.model.loss(part, wanted, counts, (no_end, self.roles.eos))
            (loss / counted).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        self.optimizer.step(rate_scale(self.done(), progress.step, config))
        progress.step += 1
        progress.index += per_step
        progress.tokens += scored
        progress.elapsed += time.perf_counter() - began
        return total / counted

    @torch.no_grad()
    def evaluate(self) -> float:
        """Return the mean loss in nats per token on the first held-out windows.

        They are as long as the training's: positions the model has not met yet would tell nothing.
        """
        context = self.progress.context or self.model_config.context
        held_out = self._held_out(context)
        count = min(self.config.eval_tokens // context, len(held_out))
        micro = max(1, self.config.micro_tokens // context)
        total, scored = 0.0, 0
        for start in range(0, count, micro):
            rows = slice(start, min(count, start + micro))
            targets = torch.from_numpy(held_out.targets[rows])
            total += float(self.model.loss(torch.from_numpy(held_out.inputs[rows]), targets))
            scored += int((targets != IGNORED).sum())
        return total / max(1, scored)

    def train(self) -> None:
        """Train until the budget is spent; log, evaluate and checkpoint on the way."""
        config = self.config
        saved = logged = time.perf_counter()
        since = self.progress.tokens
        while self.done() < 1.0:
            loss = self.step()
            self.losses.append(loss)
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} at step {self.progress.step}")
            now = time.perf_counter()
            if self.progress.step % config.log_every == 0:
                recent = self.losses[-config.log_every :]
                logger.info(
                    "step %d done %.4f loss %.4f tokens %d tok/s %.0f",
                    self.progress.step,
                    self.done(),
                    sum(recent) / len(recent),
                    self.progress.tokens,
                    (self.progress.tokens - since) / (now - logged),
                )
                logged, since = now, self.progress.tokens
            if self.progress.step % config.eval_every == 0:
                logger.info("step %d held-out loss %.4f", self.progress.step, self.evaluate())
                logged = time.perf_counter()
            if now - saved > config.checkpoint_seconds:
                self.save()
                saved = time.perf_counter()
        self.save()
        logger.info("finished: step %d held-out %.4f", self.progress.step, self.evaluate())


def prepare_tokenizer(name: str, size: int, corpus: Corpus, folder: Path) -> Tokenizer:
    """Return the tokenizer in `folder`; if there is none, train it on the training documents.

    Not on the library's tests: they would spend its ids on the words of assertions.
    """
    file = folder / TOKENIZER
    if not file.is_file():
        texts = [document.text for document in corpus.train if document.kind != "tests"]
        train_tokenizer(name, texts, size).save(str(file))
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.encode_special_tokens = True  # a `</s>` in a source is text, not the end of one
    return tokenizer


def build_run(
    name: str, config: TrainConfig, folder: Path, *, compiled: bool = False
) -> tuple[Run, Corpus]:
    """Return the run of the model `name` in `folder`, resumed if it holds a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = load_corpus()
    shape = MODELS[name]
    tokenizer = prepare_tokenizer(name, shape.vocab_size, corpus, folder)
    roles = RoleIds.of(tokenizer, SPECIALS[name])
    identity = f"{name} {corpus.digest()} {json.dumps(shape.to_dict(), sort_keys=True)}"
    run = Run(
        model_config=shape,
        config=config,
        documents=corpus.train,
        held_out=corpus.held_out,
        tokenizer=tokenizer,
        roles=roles,
        identity=identity,
        folder=folder,
        compiled=compiled,
    )
    return run, corpus


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="anyvocab.pico.train", description=__doc__)
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; resumes")
    parser.add_argument("--minutes", type=float, help="training time in all, over resumes")
    parser.add_argument("--steps", type=int, help="updates in all, over resumes")
    parser.add_argument("--export", type=Path, help="folder for the finished model and its card")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", choices=("on", "off"), default="on")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--short-share", type=float, default=TrainConfig.short_share)
    parser.add_argument("--matrix-lr", type=float, default=OptimConfig.matrix_lr)
    parser.add_argument("--embed-lr", type=float, default=OptimConfig.embed_lr)
    parser.add_argument("--batch-tokens", type=int, default=TrainConfig.batch_tokens)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one model."""
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [
        logging.StreamHandler(),
        logging.FileHandler(options.out / "train.log"),
    ]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
    torch.set_num_threads(options.threads)
    settings: dict[str, Any] = {"steps": options.steps, "minutes": options.minutes}
    config = TrainConfig(
        **settings,
        seed=options.seed,
        batch_tokens=options.batch_tokens,
        short_share=options.short_share,
        optim=OptimConfig(
            matrix_lr=options.matrix_lr, embed_lr=options.embed_lr, precision=options.precision
        ),
    )
    run, corpus = build_run(options.model, config, options.out, compiled=options.compile == "on")
    run.train()
    if options.export is not None:
        from .export import export

        export(options.out, options.export, corpus)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
