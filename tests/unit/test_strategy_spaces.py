"""Auxiliary spaces and exact search over them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import anyvocab as av
from anyvocab import errors
from anyvocab.transplant.identity import token_table
from anyvocab.transplant.spaces import CachedEncoder, load_encoder
from anyvocab.transplant.spaces.corpus import CorpusOptions, CorpusSpace, occurrences
from anyvocab.transplant.spaces.encoder import spell
from anyvocab.transplant.spaces.exact import cosines, nearest, paired_cosines, snap, sparsemax
from anyvocab.transplant.spaces.factor import Sparse, factor
from anyvocab.transplant.spaces.spelling import byte_sequences, spelling_vectors

pytestmark = pytest.mark.models
PRECISIONS = ("float32", "float64")


def random_vectors(
    seed: int, rows: int, width: int, precision: str = "float32"
) -> NDArray[np.floating]:
    rng = np.random.default_rng(seed)
    return snap(rng.standard_normal((rows, width)), precision=precision)  # type: ignore[arg-type]


def sparsemax_by_sorting(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Martins and Astudillo, algorithm 1, a row at a time."""
    falling = sorted(values.tolist(), reverse=True)
    total, threshold = 0.0, 0.0
    for k, value in enumerate(falling, 1):
        total += value
        if 1 + k * value > total:
            threshold = (total - 1) / k
    return np.maximum(values - threshold, 0.0)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_are_the_same_in_any_order_of_summation(precision: str) -> None:
    vectors = random_vectors(0, 50, 768, precision)
    order = np.random.default_rng(1).permutation(768)
    assert np.array_equal(
        cosines(vectors, vectors), cosines(vectors[:, order], np.asfortranarray(vectors[:, order]))
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_are_those_of_whole_numbers(precision: str) -> None:
    vectors = random_vectors(0, 20, 768, precision)
    whole = vectors.astype(object)
    whole = np.array([[int(one) for one in row] for row in whole], dtype=object)
    exact = whole @ whole.T
    assert np.array_equal((vectors @ vectors.T).astype(object), exact)


def test_cosines_are_within_what_a_step_can_change() -> None:
    rng = np.random.default_rng(2)
    plain = rng.standard_normal((200, 64))
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    # Each vector moves by at most sqrt(E) / 2 steps.
    for precision, step in zip(PRECISIONS, (1 / 4000, 2.0**-26), strict=True):
        snapped = snap(plain, precision=precision)  # type: ignore[arg-type]
        bound = 2 * 8 / 2 * step + (8 / 2 * step) ** 2
        assert np.abs(cosines(snapped, snapped) - plain @ plain.T).max() <= bound
        paired = paired_cosines(snapped[:100], snapped[100:])
        assert np.array_equal(paired, np.diag(cosines(snapped[:100], snapped[100:])))


def test_rows_of_zeros_stay_zero_and_tiny_rows_do_not_vanish() -> None:
    snapped = snap(np.array([[0.0, 0.0], [1e-200, 0.0], [3e300, 4e300]]), precision="float64")
    assert snapped[0].tolist() == [0, 0]
    assert snapped[1].tolist() == [2**26, 0]
    assert snapped[2].tolist() == [round(0.6 * 2**26), round(0.8 * 2**26)]


def test_a_vector_that_is_not_finite_is_refused_by_row() -> None:
    with pytest.raises(errors.InvalidValue, match="row 1 is not finite"):
        snap(np.array([[1.0, 0.0], [np.nan, 0.0]]))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.integers(1, 300),
    st.integers(1, 9),
    st.integers(1, 5000),
)
def test_neighbours_are_those_of_a_full_sort_for_any_block(
    seed: int, rows: int, keys: int, count: int, block: int
) -> None:
    rng = np.random.default_rng(seed)
    # Few directions, so that there are many ties.
    held = snap(rng.integers(-1, 2, size=(keys, 3)).astype(np.float64))
    asked = snap(rng.integers(-1, 2, size=(rows, 3)).astype(np.float64))
    found, close = nearest(asked, held, count, block_numbers=block)
    everything = cosines(asked, held)
    order = np.argsort(-everything, axis=1, kind="stable")[:, :count]
    assert np.array_equal(found, order)
    assert np.array_equal(close, np.take_along_axis(everything, order, axis=1))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 300),
    st.floats(0.01, 3.0),
    st.integers(1, 5000),
    st.booleans(),
)
def test_sparsemax_is_that_of_the_sorting_definition(
    seed: int, keys: int, temperature: float, block: int, ties: bool
) -> None:
    rng = np.random.default_rng(seed)
    draw = rng.integers(-1, 2, size=(keys + 5, 4)) if ties else rng.standard_normal((keys + 5, 4))
    vectors = snap(draw.astype(np.float64))
    asked, held = vectors[:5], vectors[5:]
    indptr, columns, weights = sparsemax(asked, held, temperature=temperature, block_numbers=block)
    dense = np.zeros((5, keys))
    rows = np.repeat(np.arange(5), np.diff(indptr))
    dense[rows, columns] = weights
    wanted = np.array([sparsemax_by_sorting(one / temperature) for one in cosines(asked, held)])
    # Sums of up to `keys` float64 numbers of at most 1 / temperature, weights kept as float32.
    tolerance = 4 * keys / temperature * np.finfo(np.float64).eps + np.finfo(np.float32).eps
    assert np.abs(dense - wanted).max() <= tolerance
    whole = sparsemax(asked, held, temperature=temperature)
    assert all(map(np.array_equal, (indptr, columns, weights), whole))


