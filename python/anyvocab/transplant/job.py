"""A swap's inputs, opened and checked before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyvocab import errors
from anyvocab.evaluate.domains import Domain, read_domains
from anyvocab.hypernet.folder import shipped
from anyvocab.tokenizer import Tokenizer
from anyvocab.transplant import chat as chat_
from anyvocab.transplant import gate
from anyvocab.transplant.build import padded_rows
from anyvocab.transplant.context import Context, Donor, Encoder, Progress
from anyvocab.transplant.overrides import parse_overrides
from anyvocab.transplant.plan import Matrix, Side
from anyvocab.transplant.roles import ControlMap, map_controls
from anyvocab.transplant.weights import Checkpoint

if TYPE_CHECKING:
    from anyvocab.transplant.chat import ChatPlan, Policy
    from anyvocab.transplant.gate import GateFinding

__all__ = ["Corpus", "Job", "model_folder", "open_job", "split_corpus"]

HELD_OUT_SHARE = 5  # every fifth part of the corpus measures, the others calibrate
PART = 4096  # bytes of a part, up to the end of its line


@dataclass(frozen=True)
class Corpus:
    """Texts of the model's use.

    Attributes:
        learn: What strategies and calibration may look at.
        judge: What bits per byte are measured on; nothing of it is in `learn`.
        origin: Where `judge` comes from, in words.
    """

    learn: tuple[bytes, ...] = ()
    judge: tuple[Domain, ...] = ()
    origin: str = ""


@dataclass(frozen=True, eq=False)
class Job:
    """Everything a swap starts from.

    Attributes:
        model: What the caller called the model.
        tokenizer: What the caller called the tokenizer.
        folder: The model's folder.
        checkpoint: Its weights, opened.
        context: What strategies may look at.
        controls: What control tokens take.
        chat: The chat templates of the new model.
        findings: What the gate found.
        corpus: The texts.
        rows: Rows of the new matrices.
    """

    model: str
    tokenizer: str
    folder: Path
    checkpoint: Checkpoint
    context: Context
    controls: ControlMap
    chat: ChatPlan
    findings: tuple[GateFinding, ...]
    corpus: Corpus
    rows: int

    @property
    def source(self) -> Tokenizer:
        """The model's own tokenizer."""
        return self.context.source

    @property
    def target(self) -> Tokenizer:
        """The tokenizer it shall have."""
        return self.context.target


def model_folder(model: str | os.PathLike[str]) -> Path:
    """Return the folder of a model: itself, an embedded model's, or the hub's copy.

    Raises:
        SourceNotFound: There is no such model.
        MissingExtra: A hub id without huggingface_hub.
    """
    from anyvocab.evaluate.models import find_folder

    return find_folder(os.fsdecode(model))


