"""Steps on merged batches: what is read, what is asked, what it costs, and that runs resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")

from torch.nn.functional import cross_entropy, kl_div  # noqa: E402

import anyvocab as av  # noqa: E402
from anyvocab import InvalidValue  # noqa: E402
from anyvocab.dynamic.rows import HypernetRows  # noqa: E402
from anyvocab.hypernet.data import Texts  # noqa: E402
from anyvocab.hypernet.features import SurroundingsOf  # noqa: E402
from anyvocab.hypernet.fit import Trainer  # noqa: E402
from anyvocab.hypernet.folder import Card  # noqa: E402
from anyvocab.hypernet.losses import IGNORED, linear_divergence  # noqa: E402
from anyvocab.hypernet.merged import merged_objective, some_of  # noqa: E402
from anyvocab.hypernet.options import NetworkOptions  # noqa: E402
from anyvocab.hypernet.predict import SourceModel  # noqa: E402
from anyvocab.transplant.files import vocabulary_digest  # noqa: E402
from anyvocab.transplant.identity import token_table  # noqa: E402

EPS32 = 2.0**-23
ROWS = 262  # of the tiny models
ALL: dict[str, Any] = {"dynamic_share": 1.0}
KINDS = ["causal", "masked"]


def spelt(run: Any, batch: Any, ids: list[int]) -> list[bytes]:
    """Return the bytes of ids of a batch; what has none is in brackets."""
    vocabulary = run.tokenizer.vocabulary
    return [
        batch.tokens[id - ROWS] if id >= ROWS else vocabulary.token_bytes(id) or b"[%d]" % id
        for id in ids
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", range(4))
def test_a_merged_text_has_the_bytes_of_its_base_tokens(
    step: int, kind: str, runs: ModuleType
) -> None:
    run = runs.trainer(kind, **ALL)
    batch = run._merger.step(step)
    rows = zip(batch.inputs, batch.mask, batch.plain, batch.plain_mask, strict=True)
    for inputs, mask, plain, plain_mask in rows:
        merged, base = inputs[mask].tolist(), plain[plain_mask].tolist()
        assert b"".join(spelt(run, batch, merged)) == b"".join(spelt(run, batch, base))
        assert max(base) < ROWS
    assert batch.tokens
    assert len(batch.pieces) == len(batch.tokens)


@pytest.mark.parametrize("step", range(4))
def test_what_is_asked_is_the_base_token_that_stands_behind_in_the_text(
    step: int, runs: ModuleType
) -> None:
    run = runs.trainer(**ALL)
    batch = run._merger.step(step)
    for inputs, mask, targets, plain, places in zip(
        batch.inputs, batch.mask, batch.targets, batch.plain, batch.plain_places, strict=True
    ):
        read = spelt(run, batch, inputs[mask].tolist())
        base = spelt(run, batch, plain.tolist())
        for at in (targets != IGNORED).nonzero()[:, 0].tolist():
            before, place = b"".join(read[: at + 1]), int(places[at])
            assert b"".join(base[: place + 1]) == before  # both have read the same text
            assert int(plain[place + 1]) == int(targets[at])
        # Nothing is asked before the first new token, and everything behind it.
        new = (inputs >= ROWS).nonzero()[:, 0].tolist()
        if new:
            asked = (targets != IGNORED).nonzero()[:, 0].tolist()
            last = int(mask.sum()) - 1
            assert asked == list(range(new[0], last)) or asked == list(range(new[0], last + 1))
        else:
            assert bool((targets == IGNORED).all())


def test_a_masked_model_is_asked_what_is_hidden(runs: ModuleType) -> None:
    run = runs.trainer("masked", **ALL)
    batch = run._merger.step(0)
    asked = batch.targets != IGNORED
    assert bool((batch.inputs[asked] == runs.MASK).all())
    assert int(asked.sum()) == int((batch.inputs == runs.MASK).sum())
    where = batch.plain_places[asked]
    text = asked.nonzero()[:, 0]
    assert bool((batch.plain[text, where] == runs.MASK).all())


def test_no_merge_crosses_the_boundary_that_was_drawn(runs: ModuleType) -> None:
    run = runs.trainer(**ALL, dynamic_boundaries=("pretoken",))
    merger = av.DynamicTokenizer(run.tokenizer)
    texts = runs.corpus()[:6]
    batch = run._merger.make(texts, 1, 0)
    for text, inputs, mask in zip(texts, batch.inputs, batch.mask, strict=True):
        _, groups = merger.base(text, specials="text")
        vocabulary = run.tokenizer.vocabulary
        ids = run.tokenizer.encode(text).tolist()
        owner = [
            int(g) for id, g in zip(ids, groups, strict=True) for _ in vocabulary.token_bytes(id)
        ]
        start = 0
        for id in inputs[mask][1:].tolist():  # what stands before a text is no text
            [token] = spelt(run, batch, [id])
            assert len(set(owner[start : start + len(token)])) == 1
            start += len(token)


def test_reductions_go_from_little_to_all(runs: ModuleType) -> None:
    run = runs.trainer("masked", **ALL, dynamic_boundaries=("word",))
    found = [run._merger.step(step).reduction for step in range(40)]
    assert min(found) < 0.1
    assert max(found) > 0.4


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_the_chunked_divergence_and_its_gradient_are_the_plain_ones(chunk: int) -> None:
    made = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=made)

    hidden, other, weight, bias = drawn(23, 8), drawn(23, 8), drawn(31, 8), drawn(31)
    target = torch.randint(31, (23,), generator=made)
    ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()

    def shape(logits: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(logits / 3)

    apart, nats, plain = linear_divergence(
        ours, other, weight, target, bias=bias, shape=shape, chunk=chunk
    )
    logits, wanted = shape(theirs @ weight.T + bias), shape(other @ weight.T + bias)
    truth = kl_div(logits.log_softmax(1), wanted.log_softmax(1), reduction="sum", log_target=True)
    # Sums of 23 x 31 terms of at most their own size, each rounded a few times.
    bound = 23 * 31 * EPS32 * float(truth.detach())
    assert abs(float((apart - truth).detach())) <= bound
    assert abs(float(nats - cross_entropy(logits.detach(), target, reduction="sum"))) <= bound
    assert abs(float(plain - cross_entropy(wanted, target, reduction="sum"))) <= bound
    (2 * apart).backward()
    (2 * truth).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert (ours.grad - theirs.grad).abs().max() <= 31 * EPS32 * float(theirs.grad.abs().max()) * 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_a_step_costs_what_the_model_says_of_the_rows_that_dynamic_tokenization_reads(
    *, tied: bool, kind: str, runs: ModuleType
) -> None:
    run = runs.trainer(kind, tied=tied, **ALL, lr=0.03)
    runs.losses(run, 3)  # now rows are no longer the mean of their pieces
    batch = run._merger.step(5)
    with torch.no_grad():
        rows = run.predict(batch)
        found = merged_objective(batch, rows, run.body, run.body, teaching=run.backbone.teaching())
    card = Card(
        "residual",
        run.config.to_dict(),
        "",
        vocabulary_digest(run.tokenizer.vocabulary),
        ROWS,
        {},
        (),
    )
    maker = HypernetRows(
        av.Hypernet(run.network, card), SourceModel(run.tokenizer, run.body.rows.to("cpu"))
    )
    table = torch.cat((run.body.rows.input, maker(batch.tokens).input))
    model = run.body.model
    nats = apart = plain = 0.0
    with torch.no_grad():
        for at in range(len(batch.inputs)):
            length, base = int(batch.mask[at].sum()), int(batch.plain_mask[at].sum())
            read = table[batch.inputs[at, :length]][None]
            ours = model(inputs_embeds=read).logits[0].log_softmax(1)
            theirs = model(input_ids=batch.plain[at, :base][None]).logits[0].log_softmax(1)
            for place in (batch.targets[at] != IGNORED).nonzero()[:, 0].tolist():
                said, wanted = ours[place], theirs[int(batch.plain_places[at, place])]
                nats -= float(said[batch.targets[at, place]])
                plain -= float(wanted[batch.targets[at, place]])
                apart += float((wanted.exp() * (wanted - said)).sum())
    # Two ways through two layers of width 16 and a softmax over 262: a few hundred roundings of
    # numbers as large as a target's log-probability.
    bound = 400 * EPS32 * nats
    assert apart > 100 * bound
    assert abs(float(found.nats) - nats) <= bound
    assert abs(float(found.plain) - plain) <= bound
    assert abs(float(found.apart) - apart) <= bound


@pytest.mark.parametrize("kind", KINDS)
def test_training_on_merged_batches_lowers_what_merging_costs(kind: str, runs: ModuleType) -> None:
    run = runs.trainer(kind, **ALL, lr=0.02, steps=60, measured=2)
    before = run.measure().merged
    runs.losses(run, 60)
    assert run.measure().merged < 0.8 * before


def test_a_run_with_merged_batches_resumes_exactly(tmp_path: Path, runs: ModuleType) -> None:
    case = {"dynamic_share": 0.5, "steps": 8}
    unbroken = runs.trainer(**case)
    kinds = [unbroken._merger.takes(step) for step in range(8)]
    assert 1 < sum(kinds[:5]) < 4  # some of each before the break
    wanted = runs.losses(unbroken, 8)
    first = runs.trainer(**case, folder=tmp_path)
    runs.losses(first, 5)
    first.save()
    again = runs.trainer(**case, folder=tmp_path)
    assert again.progress.step == 5
    assert runs.losses(again, 8) == wanted[5:]


def test_a_share_of_0_is_a_run_as_it_was(runs: ModuleType, tmp_path: Path) -> None:
    plain = runs.trainer(folder=tmp_path)
    none = runs.trainer(dynamic_share=0.0, dynamic_boundaries=("sentence",), folder=tmp_path)
    assert none.checkpoints.identity == plain.checkpoints.identity
    assert runs.losses(plain, 3) == runs.losses(none, 3)
    assert none.measure().merged is None
    other = runs.trainer(dynamic_share=0.5, folder=tmp_path)
    assert other.checkpoints.identity != plain.checkpoints.identity


def test_a_run_without_merged_batches_leaves_a_head_out_that_it_would_not_train(
    runs: ModuleType,
) -> None:
    given = runs.trainer(**ALL).network
    assert given.merged is not None
    assert runs.trainer(network=given).network.merged is None
    assert runs.trainer(network=given, dynamic_share=0.5).network.merged is not None


def test_merged_batches_alone_train_one_head_of_a_given_network(runs: ModuleType) -> None:
    given = runs.trainer().network
    run = runs.trainer(network=given, **ALL, lr=0.03)
    runs.losses(run, 2)
    before, after = given.state_dict(), run.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(after["merged.correct.weight"], before["heads.0.correct.weight"])


def test_steps_that_are_not_merged_sample_what_a_run_without_them_samples(
    runs: ModuleType,
) -> None:
    run, plain = runs.trainer(dynamic_share=0.5), runs.trainer()
    at = next(step for step in range(20) if not run._merger.takes(step))
    if at:
        run.progress.step = at
    batch, _ = run._draw()
    texts = plain.texts.draw(at, plain.options.texts, plain.options.span)[1]
    wanted = plain.batcher.make(plain.batcher.samplers[0].step(texts), texts, at, 0)
    assert torch.equal(batch.inputs, wanted.inputs)
    assert torch.equal(batch.pieces, wanted.pieces)


def test_gradients_of_a_merged_step_do_not_depend_on_its_parts_or_on_activations_made_anew(
    runs: ModuleType,
) -> None:
    wanted = runs.gradients(runs.trainer(**ALL))
    largest = max(float(one.abs().max()) for name, one in wanted.items() if name != "nats")
    for changes in ({"accumulate": 3}, {"checkpointing": True}):
        run = runs.trainer(**ALL, **changes)
        found = runs.gradients(run)
        targets = run._drawn[0].scored
        assert set(found) == set(wanted)
        for name, one in wanted.items():
            # A sum over the targets in another order moves by a rounding of the largest for each.
            bound = targets * EPS32 * max(largest, float(one.abs().max()))
            assert (found[name] - one).abs().max() <= bound, name


def test_a_text_past_the_last_has_no_targets(runs: ModuleType) -> None:
    run = runs.trainer(**ALL)
    batch = run._merger.step(0)
    some = some_of(batch, [1, 99])
    assert torch.equal(some.inputs[0], batch.inputs[1])
    assert some.scored == int((batch.targets[1] != IGNORED).sum())


def test_texts_in_which_nothing_merges_teach_nothing(runs: ModuleType) -> None:
    run = runs.trainer(**ALL)
    batch = run._merger.make([b"a", b"b", b"", b"c", b"d", b"e"], 0, 0)
    assert not batch.tokens
    assert batch.scored == 0
    assert len(batch.inputs) == 5
    run._drawn = batch, None
    assert run.step() == 0.0


def test_what_the_model_is_taught_stays_what_it_was_when_it_is_trained_itself(
    runs: ModuleType,
) -> None:
    run = runs.trainer(**ALL, backbone="full", backbone_lr=0.05)
    batch = run._merger.step(0)
    before = float(run._merged(batch, run.predict(batch)).plain)
    runs.losses(run, 3)
    after = run._merged(batch, run.predict(batch))
    assert float(after.plain) == before
    assert run.backbone.teacher is not None


def test_a_network_that_is_told_its_vocabulary_is_told_the_models(runs: ModuleType) -> None:
    shape = NetworkOptions(hidden=16, inner=16, layers=1, heads=2, surroundings="vocabulary")
    made, controls = runs.body()
    texts = Texts.read(iter(runs.corpus()), seed=0, held_out_share=0.1)
    options = replace(runs.options(**ALL), network=shape)
    run = Trainer(made, runs.tokenizer(), texts, controls, options)
    batch, _ = run._draw()
    vocabulary = [token for token in token_table(run.tokenizer.vocabulary) if token]
    wanted = SurroundingsOf(run.tokenizer, ROWS)(list(batch.tokens), vocabulary)
    assert torch.equal(batch.features, torch.from_numpy(wanted))
    assert len(runs.losses(run, 2)) == 2


def test_a_target_and_merged_batches_are_not_asked_for_together(runs: ModuleType) -> None:
    with pytest.raises(InvalidValue, match=r"dynamic_share.*leave one of the two out"):
        runs.trainer(**ALL, target=av.Tokenizer.load("pico:code-2k"))


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_is_from_0_to_1(share: float, runs: ModuleType) -> None:
    with pytest.raises(InvalidValue, match="dynamic_share"):
        runs.options(dynamic_share=share)


def test_a_boundary_is_one_that_is_known(runs: ModuleType) -> None:
    with pytest.raises(InvalidValue, match="dynamic_boundaries"):
        runs.options(dynamic_boundaries=("words",))
    with pytest.raises(TypeError, match="several"):
        runs.options(dynamic_boundaries="word")
