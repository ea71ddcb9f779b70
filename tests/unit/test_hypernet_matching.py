"""Approximate likelihood matching: chunks, their probabilities, the divergence of two models."""

from __future__ import annotations

import math
import random
from types import ModuleType

import numpy as np
import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")

from anyvocab.hypernet.losses import (  # noqa: E402
    IGNORED,
    alignment,
    likelihood_matching,
    linear_logprobs,
)

EPS32 = 2.0**-23


def walked(a: list[int], b: list[int]) -> tuple[list[int], list[int], int]:
    """Align by walking along the text, as the paper says it."""
    chunk_a, chunk_b = [-1] * len(a), [-1] * len(b)
    i = j = start_i = start_j = at_a = at_b = count = 0
    while True:
        if at_a <= at_b:  # whoever is behind takes a token
            if i == len(a):
                break
            at_a, i = at_a + a[i], i + 1
        else:
            if j == len(b):
                break
            at_b, j = at_b + b[j], j + 1
        if at_a == at_b:
            chunk_a[start_i:i] = [count] * (i - start_i)
            chunk_b[start_j:j] = [count] * (j - start_j)
            start_i, start_j, count = i, j, count + 1
    return chunk_a, chunk_b, count


@pytest.mark.parametrize("seed", range(60))
def test_chunks_are_those_of_a_walk_along_the_text(seed: int) -> None:
    rng = random.Random(seed)
    a, b = ([rng.randint(1, 4) for _ in range(rng.randint(0, 12))] for _ in range(2))
    found_a, found_b, count = alignment(np.array(a, np.int64), np.array(b, np.int64))
    assert (found_a.tolist(), found_b.tolist(), count) == walked(a, b)


def test_the_same_tokenization_gives_a_chunk_to_each_token() -> None:
    lengths = np.array([3, 1, 2])
    a, b, count = alignment(lengths, lengths)
    assert a.tolist() == b.tolist() == [0, 1, 2]
    assert count == 3


@pytest.mark.parametrize("chunk", [1, 5, 23, 100])
@pytest.mark.parametrize("cap", [None, 3.0])
def test_log_probabilities_and_their_gradients_are_the_plain_ones(
    chunk: int, cap: float | None
) -> None:
    made = torch.Generator().manual_seed(0)
    n, d, m = 23, 8, 17
    plain = [
        torch.randn(*shape, generator=made, dtype=torch.float64).requires_grad_()
        for shape in ((n, d), (m, d), (m,))
    ]
    target = torch.randint(0, m, (n,), generator=made)
    pull = torch.randn(n, generator=made, dtype=torch.float64)
    offset = torch.linspace(0, 2, m)

    def shape(logits: torch.Tensor) -> torch.Tensor:
        return logits if cap is None else cap * torch.tanh(logits / cap)

    wanted = (shape(plain[0] @ plain[1].T + plain[2]) + offset.double()).log_softmax(dim=1)
    wanted = wanted[torch.arange(n), target]
    (wanted * pull).sum().backward()
    ours = [one.detach().float().requires_grad_() for one in plain]
    found = linear_logprobs(
        ours[0], ours[1], target, bias=ours[2], offset=offset, shape=shape, chunk=chunk
    )
    (found * pull.float()).sum().backward()
    # float32 against float64: sums of n * m terms, none above 10, each rounded once.
    bound = n * m * 10 * EPS32
    assert (found - wanted).abs().max() <= bound
    for one, truth in zip(ours, plain, strict=True):
        assert one.grad is not None
        assert truth.grad is not None
        assert (one.grad - truth.grad).abs().max() <= bound


def test_a_target_that_is_not_scored_has_no_log_probability() -> None:
    hidden, weight = torch.randn(2, 4), torch.randn(3, 4)
    assert linear_logprobs(hidden, weight, torch.tensor([1, IGNORED]))[1] == 0


