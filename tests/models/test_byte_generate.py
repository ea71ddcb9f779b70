"""`model.generate(custom_generate=byte_generate(...))` on an embedded model and a tiny llama."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab.backends import TransformersBackend
from anyvocab.bytelm import ByteLM, Ids
from anyvocab.pico import path
from anyvocab.testing import merged_tokenizer

pytestmark = pytest.mark.models

MERGES = [("a", "b"), ("ab", "a"), ("b", "a"), ("a", "Ġ"), ("b", "Ġ")]
END_ID = 261
ROWS = 262  # every row is a token: 256 bytes, five merges, the end


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is missing: install anyvocab[models]")


@pytest.fixture(scope="module")
def llama(torch: Any) -> Any:
    """A random llama of 262 rows that writes a, b and spaces, mostly."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=ROWS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=END_ID,
        eos_token_id=END_ID,
        pad_token_id=None,
        tie_word_embeddings=False,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def tokenizer() -> av.Tokenizer:
    document = merged_tokenizer(MERGES, ["<|endoftext|>"])
    return av.Tokenizer.load(json.dumps(document).encode())


@pytest.fixture(scope="module")
def pico() -> tuple[Any, Any]:
    transformers = pytest.importorskip("transformers", reason="install anyvocab[models]")
    folder = Path(path("code-4k"))
    return (
        transformers.AutoModelForCausalLM.from_pretrained(folder).eval(),
        transformers.AutoTokenizer.from_pretrained(folder),
    )


def chi_square(counts: Any, shares: Any) -> None:
    """Refused with a probability of about 1e-6 where all is well: see test_bytelm_sample."""
    expected = np.asarray(shares) * counts.sum()
    large = expected >= 5
    observed = np.append(counts[large], counts[~large].sum())
    expected = np.append(expected[large], expected[~large].sum())
    observed, expected = observed[expected > 0], expected[expected > 0]
    k, x = len(expected) - 1, 14.0
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert statistic <= k + 2 * math.sqrt(k * x) + 2 * x


def spelled(tokenizer: av.Tokenizer, ids: Any) -> bytes:
    """Return the bytes of a row up to its end, without what stands before its text."""
    text, row = b"", ids.tolist()
    while row and row[0] == END_ID:
        row.pop(0)
    for id in row:
        if id == END_ID:
            break
        text += tokenizer.vocabulary.token_bytes(id) or b""
    return text


@pytest.mark.parametrize("prompt", [b"a", b"bab"])
def test_first_bytes_are_drawn_from_the_byte_level_distribution(
    torch: Any, llama: Any, tokenizer: av.Tokenizer, prompt: bytes
) -> None:
    from anyvocab.integrations.transformers import byte_generate

    ids = torch.tensor([[END_ID, *tokenizer.encode(prompt).tolist()]])
    count = 3000
    torch.manual_seed(0)
    outputs = llama.generate(
        ids,
        custom_generate=byte_generate(tokenizer, law="marginal", eps=0.0, budget=10**6),
        do_sample=True,
        temperature=1.0,
        top_k=0,
        max_new_tokens=1,
        num_return_sequences=count,
        pad_token_id=END_ID,
    )
    counts = np.zeros(257)
    for row in outputs:
        text = spelled(tokenizer, row)
        assert text.startswith(prompt)
        counts[text[len(prompt)] if len(text) > len(prompt) else 256] += 1
    lm = ByteLM(TransformersBackend(llama), tokenizer, law="marginal", eps=0.0, budget=10**6)
    chi_square(counts, np.exp(lm.start(prompt).logprobs()))
    # A prompt of tokens is not the same distribution, or this would be no test.
    tokens = ByteLM(TransformersBackend(llama), tokenizer).start([Ids(ids[0].tolist()), b""])
    with pytest.raises(AssertionError):
        chi_square(counts, np.exp(tokens.logprobs()))


