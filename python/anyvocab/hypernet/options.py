"""Options of training a hypernetwork."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from anyvocab import errors

if TYPE_CHECKING:
    from anyvocab.hypernet.sampler import SamplerOptions

__all__ = ["FitOptions", "NetworkOptions"]

Backbone = Literal["frozen", "lora", "full"]
Schedule = Literal["linear", "cosine", "constant"]
Dtype = Literal["float32", "bfloat16"]
Parallel = Literal["auto", "ddp", "fsdp"]
Sides = Literal["keep", "both"]
Switch = Literal["on", "off"]
Boundary = Literal["pretoken", "word", "sentence"]
BACKBONE_RATES = {"frozen": 0.0, "lora": 1e-4, "full": 3e-6}


@dataclass(frozen=True)
class NetworkOptions:
    """The network's shape; what is None follows the model.

    Attributes:
        hidden: The width inside; the model's, at least 64, when None.
        inner: Of the inner layers; twice `hidden` when None.
        layers: Attention layers over pieces.
        heads: Attention heads; one for each 64 of `hidden` when None.
        max_pieces: Positions that are told apart, from either end.
        surroundings: `vocabulary`: tokens are told what vocabulary they are in. On pico models it
            made no difference.
        sides: `keep`: a tied model's token has one row; `both`: one for reading, one for writing.
    """

    hidden: int | None = None
    inner: int | None = None
    layers: int = 2
    heads: int | None = None
    max_pieces: int = 8
    surroundings: Literal["vocabulary", "none"] = "none"
    sides: Sides = "keep"

    def __post_init__(self) -> None:
        errors.check_choice(
            "sides", self.sides, get_args(Sides)
        )  # the network's own config judges the rest


@dataclass(frozen=True)
class FitOptions:
    """How a hypernetwork is trained. One of `steps` and `minutes` is the budget.

    Attributes:
        steps: Updates in all, over resumes: then a resumed run repeats an uninterrupted one.
        minutes: Training time in all; the learning rate follows the clock.
        texts: Texts of a step, over all ranks.
        window: Ids of a text that are read.
        span: Bytes of a text that is drawn.
        rows: Rows predicted in a step: what the texts need, and others by chance; None: all.
        lr: The highest learning rate.
        warmup: Steps until it is reached.
        schedule: How it falls afterwards, to `final` of it.
        final: See `schedule`.
        weight_decay: Of matrices; biases and norms have none.
        clip: The gradient's norm is at most this.
        accumulate: Parts that a step's texts are cut in, one in memory at a time.
        lexical: Weight of the distance from the source's rows for tokens that it has.
        initial: Weight, with a fixed target, of the distance from the rows that the network
            predicted before the run; it takes the place of `lexical`.
        alm: Weight of approximate likelihood matching with the source's own tokenization.
        alm_temperature: See :func:`anyvocab.hypernet.losses.likelihood_matching`.
        dynamic_share: The share of the steps whose texts the model's own tokenizer cuts and dynamic
            tokenization merges, up to a reduction that is drawn: base tokens have the model's rows,
            new ones rows that a head of its own predicts, which a network is given that has none.
            With 1 and a network to begin with that head alone is trained, and what it predicts for
            vocabularies stays as it was. With 0 the head of a network to begin with is left out: it
            would not be trained along. See :mod:`anyvocab.hypernet.merged`.
        dynamic_boundaries: What no merge of such a step crosses; each draws one: `pretoken`,
            `word` or `sentence`.
        checkpointing: Whether activations are made anew in the backward pass.
        backbone: What is trained beside the network: nothing, low-rank adapters, or all.
        backbone_lr: Its highest learning rate; 1e-4 for adapters and 3e-6 for all when None.
        lora_rank: The rank of the adapters.
        dtype: Of the model and of the products; the network's weights are float32.
        compile: `on`: torch compiles the frozen model, which takes a minute and saves half of a
            step on a CPU.
        parallel: How several processes share the work: `ddp` keeps the model and the network whole
            on each, `fsdp` cuts them over the processes; `auto` cuts what would fill more than a
            third of a GPU. One process is as it is.
        tracker: Where numbers go besides the log: a name that accelerate knows, `tensorboard` or
            `wandb` for example; None: nowhere.
        seed: Of everything drawn.
        log_every: Steps between lines of the log.
        measure_every: Steps between measurements on held-out text; 0: only at both ends.
        measured: Sampled tokenizers that a measurement takes; with a fixed target, how many times
            `texts` windows of held-out text.
        checkpoint_seconds: Seconds between checkpoints.
        network: The network's shape.
        sampler: How tokenizers are drawn; those for the source's size when None.
    """

    steps: int | None = None
    minutes: float | None = None
    texts: int = 32
    window: int = 128
    span: int = 512
    rows: int | None = 2048
    lr: float = 1e-3
    warmup: int = 100
    schedule: Schedule = "linear"
    final: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    accumulate: int = 1
    lexical: float = 0.1
    initial: float = 0.5
    alm: float = 0.0
    alm_temperature: float = 5.0
    dynamic_share: float = 0.0
    dynamic_boundaries: Sequence[str] = ("pretoken", "word")
    checkpointing: bool = False
    backbone: Backbone = "frozen"
    backbone_lr: float | None = None
    lora_rank: int = 32
    dtype: Dtype = "bfloat16"
    compile: Switch = "off"
    parallel: Parallel = "auto"
    tracker: str | None = None
    seed: int = 0
    log_every: int = 20
    measure_every: int = 250
    measured: int = 3
    checkpoint_seconds: float = 180.0
    network: NetworkOptions = field(default_factory=NetworkOptions)
    sampler: SamplerOptions | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise errors.build(
                errors.InvalidValue,
                "give one of steps and minutes: one of them is the budget",
                field="steps",
                fix="minutes=60 suits a first try",
            )
        least: dict[str, tuple[Any, float]] = {
            "steps": (self.steps, 1),
            "texts": (self.texts, 1),
            "window": (self.window, 2),
            "span": (self.span, 2),
            "rows": (self.rows, 1),
            "warmup": (self.warmup, 0),
            "accumulate": (self.accumulate, 1),
            "weight_decay": (self.weight_decay, 0),
            "lexical": (self.lexical, 0),
            "initial": (self.initial, 0),
            "alm": (self.alm, 0),
            "lora_rank": (self.lora_rank, 1),
            "log_every": (self.log_every, 1),
            "measure_every": (self.measure_every, 0),
            "measured": (self.measured, 0),
            "final": (self.final, 0),
        }
        for name, (value, lowest) in least.items():
            if value is not None and not value >= lowest:
                raise errors.build(
                    errors.InvalidValue, f"must be at least {lowest}, got {value}", field=name
                )
        for name in ("minutes", "lr", "clip", "alm_temperature", "backbone_lr"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise errors.build(errors.InvalidValue, f"must be over 0, got {value}", field=name)
        for name, choices in (
            ("schedule", Schedule),
            ("backbone", Backbone),
            ("dtype", Dtype),
            ("parallel", Parallel),
            ("compile", Switch),
        ):
            errors.check_choice(name, getattr(self, name), get_args(choices))
        if not 0 <= self.dynamic_share <= 1:
            raise errors.build(
                errors.InvalidValue,
                f"must be a share, 0 to 1, got {self.dynamic_share}",
                field="dynamic_share",
                fix="half of the steps are 0.5",
            )
        if isinstance(self.dynamic_boundaries, str) or not self.dynamic_boundaries:
            raise TypeError("dynamic_boundaries must be several, or (boundary,)")
        for boundary in self.dynamic_boundaries:
            errors.check_choice("dynamic_boundaries", boundary, get_args(Boundary))
        if self.texts % self.accumulate:
            raise errors.build(
                errors.InvalidValue,
                f"{self.texts} texts do not come in {self.accumulate} equal parts",
                field="accumulate",
            )

    @property
    def backbone_rate(self) -> float:
        """Return the highest learning rate of the model itself."""
        if self.backbone_lr is not None:
            return self.backbone_lr
        return BACKBONE_RATES[self.backbone]
