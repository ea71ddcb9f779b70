"""Sums made where the logits are: the same numbers as the core's, on the CPU in its place."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from anyvocab.backends import TransformersBackend
from anyvocab.bytelm import ByteLM

TEXT = "def f(x):\n    return x  # é 中".encode()
# Both sum the same float32 logits in float64, in another order: V roundings of 1 ulp each.
TOLERANCE = 4096 * np.finfo(np.float64).eps


@pytest.fixture(scope="module")
def backend() -> TransformersBackend:
    return TransformersBackend.load("pico:code-4k")


@pytest.mark.parametrize("law", ["local", "canonical"])
def test_a_device_gives_the_cores_distributions_byte_by_byte(
    backend: TransformersBackend, law: str
) -> None:
    host = ByteLM(backend, "pico:code-4k", law=law, sums="host").start(TEXT[:9])  # type: ignore[arg-type]
    device = ByteLM(backend, "pico:code-4k", law=law, sums="device").start(TEXT[:9])  # type: ignore[arg-type]
    for byte in TEXT[9:]:
        mine, other = device.logprobs(), host.logprobs()
        assert np.array_equal(np.isfinite(mine), np.isfinite(other))
        live = np.isfinite(other)
        # A pass of another shape rounds its logits otherwise: float32, a few units at their size.
        np.testing.assert_allclose(mine[live], other[live], rtol=0, atol=1e-4)
        host.push(byte)
        device.push(byte)
    assert device.log_mass == pytest.approx(host.log_mass, abs=1e-3)


def test_a_device_gives_the_cores_sweep(backend: TransformersBackend) -> None:
    host = ByteLM(backend, "pico:code-4k", sums="host").next_byte_logprobs(TEXT)
    device = ByteLM(backend, "pico:code-4k", sums="device").next_byte_logprobs(TEXT)
    live = np.isfinite(host)
    assert np.array_equal(live, np.isfinite(device))
    np.testing.assert_allclose(device[live], host[live], rtol=0, atol=len(TEXT) * TOLERANCE + 1e-4)


def test_a_context_at_the_end_of_the_prefix_is_not_asked_for_twice(
    backend: TransformersBackend,
) -> None:
    passes = []
    for sums in ("host", "device"):
        state = ByteLM(backend, "pico:code-4k", sums=sums).start(b"import nu")  # type: ignore[arg-type]
        before = backend.forwards
        for byte in b"mpy":
            state.logprobs()
            state.push(byte)
        state.logprobs()
        passes.append(backend.forwards - before)
        del state
    assert passes[0] == passes[1]