def test_greedy_generation_is_the_greedy_completion(
    torch: Any, llama: Any, tokenizer: av.Tokenizer
) -> None:
    from anyvocab.integrations.transformers import byte_generate

    lm = ByteLM(TransformersBackend(llama), tokenizer)
    generate = byte_generate(tokenizer)
    for prompt in (b"a", b"ab", b"ba b", "é".encode()[:1]):
        ids = torch.tensor([[END_ID, *tokenizer.encode(prompt).tolist()]])
        outputs = llama.generate(
            ids, custom_generate=generate, do_sample=False, max_new_tokens=5, pad_token_id=END_ID
        )
        done = lm.complete(prompt, max_new_tokens=5)
        assert spelled(tokenizer, outputs[0]) == prompt + done.bytes


def test_pico_goes_on_inside_a_token(torch: Any, pico: tuple[Any, Any]) -> None:
    from anyvocab.integrations.transformers import byte_generate

    model, hf = pico
    prompt = "import os\n\n\ndef f(x):\n    retu"
    inputs = hf(prompt, return_tensors="pt")
    outputs = model.generate(
        **inputs, custom_generate=byte_generate(hf), do_sample=False, max_new_tokens=6
    )
    text = hf.decode(outputs[0], skip_special_tokens=True)
    assert text.startswith(prompt + "rn")
    done = ByteLM.load("pico:code-4k").complete(prompt, max_new_tokens=6)
    assert text == prompt + done.text
    # The model's first id stands in front, for the prompt had none.
    assert outputs[0, 0] == model.config.bos_token_id


def test_a_padded_batch_is_its_rows(torch: Any, pico: tuple[Any, Any]) -> None:
    from anyvocab.integrations.transformers import byte_generate

    model, hf = pico
    generate = byte_generate(hf)
    prompts = ["import nu", "def f(self):\n    retu", "x"]
    options: dict[str, Any] = {"custom_generate": generate, "do_sample": False, "max_new_tokens": 5}
    single = []
    for prompt in prompts:
        row = model.generate(**hf(prompt, return_tensors="pt"), **options)[0]
        single.append(hf.decode(row, skip_special_tokens=True))
    for side in ("left", "right"):
        hf.padding_side = side
        batch = model.generate(**hf(prompts, return_tensors="pt", padding=True), **options)
        assert hf.batch_decode(batch, skip_special_tokens=True) == single


def test_ids_up_to_the_last_special_token_stay(
    torch: Any, llama: Any, tokenizer: av.Tokenizer
) -> None:
    from anyvocab.integrations.transformers import byte_generate

    # `a`, `b` apart is no encoding of `ab`: before a special token it stays all the same.
    fixed = [END_ID, ord("a"), ord("b"), END_ID]
    outputs = llama.generate(
        torch.tensor([[*fixed, ord("a"), ord("b")]]),
        attention_mask=torch.ones(1, 6, dtype=torch.int64),
        custom_generate=byte_generate(tokenizer),
        do_sample=False,
        max_new_tokens=2,
        pad_token_id=END_ID,
    )
    lm = ByteLM(TransformersBackend(llama), tokenizer)
    done = lm.complete([Ids(fixed), b"ab"], max_new_tokens=2)
    assert outputs[0, :4].tolist() == fixed
    assert spelled(tokenizer, outputs[0, 4:]) == b"ab" + done.bytes


def test_a_prompt_that_ends_with_a_special_token_is_left_as_it_is(
    torch: Any, llama: Any, tokenizer: av.Tokenizer
) -> None:
    from anyvocab.integrations.transformers import byte_generate

    ids = torch.tensor([[END_ID, ord("a"), END_ID]])
    options: dict[str, Any] = {
        "attention_mask": torch.ones_like(ids),
        "do_sample": False,
        "max_new_tokens": 4,
        "pad_token_id": END_ID,
    }
    found = llama.generate(ids, custom_generate=byte_generate(tokenizer), **options)
    assert found.tolist() == llama.generate(ids, **options).tolist()


