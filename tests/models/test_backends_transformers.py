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
        lambda: t.BloomForCausalLM(
            t.BloomConfig(vocab_size=V, hidden_size=32, n_layer=2, n_head=2)
        ),
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


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products on several threads wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def model(name: str) -> Any:
    """A tiny model whose logits depend on its context: three times the usual random weights."""
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
    """2e-5 of the largest logit: 170 units in the last place of float32.

    A pass of another shape sums the same products in another order; a sum of n terms is then off
    by about sqrt(n) units, here over a width of 32 to 48, in two layers, with some headroom.
    Other contexts are further away: `test_the_tolerance_tells_contexts_apart`.
    """
    return 2e-5 * float(expected.abs().max())


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


@pytest.mark.parametrize("name", MODELS)
def test_random_trees_equal_whole_contexts(name: str) -> None:
    backend = TransformersBackend(model(name), chunk=5)
    for row, ids in walk(backend, 1, 120):
        agree(row, model(name), ids)


@pytest.mark.parametrize("mode", ["crop", "snapshot", "recompute"])
def test_every_mode_gives_the_same(mode: Any) -> None:
    backend = TransformersBackend(model("llama"), mode=mode, chunk=5)
    assert backend.mode == mode
    for row, ids in walk(backend, 3, 150):
        agree(row, model("llama"), ids)


@pytest.mark.parametrize("name", MODELS)
def test_the_tolerance_tells_contexts_apart(name: str) -> None:
    network = model(name)
    right = whole(network, [5, 6, 7, 8, 9])
    for wrong in ([5, 6, 8, 9], [5, 6, 7, 1, 9], [5, 7, 6, 8, 9]):  # short, other, swapped
        assert float((whole(network, wrong) - right).abs().max()) > 20 * tolerance(right)


# ------------------------------------------------------------------------------- forward passes


def consume(backend: TransformersBackend, nodes: list[int]) -> dict[int, Any]:
    return {node: row.clone() for node, row in backend.logits(nodes)}


def test_nodes_of_three_prompts_are_one_pass() -> None:
    backend = TransformersBackend(model("llama"))
    prompts = [[3, 1, 4], [1, 5, 9, 2, 6], [5, 3]]
    trunks = [backend.root(ids) for ids in prompts]
    found = consume(backend, trunks)
    assert backend.forwards == 1
    twigs = {backend.extend(node, 8): [*ids, 8] for node, ids in zip(trunks, prompts, strict=True)}
    twigs |= {backend.extend(node, 9): [*ids, 9] for node, ids in zip(trunks, prompts, strict=True)}
    found |= consume(backend, list(twigs))
    assert backend.forwards == 2
    for node, ids in [*zip(trunks, prompts, strict=True), *twigs.items()]:
        agree(found[node], model("llama"), ids)


def test_prompts_that_begin_alike_share_their_beginning() -> None:
    backend = TransformersBackend(model("llama"))
    head = list(range(20))
    consume(backend, [backend.root([*head, 50]), backend.root([*head, 60, 61])])
    assert backend.cached == len(head) + 3


def test_a_fresh_prompt_beside_a_long_one_reads_only_its_own_slots() -> None:
    backend = TransformersBackend(model("llama"))
    consume(backend, [backend.root([*range(90)])])
    seen: list[int] = []
    hook = model("llama").register_forward_pre_hook(
        lambda _, args, words: seen.append(words["attention_mask"].shape[-1]), with_kwargs=True
    )
    prompt = backend.root([91, 92])
    first, second = backend.extend(prompt, 1), backend.extend(prompt, 2)
    found = consume(backend, [first, second])
    more = consume(backend, [backend.extend(first, 3), backend.extend(second, 4)])
    hook.remove()
    assert seen == [4, 6]  # its own nodes, and none of the ninety slots
    for row, ends in zip(
        [*found.values(), *more.values()], ([1], [2], [1, 3], [2, 4]), strict=True
    ):
        agree(row, model("llama"), [91, 92, *ends])


