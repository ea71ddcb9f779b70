"""Causal models behind merged prompts: what they write, what texts cost, and on which bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.dynamic import DynamicBatch, DynamicModel, Generation, MeanRows  # noqa: E402
from anyvocab.dynamic.judge import judge  # noqa: E402
from anyvocab.dynamic.scoring import Reader  # noqa: E402
from anyvocab.hypernet.rows import Rows  # noqa: E402

pytestmark = pytest.mark.models

PROMPTS = [
    "def tokenize(tokenizer):\n    return tokenizer.tokenize_tokens()\n\n\ndef",
    "import os, sys\nimport",
    "tokenizer = Tokenizer()  # the tokenizer's tokenizer",
]
TEXT = "def tokenize(tokenizer):\n    return tokenizer.tokenize_tokens(tokenizer.tokens)\n" * 3
VOCABULARY = 2048  # of code-2k


class Loud:
    """The mean of the pieces, with a bias that makes a model write nothing else."""

    name = "loud"

    def __init__(self, model: DynamicModel) -> None:
        self._mean = MeanRows(model._source)

    def __call__(self, tokens: Sequence[bytes]) -> Rows:
        made = self._mean(tokens)
        return Rows(made.input, made.output, torch.full((len(tokens),), 100.0))


@pytest.fixture(scope="module")
def pico() -> DynamicModel:
    return DynamicModel.load("pico:code-4k")


@pytest.fixture(scope="module")
def absolute() -> DynamicModel:
    """Return a model with a row for every position, from a seed."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=96,
        n_embd=32,
        n_layer=2,
        n_head=4,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    return DynamicModel(transformers.GPT2LMHeadModel(config).eval(), "pico:code-2k", rows="mean")


@pytest.fixture(scope="module")
def biased() -> DynamicModel:
    """Return a model whose head has a bias, and more rows than the tokenizer ids."""
    torch.manual_seed(1)
    config = transformers.PhiConfig(
        vocab_size=VOCABULARY + 8,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        eos_token_id=None,
        bos_token_id=None,
    )
    network = transformers.PhiForCausalLM(config).eval()
    torch.nn.init.normal_(network.lm_head.bias)
    quiet = DynamicModel(network, "pico:code-2k", rows="mean")
    return DynamicModel(network, "pico:code-2k", rows=Loud(quiet))