def test_generation_options_act_on_the_tokens_behind_the_prompt(
    torch: Any, llama: Any, tokenizer: av.Tokenizer
) -> None:
    from transformers import LogitsProcessor, LogitsProcessorList

    from anyvocab.integrations.transformers import byte_generate

    class Only(LogitsProcessor):
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            masked = torch.full_like(scores, -math.inf)
            masked[:, [ord("x"), END_ID]] = scores[:, [ord("x"), END_ID]]
            return masked

    ids = torch.tensor([[END_ID, ord("a")]])
    torch.manual_seed(1)
    outputs = llama.generate(
        ids,
        custom_generate=byte_generate(tokenizer),
        logits_processor=LogitsProcessorList([Only()]),
        do_sample=True,
        temperature=0.7,
        top_k=40,
        min_new_tokens=3,
        max_new_tokens=3,
        num_return_sequences=6,
        pad_token_id=END_ID,
        return_dict_in_generate=True,
        output_scores=True,
    )
    assert len(outputs.scores) == 3
    assert all(row[-3:].tolist() == [ord("x")] * 3 for row in outputs.sequences)


def test_the_same_seed_draws_the_same_sequences(
    torch: Any, llama: Any, tokenizer: av.Tokenizer
) -> None:
    from anyvocab.integrations.transformers import byte_generate

    ids, generate = torch.tensor([[END_ID, ord("b")]]), byte_generate(tokenizer)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs = llama.generate(
            ids,
            custom_generate=generate,
            do_sample=True,
            max_new_tokens=4,
            num_return_sequences=8,
            pad_token_id=END_ID,
        )
        drawn.append(outputs.tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_max_new_tokens_counts_behind_the_new_encoding(
    torch: Any, llama: Any, tokenizer: av.Tokenizer
) -> None:
    from anyvocab.integrations.transformers import byte_generate

    # Three ids that one token covers.
    ids = torch.tensor([[END_ID, ord("a"), ord("b"), ord("a")]])
    outputs = llama.generate(
        ids,
        custom_generate=byte_generate(tokenizer),
        do_sample=False,
        min_new_tokens=4,
        max_new_tokens=4,
        pad_token_id=END_ID,
    )
    cover = outputs[0, : outputs.shape[1] - 4].tolist()
    assert spelled(tokenizer, outputs[0, : len(cover)])[:3] == b"aba"
    assert len(cover) <= ids.shape[1]


def test_other_generation_modes_are_refused(
    torch: Any, llama: Any, tokenizer: av.Tokenizer
) -> None:
    from anyvocab.integrations.transformers import byte_generate

    with pytest.raises(av.InvalidValue, match="beam_search is not done from bytes"):
        llama.generate(
            torch.tensor([[END_ID, ord("a")]]),
            custom_generate=byte_generate(tokenizer),
            num_beams=2,
            do_sample=False,
            max_new_tokens=2,
            pad_token_id=END_ID,
        )


def test_a_text_that_no_token_spells_is_refused(
    torch: Any, llama: Any, tokenizer: av.Tokenizer
) -> None:
    from anyvocab.integrations.transformers import byte_generate

    generate = byte_generate(tokenizer, specials={ord("x"): "forbid"})
    for sampled in (False, True):
        with pytest.raises(av.InvalidValue, match="no sequence of tokens spells the text"):
            llama.generate(
                torch.tensor([[END_ID, ord("x"), ord("y")]]),
                custom_generate=generate,
                do_sample=sampled,
                max_new_tokens=2,
                pad_token_id=END_ID,
            )


def test_the_byte_level_model_is_made_once_for_a_model(llama: Any, tokenizer: av.Tokenizer) -> None:
    from anyvocab.integrations.transformers import byte_generate

    generate = byte_generate(tokenizer)
    assert generate.byte_lm(llama) is generate.byte_lm(llama)
