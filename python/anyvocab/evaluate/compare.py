"""Several models on the same texts, whatever their tokenizers: `anyvocab eval`."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from anyvocab import errors
from anyvocab.evaluate import greedy as greedy_
from anyvocab.evaluate.bits import check_first_ids
from anyvocab.evaluate.bootstrap import Bootstrap, Resampled, resample
from anyvocab.evaluate.domains import Domain
from anyvocab.evaluate.exact import exactness, shared_runs
from anyvocab.evaluate.identity import new_ids
from anyvocab.evaluate.models import LoadedModel, open_model
from anyvocab.evaluate.results import (
    Difference,
    DomainScore,
    Evaluation,
    ModelScore,
)
from anyvocab.evaluate.scoring import (
    BATCH,
    Split,
    TokenScores,
    score_windows,
    sizes_of,
    token_ends,
    windows_of,
)
from anyvocab.tokenizer import Text, _bytes

__all__ = ["Sampling", "evaluate_models"]

Report = Callable[[str, str, int, int], None]
"""Is told the model, what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Sampling:
    """How the greedy check is made.

    Attributes:
        prompts: How many prompts are taken out of the texts; 0 for no check.
        new_tokens: The most ids a model may write after one.
        seed: Of the choice of prompts.
    """

    prompts: int = 8
    new_tokens: int = greedy_.NEW_TOKENS
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            InvalidValue: One of them is.
        """
        for name, value, least in (
            ("prompts", self.prompts, 0),
            ("new_tokens", self.new_tokens, 1),
            ("seed", self.seed, 0),
        ):
            if value < least:
                raise errors.build(
                    errors.InvalidValue, f"must be at least {least}, got {value}", field=name
                )


def evaluate_models(
    models: Mapping[str, object] | Iterable[object],
    texts: Mapping[str, Iterable[Text]] | Iterable[Text] | Iterable[Domain],
    *,
    against: object = None,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int = BATCH,
    bootstrap: Bootstrap | None = None,
    sampling: Sampling | None = None,
    device: str | None = None,
    dtype: str = "float32",
    progress: Report | None = None,
) -> Evaluation:
    """Return bits per byte of several models on the same bytes, and what goes with them.

    Every text is scored whole and on its own, as :func:`anyvocab.bits_per_byte` does it, except
    that the spelling of a special token in it is text. The end of a text is not scored. Nats are
    attributed to bytes, so that models are compared block by block whatever their tokens are.
    Perplexities, which count per token, are not given: they cannot be compared.

    Args:
        models: Folders, hub ids, `pico:NAME` or :class:`LoadedModel`; as a mapping, with their
            names. Read one after the other.
        texts: Texts by domain, or texts of one domain.
        against: The model before a swap. It is scored too and comes first; every model's new ids
            are those whose bytes are no token of its, and hidden states are compared with its.
        window: Ids a model sees at once; what it was built for, at most 2048, when left out.
        stride: Ids that a further window scores; half a window when left out.
        batch_size: Windows of one forward pass, fewer where the logits would be too large.
        bootstrap: How intervals are made; `Bootstrap()` when left out.
        sampling: How the greedy check is made; `Sampling()` when left out.
        device: Where models run that are loaded here; on the CPU when left out.
        dtype: What their weights are converted to: `float32`, `bfloat16`, `float16`.
        progress: Is told the model, the step, and how much of how much is done.

    Raises:
        InvalidValue: There is nothing to score, a model has nothing to put before a text, lacks
            weights or a logit for an id, or gives logits that are not finite.
        SourceNotFound: There is no such model.
        MissingExtra: torch or transformers is not installed.
    """
    domains = _domains(texts)
    named = _named(models)
    bootstrap = bootstrap or Bootstrap()
    sampling = sampling or Sampling()
    documents = [one for domain in domains for one in domain.documents]
    prompts = (
        greedy_.pick_prompts(documents, count=sampling.prompts, seed=sampling.seed)
        if sampling.prompts
        else []
    )
    judge = _Judge(domains, prompts, window, stride, batch_size, bootstrap, sampling, progress)

    def opened(source: object, name: str | None) -> LoadedModel:
        if progress is not None and isinstance(source, str | os.PathLike):
            progress(name or os.fsdecode(source), "loading", 0, 1)
        return open_model(source, name=name, device=device, dtype=dtype)

    before = None
    scores: list[ModelScore] = []
    if against is not None:
        before = opened(against, None)
        scores.append(judge.score(before, None))
    for name, source in named:
        model = opened(source, name)
        model = replace(model, name=_unique(model.name, [one.name for one in scores]))
        scores.append(judge.score(model, before))
    return _finish(domains, scores, bootstrap, against=before is not None)


def _named(models: Mapping[str, object] | Iterable[object]) -> list[tuple[str | None, object]]:
    if isinstance(models, str | bytes):
        raise TypeError("models must be several models; for one, give [model]")
    named: list[tuple[str | None, object]]
    if isinstance(models, Mapping):
        named = [(str(name), model) for name, model in models.items()]
    else:
        named = [(None, model) for model in models]
    if not named:
        raise errors.build(errors.InvalidValue, "there is no model", field="models")
    return named


def _unique(name: str, taken: Sequence[str]) -> str:
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name} ({number})", number + 1
    return unique


def _domains(
    texts: Mapping[str, Iterable[Text]] | Iterable[Text] | Iterable[Domain],
) -> list[Domain]:
    if isinstance(texts, str | bytes | bytearray | memoryview):
        raise TypeError("texts must be several texts; for one, give [text]")
    if isinstance(texts, Mapping):
        for name, several in texts.items():
            if isinstance(several, str | bytes | bytearray | memoryview):
                raise TypeError(f"texts of {name!r} must be several texts; for one, give [text]")
        given: list[Any] = [
            Domain(str(name), tuple(_bytes(one) for one in several))
            for name, several in texts.items()
        ]
    else:
        given = list(texts)
        if not given or not all(isinstance(one, Domain) for one in given):
            given = [Domain("text", tuple(_bytes(one) for one in given))]
    domains = [
        replace(domain, documents=tuple(one for one in domain.documents if one)) for domain in given
    ]
    for domain in domains:
        if not domain.bytes:
            raise errors.build(
                errors.InvalidValue,
                f"there is no byte to score in {domain.name!r}",
                field="texts",
                fix="leave the domain out, or give it text",
            )
    if not domains:
        raise errors.build(errors.InvalidValue, "there is no byte to score", field="texts")
    return domains


@dataclass(frozen=True)
class _Judge:
    domains: list[Domain]
    prompts: list[bytes]
    window: int | None
    stride: int | None
    batch_size: int
    bootstrap: Bootstrap
    sampling: Sampling
    progress: Report | None

    def score(self, model: LoadedModel, before: LoadedModel | None) -> ModelScore:
        """Return everything about one model but the intervals, which need its rivals' numbers."""
        window, stride = sizes_of(model.network, self.window, self.stride)
        check_first_ids(model.first_ids, window)
        vocabulary = model.tokenizer.vocabulary
        new = None if before is None else new_ids(vocabulary, before.tokenizer.vocabulary)
        domains = tuple(self._domain(model, one, window, stride, new) for one in self.domains)
        generated = None
        notes = []
        if self.prompts and not greedy_.can_generate(model.network):
            notes.append("nothing was generated: the model takes no KV cache")
        elif self.prompts:
            generated = greedy_.continue_greedily(
                model,
                self.prompts,
                new_tokens=self.sampling.new_tokens,
                new_ids=new,
                window=window,
                progress=self._step(model, "generating"),
            )
        exact = None
        if before is not None:
            exact, note = self._exactness(before, model)
            notes += [note] if note else []
        embeddings = getattr(model.network, "get_input_embeddings", lambda: None)()
        weight = getattr(embeddings, "weight", None)
        beyond = 0 if weight is None else len(vocabulary.ids_beyond(int(weight.shape[0])))
        if beyond:
            notes.append(f"{beyond} ids of the tokenizer have no row; none is in these texts")
        changed = sum(one.changed for one in domains)
        if changed:
            notes.append(
                f"{changed} of {sum(one.documents for one in domains)} documents do not come back "
                "from their tokens: what the tokenizer dropped or changed costs this model nothing"
            )
        return ModelScore(
            name=model.name,
            ids=len(vocabulary),
            new_ids=None if new is None else len(new),
            window=window,
            stride=stride,
            first_ids=model.first_ids,
            first_ids_from=model.first_ids_from,
            domains=domains,
            interval=None,
            greedy=generated,
            exactness=exact,
            notes=tuple(notes),
        )

    def _step(self, model: LoadedModel, step: str) -> Callable[[int, int], None] | None:
        report = self.progress
        if report is None:
            return None
        return lambda done, total: report(model.name, step, done, total)

    def _exactness(self, before: LoadedModel, after: LoadedModel) -> tuple[Any, str]:
        documents = [one for domain in self.domains for one in domain.documents]
        if not shared_runs(before.tokenizer, after.tokenizer, documents, count=1):
            return None, "hidden states were not compared: no two tokens in a row are shared"
        widths = [
            getattr(getattr(one.network, "config", None), "hidden_size", None)
            for one in (before, after)
        ]
        if widths[0] != widths[1]:
            return None, f"hidden states were not compared: widths {widths[0]} and {widths[1]}"
        found = exactness(
            before, after, None, documents, progress=self._step(after, "comparing hidden states")
        )
        return found, ""

    def _domain(
        self,
        model: LoadedModel,
        domain: Domain,
        window: int,
        stride: int,
        new: Any,
    ) -> DomainScore:
        started = time.perf_counter()
        scored = _score_documents(
            model, domain, window, stride, self.batch_size, self._step(model, domain.name)
        )
        seconds = time.perf_counter() - started
        tokenizer = model.tokenizer
        unknown = np.array(tokenizer.vocabulary.ids_of_role("unk"), dtype=np.uint32)
        changed = sum(
            tokenizer.decode(one.ids) != text
            for one, text in zip(scored, domain.documents, strict=True)
        )
        split = None
        if new is not None:
            split = Split(0.0, 0, 0, 0.0, 0, 0)
            for one in scored:
                split += one.split_by(new)
        return DomainScore(
            name=domain.name,
            documents=len(domain.documents),
            bytes=domain.bytes,
            left_out=domain.left_out,
            tokens=sum(len(one.ids) for one in scored),
            nats=math.fsum(np.concatenate([one.nats for one in scored])),
            seconds=seconds,
            changed=changed,
            unknown=sum(int(np.isin(one.ids, unknown).sum()) for one in scored),
            block_nats=np.concatenate([one.by_block(self.bootstrap.block) for one in scored]),
            split=split,
            interval=None,
        )


