"""Encoders that read merged batches: pairs, padding, tasks trained with sampled merging."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.dynamic.adapt import AdaptOptions, MergeRates, adapt
from anyvocab.dynamic.labels import IGNORED
from anyvocab.dynamic.padding import padding_side
from anyvocab.dynamic.task import Examples, evaluate
from anyvocab.testing import tiny_tokenizer

torch = pytest.importorskip("torch", reason="torch is missing")
transformers = pytest.importorskip("transformers", reason="transformers is missing")
pytestmark = pytest.mark.models

POST = {"type": "BertProcessing", "sep": ["<|end|>", 260], "cls": ["<|fim_prefix|>", 261]}
DOCUMENT = json.dumps(tiny_tokenizer(post_processor=POST))
WORDS = ["hello", "shell", "over", "hills", "yes", "no"]
SHAPE: dict[str, Any] = {
    "vocab_size": 262,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def encoder(kind: str, *, labels: int = 2, seed: int = 0) -> av.DynamicModel:
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        **SHAPE, num_labels=labels, initializer_range=0.2, hidden_dropout_prob=0.0
    )
    network = getattr(transformers, f"BertFor{kind}")(config).eval()
    return av.DynamicModel(network, DOCUMENT.encode())


def sentences(number: int, seed: int) -> Examples:
    """Texts of two classes, each with words of its own and one that both have."""
    draws = np.random.default_rng(seed)
    classes = draws.integers(2, size=number).tolist()
    words = [draws.choice([*WORDS[3 * one : 3 * one + 3], "far"], size=5) for one in classes]
    return Examples([" ".join(row) for row in words], classes)


def tagged(number: int, seed: int) -> Examples:
    """Lists of words whose classes are those of the words; the last has none."""
    draws = np.random.default_rng(seed)
    rows = [draws.integers(len(WORDS), size=5).tolist() for _ in range(number)]
    labels = [[IGNORED if word == 5 else word // 2 for word in row] for row in rows]
    return Examples([[WORDS[word] for word in row] for row in rows], labels)


def test_a_pair_is_read_as_transformers_reads_it_when_nothing_merges() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    model = encoder("SequenceClassification")
    pairs = [("hello shell", "over the hills"), ("yes", "no")]
    theirs = tokenizers.Tokenizer.from_str(DOCUMENT)
    said = model(pairs, max_merges=0)
    for row, pair in enumerate(pairs):
        encoded = theirs.encode(*pair)
        with torch.no_grad():
            wanted = model.network(
                input_ids=torch.tensor([encoded.ids]),
                token_type_ids=torch.tensor([encoded.type_ids]),
            ).logits
        # Twenty-odd products of float32 numbers around 1, padding masked to exactly nothing.
        assert torch.allclose(said.output.logits[row], wanted[0], atol=1e-5)
    given = model.arguments(said.inputs)["token_type_ids"]
    assert given[0].tolist() == encoded_types(theirs, pairs[0], given.shape[1])


def encoded_types(theirs: Any, pair: tuple[str, str], size: int) -> list[int]:
    types: list[int] = theirs.encode(*pair).type_ids
    return types + [0] * (size - len(types))


def test_a_merged_pair_keeps_the_types_of_its_parts() -> None:
    model = encoder("SequenceClassification")
    batch = model.merge([("over hills", "yes yes")], boundary="word")
    given = model.arguments(model.embed(batch))["token_type_ids"]
    assert batch.token_bytes() == [[None, b"over", b" hills", None, b"yes", b" yes", None]]
    assert given.tolist() == [[0, 0, 0, 0, 1, 1, 1]]


@pytest.mark.parametrize("train", ["lora", "full"])
def test_a_classifier_learns_at_sampled_rates_and_answers_at_all_of_them(train: Any) -> None:
    if train == "lora":
        pytest.importorskip("peft", reason="peft is missing")
    model = encoder("SequenceClassification")
    before = evaluate(model, sentences(64, seed=9), rates=[0.0])[0]
    lr = {"lora": 1e-2, "full": 3e-3}[train]
    options = AdaptOptions(train=train, lr=lr, epochs=3, batch_size=16, lora_dropout=0.0)
    rows = model.network.get_input_embeddings().weight.clone()
    report = adapt(model, sentences(192, seed=1), options)
    assert np.mean(report.losses[-4:]) < 0.5 * np.mean(report.losses[:4])
    assert len(set(report.rates)) == len(report.rates) == 3 * 12
    assert (rows == model.network.get_input_embeddings().weight).all()
    scores = evaluate(model, sentences(64, seed=9), rates=[0.0, 0.5, 1.0])
    assert min(score.accuracy for score in scores) > 0.8 > before.accuracy  # chance: 0.5
    assert scores[0].reduction == 0 < scores[1].reduction < scores[2].reduction


def test_a_classifier_of_words_learns_and_no_label_is_lost_by_merging() -> None:
    pytest.importorskip("peft", reason="peft is missing")
    model = encoder("TokenClassification", labels=3)
    rates = MergeRates("uniform")
    options = AdaptOptions(lr=1e-2, epochs=4, batch_size=16, rates=rates, lora_dropout=0.0)
    report = adapt(model, tagged(192, seed=2), options)
    assert np.mean(report.losses[-4:]) < 0.5 * np.mean(report.losses[:4])
    for score in evaluate(model, tagged(48, seed=8), rates=[0.0, 0.5, 1.0]):
        assert score.accuracy > 0.8  # chance: 0.4
        assert score.macro_f1 > 0.8


def test_a_word_without_a_token_is_a_wrong_answer() -> None:
    model = encoder("TokenClassification", labels=1)
    score = evaluate(model, Examples([["hello", ""]], [[0, 0]]), rates=[0.0])[0]
    assert score.accuracy == 0.5
    ignored = evaluate(model, Examples([["hello", ""]], [[0, IGNORED]]), rates=[0.0])[0]
    assert ignored.accuracy == 1.0


def test_after_training_the_network_is_a_plain_one(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is missing")
    model = encoder("SequenceClassification")
    names = {name: one.requires_grad for name, one in model.network.named_parameters()}
    adapt(model, sentences(32, seed=1), AdaptOptions(lr=1e-2, epochs=2))
    assert {name: one.requires_grad for name, one in model.network.named_parameters()} == names
    assert not model.network.training
    model.network.save_pretrained(tmp_path)
    again = transformers.BertForSequenceClassification.from_pretrained(tmp_path)
    other = av.DynamicModel(again.eval(), DOCUMENT.encode())
    texts = sentences(8, seed=3).texts
    assert torch.equal(model(texts).output.logits, other(texts).output.logits)


def test_merged_adapters_compute_what_they_did_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft", reason="peft is missing")
    from anyvocab.dynamic import adapt as module

    model = encoder("SequenceClassification")
    texts = sentences(8, seed=3).texts
    apart: list[Any] = []
    merge = module._merge_adapters

    def remembered(network: Any) -> None:
        network.eval()
        apart.append(model(texts).output.logits)
        merge(network)

    monkeypatch.setattr(module, "_merge_adapters", remembered)
    adapt(model, sentences(64, seed=1), AdaptOptions(lr=1e-2, epochs=2, train="lora"))
    assert torch.allclose(apart[0], model(texts).output.logits, atol=1e-4)


def test_a_seed_decides_everything_and_leaves_torch_as_it_was() -> None:
    state = torch.random.get_rng_state()
    runs = []
    for seed in (5, 5, 6):
        model = encoder("SequenceClassification")
        torch.random.set_rng_state(state)
        options = AdaptOptions(train="head", epochs=1, seed=seed)
        runs.append(adapt(model, sentences(64, seed=1), options))
        assert torch.equal(torch.random.get_rng_state(), state)
    assert runs[0].losses == runs[1].losses != runs[2].losses
    assert runs[0].rates == runs[1].rates != runs[2].rates


def test_ctrl_c_leaves_a_plain_network_that_keeps_what_it_learned() -> None:
    pytest.importorskip("peft", reason="peft is missing")
    model = encoder("SequenceClassification")
    head = model.network.classifier.weight.clone()
    names = [name for name, _ in model.network.named_parameters()]
    done = []

    def progress(stage: str, step: int, steps: int) -> None:
        done.append((stage, step, steps))
        if step == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        adapt(model, sentences(96, seed=1), AdaptOptions(epochs=1, warmup=0), progress=progress)
    assert done == [("adapt", 1, 3), ("adapt", 2, 3)]
    assert [name for name, _ in model.network.named_parameters()] == names
    assert not model.network.training
    assert (model.network.classifier.weight != head).any()


def test_rates_are_drawn_from_what_was_asked_for() -> None:
    draws = np.random.default_rng(0)
    normal = [MergeRates(mean=0.7, low=0.2).draw(draws) for _ in range(2000)]
    assert 0.2 <= min(normal) <= max(normal) == 1.0
    # Four standard errors of the mean; clipping at 1 moves it by less than 0.005.
    assert abs(np.mean(normal) - 0.7) < 4 / 6 / np.sqrt(2000) + 0.005
    uniform = [MergeRates("uniform", low=0.1, high=0.3).draw(draws) for _ in range(2000)]
    assert 0.1 <= min(uniform) < 0.11 < 0.29 < max(uniform) <= 0.3
    assert {MergeRates("fixed", mean=0.25).draw(draws) for _ in range(3)} == {0.25}


@pytest.mark.parametrize("name", ["Llama", "GPT2"])
def test_a_classifier_that_reads_the_last_place_is_padded_on_the_left(name: str) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SHAPE, num_labels=2)
    network = getattr(transformers, f"{name}ForSequenceClassification")(config).eval()
    assert padding_side(network) == "left"
    model = av.DynamicModel(network, DOCUMENT.encode())
    texts = ["hello", "over the hills and far away"]
    both = model(texts).output.logits
    for row, text in enumerate(texts):
        assert torch.allclose(both[row], model([text]).output.logits[0], atol=1e-5)


def test_adapters_are_put_on_the_products_of_gpt2_too() -> None:
    pytest.importorskip("peft", reason="peft is missing")
    torch.manual_seed(0)
    network = transformers.GPT2ForSequenceClassification(
        transformers.GPT2Config(**SHAPE, num_labels=2)
    )
    model = av.DynamicModel(network.eval(), DOCUMENT.encode(), rows="mean")
    before = {name: one.clone() for name, one in network.state_dict().items()}
    adapt(model, sentences(8, seed=0), AdaptOptions(epochs=1, batch_size=4, lora_dropout=0.0))
    after = model.network.state_dict()
    assert list(after) == list(before)
    moved = {name for name, one in after.items() if not torch.equal(one, before[name])}
    assert {f"transformer.h.1.{at}.weight" for at in ("attn.c_attn", "mlp.c_fc")} <= moved
    assert "transformer.wte.weight" not in moved


def test_an_encoder_that_mixes_padding_in_reads_texts_of_one_length_only() -> None:
    torch.manual_seed(0)
    shape = {**SHAPE, "type_vocab_size": 2}
    network = transformers.FNetForMaskedLM(transformers.FNetConfig(**shape)).eval()
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    model = av.DynamicModel(network, DOCUMENT.encode())
    alone = model(["hello"]).output.logits
    assert torch.allclose(model(["hello", "hello"]).output.logits[1], alone[0], atol=1e-5)
    with pytest.raises(errors.InvalidValue, match="gives another answer when its text is padded"):
        model(["hello", "over the hills and far away"])


def test_a_model_that_fails_without_ids_is_refused_by_name() -> None:
    class NeedsIds(transformers.BertForMaskedLM):
        def forward(self, input_ids=None, **options):  # type: ignore[no-untyped-def]
            return super().forward(input_ids=input_ids.clone(), **options)

    network = NeedsIds(transformers.BertConfig(**SHAPE)).eval()
    with pytest.raises(errors.InvalidValue, match="fails when it is given inputs_embeds"):
        av.DynamicModel(network, DOCUMENT.encode())


def test_what_cannot_be_trained_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    masked = encoder("MaskedLM")
    with pytest.raises(errors.InvalidValue, match="classifies neither texts nor tokens"):
        adapt(masked, sentences(2, seed=0))
    model = encoder("SequenceClassification")
    with pytest.raises(errors.InvalidValue, match="2 is no class: the model has 2"):
        adapt(model, Examples(["hello"], [2]), AdaptOptions(train="head"))
    with pytest.raises(errors.InvalidValue, match="1 texts and 2 labels"):
        Examples(["hello"], [0, 1])
    with pytest.raises(errors.InvalidValue, match="must be shares"):
        MergeRates(low=0.8, high=0.2)
    with pytest.raises(errors.InvalidValue, match='"lora" or "full" or "head"'):
        AdaptOptions(train="all")  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidValue, match="must be at least 1, got 0"):
        AdaptOptions(epochs=0)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(errors.MissingExtra, match=r"anyvocab\[hypernet\]"):
        adapt(model, sentences(2, seed=0))
    assert not model.network.training
