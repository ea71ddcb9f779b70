"""Models to be judged: found, loaded without running anything of theirs, tied to a tokenizer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from anyvocab import errors
from anyvocab._source import read_json
from anyvocab._torch import import_torch, on_device
from anyvocab.tokenizer import Tokenizer

__all__ = [
    "DTYPES",
    "KINDS",
    "LoadedModel",
    "ModelKind",
    "find_folder",
    "first_ids_of",
    "load_model",
    "model_kind",
    "open_model",
]

DTYPES = ("float32", "bfloat16", "float16")
ModelKind = Literal["causal", "encoder-decoder", "encoder"]
KINDS: Final[tuple[ModelKind, ...]] = ("causal", "encoder-decoder", "encoder")
# Ends of the names of classes that read a text in both directions.
_ENCODERS = (
    "ForMaskedLM",
    "ForPreTraining",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)
_BIDIRECTIONAL = frozenset(
    {
        "albert",
        "bert",
        "camembert",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "eurobert",
        "modernbert",
        "mpnet",
        "nomic_bert",
        "roberta",
        "xlm-roberta",
        "xlm-roberta-xl",
    }
)
_HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.tiktoken", "*.jinja")
_NAMES_SHOWN = 3


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A causal language model and the tokenizer that it is judged with.

    Attributes:
        name: What results call it.
        network: The model, as transformers makes it, in evaluation mode.
        tokenizer: Its tokenizer.
        first_ids: What stands before every text.
        first_ids_from: Who says so: `post-processor`, `bos`, `eos`, `caller`; empty for nobody.
    """

    name: str
    network: Any
    tokenizer: Tokenizer
    first_ids: tuple[int, ...]
    first_ids_from: str


def open_model(
    source: object,
    *,
    name: str | None = None,
    tokenizer: object = None,
    first_ids: Sequence[int] | None = None,
    device: str | None = None,
    dtype: str = "float32",
) -> LoadedModel:
    """Return the model of `source` with its tokenizer.

    Args:
        source: A folder, a hub id, `pico:NAME`, a transformers model, or a loaded one.
        name: What results call it; the last part of its path when left out.
        tokenizer: Anything :meth:`anyvocab.Tokenizer.load` takes; the model's own when left out.
        first_ids: The ids before a text. When left out: what the tokenizer's post-processor puts
            there, else the `bos` id, else the `eos` id.
        device: Where it runs (`cuda`); on the CPU when left out.
        dtype: One of `DTYPES`.

    Raises:
        InvalidValue: A model object without a tokenizer.
        SourceNotFound: There is no such model, or it has no weights.
        MissingExtra: torch or transformers is not installed.
    """
    if isinstance(source, LoadedModel):
        if first_ids is not None:
            chosen = tuple(int(id) for id in first_ids)
            source = replace(source, first_ids=chosen, first_ids_from="caller")
        if tokenizer is not None:
            source = replace(source, tokenizer=Tokenizer.load(tokenizer))
        return source if name is None else replace(source, name=name)
    place = os.fsdecode(source) if isinstance(source, str | os.PathLike) else None
    if tokenizer is None and place is None:
        raise errors.build(
            errors.InvalidValue,
            "a model object does not say which tokenizer it has",
            field="tokenizer",
            fix="give tokenizer=, or the model's folder instead of the model",
        )
    loaded = Tokenizer.load(place if tokenizer is None else tokenizer)
    network = source if place is None else load_model(place, device=device, dtype=dtype)
    if name is None:
        name = type(source).__name__ if place is None else _label(place)
    if first_ids is None:
        found, origin = first_ids_of(loaded)
    else:
        found, origin = [int(id) for id in first_ids], "caller"
    return LoadedModel(name, network, loaded, tuple(found), origin)


def _label(place: str) -> str:
    """Return a short name: the last part of a path, other sources as they are."""
    return Path(place).resolve().name if Path(place).exists() else place


def first_ids_of(tokenizer: Tokenizer) -> tuple[list[int], str]:
    """Return the ids that stand before a text, and who says so; empty when nobody does."""
    plain: list[int] = tokenizer.encode("a").tolist()
    full: list[int] = tokenizer.encode("a", add_special_tokens=True).tolist()
    for at in range(1, len(full) - len(plain) + 1):
        if full[at : at + len(plain)] == plain:
            return full[:at], "post-processor"
    roles = tokenizer.vocabulary.roles
    for role in ("bos", "eos"):
        if roles.ids(role):
            return [roles.ids(role)[0]], role
    return [], ""


def model_kind(config: Mapping[str, Any]) -> ModelKind:
    """Return what a model does with a text, by what its config.json says of its class.

    `causal`: it predicts every token from those before it, and bits per byte are defined;
    `encoder-decoder` and `encoder`: it does not. A class that says nothing counts as causal.

    >>> model_kind({"architectures": ["BertForMaskedLM"]})
    'encoder'
    """
    if config.get("is_encoder_decoder"):
        return "encoder-decoder"
    if config.get("is_decoder"):
        return "causal"
    named = config.get("architectures")
    names = [str(name) for name in named] if isinstance(named, list) else []
    # BertModel has no head: GPT2Model has none either, but its input matrix is one.
    bare = config.get("model_type") in _BIDIRECTIONAL
    if names and all(name.endswith(_ENCODERS) or bare for name in names):
        return "encoder"
    return "causal"


