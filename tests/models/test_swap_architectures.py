"""Every architecture in use keeps its body: tiny models of random numbers change tokenizers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")
t = pytest.importorskip("transformers", reason="transformers is missing")
tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is missing")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.transplant import verify as verify_module  # noqa: E402
from anyvocab.transplant.identity import match  # noqa: E402

V, W, D = 320, 300, 32  # ids before and after; no other axis of these models has V numbers
SOURCE_TEXT = [
    "The cat sat on the mat and the dog ran to the house. " * 3,
    "def add(first, second):\n    return first + second\n",
    "Numbers such as 123 and 4567 stand between words of several languages.",
]
TARGET_TEXT = ["the quick fox and the cat ran home to the house. " * 3, "for one in items: pass"]
SOURCE_ROLES = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "cls_token": "<cls>"}
TARGET_ROLES = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<pad>"}
IDS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
NEW_OF = {0: 2, 1: 1, 2: 0}  # begin, end and padding as they stand in the two lists below
SOURCE_TOKENS = ["<s>", "</s>", "<pad>", "<cls>", "<image>"]
TARGET_TOKENS = ["<pad>", "<|end|>", "<|begin|>", "<image>"]
PLAIN: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": D,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    **IDS,
}
FEW: dict[str, Any] = PLAIN | {"num_key_value_heads": 1, "head_dim": 16}
GPT: dict[str, Any] = {"vocab_size": V, "n_embd": D, "n_layer": 2, "n_head": 2, **IDS}
T5: dict[str, Any] = {"vocab_size": V, "d_model": D, "d_ff": 48, "num_layers": 2, "num_heads": 2}
T5 |= {"d_kv": 16, "eos_token_id": 1, "pad_token_id": 2, "decoder_start_token_id": 2}
BART: dict[str, Any] = {"vocab_size": V, "d_model": D, "max_position_embeddings": 64, **IDS}
BART |= {f"{part}_layers": 1 for part in ("encoder", "decoder")}
BART |= {f"{part}_ffn_dim": 48 for part in ("encoder", "decoder")}
BART |= {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
EYE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "image_size": 8}
EYE |= {"num_attention_heads": 2, "patch_size": 4}


@dataclass(frozen=True)
class Kind:
    """One architecture: how it is made, how it is loaded, whether its matrices are one."""

    make: Callable[[], Any]
    tied: bool
    auto: str = "AutoModelForCausalLM"


def _llava() -> Any:
    eye, text = {"model_type": "clip_vision_model", **EYE}, {"model_type": "llama", **PLAIN}
    config = t.LlavaConfig(vision_config=eye, text_config=text, image_token_index=4)
    return t.LlavaForConditionalGeneration(config)


SEQUENCES, IMAGES, MASKED = (
    f"AutoModelFor{name}" for name in ("Seq2SeqLM", "ImageTextToText", "MaskedLM")
)
ARCHITECTURES: dict[str, Kind] = {
    "gpt2": Kind(lambda: t.GPT2LMHeadModel(t.GPT2Config(**GPT, n_positions=64)), True),
    "gpt-j": Kind(lambda: t.GPTJForCausalLM(t.GPTJConfig(**GPT, rotary_dim=8)), False),
    "gpt-neox": Kind(lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**PLAIN)), False),
    "bloom": Kind(
        lambda: t.BloomForCausalLM(
            t.BloomConfig(vocab_size=V, hidden_size=D, n_layer=2, n_head=2, **IDS)
        ),
        True,
    ),
    "opt": Kind(
        lambda: t.OPTForCausalLM(t.OPTConfig(**PLAIN, ffn_dim=48, word_embed_proj_dim=16)), True
    ),
    "falcon": Kind(lambda: t.FalconForCausalLM(t.FalconConfig(**PLAIN)), True),
    "phi": Kind(lambda: t.PhiForCausalLM(t.PhiConfig(**PLAIN)), False),
    "llama": Kind(lambda: t.LlamaForCausalLM(t.LlamaConfig(**PLAIN)), False),
    "mistral": Kind(lambda: t.MistralForCausalLM(t.MistralConfig(**FEW)), False),
    "mixtral": Kind(
        lambda: t.MixtralForCausalLM(t.MixtralConfig(**FEW, num_local_experts=2)), False
    ),
    "gemma": Kind(lambda: t.GemmaForCausalLM(t.GemmaConfig(**FEW)), True),
    "gemma2": Kind(lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**FEW)), True),
    "qwen2": Kind(
        lambda: t.Qwen2ForCausalLM(
            t.Qwen2Config(**PLAIN, num_key_value_heads=1, tie_word_embeddings=True)
        ),
        True,
    ),
    "qwen3": Kind(lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**FEW)), False),
    "cohere": Kind(
        lambda: t.CohereForCausalLM(t.CohereConfig(**PLAIN, num_key_value_heads=1)), True
    ),
    "mamba": Kind(
        lambda: t.MambaForCausalLM(
            t.MambaConfig(vocab_size=V, hidden_size=D, num_hidden_layers=2, state_size=4, **IDS)
        ),
        True,
    ),
    "llava": Kind(_llava, False, IMAGES),
    "t5": Kind(lambda: t.T5ForConditionalGeneration(t.T5Config(**T5)), True, SEQUENCES),
    "bart": Kind(
        lambda: t.BartForConditionalGeneration(
            t.BartConfig(**BART, decoder_start_token_id=1, forced_eos_token_id=1)
        ),
        True,
        SEQUENCES,
    ),
    "bert": Kind(lambda: t.BertForMaskedLM(t.BertConfig(**PLAIN)), True, MASKED),
    "modernbert": Kind(
        lambda: t.ModernBertForMaskedLM(
            t.ModernBertConfig(**PLAIN, cls_token_id=3, sep_token_id=1)
        ),
        True,
        MASKED,
    ),
}


def trained(texts: list[str], size: int, controls: list[str]) -> Any:
    """Return a byte-level BPE of `tokenizers`, its control tokens first."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=controls,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return made


