"""Turn a run into a transformers folder: `python -m anyvocab.pico.export runs/code-4k FOLDER`.

Weights in bfloat16, the tokenizer, the configurations, `metrics.json` and a card with what was
measured on the folder as it was written.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tokenizers import Tokenizer

from .card import write_card
from .data import Corpus, describe_source, load_corpus
from .measure import measure
from .model import ModelConfig, PicoLM
from .packing import MIDDLE_TOKENS, MIDDLE_WEIGHT, TESTS_SHARE, RoleIds
from .train import CHECKPOINT, TOKENIZER
from .vocab import SPECIALS, save_tokenizer

logger = logging.getLogger("anyvocab.pico.export")

MAX_BYTES = 8_000_000
LOGIT_BOUND = 1e-4  # float32: the rotary angles are rounded differently, up to 512 * eps32 each


@dataclass(frozen=True)
class Stored:
    """A finished run, read back: the weights and what the checkpoint says about them."""

    name: str
    model: PicoLM
    meta: dict[str, Any]
    tokenizer: Tokenizer


def read_run(folder: Path) -> Stored:
    """Return the run in `folder`.

    Raises:
        ValueError: The learning rate has not reached its end.
    """
    with safe_open(folder / CHECKPOINT, framework="pt") as stored:
        meta: dict[str, Any] = json.loads(stored.metadata()["pico"])
        model = PicoLM(ModelConfig(**meta["model"]))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(stored.get_tensor(f"model.{name}"))
    train, progress = meta["train"], meta["progress"]
    if train["steps"] is not None:
        finished = progress["step"] >= train["steps"]
    else:
        finished = progress["elapsed"] >= 60 * train["minutes"]
    if not finished:
        raise ValueError(f"the run in {folder} is not finished; train it to the end of its budget")
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    return Stored(meta["identity"].split(" ", 1)[0], model.eval(), meta, tokenizer)


def to_llama(stored: Stored) -> Any:
    """Return the same weights as a `LlamaForCausalLM` in float32, its logits compared.

    Raises:
        ValueError: The two forward passes differ by more than `LOGIT_BOUND`.
    """
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    shape = stored.model.config
    roles = RoleIds.of(stored.tokenizer, SPECIALS[stored.name])
    ids = {"bos_token_id": roles.bos, "eos_token_id": roles.eos, "pad_token_id": roles.pad}
    settings: dict[str, Any] = {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.dim,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.rms_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "tie_word_embeddings": shape.tied,
        **ids,
    }
    llama: Any = LlamaForCausalLM(LlamaConfig(**settings))
    llama.eval()
    llama.load_state_dict(stored.model.state_dict(), strict=True)
    generation: Any = GenerationConfig
    llama.generation_config = generation(**ids)
    generator = torch.Generator().manual_seed(0)
    probe = torch.randint(shape.vocab_size, (2, shape.context), generator=generator)
    with torch.no_grad():
        worst = float((llama(probe).logits - stored.model(probe)).abs().max())
    if worst > LOGIT_BOUND:
        raise ValueError(f"logits differ by {worst:.2e} from transformers', bound {LOGIT_BOUND}")
    logger.info("logits agree with transformers within %.1e", worst)
    return llama


def check_tokenizer(folder: Path, texts: Sequence[str]) -> None:
    """Compare what transformers reads in `folder` with the tokenizer that was trained.

    Raises:
        ValueError: Ids differ, the begin token is not first, or a text does not come back.
    """
    from transformers import AutoTokenizer

    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    loaded: Any = AutoTokenizer.from_pretrained(folder)
    for text in texts:
        ids = plain.encode(text, add_special_tokens=False).ids
        if loaded(text)["input_ids"] != [loaded.bos_token_id, *ids]:
            raise ValueError(f"AutoTokenizer gives other ids than {folder / 'tokenizer.json'}")
        if plain.decode(ids, skip_special_tokens=False) != text:
            raise ValueError(f"the tokenizer of {folder} does not give a held-out text back")


def _write_json(target: Path, value: Any) -> None:
    temporary = target.with_suffix(".tmp")
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    with temporary.open("w", encoding="utf-8") as handle:
        handle.write(text + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(target)


def export(run: Path, folder: Path, corpus: Corpus | None = None) -> dict[str, Any]:
    """Write the model of `run` into `folder` and return its metrics."""
    stored = read_run(run)
    folder.mkdir(parents=True, exist_ok=True)
    corpus = corpus if corpus is not None else load_corpus()
    llama = to_llama(stored).to(torch.bfloat16)
    llama.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):  # sorted, as every file we write
        _write_json(folder / name, json.loads((folder / name).read_text(encoding="utf-8")))
    save_tokenizer(stored.tokenizer, stored.name, stored.model.config.context, folder)
    check_tokenizer(folder, [document.text for document in corpus.held_out])
    (folder / "model.safetensors").chmod(0o644)
    size = (folder / "model.safetensors").stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"model.safetensors has {size} bytes, more than {MAX_BYTES}")
    documents = [*corpus.train, *corpus.held_out]
    metrics = {
        "format_version": 1,
        "name": stored.name,
        "parameters": sum(parameter.numel() for parameter in stored.model.parameters()),
        "weight_bytes": size,
        "model": stored.meta["model"],
        "train": stored.meta["train"],
        "progress": stored.meta["progress"],
        "packing": {
            "middle_tokens": MIDDLE_TOKENS,
            "middle_weight": MIDDLE_WEIGHT,
            "tests_share": TESTS_SHARE,
        },
        "data": {
            "source": describe_source(),
            "digest": corpus.digest(),
            "train_bytes": sum(len(document.text.encode()) for document in corpus.train),
            "train_documents": len(corpus.train),
            "all_documents": len(documents),
            "held_out_modules": sorted(document.name for document in corpus.held_out),
        },
        **measure(folder, stored.name, corpus),
    }
    _write_json(folder / "metrics.json", metrics)
    write_card(folder / "README.md", metrics)
    return metrics


def main(arguments: Sequence[str] | None = None) -> int:
    """Export one run."""
    parser = argparse.ArgumentParser(prog="anyvocab.pico.export", description=__doc__)
    parser.add_argument("run", type=Path, help="the --out folder of a finished training run")
    parser.add_argument("folder", type=Path, help="where the transformers folder goes")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    metrics = export(options.run, options.folder)
    logger.info("%s", json.dumps({k: metrics[k] for k in ("held_out", "infill")}, sort_keys=True))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