def test_a_low_temperature_takes_the_nearest_key_alone() -> None:
    keys = random_vectors(3, 100, 8)
    _, columns, weights = sparsemax(keys, keys, temperature=1e-6)
    assert columns.tolist() == list(range(100))
    assert weights.tolist() == [1.0] * 100


def test_factors_of_a_matrix_of_low_rank_give_it_back() -> None:
    rng = np.random.default_rng(0)
    dense = (rng.standard_normal((40, 5)) @ rng.standard_normal((5, 30))).astype(np.float32)
    rows, columns = np.nonzero(dense)
    matrix = Sparse(rows, columns, dense[rows, columns], (40, 30))
    scaled = factor(matrix, 8, power=1.0, seed=0)  # U s
    # U s (U s)^T = A A^T; float32 products of 30 terms, in units of the largest entry.
    gram = dense @ dense.T
    assert np.abs(scaled @ scaled.T - gram).max() <= 100 * np.finfo(np.float32).eps * gram.max()
    assert not scaled[:, 5:].any()
    assert np.array_equal(scaled, factor(matrix, 8, power=1.0, seed=0))


def test_byte_sequences_that_one_token_alone_has_are_left_out() -> None:
    # ab: ^a ab b$ ... ; of all sequences `ab` and `b` share only b, b$.
    found = byte_sequences([b"ab", None, b"b", b""])
    assert found.shape == (4, 2)
    assert found.rows.tolist() == [0, 0, 2, 2]
    assert np.allclose(found.values, np.log(5 / 2))


def test_a_sequence_that_comes_twice_in_a_token_counts_by_its_logarithm() -> None:
    found = byte_sequences([b"aa", b"a"], longest=1)
    assert found.columns.tolist() == [0, 0]
    assert np.allclose(found.values, [np.log(3 / 2) * (1 + np.log(2)), np.log(3 / 2)])


def test_spelling_puts_tokens_with_the_same_beginning_close() -> None:
    tokens = [b" return", b" returns", b" import", b"\xe4\xb8", b"\xe4\xb8\xad", None]
    close = cosines(*(snap(spelling_vectors(tokens, 4)),) * 2)
    assert close[0, 1] > close[0, 2]
    assert close[3, 4] > max(close[3, 0], close[3, 2])
    assert not close[5].any()