def test_nothing_runs_before_it_is_asked_for_or_when_nothing_is() -> None:
    backend = TransformersBackend(model("llama"))
    node = backend.root([1, 2, 3])
    child = backend.extend(node, 4)
    request = backend.logits([child])
    assert list(backend.logits([])) == []
    backend.release(node)
    assert backend.forwards == 0
    next(request)
    assert backend.forwards == 1


def test_an_evaluated_ancestor_is_not_read_again() -> None:
    backend = TransformersBackend(model("llama"))
    node = backend.root([*range(30)])
    consume(backend, [node])
    sizes: list[int] = []
    hook = model("llama").register_forward_pre_hook(
        lambda _, args, words: sizes.append(args[0].shape[1]), with_kwargs=True
    )
    consume(backend, [backend.extend(node, 7)])
    consume(backend, [node])  # asked again: its last position alone
    hook.remove()
    assert sizes == [1, 1]
    assert backend.cached == 31


def test_only_nodes_asked_for_pay_for_the_head() -> None:
    backend = TransformersBackend(model("llama"))
    sizes: list[int] = []
    hook = model("llama").lm_head.register_forward_pre_hook(
        lambda _, args: sizes.append(args[0].shape[1])
    )
    consume(backend, [backend.root([*range(40)])])
    hook.remove()
    assert sizes == [1]


def test_logits_of_a_pass_stay_within_their_bound() -> None:
    backend = TransformersBackend(model("llama"), logit_bytes=10 * V * 4)
    nodes = [backend.root([5])]
    for token in range(34):
        nodes.append(backend.extend(nodes[-1], token))
    sizes: list[int] = []
    hook = model("llama").lm_head.register_forward_hook(
        lambda _, args, output: sizes.append(output.shape[1])
    )
    found = consume(backend, nodes)
    hook.remove()
    assert sizes == [10, 10, 10, 5]
    agree(found[nodes[-1]], model("llama"), [5, *range(34)])


@pytest.mark.parametrize("name", ["bloom", "mamba"])
def test_a_trunk_with_twigs_is_one_pass_per_branch(name: str) -> None:
    backend = TransformersBackend(model(name))
    trunk = backend.root([*range(20)])
    consume(backend, [trunk])
    assert backend.forwards == 1
    consume(backend, [backend.extend(trunk, token) for token in range(4)])
    assert backend.forwards == 5


# ------------------------------------------------------------------------------- memory


def test_slots_of_released_twigs_are_bounded_by_the_live_ones() -> None:
    backend = TransformersBackend(model("llama"))
    node = backend.root([1])
    ids = [1]
    most = 0
    for token in range(90):
        twigs = [backend.extend(node, (token + i) % V) for i in range(6)]
        found = consume(backend, twigs)
        for twig in twigs[:-1]:  # the last in the buffer lives: the others leave holes
            backend.release(twig)
        backend.release(node)
        node, ids = twigs[-1], [*ids, (token + 5) % V]
        most = max(most, backend.cached - 2 * backend.nodes)
        if token % 30 == 29:
            agree(found[node], model("llama"), ids)
    assert backend.nodes == 91
    # Compaction waits until freed slots are more than the live ones, and more than 64.
    assert most <= 64 + 6
    backend.release(node)
    assert (backend.nodes, backend.cached) == (0, 0)


