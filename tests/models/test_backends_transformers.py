"""A tree of contexts gives what whole contexts give, whatever the model can do with a cache."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")
t = pytest.importorskip("transformers", reason="transformers is missing")

import anyvocab as av  # noqa: E402
from anyvocab.backends import TokenBackend, TransformersBackend  # noqa: E402

V = 97
PLAIN: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
}
MAMBA: dict[str, Any] = {"vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2}
SLIDING = {"use_sliding_window": True, "sliding_window": 5}

MODELS: dict[str, tuple[str, Callable[[], Any]]] = {
    "llama": ("tree", lambda: t.LlamaForCausalLM(t.LlamaConfig(**PLAIN))),
    "llama, eager": (
        "tree",
        lambda: t.LlamaForCausalLM(t.LlamaConfig(**PLAIN, attn_implementation="eager")),
    ),
    "gpt2": (
        "tree",
        lambda: t.GPT2LMHeadModel(
            t.GPT2Config(vocab_size=V, n_embd=32, n_layer=2, n_head=2, n_positions=128)
        ),
    ),
    "qwen2, every layer slides": (
        "tree",
        lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**PLAIN, **SLIDING, max_window_layers=0)),
    ),
    "qwen2, one layer slides": (
        "tree",
        lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**PLAIN, **SLIDING, max_window_layers=1)),
    ),
    "bloom": (
        "crop",
        lambda: t.BloomForCausalLM(t.BloomConfig(vocab_size=V, hidden_size=32, n_layer=2, n_head=2)),
    ),
    "mamba": ("snapshot", lambda: t.MambaForCausalLM(t.MambaConfig(**MAMBA, state_size=4))),
    "jamba": (
        "snapshot",
        lambda: t.JambaForCausalLM(
            t.JambaConfig(
                **PLAIN,
                num_experts=2,
                attn_layer_period=2,
                attn_layer_offset=1,
                expert_layer_period=2,
                expert_layer_offset=1,
                use_mamba_kernels=False,
            )
        ),
    ),
}


@cache
def model(name: str) -> Any:
    """A tiny model whose logits depend on its context: ten times the usual random weights."""
    torch.manual_seed(7)
    made = MODELS[name][1]().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    return made


def whole(network: Any, ids: list[int]) -> Any:
    """Return the logits after `ids`, from one pass over all of them, without any cache."""
    with torch.inference_mode():
        return network(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]


def tolerance(expected: Any) -> float:
    """1e-4 of the largest logit.

    A pass of another shape sums at most a few hundred products in another order, each rounded to
    2**-24, through two layers: 1e-5 at worst. Wrong ancestors or positions change these logits by
    a tenth of them (see the last test of this file).
    """
    return 1e-4 * float(expected.abs().max())


def agree(row: Any, network: Any, ids: list[int]) -> None:
    expected = whole(network, ids)
    assert row.shape == expected.shape
    assert row.dtype == torch.float32
    assert float((row - expected).abs().max()) <= tolerance(expected)


def walk(backend: TransformersBackend, seed: int, steps: int) -> Iterator[tuple[Any, list[int]]]:
    """Yield rows with their contexts from random calls: extend, ask, release, in any order."""
    rng = random.Random(seed)
    live: dict[int, tuple[list[int], int]] = {}  # handle: context, claims
    for prompt in ([3], [3, 5, 8], [11, *range(20, 32)]):
        node = backend.root(prompt)
        live[node] = (prompt, 1)
    for _ in range(steps):
        act = rng.random()
        if act < 0.5 or len(live) < 3:
            parent = rng.choice(list(live))
            ids = [*live[parent][0], rng.randrange(V)]
            if len(ids) < 100:
                node = backend.extend(parent, ids[-1])
                assert live.get(node, (ids, 0))[0] == ids
                live[node] = (ids, live.get(node, (ids, 0))[1] + 1)
        elif act < 0.75:
            asked = [rng.choice(list(live)) for _ in range(rng.randrange(1, 7))]
            given = []
            for handle, row in backend.logits(asked):
                given.append(handle)
                yield row, live[handle][0]
            assert sorted(given) == sorted(set(asked))
        else:
            node = rng.choice(list(live))
            ids, claims = live.pop(node)
            if claims > 1:
                live[node] = (ids, claims - 1)
            backend.release(node)
    for node, (_, claims) in live.items():
        for _ in range(claims):
            backend.release(node)
    assert backend.nodes == 0


@pytest.mark.parametrize("name", MODELS)
def test_the_best_mode_that_works_is_chosen(name: str) -> None:
    backend = TransformersBackend(model(name))
    assert backend.mode == MODELS[name][0], backend.why
    assert isinstance(backend, TokenBackend)
    assert backend.rows == V


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_random_trees_equal_whole_contexts(name: str, seed: int) -> None:
    backend = TransformersBackend(model(name), chunk=5)
    for row, ids in walk(backend, seed, 120):
        agree(row, model(name), ids)


@pytest.mark.parametrize("mode", ["crop", "snapshot", "recompute"])
def test_every_mode_gives_the_same(mode: Any) -> None:
    backend = TransformersBackend(model("llama"), mode=mode, chunk=5)
    assert backend.mode == mode
    for row, ids in walk(backend, 3, 150):
        agree(row, model("llama"), ids)
