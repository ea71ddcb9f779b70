"""The tree of contexts, the backend without a model, and the engines by stand-ins of theirs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab import backends
from anyvocab.backends import LlamaCppBackend, TableBackend, TokenBackend, VllmBackend
from anyvocab.backends._contexts import ContextTree, Node, chains

ROWS = 11


def test_backends_load_their_engines_when_they_are_made() -> None:
    code = "import sys, anyvocab.backends as b; b.TransformersBackend, b.VllmBackend, "
    code += "b.LlamaCppBackend, b.TableBackend(3); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert not {"torch", "transformers", "vllm", "llama_cpp"}.intersection(done.stdout.split())


def test_an_unknown_backend_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'OnnxBackend'"):
        backends.OnnxBackend  # noqa: B018


# ------------------------------------------------------------------------------- the tree


def test_equal_contexts_are_one_node_however_they_were_made() -> None:
    tree = ContextTree()
    assert tree.extend(tree.extend(tree.root([4]), 7), 9) == tree.root([4, 7, 9])
    assert len(tree) == 3


def test_a_node_is_freed_when_it_was_released_as_often_as_returned() -> None:
    freed: list[Node] = []
    tree = ContextTree(on_free=freed.append)
    first, again = tree.root([1, 2]), tree.root([1, 2])
    assert first == again
    tree.release(first)
    assert tree.ids(tree.node(first)) == [1, 2]
    tree.release(first)
    assert [node.depth for node in freed] == [2, 1]  # children before parents
    assert len(tree) == 0
    with pytest.raises(av.InvalidValue, match="no live node"):
        tree.node(first)


def test_a_released_node_lives_as_long_as_its_descendants() -> None:
    freed: list[Node] = []
    tree = ContextTree(on_free=freed.append)
    parent = tree.root([1])
    child = tree.extend(parent, 2)
    tree.release(parent)
    assert not freed
    tree.release(child)
    assert [node.handle for node in freed] == [child, parent]


def test_a_handle_is_never_used_again() -> None:
    tree = ContextTree()
    seen = set()
    for _ in range(5):
        node = tree.root([1, 2])
        assert node not in seen
        seen.add(node)
        tree.release(node)


def test_one_release_too_many_is_an_error() -> None:
    tree = ContextTree()
    parent = tree.root([1])
    tree.extend(parent, 2)
    tree.release(parent)
    with pytest.raises(av.InvalidValue, match="released as often as it was returned"):
        tree.release(parent)


def test_an_unknown_id_changes_nothing() -> None:
    tree = ContextTree(tokens=10)
    node = tree.root([3])
    with pytest.raises(av.InvalidValue, match=r"no token id 10; the model reads ids 0\.\.9"):
        tree.root([3, 4, 10])
    with pytest.raises(av.InvalidValue, match="no token id -1"):
        tree.extend(node, -1)
    with pytest.raises(TypeError):
        tree.extend(node, 1.5)  # type: ignore[arg-type]
    assert len(tree) == 1


def test_a_context_past_the_limit_is_refused_by_name_when_it_is_asked_for() -> None:
    tree = ContextTree(max_context=3)
    node = tree.root([1, 2, 3])
    longer = tree.extend(node, 4)
    assert tree.asked([node])
    with pytest.raises(av.LimitExceeded, match="has 4 ids, and the model sees at most 3"):
        tree.asked([node, longer])


def test_a_hundred_thousand_tokens_need_no_recursion() -> None:
    freed: list[Node] = []
    tree = ContextTree(on_free=freed.append)
    node = tree.root(range(50_000))
    for token in range(50_000):
        child = tree.extend(node, token)
        tree.release(node)
        node = child
    assert len(tree) == 100_000
    assert len(tree.ids(tree.node(node))) == 100_000
    assert len(chains([tree.node(node)], (), at_branches="through")[0]) == 100_000
    tree.release(node)
    assert len(freed) == 100_000
    assert len(tree) == 0


def test_a_deep_tree_is_destroyed_without_recursion() -> None:
    tree = ContextTree()
    tree.root(range(100_000))
    del tree


@pytest.mark.parametrize("at_branches", ["through", "end"])
@pytest.mark.parametrize("seed", range(20))
def test_chains_hold_every_node_once_behind_its_parent(seed: int, at_branches: Any) -> None:
    rng = np.random.default_rng(seed)
    tree = ContextTree()
    handles = [tree.root([0])]
    for _ in range(60):
        handles.append(tree.extend(int(rng.choice(handles)), int(rng.integers(6))))
    nodes = [tree.node(handle) for handle in handles]
    asked = {int(h) for h in rng.choice(handles, 15)}
    held = {int(h) for h in rng.choice(handles, 8)}
    done: set[int] = set()
    found = chains([tree.node(h) for h in asked], held, at_branches=at_branches)
    place = {node.handle: i for i, node in enumerate(node for chain in found for node in chain)}
    for handle, at_place in place.items():
        above = tree.node(handle).parent
        while above is not None:
            assert place.get(above.handle, -1) < at_place
            above = above.parent
    for chain in found:
        for i, node in enumerate(chain):
            parent = node.parent
            assert parent is not None
            assert node.handle not in done
            if i:
                assert parent is chain[i - 1]
            else:
                assert parent.handle in held | done | {0}
            done.add(node.handle)
    assert asked <= done
    needed = set()
    for node in nodes:
        if node.handle in asked:
            at: Node | None = node
            while at is not None and at.parent is not None and at.handle not in needed:
                needed.add(at.handle)
                at = at.parent if at.parent.handle not in held else None
    assert done == needed


# ------------------------------------------------------------------------------- the table


def test_a_table_satisfies_the_protocol() -> None:
    assert isinstance(TableBackend(ROWS), TokenBackend)


def test_a_row_depends_on_the_whole_context_and_on_the_seed() -> None:
    backend = TableBackend(ROWS, seed=3)
    rows = [backend.row(ids) for ids in ([], [1], [2], [1, 2], [2, 2], [1, 1, 2], [12])]
    assert len({row.tobytes() for row in rows}) == len(rows)
    assert (backend.row([1, 2]) == TableBackend(ROWS, seed=3).row((1, 2))).all()
    assert (backend.row([1, 2]) != TableBackend(ROWS, seed=4).row([1, 2])).all()


def test_a_request_gives_every_distinct_node_once_and_ancestors_first() -> None:
    backend = TableBackend(ROWS)
    root = backend.root([1])
    leaf = backend.extend(backend.extend(root, 2), 3)
    given = [node for node, _ in backend.logits([leaf, root, leaf])]
    assert given == [root, leaf]
    assert (backend.calls, backend.evaluated) == (1, 2)


def test_a_row_kept_too_long_is_nan() -> None:
    backend = TableBackend(ROWS)
    first = backend.root([1])
    second = backend.extend(first, 2)
    kept = [row for _, row in backend.logits([first, second])]
    assert all(np.isnan(row).all() for row in kept)


def test_a_function_of_the_wrong_shape_is_refused() -> None:
    backend = TableBackend(ROWS, function=lambda context: [0.0] * len(context))
    with pytest.raises(av.InvalidValue, match=r"gave shape \(2,\) for \(1, 2\), not \(11,\)"):
        list(backend.logits([backend.root([1, 2])]))


def test_the_empty_context_of_a_table_has_logits() -> None:
    backend = TableBackend(ROWS)
    node = backend.root([])
    ((handle, row),) = [(n, r.copy()) for n, r in backend.logits([node])]
    assert handle == node
    assert (row == backend.row([])).all()
    backend.release(node)
    with pytest.raises(av.InvalidValue, match="no live node"):
        backend.logits([node])


def test_nodes_of_a_request_live_until_it_ends() -> None:
    backend = TableBackend(ROWS)
    nodes = [backend.root([i]) for i in range(3)]
    given = []
    for node, _ in backend.logits(nodes):
        given.append(node)
        for other in nodes:
            backend.release(other)
        nodes = []
    assert len(given) == 3
    assert backend.nodes == 0


def test_a_request_given_up_lets_its_nodes_go() -> None:
    backend = TableBackend(ROWS)
    nodes = [backend.root([i]) for i in range(3)]
    request = backend.logits(nodes)
    next(request)
    for node in nodes:
        backend.release(node)
    assert backend.nodes == 3
    request.close()  # type: ignore[attr-defined]
    assert backend.nodes == 0


def test_a_node_freed_before_the_first_item_is_an_error() -> None:
    backend = TableBackend(ROWS)
    node = backend.root([1])
    request = backend.logits([node])
    backend.release(node)
    with pytest.raises(av.InvalidValue, match="no live node"):
        next(request)


def test_nothing_works_after_close_but_closing() -> None:
    backend = TableBackend(ROWS)
    node = backend.root([1])
    backend.close()
    backend.close()
    for call in (
        lambda: backend.root([1]),
        lambda: backend.extend(node, 1),
        lambda: backend.logits([node]),
        lambda: backend.release(node),
    ):
        with pytest.raises(av.InvalidValue, match="the backend is closed"):
            call()


# ------------------------------------------------------------------------------- vLLM
# A stand-in for what the backend uses of vllm, with the names and shapes of its documentation.


@dataclass
class FakeParams:
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    logprobs: int
    detokenize: bool


@dataclass
class FakeLlm:
    """What `vllm.LLM` does: top log-probabilities, no more than `max_logprobs`; -1 for all."""

    model: str = "m"
    max_logprobs: int = 20
    logprobs_mode: str = "raw_logprobs"
    enable_prefix_caching: bool = False
    prompts: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.table = TableBackend(ROWS, seed=5)
        config = SimpleNamespace(get_vocab_size=lambda: ROWS, max_model_len=8)
        self.llm_engine = SimpleNamespace(model_config=config)

    def logprobs(self, ids: Sequence[int]) -> Any:
        row = self.table.row(ids)
        return row - np.log(np.exp(row).sum())

    def generate(self, prompts: Any, params: FakeParams, *, use_tqdm: bool) -> list[Any]:
        assert not use_tqdm
        assert (params.max_tokens, params.detokenize) == (1, False)
        outputs = []
        for prompt in prompts:
            ids = prompt["prompt_token_ids"]
            assert 0 < len(ids) < self.llm_engine.model_config.max_model_len
            self.prompts.append(ids)
            row = self.logprobs(ids)
            asked = ROWS if params.logprobs == -1 else params.logprobs
            count = asked if self.max_logprobs == -1 else min(asked, self.max_logprobs)
            best = np.argsort(-row)[:count]
            found = {int(id): SimpleNamespace(logprob=float(row[id])) for id in best}
            outputs.append(SimpleNamespace(outputs=[SimpleNamespace(logprobs=[found])]))
        return outputs


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("vllm")
    module.SamplingParams = FakeParams  # type: ignore[attr-defined]
    module.LLM = FakeLlm  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


def test_vllm_gives_every_log_probability_in_the_order_of_ids(vllm: ModuleType) -> None:
    backend = VllmBackend.load("m", batch=2)
    assert isinstance(backend, TokenBackend)
    assert (backend.rows, backend.max_context) == (ROWS, 7)
    root = backend.root([1, 2])
    nodes = {root: [1, 2]} | {backend.extend(root, i): [1, 2, i] for i in range(4)}
    found = dict(backend.logits(list(nodes)))
    assert found.keys() == nodes.keys()
    for node, ids in nodes.items():
        assert found[node].dtype == np.float32
        # One rounding to float32 of numbers below 16.
        np.testing.assert_allclose(found[node], FakeLlm().logprobs(ids), rtol=0, atol=2**-20)


def test_vllm_with_its_default_limit_is_refused_with_the_setting(vllm: ModuleType) -> None:
    backend = VllmBackend(FakeLlm(max_logprobs=3))
    with pytest.raises(av.InvalidValue, match="8 of 11 tokens; make the engine with max_logprobs"):
        list(backend.logits([backend.root([1])]))


def test_vllm_refuses_an_empty_context(vllm: ModuleType) -> None:
    backend = VllmBackend(FakeLlm(max_logprobs=-1))
    with pytest.raises(av.InvalidValue, match="empty context has no logits"):
        backend.logits([backend.root([])])


@pytest.mark.parametrize(
    ("kind", "module"), [(VllmBackend, "vllm"), (LlamaCppBackend, "llama_cpp")]
)
def test_a_missing_engine_is_named(kind: Any, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(av.MissingExtra, match="is not installed; pip install"):
        kind.load("m")


# ------------------------------------------------------------------------------- llama.cpp
# A stand-in for what the backend uses of llama-cpp-python 0.3.35: memory that knows which ids
# stand at which positions, and logits that depend on exactly those.


class FakeLlama:
    def __init__(self, kind: str = "attention", *, swa_full: bool = True, **_: Any) -> None:
        self.kind = kind
        self.context_params = SimpleNamespace(swa_full=swa_full)
        self.model = self.ctx = self
        self.memory: list[int] = []
        self.n_tokens = 0
        self.evals: list[list[int]] = []
        self.table = TableBackend(ROWS, seed=6)
        self._last = (np.ctypeslib.as_ctypes_type(np.float32) * ROWS)()

    def n_vocab(self) -> int:
        return ROWS

    def n_ctx(self) -> int:
        return 64

    def eval(self, tokens: list[int]) -> None:
        assert self.n_tokens == len(self.memory), "the memory holds other ids than eval() thinks"
        self.evals.append(tokens)
        self.memory += tokens
        self.n_tokens += len(tokens)
        self._last[:] = self.table.row(self.memory).astype(np.float32)


@pytest.fixture
def llama_cpp(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    def seq_rm(memory: FakeLlama, sequence: int, start: int, end: int) -> bool:
        assert (sequence, end) == (0, -1)
        if memory.kind == "recurrent" and 0 < start < len(memory.memory):
            return False
        if (
            memory.kind == "window"
            and not memory.context_params.swa_full
            and start < len(memory.memory)
        ):  # said to be done, but what the window had dropped is not there any more
            memory.memory[: max(start, 0)] = [ROWS + 1] * max(start, 0)
        del memory.memory[start:]
        return True

    module = ModuleType("llama_cpp")
    names: dict[str, Any] = {
        "Llama": FakeLlama,
        "llama_model_is_recurrent": lambda model: model.kind == "recurrent",
        "llama_model_is_hybrid": lambda model: False,
        "llama_model_n_swa": lambda model: 4 if model.kind == "window" else 0,
        "llama_get_memory": lambda ctx: ctx,
        "llama_memory_seq_rm": seq_rm,
        "llama_memory_clear": lambda memory, data: memory.memory.clear(),
        "llama_get_logits_ith": lambda ctx, i: ctx._last,
    }
    for name, value in names.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "llama_cpp", module)
    return module


def random_requests(backend: Any, seed: int, steps: int) -> Iterator[tuple[list[int], Any]]:
    rng = np.random.default_rng(seed)
    live = {backend.root([1, 2]): [1, 2], backend.root([3]): [3]}
    for _ in range(steps):
        handles = list(live)
        parent = int(rng.choice(handles))
        token = int(rng.integers(ROWS))
        if len(live[parent]) < 12:
            node = backend.extend(parent, token)
            if node in live:
                backend.release(node)
            live[node] = [*live[parent], token]
        if rng.random() < 0.4:
            asked = [int(h) for h in rng.choice(list(live), 4)]
            for node, row in backend.logits(asked):
                yield live[node], row
        if rng.random() < 0.3 and len(live) > 2:
            gone = int(rng.choice(list(live)))
            del live[gone]
            backend.release(gone)


@pytest.mark.parametrize("kind", ["attention", "window", "recurrent"])
def test_llama_cpp_gives_the_logits_of_the_context(llama_cpp: ModuleType, kind: str) -> None:
    llama = FakeLlama(kind, swa_full=kind != "window")
    backend = LlamaCppBackend(llama)
    assert isinstance(backend, TokenBackend)
    count = 0
    for ids, row in random_requests(backend, 8, 150):
        assert row.dtype == np.float32
        assert (row == llama.table.row(ids).astype(np.float32)).all()
        count += 1
    assert count > 100


def test_llama_cpp_reads_a_twig_in_one_token(llama_cpp: ModuleType) -> None:
    llama = FakeLlama()
    backend = LlamaCppBackend(llama)
    trunk = backend.root(range(10))
    list(backend.logits([trunk]))
    list(backend.logits([backend.extend(trunk, 3), backend.extend(trunk, 4)]))
    assert [len(tokens) for tokens in llama.evals] == [10, 1, 1]


def test_llama_cpp_reads_a_trunk_with_twigs_once(llama_cpp: ModuleType) -> None:
    llama = FakeLlama()
    backend = LlamaCppBackend(llama)
    nodes = [backend.root([1])]
    for token in range(8):
        nodes.append(backend.extend(nodes[-1], token))
    twigs = [backend.extend(node, 9) for node in nodes]
    list(backend.logits(nodes + twigs))
    assert backend.evaluated == len(nodes) + len(twigs)