def open_job(
    model: str | os.PathLike[str],
    tokenizer: object,
    *,
    donor: str | os.PathLike[str] | None = None,
    corpus: Iterable[str | os.PathLike[str] | bytes] = (),
    judge: Iterable[str | os.PathLike[str] | bytes] = (),
    map: Mapping[str, str] | Sequence[str] = (),
    chat: Policy | None = None,
    pad_multiple: int = 1,
    force: bool = False,
    encoder: Encoder | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Job:
    """Return a swap's inputs; arguments as for :func:`anyvocab.swap`.

    Raises:
        AnyvocabError: Whatever is wrong with one of them, before anything is computed.
    """
    folder = model_folder(model)
    checkpoint = Checkpoint.open(folder)
    source, target = Tokenizer.load(folder), Tokenizer.load(tokenizer)
    rows = padded_rows(len(target.vocabulary), pad_multiple)
    texts = split_corpus(corpus, judge)
    donated = None if donor is None else _donor(donor, target)
    findings = gate.check(
        source,
        target,
        source_rows=checkpoint.rows,
        target_rows=rows,
        context=_window(checkpoint.config),
        texts=[one[: 1 << 16] for one in texts.learn[:64]],
    )
    gate.enforce(findings, force=force)
    given = map if isinstance(map, Mapping) else parse_overrides(map, target)
    controls = map_controls(source, target, given, source_rows=checkpoint.rows)
    matrices: dict[Side, Matrix] = {"input": checkpoint.matrix("input")}
    headless = checkpoint.tied or checkpoint.find("output") is None
    matrices["output"] = matrices["input"] if headless else checkpoint.matrix("output")
    others: dict[str, Any] = {} if progress is None else {"progress": progress}
    if checkpoint.find("bias") is not None:
        others["bias"] = checkpoint.matrix("bias")
    context = Context.of(
        source,
        target,
        matrices,
        donor=donated,
        corpus=texts.learn,
        encoder=encoder,
        model=_once(lambda: _load(folder)),
        seed=seed,
        hypernet=shipped(folder),
        **others,
    )
    return Job(
        os.fsdecode(model),
        _name(tokenizer),
        folder,
        checkpoint,
        context,
        controls,
        chat_.plan_chat(source, target, controls, chat),
        tuple(findings),
        texts,
        rows,
    )


def _once(load: Callable[[], Any]) -> Callable[[], Any]:
    held: list[Any] = []

    def get() -> Any:
        if not held:
            held.append(load())
        return held[0]

    return get


def _load(folder: Path) -> Any:
    from anyvocab.evaluate.models import load_model

    return load_model(folder)


def _donor(donor: str | os.PathLike[str], target: Tokenizer) -> Donor:
    folder = model_folder(donor)
    checkpoint = Checkpoint.open(folder)
    matrices: dict[Side, Matrix] = {"input": checkpoint.matrix("input")}
    headless = checkpoint.tied or checkpoint.find("output") is None
    matrices["output"] = matrices["input"] if headless else checkpoint.matrix("output")
    return Donor.of(Tokenizer.load(folder), target, matrices)


def _name(source: object) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    return getattr(source, "name_or_path", "") or type(source).__name__


def _window(config: Mapping[str, Any]) -> int | None:
    inner = config.get("text_config")
    for level in (inner, config) if isinstance(inner, Mapping) else (config,):
        for name in ("max_position_embeddings", "n_positions", "n_ctx", "seq_length"):
            found = level.get(name)
            if isinstance(found, int) and found > 0:
                return found
    return None


def split_corpus(
    corpus: Iterable[str | os.PathLike[str] | bytes],
    judge: Iterable[str | os.PathLike[str] | bytes] = (),
) -> Corpus:
    """Return texts to learn from and texts to judge by, which share nothing.

    Without texts to judge by, every fifth part of the corpus (the last of fewer) is kept for that:
    a part is a document, or about `PART` bytes of a long one, up to the end of a line.

    Args:
        corpus: Files and folders, as :func:`anyvocab.evaluate.read_domains` takes them; bytes are a
            text themselves.
        judge: The same, for texts that only measure.
    """
    learn, held = _domains(corpus), _domains(judge)
    if held:
        texts = tuple(text for domain in learn for text in domain.documents)
        return Corpus(texts, tuple(held), "texts that were given to judge by")
    kept: list[bytes] = []
    judging: list[Domain] = []
    number = 0
    for domain in learn:
        hidden: list[bytes] = []
        for document in domain.documents:
            for part in _parts(document):
                number += 1
                (hidden if number % HELD_OUT_SHARE == 0 else kept).append(part)
        if hidden:
            judging.append(Domain(domain.name, tuple(hidden)))
    if not judging and len(kept) > 1:
        last = Domain(learn[-1].name, (kept.pop(),))
        return Corpus(tuple(kept), (last,), "the last part of the corpus")
    if not judging:
        return Corpus(tuple(kept), (), "")
    return Corpus(tuple(kept), tuple(judging), f"every {HELD_OUT_SHARE}th part of the corpus")


def _domains(places: Iterable[str | os.PathLike[str] | bytes]) -> list[Domain]:
    if isinstance(places, str | bytes | os.PathLike):
        raise errors.build(
            errors.InvalidValue,
            "one value where several belong",
            field="corpus",
            fix="give a list: corpus=[path]",
        )
    texts, files = [], []
    for one in places:
        if isinstance(one, bytes):
            texts.append(one)
        else:
            files.append(one)
    found = read_domains(files) if files else []
    return [*found, Domain("corpus", tuple(text for text in texts if text))] if texts else found


def _parts(document: bytes) -> Iterable[bytes]:
    start = 0
    while start < len(document):
        end = document.find(b"\n", min(len(document), start + PART))
        end = len(document) if end < 0 else end + 1
        yield document[start:end]
        start = end