def without_cache(
    model: DynamicModel, batch: DynamicBatch, steps: int, allowed: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Return the likeliest ids, every prompt alone and read anew for every token."""
    reader = Reader(model, batch)
    first, head = batch.new_tokens.first_id, model.network.get_output_embeddings()
    written = []
    for row, new in zip(batch.rows, allowed, strict=True):
        ids = row.astype(np.int64).tolist()
        for _ in range(steps):
            rows = reader.embeds(np.array([ids]))
            with torch.no_grad():
                state = model.network.base_model(inputs_embeds=rows).last_hidden_state[0, -1]
                logits = head(state)[:first]
                if new:
                    made = model.cache.rows([batch.new_tokens[id - first] for id in new])
                    more = made.head @ state + (0 if made.bias is None else made.bias)
                    logits = torch.cat((logits, more))
            best = int(logits.argmax())
            ids.append(best if best < first else new[best - first])
        written.append(ids[len(row) :])
    return written


def own_ids(model: DynamicModel, prompt: str, steps: int) -> list[int]:
    """Return what transformers writes behind the ids of a prompt."""
    ids = [*model.first_ids, *model.tokenizer.tokenizer.encode(prompt).tolist()]
    out = model.network.generate(torch.tensor([ids]), max_new_tokens=steps, do_sample=False)
    return [int(id) for id in out[0, len(ids) :]]


def ids_of(found: Generation) -> list[list[int]]:
    return [one.ids.tolist() for one in found]


@pytest.mark.parametrize("new_tokens", ["none", "prompt", "batch"])
def test_without_a_merge_the_greedy_output_is_that_of_the_models_own_generate(
    pico: DynamicModel, new_tokens: av.dynamic.generate.Allowed
) -> None:
    found = pico.generate(PROMPTS, max_new_tokens=12, new_tokens=new_tokens, max_merges=0)
    assert ids_of(found) == [own_ids(pico, prompt, 12) for prompt in PROMPTS]
    assert [one.finish for one in found] == ["length"] * 3


def test_behind_merged_prompts_the_cache_and_the_padding_change_nothing(
    absolute: DynamicModel,
) -> None:
    found = absolute.generate(PROMPTS, max_new_tokens=8, attainable=1.0)
    assert found.prompts.reduction > 0.2
    assert len(set(found.prompts.lengths().tolist())) > 1
    assert ids_of(found) == without_cache(absolute, found.prompts, 8, [[], [], []])


@pytest.mark.parametrize(("boundary", "transition"), [("pretoken", None), ("superword", 2)])
def test_the_last_tokens_that_are_kept_never_merge_and_the_others_do(
    pico: DynamicModel, boundary: av.dynamic.tokenizer.Boundary, transition: int | None
) -> None:
    texts = [PROMPTS[0], PROMPTS[2]]
    batch = pico.merge(texts, boundary=boundary, keep_last=5, transition=transition)
    free = pico.merge(texts, boundary=boundary, transition=transition)
    for row, base, whole in zip(batch.rows, batch.base, free.rows, strict=True):
        assert row[-5:].tolist() == base[-5:].tolist()
        assert len(whole) < len(row) < len(base)
    kept = pico.merge(PROMPTS, boundary=boundary, keep_last=1000, transition=transition)
    assert kept.ids.tolist() == kept.base.ids.tolist()
    with pytest.raises(errors.InvalidValue, match="keep_last: must be at least 0"):
        pico.merge(PROMPTS, keep_last=-1)


def test_generation_scores_and_judgements_keep_what_merging_keeps(pico: DynamicModel) -> None:
    lengths = pico.merge(PROMPTS, keep_last=5).lengths().tolist()
    found = pico.generate(PROMPTS, max_new_tokens=1, keep_last=5)
    assert found.prompts.lengths().tolist() == lengths
    scored = pico.score(["x"] * 3, PROMPTS, keep_last=5)
    assert scored.prefixes.lengths().tolist() == lengths
    free, kept = judge(pico, [TEXT]), judge(pico, [TEXT], keep_last=5)
    assert 0 < kept.reduction < free.reduction


@pytest.mark.parametrize("new_tokens", ["prompt", "batch"])
def test_tokens_that_the_prompts_made_are_written_where_they_may_be(
    biased: DynamicModel, new_tokens: av.dynamic.generate.Allowed
) -> None:
    found = biased.generate(PROMPTS, max_new_tokens=6, new_tokens=new_tokens, attainable=1.0)
    first = found.prompts.new_tokens.first_id
    inside = [sorted({id for id in row.tolist() if id >= first}) for row in found.prompts.rows]
    everywhere = sorted({id for ids in inside for id in ids})
    allowed = inside if new_tokens == "prompt" else [everywhere] * 3
    assert inside[0] != everywhere
    assert ids_of(found) == without_cache(biased, found.prompts, 6, allowed)
    assert all(
        id >= first for ids, may in zip(ids_of(found), allowed, strict=True) if may for id in ids
    )


def test_written_new_tokens_are_their_bytes_and_their_base_ids(biased: DynamicModel) -> None:
    found = biased.generate(PROMPTS[:1], max_new_tokens=6, new_tokens="prompt", attainable=1.0)
    (one,) = found
    assert one.tokens == tuple(found.prompts.bytes_of(id) for id in one.ids.tolist())
    assert one.data == b"".join(token or b"" for token in one.tokens)
    assert len(one.base_ids) > len(one.ids)
    assert biased.tokenizer.tokenizer.decode(one.base_ids) == one.data


def test_bytes_that_are_no_utf8_are_kept_as_they_are(absolute: DynamicModel) -> None:
    (one,) = absolute.generate(PROMPTS[:1], max_new_tokens=40, temperature=1.0, seed=5)
    with pytest.raises(UnicodeDecodeError):
        one.data.decode()
    assert one.data == absolute.tokenizer.tokenizer.decode(one.ids)
    assert one.text == one.data.decode("utf-8", "replace")
    assert one.base_ids.tolist() == one.ids.tolist()


def test_ids_without_a_token_are_never_written(biased: DynamicModel) -> None:
    bias = biased.network.lm_head.bias
    before = bias.detach().clone()
    try:
        with torch.no_grad():
            bias[VOCABULARY:] = 1000.0
        for new_tokens in ("none", "prompt"):
            found = biased.generate(
                PROMPTS[:2], max_new_tokens=3, new_tokens=new_tokens, max_merges=0
            )
            assert max(id for ids in ids_of(found) for id in ids) < VOCABULARY
    finally:
        with torch.no_grad():
            bias.copy_(before)


def test_what_a_prompt_draws_does_not_depend_on_the_prompts_behind_it(
    absolute: DynamicModel,
) -> None:
    options = {"max_new_tokens": 8, "temperature": 1.0, "max_merges": 0}
    together = absolute.generate(PROMPTS, seed=3, **options)
    assert ids_of(absolute.generate(PROMPTS[:1], seed=3, **options)) == ids_of(together)[:1]
    assert ids_of(absolute.generate(PROMPTS, seed=3, **options)) == ids_of(together)
    assert ids_of(absolute.generate(PROMPTS, seed=4, **options)) != ids_of(together)
    drawn = absolute.generate(PROMPTS, seed=3, new_tokens="prompt", **options)
    assert ids_of(drawn) == ids_of(together)


def test_a_stop_string_that_spans_tokens_is_cut_off(pico: DynamicModel) -> None:
    (whole,) = pico.generate(PROMPTS[1:2], max_new_tokens=12, attainable=1.0)
    tokens = [token or b"" for token in whole.tokens]
    stop = tokens[3][-1:] + tokens[4][:1]
    at = whole.data.index(stop)
    (found,) = pico.generate(PROMPTS[1:2], max_new_tokens=12, stop=["", stop], attainable=1.0)
    assert (found.finish, found.data) == ("stop", whole.data[:at])
    joined = b"".join(token or b"" for token in found.tokens)
    assert joined.startswith(found.data + stop)
    assert len(found.ids) < 12


@pytest.mark.parametrize("new_tokens", ["none", "prompt"])
def test_an_end_id_ends_a_text_and_no_other(
    absolute: DynamicModel, monkeypatch: pytest.MonkeyPatch, new_tokens: av.dynamic.generate.Allowed
) -> None:
    options = {"max_new_tokens": 8, "new_tokens": new_tokens, "max_merges": 2}
    whole = ids_of(absolute.generate(PROMPTS, **options))
    end = whole[0][2]
    monkeypatch.setattr(absolute.network.generation_config, "eos_token_id", end)
    found = absolute.generate(PROMPTS, **options)
    for one, ids in zip(found, whole, strict=True):
        kept = ids[: ids.index(end)] if end in ids else ids
        assert one.ids.tolist() == kept
        assert one.finish == ("end" if end in ids else "length")


def nats(model: DynamicModel, ids: Sequence[int], start: int) -> float:
    """Return what the ids from `start` on cost, by the definition."""
    with torch.no_grad():
        logits = model.network(torch.tensor([list(ids)])).logits[0].double()
    logprobs = torch.log_softmax(logits, dim=-1)
    return -sum(float(logprobs[at - 1, ids[at]]) for at in range(start, len(ids)))


def test_a_judgement_without_merges_has_two_equal_sides(pico: DynamicModel) -> None:
    found = judge(pico, PROMPTS, max_merges=0)
    assert found.base.bits_per_byte == found.merged.bits_per_byte
    assert found.base.by_text == found.merged.by_text
    assert found.base.tokens == found.merged.tokens
    assert (found.reduction, found.loss, found.hit_rate) == (0, 0, 0)


def test_the_base_side_is_the_second_half_in_base_tokens(pico: DynamicModel) -> None:
    tokenizer = pico.tokenizer.tokenizer
    ids, pretokens = pico.tokenizer.base(TEXT)
    found = judge(pico, [TEXT], attainable=1.0).base
    # Pretokens spell the text: the cut is the first byte of one, as near to the middle as any.
    sizes = np.cumsum([len(part) for part in tokenizer.pretokenize(TEXT)])
    middle = len(TEXT.encode()) / 2
    cut = min(sizes[:-1].tolist(), key=lambda at: abs(at - middle))
    start = int(np.searchsorted(pretokens, int(np.searchsorted(sizes, cut, side="right"))))
    assert tokenizer.decode(ids[:start]) == TEXT.encode()[:cut]
    row = [*pico.first_ids, *ids.tolist()]
    expected = nats(pico, row, len(pico.first_ids) + start)
    assert found.scored_bytes == len(TEXT.encode()) - cut
    assert found.context_tokens == start
    # Sums over the vocabulary in another order: some units of rounding of float32 logits.
    assert math.isclose(
        found.bits_per_byte, expected / math.log(2) / found.scored_bytes, rel_tol=1e-5
    )


def test_every_boundary_scores_the_same_bytes(pico: DynamicModel) -> None:
    texts = [TEXT, *PROMPTS, "import"]
    base = None
    for boundary, transition in (("pretoken", None), ("word", None), ("superword", 2)):
        found = judge(pico, texts, boundary=boundary, transition=transition, base=base)
        base = found.base if base is None else base
        assert found.base == base
        assert found.merged.scored_bytes == base.scored_bytes
        assert 0 < found.whole_reduction < found.reduction < 1
        assert found.left_out == 1
        assert found.merged.by_text[-1] is None
    asked = found.to_dict()
    assert set(asked["merged"]["seconds"]) == {"tokenize", "merge", "rows", "forward"}


def test_a_long_text_is_judged_in_pieces_that_hold_all_of_it(pico: DynamicModel) -> None:
    told: list[tuple[int, int]] = []
    found = judge(
        pico,
        [TEXT * 3],
        window=64,
        batch=2,
        attainable=1.0,
        progress=lambda done, total: told.append((done, total)),
    )
    assert found.pieces > 2
    assert found.base.tokens == len(pico.tokenizer.tokenizer.encode(TEXT * 3))
    assert told[0] == (0, 2 * found.pieces)
    assert told[-1] == (2 * found.pieces, 2 * found.pieces)
    assert found.hit_rate > 0  # later batches have the first one's words


def test_a_base_side_of_other_texts_is_refused(pico: DynamicModel) -> None:
    base = judge(pico, PROMPTS[:1], max_merges=0).base
    with pytest.raises(errors.InvalidValue, match="leave it out"):
        judge(pico, PROMPTS, base=base)


@pytest.mark.parametrize("window", [None, 24])
def test_texts_without_prefixes_score_what_bits_per_byte_says(
    pico: DynamicModel, window: int | None
) -> None:
    found = pico.score(PROMPTS, [""] * 3, window=window, attainable=1.0)
    expected = av.bits_per_byte("pico:code-4k", PROMPTS, window=window)
    assert math.fsum(found.nats) == pytest.approx(expected.nats, rel=1e-6)
    assert (int(found.bytes.sum()), int(found.tokens.sum())) == (expected.bytes, expected.tokens)
    assert found.bits_per_byte == pytest.approx(expected.bits_per_byte, rel=1e-6)


def test_behind_a_merged_prefix_base_tokens_are_scored(pico: DynamicModel) -> None:
    tail = " tokenizer.tokens"
    found = pico.score([tail, ""], [TEXT, TEXT], attainable=1.0)
    rows = Reader(pico, found.prefixes)
    ids = pico.tokenizer.tokenizer.encode(tail).astype(np.int64)
    row = np.concatenate((found.prefixes.rows[0].astype(np.int64), ids))
    with torch.no_grad():
        logits = pico.network(inputs_embeds=rows.embeds(row[None])).logits[0].double()
    logprobs = torch.log_softmax(logits, dim=-1)[-len(ids) - 1 : -1]
    expected = -float(logprobs[torch.arange(len(ids)), torch.from_numpy(ids)].sum())
    assert found.prefixes.reduction > 0.2
    assert found.nats[0] == pytest.approx(expected, rel=1e-6)
    assert found.nats[1] == 0
    assert found.bits[0] == found.nats[0] / math.log(2)


def test_an_encoder_is_refused_by_name() -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    model = DynamicModel(transformers.BertForMaskedLM(config).eval(), "pico:code-2k", rows="mean")
    for call in (
        lambda: model.generate(PROMPTS),
        lambda: model.score(PROMPTS, PROMPTS),
        lambda: judge(model, PROMPTS),
    ):
        with pytest.raises(errors.InvalidValue, match="BertForMaskedLM is an encoder"):
            call()


@pytest.mark.parametrize(
    "own",
    [
        {"num_beams": 3, "num_return_sequences": 2},
        {"do_sample": True, "top_k": 2, "temperature": 0.1, "repetition_penalty": 3.0},
        {"max_length": 2, "max_time": 1e-9, "guidance_scale": 2.0},
        {"prompt_lookup_num_tokens": 2, "token_healing": True},
        {"cache_implementation": "static"},
    ],
)
def test_what_a_models_generation_config_asks_for_otherwise_is_off_and_left_as_it_was(
    absolute: DynamicModel, own: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = absolute.generate(PROMPTS, max_new_tokens=3, attainable=1.0)
    config = transformers.GenerationConfig(**own)
    monkeypatch.setattr(absolute.network, "generation_config", config)
    found = absolute.generate(PROMPTS, max_new_tokens=3, attainable=1.0)
    assert ids_of(found) == ids_of(plain)
    assert absolute.network.generation_config is config


def test_ids_and_stop_strings_of_a_models_generation_config_hold(
    absolute: DynamicModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = absolute.generate(PROMPTS[:1], max_new_tokens=3, max_merges=0)[0]
    first = int(plain.ids[0])
    barred = transformers.GenerationConfig(suppress_tokens=[first])
    monkeypatch.setattr(absolute.network, "generation_config", barred)
    assert first not in absolute.generate(PROMPTS[:1], max_new_tokens=3, max_merges=0)[0].ids
    stops = transformers.GenerationConfig(stop_strings=[plain.tokens[1].decode()])
    monkeypatch.setattr(absolute.network, "generation_config", stops)
    found = absolute.generate(PROMPTS[:1], max_new_tokens=3, max_merges=0)[0]
    assert (found.data, found.finish) == (plain.tokens[0], "stop")


def test_a_seed_below_0_and_a_prompt_that_is_no_text_are_named(absolute: DynamicModel) -> None:
    with pytest.raises(errors.InvalidValue, match="seed: must be at least 0, got -1"):
        absolute.generate(PROMPTS, max_new_tokens=2, temperature=1.0, seed=-1)
    with pytest.raises(TypeError, match=r"a text must be str or bytes.*got NoneType"):
        absolute.generate([None], max_new_tokens=2)  # type: ignore[list-item]


def test_a_model_whose_generate_takes_ids_only_writes_what_it_writes_behind_ids() -> None:
    torch.manual_seed(0)
    config = transformers.BambaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_layer_indices=[1],
        mamba_n_heads=4,
        mamba_d_head=16,
        mamba_d_state=16,
        mamba_n_groups=1,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    network = transformers.BambaForCausalLM(config).eval()
    model = DynamicModel(network, "pico:code-2k", rows="mean")
    found = model.generate(PROMPTS, max_new_tokens=6, max_merges=0)
    assert ids_of(found) == [own_ids(model, prompt, 6) for prompt in PROMPTS]
    merged = model.generate(PROMPTS, max_new_tokens=6, attainable=1.0)
    assert merged.prompts.reduction > 0.2
    assert all((one.ids < VOCABULARY).all() for one in merged)


def test_a_model_that_keeps_its_cache_to_itself_writes_base_tokens_only() -> None:
    torch.manual_seed(0)
    config = transformers.RecurrentGemmaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        lru_width=32,
        attention_window_size=16,
    )
    network = transformers.RecurrentGemmaForCausalLM(config).eval()
    model = DynamicModel(network, "pico:code-2k", rows="mean")
    assert len(model.generate(PROMPTS, max_new_tokens=2, attainable=1.0)) == len(PROMPTS)
    with pytest.raises(errors.InvalidValue, match=r"new_tokens: .* keeps its cache to itself"):
        model.generate(PROMPTS, max_new_tokens=2, new_tokens="batch", attainable=1.0)


def test_new_tokens_behind_a_head_that_is_not_linear_are_refused_by_name() -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
        is_decoder=True,
        initializer_range=0.3,
    )
    model = DynamicModel(transformers.BertLMHeadModel(config).eval(), "pico:code-2k", rows="mean")
    assert len(model.generate(PROMPTS, max_new_tokens=2, attainable=1.0)) == len(PROMPTS)
    with pytest.raises(errors.InvalidValue, match=r'cannot write new tokens.*new_tokens="none"'):
        model.generate(PROMPTS, max_new_tokens=2, new_tokens="prompt", attainable=1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: must be at least 1"),
        ({"new_tokens": "all"}, 'new_tokens: .*"none" or "prompt" or "batch"'),
        ({"max_new_tokens": 90}, "96 positions do not suffice; ask for fewer"),
        ({"temperature": -1.0}, "temperature: must be 0"),
        ({"stop": "\n"}, "stop: is one text"),
        ({"reduction": 2}, "reduction: must be a share"),
    ],
)
def test_a_wrong_option_of_generation_is_named(
    absolute: DynamicModel, options: dict[str, object], message: str
) -> None:
    with pytest.raises(errors.InvalidValue, match=message):
        absolute.generate(PROMPTS, **options)  # type: ignore[arg-type]


def test_texts_that_nothing_stands_before_are_refused() -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=32,
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = DynamicModel(
        transformers.GPT2LMHeadModel(config).eval(), "pico:code-2k", rows="mean", first_ids=[]
    )
    with pytest.raises(errors.InvalidValue, match="a prompt is empty"):
        model.generate(["x", ""])
    with pytest.raises(errors.InvalidValue, match="a prefix is empty"):
        model.score(["x"], [""])
    assert model.score(["x"], ["a"]).nats[0] > 0
    assert judge(model, PROMPTS[:1]).base.context_tokens > 0  # the first token is never scored


def test_wrong_texts_to_judge_or_score_are_named(pico: DynamicModel) -> None:
    with pytest.raises(errors.InvalidValue, match="context_share: must lie between 0 and 1"):
        judge(pico, PROMPTS, context_share=1)
    with pytest.raises(errors.InvalidValue, match="window: 2 tokens leave no room"):
        judge(pico, PROMPTS, window=2)
    with pytest.raises(errors.InvalidValue, match="no text has a boundary inside"):
        judge(pico, ["import", ""])
    with pytest.raises(errors.InvalidValue, match="2 prefixes for 1 texts"):
        pico.score(["x"], ["a", "b"])
    with pytest.raises(TypeError, match="several texts"):
        judge(pico, "import os")
    with pytest.raises(TypeError, match="several texts"):
        pico.score("import os", ["a"])
