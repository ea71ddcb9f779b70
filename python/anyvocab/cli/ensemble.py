"""`anyvocab ensemble`: several models as one, whatever their tokenizers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anyvocab.cli.byte_options import (
    DeviceOption,
    DtypeOption,
    LawOption,
    SeedOption,
    StopOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    open_model,
    shown,
    to_bytes,
)
from anyvocab.cli.output import ExitCode, JsonOption, Output, harmless
from anyvocab.cli.progress import ProgressLine

if TYPE_CHECKING:
    from anyvocab import Completion, Ensemble
    from anyvocab.evaluate import Domain, Interval

__all__ = ["command", "score_ensemble"]

FORMAT_VERSION = 1
ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Row:
    """One model's, or the ensemble's, score on the texts.

    Attributes:
        name: The model.
        weight: In the ensemble; None for the ensemble, and under rules without weights.
        bits_per_byte: Of the texts.
        interval: Of it; None where there is too little text.
        difference: The ensemble's bits per byte less these; None for the ensemble.
        difference_interval: Of the difference, on the same draws.
    """

    name: str
    weight: float | None
    bits_per_byte: float
    interval: Interval | None
    difference: float | None
    difference_interval: Interval | None

    def to_dict(self) -> dict[str, object]:
        """Return it as plain data for JSON."""
        return {
            "name": self.name,
            "weight": self.weight,
            "bits_per_byte": self.bits_per_byte,
            "interval": _ends(self.interval),
            "ensemble_less_this": self.difference,
            "difference_interval": _ends(self.difference_interval),
        }


def command(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Model folders, hub ids, or embedded models (pico:code-4k).",
            show_default=False,
        ),
    ],
    rule: Annotated[
        str,
        typer.Option(
            metavar="mixture|bayes|product|contrast|proxy",
            help="How the models' distributions become one.",
        ),
    ] = "mixture",
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="W,W,...", help="A weight for each model; equal ones.", show_default=False
        ),
    ] = None,
    fit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILES",
            help="Fit the weights to these texts. May be given several times.",
            show_default=False,
        ),
    ] = None,
    strength: Annotated[float, typer.Option(help="For contrast and proxy.")] = 1.0,
    cutoff: Annotated[
        float, typer.Option(help="For contrast: what is likely enough, of the likeliest.")
    ] = 0.1,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILES",
            help="Score these texts. May be given several times.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="BYTES", help="Read so many bytes of each text.", show_default=False
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="BYTES",
            help="A model sees at once; 1024, or what all of them hold.",
            show_default=False,
        ),
    ] = None,
    block: Annotated[
        int, typer.Option(min=1, metavar="BYTES", help="Of a block that intervals draw.")
    ] = 1024,
    prompt: Annotated[
        str | None, typer.Option(help="Go on with this text instead.", show_default=False)
    ] = None,
    max_bytes: Annotated[int, typer.Option(min=1, help="The most bytes written.")] = 128,
    temperature: TemperatureOption = 0.0,
    top_p: TopPOption = 1.0,
    top_k: TopKOption = None,
    stop: StopOption = None,
    seed: SeedOption = 0,
    law: LawOption = "local",
    device: DeviceOption = None,
    dtype: DtypeOption = "float32",
    json: JsonOption = False,
) -> ExitCode:
    """Join models into one over bytes: score texts, or go on with a prompt.

    Weights are not to be fitted on the texts that are scored.
    """
    if not text and prompt is None:
        raise typer.BadParameter("give texts to score, or a prompt: --text FILES, --prompt TEXT")
    if weights is not None and fit:
        raise typer.BadParameter("give --weights or --fit")
    given = None if weights is None else _numbers(weights)
    output = Output(json=json)
    from anyvocab import Ensemble
    from anyvocab.evaluate import read_domains

    domains = read_domains(text, limit=limit) if text else []
    learn = read_domains(fit, limit=limit) if fit else []
    names = _names(models)
    members = [open_model(output, one, law=law, device=device, dtype=dtype) for one in models]
    both = Ensemble(
        members,
        rule=rule,  # type: ignore[arg-type]  # checked there, with the choices named
        weights=given,
        strength=strength,
        cutoff=cutoff,
    )
    if window is None:
        from anyvocab.evaluate.byte_scores import window_of

        window = window_of(both)
    if learn:
        output.progress("fitting the weights ...")
        both, _ = both.fit_weights(_pieces(learn, window))
    rows: list[Row] = []
    if domains:
        rows = score_ensemble(output, both, names, domains, window=window, block=block, seed=seed)
    done = None
    if prompt is not None:
        done = both.complete(
            to_bytes(prompt),
            max_bytes=max_bytes,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            stop=[to_bytes(one) for one in stop or []],
            seed=seed,
        )
    if json:
        output.document(_document(both, names, law, window, domains, rows, prompt, done))
        return ExitCode.DONE
    if rows:
        _print(output, both, rows, domains)
    if done is not None:
        if domains:
            output.heading("The ensemble goes on")
            output.text(harmless(done.bytes))
        else:
            output.result(done.bytes)
        output.progress(f"{len(done.bytes)} bytes; ended: {done.finish}; {done.logprob:.2f} nats")
    return ExitCode.DONE


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no list of numbers", param_hint="--weights"
        ) from None


def _names(models: Sequence[str]) -> list[str]:
    """Return a name for each model: the last part of a folder's path; the same ones are counted."""
    found: list[str] = []
    for one in models:
        name = Path(one).name if Path(one).exists() else one
        same = sum(other == name or other.startswith(f"{name} (") for other in found)
        found.append(f"{name} ({same + 1})" if same else name)
    return found


