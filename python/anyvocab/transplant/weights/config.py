"""What a model's config.json says of its vocabulary, its ties and its number formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ModelFacts", "read_facts"]

# Where models of several parts keep the configuration of their language model.
_NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
_WIDTHS = (
    "hidden_size",
    "d_model",
    "n_embd",
    "dim",
    "emb_dim",
    "embedding_size",
    "word_embed_proj_dim",
)
_DEPTH = 4


@dataclass(frozen=True)
class ModelFacts:
    """What a configuration says.

    Attributes:
        vocab_size: Rows of the vocabulary matrices; None when nothing is said.
        vocab_field: Where that is said.
        per_layer_size: Rows of the per-layer embeddings (Gemma 3n); None when there are none.
        ties: What is said of tying, with where it is said.
        quantisation: The method of a quantised model; None when it is none.
        remote_code: The model names code of its own, which is never run.
        widths: The widths a row may have.
        numbers: Sizes of other things: an axis of one of these may be that thing.
    """

    vocab_size: int | None
    vocab_field: str
    per_layer_size: int | None
    ties: tuple[tuple[str, bool], ...]
    quantisation: str | None
    remote_code: bool
    widths: frozenset[int]
    numbers: frozenset[int]


def read_facts(config: Mapping[str, Any]) -> ModelFacts:
    """Return what matters here of the contents of a config.json."""
    scopes = list(_scopes(config))
    size, field = None, "vocab_size"
    per_layer = None
    for prefix, scope in scopes:  # the innermost speaks last
        if _is_count(scope.get("vocab_size")):
            size, field = scope["vocab_size"], f"{prefix}vocab_size"
        if _is_count(scope.get("vocab_size_per_layer_input")):
            per_layer = scope["vocab_size_per_layer_input"]
    ties = tuple(
        (f"{prefix}tie_word_embeddings", scope["tie_word_embeddings"])
        for prefix, scope in scopes
        if isinstance(scope.get("tie_word_embeddings"), bool)
    )
    quantised = [s["quantization_config"] for _, s in scopes if s.get("quantization_config")]
    method = None
    if quantised:
        named = quantised[0].get("quant_method") if isinstance(quantised[0], Mapping) else None
        method = named if isinstance(named, str) else "unnamed"
    return ModelFacts(
        vocab_size=size,
        vocab_field=field,
        per_layer_size=per_layer,
        ties=ties,
        quantisation=method,
        remote_code=any(bool(scope.get("auto_map")) for _, scope in scopes),
        widths=frozenset(s[key] for _, s in scopes for key in _WIDTHS if _is_count(s.get(key))),
        numbers=_numbers(config),
    )


def _scopes(
    config: Mapping[str, Any], prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield prefix, config
    for key in _NESTED:
        inner = config.get(key)
        if isinstance(inner, Mapping) and depth < _DEPTH:
            yield from _scopes(inner, f"{prefix}{key}.", depth + 1)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _numbers(config: Mapping[str, Any], depth: int = 0) -> frozenset[int]:
    """Return every size that a configuration makes likely for another axis."""
    found: set[int] = set()
    plain: dict[str, int] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            if depth < _DEPTH:
                found |= _numbers(value, depth + 1)
        elif _is_count(value) and "vocab" not in key and not key.endswith("_id"):
            plain[key] = value
    for value in plain.values():
        found |= {value, value + 2, 2 * value}  # offsets of learnt positions, gates beside values
    width = next((plain[key] for key in _WIDTHS if key in plain), 0)
    heads = plain.get("num_attention_heads", plain.get("n_head", 0))
    inner = plain.get("head_dim", width // heads if heads else 0)
    few = plain.get("num_key_value_heads", heads)
    found |= {3 * width, 4 * width}  # fused projections, hidden layers
    found |= {heads * inner, few * inner, (heads + 2 * few) * inner}
    return frozenset(found)
