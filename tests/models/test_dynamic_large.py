"""Models with grown vocabularies, against stock models whose matrices hold all the rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")
transformers = pytest.importorskip("transformers", reason="transformers is missing")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.dynamic import (  # noqa: E402
    BlockedSearch,
    Found,
    Generation,
    GrownVocabulary,
    LargeVocabularyLM,
    grow,
)
from anyvocab.evaluate.models import open_model  # noqa: E402
from anyvocab.hypernet.predict import SourceModel  # noqa: E402
from anyvocab.hypernet.rows import Rows  # noqa: E402
from anyvocab.testing import merged_tokenizer  # noqa: E402
from anyvocab.testing.hypernets import tiny_hypernet  # noqa: E402

OWN, PADDED, SIZE = 262, 270, 286  # ids of the model, rows of its matrices, ids when grown
END = 260
SHAPE = {
    "vocab_size": PADDED,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": END,
    "eos_token_id": END,
    "pad_token_id": END,
}
# An untied model; a tied one that scales what it reads and caps its logits; one whose head has a
# bias; one with learnt positions.
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**SHAPE, tie_word_embeddings=False),
    "gemma2": lambda: transformers.Gemma2Config(
        **SHAPE, head_dim=8, final_logit_softcapping=5.0, sliding_window=16
    ),
    "phi": lambda: transformers.PhiConfig(**SHAPE),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=PADDED,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        initializer_range=0.2,
        bos_token_id=END,
        eos_token_id=END,
    ),
}
TEXT = "the tokenizer tokenizes the tokens of the other tokenizer, and then the others. " * 3
CORPUS = [(TEXT + "hello then\n").encode()] * 3


@dataclass(frozen=True)
class Made:
    lm: LargeVocabularyLM
    stock: Any  # the same model with all rows in its own matrices


def write_model(folder: Path, config: Any) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = transformers.AutoModelForCausalLM.from_config(config)
        head = network.get_output_embeddings()
        if head.bias is not None:
            torch.nn.init.normal_(head.bias)
    network.save_pretrained(folder)
    merges = [("t", "h"), ("th", "e"), ("o", "k"), ("Ġ", "the")]
    tokenizer = merged_tokenizer(merges, pattern=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<|end|>", "eos_token": "<|end|>"})
    )


def stock_of(lm: LargeVocabularyLM, rows: Any) -> Any:
    """Return a stock model whose matrices hold the model's own rows and the new ones."""
    network = type(lm.model.network).from_pretrained(lm.model.network.name_or_path)
    network.resize_token_embeddings(len(lm.rows), mean_resizing=False)
    with torch.no_grad():
        network.get_input_embeddings().weight[OWN:] = rows.input.float()
        head = network.get_output_embeddings()
        head.weight[OWN:] = rows.head.float()
        if head.bias is not None:
            head.bias[OWN:] = rows.bias
    return network.eval()


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Return what makes a model of a kind, once."""

    @cache
    def build(kind: str) -> Made:
        folder = tmp_path_factory.mktemp(kind)
        write_model(folder, CONFIGS[kind]())
        model = open_model(folder)
        tokenizer = av.extend(model.tokenizer, CORPUS, 24)
        assert len(tokenizer.vocabulary) == SIZE
        generator = torch.Generator().manual_seed(1)
        read, write = (0.4 * torch.randn(24, 32, generator=generator) for _ in range(2))
        tied = model.network.get_output_embeddings().weight is (
            model.network.get_input_embeddings().weight
        )
        bias = torch.randn(24, generator=generator) if kind == "phi" else None
        rows = Rows(read, None if tied else write, bias)
        lm = LargeVocabularyLM(model, GrownVocabulary(tokenizer, rows, OWN), block_rows=100)
        return Made(lm, stock_of(lm, rows))

    return build


@pytest.fixture(params=sorted(CONFIGS))
def made(request: pytest.FixtureRequest, build: Callable[[str], Made]) -> Made:
    """One model after another."""
    return build(request.param)


@pytest.fixture
def llama(build: Callable[[str], Made]) -> Made:
    """One model, for what does not depend on its kind."""
    return build("llama")


def written(made: Made, prompt: str, count: int, **options: Any) -> list[int]:
    """Return what the stock model writes, by transformers' own loop."""
    ids = torch.tensor([[*made.lm.first_ids, *made.lm.encode(prompt).tolist()]])
    out = made.stock.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, **options
    )
    found: list[int] = out[0, ids.shape[1] :].tolist()
    return found


