"""Losses of hypernetwork training: equal to the plain formulas, without their memory."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch.nn.functional import cross_entropy  # noqa: E402

from anyvocab.hypernet.losses import IGNORED, lexical, linear_cross_entropy  # noqa: E402

N, D, M = 23, 8, 17


def case(seed: int = 0) -> tuple[torch.Tensor, ...]:
    made = torch.Generator().manual_seed(seed)
    hidden = torch.randn(N, D, generator=made, dtype=torch.float64)
    weight = torch.randn(M, D, generator=made, dtype=torch.float64)
    bias = torch.randn(M, generator=made, dtype=torch.float64)
    target = torch.randint(0, M, (N,), generator=made)
    target[::5] = IGNORED
    return hidden, weight, bias, target


@pytest.mark.parametrize("chunk", [1, 4, 23, 100])
@pytest.mark.parametrize("cap", [None, 3.0])
def test_the_chunked_loss_and_its_gradients_are_the_plain_ones(
    chunk: int, cap: float | None
) -> None:
    hidden, weight, bias, target = case()
    offset = torch.linspace(0, 2, M)
    grown = [one.float().requires_grad_() for one in (hidden, weight, bias)]

    def shape(logits: torch.Tensor) -> torch.Tensor:
        return logits if cap is None else cap * torch.tanh(logits / cap)

    loss = linear_cross_entropy(
        grown[0], grown[1], target, bias=grown[2], offset=offset, shape=shape, chunk=chunk
    )
    (loss / 3).backward()
    plain = [one.requires_grad_() for one in (hidden, weight, bias)]
    logits = shape(plain[0] @ plain[1].T + plain[2]) + offset.double()
    wanted = cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum")
    (wanted / 3).backward()
    # float32 against float64: sums of N * M terms, none above 10, each rounded once.
    bound = N * M * 10 * 2.0**-24
    assert abs(loss.item() - wanted.item()) <= bound
    for ours, theirs in zip(grown, plain, strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert (ours.grad - theirs.grad).abs().max() <= bound


def test_only_what_wants_a_gradient_gets_one() -> None:
    hidden, weight, _, target = case()
    rows = weight.float().requires_grad_()
    linear_cross_entropy(hidden.float(), rows, target).backward()
    assert rows.grad is not None
    with torch.no_grad():
        assert float(linear_cross_entropy(hidden.float(), rows, target)) > 0


def test_targets_that_are_all_ignored_cost_nothing() -> None:
    hidden, weight, _, target = case()
    loss = linear_cross_entropy(hidden.float(), weight.float(), torch.full_like(target, IGNORED))
    assert float(loss) == 0.0


def test_logits_of_a_large_vocabulary_are_never_whole() -> None:
    # 4,096 states times 8,192 rows in float32 would be 128 MiB; 64 states at a time are 2.
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            found = func(*args, **(kwargs or {}))
            if isinstance(found, torch.Tensor):
                self.size = max(self.size, found.numel())
            return found

    hidden, weight = torch.randn(4096, 4).requires_grad_(), torch.randn(8192, 4).requires_grad_()
    target = torch.randint(0, 8192, (4096,))
    watch = Largest()
    with watch:
        linear_cross_entropy(hidden, weight, target, chunk=64).backward()
    assert watch.size == 64 * 8192


def test_the_lexical_distance_is_1_for_rows_at_zero_and_0_for_the_rows_themselves() -> None:
    truth = torch.randn(5, 3)
    assert float(lexical(torch.zeros(5, 3), truth)) == pytest.approx(1.0, rel=1e-6)
    assert float(lexical(truth, truth)) == 0.0
    assert float(lexical(truth * 1e3 * 0, truth * 1e3)) == pytest.approx(1.0, rel=1e-6)