TEXTS = [b"def f(x):\n    return x + 1\n" * 3, b"for x in xs:\n    print(x)\n" * 3, b""]


@pytest.fixture(scope="module")
def pair() -> tuple[av.Tokenizer, av.Tokenizer]:
    return av.Tokenizer.load("pico:code-4k"), av.Tokenizer.load("pico:code-2k")


def space_of(pair: tuple[av.Tokenizer, av.Tokenizer], texts: Sequence[bytes]) -> CorpusSpace:
    source, target = pair
    tables = token_table(source.vocabulary), token_table(target.vocabulary)
    return CorpusSpace.of(source, target, tables, texts, options=CorpusOptions(width=16))


def test_occurrences_spell_the_text(pair: tuple[av.Tokenizer, av.Tokenizer]) -> None:
    found = occurrences(pair[0], TEXTS)
    token = pair[0].vocabulary.token_bytes
    assert b"".join(token(int(id)) or b"" for id in found.ids) == b"".join(TEXTS)
    assert np.array_equal(
        found.ends - found.starts, [len(token(int(id)) or b"") for id in found.ids]
    )


def test_a_corpus_space_is_the_same_every_time(pair: tuple[av.Tokenizer, av.Tokenizer]) -> None:
    first, second = space_of(pair, TEXTS), space_of(pair, TEXTS)
    ids = np.arange(len(pair[1].vocabulary))
    assert np.array_equal(first.target(ids, "input"), second.target(ids, "input"))
    assert not np.array_equal(first.target(ids, "input"), first.target(ids, "output"))


def test_a_token_that_both_cut_alike_has_one_place(
    pair: tuple[av.Tokenizer, av.Tokenizer],
) -> None:
    space = space_of(pair, TEXTS)
    source, target = (
        (int(one.vocabulary.ids_of(b"return")[0]) for one in pair)
        if len(pair[1].vocabulary.ids_of(b"return"))
        else (int(one.vocabulary.ids_of(b" return")[0]) for one in pair)
    )
    close = cosines(
        space.source(np.array([source]), "tied"), space.target(np.array([target]), "tied")
    )
    assert close[0, 0] > 0.99


def test_tokens_that_the_corpus_does_not_show_are_listed_and_have_a_place(
    pair: tuple[av.Tokenizer, av.Tokenizer],
) -> None:
    space = space_of(pair, TEXTS)
    for tokenizer, side in zip(pair, ("source", "target"), strict=True):
        unseen = space.unseen(side)  # type: ignore[arg-type]
        shown = np.unique(
            np.concatenate([tokenizer.encode(text, specials="text") for text in TEXTS])
        )
        assert not np.intersect1d(unseen, shown).size
        assert len(unseen) + len(shown) == sum(map(bool, token_table(tokenizer.vocabulary)))
    everything = space.target(space.unseen("target"), "output")
    assert everything.any(axis=1).mean() > 0.95  # single bytes that no token contains have none


def test_the_order_of_batches_is_a_matter_of_rounding_only(
    pair: tuple[av.Tokenizer, av.Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = space_of(pair, TEXTS)
    monkeypatch.setattr("anyvocab.transplant.spaces.corpus.BATCH_BYTES", 100)
    parts = space_of(pair, TEXTS)
    assert np.array_equal(whole.counts, parts.counts)


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (b" caf\xc3\xa9", " café"),
        (b"\xe4\xb8", "<0xE4><0xB8>"),
        (b"a\xff", "a<0xFF>"),
        (b"<0xFF>", "<0x3C>0xFF>"),
    ],
)
def test_bytes_are_spelled_without_loss(token: bytes, text: str) -> None:
    assert spell(token) == text


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([b"<", b"0x", b"3C", b">", b"\xe4", b"E4", b"a", "é".encode()])))
def test_a_spelling_can_be_read_back(parts: list[bytes]) -> None:
    token, text, found, at = b"".join(parts), spell(b"".join(parts)), b"", 0
    while at < len(text):
        if text.startswith("<0x", at):
            found, at = found + bytes([int(text[at + 3 : at + 5], 16)]), at + 6
        else:
            found, at = found + text[at].encode(), at + 1
    assert found == token


