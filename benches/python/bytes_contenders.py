"""One contender of the byte-level bench in a process of its own: `bytes.py` starts it.

Each walks through a text byte by byte and gives, at every position, the whole distribution of the
next byte; what it gave goes to an `.npz`, what it took to standard output as JSON. This file is run
by the rivals' Python, too: it imports nothing of anyvocab but where anyvocab is measured.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

WARM = 64  # bytes before the growth of memory is measured
REPEATS = 20


class Meter:
    """What the forward passes of a model took, and how much they read."""

    def __init__(self, model: Any) -> None:
        self.calls = self.tokens = 0
        self.cpu = self.wall = 0.0
        inner = model.forward

        @functools.wraps(inner)
        def forward(*args: Any, **words: Any) -> Any:
            ids = args[0] if args else words["input_ids"]
            self.calls += 1
            self.tokens += int(ids.numel())
            cpu, wall = time.process_time(), time.perf_counter()
            try:
                return inner(*args, **words)
            finally:
                self.cpu += time.process_time() - cpu
                self.wall += time.perf_counter() - wall

        model.forward = forward

    def read(self) -> dict[str, float]:
        return {
            "calls": self.calls,
            "tokens": self.tokens,
            "forward_cpu": self.cpu,
            "forward_wall": self.wall,
        }


def resident() -> float:
    """Return the resident set, MiB."""
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmRSS:")[1].split()[0]) / 1024


def load_model(folder: str) -> tuple[Any, Any]:
    """Return the model of a folder and its tokenizer, as transformers loads them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return model, AutoTokenizer.from_pretrained(folder)


