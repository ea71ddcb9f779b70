"""Training a hypernetwork: one loop, resumable, the same on one device and on many."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from anyvocab.hypernet.backbone import Backbone, recompute, saved_model
from anyvocab.hypernet.batches import Batch, Batcher, Controls
from anyvocab.hypernet.body import Body
from anyvocab.hypernet.checkpoints import Checkpoints, Progress
from anyvocab.hypernet.data import Texts
from anyvocab.hypernet.features import SurroundingsOf
from anyvocab.hypernet.fixed import FixedSampler, FixedSurroundings
from anyvocab.hypernet.interrupts import Interrupts
from anyvocab.hypernet.matching import Lesson, Teacher
from anyvocab.hypernet.measuring import Log, Measured, windows
from anyvocab.hypernet.merged import MergedBatch, MergedLoss, Merger, merged_objective, some_of
from anyvocab.hypernet.network import ResidualHypernet, Use
from anyvocab.hypernet.objective import anchored, distance, lexical_of, objective, texts_of
from anyvocab.hypernet.optim import Updates, rate
from anyvocab.hypernet.options import FitOptions
from anyvocab.hypernet.parallel import World
from anyvocab.hypernet.prepared import check, check_window, digest, network_config, network_of
from anyvocab.hypernet.rows import Rows
from anyvocab.hypernet.sampler import SamplerOptions, TokenizerSampler
from anyvocab.hypernet.sharding import cuts, shard, whole
from anyvocab.hypernet.spread import Spread, backward, leaves_of
from anyvocab.hypernet.tracking import Tracker

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer

__all__ = ["Measured", "Trainer", "network_config", "rate"]

logger = logging.getLogger(__name__)

Watch = Callable[["Trainer"], None]
MEASURE_STEP = 1 << 40  # steps of measurements: never those of training
FEATURE_BATCHES = 32  # sampled tokenizers whose features bound those of later ones
CHECK_STEPS = 100  # steps between checks that all ranks train on the same


class Trainer:
    """One run.

    Attributes:
        network: What is trained.
        backbone: The model, and what of it is trained beside the network.
        world: The processes of the run.
        target: What stands in for sampled tokenizers; None where they are sampled.
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
        target: Tokenizer | None = None,
        network: ResidualHypernet | None = None,
        world: World | None = None,
    ) -> None:
        """Prepare a run, and take it up where the checkpoint in `folder` stands.

        Args:
            body: The model. What `options.backbone` asks for is put into it.
            tokenizer: Its tokenizer.
            texts: The corpus.
            controls: Control tokens of training texts.
            options: The run's.
            folder: Where checkpoints lie; without one nothing is written.
            threads: Of the sampler.
            target: A tokenizer to train for, in place of sampled ones.
            network: What to begin with: a copy of it is trained.
            world: The processes; those that torchrun or accelerate started when left out.

        Raises:
            InvalidValue: Options that do not go together or with the model.
            MissingExtra: An option needs a package that is not installed.
        """
        self.tokenizer, self.texts = tokenizer, texts
        self.controls, self.options = controls, options
        self.device = body.rows.input.device
        self.world = World.find(self.device) if world is None else world
        self._cut = cuts(options, body.model, self.world)
        check(options, body, self.world, cut=self._cut, target=target is not None)
        check_window(options, body, controls)
        self.backbone = Backbone.of(body, options)
        self.body = self.backbone.body
        names = tuple(part.name for part in texts.parts)
        rows = len(body.rows)
        self.target = None if target is None else FixedSampler(target, tokenizer, rows=rows)
        torch.manual_seed(options.seed)
        self.network = network_of(network, body, options, names)
        self.config = self.network.config
        self.given = "" if network is None else digest(network)
        self.network.to(self.device)
        self._spread = Spread(self.network, self.body.rows, self.world)
        self._initial: Spread | None = None
        if target is not None and options.initial:
            first = copy.deepcopy(self.network).requires_grad_(False)
            self._initial = Spread(first, self.body.rows, self.world)
        self._place()
        self.updates = Updates(
            {name: one for name, one in self.network.named_parameters() if one.requires_grad},
            self.backbone.parameters,
            options,
            self.world,
        )
        self.batcher = self._batcher(names, threads)
        self._teacher: Teacher | None = None
        if options.alm:
            self._teacher = Teacher(
                self.backbone,
                tokenizer,
                controls,
                window=options.window,
                temperature=options.alm_temperature,
                cast=self._cast,
            )
        self.progress = Progress()
        self.log = Log()
        self._merger = self._merges() if options.dynamic_share else None
        self._measuring: list[Batch] | None = None
        self._measuring_merged: list[MergedBatch] | None = None
        self._drawn: tuple[Batch | MergedBatch, Lesson | None] | None = None
        self._interrupts = Interrupts(alone=self.world.size == 1)
        self._leave = False
        told = {n: v for n, v in asdict(options).items() if isinstance(v, str | int | float)}
        self._tracker = Tracker(options.tracker, folder=folder, told=told, leads=self.world.leads)
        self.checkpoints = None if folder is None else Checkpoints(folder, self)
        if self.checkpoints is not None and self.checkpoints.load():
            without = None if self._merger is None else self._merger.takes
            self.batcher.catch_up(self.progress.step, without=without)
        elif self.config.features and network is None:
            self._bound_features()

    def _place(self) -> None:
        """Make activations that are made anew, cut what is cut, compile what is compiled."""
        model = self.body.model
        if self.options.checkpointing:
            recompute(model)
        if self._cut:
            self.backbone.cut(self.world)
            for one in (self._spread, self._initial):
                if one is not None:
                    shard(one, self.world)
        if self.options.compile == "on":
            model.base_model.compile(dynamic=False)

    def _batcher(self, names: tuple[str, ...], threads: int) -> Batcher:
        options, rows = self.options, len(self.body.rows)
        surroundings: Any = SurroundingsOf(self.tokenizer, rows) if self.config.features else None
        samplers: list[Any]
        if self.target is not None:
            samplers = [self.target] * len(names)
            if surroundings is not None:
                surroundings = FixedSurroundings(surroundings, self.target.tokenizer.tokens)
        else:
            sampling = options.sampler or SamplerOptions.for_source(self.tokenizer)
            samplers = [
                TokenizerSampler(
                    self.tokenizer,
                    sampling,
                    rows=rows,
                    seed=options.seed + 1_000_003 * part,
                    threads=threads,
                )
                for part in range(len(names))
            ]
        return Batcher(
            self.texts,
            samplers,
            surroundings,
            self.controls,
            source_rows=rows,
            kind=self.body.kind,
            count=options.texts,
            window=options.window,
            span=options.span,
            rows=options.rows,
            seed=options.seed,
        )

    def _merges(self) -> Merger:
        options, rows = self.options, len(self.body.rows)
        surroundings = SurroundingsOf(self.tokenizer, rows) if self.config.features else None
        return Merger(
            self.texts,
            self.tokenizer,
            surroundings,
            self.controls,
            source_rows=rows,
            kind=self.body.kind,
            share=options.dynamic_share,
            boundaries=options.dynamic_boundaries,
            count=options.texts,
            window=options.window,
            span=options.span,
            seed=options.seed,
        )

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

    def predict(self, batch: Batch | MergedBatch) -> Rows:
        """Return the network's rows of a batch; all ranks ask together."""
        use: Use = "merged" if isinstance(batch, MergedBatch) else "vocabulary"
        return self._spread.rows(batch, anew=self.options.checkpointing, use=use)

    def _cast(self) -> Any:
        if self.options.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _draw(self) -> tuple[Batch | MergedBatch, Lesson | None]:
        """Return the step's batch, the same one when the step was interrupted before."""
        step = self.progress.step
        if self._drawn is None or self._drawn[0].step != step:
            batch: Batch | MergedBatch
            if self._merger is not None and self._merger.takes(step):
                batch = self._merger.step(step)
            else:
                batch = self.batcher.step(step)
            lesson = None
            if self._teacher is not None and isinstance(batch, Batch):
                _, texts = self.texts.draw(step, self.options.texts, self.options.span)
                lesson = self._teacher.lesson(batch, texts)
            if step % CHECK_STEPS == 0:
                weights = [] if self._cut else self.updates.parameters
                self.world.check_same(
                    [batch.pieces, batch.features, batch.inputs, batch.targets, *weights], step=step
                )
            self._drawn = batch, lesson
        return self._drawn

    def step(self) -> float:
        """Take a step and return its cross-entropy, nats per token."""
        began = time.perf_counter()
        batch, lesson = self._draw()
        self.network.train()
        self.updates.clear()
        nats = self._descend(batch, lesson)
        norm = self.updates.reduce(self._scale)
        share = rate(self.options, self.progress.step, self.done())
        with self._interrupts.held():
            self.updates.take(share)
            # Time is the leader's, so that all ranks end at the same step.
            spent = time.perf_counter() - began if self.world.leads else 0.0
            asked = float(self._interrupts.asked)
            nats, spent, asked = self.world.summed([nats, spent, asked])
            self._leave = self.world.size > 1 and asked > 0
            nats /= max(1, batch.scored)
            self.progress.step += 1
            self.progress.tokens += batch.scored
            self.progress.seconds += spent
            self.log.losses.append(nats)
            self.log.last = {"rate": self.options.lr * share, "norm": norm}
            if lesson is not None:
                self.log.last["compared_texts"] = lesson.share
        return nats

    @property
    def _scale(self) -> float:
        """What losses are multiplied by: FSDP2 divides summed gradients by the ranks."""
        return float(self.world.size) if self._cut else 1.0

    def _descend(self, batch: Batch | MergedBatch, lesson: Lesson | None) -> float:
        """Leave each parameter this rank's gradient; return this rank's summed cross-entropy."""
        world, options, scored = self.world, self.options, max(1, batch.scored)
        batch = batch.to(self.device)
        with self._cast():
            rows = self.predict(batch)
        leaves = leaves_of(rows)
        nats = torch.zeros((), device=self.device)
        # As many parts on every rank, some of them perhaps without text.
        count = max(len(batch.inputs), world.size * options.accumulate)
        mine = list(range(world.rank, count, world.size))
        for part in range(options.accumulate):
            places = mine[part :: options.accumulate]
            if isinstance(batch, MergedBatch):
                merged = self._merged(some_of(batch, places), leaves)
                total, cost = merged.apart / scored, merged.nats
            else:
                total, cost = self._cost(batch, places, leaves, lesson)
            (total * self._scale).backward()
            nats += cost.detach()
        known = None if isinstance(batch, MergedBatch) else self._known(batch, leaves)
        if known is not None:  # every rank has all rows: each takes its share of what they cost
            (known * (self._scale / world.size)).backward()
        backward(rows, leaves)
        return float(nats)

    def _cost(
        self, batch: Batch, places: list[int], rows: Rows, lesson: Lesson | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of some of a batch's texts, and their summed cross-entropy."""
        compare = None
        if self._teacher is not None and lesson is not None:
            compare = self._teacher.compare(lesson, places)
        with self._cast():
            loss = objective(
                texts_of(batch, places), rows, self.body, self.controls, divergence=compare
            )
        total = loss.nats / max(1, batch.scored)
        if loss.apart is not None and lesson is not None:
            total = total + self.options.alm * loss.apart / max(1, lesson.count)
        return total, loss.nats

    def _merged(self, batch: MergedBatch, rows: Rows) -> MergedLoss:
        plain, teaching = self.backbone.teacher or self.body, self.backbone.teaching()
        with self._cast():
            return merged_objective(batch, rows, self.body, plain, teaching=teaching)

    def _known(self, batch: Batch, rows: Rows) -> torch.Tensor | None:
        """Return the weighted distance from rows that are known; None where there are none."""
        options = self.options
        if self._initial is not None:
            with torch.no_grad(), self._cast():
                first = self._initial.rows(batch)
            return options.initial * distance(rows, first)
        if options.lexical and len(batch.anchors):
            return options.lexical * lexical_of(batch, rows, self.body.rows)
        return None

    @torch.no_grad()
    def measure(self) -> Measured:
        """Measure on held-out text under sampled tokenizers that training never sees.

        With a fixed target every measurement has the same tokenizer, and so takes other text.
        """
        if self._measuring is None:
            count = self.options.measured
            parts = 1 if self.target is None else count
            texts = windows(self.texts.held_out, self.options.span, parts * self.options.texts)
            self._measuring = [
                self._peeked(MEASURE_STEP + at, texts[at % parts :: parts]) for at in range(count)
            ]
        nats, copied, size, apart = 0.0, 0.0, 0, 0.0
        self.network.eval()
        world = self.world
        for batch in self._measuring:
            here = batch.to(self.device)
            mine = list(range(world.rank, max(len(batch.inputs), world.size), world.size))
            with self._cast():
                rows = self.predict(here)
                some = texts_of(here, mine)
                nats += float(objective(some, rows, self.body, self.controls).nats)
                kept = anchored(here, rows, self.body.rows)
                copied += float(objective(some, kept, self.body, self.controls).nats)
            size += batch.bytes
            apart += float(lexical_of(here, rows, self.body.rows)) / len(self._measuring)
        bits, with_copies = (
            one / math.log(2) / max(1, size) for one in world.summed([nats, copied])
        )
        merged = self._measure_merged()
        found = Measured(self.progress.step, bits, apart, with_copies, merged)
        self.log.measured.append(found)
        self._say("step %d: %.4f bits per byte held out", found.step, found.bits_per_byte)
        told = {"held_out_bits_per_byte": found.bits_per_byte, "held_out_lexical": apart}
        if merged is not None:
            self._say("step %d: merging costs %.4f bits per byte", found.step, merged)
            told["held_out_merged"] = merged
        self._tracker.log(told, step=found.step)
        return found

    def _measure_merged(self) -> float | None:
        """Return bits per byte that merging costs, on held-out text; None where no step merges."""
        if self._merger is None:
            return None
        if self._measuring_merged is None:
            count, step = self.options.measured, MEASURE_STEP
            texts = windows(self.texts.held_out, self.options.span, count * self.options.texts)
            self._measuring_merged = [
                self._merger.make(texts[at::count], step + at, self.texts.draw(step + at, 0, 1)[0])
                for at in range(min(count, len(texts)))
            ]
        cost, size, world = 0.0, 0, self.world
        for batch in self._measuring_merged:
            here = batch.to(self.device)
            mine = list(range(world.rank, max(len(batch.inputs), world.size), world.size))
            with self._cast():
                rows = self.predict(here)
            loss = self._merged(some_of(here, mine), rows)
            cost += float(loss.apart)
            size += batch.bytes
        [cost] = world.summed([cost])
        return cost / math.log(2) / max(1, size)

    def run(self, watch: Watch | None = None) -> None:
        """Train until the budget is spent.

        Ctrl-C saves a checkpoint, says how to go on, and is raised again. Of several processes
        all leave together, after the step that they are in.

        Args:
            watch: Called after every step, on every rank.
        """
        try:
            with self._interrupts:
                self._run(watch)
        except KeyboardInterrupt:
            self.save()
            if self.checkpoints is not None:
                self._say(
                    "interrupted after step %d; the same call or command goes on from %s",
                    self.progress.step,
                    self.checkpoints.folder,
                    level=logging.WARNING,
                )
            raise
        finally:
            self._tracker.close()

    def _run(self, watch: Watch | None) -> None:
        options = self.options
        saved = self.progress.seconds
        if options.measured and not self.log.measured:
            self.measure()
        while self.done() < 1.0:
            self.step()
            step = self.progress.step
            if step % options.log_every == 0:
                recent = self.log.losses[-options.log_every :]
                nats = sum(recent) / len(recent)
                self._say("step %d: %.4f nats", step, nats)
                told = {"nats": nats, "tokens": float(self.progress.tokens), **self.log.last}
                self._tracker.log(told, step=step)
            if options.measured and options.measure_every and step % options.measure_every == 0:
                self.measure()
            if watch is not None:
                watch(self)
            if self._leave:
                raise KeyboardInterrupt
            if self.progress.seconds - saved > options.checkpoint_seconds:
                self.save()
                saved = self.progress.seconds
        if options.measured and self.log.measured[-1].step != self.progress.step:
            self.measure()
        self.save()

    def _say(self, message: str, *told: object, level: int = logging.INFO) -> None:
        if self.world.leads:
            logger.log(level, message, *told)

    def save(self) -> None:
        """Write a checkpoint, where there is a folder for it; all ranks save together."""
        if self.checkpoints is not None:
            self.checkpoints.save()

    def backbone_state(self) -> dict[str, torch.Tensor]:
        """Return a copy of what is trained of the model, by name; all ranks ask together."""
        return {name: whole(one).clone() for name, one in self.backbone.parameters.items()}

    def save_backbone(self, folder: Path) -> None:
        """Save the model as a plain folder of transformers, adapters merged into its weights.

        The vocabulary's matrices are the source's: a transfer puts predicted rows in their place.
        All ranks save together.
        """
        saved_model(self.backbone, folder, self.body.rows.input.dtype, write=self.world.leads)
        self.world.wait()