@pytest.mark.parametrize("temperature", [1.0, 5.0, 100.0])
def test_the_divergence_is_that_of_two_coins(temperature: float) -> None:
    teacher, student = [-0.5, -3.0, -40.0, -0.01], [-0.7, -1.0, -20.0, -2.0]
    wanted = 0.0
    for a, b in zip(teacher, student, strict=True):
        p, q = math.exp(a / temperature), math.exp(b / temperature)
        wanted += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    found = likelihood_matching(
        torch.tensor(teacher), torch.tensor(student), temperature=temperature
    )
    # Logarithms of 1 - p, p rounded: an error of eps / (1 - p), largest where p is nearest to 1.
    nearest = 1 - math.exp(-0.01 / temperature)
    assert abs(float(found) - wanted) <= 8 * EPS32 * (1 + 1 / nearest)


def test_certainty_has_a_finite_divergence_and_gradient() -> None:
    student = torch.tensor([0.0, -1e-9, -1000.0, -1.0], requires_grad=True)
    loss = likelihood_matching(torch.tensor([0.0, -1.0, -1e-12, -1000.0]), student)
    loss.backward()
    assert torch.isfinite(loss)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_a_model_under_its_own_tokenizer_is_not_apart_from_itself(runs: ModuleType) -> None:
    run = runs.trainer(alm=1.0, target=runs.tokenizer(), rows=None, initial=0.0, lexical=0.0)
    batch, lesson = run._draw()
    # Tokens of one piece are their pieces at first: the table is the source's.
    with torch.no_grad():
        rows = run.predict(batch)
    assert lesson.count == batch.scored  # a chunk for each token, as BOS stands before the first
    from anyvocab.hypernet.objective import objective

    compare = run._teacher.compare(lesson, list(range(len(batch.inputs))))
    loss = objective(batch, rows, run.body, run.controls, divergence=compare)
    # The vocabulary of text is all but two control tokens of the source: the only difference.
    assert 0 <= float(loss.apart) / lesson.count < 1e-3


def test_chunks_have_the_probabilities_that_tokens_one_by_one_have(runs: ModuleType) -> None:
    run = runs.trainer(alm=1.0)
    batch, lesson = run._draw()
    _, texts = run.texts.draw(0, run.options.texts, run.options.span)
    starts = np.concatenate(([0], np.cumsum(lesson.chunks)))
    found = run._teacher._says(lesson, starts)
    assert len(found) == lesson.count > 0
    tokenizer, table = runs.tokenizer(), run._teacher._table
    at = 0
    for row, text in enumerate(texts):
        ids = tokenizer.encode(text).tolist()[: run.options.window]
        with torch.no_grad():
            logits = run.body.model(torch.tensor([[runs.END, *ids]])).logits[0]
        each = logits.log_softmax(dim=-1)[torch.arange(len(ids)), torch.tensor(ids)]
        held = int(batch.mask[row].sum())
        ours = [len(batch.tokens[id]) for id in batch.inputs[row, 1:held].tolist()]
        chunks, _, count = alignment(np.array([len(table[id]) for id in ids]), np.array(ours))
        for chunk in range(count):
            wanted = float(each[torch.from_numpy(chunks == chunk)].sum())
            # A softmax over 262 ids, up to 24 summed.
            assert abs(float(found[at]) - wanted) <= 24 * 262 * EPS32 * max(1.0, -wanted)
            at += 1
    assert at == len(found)


def test_matching_lowers_the_divergence(runs: ModuleType) -> None:
    from anyvocab.hypernet.objective import objective

    run = runs.trainer(alm=20.0, steps=60, warmup=1, lr=3e-3, texts=8)
    batch, lesson = run._draw()

    def apart() -> float:
        compare = run._teacher.compare(lesson, list(range(len(batch.inputs))))
        with torch.no_grad():
            rows = run.predict(batch)
            loss = objective(batch, rows, run.body, run.controls, divergence=compare)
        return float(loss.apart)

    before = apart()
    runs.losses(run, 25)
    assert apart() < 0.95 * before
