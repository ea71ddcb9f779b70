"""Training a hypernetwork: one loop, resumable, the same on one device and on many."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from anyvocab.hypernet.sampler import SamplerOptions, TokenizerSampler

from anyvocab import errors
from anyvocab.hypernet.batches import Batch, Batcher, Controls
from anyvocab.hypernet.body import Body
from anyvocab.hypernet.checkpoints import Checkpoints, Progress
from anyvocab.hypernet.data import Texts
from anyvocab.hypernet.features import FEATURES, SurroundingsOf
from anyvocab.hypernet.network import NetworkConfig, ResidualHypernet
from anyvocab.hypernet.objective import objective
from anyvocab.hypernet.options import FitOptions
from anyvocab.hypernet.rows import Rows

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer

__all__ = ["Measured", "Trainer", "network_config", "rate"]

logger = logging.getLogger(__name__)

Watch = Callable[["Trainer"], None]
MEASURE_STEP = 1 << 40  # steps of measurements: never those of training
FEATURE_BATCHES = 32  # sampled tokenizers whose features bound those of later ones


@dataclass(frozen=True)
class Measured:
    """A measurement on held-out text under sampled tokenizers that training never sees.

    Attributes:
        step: After how many updates.
        bits_per_byte: Of the predicted rows, over all tokenizers.
        lexical: Distance from the source's rows.
    """

    step: int
    bits_per_byte: float
    lexical: float


@dataclass
class Log:
    """What a run has told: one entry for each logged step, and the measurements."""

    losses: list[float] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)


def network_config(body: Body, options: FitOptions, languages: tuple[str, ...]) -> NetworkConfig:
    """Return the network's shape for a model."""
    chosen = options.network
    hidden = chosen.hidden or max(64, body.rows.width)
    return NetworkConfig(
        width=body.rows.width,
        tied=body.tied and chosen.sides == "keep",
        bias=body.rows.bias is not None,
        hidden=hidden,
        inner=chosen.inner or 2 * hidden,
        layers=chosen.layers,
        heads=chosen.heads or max(1, hidden // 64),
        max_pieces=chosen.max_pieces,
        surroundings=chosen.surroundings,
        features=len(FEATURES) if chosen.surroundings == "vocabulary" else 0,
        languages=languages if len(languages) > 1 else (),
    )


def rate(options: FitOptions, step: int, done: float) -> float:
    """Return the share of the highest learning rate: a rise over `warmup`, then the schedule.

    Args:
        options: The run's.
        step: Updates so far.
        done: The share of the budget that is spent.
    """
    rise = min(1.0, (step + 1) / max(1, options.warmup))
    if options.schedule == "constant":
        return rise
    left = 1.0 - min(1.0, done)
    if options.schedule == "cosine":
        left = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    return rise * (options.final + (1.0 - options.final) * left)


class Trainer:
    """One run.

    Attributes:
        network: What is trained.
        progress: Where the run stands.
        log: What it has told.
    """

    def __init__(
        self,
        body: Body,
        tokenizer: Tokenizer,
        texts: Texts,
        controls: Controls,
        options: FitOptions,
        *,
        folder: Path | None = None,
        threads: int = 1,
    ) -> None:
        """Prepare a run, and take it up where the checkpoint in `folder` stands.

        Args:
            body: The frozen model.
            tokenizer: Its tokenizer.
            texts: The corpus.
            controls: Control tokens of training texts.
            options: The run's.
            folder: Where checkpoints lie; without one nothing is written.
            threads: Of the sampler.
        """
        self.body, self.tokenizer, self.texts = body, tokenizer, texts
        self.controls, self.options = controls, options
        self.device = body.rows.input.device
        if options.compile == "on":
            body.model.base_model.compile(dynamic=False)
        names = tuple(part.name for part in texts.parts)
        self.config = network_config(body, options, names)
        torch.manual_seed(options.seed)
        self.network = ResidualHypernet(self.config)
        self.network.measure(body.rows.to("cpu"), seed=options.seed)
        self.network.to(self.device)
        sampling = options.sampler or SamplerOptions.for_source(tokenizer)
        samplers = [
            TokenizerSampler(
                tokenizer,
                sampling,
                rows=len(body.rows),
                seed=options.seed + 1_000_003 * part,
                threads=threads,
            )
            for part in range(len(names))
        ]
        self.batcher = Batcher(
            texts,
            samplers,
            SurroundingsOf(tokenizer, len(body.rows)),
            controls,
            source_rows=len(body.rows),
            kind=body.kind,
            count=options.texts,
            window=options.window,
            span=options.span,
            rows=options.rows,
            seed=options.seed,
        )
        self.optimizer = torch.optim.AdamW(
            _groups(self.network, options.weight_decay), lr=options.lr, betas=(0.9, 0.95), eps=1e-8
        )
        self.progress = Progress()
        self.log = Log()
        self._measuring: list[Batch] | None = None
        self.checkpoints = None if folder is None else Checkpoints(folder, self)
        if self.checkpoints is not None and self.checkpoints.load():
            self.batcher.catch_up(self.progress.step)
        elif self.config.features:
            self._bound_features()

    def _bound_features(self) -> None:
        """Let the network see what features there will be."""
        seen = [self._peeked(MEASURE_STEP * 2 + at).features for at in range(FEATURE_BATCHES)]
        every = torch.cat(seen)
        low, high = every.min(dim=0).values, every.max(dim=0).values
        self.network.bound_features(low.to(self.device), high.to(self.device))

    def _peeked(self, step: int, held_out: list[bytes] | None = None) -> Batch:
        part, texts = self.texts.draw(step, self.options.texts, self.options.span)
        sampled = self.batcher.samplers[part].peek(texts, step=step)
        return self.batcher.make(sampled, held_out or texts, step, part)

    def restore(self, measured: list[dict[str, Any]]) -> None:
        """Take up the measurements of an earlier part of the run."""
        self.log.measured = [Measured(**one) for one in measured]

    def done(self) -> float:
        """Return the share of the budget that is spent."""
        if self.options.steps is not None:
            return min(1.0, self.progress.step / self.options.steps)
        return min(1.0, self.progress.seconds / (60.0 * (self.options.minutes or 1.0)))

    def predict(self, batch: Batch) -> Rows:
        """Return the network's rows of a batch."""
        language = None
        if self.config.languages:
            language = torch.full((len(batch.pieces),), batch.language, device=self.device)
        features = batch.features if self.config.features else None
        return self.network(batch.pieces, self.body.rows, features=features, language=language)

    def _cast(self) -> Any:
        if self.options.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def step(self) -> float:
        """Take a step and return its cross-entropy, nats per token."""
        began = time.perf_counter()
        options = self.options
        batch = self.batcher.step(self.progress.step).to(self.device)
        self.network.train()
        with self._cast():
            loss = objective(
                batch, self.predict, self.body, self.controls, lexical_weight=options.lexical
            )
        loss.total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), options.clip)
        if not math.isfinite(float(norm)):
            raise errors.build(
                errors.NumericsError,
                f"the gradient's norm is {float(norm)} at step {self.progress.step}",
                field="lr",
                fix="a lower learning rate, or dtype float32; the last checkpoint is whole",
            )
        share = rate(options, self.progress.step, self.done())
        for group in self.optimizer.param_groups:
            group["lr"] = options.lr * share
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        nats = float(loss.nats) / max(1, batch.scored)
        self.progress.step += 1
        self.progress.tokens += batch.scored
        self.progress.seconds += time.perf_counter() - began
        self.log.losses.append(nats)
        return nats

    @torch.no_grad()
    def measure(self) -> Measured:
        """Measure on held-out text under sampled tokenizers that training never sees."""
        if self._measuring is None:
            texts = _windows(self.texts.held_out, self.options.span, self.options.texts)
            self._measuring = [
                self._peeked(MEASURE_STEP + at, texts) for at in range(self.options.measured)
            ]
        nats, size, apart = 0.0, 0, 0.0
        self.network.eval()
        for batch in self._measuring:
            with self._cast():
                loss = objective(
                    batch.to(self.device),
                    self.predict,
                    self.body,
                    self.controls,
                    lexical_weight=0.0,
                )
            nats += float(loss.nats)
            size += batch.bytes
            apart += float(loss.lexical) / len(self._measuring)
        found = Measured(self.progress.step, nats / math.log(2) / max(1, size), apart)
        self.log.measured.append(found)
        return found

    def run(self, watch: Watch | None = None) -> None:
        """Train until the budget is spent.

        Args:
            watch: Called after every step.
        """
        options = self.options
        saved = time.perf_counter()
        if options.measured and not self.log.measured:
            logger.info("step 0: %.4f bits per byte held out", self.measure().bits_per_byte)
        while self.done() < 1.0:
            self.step()
            step = self.progress.step
            if step % options.log_every == 0:
                recent = self.log.losses[-options.log_every :]
                logger.info("step %d: %.4f nats", step, sum(recent) / len(recent))
            if options.measured and options.measure_every and step % options.measure_every == 0:
                logger.info(
                    "step %d: %.4f bits per byte held out", step, self.measure().bits_per_byte
                )
            if watch is not None:
                watch(self)
            if time.perf_counter() - saved > options.checkpoint_seconds:
                self.save()
                saved = time.perf_counter()
        if options.measured and self.log.measured[-1].step != self.progress.step:
            self.measure()
        self.save()

    def save(self) -> None:
        """Write a checkpoint, where there is a folder for it."""
        if self.checkpoints is not None:
            self.checkpoints.save()


def _groups(network: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
    matrices, others = [], []
    for _, parameter in sorted(network.named_parameters()):
        (matrices if parameter.dim() == 2 else others).append(parameter)
    return [
        {"params": matrices, "weight_decay": decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _windows(documents: tuple[bytes, ...], span: int, count: int) -> list[bytes]:
    """Return up to `count` spans, spread over the documents, each beginning at a character."""
    found = list(_spans(documents, span))
    chosen = [found[i * len(found) // count] for i in range(min(count, len(found)))]
    return list(dict.fromkeys(chosen))


def _spans(documents: tuple[bytes, ...], span: int) -> Iterator[bytes]:
    for document in documents:
        at = 0
        while at < len(document):
            while at < len(document) and document[at] & 0xC0 == 0x80:
                at += 1
            if at < len(document):
                yield document[at : at + span]
            at += span
