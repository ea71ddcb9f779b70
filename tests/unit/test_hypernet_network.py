"""The residual network: the mean of the pieces at first, then what it learns."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from anyvocab import InvalidValue  # noqa: E402
from anyvocab.hypernet.network import NetworkConfig, ResidualHypernet  # noqa: E402
from anyvocab.hypernet.rows import SourceRows  # noqa: E402

WIDTH, SIZE = 12, 30
EPS32 = 2.0**-23


def source_rows(*, tied: bool, bias: bool = False, seed: int = 0) -> SourceRows:
    made = torch.Generator().manual_seed(seed)
    rows = [torch.randn(SIZE, WIDTH, generator=made) for _ in range(1 if tied else 2)]
    return SourceRows(rows[0], None if tied else rows[1], torch.randn(SIZE) if bias else None)


def network_of(source: SourceRows, **changes: object) -> ResidualHypernet:
    options: dict[str, object] = {"hidden": 16, "inner": 24, "heads": 2, "surroundings": "none"}
    config = NetworkConfig(
        width=WIDTH,
        tied=source.output is None,
        bias=source.bias is not None,
        **{**options, **changes},  # type: ignore[arg-type]
    )
    torch.manual_seed(0)
    network = ResidualHypernet(config)
    network.measure(source)
    return network


def pieces_of(*rows: list[int]) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [-1] * (longest - len(row)) for row in rows])


def trained(network: ResidualHypernet) -> ResidualHypernet:
    """Move every weight away from where it starts, so that nothing is zero by construction."""
    made = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=made)
    return network


@pytest.mark.parametrize("tied", [True, False])
def test_step_0_is_the_mean_of_the_pieces_for_any_number_of_pieces(tied: bool) -> None:
    source = source_rows(tied=tied)
    rows = [[3], [4, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [0, 0, 7]]
    found = network_of(source)(pieces_of(*rows), source)
    for made, matrix in zip(
        (found.input, found.head), (source.input, source.sides[-1]), strict=True
    ):
        wanted = torch.stack([matrix[row].mean(dim=0) for row in rows])
        # A mean of n numbers below 4, computed in two ways: n roundings of 4 each.
        assert (made - wanted).abs().max() <= 12 * 4 * EPS32
    assert (found.output is None) == tied


def test_a_tied_source_can_be_given_a_row_for_each_side() -> None:
    source = source_rows(tied=True)
    config = NetworkConfig(
        width=WIDTH, tied=False, hidden=16, inner=24, heads=2, surroundings="none"
    )
    network = ResidualHypernet(config)
    network.measure(source)
    found = network(pieces_of([3, 4]), source)
    assert found.output is not None
    assert torch.equal(found.input, found.output)  # before training


def test_a_trained_network_says_the_same_of_a_token_in_any_company() -> None:
    source = source_rows(tied=False)
    network = trained(network_of(source))
    rows = [[3], [4, 5], [9, 8, 7, 6], [1, 2]]
    together = network(pieces_of(*rows), source)
    for i, row in enumerate(rows):
        alone = network(pieces_of(row), source)
        # The same products in another order of summation; nothing here exceeds about 10.
        assert (alone.input[0] - together.input[i]).abs().max() <= 64 * 10 * EPS32
        assert (alone.head[0] - together.head[i]).abs().max() <= 64 * 10 * EPS32


def test_columns_behind_the_longest_token_change_nothing() -> None:
    source = source_rows(tied=True)
    network = trained(network_of(source))
    pieces = pieces_of([3], [4, 5])
    wide = torch.cat((pieces, torch.full((2, 3), -1)), dim=1)
    assert torch.equal(network(pieces, source).input, network(wide, source).input)


def test_the_order_of_pieces_matters_to_a_trained_network() -> None:
    source = source_rows(tied=True)
    network = trained(network_of(source))
    found = network(pieces_of([3, 4], [4, 3]), source).input
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_a_byte_the_source_lacks_has_a_row_of_the_network() -> None:
    source = source_rows(tied=True)
    network = network_of(source)
    found = network(pieces_of([SIZE + 7], [SIZE + 255], [2, SIZE + 7]), source).input
    assert torch.equal(found[0], network.bytes[7, 0])
    assert torch.equal(found[1], network.bytes[255, 0])
    wanted = (source.input[2] + network.bytes[7, 0]) / 2
    assert (found[2] - wanted).abs().max() <= 4 * 4 * EPS32
    found.sum().backward()
    assert network.bytes.grad is not None
    assert network.bytes.grad[7].abs().sum() > 0


def test_features_beyond_what_training_saw_are_moved_to_the_nearest_seen() -> None:
    source = source_rows(tied=True)
    network = trained(network_of(source, surroundings="vocabulary", features=2))
    network.bound_features(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0]))
    pieces = pieces_of([3, 4])
    far = network(pieces, source, features=torch.tensor([[-9.0, 99.0]])).input
    edge = network(pieces, source, features=torch.tensor([[0.0, 3.0]])).input
    inside = network(pieces, source, features=torch.tensor([[1.0, 2.0]])).input
    assert torch.equal(far, edge)
    assert not torch.equal(far, inside)


def test_a_language_changes_rows_once_trained() -> None:
    source = source_rows(tied=True)
    network = trained(network_of(source, languages=("de", "en")))
    pieces = pieces_of([3, 4], [3, 4])
    found = network(pieces, source, language=torch.tensor([0, 1])).input
    assert not torch.equal(found[0], found[1])


def test_the_head_bias_starts_at_the_mean_of_the_source() -> None:
    source = source_rows(tied=True, bias=True)
    found = network_of(source)(pieces_of([3], [4, 5]), source)
    assert found.bias is not None
    assert source.bias is not None
    assert torch.equal(found.bias, source.bias.mean().expand(2))


def test_gradients_reach_the_network_and_not_the_source() -> None:
    source = source_rows(tied=False)
    source.input.requires_grad_(requires_grad=False)
    network = trained(network_of(source))
    found = network(pieces_of([3], [4, 5], [SIZE + 3, 1]), source)
    (found.input.square().sum() + found.head.square().sum()).backward()
    missing = [name for name, one in network.named_parameters() if one.grad is None]
    assert missing == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hidden": 15}, "hidden"),
        ({"layers": -1}, "layers"),
        ({"surroundings": "none", "features": 3}, "features"),
        ({"surroundings": "maybe"}, "surroundings"),
        ({"width": 0}, "width"),
    ],
)
def test_a_shape_that_makes_no_sense_is_refused_by_field(
    changes: dict[str, object], field: str
) -> None:
    options: dict[str, object] = {
        "width": 8, "tied": True, "hidden": 16, "heads": 2, "surroundings": "none", **changes,
    }  # fmt: skip
    with pytest.raises(InvalidValue) as caught:
        NetworkConfig(**options)  # type: ignore[arg-type]
    assert field in str(caught.value)


def test_tokens_without_pieces_and_missing_features_are_refused() -> None:
    source = source_rows(tied=True)
    network = network_of(source)
    with pytest.raises(InvalidValue, match="a token has no piece"):
        network(pieces_of([3], [-1]), source)
    with pytest.raises(InvalidValue, match="no use for it"):
        network(pieces_of([3]), source, features=torch.zeros(1, 2))
    knows = network_of(source, surroundings="vocabulary", features=2)
    with pytest.raises(InvalidValue, match="needs it"):
        knows(pieces_of([3]), source)


def test_a_config_survives_json_and_names_unknown_fields() -> None:
    config = NetworkConfig(width=8, tied=True, surroundings="none", languages=("de", "en"))
    assert NetworkConfig.from_dict(config.to_dict()) == config
    with pytest.raises(InvalidValue, match="colour"):
        NetworkConfig.from_dict({**config.to_dict(), "colour": "red"})


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_for_merged_tokens_changes_no_prediction_before_it_is_trained(*, tied: bool) -> None:
    source = source_rows(tied=tied)
    network = trained(network_of(source))
    pieces = pieces_of([3], [4, 5], [1, 2, 3, 4])
    before, after = network(pieces, source), network.with_merged("own")
    for use in ("vocabulary", "merged"):
        found = after(pieces, source, use=use)
        assert torch.equal(found.input, before.input)
        assert torch.equal(found.head, before.head)


def test_a_head_for_merged_tokens_says_how_they_are_read_and_nothing_else() -> None:
    source = source_rows(tied=True)
    network = trained(network_of(source)).with_merged("own")
    pieces = pieces_of([3], [4, 5])
    before = network(pieces, source).input
    with torch.no_grad():
        network.merged.correct.bias += 1.0
    assert torch.equal(network(pieces, source).input, before)
    found = network(pieces, source, use="merged")
    # A row of about 1 with a spread of about 1 added to it: a rounding or two of each sum.
    assert (found.input - before - network.spread[0]).abs().max() <= 8 * EPS32
    shared = network.with_merged("shared")
    assert shared.merged is None
    assert torch.equal(shared(pieces, source, use="merged").input, before)
    assert torch.equal(found.head, before)  # it is written by the row that it has in a vocabulary


def test_a_shape_without_that_head_is_written_as_it_was_before_there_were_any() -> None:
    plain = NetworkConfig(width=8, tied=True, hidden=16, heads=2, surroundings="none")
    assert "merged" not in plain.to_dict()
    own = NetworkConfig.from_dict({**plain.to_dict(), "merged": "own"})
    assert NetworkConfig.from_dict(own.to_dict()) == own
    with pytest.raises(InvalidValue, match="merged"):
        NetworkConfig.from_dict({**plain.to_dict(), "merged": "none"})