class Counting:
    """An encoder that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def __call__(self, keys: Sequence[bytes]) -> NDArray[np.float32]:
        self.asked += keys
        return np.array([[len(key), key[0]] for key in keys], dtype=np.float32)


def test_an_encoder_is_asked_once_for_every_byte_string() -> None:
    inner = Counting()
    encoder = CachedEncoder(inner)
    assert encoder([b"ab", b"c", b"ab"]).tolist() == [[2, 97], [1, 99], [2, 97]]
    assert encoder([b"c", b"\xff"]).tolist() == [[1, 99], [1, 255]]
    assert sorted(inner.asked) == [b"ab", b"c", b"\xff"]


def test_vectors_are_kept_on_disk_for_the_encoder_that_made_them(tmp_path: Path) -> None:
    first, second, other = Counting(), Counting(), Counting()
    wanted = CachedEncoder(first, cache=tmp_path, digest="one")([b"ab", b"c"])
    assert np.array_equal(
        CachedEncoder(second, cache=tmp_path, digest="one")([b"ab", b"c"]), wanted
    )
    assert second.asked == []
    CachedEncoder(other, cache=tmp_path, digest="two")([b"ab", b"c"])
    assert other.asked == [b"ab", b"c"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".npy"}


def test_a_cache_on_disk_needs_a_digest(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidValue, match="digest"):
        CachedEncoder(Counting(), cache=tmp_path)


def test_an_encoder_that_gives_nan_is_refused_by_token() -> None:
    encoder = CachedEncoder(lambda keys: np.full((len(keys), 2), np.nan, dtype=np.float32))
    with pytest.raises(errors.InvalidValue, match="b'ab' is not finite"):
        encoder([b"ab"])


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with characters as its vocabulary."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *"abcdefxEC0123456789<>",
        *[f"##{c}" for c in "abcx0"],
    ]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": False})
    )
    return folder


def test_an_encoder_folder_gives_the_masked_mean_of_its_last_states(bert: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    keys = [b"ab", b"abc", b"x", b"\xe4", b"abc abc"]
    found = load_encoder(bert)(keys)
    tokenizer = AutoTokenizer.from_pretrained(bert)
    batch = tokenizer([spell(key) for key in keys], padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(bert).eval()(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None]
    wanted = ((states * mask).sum(dim=1) / mask.sum(dim=1)).numpy()
    # States are of order 1 and each goes through a few dozen float32 sums of up to 32 terms.
    assert np.abs(found - wanted).max() <= 1000 * np.finfo(np.float32).eps
    assert np.abs(found[0] - found[3]).max() > 1e-3


def test_a_sentence_transformers_folder_names_its_transformer(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "0_Transformer")
    kinds = ("Transformer", "Pooling")
    (tmp_path / "modules.json").write_text(
        json.dumps(
            [
                {"type": f"sentence_transformers.models.{k}", "path": f"{i}_{k}"}
                for i, k in enumerate(kinds)
            ]
        )
    )
    assert np.array_equal(load_encoder(tmp_path)([b"ab"]), load_encoder(bert)([b"ab"]))


def test_a_module_outside_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text('[{"type": "a.Transformer", "path": "../other"}]')
    with pytest.raises(errors.UnsupportedWeights, match="outside"):
        load_encoder(tmp_path)


def test_a_folder_without_a_model_is_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(errors.SourceNotFound, match=r"no config\.json"):
        load_encoder(tmp_path)


def test_pickled_weights_are_refused(bert: Path, tmp_path: Path) -> None:
    import torch

    for path in bert.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(errors.UnsupportedWeights, match="pickles"):
        load_encoder(tmp_path)