def load_model(
    source: str | os.PathLike[str],
    *,
    device: str | None = None,
    dtype: str = "float32",
    kinds: Sequence[ModelKind] = ("causal",),
) -> Any:
    """Return the language model of a folder, a hub id or `pico:NAME`, for evaluation.

    Only safetensors weights are read, and no code of the folder's is run.

    Args:
        source: Where it is.
        device: Where it runs (`cuda`); on the CPU when left out.
        dtype: One of `DTYPES`; what the weights are converted to.
        kinds: What kinds of model will do; others are refused, since transformers would load BERT
            as a causal model that sees what it shall predict.

    Raises:
        SourceNotFound: There is no model, or it has no weights.
        InvalidValue: `dtype` or `device` is unknown, the model is of another kind, or weights that
            it needs are missing: transformers would fill them with random numbers.
        MissingExtra: torch or transformers is not installed.
    """
    text = os.fsdecode(source)
    if dtype not in DTYPES:
        raise errors.build(
            errors.InvalidValue, f"{dtype!r} is no choice", field="dtype", fix=", ".join(DTYPES)
        )
    folder = find_folder(text)
    config = read_json(folder / "config.json")
    kind = model_kind(config)
    if kind not in kinds:
        raise errors.build(
            errors.InvalidValue,
            f"is an {kind} model: it does not predict a text token by token",
            field="model",
            file=text,
            fix="give a causal language model",
        )
    torch = import_torch()
    try:
        from transformers.utils import logging as transformers_logging

        loader = _loader(config, kind)
    except ImportError as error:
        found = "transformers is needed to load a model"
        raise errors.missing_extra(found, field="model") from error
    had_bar = transformers_logging.is_progress_bar_enabled()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()  # library code prints nothing
    transformers_logging.set_verbosity_error()  # what it would warn of is an error below
    try:
        model, info = loader.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError) as error:
        raise errors.build(
            errors.SourceNotFound,
            f"transformers cannot load it: {str(error).strip().partition(chr(10))[0]}",
            field="model",
            file=text,
            fix="check the folder with `anyvocab doctor`",
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bar:
            transformers_logging.enable_progress_bar()
    missing = sorted(str(name) for name in info.get("missing_keys", ()))
    if missing:
        more = f" and {len(missing) - _NAMES_SHOWN} more" if len(missing) > _NAMES_SHOWN else ""
        raise errors.build(
            errors.InvalidValue,
            f"its weights lack {', '.join(missing[:_NAMES_SHOWN])}{more}",
            field="model",
            file=text,
            fix="download or write the model again: random numbers would stand there",
        )
    return on_device(model.eval(), device)


def _loader(config: Mapping[str, Any], kind: ModelKind) -> Any:
    """Return the class of transformers that loads a model: the one it was saved from, if known."""
    import transformers

    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else ""
    plain = kind == "causal" and not name.endswith("ForConditionalGeneration")
    found = None if plain else getattr(transformers, name, None)
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        return found
    return {
        "causal": transformers.AutoModelForCausalLM,
        "encoder-decoder": transformers.AutoModelForSeq2SeqLM,
        "encoder": transformers.AutoModelForMaskedLM,
    }[kind]


def find_folder(text: str) -> Path:
    """Return the folder of a model that is given by path, hub id or `pico:NAME`.

    Raises:
        SourceNotFound: There is none, or it has no config.json.
        MissingExtra: A hub id without huggingface_hub.
    """
    from anyvocab._source import _HUB_ID

    folder = _pico_folder(text) if text.startswith("pico:") else Path(text)
    if not folder.exists() and _HUB_ID.fullmatch(text) and not text.startswith("."):
        folder = _hub_folder(text)
    if not (folder / "config.json").is_file():
        found = "it has no config.json" if folder.exists() else "there is no such path"
        raise errors.build(
            errors.SourceNotFound,
            f"is no model folder: {found}",
            field="model",
            file=text,
            fix="give a folder as transformers saves it, or `pico:code-4k`",
        )
    return folder


def _pico_folder(text: str) -> Path:
    from anyvocab.pico import names, path

    try:
        return path(text.removeprefix("pico:"))
    except (ValueError, FileNotFoundError) as error:
        raise errors.build(
            errors.SourceNotFound,
            str(error),
            field="model",
            fix="embedded models are " + ", ".join(f"pico:{name}" for name in names()),
        ) from error


def _hub_folder(repository: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise errors.missing_extra(
            f"{repository!r} is no local path, and huggingface_hub is not installed",
            field="model",
            otherwise=", or give a local folder",
        ) from error
    try:
        return Path(snapshot_download(repository, allow_patterns=list(_HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "")
        state = f" (HF_HUB_OFFLINE={offline})" if offline else ""
        raise errors.build(
            errors.SourceNotFound,
            f"{repository!r} is no local path, and the hub did not give it{state}: "
            f"{str(error).strip().partition(chr(10))[0]}",
            field="model",
            fix="check the id and the network; offline, give a local folder or a cached id",
        ) from error