class Walk:
    """Times a walk through texts: `row` gives a distribution, `push` takes a byte."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.rows: dict[str, Any] = {}
        self.result: dict[str, Any] = {}
        self._steps = 0
        self._before = meter.read()
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        self._memory = (0, 0.0)
        self._each: list[float] = []  # processor seconds of every step

    def step(self, row: Any) -> None:
        """Keep a row and count it."""
        self._row.append(np.asarray(row, dtype=np.float64)[:257])
        self._steps += 1
        self._marks.append(time.process_time())
        if self._steps == WARM:
            self._memory = (WARM, resident())

    def begin(self, name: str) -> None:
        self._row: list[Any] = []
        self._marks: list[float] = [time.process_time()]
        self._name = name

    def end(self) -> None:
        self.rows[self._name] = np.stack(self._row)
        self._each.extend(np.diff(self._marks).tolist())

    def finish(self) -> dict[str, Any]:
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        after = self.meter.read()
        took = {key: (after[key] - self._before[key]) / self._steps for key in after}
        from_step, from_memory = self._memory
        growth = (resident() - from_memory) / max(1, self._steps - from_step)
        took |= {"cpu": cpu / self._steps, "wall": wall / self._steps, "growth_mib": growth}
        took["cpu_median"] = float(np.median(self._each))
        return took | {"rss_mib": resident(), "steps": self._steps}


def walk_anyvocab(task: dict[str, Any], texts: dict[str, bytes]) -> tuple[dict[str, Any], Any]:
    from anyvocab.backends import TransformersBackend
    from anyvocab.bytelm import ByteLM

    model, _ = load_model(task["folder"])
    meter = Meter(model)
    cpu = time.process_time()
    backend = TransformersBackend(model)
    tokenizer = task["folder"]
    lm = ByteLM(backend, tokenizer, law=task["law"], **task.get("options", {}))
    lm.start().logprobs()
    init = time.process_time() - cpu
    walk = Walk(meter)
    missing = 0.0
    for name, text in texts.items():
        walk.begin(name)
        state = lm.start()
        walk.step(state.logprobs())
        for byte in text:
            state.push(byte)
            walk.step(state.logprobs())
            if task["law"] == "marginal":
                missing = max(missing, state.missing_mass)
        walk.end()
    found = walk.finish()
    if task["law"] != "marginal":
        found["sweep"] = sweeps(lm, meter, texts, walk.rows)
        found["arithmetic"] = arithmetic_anyvocab(lm)
    return found | {"init": init, "missing": missing}, walk.rows


def sweeps(
    lm: Any, meter: Meter, texts: dict[str, bytes], rows: dict[str, Any]
) -> dict[str, float]:
    """Return what the distributions of all positions took at once, per position."""
    before, cpu, wall = meter.read(), time.process_time(), time.perf_counter()
    found = {name: lm.next_byte_logprobs(text) for name, text in texts.items()}
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    after = meter.read()
    steps = sum(len(one) for one in found.values())
    took = {key: (after[key] - before[key]) / steps for key in after}
    return took | {
        "cpu": cpu / steps,
        "wall": wall / steps,
        "apart": max(float(apart(found[name], rows[name]).max()) for name in rows),
    }


def apart(one: Any, other: Any) -> Any:
    """Return the total variation distance of each row of log-probabilities."""
    return np.abs(np.exp(one) - np.exp(other)).sum(axis=1) / 2


def arithmetic_anyvocab(lm: Any) -> dict[str, float]:
    """Return what one model state takes beside the model: a row in, 257 numbers out."""
    row = np.random.default_rng(0).standard_normal(lm.backend.rows).astype(np.float32) * 2.4

    def once() -> None:
        state = lm._core.start(first=True)
        (number,) = state.needed(False)[0].tolist()
        state.feed(number, row)
        state.logprobs()
        del state
        lm._core.released()

    return {"row": repeated(once)}


def repeated(work: Callable[[], object]) -> float:
    """Return the processor seconds of one call, the least of three rounds."""
    work()
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        for _ in range(REPEATS):
            work()
        best = min(best, (time.process_time() - began) / REPEATS)
    return best


def walk_byte_sampler(task: dict[str, Any], texts: dict[str, bytes]) -> tuple[dict[str, Any], Any]:
    from byte_sampling.byte_conditioning import ByteConditioning

    model, tokenizer = load_model(task["folder"])
    meter = Meter(model)
    cpu = time.process_time()
    conditioning = ByteConditioning(model, tokenizer)
    exact = task["filter"]
    sampler = conditioning.BytewiseBatchSampler(conditioning, filter_tensors=exact)
    sampler.get_dists()
    init = time.process_time() - cpu
    walk = Walk(meter)
    for name, text in texts.items():
        walk.begin(name)
        sampler = conditioning.BytewiseBatchSampler(conditioning, filter_tensors=exact)
        with torch.inference_mode():
            walk.step(torch.log_softmax(sampler.get_dists()[0].double(), 0).numpy())
            for byte in text:
                sampler.add_context([bytes([byte])])
                walk.step(torch.log_softmax(sampler.get_dists()[0].double(), 0).numpy())
        walk.end()
    return walk.finish() | {"init": init}, walk.rows


def walk_genlm(task: dict[str, Any], texts: dict[str, bytes]) -> tuple[dict[str, Any], Any]:
    return asyncio.run(_walk_genlm(task, texts))


async def _walk_genlm(task: dict[str, Any], texts: dict[str, bytes]) -> tuple[dict[str, Any], Any]:
    from genlm.backend.llm.hf import AsyncTransformer
    from genlm.bytes import BeamParams, ByteBeamState

    model, tokenizer = load_model(task["folder"])
    meter = Meter(model)
    cpu = time.process_time()
    llm = AsyncTransformer(model, tokenizer)
    ends = [tokenizer.eos_token.encode()]
    params = BeamParams(K=task["beam"], prune_threshold=0.0, eos_byte_strings=ends)
    first = await ByteBeamState.initial(llm, params)
    await first.logp_next()
    init = time.process_time() - cpu
    walk = Walk(meter)
    for name, text in texts.items():
        walk.begin(name)
        beam = first
        walk.step(_genlm_row(await beam.logp_next()))
        for byte in text:
            beam = await (beam.prune() << byte)
            walk.step(_genlm_row(await beam.logp_next()))
        walk.end()
    found = walk.finish() | {"init": init}
    if task.get("arithmetic"):
        found["arithmetic"] = arithmetic_genlm(first.states[0].trie.trie, llm.byte_vocab)
    return found, walk.rows


def _genlm_row(probs: Any) -> Any:
    """Return bytes and the end, 257 numbers: place 256 is the end of a token, 257 of the text."""
    ps = np.asarray(probs.ps, dtype=np.float64)
    return np.concatenate((ps[:256], ps[257:]))


def arithmetic_genlm(trie: Any, vocab: Any) -> dict[str, float]:
    """Return what one model state takes: genlm's two ways, and sums over a sorted vocabulary."""
    from genlm.backend.trie import TokenCharacterTrie

    logits = torch.from_numpy(np.random.default_rng(0).standard_normal(len(vocab)) * 2.4).float()
    logprobs = torch.log_softmax(logits, 0)
    weights = torch.exp(logprobs)
    other = TokenCharacterTrie(vocab)
    order = np.array(sorted(range(len(vocab)), key=lambda id: vocab[id].byte_string))
    first = np.array([vocab[id].byte_string[0] for id in order])
    edges = np.searchsorted(first, np.arange(257))
    row = logits.numpy()

    def sums() -> None:
        total = np.zeros(len(row) + 1)
        np.cumsum(np.exp(row - row.max())[order], out=total[1:])
        np.log(np.maximum(np.diff(total[edges]), 1e-300))

    return {
        "sparse": repeated(lambda: trie.batch_weight_sum(weights[None])),
        "numba": repeated(lambda: other.weight_sum(weights.numpy())),
        "sorted": repeated(sums),
    }


CONTENDERS = {
    "anyvocab": walk_anyvocab,
    "byte-sampler": walk_byte_sampler,
    "genlm-bytes": walk_genlm,
}


def versions() -> dict[str, str]:
    """Return the versions that matter."""
    import transformers

    found = {"torch": torch.__version__, "transformers": transformers.__version__}
    if "genlm.bytes" in sys.modules:
        from importlib.metadata import version

        found["genlm-bytes"] = version("genlm-bytes")
    return found


def main() -> None:
    task = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    held = np.load(task["texts"])
    texts = {name: held[name].tobytes() for name in held.files}
    begun = resident()
    found, rows = CONTENDERS[task["contender"]](task, texts)
    np.savez(task["rows"], **rows)
    print(json.dumps(found | {"versions": versions(), "begun_mib": begun}))


if __name__ == "__main__":
    main()