def _score_documents(
    model: LoadedModel,
    domain: Domain,
    window: int,
    stride: int,
    batch_size: int,
    progress: Callable[[int, int], None] | None,
) -> list[TokenScores]:
    before = np.array(model.first_ids, dtype=np.uint32)
    encodings = [
        model.tokenizer.encode_with_offsets(one, specials="text") for one in domain.documents
    ]
    windows = []
    owners: list[int] = []
    for i, encoding in enumerate(encodings):
        row = np.concatenate((before, encoding.ids))
        several = list(windows_of(row, len(before), window, stride))
        windows += several
        owners += [i] * len(several)
    if not windows:
        raise errors.build(
            errors.InvalidValue,
            f"the tokenizer of {model.name} makes no token of {domain.name!r}",
            field="texts",
            fix="give text that the model was made for",
        )
    nats = score_windows(model.network, windows, batch_size=batch_size, progress=progress)
    parts: list[list[Any]] = [[] for _ in encodings]
    for owner, one in zip(owners, nats, strict=True):
        parts[owner].append(one)
    return [
        TokenScores(
            encoding.ids,
            np.concatenate(mine) if mine else np.zeros(0),
            token_ends(model.tokenizer, text, encoding),
        )
        for encoding, mine, text in zip(encodings, parts, domain.documents, strict=True)
    ]