def put(folder: Path, texts: list[str], size: int, controls: list[str], roles: Any) -> Path:
    folder.mkdir(exist_ok=True)
    trained(texts, size, controls).save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **roles}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def put_source_tokenizer(folder: Path) -> Path:
    return put(folder, SOURCE_TEXT, V, SOURCE_TOKENS, SOURCE_ROLES)


def saved(folder: Path, make: Callable[[], Any], dtype: str = "float32", **options: Any) -> Path:
    torch.manual_seed(0)
    made = make()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.1)  # biases and norms of zeros and ones would hide a mistake
    made.to(getattr(torch, dtype)).save_pretrained(folder, **options)
    return put_source_tokenizer(folder)


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    return {name: one for file in files for name, one in load_file(file).items()}


def same_bits(one: Any, other: Any) -> bool:
    return one.dtype == other.dtype and torch.equal(
        one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)
    )


def load(folder: Path, auto: str) -> Any:
    made, found = getattr(t, auto).from_pretrained(folder, output_loading_info=True)
    assert {name: keys for name, keys in found.items() if keys} == {}
    return made.eval()


def states(model: Any, ids: list[int]) -> tuple[Any, Any]:
    """Return the last hidden states and the logits of a sequence."""
    read = torch.tensor([ids])
    more = {"decoder_input_ids": read} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        made = model(input_ids=read, output_hidden_states=True, **more)
    layers = made.get("decoder_hidden_states") or made["hidden_states"]
    return layers[-1], made.logits


@dataclass(frozen=True, eq=False)
class Pair:
    """A model before and after, and ids that are the same token in both."""

    before: Path
    after: Path
    report: av.SwapReport
    old: list[int]
    new: list[int]


def shared(report: av.SwapReport) -> tuple[list[int], list[int]]:
    found = match(report.source.vocabulary, report.target.vocabulary)
    new = found.matched().tolist()
    return [int(found.source_of[id]) for id in new], new


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("target")
    return put(folder, TARGET_TEXT, W, TARGET_TOKENS, TARGET_ROLES)


