"""Models and texts for the byte-level bench: real vocabularies, random weights, real text."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from anyvocab.testing import byte_alphabet

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(os.environ.get("ANYVOCAB_FIXTURES", ROOT.parent / "shared" / "fixtures"))
SMALL, LARGE = 32_000, 128_000  # tokens of text: the first ranks of cl100k, all of Llama 3
SPREAD = 15.0  # of the last norm: logits with a standard deviation of about 2.4 nats
SPECIAL = "<|endoftext|>"
TOY_TEXT = b"the cat sat on the mat, the rat ate the cat; that's the thing. "


def write_tokenizer(folder: Path, size: int) -> None:
    """Write a byte-level BPE of `size` tokens with Llama 3's pattern, and one control token."""
    document = json.loads((FIXTURES / "tokenizers" / "llama3" / "tokenizer.json").read_bytes())
    if size == SMALL:
        document["model"] |= small_bpe(size)
    else:
        vocab = document["model"]["vocab"]
        document["model"]["vocab"] = {token: id for token, id in vocab.items() if id < size}
    write_document(folder, document, size)


def write_document(folder: Path, document: dict[str, Any], size: int) -> None:
    """Write a tokenizer with the control token behind its `size` tokens."""
    like = document["added_tokens"][0]
    document["added_tokens"] = [like | {"id": size, "content": SPECIAL}]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(document))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL,
        "eos_token": SPECIAL,
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def small_bpe(size: int) -> dict[str, Any]:
    """Return the vocabulary and merges of cl100k's first ranks."""
    import base64

    lines = (FIXTURES / "tiktoken" / "cl100k_base.tiktoken").read_bytes().splitlines()[:size]
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    letters = byte_alphabet()

    def spelled(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = []
    for token, rank in ranks.items():
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            at = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], rank))
            if ranks.get(parts[at] + parts[at + 1], rank) >= rank:
                raise ValueError(f"token {rank} is not made of two earlier ones")
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            merges.append([spelled(part) for part in parts])
    vocab = {spelled(token): rank for token, rank in ranks.items()}
    return {"vocab": vocab, "merges": merges, "ignore_merges": False}


def write_toy(folder: Path) -> None:
    """Write a byte-level BPE of 256 bytes and a few dozen merges learnt from one sentence."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=290, initial_alphabet=byte_alphabet(), show_progress=False
    )
    tok.train_from_iterator([TOY_TEXT.decode() * 4], trainer)
    document = json.loads(tok.to_str())
    pattern = json.loads((FIXTURES / "tokenizers" / "llama3" / "tokenizer.json").read_bytes())
    document["pre_tokenizer"] = pattern["pre_tokenizer"]
    document["decoder"] = pattern["decoder"]
    document["added_tokens"] = pattern["added_tokens"][:1]
    write_document(folder, document, len(document["model"]["vocab"]))


def write_model(folder: Path, *, layers: int = 2, width: int = 64, heads: int = 4) -> None:
    """Write a GPT-2 with random weights (seed 0) for the tokenizer in `folder`, float32."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    document = json.loads((folder / "tokenizer.json").read_bytes())
    (special,) = document["added_tokens"]
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=special["id"] + 1,
        n_positions=1024,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        # Tied matrices would make every token's likeliest successor itself.
        tie_word_embeddings=False,
        bos_token_id=special["id"],
        eos_token_id=special["id"],
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.ln_f.weight.fill_(SPREAD * 8 / width**0.5)
    model.save_pretrained(folder)


def texts(size: int) -> dict[str, bytes]:
    """Return English and Python, `size` bytes each, from the middle of a book and of a module."""
    book = (FIXTURES / "text" / "books" / "sherlock_en.txt").read_bytes()
    module = (Path(os.__file__).parent / "argparse.py").read_bytes()
    return {
        name: data[at : at + size].decode("utf-8", "ignore").encode()
        for name, data, at in (("English", book, 20_000), ("Python", module, 30_000))
    }


def snippets(count: int, seed: int = 0) -> list[bytes]:
    """Return `count` snippets of 80 to 120 bytes, half English and half Python, cut anywhere."""
    import random

    generator = random.Random(seed)
    book = (FIXTURES / "text" / "books" / "sherlock_en.txt").read_bytes()
    module = (Path(os.__file__).parent / "argparse.py").read_bytes()
    found = []
    for number in range(count):
        data = (book, module)[number % 2]
        at = generator.randrange(len(data) - 120)
        found.append(data[at : at + generator.randint(80, 120)].decode("utf-8", "ignore").encode())
    return found
