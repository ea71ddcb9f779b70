"""One call: a model and a corpus become a hypernetwork in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anyvocab import errors
from anyvocab._source import read_json
from anyvocab._torch import import_torch
from anyvocab.evaluate.models import find_folder, model_kind, open_model

if TYPE_CHECKING:
    from anyvocab.evaluate.models import LoadedModel
    from anyvocab.hypernet import Hypernet
    from anyvocab.hypernet.batches import Controls
    from anyvocab.hypernet.body import Body
    from anyvocab.hypernet.data import Texts
    from anyvocab.hypernet.fit import Measured, Trainer
    from anyvocab.hypernet.options import FitOptions

__all__ = ["MODEL", "FitReport", "fit", "open_body"]

MODEL = "model"  # the folder in a run's that holds the trained model

Progress = Callable[[str, int, int], None]
_PROBE = b"The quick brown fox jumps over the lazy dog.\n    return [1, 2]\n"


@dataclass(frozen=True)
class FitReport:
    """What training did.

    Attributes:
        out: The hypernetwork's folder.
        steps: Updates.
        tokens: Targets that were scored.
        seconds: Of training, over all parts of the run.
        parameters: Of the network.
        measured: Held-out measurements, the first before any update: the mean of the pieces, or
            what the network that was begun with predicts.
        losses: Cross-entropy of the steps of this part of the run, nats per token.
        leads: Whether this process speaks for the run: one of several does.
    """

    out: Path
    steps: int
    tokens: int
    seconds: float
    parameters: int
    measured: tuple[Measured, ...]
    losses: tuple[float, ...]
    leads: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the report, ready for JSON; of the losses, the mean of the last hundred."""
        recent = self.losses[-100:]
        return {
            "format_version": 1,
            "loss": sum(recent) / len(recent) if recent else None,
            "measured": [vars(one) for one in self.measured],
            "out": str(self.out),
            "parameters": self.parameters,
            "seconds": self.seconds,
            "steps": self.steps,
            "tokens": self.tokens,
        }


def open_body(
    model: str | os.PathLike[str], *, device: str | None = None, dtype: str = "bfloat16"
) -> tuple[LoadedModel, Body, Controls]:
    """Return a model ready to be trained through: its body, and the controls of its texts.

    Args:
        model: A folder, a hub id, or `pico:NAME`; a causal or a masked language model.
        device: Where it runs; on the CPU when left out.
        dtype: Of its weights.

    Raises:
        InvalidValue: It is an encoder-decoder; a masked model's tokenizer has no mask token.
        SourceNotFound: There is no such model.
    """
    from anyvocab.evaluate.models import LoadedModel, first_ids_of, load_model
    from anyvocab.hypernet.batches import Controls
    from anyvocab.hypernet.body import Body
    from anyvocab.tokenizer import Tokenizer

    place = os.fsdecode(model)
    found = model_kind(read_json(find_folder(place) / "config.json"))
    kind: Literal["causal", "masked"]
    if found == "causal":
        kind, opened = "causal", open_model(place, device=device, dtype=dtype)
        controls = Controls(first=opened.first_ids)
    elif found == "encoder":
        kind = "masked"
        tokenizer = Tokenizer.load(place)
        network = load_model(place, device=device, dtype=dtype, kinds=("encoder",))
        masks = tokenizer.vocabulary.roles.ids("mask")
        if not masks:
            raise errors.build(
                errors.InvalidValue,
                "a masked language model is trained with a mask token, and there is none",
                field="tokenizer",
                file=place,
                fix="declare it in special_tokens_map.json",
            )
        first, last = _around(tokenizer)
        controls = Controls(first, last, masks[0])
        opened = LoadedModel(place, network, tokenizer, first, first_ids_of(tokenizer)[1])
    else:
        raise errors.build(
            errors.InvalidValue,
            "an encoder-decoder has no single place for a vocabulary's rows",
            field="model",
            file=place,
            fix="give a causal or a masked language model",
        )
    opened.network.requires_grad_(requires_grad=False)
    ids = [*controls.first, *opened.tokenizer.encode(_PROBE, specials="text").tolist()]
    return opened, Body.of(opened.network, ids, kind=kind), controls


def _begun(start: str | os.PathLike[str], opened: LoadedModel) -> Hypernet:
    """Return a hypernetwork to begin with.

    Raises:
        InvalidValue: It was made for another vocabulary, or is of the released graph, which is
            loaded and not trained here.
    """
    from anyvocab.hypernet import Hypernet
    from anyvocab.transplant.files import vocabulary_digest

    digest = vocabulary_digest(opened.tokenizer.vocabulary)
    found = Hypernet.load(start, source_digest=digest)
    if found.card.kind != "residual":
        raise errors.build(
            errors.InvalidValue,
            f"a network of kind {found.card.kind} is not trained here",
            field="start",
            file=os.fsdecode(start),
            fix="begin with one that `anyvocab hypernet train` made",
        )
    return found