@pytest.fixture(scope="module")
def swapped(target: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    t.utils.logging.disable_progress_bar()

    @cache
    def get(name: str) -> Pair:
        folder = tmp_path_factory.mktemp("model")
        before = saved(folder / "before", ARCHITECTURES[name].make)
        after = folder / "after"
        report = av.swap(before, target, after, strategy="mean", verification="files")
        assert report.ok
        return Pair(before, after, report, *shared(report))

    yield get
    get.cache_clear()


every = pytest.mark.parametrize("name", list(ARCHITECTURES))


@every
def test_sequences_of_shared_tokens_give_the_same_bits(swapped: Any, name: str) -> None:
    pair = swapped(name)
    kind = ARCHITECTURES[name]
    before, after = load(pair.before, kind.auto), load(pair.after, kind.auto)
    (first, old), (second, new) = (
        states(model, ids[-24:]) for model, ids in ((before, pair.old), (after, pair.new))
    )
    assert pair.old[-24:] != pair.new[-24:]
    assert torch.equal(first, second)
    assert torch.equal(old[..., pair.old], new[..., pair.new])
    heads = [model.get_output_embeddings().weight for model in (before, after)]
    inputs = [model.get_input_embeddings().weight for model in (before, after)]
    assert [head is one for head, one in zip(heads, inputs, strict=True)] == [kind.tied] * 2


@every
def test_only_rows_of_the_vocabulary_change_and_shared_ones_do_not(swapped: Any, name: str) -> None:
    pair = swapped(name)
    before, after = tensors(pair.before), tensors(pair.after)
    assert before.keys() == after.keys()
    of_ids = {key for key, one in before.items() if V in one.shape}
    assert of_ids
    for key, one in before.items():
        if key not in of_ids:
            assert same_bits(one, after[key]), key
            continue
        axis = one.shape.index(V)
        assert after[key].shape[axis] == W
        old, new = (torch.tensor(ids) for ids in (pair.old, pair.new))
        assert same_bits(one.index_select(axis, old), after[key].index_select(axis, new)), key


@every
def test_configurations_name_the_ids_of_the_new_tokenizer(swapped: Any, name: str) -> None:
    pair = swapped(name)
    for file in ("config.json", "generation_config.json"):
        if not (pair.before / file).exists():
            continue
        old, new = (json.loads((one / file).read_text()) for one in (pair.before, pair.after))
        old, new = old.get("text_config", old), new.get("text_config", new)
        assert new.get("vocab_size") == (W if "vocab_size" in old else None)
        for field in (*IDS, "decoder_start_token_id", "forced_eos_token_id"):
            if old.get(field) is not None:
                assert new[field] == NEW_OF[old[field]], field
    assert t.AutoConfig.from_pretrained(pair.after).get_text_config().vocab_size == W
    tokenizer = t.AutoTokenizer.from_pretrained(pair.after)
    assert [getattr(tokenizer, field) for field in IDS] == [NEW_OF[id] for id in IDS.values()]


def test_a_token_of_images_is_named_anew(swapped: Any) -> None:
    config = json.loads((swapped("llava").after / "config.json").read_text())
    named = {config[field] for field in ("image_token_index", "image_token_id") if field in config}
    assert named == {TARGET_TOKENS.index("<image>")}


@pytest.mark.parametrize("name", ["phi", "gpt-j", "bert"])
def test_the_output_bias_of_a_new_token_is_the_mean_of_its_pieces(swapped: Any, name: str) -> None:
    pair = swapped(name)
    before, after = tensors(pair.before), tensors(pair.after)
    (key,) = [key for key, one in before.items() if one.shape == (V,)]
    side = pair.report.plan.side("output")
    composed = [id for id in range(W) if id not in pair.new and side.combination.row(id)[1].any()]
    assert len(composed) > 20
    for id in composed:
        columns, weights = side.combination.row(id)
        expected = (before[key].double()[columns.tolist()] * torch.tensor(weights)).sum()
        # one rounding to float32 of a sum of a few numbers of size 0.1
        assert abs(float(after[key][id] - expected)) <= 2**-23 * 0.5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["gemma", "llama"])
