"""The two tokenizers: a byte-level BPE with a modern regex, a SentencePiece-style BPE.

Both are stock `tokenizer.json` files. As saved they put the begin token before a text, which is
what the models saw in training; `add_special_tokens=False` leaves it out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    normalizers,
    pre_tokenizers,
    processors,
)
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPACE = "▁"
# A training-time cut only: a piece is a run of spaces (two and more), of tabs or of newlines, or a
# word with the one space before it; letters, digits and the rest do not mix. The finished
# tokenizer has no pretokenizer: this shapes which merges exist, not how they are applied.
SENTENCEPIECE_TRAINING_CUT = (
    r"▁{2,}|\t+|\n+|\r+|▁?[\p{L}_][\p{L}\p{N}_]*|▁?\p{N}|▁?[^\s▁\p{L}\p{N}_]+|▁"
)


@dataclass(frozen=True)
class Specials:
    """The control tokens of one model. `bos` starts a document, `eos` ends it."""

    bos: str
    eos: str
    pad: str
    fim_prefix: str
    fim_suffix: str
    fim_middle: str
    fim_pad: str
    unk: str | None = None


SPECIALS = {
    "code-4k": Specials(
        bos="<|endoftext|>",
        eos="<|endoftext|>",
        pad="<|endoftext|>",
        fim_prefix="<|fim_prefix|>",
        fim_suffix="<|fim_suffix|>",
        fim_middle="<|fim_middle|>",
        fim_pad="<|fim_pad|>",
    ),
    "code-2k": Specials(
        bos="<s>",
        eos="</s>",
        pad="</s>",
        fim_prefix="<fim_prefix>",
        fim_suffix="<fim_suffix>",
        fim_middle="<fim_middle>",
        fim_pad="<fim_pad>",
        unk="<unk>",
    ),
}


def _added(contents: Iterable[str]) -> list[AddedToken]:
    return [AddedToken(content, special=True, normalized=False) for content in contents]


def train_byte_level(texts: Iterable[str], size: int) -> Tokenizer:
    """Return a byte-level BPE of exactly `size` ids, the five special tokens last."""
    names = SPECIALS["code-4k"]
    extra = [names.eos, names.fim_prefix, names.fim_suffix, names.fim_middle, names.fim_pad]
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=size - len(extra),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(_added(extra))
    return _checked(tokenizer, size)


def train_sentencepiece_style(texts: Iterable[str], size: int) -> Tokenizer:
    """Return a BPE with byte fallback of exactly `size` ids, without dummy prefix.

    Ids 0, 1, 2 are unknown, begin and end; 3 to 258 are the bytes; then pieces; the four
    fill-in-the-middle tokens are last. Newline and tab are ordinary pieces.
    """
    names = SPECIALS["code-2k"]
    extra = [names.fim_prefix, names.fim_suffix, names.fim_middle, names.fim_pad]
    head = [str(names.unk), names.bos, names.eos, *(f"<0x{byte:02X}>" for byte in range(256))]
    learner = Tokenizer(BPE())
    learner.normalizer = normalizers.Replace(" ", SPACE)
    learner.pre_tokenizer = pre_tokenizers.Split(
        Regex(SENTENCEPIECE_TRAINING_CUT), behavior="isolated"
    )
    ascii_alphabet = [chr(code) for code in (9, 10, *range(33, 127))]
    trainer = BpeTrainer(
        vocab_size=size - len(head) - len(extra),
        initial_alphabet=[SPACE, *ascii_alphabet],
        limit_alphabet=1 + len(ascii_alphabet),
        max_token_length=16,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    pieces = sorted(learned["vocab"], key=lambda piece: int(learned["vocab"][piece]))
    merges = [(left, right) for left, right in learned["merges"]]
    vocab = {piece: index for index, piece in enumerate([*head, *pieces])}
    tokenizer = Tokenizer(
        BPE(vocab=vocab, merges=merges, unk_token=names.unk, fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(_added(head[:3]))
    tokenizer.add_special_tokens(_added(extra))
    return _checked(tokenizer, size)


def _checked(tokenizer: Tokenizer, size: int) -> Tokenizer:
    got = tokenizer.get_vocab_size(with_added_tokens=True)
    if got != size:
        raise ValueError(f"the corpus gave {got} ids, not {size}; train on more text")
    return tokenizer


def train_tokenizer(name: str, texts: Iterable[str], size: int) -> Tokenizer:
    """Return the tokenizer of the model `name`, trained on `texts`."""
    if name == "code-4k":
        return train_byte_level(texts, size)
    if name == "code-2k":
        return train_sentencepiece_style(texts, size)
    raise ValueError(f"unknown model {name!r}; the models are {', '.join(sorted(SPECIALS))}")


def save_tokenizer(tokenizer: Tokenizer, name: str, context: int, folder: Path) -> None:
    """Write `tokenizer.json` and a `tokenizer_config.json` that transformers reads as it is."""
    names = SPECIALS[name]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{names.bos} $A",
        pair=f"{names.bos} $A {names.bos}:1 $B:1",
        special_tokens=[(names.bos, tokenizer.token_to_id(names.bos))],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {
        "add_prefix_space": False,
        "bos_token": names.bos,
        "clean_up_tokenization_spaces": False,
        "eos_token": names.eos,
        "extra_special_tokens": {
            "fim_prefix_token": names.fim_prefix,
            "fim_suffix_token": names.fim_suffix,
            "fim_middle_token": names.fim_middle,
            "fim_pad_token": names.fim_pad,
        },
        "model_max_length": context,
        "pad_token": names.pad,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    if names.unk is not None:
        config["unk_token"] = names.unk
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