def stock_logprobs(made: Made, ids: list[int]) -> Any:
    """Return the log-probabilities behind every id, from one pass without a cache, float64."""
    with torch.no_grad():
        logits = made.stock(torch.tensor([ids]), use_cache=False).logits[0].double()
    return torch.log_softmax(logits, dim=1)


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_tokens_are_those_of_a_stock_model_with_all_rows(made: Made, penalty: float) -> None:
    options = {} if penalty == 1.0 else {"repetition_penalty": penalty}
    right = written(made, "the other", 24, **options)
    found = made.lm.generate("the other", max_new_tokens=24, repetition_penalty=penalty)
    assert found.ids.tolist() == [id for id in right if id != END]
    assert (found.finish == "end") == (END in right)


def test_log_probabilities_are_those_of_one_pass_without_a_cache(made: Made) -> None:
    found = made.lm.generate("the tokens", max_new_tokens=16, temperature=1.0, top_k=40, seed=3)
    assert (found.ids >= OWN).any()  # new tokens are written, and read again
    prompt = [*made.lm.first_ids, *made.lm.encode("the tokens").tolist()]
    rows = stock_logprobs(made, [*prompt, *found.ids.tolist()])
    right = [float(rows[len(prompt) - 1 + i, id]) for i, id in enumerate(found.ids.tolist())]
    # Two float32 passes through two layers of width 32, cached and not: some hundred roundings
    # each of numbers around 10.
    np.testing.assert_allclose(found.logprobs, right, rtol=0, atol=100 * 10 * 2.0**-23)
    assert found.over == "rows"


def test_all_probabilities_behind_a_prompt_sum_to_one(made: Made) -> None:
    states = made.lm.states([*made.lm.first_ids, *made.lm.encode("the").tolist()])[-1:]
    found = made.lm.exact.top(states, len(made.lm.rows), total=True)
    assert found.log_total is not None
    total = np.exp(found.logits - found.log_total[:, None]).sum()
    lengths = torch.cat([part.double().norm(dim=1) for part in made.lm.rows.parts])
    bound = 34 * 2.0**-24 * float(lengths.max() * states.double().norm()) + 2.0**-22
    assert abs(total - 1.0) <= 2 * max(bound, 1e-6)


def test_bits_per_byte_are_those_of_the_stock_model(made: Made) -> None:
    texts = [TEXT, "then the tokenizer"]
    right = av.bits_per_byte(made.stock, texts, tokenizer=made.lm.tokenizer, window=40, stride=10)
    found = made.lm.bits_per_byte(texts, window=40, stride=10)
    assert (found.bytes, found.tokens) == (right.bytes, right.tokens)
    assert found.bits_per_byte == pytest.approx(right.bits_per_byte, rel=1e-5)  # float32 passes


def test_the_best_rows_are_enough_to_draw_from(llama: Made) -> None:
    def ids(**options: Any) -> list[int]:
        found = llama.lm.generate("the", max_new_tokens=12, temperature=0.9, seed=5, **options)
        return found.ids.tolist()

    assert ids(top_k=len(llama.lm.rows)) == ids()
    assert ids(top_k=20, top_p=0.9, min_p=0.02) == ids(top_k=20, top_p=0.9, min_p=0.02)
    assert ids() != ids(top_k=1)


def test_a_stream_gives_the_same_tokens_one_by_one(llama: Made) -> None:
    whole = llama.lm.generate("the", max_new_tokens=10, temperature=1.0, seed=1)
    steps = list(llama.lm.stream("the", max_new_tokens=10, temperature=1.0, seed=1))
    assert [step.id for step in steps if step.finish != "end"] == whole.ids.tolist()
    assert b"".join(step.bytes for step in steps) == whole.bytes
    assert whole.bytes == llama.lm.tokenizer.decode(whole.ids.tolist(), skip_special=True)
    assert "".join(step.text for step in steps) == whole.text
    assert [step.finish for step in steps[:-1]] == [None] * (len(steps) - 1)
    assert steps[-1].finish == whole.finish


def test_a_text_ends_where_the_model_has_no_further_position(llama: Made) -> None:
    prompt = [ord("a")] * 62
    found = llama.lm.generate(prompt, max_new_tokens=9, temperature=1.0, seed=1)
    assert found.finish in ("context", "end")
    assert len(found.ids) <= 3  # positions 63 and 64 are read, what they give is the third
    if found.finish == "context":
        assert len(found.ids) == 3
    with pytest.raises(errors.InvalidValue, match="64 positions"):
        llama.lm.generate([ord("a")] * 65)