def test_shards_and_short_types_stay_as_they_are(
    target: Path, tmp_path: Path, name: str, dtype: str
) -> None:
    make = ARCHITECTURES[name].make
    before = saved(tmp_path / "before", make, dtype, max_shard_size="40KB")
    after = tmp_path / "after"
    report = av.swap(before, target, after, strategy="mean", verification="files")
    assert report.ok
    old, new = tensors(before), tensors(after)
    assert len(list(before.glob("*.safetensors"))) > 1
    assert {one.dtype for one in new.values()} == {getattr(torch, dtype)}
    shared_old, shared_new = shared(report)
    for key, one in old.items():
        rows = V in one.shape
        assert same_bits(
            one[shared_old] if rows else one, new[key][shared_new] if rows else new[key]
        )
    model = load(after, ARCHITECTURES[name].auto)
    index = json.loads((after / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(new)
    assert model.dtype == getattr(torch, dtype)


@pytest.mark.parametrize(
    "name", ["gpt2", "bloom", "opt", "falcon", "gemma2", "qwen2", "cohere", "mamba"]
)
def test_untied_matrices_are_two_and_give_the_same_bits(
    swapped: Any, target: Path, tmp_path: Path, name: str
) -> None:
    before, after = swapped(name).before, tmp_path / "after"
    report = av.swap(before, target, after, strategy="front", tie="untie", verification="files")
    assert report.ok
    old, new = load(before, ARCHITECTURES[name].auto), load(after, ARCHITECTURES[name].auto)
    assert new.get_output_embeddings().weight is not new.get_input_embeddings().weight
    ids, others = shared(report)
    (first, before_logits), (second, after_logits) = (
        states(old, ids[-24:]),
        states(new, others[-24:]),
    )
    assert torch.equal(first, second)
    assert torch.equal(before_logits[..., ids], after_logits[..., others])


def test_copies_of_a_matrix_stay_copies(target: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    before = saved(tmp_path / "before", ARCHITECTURES["t5"].make)
    held = tensors(before)
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        held[name] = held["shared.weight"].clone()
    save_file(held, before / "model.safetensors", metadata={"format": "pt"})
    assert av.swap(before, target, tmp_path / "after", strategy="mean", verification="files").ok
    after = tensors(tmp_path / "after")
    copies = {name for name, one in held.items() if V in one.shape}
    assert len(copies) == 4
    assert all(same_bits(after[name], after["shared.weight"]) for name in copies)


def test_a_model_that_scales_while_tied_is_not_untied(swapped: Any, target: Path) -> None:
    pair = swapped("t5")
    with pytest.raises(errors.InvalidValue, match="scales its hidden states only while"):
        av.swap(pair.before, target, pair.after.parent / "no", strategy="mean", tie="untie")


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify without a process of its own: it imports torch a second time."""

    def run(spec: Path) -> dict[str, Any]:
        return verify_module._examine(json.loads(spec.read_text()))

    monkeypatch.setattr(verify_module, "_run", run)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("name", ["bert", "modernbert", "t5", "bart"])
def test_what_predicts_no_next_token_is_verified_without_bits_per_byte(
    swapped: Any, target: Path, tmp_path: Path, name: str
) -> None:
    text = SOURCE_TEXT[0].encode()
    report = av.swap(swapped(name).before, target, tmp_path / "new", corpus=[text] * 8)
    assert report.verification is not None
    checks = {check.name: check for check in report.verification.checks}
    assert report.ok
    assert report.bits_per_byte() is None
    assert checks["bits per byte"].ok is None
    assert checks["model in transformers"].ok
    assert checks["hidden states of shared tokens"].ok
    assert ("generate" in checks) == (name in ("t5", "bart"))
    with pytest.raises(errors.InvalidValue, match="does not predict a text token by token"):
        av.bits_per_byte(tmp_path / "new", [text])


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("name", ["gpt2", "llava", "mamba"])
def test_what_predicts_the_next_token_is_measured(
    swapped: Any, target: Path, tmp_path: Path, name: str
) -> None:
    report = av.swap(
        swapped(name).before,
        target,
        tmp_path / "new",
        strategy="mean",
        judge=[b"the cat ran. " * 9],
    )
    assert report.ok
    assert report.bits_per_byte() is not None


def test_an_encoder_without_a_head_is_swapped_too(target: Path, tmp_path: Path) -> None:
    before = saved(tmp_path / "before", lambda: t.BertModel(t.BertConfig(**PLAIN)))
    report = av.swap(before, target, tmp_path / "after", strategy="mean", verification="files")
    old, new = load(before, "AutoModel"), load(tmp_path / "after", "AutoModel")
    ids, others = shared(report)
    with torch.inference_mode():
        first = old(torch.tensor([ids[-24:]])).last_hidden_state
        second = new(torch.tensor([others[-24:]])).last_hidden_state
    assert torch.equal(first, second)


def test_positions_that_are_counted_from_the_padding_id_do_not_move(
    target: Path, tmp_path: Path
) -> None:
    before = saved(tmp_path / "before", lambda: t.RobertaForMaskedLM(t.RobertaConfig(**PLAIN)))
    with pytest.raises(errors.InvalidValue, match="use a tokenizer whose padding token has id 2"):
        av.swap(before, target, tmp_path / "no", strategy="mean")
    moved = ["<|begin|>", "<|end|>", "<pad>", "<image>"]
    good = put(tmp_path / "good", TARGET_TEXT, W, moved, TARGET_ROLES)
    report = av.swap(before, good, tmp_path / "after", strategy="mean", verification="files")
    old, new = load(before, MASKED), load(tmp_path / "after", MASKED)
    ids, others = shared(report)
    assert torch.equal(states(old, ids[-24:])[0], states(new, others[-24:])[0])


def test_what_has_no_counterpart_is_null_and_not_the_default_of_its_class(
    swapped: Any, tmp_path: Path
) -> None:
    # ModernBertConfig pads with 50283, a row that no small model has: it would not load.
    bare = put(tmp_path / "bare", TARGET_TEXT, W, ["<|end|>"], {"eos_token": "<|end|>"})
    before = swapped("modernbert").before
    av.swap(before, bare, tmp_path / "after", strategy="mean", verification="files")
    config = json.loads((tmp_path / "after" / "config.json").read_text())
    assert config["cls_token_id"] is None
    assert all(
        value is None or value < W
        for name, value in t.AutoConfig.from_pretrained(tmp_path / "after").to_dict().items()
        if name.endswith("_token_id")
    )
    load(tmp_path / "after", MASKED)
    shutil.rmtree(tmp_path / "after")
