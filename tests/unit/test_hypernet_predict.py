"""Rows of a whole vocabulary, in chunks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")

import anyvocab as av  # noqa: E402
from anyvocab import errors  # noqa: E402
from anyvocab.hypernet.folder import Card  # noqa: E402
from anyvocab.hypernet.predict import Predictions, SourceModel, text_ids  # noqa: E402
from anyvocab.hypernet.rows import SourceRows  # noqa: E402
from anyvocab.testing import merged_tokenizer, tiny_tokenizer  # noqa: E402
from anyvocab.testing.hypernets import tiny_hypernet  # noqa: E402

# The source is the tiny tokenizer: bytes 0..255, 256 `he`, 257 `ll`, 258 `hell`, 259 ` hell`.
# Of the target's, `hell` and `he` are the source's, `hello` is hell|o and `lo` is l|o.
WIDTH = 8
TARGET = av.Tokenizer.load(
    json.dumps(
        merged_tokenizer([("h", "e"), ("l", "l"), ("l", "o"), ("he", "ll"), ("hell", "o")])
    ).encode()
)
HE, LL, LO, HELL, HELLO = range(256, 261)


def source(*, output: bool = False, bias: bool = False) -> SourceModel:
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randn(262, WIDTH, generator=generator) for _ in range(2)]
    level = torch.randn(262, generator=generator)
    rows = SourceRows(draw[0], draw[1] if output else None, level if bias else None)
    return SourceModel(av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode()), rows)


def mean(matrix: Any, pieces: Sequence[int]) -> Any:
    return matrix[list(pieces)].double().mean(dim=0)


def error(matrix: Any, pieces: int) -> float:
    """A mean of n float32 rows by two ways of adding: n roundings each, of sums of at most this."""
    return (2 * pieces + 4) * 2.0**-24 * float(matrix.abs().max())


@pytest.mark.parametrize("output", [False, True])
def test_before_training_a_row_is_the_mean_of_its_pieces(output: bool) -> None:
    model = source(output=output)
    found = tiny_hypernet(model).predict(TARGET, model)
    rows = found.rows()
    assert (rows.output is not None) == output
    place = {int(id): at for at, id in enumerate(found.ids)}
    for made, matrix in zip([rows.input, rows.output][: 1 + output], model.rows.sides, strict=True):
        for id, pieces in ((HE, [256]), (HELLO, [258, ord("o")]), (LO, [ord("l"), ord("o")])):
            apart = (made[place[id]].double() - mean(matrix, pieces)).abs().max()
            assert float(apart) <= error(matrix, len(pieces))


def test_every_text_token_has_one_row_and_control_tokens_have_none() -> None:
    model = source()
    found = tiny_hypernet(model).predict(TARGET, model)
    assert found.ids.tolist() == list(range(261))
    assert text_ids(TARGET).tolist() == list(range(261))
    places = np.concatenate([one for one, _ in found])
    assert sorted(places.tolist()) == list(range(261))


@pytest.mark.parametrize("size", [1, 40_000, 1 << 30])
def test_chunks_do_not_change_rows(size: int) -> None:
    model = source(output=True, bias=True)
    hypernet = tiny_hypernet(model, weights="drawn")
    whole = hypernet.predict(TARGET, model).rows()
    found = hypernet.predict(TARGET, model, chunk_bytes=size).rows()
    # Sums over at most 32 inner numbers, in another order, through some six layers.
    bound = 6 * 32 * 2.0**-24 * float(whole.input.abs().max())
    for first, second in zip(vars(whole).values(), vars(found).values(), strict=True):
        assert float((first - second).abs().max()) <= bound


def test_a_chunk_is_as_small_as_was_asked() -> None:
    model = source()
    found = tiny_hypernet(model).predict(TARGET, model, chunk_bytes=1)
    assert [len(places) for places, _ in found] == [1] * 261
    lengths = [len(found._pieces[int(places[0])]) for places, _ in found]
    assert lengths == sorted(lengths)  # tokens with as many pieces go together


def test_the_vocabulary_around_a_token_is_all_of_it() -> None:
    model = source()
    hypernet = tiny_hypernet(model, weights="drawn")
    everything = [TARGET.vocabulary.token_bytes(id) or b"" for id in range(261)]
    alone = Predictions(
        hypernet.network, hypernet.card, model, [b"hello"], vocabulary=everything
    ).rows()
    among = hypernet.predict(TARGET, model).rows()
    assert torch.allclose(alone.input[0], among.input[HELLO], rtol=0, atol=1e-5)
    lonely = Predictions(hypernet.network, hypernet.card, model, [b"hello"]).rows()
    assert float((lonely.input[0] - alone.input[0]).abs().max()) > 1e-3


def test_hidden_tokens_are_cut_apart() -> None:
    model = source()
    hypernet = tiny_hypernet(model)
    found = Predictions(
        hypernet.network,
        hypernet.card,
        model,
        [b"hell", b"hell"],
        apart=np.array([False, True]),
    ).rows()
    assert torch.equal(found.input[0], model.rows.input[258])
    apart = (found.input[1].double() - mean(model.rows.input, [256, 257])).abs().max()
    assert float(apart) <= error(model.rows.input, 2)


def test_a_token_of_many_pieces_is_whole() -> None:
    model = source()
    hypernet = tiny_hypernet(model)
    token = bytes(range(200))
    found = Predictions(hypernet.network, hypernet.card, model, [token]).rows()
    apart = (found.input[0].double() - mean(model.rows.input, list(token))).abs().max()
    assert float(apart) <= error(model.rows.input, len(token))


def test_bytes_without_a_token_have_rows_of_the_networks_own() -> None:
    model = source()
    few = SourceModel(model.tokenizer, SourceRows(model.rows.input[:100]))
    hypernet = tiny_hypernet(few)
    found = Predictions(hypernet.network, hypernet.card, few, [b"z"]).rows()
    assert torch.equal(found.input[0], hypernet.network.bytes[ord("z"), 0])


def test_the_bias_is_predicted_where_the_head_has_one() -> None:
    model = source(bias=True)
    assert tiny_hypernet(source()).predict(TARGET, source()).rows().bias is None
    bias = tiny_hypernet(model).predict(TARGET, model).rows().bias
    assert bias is not None
    assert torch.allclose(bias, model.rows.bias.mean(), rtol=0, atol=262 * 2.0**-24)  # type: ignore[union-attr]


def test_a_language_is_asked_for_where_there_are_some() -> None:
    model = source()
    hypernet = tiny_hypernet(model, languages=("en", "de"), weights="drawn")
    with pytest.raises(errors.InvalidValue, match="it knows en, de"):
        hypernet.predict(TARGET, model)
    with pytest.raises(errors.InvalidValue, match="does not know 'fr'"):
        hypernet.predict(TARGET, model, language="fr")
    first = hypernet.predict(TARGET, model, language="en").rows().input
    second = hypernet.predict(TARGET, model, language="de").rows().input
    assert not torch.equal(first, second)
    with pytest.raises(errors.InvalidValue, match="no languages"):
        tiny_hypernet(model).predict(TARGET, model, language="en")


def test_another_model_is_refused() -> None:
    model = source()
    hypernet = tiny_hypernet(model)
    with pytest.raises(errors.InvalidValue, match="another vocabulary"):
        hypernet.predict(TARGET, SourceModel(TARGET, model.rows))
    wide = SourceModel(model.tokenizer, SourceRows(torch.zeros(262, 9)))
    with pytest.raises(errors.InvalidValue, match="rows of 9 and"):
        hypernet.predict(TARGET, wide)
    long = SourceModel(model.tokenizer, SourceRows(torch.zeros(300, WIDTH)))
    with pytest.raises(errors.InvalidValue, match="made for 262 rows, and the model has 300"):
        hypernet.predict(TARGET, long)
    with pytest.raises(errors.InvalidValue, match="a matrix for each side"):
        hypernet.predict(TARGET, source(output=True))
    with pytest.raises(errors.InvalidValue, match="does not say which model"):
        hypernet.predict(TARGET)


def test_rows_that_are_not_finite_are_named() -> None:
    model = source()
    model.rows.input[ord("o")] = torch.inf
    with pytest.raises(errors.NumericsError, match=f"id {ord('o')} "):
        tiny_hypernet(source()).predict(TARGET, model).rows()


def test_half_precision_stays_near() -> None:
    model = source()
    hypernet = tiny_hypernet(model, weights="drawn")
    exact = hypernet.predict(TARGET, model).rows().input
    near = hypernet.predict(TARGET, model, dtype="bfloat16").rows().input
    assert near.dtype == torch.float32
    # 8 bits of every product, in some six layers, against corrections of at most this size.
    size = float((exact - tiny_hypernet(model).predict(TARGET, model).rows().input).abs().max())
    assert float((near - exact).abs().max()) <= 6 * 2.0**-8 * max(size, 1.0)
    with pytest.raises(errors.InvalidValue, match="dtype"):
        hypernet.predict(TARGET, model, dtype="float16")  # type: ignore[arg-type]


def test_the_released_graph_goes_through_the_same_door() -> None:
    from anyvocab.hypernet.zett import ZettConfig, ZettHypernet

    model = source()
    config = ZettConfig(
        width=WIDTH, tied=True, source_rows=262, pad_id=260, hidden=64, inner=128, layers=1
    )
    torch.manual_seed(0)
    network = ZettHypernet(config).eval()
    card = Card("zett", config.to_dict(), "tiny", None, 262)
    found = av.Hypernet(network, card).predict(TARGET, model)
    rows = found.rows()
    assert rows.input.shape == (261, WIDTH)
    wanted = network(torch.tensor([[258, ord("o"), -1]]), model.rows).input[0]
    assert torch.allclose(rows.input[HELLO], wanted, rtol=0, atol=1e-5)
    hidden = Predictions(network, card, model, [b"hell"], apart=np.array([True])).rows()
    apart = network(torch.tensor([[256, 257]]), model.rows).input[0]
    assert torch.allclose(hidden.input[0], apart, rtol=0, atol=1e-5)


def test_a_fine_tuned_copy_is_read_with_its_own_rows() -> None:
    model = source()
    other = replace(model, rows=SourceRows(model.rows.input + 1.0))
    hypernet = tiny_hypernet(model)
    apart = (
        hypernet.predict(TARGET, other).rows().input - hypernet.predict(TARGET, model).rows().input
    )
    assert torch.allclose(apart, torch.ones(()), rtol=0, atol=2 * error(other.rows.input, 2))
