"""Training a pico model: packing, the loss, three steps, exact resume."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is missing")
pytest.importorskip("tokenizers", reason="tokenizers is missing")
pytest.importorskip("safetensors", reason="safetensors is missing")

from anyvocab.pico import fim, measure, packing, train, vocab  # noqa: E402
from anyvocab.pico.data import Corpus, Document  # noqa: E402
from anyvocab.pico.model import IGNORED, ModelConfig, PicoLM  # noqa: E402
from anyvocab.pico.model import attend as attend_  # noqa: E402
from anyvocab.pico.optim import orthogonalise  # noqa: E402

SIZES = {"code-4k": 290, "code-2k": 380}
CONTEXT = 32


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums depend on the number of threads; the tests' sizes deserve one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def documents() -> list[Document]:
    rng = random.Random(3)
    words = ["alpha", "beta", "gamma", "return", "self", "for", "in", "x", "0", "=="]
    found = []
    for index in range(6):
        lines = [
            " " * rng.choice([0, 4, 8]) + " ".join(rng.choices(words, k=rng.randint(2, 9)))
            for _ in range(60)
        ]
        found.append(Document(f"m{index}", "source", "\n".join(lines) + "\n"))
    return found


def tokenizer(name: str) -> vocab.Tokenizer:
    return vocab.train_tokenizer(name, [document.text for document in documents()], SIZES[name])


def build(folder: Path, steps: int) -> train.Run:
    tok = tokenizer("code-4k")
    return train.Run(
        model_config=ModelConfig(
            SIZES["code-4k"], dim=32, layers=2, heads=2, kv_heads=1, hidden=48, context=CONTEXT
        ),
        config=train.TrainConfig(
            steps=steps,
            batch_tokens=128,
            micro_tokens=64,
            short_context=16,
            warmup_steps=2,
            checkpoint_seconds=1e9,
        ),
        documents=documents()[:5],
        held_out=documents()[5:],
        tokenizer=tok,
        roles=packing.RoleIds.of(tok, vocab.SPECIALS["code-4k"]),
        identity="test",
        folder=folder,
    )


@pytest.mark.parametrize("name", sorted(SIZES))
@pytest.mark.parametrize("text", ["def f(x):\n\tif x:  # é😀\r\n        return  1\n", "", "\x00 "])
def test_tokenizers_give_the_text_back(name: str, text: str) -> None:
    tok = tokenizer(name)
    ids = tok.encode(text, add_special_tokens=False).ids
    assert tok.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("name", sorted(SIZES))
def test_every_training_token_belongs_to_one_window(name: str) -> None:
    tok = tokenizer(name)
    roles = packing.RoleIds.of(tok, vocab.SPECIALS[name])
    windows = packing.build_epoch(documents(), tok, roles, context=CONTEXT, seed=1, epoch=0)
    again = packing.build_epoch(documents(), tok, roles, context=CONTEXT, seed=1, epoch=0)
    other = packing.build_epoch(documents(), tok, roles, context=CONTEXT, seed=1, epoch=1)
    assert (windows.inputs == again.inputs).all()
    assert (windows.targets == again.targets).all()
    assert windows.inputs.shape != other.inputs.shape or (windows.inputs != other.inputs).any()
    marks = {roles.fim.prefix, roles.fim.suffix, roles.fim.middle}
    assert not marks & set(windows.targets.ravel().tolist())
    scored = windows.targets[:, :-1] != IGNORED
    assert (windows.targets[:, :-1][scored] == windows.inputs[:, 1:][scored]).all()
    for row in windows.inputs.tolist():
        opened = row.count(roles.fim.prefix)
        assert opened == row.count(roles.fim.suffix) == row.count(roles.fim.middle)


def test_chunked_loss_and_its_gradient_equal_the_plain_ones() -> None:
    torch.manual_seed(0)
    model = PicoLM(ModelConfig(50, dim=16, layers=1, heads=2, kv_heads=2, hidden=24, context=8))
    model.initialise(0)
    ids = torch.randint(1, 50, (3, 8))
    targets = ids.masked_fill(torch.rand(3, 8) < 0.3, IGNORED)
    weights = torch.rand(3, 8) * (targets != IGNORED)
    closed = torch.rand(3, 8) < 0.5  # where id 0, which is no target here, is not to be had
    grads = []
    logits = model(ids).clone()
    logits[..., 0] = logits[..., 0].masked_fill(closed, -math.inf)
    each = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    for loss in (
        model.loss(ids, targets, weights, (closed, 0)),
        (each * weights.flatten()).sum(),
    ):
        model.zero_grad()
        loss.backward()
        grads.append((loss.detach(), model.lm_head.weight.grad.clone()))
    eps = torch.finfo(torch.float32).eps
    bound = 24 * 50 * eps  # one rounding for each of 24 positions and 50 logits
    assert torch.allclose(grads[0][0], grads[1][0], rtol=bound)
    assert torch.allclose(grads[0][1], grads[1][1], atol=bound, rtol=bound)
    with torch.no_grad():
        assert torch.allclose(
            model.loss(ids, targets, weights, (closed, 0)), grads[1][0], rtol=bound
        )
        ones = (targets != IGNORED).float()
        assert torch.equal(model.loss(ids, targets), model.loss(ids, targets, ones))


@pytest.mark.parametrize("name", sorted(SIZES))
def test_a_middle_counts_more_and_only_it_may_end(name: str) -> None:
    tok = tokenizer(name)
    roles = packing.RoleIds.of(tok, vocab.SPECIALS[name])
    windows = packing.build_epoch(documents(), tok, roles, context=128, seed=1, epoch=0)
    ended = windows.targets == roles.eos
    assert ended.any()
    assert windows.ends[ended].all()
    assert (windows.weights[windows.targets == IGNORED] == 0).all()
    assert windows.weights.max() == packing.MIDDLE_WEIGHT
    # between the marks of a request nothing may end; behind the last mark of PSM everything may
    for inputs, ends in zip(windows.inputs.tolist(), windows.ends.tolist(), strict=True):
        for at, token in enumerate(inputs):
            if token == roles.fim.prefix and roles.fim.middle in inputs[at:]:
                middle = inputs.index(roles.fim.middle, at)
                assert not any(ends[at:middle])
                if inputs[at + 1] != roles.fim.suffix and middle + 1 < len(inputs):
                    assert ends[middle]


@pytest.mark.parametrize("name", sorted(SIZES))
def test_a_middle_of_spm_begins_with_the_token_that_reaches_it(name: str) -> None:
    tok = tokenizer(name)
    roles = packing.RoleIds.of(tok, vocab.SPECIALS[name])
    parts = fim.Parts("alpha = be", "ta", "\nreturn x\n")

    def encode(text: str) -> list[int]:
        return list(tok.encode(text, add_special_tokens=False).ids)

    sequence = fim.write(parts, "spm", encode, roles.fim)
    scored = packing._weighted(parts, "spm", sequence, tok, roles)
    assert [one.token for one in scored] == sequence
    middle = tok.decode([one.token for one in scored if one.ends], skip_special_tokens=True)
    assert middle.endswith("ta")
    assert (parts.prefix + parts.middle).endswith(middle)
    around = [one for one in scored if not one.ends]
    assert {one.weight for one in around} == {0.0, 1.0}


def test_a_mark_in_a_source_is_text(tmp_path: Path) -> None:
    html = Document("html", "source", "<p>a</s></p>\n" * 9)
    corpus = Corpus((*documents(), html), (), ())
    tok = train.prepare_tokenizer("code-2k", SIZES["code-2k"], corpus, tmp_path)
    roles = packing.RoleIds.of(tok, vocab.SPECIALS["code-2k"])
    assert roles.eos not in tok.encode("a</s>", add_special_tokens=False).ids


def test_an_epoch_reads_a_part_of_the_tests() -> None:
    tok = tokenizer("code-4k")
    roles = packing.RoleIds.of(tok, vocab.SPECIALS["code-4k"])
    tests = [replace(document, kind="tests") for document in documents() * 10]

    def tokens(read: list[Document]) -> int:
        windows = packing.build_epoch(read, tok, roles, context=CONTEXT, seed=1, epoch=0)
        return int((windows.targets != IGNORED).sum())

    share = tokens(tests) / tokens(documents() * 10)
    # 60 draws of even chance, and documents of about one length
    assert abs(share - packing.TESTS_SHARE) < 4 * (0.25 / 60) ** 0.5


def test_the_bits_of_a_middle_are_those_of_its_tokens() -> None:
    tok = tokenizer("code-4k")
    roles = packing.RoleIds.of(tok, vocab.SPECIALS["code-4k"])
    size = SIZES["code-4k"]
    cases = measure.infill_cases(documents(), count=5)
    even = measure.middle_bits(lambda ids: torch.zeros(*ids.shape, size), tok, roles, cases)
    total = sum(len(case.middle.encode()) for case in cases)
    middles = [tok.encode(case.middle, add_special_tokens=False).ids for case in cases]
    expected = sum(map(len, middles)) * math.log2(size) / total
    assert even["psm"] == pytest.approx(expected, rel=1e-12)
    assert even["spm"] == even["left_to_right"]
    lines = measure.infill_cases(documents(), start="line", count=5)
    for cut_, line in zip(cases, lines, strict=True):
        assert line.middle.endswith(cut_.middle)
        assert line.suffix == cut_.suffix


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(3, 8, 20, generator=generator)))
    assert float(values.min()) > 0.6  # the quintic's own interval
    assert float(values.max()) < 1.3


def test_a_resumed_run_repeats_the_uninterrupted_one(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = build(tmp_path / "whole", steps=6)
    losses = [whole.step() for _ in range(6)]
    first = build(tmp_path / "cut", steps=6)
    begun = [first.step() for _ in range(3)]
    first.save()
    second = build(tmp_path / "cut", steps=6)
    assert second.progress.step == 3
    assert begun + [second.step() for _ in range(3)] == losses
    assert losses[-1] < losses[0]


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    run = build(tmp_path, steps=2)
    run.identity = "other"
    run.save()
    with pytest.raises(ValueError, match="choose a new --out folder"):
        build(tmp_path, steps=2)


def test_rates_warm_up_and_end_at_zero() -> None:
    config = train.TrainConfig(steps=100, warmup_steps=10, decay_share=0.5)
    scales = [train.rate_scale(step / 100, step, config) for step in range(101)]
    assert scales[0] == 0.1
    assert scales[10] == scales[50] == 1.0
    assert scales[100] == 0.0
    assert scales[50:] == sorted(scales[50:], reverse=True)


def test_infilling_cases_are_seeded_and_cut_inside_lines() -> None:
    cases = measure.infill_cases(documents(), count=20)
    assert cases == measure.infill_cases(documents(), count=20)
    texts = {document.name: document.text for document in documents()}
    for case in cases:
        assert case.prefix + case.middle + case.suffix in texts[case.module]
        assert "\n" not in case.middle
        assert case.suffix.startswith("\n")


def test_edit_similarity_is_counted_in_bytes() -> None:
    assert measure.edit_similarity("abcd", "abxd") == 0.75
    assert measure.edit_similarity("é", "e") == 0.0
    assert measure.edit_similarity("", "") == 1.0


def test_written_out_attention_and_its_gradient_equal_the_fused_kernel() -> None:
    generator = torch.Generator().manual_seed(0)
    length, width = 12, 8
    inputs = [
        torch.randn(2, 3, length, width, generator=generator, dtype=torch.float64) for _ in range(3)
    ]
    fused = torch.nn.functional.scaled_dot_product_attention
    outcomes = []
    for attend in (attend_, lambda q, k, v: fused(q, k, v, is_causal=True)):
        q, k, v = (one.clone().requires_grad_() for one in inputs)
        out = attend(q, k, v)
        out.square().sum().backward()
        outcomes.append([out.detach(), q.grad, k.grad, v.grad])
    # sums of at most length * width products of numbers below 100
    bound = 100 * length * width * torch.finfo(torch.float64).eps
    for ours, theirs in zip(*outcomes, strict=True):
        assert torch.allclose(ours, theirs, atol=bound, rtol=0)


def test_a_bfloat16_loss_is_the_float32_loss_to_its_precision() -> None:
    model = PicoLM(ModelConfig(50, dim=16, layers=1, heads=2, kv_heads=2, hidden=24, context=8))
    model.initialise(0)
    ids = torch.randint(50, (3, 8), generator=torch.Generator().manual_seed(0))
    plain = float(model.loss(ids, ids).detach())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = float(model.loss(ids, ids).detach())
    assert rounded != plain
    # logits are below 4 here, each rounded to 8 bits after a sum that was rounded once more
    assert abs(rounded - plain) < ids.numel() * 4 * 2 * torch.finfo(torch.bfloat16).eps


def test_most_middles_end_where_a_line_ends() -> None:
    rng = random.Random(0)
    text = "\n".join(f"line {i} of the text" for i in range(40)) + "\n"
    parts = [fim.cut(text, rng) for _ in range(2000)]
    assert all(part.join() == text for part in parts)
    share = sum(part.suffix.startswith("\n") for part in parts) / len(parts)
    # 5/8 by design; of the others, whose ends are any character, one in about twenty-one
    assert abs(share - (0.625 + 0.375 / 21)) < 4 * (0.25 / len(parts)) ** 0.5
    whole = sum(
        part.prefix[-1:] in ("", "\n") and part.suffix.startswith("\n") for part in parts
    ) / len(parts)
    # half of them whole lines, and of the rest those that began there by chance
    assert abs(whole - (0.3125 + 0.3125 / 21)) < 4 * (0.25 / len(parts)) ** 0.5
