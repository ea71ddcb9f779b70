"""What tensors with a row for every id are called in the architectures that are in use.

A name is judged by its last parts, so that prefixes (`model.`, `language_model.model.`) do not
matter. Strong names always stand for a vocabulary; weak ones are used for other things as well and
count only where their shape has the vocabulary's size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Guess", "Side", "guess", "hint", "is_secondary", "packed_module", "pattern_of"]

Side = Literal["input", "output", "bias"]

_STRONG: Final[dict[str, Side]] = {
    "embed_in.weight": "input",  # GPT-NeoX
    "embed_tokens.weight": "input",  # Llama, Mistral, Qwen, Gemma, OPT, Phi, BART
    "shared.weight": "input",  # T5, mT5, BART
    "tok_embeddings.weight": "input",  # ModernBERT, InternLM2
    "word_embedding.weight": "input",  # XLNet
    "word_embeddings.weight": "input",  # BLOOM, Falcon, BERT and its kin, ChatGLM
    "wte.weight": "input",  # GPT-2, GPT-J, MPT
    "cls.predictions.bias": "bias",
    "cls.predictions.decoder.bias": "bias",
    "cls.predictions.decoder.weight": "output",  # BERT
    "embed_out.bias": "bias",
    "embed_out.weight": "output",  # GPT-NeoX
    "final_logits_bias": "bias",  # BART, Marian, Pegasus: (1, V)
    "generator_lm_head.bias": "bias",
    "generator_lm_head.weight": "output",  # ELECTRA
    "lm_head.bias": "bias",  # Phi, GPT-J, RoBERTa
    "lm_head.decoder.bias": "bias",
    "lm_head.decoder.weight": "output",  # RoBERTa
    "lm_head.linear.bias": "bias",
    "lm_head.linear.weight": "output",
    "lm_head.weight": "output",
    "lm_loss.bias": "bias",
    "lm_loss.weight": "output",  # XLNet
    "pred_layer.proj.bias": "bias",
    "pred_layer.proj.weight": "output",  # XLM
    "shared_head.head.weight": "output",  # multi-token prediction
    "vocab_projector.bias": "bias",
    "vocab_projector.weight": "output",  # DistilBERT
}
_WEAK: Final[dict[str, Side]] = {
    "decoder.bias": "bias",
    "decoder.weight": "output",  # ModernBERT
    "embed.weight": "input",
    "embedding.weight": "input",
    "embeddings.weight": "input",  # Mamba, RWKV, XLM
    "head.bias": "bias",
    "head.weight": "output",  # RWKV
    "output.bias": "bias",
    "output.weight": "output",  # InternLM2
    "output_layer.bias": "bias",
    "output_layer.weight": "output",  # ChatGLM
    "output_projection.weight": "output",
    "predictions.bias": "bias",  # ALBERT
    "predictions.decoder.bias": "bias",
    "predictions.decoder.weight": "output",
    "token_embedding.weight": "input",  # CLIP's text model
    "token_embeddings.weight": "input",
    "unembed.weight": "output",
}
_PER_LAYER = "embed_tokens_per_layer.weight"  # Gemma 3n: a vocabulary size of its own
_LONGEST = 3  # parts of the longest name above

# What quantisers put in a module in place of its weight, or beside it.
_PACKED = frozenset(
    {
        "SCB",
        "absmax",
        "g_idx",
        "input_scale",
        "nested_absmax",
        "quant_map",
        "qweight",
        "qzeros",
        "scales",
        "weight_blocks",
        "weight_format",
        "weight_packed",
        "weight_scale",
        "weight_scale_2",
        "weight_scale_inv",
        "weight_scales",
        "weight_shape",
        "weight_zero_point",
        "zeros",
    }
)
_INPUT_HINT = re.compile(r"(?<!un)emb|wte|tok", re.IGNORECASE)
_OUTPUT_HINT = re.compile(r"head|out|logit|unembed|predict|project|\blm", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![^.])[0-9]+(?![^.])")


@dataclass(frozen=True)
class Guess:
    """What a name says.

    Attributes:
        side: The side the tensor belongs to.
        certain: The name is used for nothing but vocabularies.
        per_layer: The tensor has a vocabulary size of its own (Gemma 3n).
    """

    side: Side
    certain: bool
    per_layer: bool = False


def guess(name: str) -> Guess | None:
    """Return what a tensor's name says; None when it says nothing.

    >>> guess("language_model.model.embed_tokens.weight").side
    'input'
    >>> guess("model.layers.0.mlp.up_proj.weight")
    """
    parts = name.split(".")
    for count in range(min(_LONGEST, len(parts)), 0, -1):
        tail = ".".join(parts[-count:])
        if tail == _PER_LAYER:
            return Guess("input", certain=True, per_layer=True)
        if tail in _STRONG:
            return Guess(_STRONG[tail], certain=True)
        if tail in _WEAK:
            return Guess(_WEAK[tail], certain=False)
    return None


def hint(name: str) -> Side | None:
    """Return the side that the words of an unknown name speak for; None when they are no help."""
    if name.rpartition(".")[2] == "bias":
        return "bias"
    into, out = bool(_INPUT_HINT.search(name)), bool(_OUTPUT_HINT.search(name))
    if into == out:
        return None
    return "input" if into else "output"


def packed_module(name: str) -> str | None:
    """Return the vocabulary matrix that a quantiser's tensor belongs to, or None.

    >>> packed_module("lm_head.qweight")
    'lm_head.weight'
    """
    module, _, last = name.rpartition(".")
    if last not in _PACKED:
        return None
    weight = module if module.endswith(".weight") else f"{module}.weight"
    found = guess(weight)
    return weight if found is not None and found.certain else None


def pattern_of(name: str) -> str:
    """Return a name with its layer numbers left out: equal for the same tensor of every layer."""
    return _NUMBER.sub("#", name)


def is_secondary(name: str) -> bool:
    """Whether a name lies in a numbered layer or in a multi-token-prediction module."""
    return pattern_of(name) != name or any(
        part.startswith(("mtp", "nextn")) for part in name.split(".")
    )
