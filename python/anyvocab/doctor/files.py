"""The files of a folder: what is missing, what contradicts, what must not be loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from anyvocab import Tokenizer, errors
from anyvocab.doctor.behaviour import CORPUS
from anyvocab.doctor.registry import Finding, Patient, check
from anyvocab.doctor.weights import INDEX, SINGLE
from anyvocab.report.sample import SAMPLE

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
STOCK_CLASS = "PreTrainedTokenizerFast"


def _is_model(folder: Path | None) -> bool:
    return folder is not None and (folder / "config.json").is_file()


@check
def files_are_there(patient: Patient) -> Iterator[Finding]:
    """A model folder has its configurations, a tokenizer.json and weights."""
    folder, model = patient.folder, patient.model
    if folder is not None and not (folder / "tokenizer.json").is_file():
        yield Finding(
            "files_are_there",
            "info",
            "tokenizer.json",
            f"missing; the tokenizer is read from {patient.tokenizer.format}",
            "save it once with `Tokenizer.save`, and every tool reads the same ids",
        )
    if folder is not None and not (folder / "tokenizer_config.json").is_file():
        yield Finding(
            "files_are_there",
            "info",
            "tokenizer_config.json",
            "missing: transformers does not know its roles",
            "save the tokenizer once with `Tokenizer.save`",
        )
    if model is None or not _is_model(model):
        return
    if not (model / "generation_config.json").is_file():
        yield Finding(
            "files_are_there",
            "info",
            "generation_config.json",
            "missing: generation ends where config.json says",
        )
    if not (model / SINGLE).is_file() and not (model / INDEX).is_file():
        yield Finding(
            "files_are_there",
            "warning",
            SINGLE,
            "no safetensors weights: the rows of the matrices are taken from config.json",
        )


@check
def class_is_stock(patient: Patient) -> Iterator[Finding]:
    """tokenizer_config.json names a class that other tools know, and no code of its own."""
    config = patient.declarations.tokenizer_config
    name = config.get("tokenizer_class")
    if name == "TokenizersBackend":
        yield Finding(
            "class_is_stock",
            "warning",
            "tokenizer_config.json: tokenizer_class",
            f"{name} is known to the newest transformers only",
            f'write "{STOCK_CLASS}"',
        )
    if config.get("auto_map"):
        yield Finding(
            "class_is_stock",
            "warning",
            "tokenizer_config.json: auto_map",
            "asks transformers to run code from the folder; anyvocab never does",
            f"remove it and write tokenizer_class {STOCK_CLASS!r}, if tokenizer.json says it all",
        )


@check
def weights_are_no_pickles(patient: Patient) -> Iterator[Finding]:
    """Weights are safetensors: a pickle can run code when it is loaded."""
    if patient.model is None:
        return
    found = sorted({path.name for one in _PICKLES for path in patient.model.glob(one)})
    found = [name for name in found if name != "training_args.bin"]
    if found:
        yield Finding(
            "weights_are_no_pickles",
            "warning",
            ", ".join(found[:4]) + (" ..." if len(found) > 4 else ""),
            f"{len(found)} files may be pickles, which run code when they are loaded",
            "convert them to safetensors; anyvocab does not open them",
        )


@check
def twins_agree(patient: Patient) -> Iterator[Finding]:
    """tokenizer.json and a SentencePiece model beside it give the same ids."""
    if patient.folder is None or patient.tokenizer.format != "tokenizer.json":
        return
    for name in _SENTENCEPIECE:
        path = patient.folder / name
        if path.is_file() and (patient.folder / "tokenizer.json").is_file():
            yield from _compare(patient, path)


def _compare(patient: Patient, path: Path) -> Iterator[Finding]:
    try:
        other = Tokenizer.load(path)
    except (errors.AnyvocabError, OSError) as error:
        yield Finding(
            "twins_agree",
            "warning",
            path.name,
            f"cannot be compared with tokenizer.json: {error}",
            "remove the one that is not used: some tools read it first",
        )
        return
    own = patient.tokenizer
    differ = [
        name
        for name, text in CORPUS.items()
        if own.encode(text, specials="text").tolist()
        != other.encode(text, specials="text").tolist()
    ]
    if differ:
        plain = any(name in SAMPLE for name in differ)  # not only runs of spaces, line ends, ...
        yield Finding(
            "twins_agree",
            "error" if plain else "warning",
            f"tokenizer.json and {path.name}",
            f"give other ids for {len(differ)} of {len(CORPUS)} probe texts: "
            + ", ".join(differ[:6])
            + (" ..." if len(differ) > 6 else ""),
            "keep the one that the model was trained with and remove the other",
        )