def test_without_new_tokens_the_model_is_the_model(made: Made) -> None:
    bias = None if made.lm.rows.bias is None else torch.empty(0)
    nothing = torch.empty(0, 32)
    own = made.lm.model.tokenizer
    lm = LargeVocabularyLM(made.lm.model, GrownVocabulary(own, Rows(nothing, nothing, bias), OWN))
    assert len(lm.rows) == OWN
    found = lm.generate("the other", max_new_tokens=10)
    with torch.no_grad():
        ids = [*lm.first_ids, *own.encode("the other").tolist()]
        first = int(lm.model.network(torch.tensor([ids])).logits[0, -1, :OWN].argmax())
    assert (found.ids.tolist() or [END])[0] == first


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": -1},
        {"temperature": -1.0},
        {"top_k": 0},
        {"top_p": 0.0},
        {"min_p": 2.0},
        {"repetition_penalty": 0.0},
        {"search": "nearest"},
        {"search": BlockedSearch(torch.zeros(3, 2))},
    ],
)
def test_an_option_that_is_none_is_refused_before_the_first_token(
    llama: Made, options: dict[str, Any]
) -> None:
    with pytest.raises(errors.InvalidValue):
        llama.lm.stream("the", **options)


def test_prompts_that_cannot_be_read_are_refused(llama: Made) -> None:
    for prompt in ([], [SIZE], [-1]):
        with pytest.raises(errors.InvalidValue):
            llama.lm.generate(prompt)
    with pytest.raises(TypeError, match="several texts"):
        llama.lm.bits_per_byte("a text")
    with pytest.raises(errors.InvalidValue, match="no byte"):
        llama.lm.bits_per_byte([""])


def test_nothing_is_written_where_nothing_is_asked_for(llama: Made) -> None:
    found = llama.lm.generate("the", max_new_tokens=0)
    assert (found.bytes, found.finish, len(found.ids)) == (b"", "length", 0)


def test_a_vocabulary_of_another_model_is_refused(
    llama: Made, pico: LargeVocabularyLM, tmp_path: Path
) -> None:
    vocabulary = GrownVocabulary(pico.tokenizer, Rows(pico.rows.parts[1]), 4096)
    with pytest.raises(errors.InvalidValue, match="grown from another"):
        LargeVocabularyLM(llama.lm.model, vocabulary)
    narrow = GrownVocabulary(llama.lm.tokenizer, Rows(torch.zeros(24, 8)), OWN)
    with pytest.raises(errors.InvalidValue, match="rows of 8 numbers"):
        LargeVocabularyLM(llama.lm.model, narrow)
    one_sided = GrownVocabulary(llama.lm.tokenizer, Rows(torch.zeros(24, 32)), OWN)
    with pytest.raises(errors.InvalidValue, match="a matrix for each"):
        LargeVocabularyLM(llama.lm.model, one_sided)


def test_an_index_that_looks_everywhere_writes_what_exact_search_writes(llama: Made) -> None:
    pytest.importorskip("faiss", reason="faiss is missing: install anyvocab[faiss]")
    from anyvocab.dynamic import FaissSearch

    search = FaissSearch(llama.lm.rows, lists=4, probes=4, candidates=60)
    right = llama.lm.generate("the", max_new_tokens=8, repetition_penalty=1.2)
    found = llama.lm.generate("the", max_new_tokens=8, repetition_penalty=1.2, search=search)
    assert found.ids.tolist() == right.ids.tolist()
    assert found.over == "candidates"
    assert (found.logprobs > right.logprobs).all()  # normalised over fewer
    drawn = llama.lm.generate("the", max_new_tokens=8, temperature=1.0, search="faiss")
    assert len(drawn.ids) or drawn.finish == "end"


def test_a_cut_character_is_counted_and_comes_when_it_is_complete() -> None:
    whole = Generation(
        np.zeros(2, np.uint32), "é中".encode()[:4], np.zeros(2), -1.0, "length", "rows"
    )
    assert (whole.cut, whole.text) == (2, "é�")
    assert whole.logprob == -1.0


