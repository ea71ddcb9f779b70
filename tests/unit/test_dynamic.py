"""Dynamic tokenization: what merges, when it stops, and the maps back."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.dynamic import BaseBatch, DynamicTokenizer
from anyvocab.testing import tiny_tokenizer

TEXTS = [
    "def tokenize(tokenizer): return tokenizer.tokenize_tokens()",
    "",
    "tokenizer = Tokenizer()  # a tokenizer\n\ttokens",
    "naïve 漢字かな 😀😀 हिन्दी don't",
]


@pytest.fixture(scope="module")
def dyn() -> DynamicTokenizer:
    return DynamicTokenizer("pico:code-4k")


def joined(tokens: list[bytes | None]) -> bytes:
    return b"".join(token or b"" for token in tokens)


def test_without_a_stop_every_pretoken_is_one_token(dyn: DynamicTokenizer) -> None:
    batch = dyn.merge(TEXTS)
    assert batch.token_bytes() == [dyn.tokenizer.pretokenize(text) for text in TEXTS]
    assert batch.stopped == "exhausted"
    assert len(batch.base.ids) - len(batch.ids) == batch.attainable


def test_base_tokens_are_the_tokenizers_and_know_their_pretoken(dyn: DynamicTokenizer) -> None:
    for text in TEXTS:
        ids, pretokens = dyn.base(text)
        assert ids.tolist() == dyn.tokenizer.encode(text).tolist()
        assert (ids.dtype, pretokens.dtype) == (np.uint32, np.uint32)
        parts = [dyn.tokenizer.decode(ids[pretokens == number]) for number in np.unique(pretokens)]
        assert parts == dyn.tokenizer.pretokenize(text)


@pytest.mark.parametrize("boundary", ["pretoken", "word", "sentence", "superword"])
def test_tokens_spell_their_texts_whatever_the_boundary(
    dyn: DynamicTokenizer, boundary: av.dynamic.tokenizer.Boundary
) -> None:
    texts = [*TEXTS, b"\xff\xfe \xf0\x9f\x98 x\x80\x80 x\x80\x80"]
    transition = 3 if boundary == "superword" else None
    batch = dyn.merge(texts, boundary=boundary, transition=transition)
    spelled = [joined(tokens) for tokens in batch.token_bytes()]
    assert spelled == [text if isinstance(text, bytes) else text.encode() for text in texts]


def test_the_maps_lead_to_base_tokens_bytes_and_words(dyn: DynamicTokenizer) -> None:
    batch = dyn.merge(TEXTS, max_merges=5)
    assert batch.spans is not None
    assert batch.words is not None
    row = np.repeat(np.arange(len(TEXTS)), batch.lengths())
    for token in range(len(batch.ids)):
        text = TEXTS[row[token]].encode()
        start, end = batch.spans[token].tolist()
        spelled = batch.bytes_of(int(batch.ids[token]))
        assert text[start:end] == spelled
        pieces = batch.base.ids[batch.starts[token] : batch.starts[token + 1]]
        assert dyn.tokenizer.decode(pieces) == spelled
        if spelled.strip():
            first = start + len(spelled) - len(spelled.lstrip())
            before = text[:first].decode("utf-8", "ignore")
            word = len(before.split()) - (not before[-1:].isspace() and before != "")
            assert batch.words[token] == word
        else:
            assert batch.words[token] == -1
    assert batch.lengths().sum() == len(batch.ids)
    assert batch.base_lengths().tolist() == [len(dyn.tokenizer.encode(text)) for text in TEXTS]


def test_labels_go_along_with_the_first_base_token(dyn: DynamicTokenizer) -> None:
    batch = dyn.merge(["antidisestablishmentarianism tokenizer"])
    labels = np.arange(len(batch.base.ids))
    assert batch.from_base(labels).tolist() == batch.starts[:-1].tolist()
    back = batch.to_base(np.arange(len(batch.ids)))
    assert np.flatnonzero(np.diff(back)).tolist() == (batch.starts[1:-1] - 1).tolist()
    with pytest.raises(errors.InvalidValue, match="give one for each base token"):
        batch.from_base(labels[:-1])


def test_new_tokens_have_ids_behind_the_vocabulary_and_pieces_that_spell_them(
    dyn: DynamicTokenizer,
) -> None:
    batch = dyn.merge(TEXTS)
    new = batch.new_tokens
    assert new.first_id == len(dyn.tokenizer.vocabulary) == dyn.first_new_id
    assert len(set(new)) == len(new) > 0
    assert [dyn.tokenizer.decode(pieces) for pieces in new.pieces] == list(new)
    assert not any(dyn.tokenizer.vocabulary.ids_of(token).size for token in new)
    made = [m.token for m in batch.merges if m.token >= new.first_id]
    assert list(dict.fromkeys(made)) == new.ids.tolist()
    with pytest.raises(errors.InvalidValue, match="no token of this batch"):
        batch.bytes_of(new.first_id + len(new))


def test_a_target_is_reached_at_the_first_merge_that_can(dyn: DynamicTokenizer) -> None:
    base = dyn.base_batch(TEXTS)
    total = len(base.ids)
    for options, enough in [
        ({"reduction": 0.1}, total - -(-total // 10)),
        ({"target_length": total - 7}, total - 7),
        ({"attainable": 0.5}, total - -(-dyn.merge_base(base, max_merges=0).attainable // 2)),
    ]:
        batch = dyn.merge_base(base, **options)
        assert batch.stopped == "target"
        assert len(batch.ids) <= enough
        before = dyn.merge_base(base, max_merges=len(batch.merges) - 1)
        assert len(before.ids) > enough


def test_all_that_is_attainable_is_what_all_merges_give(dyn: DynamicTokenizer) -> None:
    assert dyn.merge(TEXTS, attainable=1.0).ids.tolist() == dyn.merge(TEXTS).ids.tolist()
    assert dyn.merge(TEXTS, attainable=0.0).merges.token.size == 0


def test_a_reduction_that_cannot_be_reached_is_an_error_with_what_can(
    dyn: DynamicTokenizer,
) -> None:
    with pytest.raises(errors.InvalidValue, match=r"reduction=0.9 cannot be reached.*reduction of"):
        dyn.merge(TEXTS, reduction=0.9)
    with pytest.raises(errors.InvalidValue, match="target_length=3 cannot be reached"):
        dyn.merge(TEXTS, target_length=3)
    assert dyn.merge(TEXTS, reduction=0.9, unreached="keep").stopped == "exhausted"


def test_rare_pairs_stay_under_a_least_count(dyn: DynamicTokenizer) -> None:
    batch = dyn.merge(TEXTS, min_count=2)
    assert batch.stopped == "min_count"
    assert batch.merges.count.min() >= 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_merges": -1}, "max_merges: must be at least 0"),
        ({"min_count": 0}, "min_count: must be at least 1"),
        ({"max_token_bytes": 0}, "max_token_bytes: must be at least 1"),
        ({"reduction": 20}, "reduction: must be a share.*20 % is 0.2"),
        ({"reduction": float("nan")}, "reduction: must be a share"),
        ({"reduction": "20%"}, r"reduction: must be a share, 0 to 1, got '20%'; 20 % is 0\.2"),
        ({"reduction": 0.1, "target_length": 3}, "different targets"),
        ({"boundary": "superword"}, "transition: .*say after how many"),
        ({"transition": 3}, "has no transition"),
        ({"boundary": "line"}, "boundary: .*is no choice"),
        ({"unreached": "ignore"}, "unreached: .*is no choice"),
    ],
)
def test_an_option_out_of_its_range_is_named(
    dyn: DynamicTokenizer, options: dict[str, object], message: str
) -> None:
    with pytest.raises(errors.InvalidValue, match=message):
        dyn.merge(TEXTS, **options)


def test_an_empty_batch_is_an_error_and_an_empty_text_is_none(dyn: DynamicTokenizer) -> None:
    with pytest.raises(errors.InvalidValue, match="the batch is empty; give at least one text"):
        dyn.merge([])
    with pytest.raises(errors.InvalidValue, match="the batch is empty"):
        dyn.merge_arrays([], [0], [])
    with pytest.raises(TypeError, match="give a list of it"):
        dyn.merge("text")
    batch = dyn.merge(["", ""])
    assert (batch.ids.size, batch.lengths().tolist(), batch.reduction) == (0, [0, 0], 0.0)
    assert batch.token_bytes() == [[], []]


def test_arrays_merge_as_texts_do(dyn: DynamicTokenizer) -> None:
    base = dyn.base_batch(TEXTS)
    batch = dyn.merge_arrays(base.ids, base.offsets, base.groups, max_merges=9)
    assert batch.ids.tolist() == dyn.merge(TEXTS, max_merges=9).ids.tolist()
    assert batch.spans is None
    with pytest.raises(errors.InvalidValue, match="offsets"):
        dyn.merge_arrays(base.ids, base.offsets[:-1], base.groups)
    with pytest.raises(errors.InvalidValue, match=r"ids\[0\]: .* is no id"):
        dyn.merge_arrays([dyn.first_new_id], [0, 1], [0])


def test_superwords_cross_pretokens_after_the_transition_only(dyn: DynamicTokenizer) -> None:
    texts = ["return self", "return self", "tokenizers return self"]
    inside = len(dyn.merge(texts, max_merges=1).merges)
    assert inside == 1
    late = dyn.merge(texts, boundary="superword", transition=1, max_merges=1)
    assert late.ids.tolist() == dyn.merge(texts, max_merges=1).ids.tolist()
    soon = dyn.merge(texts, boundary="superword", transition=0, max_merges=1)
    assert b"return self" in soon.new_tokens
    assert [len(row) for row in dyn.merge(texts, boundary="superword", transition=0).rows] == [
        1
    ] * 3


def test_sentences_bound_merges_across_words(dyn: DynamicTokenizer) -> None:
    batch = dyn.merge(["one two. three four\nfive"], boundary="sentence")
    assert batch.token_bytes() == [[b"one two.", b" three four\n", b"five"]]


def test_special_and_added_tokens_stay_apart(tiny: bytes) -> None:
    dyn = DynamicTokenizer(tiny)
    specials = [a.content for a in dyn.tokenizer.vocabulary.added_tokens()]
    assert specials
    text = "hello" + specials[0] + "hello"
    for boundary, transition in [("pretoken", None), ("superword", 0)]:
        batch = dyn.merge([text], boundary=boundary, transition=transition)
        assert len(batch.ids) == 3
        assert batch.ids[1] == dyn.tokenizer.encode(specials[0])[0]
    as_text = dyn.merge([text], boundary="superword", transition=0, specials="text")
    assert len(as_text.ids) == 1


def test_ids_of_a_template_have_numbers_of_their_own_and_empty_spans() -> None:
    end = {"SpecialToken": {"id": "<|end|>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    template = {
        "type": "TemplateProcessing",
        "single": [end, text, end],
        "pair": [end, text, end],
        "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [260], "tokens": ["<|end|>"]}},
    }
    dyn = DynamicTokenizer(json.dumps(tiny_tokenizer(post_processor=template)).encode())
    _, pretokens = dyn.base("ab cd", add_special_tokens=True)
    assert pretokens.tolist() == [0, 1, 1, 2, 2, 2, 3]
    batch = dyn.merge(["ab cd"], add_special_tokens=True)
    assert batch.token_bytes() == [[None, b"ab", b" cd", None]]
    assert batch.spans is not None
    assert batch.words is not None
    assert batch.spans.tolist() == [[0, 0], [0, 2], [2, 5], [5, 5]]
    assert batch.words.tolist() == [-1, 0, 1, -1]


@pytest.mark.parametrize("name", ["llama2", "mistral01"])
def test_a_tokenizer_without_cuts_has_words_for_pretokens(name: str, fixtures: Path) -> None:
    dyn = DynamicTokenizer(fixtures / "tokenizers" / name)
    batch = dyn.merge(["unbelievable tokenizers\n\n\ttokenizers, tokenizers"])
    tokens = batch.token_bytes()[0]
    assert joined(tokens).strip() == b"unbelievable tokenizers\n\n\ttokenizers, tokenizers"
    assert tokens == [b" unbelievable", b" tokenizers", b"\n\n\t", b"tokenizers,", b" tokenizers"]


def test_equal_bytes_are_one_token_and_stay_ids(fixtures: Path) -> None:
    # `<0x41>` and `A` are one token in pairs; where it did not merge the id is what it was.
    dyn = DynamicTokenizer(fixtures / "tokenizers" / "llama2")
    vocabulary = dyn.tokenizer.vocabulary
    letter, byte = vocabulary.ids_of(b"A").tolist()
    x = int(vocabulary.ids_of(b"\x00")[0])
    ids = [letter, x, byte, x, byte]
    batch = dyn.merge_arrays(ids, [0, 2, 4, 5], [0] * 5)
    assert [m.count for m in batch.merges] == [2]
    assert batch.ids.tolist() == [dyn.first_new_id, dyn.first_new_id, byte]


def test_a_batch_can_be_merged_again(dyn: DynamicTokenizer) -> None:
    base = dyn.base_batch(TEXTS)
    first = dyn.merge_base(base)
    assert dyn.merge_base(base).ids.tolist() == first.ids.tolist()
    assert isinstance(base, BaseBatch)
    assert len(base) == len(first) == len(TEXTS)


@pytest.mark.parametrize("boundary", ["pretoken", "sentence", "superword"])
def test_base_tokens_are_the_same_for_any_number_of_threads(
    dyn: DynamicTokenizer, boundary: av.dynamic.tokenizer.Boundary
) -> None:
    # Runs of texts are 16 KiB or more, so that these are several.
    texts = [text * (1 + 97 * number % 150) for number, text in enumerate(TEXTS * 8)]
    plain = dyn.base_batch(texts, boundary=boundary, add_special_tokens=True, threads=1)
    assert len(plain) == len(texts)
    for threads in (2, 7, None):
        found = dyn.base_batch(texts, boundary=boundary, add_special_tokens=True, threads=threads)
        for name in ("ids", "offsets", "groups", "later", "spans", "words"):
            one, other = getattr(found, name), getattr(plain, name)
            assert (one is None) == (other is None)
            assert other is None or (one.dtype == other.dtype and np.array_equal(one, other))


def test_numbers_beyond_all_batches_are_no_limit(dyn: DynamicTokenizer) -> None:
    plain = dyn.merge(TEXTS)
    vast = dyn.merge(TEXTS, max_merges=1 << 70, max_token_bytes=1 << 70)
    assert vast.ids.tolist() == plain.ids.tolist()
    late = dyn.merge(TEXTS, boundary="superword", transition=1 << 70, target_length=1 << 70)
    assert len(late.merges) == 0


def test_a_dynamic_tokenizer_can_be_pickled(dyn: DynamicTokenizer) -> None:
    again = pickle.loads(pickle.dumps(dyn))
    assert again.merge(TEXTS).ids.tolist() == dyn.merge(TEXTS).ids.tolist()


def test_threads_have_to_be_positive(dyn: DynamicTokenizer) -> None:
    with pytest.raises(errors.InvalidValue, match="threads: must be at least 1, got 0"):
        dyn.merge(["x"], threads=0)


def test_a_tiny_batch_by_hand() -> None:
    # Bytes alone: "ab" three times, then "c ab" is no pretoken of its own.
    dyn = DynamicTokenizer(json.dumps(tiny_tokenizer()).encode())
    batch = dyn.merge([b"zq zq zq"], max_merges=1)
    (merge,) = batch.merges
    assert (merge.count, merge.replaced) == (3, 3)
    assert batch.new_tokens[0] == b"zq"
    assert batch.new_tokens[:] == [b"zq"]
    assert repr(batch) == (
        "DynamicBatch(1 texts, 8 -> 5 tokens, 1 new, 1 merges, stopped='max_merges')"
    )