def _around(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids that the post-processor puts before and behind a text."""
    plain: list[int] = tokenizer.encode("a").tolist()
    full: list[int] = tokenizer.encode("a", add_special_tokens=True).tolist()
    for at in range(len(full) - len(plain) + 1):
        if full[at : at + len(plain)] == plain:
            return tuple(full[:at]), tuple(full[at + len(plain) :])
    return (), ()


def fit(
    model: str | os.PathLike[str],
    corpus: Any,
    out: str | os.PathLike[str],
    *,
    options: FitOptions | None = None,
    device: str | None = None,
    threads: int = 1,
    target: object = None,
    start: str | os.PathLike[str] | None = None,
    field: str = "text",
    texts: Texts | None = None,
    watch: Callable[[Trainer], None] | None = None,
) -> FitReport:
    r"""Train a hypernetwork for a model and write it to a folder.

    The folder holds a checkpoint while training goes on: the same call again takes the run up
    there, and with a budget of steps repeats the losses of an uninterrupted run bit for bit (on
    the same machine and with the same number of torch's threads).

    Args:
        model: A folder, a hub id, or `pico:NAME`.
        corpus: What :func:`anyvocab.count` takes; a mapping names languages.
        out: The folder.
        options: An hour of training when left out.
        device: Where it runs; this process's GPU when left out, or the CPU where there is none.
        threads: Of the tokenizer sampler. torch's own threads are the caller's business.
        target: A tokenizer, as :meth:`anyvocab.Tokenizer.load` takes it: training goes on for it
            alone (n-shot), the better from a network that knows many (`start`). The rows then stay
            near those that the network predicted before, and with `options.backbone` the model is
            trained as well; its folder is `out/model`.
        start: A hypernetwork to begin with.
        field: The member, column or key that holds a record's text.
        texts: The corpus, read already; `corpus` is then not looked at.
        watch: Called with the trainer after every step.

    Raises:
        InvalidValue: The model is not understood, or `out` holds another run's checkpoint.
        OSError: `out` cannot be written.
        NumericsError: A gradient is not finite.
        KeyboardInterrupt: Ctrl-C; a checkpoint was written.

    >>> import tempfile
    >>> from anyvocab.hypernet.options import FitOptions, NetworkOptions
    >>> options = FitOptions(steps=2, texts=4, window=32, rows=256, measured=1,
    ...                      network=NetworkOptions(hidden=64, layers=1))
    >>> texts = [b"def add(a, b):\n    return a + b\n" * 40] * 4
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = fit("pico:code-2k", iter(texts), folder, options=options)
    >>> report.steps
    2
    """
    import_torch()
    from anyvocab.hypernet.data import Texts
    from anyvocab.hypernet.fit import Trainer
    from anyvocab.hypernet.fitted import save_fitted
    from anyvocab.hypernet.options import FitOptions
    from anyvocab.hypernet.parallel import World
    from anyvocab.tokenizer import Tokenizer

    chosen = options or FitOptions(minutes=60.0)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)  # what cannot be written is found out now
    wanted = None if target is None else Tokenizer.load(target)
    world = World.find(device)
    opened, body, controls = open_body(model, device=str(world.device), dtype=chosen.dtype)
    if body.rows.input.device.type == "cpu" and hasattr(opened.network, "set_attn_implementation"):
        # On a CPU the fused kernel's backward pass is several times slower on short windows.
        opened.network.set_attn_implementation("eager")
    begun = None if start is None else _begun(start, opened)
    read = Texts.read(corpus, field=field, seed=chosen.seed) if texts is None else texts
    trainer = Trainer(
        body,
        opened.tokenizer,
        read,
        controls,
        chosen,
        folder=folder,
        threads=threads,
        target=wanted,
        network=None if begun is None else begun.network,
        world=world,
    )
    trainer.run(watch)
    if chosen.backbone != "frozen":
        trainer.save_backbone(folder / MODEL)
        if trainer.world.leads:
            opened.tokenizer.save(folder / MODEL, existing="replace")
    start_card = None if begun is None else begun.card
    save_fitted(trainer, folder, model=opened.name, start=start_card)
    return FitReport(
        folder,
        trainer.progress.step,
        trainer.progress.tokens,
        trainer.progress.seconds,
        sum(one.numel() for one in trainer.network.parameters()),
        tuple(trainer.log.measured),
        tuple(trainer.log.losses),
        world.leads,
    )