def _pieces(domains: Sequence[Domain], window: int) -> list[bytes]:
    """Return the texts in pieces that a model sees at once."""
    return [
        document[at : at + window]
        for domain in domains
        for document in domain.documents
        for at in range(0, len(document), window)
    ]


def score_ensemble(
    output: Output,
    both: Ensemble,
    names: Sequence[str],
    domains: Sequence[Domain],
    *,
    window: int,
    block: int,
    seed: int = 0,
) -> list[Row]:
    """Return the score of each member and of the ensemble on all texts together."""
    from anyvocab import errors
    from anyvocab.evaluate import Bootstrap
    from anyvocab.evaluate.bootstrap import resample
    from anyvocab.evaluate.byte_scores import blocks, ensemble_logprobs

    line, done = ProgressLine(output), 0
    total = sum(domain.bytes for domain in domains)

    def said(count: int) -> None:
        nonlocal done
        done += count
        line("scoring", done, total)

    try:
        found = [
            ensemble_logprobs(both, document, window=window, progress=said)
            for domain in domains
            for document in domain.documents
        ]
    except errors.LimitExceeded as error:
        raise errors.build(
            errors.LimitExceeded,
            f"{window} bytes can be more ids than a model sees at once",
            field="window",
            fix="give a smaller --window",
        ) from error
    finally:
        line.end()
    bootstrap = Bootstrap(block=block, seed=seed)
    nats, sizes = blocks(found, block)
    drawn = resample(list(nats), sizes, domain=ENSEMBLE, bootstrap=bootstrap)
    bits = nats.sum(axis=1) / (sizes.sum() * math.log(2))
    weights = _weights(both)
    last = len(names)
    rows = [
        Row(
            name,
            None if weights is None else weights[at],
            float(bits[at]),
            drawn.bits_per_byte(at, bootstrap.level),
            float(bits[last] - bits[at]),
            drawn.difference(last, at, bootstrap.level),
        )
        for at, name in enumerate(names)
    ]
    own = drawn.bits_per_byte(last, bootstrap.level)
    return [*rows, Row(ENSEMBLE, None, float(bits[last]), own, None, None)]


def _weights(both: Ensemble) -> list[float] | None:
    has = both.rule in ("mixture", "bayes", "product")
    return [float(one) for one in both.weights] if has else None


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _document(
    both: Ensemble,
    names: Sequence[str],
    law: str,
    window: int,
    domains: Sequence[Domain],
    rows: Sequence[Row],
    prompt: str | None,
    done: Completion | None,
) -> Mapping[str, object]:
    found: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "models": list(names),
        "rule": both.rule,
        "weights": _weights(both),
        "law": law,
    }
    if rows:
        found["bytes"] = sum(domain.bytes for domain in domains)
        found["window_bytes"] = window
        found["scores"] = [row.to_dict() for row in rows]
    if done is not None and prompt is not None:
        found["prompt"] = shown(to_bytes(prompt))
        found["completion"] = done.to_dict()
    return found


def _between(interval: Interval | None, form: str) -> str:
    return "" if interval is None else f"{interval.low:{form}}..{interval.high:{form}}"


def _print(output: Output, both: Ensemble, rows: Sequence[Row], domains: Sequence[Domain]) -> None:
    size = sum(domain.bytes for domain in domains)
    output.heading(f"Bits per byte of {size:,} bytes, rule {both.rule} (lower is better)")
    output.table(
        ["model", "weight", "bits/byte", "95% interval", "ensemble less this", "95% interval"],
        [
            [
                row.name,
                "" if row.weight is None else f"{row.weight:.3f}",
                f"{row.bits_per_byte:.4f}",
                _between(row.interval, ".3f"),
                "" if row.difference is None else f"{row.difference:+.4f}",
                _between(row.difference_interval, "+.3f"),
            ]
            for row in rows
        ],
        numbers=[1, 2, 3, 4, 5],
    )
