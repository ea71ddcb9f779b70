"""Rows of new tokens: made from bytes, kept within a bound; and merged batches as inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

import anyvocab as av
from anyvocab import errors
from anyvocab.dynamic import DynamicModel, Embedder, HypernetRows, MeanRows, RowCache
from anyvocab.hypernet.predict import SourceModel
from anyvocab.hypernet.rows import Rows

TEXTS = [
    "def tokenize(tokenizer):\n    return tokenizer.tokenize_tokens()\n",
    "x = 1",
    "tokenizer = Tokenizer()  # the tokenizer's tokenizer",
]
WIDTH = 4
ROW = WIDTH * 4  # bytes


class Counted:
    """Rows that say which token they are of; counts what it is asked for."""

    name = "counted"

    def __init__(self) -> None:
        self.asked: list[list[bytes]] = []

    def __call__(self, tokens: Sequence[bytes]) -> Rows:
        self.asked.append(list(tokens))
        return Rows(torch.tensor([[float(sum(token))] * WIDTH for token in tokens]))


def words(*texts: str) -> list[bytes]:
    return [text.encode() for text in texts]


def value(token: bytes) -> float:
    return float(sum(token))


def given(cache: RowCache, tokens: list[bytes]) -> list[float]:
    return [float(one) for one in cache.rows(tokens).input[:, 0]]


def test_a_row_is_made_once_and_found_again() -> None:
    make = Counted()
    cache = RowCache(make, max_bytes=10 * ROW)
    assert given(cache, words("a", "b", "a")) == [value(b"a"), value(b"b"), value(b"a")]
    assert given(cache, words("b", "c")) == [value(b"b"), value(b"c")]
    assert make.asked == [words("a", "b"), words("c")]
    assert (cache.hits, cache.misses, cache.evictions) == (1, 3, 0)
    assert cache.hit_rate == 0.25


def test_the_least_recently_used_row_goes_first() -> None:
    cache = RowCache(Counted(), max_bytes=2 * ROW)
    cache.rows(words("a", "b"))
    cache.rows(words("a"))
    cache.rows(words("c"))
    assert b"a" in cache
    assert b"b" not in cache
    assert b"c" in cache
    assert cache.evictions == 1


@pytest.mark.parametrize("capacity", [0, 1, 3, 7, 1000])
def test_what_is_given_does_not_depend_on_what_fits(capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    cache = RowCache(Counted(), max_bytes=capacity * ROW + ROW // 2)
    for _ in range(60):
        chosen = [bytes([97 + int(i)]) for i in rng.integers(0, 12, size=rng.integers(1, 9))]
        assert given(cache, chosen) == [value(token) for token in chosen]
        assert len(cache) <= capacity
        assert cache.nbytes <= cache.max_bytes
    assert cache.misses - cache.evictions == len(cache)


def test_rows_of_all_sides_are_kept() -> None:
    def make(tokens: Sequence[bytes]) -> Rows:
        one = torch.arange(len(tokens)).float()
        return Rows(one[:, None].repeat(1, 2), one[:, None].repeat(1, 2) + 10, one + 20)

    make.name = "sides"  # type: ignore[attr-defined]
    cache = RowCache(make, max_bytes=1 << 10)  # type: ignore[arg-type]
    cache.rows(words("a", "b"))
    found = cache.rows(words("b"))
    assert found.output is not None
    assert found.bias is not None
    assert found.input.tolist() == [[1, 1]]
    assert found.output.tolist() == [[11, 11]]
    assert found.bias.tolist() == [21]


def test_rows_made_for_nothing_are_refused() -> None:
    cache = RowCache(Counted())
    with pytest.raises(errors.InvalidValue, match="no tokens"):
        cache.rows([])
    with pytest.raises(errors.InvalidValue, match="max_bytes"):
        RowCache(Counted(), max_bytes=-1)


def test_a_failed_prediction_changes_nothing() -> None:
    class Fails(Counted):
        def __call__(self, tokens: Sequence[bytes]) -> Rows:
            if b"bad" in tokens:
                raise KeyboardInterrupt
            return super().__call__(tokens)

    cache = RowCache(Fails(), max_bytes=4 * ROW)
    cache.rows(words("a"))
    with pytest.raises(KeyboardInterrupt):
        cache.rows(words("a", "bad"))
    assert len(cache) == 1
    assert given(cache, words("a", "b")) == [value(b"a"), value(b"b")]


def test_clearing_forgets_the_rows() -> None:
    make = Counted()
    cache = RowCache(make)
    cache.rows(words("a"))
    cache.clear()
    assert (len(cache), cache.nbytes) == (0, 0)
    cache.rows(words("a"))
    assert len(make.asked) == 2


@pytest.mark.parametrize("name", ["code-4k", "code-2k"])
def test_mean_rows_are_the_means_of_the_pieces(name: str) -> None:
    source = SourceModel.open(f"pico:{name}")
    tokens = words(" tokenizer", "tokenize_tokens", "é漢", "x")
    found = MeanRows(source)(tokens)
    for at, token in enumerate(tokens):
        pieces = torch.tensor(source.tokenizer.encode(token).tolist())
        expected = source.rows.input[pieces].float().mean(dim=0)
        assert torch.allclose(found.input[at], expected, atol=1e-6)
    assert (found.output is None) == (source.rows.output is None)


def test_hypernet_rows_are_what_the_hypernetwork_predicts_whatever_comes_with_them() -> None:
    source = SourceModel.open("pico:code-2k")
    rows = HypernetRows(av.Hypernet.load("pico:code-2k"), source)
    tokens = words(" tokenizer", "self.assertEqual", "x")
    together = rows(tokens)
    assert together.output is not None
    for at, token in enumerate(tokens):
        alone = rows([token])
        # Products of other shapes are summed in another order: a few units of rounding.
        assert torch.allclose(alone.input[0], together.input[at], atol=1e-5)


def test_a_hypernetwork_of_another_model_is_refused() -> None:
    with pytest.raises(errors.InvalidValue):
        HypernetRows(av.Hypernet.load("pico:code-2k"), SourceModel.open("pico:code-4k"))


@pytest.fixture(scope="module")
def model() -> DynamicModel:
    return DynamicModel.load("pico:code-4k")


@pytest.mark.parametrize("side", ["left", "right"])
def test_inputs_hold_a_row_for_each_token_where_the_mask_says(
    model: DynamicModel, side: av.dynamic.embed.Side
) -> None:
    batch = model.merge(TEXTS, attainable=0.7)
    inputs = model.embed(batch, side=side)
    longest = int(batch.lengths().max())
    assert inputs.inputs_embeds.shape == (3, longest, 192)
    assert inputs.attention_mask.sum(dim=1).tolist() == batch.lengths().tolist()
    rows = model.embedder.of(batch)
    assert torch.equal(inputs.ragged(inputs.inputs_embeds), rows)
    table = model.network.get_input_embeddings().weight
    for at, id in enumerate(batch.ids.tolist()):
        if id < batch.new_tokens.first_id:
            assert torch.equal(rows[at], table[id])
        else:
            token = batch.new_tokens[id - batch.new_tokens.first_id]
            assert torch.equal(rows[at], model.cache.rows([token]).input[0])
    assert float(inputs.inputs_embeds[inputs.attention_mask == 0].abs().sum()) == 0
    for row, mask in zip(inputs.position_ids, inputs.attention_mask, strict=True):
        assert row[mask == 1].tolist() == list(range(int(mask.sum())))
    assert int(inputs.attention_mask[1, -1 if side == "left" else 0]) == 1


def test_values_go_to_the_padded_layout_and_back(model: DynamicModel) -> None:
    inputs = model.embed(model.merge(TEXTS, max_merges=2), side="left")
    values = np.arange(len(inputs.batch.ids))
    padded = inputs.padded(values, fill=-100)
    assert inputs.ragged(padded).tolist() == values.tolist()
    assert int((padded == -100).sum()) == int((inputs.attention_mask == 0).sum())


@pytest.mark.parametrize("side", ["left", "right"])
def test_without_merges_the_model_says_what_it_always_did(
    model: DynamicModel, side: av.dynamic.embed.Side
) -> None:
    inputs = model.embed(model.merge(TEXTS, max_merges=0), side=side)
    with torch.no_grad():
        logits = inputs.ragged(model.network(**model.arguments(inputs)).logits)
        for at, ids in enumerate(inputs.batch.rows):
            plain = model.network(torch.from_numpy(ids.astype(np.int64))[None]).logits[0]
            start, end = inputs.batch.offsets[at : at + 2]
            # The same sums with masked terms in them: rounding of float32.
            assert torch.allclose(logits[start:end], plain, atol=1e-3)
    assert inputs.batch.ids[0] == model.first_ids[0]


def test_first_ids_stand_before_every_text_and_never_merge(model: DynamicModel) -> None:
    batch = model.merge(["aaaa", "aaaa"])
    assert [row.tolist()[0] for row in batch.rows] == list(model.first_ids) * 2
    assert batch.spans is not None
    assert batch.words is not None
    assert batch.spans[0].tolist() == [0, 0]
    assert batch.words[0] == -1
    assert batch.base.ids[0] == model.first_ids[0]
    both = model.tokenizer.base_batch(["ab", "cd"]).after([5, 5])
    assert both.ids[:2].tolist() == [5, 5]
    assert both.groups[0] != both.groups[1]
    assert both.offsets[1] == 2 + len(model.tokenizer.tokenizer.encode("ab"))


def bert() -> BertForMaskedLM:
    torch.manual_seed(0)
    size = len(av.Tokenizer.load("pico:code-2k").vocabulary)
    config = BertConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    return BertForMaskedLM(config).eval()


def test_a_masked_model_reads_merged_batches() -> None:
    model = DynamicModel(bert(), "pico:code-2k", rows="mean")
    assert (model.kind, model.first_ids) == ("encoder", ())
    said = model(TEXTS, boundary="word", attainable=1.0)
    assert said.output.logits.shape[:2] == said.inputs.attention_mask.shape
    plain = model(TEXTS, max_merges=0)
    ids = torch.from_numpy(plain.batch.rows[1].astype(np.int64))[None]
    alone = model.network(ids).logits[0]
    assert torch.allclose(plain.output.logits[1, : ids.shape[1]], alone, atol=1e-5)


def test_predicted_base_rows_take_the_place_of_the_models_own() -> None:
    model = DynamicModel.load("pico:code-2k", base_rows="predicted")
    batch = model.merge(["def f(x):"], max_merges=0)
    source = SourceModel.open("pico:code-2k")
    # They make a whole vocabulary, and so come from the head for those.
    rows = HypernetRows(av.Hypernet.load("pico:code-2k"), source, use="vocabulary")
    token = batch.bytes_of(int(batch.ids[1]))
    assert token is not None
    assert torch.allclose(model.embedder.of(batch)[1], rows([token]).input[0], atol=1e-5)
    own = source.rows.input[int(batch.ids[0])].float()
    assert torch.allclose(model.embedder.of(batch)[0], own)  # a control token has no bytes


def test_a_text_beyond_the_models_positions_is_refused_until_it_is_merged() -> None:
    model = DynamicModel(bert(), "pico:code-2k", rows="mean")
    long = "tokenizer_tokenizer_" * 12
    with pytest.raises(errors.InvalidValue, match="positions for 64"):
        model([long], max_merges=0)
    assert len(model([long], boundary="word").batch.ids) < 64


def test_positions_that_a_model_keeps_for_padding_are_not_promised() -> None:
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(av.Tokenizer.load("pico:code-2k").vocabulary), hidden_size=16,
        num_hidden_layers=1, num_attention_heads=1, intermediate_size=16,
        max_position_embeddings=34, pad_token_id=1,
    )  # fmt: skip
    model = DynamicModel(RobertaForMaskedLM(config).eval(), "pico:code-2k", rows="mean")
    base = model.tokenizer.base_batch(["x = 1; " * 20])
    for length in (32, 33):
        batch = model.tokenizer.merge_arrays(
            base.ids[:length], [0, length], np.arange(length), max_merges=0
        )
        if length == 32:
            inputs = model.embed(batch)
            model.network(**model.arguments(inputs))
        else:
            with pytest.raises(errors.InvalidValue, match="positions for 32"):
                model.embed(batch)


def test_models_that_cannot_read_rows_are_refused_by_name() -> None:
    config = T5Config(vocab_size=100, d_model=16, d_ff=16, num_layers=1, num_heads=1, d_kv=8)
    with pytest.raises(errors.InvalidValue, match="encoder-decoder"):
        DynamicModel(T5ForConditionalGeneration(config), "pico:code-2k")

    class IdsOnly(GPT2LMHeadModel):  # type: ignore[misc]
        def forward(self, input_ids: torch.Tensor) -> object:
            return super().forward(input_ids)

    size = len(av.Tokenizer.load("pico:code-2k").vocabulary)
    small = GPT2Config(vocab_size=size, n_positions=32, n_embd=16, n_layer=1, n_head=1)
    with pytest.raises(errors.InvalidValue, match="no inputs_embeds"):
        DynamicModel(IdsOnly(small), "pico:code-2k")

    class Elsewhere(GPT2LMHeadModel):  # type: ignore[misc]
        def forward(self, input_ids=None, inputs_embeds=None, **more):  # type: ignore[no-untyped-def]
            if input_ids is not None:
                inputs_embeds = self.transformer.wte(input_ids) * 2
            return super().forward(inputs_embeds=inputs_embeds, **more)

    with pytest.raises(errors.InvalidValue, match="needs the ids elsewhere"):
        DynamicModel(Elsewhere(small).eval(), "pico:code-2k")
    with pytest.raises(errors.InvalidValue, match="own tokenizer"):
        DynamicModel(GPT2LMHeadModel(small), "pico:code-4k")


def test_choices_that_are_none_are_refused(model: DynamicModel) -> None:
    with pytest.raises(errors.InvalidValue, match="base_rows"):
        DynamicModel.load("pico:code-2k", base_rows="own")  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidValue, match="rows"):
        DynamicModel(model.network, "pico:code-4k", rows="hypernet")
    with pytest.raises(errors.InvalidValue, match="side"):
        model.embed(model.merge(["a"]), side="middle")  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidValue, match="cannot be reached"):
        model(["abc"], reduction=0.99)
    with pytest.raises(errors.InvalidValue, match="empty"):
        model([])
    assert isinstance(model.embedder, Embedder)
