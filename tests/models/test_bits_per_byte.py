"""Bits per byte against its definition: one forward pass per id, summed."""

from __future__ import annotations

import json
import math

import pytest

import anyvocab as av
from anyvocab.evaluate import bits_per_byte
from anyvocab.testing import tiny_tokenizer

pytestmark = pytest.mark.models

CONTEXT = 8


@pytest.fixture(scope="module")
def tokenizer() -> av.Tokenizer:
    return av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode())


@pytest.fixture(scope="module")
def model() -> object:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=262,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
    )
    return LlamaForCausalLM(config).eval()


def by_definition(model: object, ids: list[int]) -> float:
    """The sum over ids of the negative log-probability after what the windows let it see."""
    import torch

    nats, scored = 0.0, 1
    while scored < len(ids):
        end = min(len(ids), max(CONTEXT, scored + CONTEXT // 2))
        start = max(0, end - CONTEXT)
        for at in range(scored, end):
            with torch.inference_mode():
                logits = model(torch.tensor([ids[start:at]])).logits[0, -1].double()  # type: ignore[operator]
            nats -= float(torch.log_softmax(logits, -1)[ids[at]])
        scored = end
    return nats


def test_the_windows_sum_to_the_definition(tokenizer: av.Tokenizer, model: object) -> None:
    texts = ["hell", "hello hello hello, hello!", b"\xff\xfe", ""]
    score = bits_per_byte(model, texts, tokenizer=tokenizer, first_ids=[260])
    rows = [[260, *tokenizer.encode(text).tolist()] for text in texts]
    expected = sum(by_definition(model, row) for row in rows)
    # Batched and single matrix products differ in the last bits of float32: 2**-24 relative per
    # operation, 16-wide sums in two layers, over all ids.
    assert score.nats == pytest.approx(expected, rel=1e-5)
    assert score.tokens == sum(len(row) - 1 for row in rows)
    assert score.bytes == 4 + 25 + 2
    assert score.bits_per_byte == pytest.approx(expected / math.log(2) / 31, rel=1e-5)


def test_the_first_id_is_the_bos_and_else_the_eos(tokenizer: av.Tokenizer, model: object) -> None:
    named = bits_per_byte(model, ["hello"], tokenizer=tokenizer, first_ids=[260])
    assert tokenizer.vocabulary.ids_of_role("bos") == ()
    with pytest.raises(av.InvalidValue, match="first_ids"):
        bits_per_byte(model, ["hello"], tokenizer=tokenizer)
    assert named.tokens == 2


def test_nothing_to_score_is_refused(tokenizer: av.Tokenizer, model: object) -> None:
    with pytest.raises(av.InvalidValue, match="no byte to score"):
        bits_per_byte(model, [""], tokenizer=tokenizer, first_ids=[0])
    with pytest.raises(av.InvalidValue, match="at least 2"):
        bits_per_byte(model, ["x"], tokenizer=tokenizer, first_ids=[0], window=1)


@pytest.mark.parametrize("name", ["code-4k", "code-2k"])
def test_the_embedded_models_score_as_their_cards_were_measured(name: str) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    from anyvocab import pico
    from anyvocab.pico import measure
    from anyvocab.pico.data import load_module
    from anyvocab.pico.packing import RoleIds
    from anyvocab.pico.vocab import SPECIALS

    folder = pico.path(name)
    documents = [load_module("sched"), load_module("colorsys")]
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    network = AutoModelForCausalLM.from_pretrained(folder).float().eval()
    card = measure.bits_per_byte(
        lambda ids: network(ids).logits,
        theirs,
        RoleIds.of(theirs, SPECIALS[name]),
        documents,
        network.config.max_position_embeddings,
    )
    score = bits_per_byte(f"pico:{name}", [document.text for document in documents])
    assert score.bytes == card["bytes"]
    # Both sum float32 logits of the same windows, batched in another order.
    assert score.bits_per_byte == pytest.approx(card["bits_per_byte"], rel=1e-5)