def test_a_text_of_5000_tokens_comes_in_pieces() -> None:
    torch.manual_seed(3)
    config = t.LlamaConfig(**PLAIN | {"max_position_embeddings": 6000, "num_hidden_layers": 1})
    network = t.LlamaForCausalLM(config).eval()
    backend = TransformersBackend(network, logit_bytes=1 << 20)
    ids = [random.Random(4).randrange(V) for _ in range(5000)]
    nodes = [backend.root(ids[:1])]
    for token in ids[1:]:
        nodes.append(backend.extend(nodes[-1], token))
    with torch.inference_mode():
        expected = network(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    order = {node: i for i, node in enumerate(nodes)}
    given = 0
    for node, row in backend.logits(nodes):
        assert order[node] == given
        error = float((row - expected[given]).abs().max())
        assert error <= tolerance(expected[given])
        given += 1
    assert given == 5000
    assert backend.forwards <= 11  # 512 nodes each, fewer where they see over 8,192 slots
    assert len(list(backend.logits([nodes[-1]]))) == 1


@pytest.mark.parametrize("name", ["mamba", "jamba", "bloom", "llama"])
def test_several_ids_are_read_right_behind_what_was_read_before(name: str) -> None:
    # transformers' Mamba layers forget their state when more than one id follows it.
    backend = TransformersBackend(model(name))
    first = backend.root([5, 6, 7])
    consume(backend, [first])
    last = backend.extend(backend.extend(backend.extend(first, 8), 9), 10)
    agree(consume(backend, [last])[last], model(name), [5, 6, 7, 8, 9, 10])


def test_rounding_to_bfloat16_does_not_hide_a_state_that_is_forgotten() -> None:
    torch.manual_seed(0)
    config = t.MambaConfig(vocab_size=353, hidden_size=32, num_hidden_layers=2, state_size=8)
    network = t.MambaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.mul_(2)
    backend = TransformersBackend(network.to(torch.bfloat16))
    assert backend._engine.stride == 1, backend.why


def test_a_state_that_one_id_at_a_time_can_follow_is_followed_so() -> None:
    backend = TransformersBackend(model("mamba"))
    backend._engine.stride = 1
    sizes: list[int] = []
    hook = model("mamba").register_forward_pre_hook(
        lambda _, args, words: sizes.append(args[0].shape[1]), with_kwargs=True
    )
    first = backend.root([5, 6, 7])
    consume(backend, [first])
    middle = backend.extend(backend.extend(first, 8), 9)
    last = backend.extend(middle, 10)
    found = consume(backend, [middle, last])
    hook.remove()
    assert sizes == [3, 1, 1, 1]
    agree(found[middle], model("mamba"), [5, 6, 7, 8, 9])
    agree(found[last], model("mamba"), [5, 6, 7, 8, 9, 10])


@pytest.mark.parametrize("mode", ["crop", "snapshot"])
def test_a_cache_holds_what_its_path_says_and_no_freed_node(mode: Any) -> None:
    backend = TransformersBackend(model("llama"), mode=mode, chunk=5)
    engine, tree = backend._engine, backend._tree
    checked = 0
    for _ in walk(backend, 5, 150):
        for line in engine._lines:
            length = line.cache.layers[0].keys.shape[2]
            end = line.path[-1]
            assert tree.node(end.handle) is end
            if mode == "crop":  # freed nodes may still lie at the end of the tensors
                assert [node.depth for node in line.path] == list(range(1, end.depth + 1))
                assert [node.token for node in line.path] == tree.ids(end)
                assert length >= end.depth
            else:
                assert line.path == [end]
                assert length == end.depth
            assert all(node.handle in engine._line_of for node in line.path)
            checked += 1
    assert checked > 50
    assert not engine._lines
    assert not engine._line_of


def test_a_freed_snapshot_is_forgotten() -> None:
    backend = TransformersBackend(model("mamba"))
    node = backend.root([1, 2, 3])
    consume(backend, [node])
    assert backend.cached == 1
    backend.release(node)
    assert backend.cached == 0


# ------------------------------------------------------------------------------- misuse, trouble


def test_the_tree_may_grow_and_shrink_between_items() -> None:
    backend = TransformersBackend(model("llama"), chunk=3)
    root = backend.root([1])
    nodes = {backend.extend(root, i): [1, i] for i in range(12)}
    more: dict[int, list[int]] = {}
    for node, row in backend.logits(list(nodes)):
        agree(row, model("llama"), nodes[node])
        child = backend.extend(node, 50)
        more[child] = [*nodes[node], 50]
        backend.release(node)
        ((handle, inner),) = backend.logits([child])
        assert handle == child
        agree(inner, model("llama"), more[child])
    for node, row in backend.logits(list(more)):
        agree(row, model("llama"), more[node])


@pytest.mark.parametrize("name", ["llama", "bloom", "mamba"])
def test_a_pass_that_fails_leaves_the_backend_as_it_was(name: str) -> None:
    network = model(name)
    backend = TransformersBackend(network)
    trunk = backend.root([1, 2, 3])
    consume(backend, [trunk])
    twig = backend.extend(trunk, 4)
    last = network.get_output_embeddings()

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    hook = last.register_forward_pre_hook(fail)  # when the layers have stored their states
    with pytest.raises(RuntimeError, match="out of memory"):
        list(backend.logits([twig]))
    hook.remove()
    found = consume(backend, [twig, trunk])
    agree(found[twig], network, [1, 2, 3, 4])
    agree(found[trunk], network, [1, 2, 3])


def test_a_context_past_the_models_positions_is_refused_by_name() -> None:
    backend = TransformersBackend(model("llama"))
    assert backend.max_context == 128
    fits = backend.root([1] * 128)
    assert len(consume(backend, [fits])) == 1
    longer = backend.extend(fits, 1)
    with pytest.raises(av.LimitExceeded, match="129 ids, and the model sees at most 128"):
        backend.logits([longer])


def test_an_id_that_the_model_cannot_read_is_refused() -> None:
    backend = TransformersBackend(model("llama"))
    with pytest.raises(av.InvalidValue, match=f"no token id {V}"):
        backend.root([V])
    with pytest.raises(av.InvalidValue, match="empty context has no logits"):
        backend.logits([backend.root([])])


def test_dropout_of_a_model_in_training_changes_nothing() -> None:
    torch.manual_seed(1)
    config = t.GPT2Config(vocab_size=V, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0.5)
    network = t.GPT2LMHeadModel(config).train()
    backend = TransformersBackend(network)
    node = backend.root([1, 2, 3])
    (row,) = consume(backend, [node]).values()
    assert network.training
    network.eval()
    agree(row, network, [1, 2, 3])


def test_a_mode_that_does_not_work_is_refused_with_the_finding() -> None:
    with pytest.raises(av.InvalidValue, match=r"'crop' does not work .* cannot be cut back"):
        TransformersBackend(model("mamba"), mode="crop")


def test_an_encoder_decoder_and_other_objects_are_refused() -> None:
    config = t.T5Config(vocab_size=V, d_model=32, d_ff=32, num_layers=1, num_heads=2, d_kv=16)
    with pytest.raises(av.InvalidValue, match="encoder-decoder"):
        TransformersBackend(t.T5ForConditionalGeneration(config))
    with pytest.raises(av.InvalidValue, match="str is no transformers model"):
        TransformersBackend("pico:code-4k")


# ------------------------------------------------------------------------------- a real model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pico_scores_a_text_and_its_twigs_in_one_request(dtype: str) -> None:
    backend = TransformersBackend.load("pico:code-4k", dtype=dtype)
    assert backend.mode == "tree", backend.why
    tokenizer = av.Tokenizer.load("pico:code-4k")
    text = "def read(path):\n    with open(path) as file:\n        return file.read()\n"
    ids = [4091, *tokenizer.encode(text).tolist()]
    contexts = {backend.root(ids[:n]): ids[:n] for n in range(1, len(ids) + 1)}
    contexts |= {backend.root([*ids[:n], 7]): [*ids[:n], 7] for n in range(1, len(ids))}
    found = consume(backend, list(contexts))
    assert backend.forwards == 1
    assert found.keys() == contexts.keys()
    for node, context in contexts.items():
        expected = whole(backend.model, context)
        assert found[node].dtype == getattr(torch, dtype)
        # Six layers of width 192 and 512; see `tolerance`. In bfloat16 every sum rounds to 2**-8.
        allowed = (1e-4 if dtype == "float32" else 2**-4) * float(expected.abs().max())
        assert float((found[node] - expected).abs().max()) <= allowed


def test_a_saved_folder_loads(tmp_path: Any) -> None:
    model("llama").save_pretrained(tmp_path)
    backend = TransformersBackend.load(str(tmp_path))
    (row,) = consume(backend, [backend.root([1, 2])]).values()
    agree(row, model("llama"), [1, 2])
