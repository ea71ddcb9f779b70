"""What the names of tensors say of them."""

from __future__ import annotations

from anyvocab.transplant.weights.names import guess, packed_module, pattern_of


def test_names_are_judged_by_their_last_parts() -> None:
    assert guess("model.layers.3.self_attn.o_proj.weight") is None
    assert guess("a.b.lm_head.decoder.bias") == guess("lm_head.decoder.bias")
    assert packed_module("model.layers.0.mlp.up_proj.qweight") is None
    assert pattern_of("a.12.b3.4") == "a.#.b3.#"
