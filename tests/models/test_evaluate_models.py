"""Models on the same bytes: what does not depend on tokenizers, windows, batches, or rivals."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

import anyvocab as av
from anyvocab.evaluate import (
    Bootstrap,
    LoadedModel,
    Sampling,
    continue_greedily,
    exactness,
    new_ids,
    open_model,
    shared_ids,
)
from anyvocab.evaluate.exact import shared_runs
from anyvocab.testing import tiny_tokenizer

pytestmark = pytest.mark.models

SIZE = 262
NO_SAMPLES = Sampling(prompts=0)
TEXTS = {
    "greetings": ["hello hello, hell! " * 40, "oh héllo"],
    "letters": [b"abc\xff" * 50],
}


def tokenizer_from(order: list[int] | None = None) -> av.Tokenizer:
    """The tiny tokenizer; `order` gives every id its new one."""
    document = tiny_tokenizer()
    if order is not None:
        model, added = document["model"], document["added_tokens"]
        assert isinstance(model, dict)
        assert isinstance(added, list)
        spelled = {one["content"]: one["id"] for one in added}
        vocab = {token: order[id] for token, id in (model["vocab"] | spelled).items()}
        document["model"] = model | {"vocab": vocab}
        document["added_tokens"] = [one | {"id": order[one["id"]]} for one in added]
    return av.Tokenizer.load(json.dumps(document).encode())


def bytes_only() -> av.Tokenizer:
    """The same ids, but no merges: every byte is a token."""
    document = tiny_tokenizer()
    model = document["model"]
    assert isinstance(model, dict)
    return av.Tokenizer.load(json.dumps(document | {"model": model | {"merges": []}}).encode())


def network(seed: int = 7, context: int = 64) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=SIZE,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context,
    )
    return LlamaForCausalLM(config).eval()


def model(name: str = "a", **options: Any) -> LoadedModel:
    tokenizer = options.pop("tokenizer", None) or tokenizer_from()
    first_ids = options.pop("first_ids", [260])
    return open_model(network(**options), name=name, tokenizer=tokenizer, first_ids=first_ids)


def permuted(original: LoadedModel) -> tuple[LoadedModel, list[int]]:
    """The same model with its ids, rows and tokenizer in another order."""
    import torch

    order = np.random.default_rng(11).permutation(SIZE).tolist()
    twin = network()
    with torch.no_grad():
        for ours, theirs in (
            (original.network.model.embed_tokens.weight, twin.model.embed_tokens.weight),
            (original.network.lm_head.weight, twin.lm_head.weight),
        ):
            theirs[torch.tensor(order)] = ours.clone()
    return (
        open_model(twin, name="permuted", tokenizer=tokenizer_from(order), first_ids=[order[260]]),
        order,
    )


def test_the_nats_are_those_of_bits_per_byte() -> None:
    one = model()
    found = av.evaluate_models([one], TEXTS, sampling=NO_SAMPLES)
    for domain in found.models[0].domains:
        alone = av.bits_per_byte(
            one.network, TEXTS[domain.name], tokenizer=one.tokenizer, first_ids=[260]
        )
        assert (domain.nats, domain.bytes, domain.tokens) == (alone.nats, alone.bytes, alone.tokens)
    whole = found["a"]
    assert whole.nats == math.fsum(part.nats for part in whole.domains)
    assert (whole.bytes, whole.tokens) == (969, sum(part.tokens for part in whole.domains))


def test_blocks_of_every_document_sum_to_the_domains_nats() -> None:
    found = av.evaluate_models([model()], TEXTS, sampling=NO_SAMPLES, bootstrap=Bootstrap(block=64))
    first, second = found.models[0].domains
    # 760 and 9 bytes, 200 bytes: every document begins a block of its own.
    assert (len(first.block_nats), len(second.block_nats)) == (12 + 1, 4)
    for part in (first, second):
        # One rounding for every part of a token and every addition.
        rel = 2 * part.tokens * float(np.finfo(np.float64).eps)
        assert float(part.block_nats.sum()) == pytest.approx(part.nats, rel=rel)


def test_two_tokenizers_of_one_model_are_compared_on_the_same_blocks() -> None:
    import torch

    uniform = network()
    with torch.no_grad():
        uniform.lm_head.weight.zero_()  # every id costs log V
    models = [
        open_model(uniform, name=name, tokenizer=tokenizer, first_ids=[260])
        for name, tokenizer in (("merged", tokenizer_from()), ("bytes", bytes_only()))
    ]
    text = "hello hello hello hello hell" * 20
    bootstrap = Bootstrap(block=28)
    found = av.evaluate_models(models, [text], bootstrap=bootstrap, sampling=NO_SAMPLES)
    merged, plain = (one.domains[0] for one in found.models)
    assert (merged.tokens, plain.tokens) == (9 * 20, 28 * 20)
    assert len(merged.block_nats) == len(plain.block_nats) == 20
    nats = math.log(SIZE)
    # float32 logits of zeros are exact; the softmax is float64.
    assert merged.block_nats.tolist() == pytest.approx([9 * nats] * 20, rel=1e-14)
    assert plain.block_nats.tolist() == pytest.approx([28 * nats] * 20, rel=1e-14)
    (difference, _) = found.differences
    expected = (28 - 9) * math.log2(SIZE) / 28
    assert difference.bits_per_byte == pytest.approx(expected, rel=1e-14)
    assert difference.interval is not None
    assert difference.interval.low == pytest.approx(expected, rel=1e-12)
    assert difference.interval.high == pytest.approx(expected, rel=1e-12)


def test_the_first_window_does_not_depend_on_what_follows_it() -> None:
    one = model(context=32)
    text = "hello hell no, " * 30
    ends = one.tokenizer.encode_with_offsets(text).offsets[:, 1]
    start = int(ends[30])  # 31 ids and the one before them fill the window
    scores = []
    for data in (text[:start], text, text[:start] + "x" * 500):
        found = av.evaluate_models(
            [one], [data], sampling=NO_SAMPLES, bootstrap=Bootstrap(block=start), batch_size=1
        )
        scores.append(found.models[0].domains[0].block_nats[0])
    assert scores[0] == scores[1] == scores[2]


def test_batches_change_nothing_but_the_rounding_of_float32() -> None:
    one = model(context=16)
    nats = [
        av.evaluate_models([one], TEXTS, sampling=NO_SAMPLES, batch_size=size).models[0].nats
        for size in (1, 3, 64)
    ]
    # As in test_bits_per_byte: 2**-24 for each operation over 16-wide sums in two layers.
    assert nats[1] == pytest.approx(nats[0], rel=1e-5)
    assert nats[2] == pytest.approx(nats[0], rel=1e-5)


def test_a_model_has_the_same_interval_whatever_it_is_compared_with() -> None:
    one, other = model("a"), model("b", seed=8)
    bootstrap = Bootstrap(block=16)
    alone = av.evaluate_models([one], TEXTS, bootstrap=bootstrap, sampling=NO_SAMPLES)
    both = av.evaluate_models([other, one], TEXTS, bootstrap=bootstrap, sampling=NO_SAMPLES)
    assert alone["a"].interval == both["a"].interval
    assert alone["a"].interval is not None
    low, high = alone["a"].interval.low, alone["a"].interval.high
    assert low < alone["a"].bits_per_byte < high


def test_a_special_tokens_spelling_in_a_text_is_text() -> None:
    found = av.evaluate_models([model()], ["<|end|>"], sampling=NO_SAMPLES)
    assert found.models[0].tokens == 7


def test_the_split_adds_up_to_the_loss() -> None:
    before, after = model("before", tokenizer=bytes_only()), model("after", tokenizer=None)
    found = av.evaluate_models({"after": after}, TEXTS, against=before, sampling=NO_SAMPLES)
    assert found.against == "before"
    assert found["before"].split is None
    # The same bytes have tokens in both: without merges they are only never used.
    assert found["after"].new_ids == 0
    new = [256, 257, 258, 259]
    one = av.evaluate_models({"after": after}, TEXTS, sampling=NO_SAMPLES)["after"]
    from anyvocab.evaluate.compare import _domains, _score_documents

    for domain, part in zip(_domains(TEXTS), one.domains, strict=True):
        for scored, text in zip(
            _score_documents(after, domain, 64, 32, 8, None), domain.documents, strict=True
        ):
            split = scored.split_by(new)
            assert split.shared_tokens + split.new_tokens == len(scored.ids)
            assert split.shared_bytes + split.new_bytes == len(text)
            assert split.shared_nats + split.new_nats == pytest.approx(
                math.fsum(scored.nats), rel=1e-15
            )
        assert part.split is None


def test_a_model_against_itself_gives_the_same_bits() -> None:
    one = model()
    found = exactness(one, one, None, [b"hello hello, hell!"])
    assert (found.largest_difference, found.same_body) == (0.0, True)
    assert found.prompts == 1
    assert found.tokens == 7  # hell|o| hell|o|,| hell|!


def test_a_model_whose_rows_moved_with_its_ids_gives_the_same_bits() -> None:
    one = model()
    twin, order = permuted(one)
    texts = [b"hello hello, hell!" * 9, "héllo".encode()]
    expected = {id: order[id] for id in range(260)}
    assert shared_ids(one.tokenizer.vocabulary, twin.tokenizer.vocabulary) == expected
    for mapping in (None, expected):
        found = exactness(one, twin, mapping, texts)
        assert (found.largest_difference, found.same_body) == (0.0, True)
        assert found.tokens == 9 * 7 + 5
    assert len(new_ids(twin.tokenizer.vocabulary, one.tokenizer.vocabulary)) == 0


def test_a_row_that_did_not_move_along_is_found() -> None:
    import torch

    one = model()
    twin, order = permuted(one)
    with torch.no_grad():
        twin.network.model.embed_tokens.weight[order[ord("o")]] += 1.0
    found = exactness(one, twin, None, [b"hello"])
    assert found.largest_difference > 0
    assert found.same_body


def test_other_bodies_are_told_apart() -> None:
    found = exactness(model(), model(seed=8), None, [b"hello"])
    assert found.largest_difference > 0
    assert not found.same_body


def test_runs_of_shared_tokens_end_where_the_tokenizers_differ() -> None:
    # "hell" is one token here and four there.
    runs = shared_runs(tokenizer_from(), bytes_only(), [b"abc hello you"])
    assert [run.text for run in runs] == [b"o you", b"abc"]
    assert runs[1].before == runs[1].after == (97, 98, 99)


def test_no_shared_run_is_an_error_with_a_fix() -> None:
    with pytest.raises(av.InvalidValue, match="no 2 tokens in a row are the same"):
        exactness(model(), model(tokenizer=bytes_only()), None, [b"hell"])


class Cycle:
    """A model that writes a fixed sequence of ids over and over, whatever it is given."""

    device = None

    def __init__(self, written: list[int]) -> None:
        self.config = type("Config", (), {"max_position_embeddings": 256})()
        self.written = written

    def forward(self, input_ids: Any, attention_mask: Any, cache: Any = None, **_: Any) -> Any:
        import torch

        step = 0 if cache is None else cache
        assert attention_mask.shape[1] >= input_ids.shape[1]
        assert cache is None or input_ids.shape[1] == 1  # the cache is used
        logits = torch.zeros(*input_ids.shape, SIZE)
        logits[:, :, self.written[step % len(self.written)]] = 1.0
        out = type("Out", (dict,), {"logits": logits})()
        out["cache"] = step + 1
        return out

    __call__ = forward


def written(ids: list[int], **options: Any) -> Any:
    one = open_model(Cycle(ids), name="cycle", tokenizer=tokenizer_from(), first_ids=[260])
    return continue_greedily(one, [b"hell", b"longer than that"], **options)


def test_a_loop_is_reported_with_its_period() -> None:
    found = written([258, ord("o"), ord(" ")], new_tokens=40)  # "hello "
    assert (found.loop_rate, found.ended_rate, found.utf8_rate) == (1.0, 0.0, 1.0)
    assert [one.period for one in found.continuations] == [6, 6]
    assert found.continuations[0].output.startswith(b"hello hello ")
    assert found.continuations[0].tokens == 40


def test_what_is_no_utf8_is_reported_and_a_cut_character_is_not() -> None:
    assert written([0xFF], new_tokens=3).utf8_rate == 0.0
    assert written([0xE6, 0x97, 0xA5], new_tokens=5).utf8_rate == 1.0


def test_new_ids_are_counted_among_those_written() -> None:
    found = written([258, ord("o"), ord(" "), ord("!")], new_tokens=8, new_ids=np.array([258]))
    assert found.new_token_rate == 0.25
    assert written([1], new_tokens=8).new_token_rate is None


def test_an_end_id_ends_an_output() -> None:
    from dataclasses import replace

    from anyvocab.roles import Declarations

    one = open_model(
        Cycle([104, 105, 260, 104]), name="cycle", tokenizer=tokenizer_from(), first_ids=[260]
    )
    declared = Declarations(generation_config={"eos_token_id": 260})
    one = replace(one, tokenizer=one.tokenizer.with_declarations(declared))
    found = continue_greedily(one, [b"x"], new_tokens=40)
    assert found.ended_rate == 1.0
    assert (found.continuations[0].output, found.continuations[0].tokens) == (b"hi", 2)


def test_padded_batches_write_what_single_prompts_do() -> None:
    one = model()
    prompts = [b"hello", b"h", b"a longer prompt than the others"]
    together = continue_greedily(one, prompts, new_tokens=12)
    alone = [continue_greedily(one, [prompt], new_tokens=12) for prompt in prompts]
    assert [one.output for one in together.continuations] == [
        one.continuations[0].output for one in alone
    ]


def test_cached_steps_write_what_the_definition_says() -> None:
    import torch

    one = model()
    ids = [260, *one.tokenizer.encode("hello").tolist()]
    for _ in range(10):
        with torch.inference_mode():
            ids.append(int(one.network(torch.tensor([ids])).logits[0, -1].argmax()))
    found = continue_greedily(one, [b"hello"], new_tokens=10).continuations[0]
    assert found.output == one.tokenizer.decode(ids)[len(one.tokenizer.decode(ids[:-10])) :]


def test_a_short_window_bounds_the_prompt_and_the_budget() -> None:
    one = model(context=16)
    found = continue_greedily(one, [b"z" * 200], new_tokens=100)
    assert found.budget == 8
    assert found.continuations[0].tokens <= 8


def test_everything_goes_into_a_json_document_and_nothing_counts_per_token_likelihood() -> None:
    one = model()
    twin, _ = permuted(one)
    steps: list[str] = []
    found = av.evaluate_models(
        [twin],
        TEXTS,
        against=one,
        sampling=Sampling(prompts=2, new_tokens=4),
        bootstrap=Bootstrap(block=32),
        progress=lambda model, step, done, total: steps.append(f"{model} {step} {done}/{total}"),
    )
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["format_version"] == 1
    assert [one["model"] for one in document["models"]] == ["a", "permuted"]
    after = document["models"][1]
    assert after["exactness"]["largest_difference"] == 0.0
    assert after["split"]["new_tokens"] == 0
    assert after["split"]["new_nats_per_byte"] is None
    assert after["greedy"]["prompts"] == 2
    assert len(document["differences"]) == 3
    assert "perplexity" not in json.dumps(document)
    assert steps[-1].startswith("permuted comparing hidden states")


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not {"src", "href", "style", "onerror", "onload"} & dict(attrs).keys()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_page_is_complete_and_obeys_no_text(count: int) -> None:
    from anyvocab.report.eval_page import eval_page

    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    models = {f"{evil}{i}": model(seed=i) for i in range(count)}
    found = av.evaluate_models(
        models, {evil: [evil * 20], "b": ["x"]}, sampling=Sampling(prompts=2, new_tokens=4)
    )
    whole = eval_page(found)
    parsed = _Tags()
    parsed.feed(whole)
    assert not parsed.tags & {"script", "img", "iframe", "link"}
    assert ("Difference" in whole) == (count > 1)
    assert "erplexity" not in whole


def test_what_cannot_be_evaluated_is_named() -> None:
    import torch

    broken = model()
    with torch.no_grad():
        broken.network.lm_head.weight[5, 5] = math.nan
    small = open_model(
        Cycle([1]), name="small", tokenizer=tokenizer_from([*range(1, SIZE), 0]), first_ids=[1]
    )
    document = tiny_tokenizer()
    tokens = {"x": SIZE, **document["model"]["vocab"]} | {"x": SIZE}  # type: ignore[index]
    document["model"] = document["model"] | {"vocab": tokens}  # type: ignore[operator]
    large = av.Tokenizer.load(json.dumps(document).encode())
    beyond = open_model(network(), name="beyond", tokenizer=large, first_ids=[0])
    nothing = open_model(network(), name="nothing", tokenizer=tokenizer_from())
    for words, call in {
        "the score is nan": lambda: av.evaluate_models([broken], ["x"]),
        "262 logits, none for id": lambda: av.evaluate_models([beyond], ["x"]),
        "nothing stands before a text": lambda: av.evaluate_models([nothing], ["x"]),
        "there is no model": lambda: av.evaluate_models([], ["x"]),
        "no byte to score in 'y'": lambda: av.evaluate_models([small], {"x": ["x"], "y": [""]}),
        "no byte to score in 'text'": lambda: av.evaluate_models([small], []),
        "prompts: must be at least 0": lambda: Sampling(prompts=-1),
    }.items():
        with pytest.raises(av.InvalidValue, match=words):
            call()
    for texts in ("x", {"x": "x"}):
        with pytest.raises(TypeError, match="several texts"):
            av.evaluate_models([small], texts)
    with pytest.raises(TypeError, match="several models"):
        av.evaluate_models("pico:code-4k", ["x"])