def _block_sizes(domain: Domain, size: int) -> Any:
    """Return the bytes of every block, documents one after the other, int64[blocks]."""
    sizes: list[int] = []
    for document in domain.documents:
        whole, rest = divmod(len(document), size)
        sizes += [size] * whole + ([rest] if rest else [])
    return np.array(sizes, dtype=np.int64)


def _finish(
    domains: Sequence[Domain], scores: Sequence[ModelScore], bootstrap: Bootstrap, *, against: bool
) -> Evaluation:
    """Add the intervals: all models on the same draws."""
    drawn: list[Resampled] = []
    for d, domain in enumerate(domains):
        nats = [one.domains[d].block_nats for one in scores]
        sizes = _block_sizes(domain, bootstrap.block)
        drawn.append(resample(nats, sizes, domain=domain.name, bootstrap=bootstrap))
    total = drawn[0]
    for one in drawn[1:]:
        total = total + one
    level = bootstrap.level
    finished = []
    differences = []
    for m, score in enumerate(scores):
        parts = tuple(
            replace(part, interval=drawn[d].bits_per_byte(m, level))
            for d, part in enumerate(score.domains)
        )
        finished.append(replace(score, domains=parts, interval=total.bits_per_byte(m, level)))
        if m == 0:
            continue
        for d, part in enumerate(score.domains):
            differences.append(
                Difference(
                    score.name,
                    scores[0].name,
                    part.name,
                    part.bits_per_byte - scores[0].domains[d].bits_per_byte,
                    drawn[d].difference(m, 0, level),
                )
            )
        differences.append(
            Difference(
                score.name,
                scores[0].name,
                None,
                score.bits_per_byte - scores[0].bits_per_byte,
                total.difference(m, 0, level),
            )
        )
    return Evaluation(
        models=tuple(finished),
        differences=tuple(differences),
        bootstrap=bootstrap,
        blocks=tuple(one.blocks for one in drawn),
        against=scores[0].name if against else None,
    )