@pytest.mark.parametrize("rows_from", ["mean", "hypernet"])
@pytest.mark.parametrize("kind", ["llama", "phi"])
def test_a_folder_has_rows_for_both_sides_and_a_bias_where_the_model_has(
    kind: str, rows_from: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    write_model(folder, CONFIGS[kind]())
    source = SourceModel.open(folder)
    net = None if rows_from == "mean" else tiny_hypernet(source, weights="drawn")
    report = grow(folder, CORPUS, tmp_path / "grown", size=SIZE, hypernet=net)
    assert (report.rows_from, report.new_tokens) == (rows_from, SIZE - OWN)
    lm = LargeVocabularyLM.open(tmp_path / "grown")
    new = GrownVocabulary.open(tmp_path / "grown").rows
    tokens = [lm.tokenizer.vocabulary.token_bytes(id) or b"" for id in range(OWN, SIZE)]
    if net is None:
        pieces = [source.tokenizer.encode(token).tolist() for token in tokens]
        matrices = [source.rows.input, source.rows.output, source.rows.bias]
        right = [
            None if one is None else torch.stack([one[ids].mean(dim=0) for ids in pieces])
            for one in matrices
        ]
    else:
        made = net.predict(lm.tokenizer, source)
        last = torch.from_numpy(np.flatnonzero(made.ids >= OWN))
        rows = made.rows()
        right = [None if one is None else one[last] for one in (rows.input, rows.output, rows.bias)]
    for found, wanted in zip([new.input, new.output, new.bias], right, strict=True):
        assert (found is None) == (wanted is None)
        if found is not None and wanted is not None:
            # Some hundred sums in another order, where chunks are of other sizes.
            assert float((found - wanted).abs().max()) <= 500 * 2.0**-24 * float(wanted.abs().max())
    assert lm.generate("the", max_new_tokens=3).ids.size <= 3


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> LargeVocabularyLM:
    """The tied pico model with its hypernetwork, grown on some of this package's source."""
    sources = [path.read_bytes() for path in sorted(Path(av.__file__).parent.glob("*.py"))]
    out = tmp_path_factory.mktemp("pico") / "grown"
    report = grow("pico:code-4k", sources, out, size=4400)
    assert (report.rows_from, report.outcome) == ("hypernet", "complete")
    return LargeVocabularyLM.open(out)


def test_pico_expects_predicted_tokens_and_scores_them(pico: LargeVocabularyLM) -> None:
    text = "class Tokenizer:\n    def encode(self, text: bytes, *, add_special_tokens: bool):\n"
    ids = pico.encode(text)
    assert len(ids) < len(pico.model.tokenizer.encode(text))
    states = pico.states([*pico.first_ids, *ids.tolist()])
    found = pico.exact.top(states, len(pico.rows), total=True)
    assert found.log_total is not None
    shares = np.exp(found.logits - found.log_total[:, None])
    new = np.where(found.ids >= 4096, shares, 0.0).sum(axis=1)
    assert 0.001 < new.mean() < 0.9
    own = av.bits_per_byte("pico:code-4k", [text]).bits_per_byte
    assert 0.5 * own < pico.bits_per_byte([text]).bits_per_byte < 2 * own


def test_an_end_id_ends_the_text(pico: LargeVocabularyLM) -> None:
    end = pico.ends[0]
    assert end in pico.model.tokenizer.vocabulary.ids_of_role("eos")

    class Ends:
        """A search that finds nothing but the end."""

        rows = pico.rows
        candidates = 1

        def top(self, states: Any, k: int, *, total: bool = False) -> Found:
            one = np.zeros((len(states), 1))
            return Found(np.full(one.shape, end), one, one[:, 0], "candidates")

    found = pico.generate("x = 1", search=Ends())
    assert (found.finish, found.end_logprob, found.bytes) == ("end", 0.0, b"")


def test_texts_are_scored_in_the_longest_prefix_encoding_too(pico: LargeVocabularyLM) -> None:
    vocabulary = GrownVocabulary(pico.tokenizer, Rows(pico.rows.parts[1]), 4096)
    lm = LargeVocabularyLM(pico.model, vocabulary, encoding="longest")
    text = "def tokenizer(self, text):\n    return encoder\n"
    assert lm.tokenizer.decode(lm.encode(text)) == text.encode()
    assert lm.bits_per_byte([text]).bytes == len(text)
    with pytest.raises(errors.InvalidValue, match="canonical or longest"):
        LargeVocabularyLM(pico.model, vocabulary, encoding="greedy")  # type: ignore[arg-type]
