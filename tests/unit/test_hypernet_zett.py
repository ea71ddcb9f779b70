"""The network of the released ZeTT checkpoints against its definition, written out in NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing")

from anyvocab import errors  # noqa: E402
from anyvocab.hypernet.rows import SourceRows  # noqa: E402
from anyvocab.hypernet.zett import CALIBRATION, ZettConfig, ZettHypernet  # noqa: E402

ROWS, WIDTH = 30, 12

# What the releases differ in; the sizes are small, the switches are theirs.
XLMR = ZettConfig(
    width=WIDTH,
    tied=True,
    source_rows=ROWS,
    pad_id=1,
    hidden=128,
    inner=64,
    extra_rows=5,
    languages=("en", "ru", "de"),
)
MISTRAL = replace(XLMR, tied=False, pad_id=2, heads=4, languages=())
RELEASES = {
    "xlm-r": XLMR,
    "mistral": MISTRAL,
    "multilingual mistral": replace(MISTRAL, languages=("en", "ru")),
    "tinyllama": replace(MISTRAL, heads=8, extra_rows=3),
    "multilingual tinyllama": replace(MISTRAL, heads=8, max_pieces=15, languages=("en", "ru")),
    "llama-3": replace(MISTRAL, extra_rows=0, pad_id=ROWS - 1),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums depend on the number of threads; the tests' sizes deserve one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


def network_of(config: ZettConfig, dtype: torch.dtype = torch.float64) -> ZettHypernet:
    """Return a network whose every number is random, LN weights and scales too."""
    network = ZettHypernet(config).to(dtype)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, one in network.state_dict().items():
            spread = 1.0 if one.dim() < 2 or one.shape[0] == 1 else one.shape[1] ** -0.5
            noise = torch.randn(one.shape, generator=generator, dtype=torch.float64)
            centre = 1.0 if name.endswith((".ln.weight", "LayerNorm.weight", ".w")) else 0.0
            one.copy_(centre + 0.5 * spread * noise)
    return network.eval()


def source_of(config: ZettConfig, dtype: torch.dtype = torch.float64) -> SourceRows:
    generator = torch.Generator().manual_seed(8)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    output = None if config.tied else draw(ROWS, WIDTH)
    return SourceRows(draw(ROWS, WIDTH), output, draw(ROWS) if config.bias else None)


def pieces_of(config: ZettConfig) -> torch.Tensor:
    """Return tokens of every length, the last with the first and last rows, and the pad's."""
    generator = torch.Generator().manual_seed(9)
    stop = config.source_rows + config.extra_rows
    pieces = torch.randint(0, stop, (12, config.max_pieces), generator=generator)
    for row in range(len(pieces)):
        pieces[row, 1 + row % config.max_pieces :] = -1
    pieces[2, :3] = torch.tensor([0, ROWS - 1, stop - 1])
    pieces[3, :4] = torch.tensor([ROWS if config.extra_rows else 5, config.pad_id, 4, 3])
    pieces[4] = -1
    pieces[4, 0] = config.pad_id  # nothing of it is seen
    return pieces


# ---- the definition, naively: one token, one head, one position at a time, in float64 ----


def gelu(x: np.ndarray) -> np.ndarray:
    return np.array([v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x.ravel()]).reshape(x.shape)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Naive:
    def __init__(self, network: ZettHypernet) -> None:
        self.config = network.config
        self.numbers = {name: one.double().numpy() for name, one in network.state_dict().items()}

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return self.numbers[f"{name}.weight"] @ x + self.numbers[f"{name}.bias"]

    def norm(self, name: str, x: np.ndarray, eps: float) -> np.ndarray:
        mean = x.sum() / len(x)
        variance = ((x - mean) ** 2).sum() / len(x)
        scaled = (x - mean) / math.sqrt(variance + eps)
        return scaled * self.numbers[f"{name}.weight"] + self.numbers[f"{name}.bias"]

    def projector(self, name: str, x: np.ndarray) -> np.ndarray:
        inner = gelu_tanh(self.linear(f"{name}.dense1", x))
        return self.norm(f"{name}.ln", gelu_tanh(self.linear(f"{name}.dense2", inner)) + x, 1e-6)

    def scaled(self, name: str, x: np.ndarray) -> np.ndarray:
        return self.numbers[f"{name}.w"][0] * x + self.numbers[f"{name}.b"][0]

    def attention(self, name: str, states: list[np.ndarray], seen: list[bool], at: int):
        size = self.config.hidden // self.config.heads
        query = self.linear(f"{name}.query", states[at])
        keys = [self.linear(f"{name}.key", one) for one in states]
        values = [self.linear(f"{name}.value", one) for one in states]
        shown = seen if any(seen) else [True] * len(seen)  # the least number is everybody's then
        parts = []
        for head in range(self.config.heads):
            span = slice(head * size, (head + 1) * size)
            scores = [query[span] @ key[span] / math.sqrt(size) for key in keys]
            if not any(seen):
                scores = [0.0] * len(scores)  # swallowed by the least number
            weights = [
                math.exp(s - max(scores)) if one else 0.0
                for s, one in zip(scores, shown, strict=True)
            ]
            total = sum(weights)
            parts.append(sum(w / total * v[span] for w, v in zip(weights, values, strict=True)))
        return np.concatenate(parts)

    def token(self, pieces: list[int], source: SourceRows, language: int | None):
        config, states, seen = self.config, [], []
        sides = [side.double().numpy() for side in source.sides]
        for position, piece in enumerate(pieces):
            id = config.pad_id if piece < 0 else piece
            if id < config.source_rows:
                x = self.scaled("in_scaler", np.concatenate([side[id] for side in sides]))
            else:
                x = self.numbers["fallback_embeddings.weight"][id - config.source_rows]
            z = self.projector("input_projection.1", self.linear("input_projection.0", x))
            z = z + self.numbers["model.embeddings.token_type_embeddings.weight"][0]
            z = z + self.numbers["model.embeddings.position_embeddings.weight"][position]
            states.append(z)
            seen.append(id != config.pad_id)
        if language is not None:
            states.append(self.numbers["lang_embeddings.weight"][language])
            seen.append(True)
        states = [self.norm("model.embeddings.LayerNorm", one, 1e-5) for one in states]
        for layer in range(config.layers):
            name = f"model.encoder.layer.{layer}"
            after = []
            for at, x in enumerate(states):
                mixed = self.attention(f"{name}.attention.self", states, seen, at)
                mixed = self.linear(f"{name}.attention.output.dense", mixed)
                x = self.norm(f"{name}.attention.output.LayerNorm", x + mixed, 1e-5)
                inner = gelu(self.linear(f"{name}.intermediate.dense", x))
                inner = self.linear(f"{name}.output.dense", inner)
                after.append(self.norm(f"{name}.output.LayerNorm", x + inner, 1e-5))
            states = after
        rows = [self.head("output_projection", "scaler", states[0])]
        if not config.tied:
            rows.append(self.head("output_projection_out", "out_scaler", states[0]))
        return rows, self.linear("bias_projection", states[0])[0]

    def head(self, name: str, scaler: str, state: np.ndarray) -> np.ndarray:
        return self.scaled(scaler, self.linear(f"{name}.1", self.projector(f"{name}.0", state)))


def bound(dtype: torch.dtype, largest: float) -> float:
    """A state goes through 2 + 4 * 3 + 3 sums of at most 128 terms, each off by a rounding a term.

    Roundings go both ways: n of them amount to sqrt(n). The norms behind may double what is there.
    """
    return 17 * 128**0.5 * 2 * torch.finfo(dtype).eps * largest


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", RELEASES)
def test_rows_are_what_the_definition_gives(name: str, dtype: torch.dtype) -> None:
    config = RELEASES[name]
    network, source, pieces = network_of(config, dtype), source_of(config, dtype), pieces_of(config)
    languages = torch.arange(len(pieces)) % len(config.languages) if config.languages else None
    rows = network(pieces, source, language=languages)
    naive = Naive(network)
    made = [rows.input] if rows.output is None else [rows.input, rows.output]
    assert len(made) == config.sides
    for at, token in enumerate(pieces.tolist()):
        language = None if languages is None else int(languages[at])
        wanted, bias = naive.token(token, source, language)
        for side, row in zip(made, wanted, strict=True):
            assert np.abs(side[at].double().numpy() - row).max() <= bound(dtype, np.abs(row).max())
        assert abs(float(rows.bias[at]) - bias) <= bound(dtype, max(1.0, abs(bias)))


def test_one_language_for_all_is_that_language_for_each() -> None:
    network, source, pieces = network_of(XLMR), source_of(XLMR), pieces_of(XLMR)
    one = network(pieces, source, language=network.language_id("de"))
    each = network(pieces, source, language=torch.full((len(pieces),), 2))
    assert torch.equal(one.input, each.input)


@pytest.mark.parametrize("size", [1, 5])
def test_calls_in_chunks_give_the_rows_of_one_call(size: int) -> None:
    network, source, pieces = network_of(MISTRAL), source_of(MISTRAL), pieces_of(MISTRAL)
    whole = network(pieces, source).input
    parts = torch.cat([network(part, source).input for part in pieces.split(size)])
    # Products of other shapes are summed in another order.
    assert float((parts - whole).abs().max()) <= bound(torch.float64, float(whole.abs().max()))


def test_columns_behind_the_longest_token_change_nothing() -> None:
    network, source = network_of(MISTRAL), source_of(MISTRAL)
    pieces = torch.tensor([[3, 4, -1, -1], [5, -1, -1, -1]])
    long, short = network(pieces, source).input, network(pieces[:, :2], source).input
    assert float((long - short).abs().max()) <= bound(torch.float64, float(long.abs().max()))


def test_a_source_of_another_type_is_read_in_the_networks() -> None:
    network, source = network_of(MISTRAL, torch.float32), source_of(MISTRAL, torch.bfloat16)
    pieces = pieces_of(MISTRAL)
    rows, wanted = network(pieces, source), network(pieces, source.to(torch.float32))
    assert torch.equal(rows.head, wanted.head)


def test_a_network_of_16_bits_gives_rows_of_32() -> None:
    network, source = network_of(XLMR, torch.bfloat16), source_of(XLMR, torch.bfloat16)
    rows = network(pieces_of(XLMR), source, language=torch.tensor(0))
    assert rows.input.dtype == torch.float32
    assert bool(torch.isfinite(rows.input).all())


def test_the_bias_of_a_model_without_one_is_not_there() -> None:
    source = source_of(MISTRAL)
    rows = network_of(MISTRAL)(pieces_of(MISTRAL), SourceRows(source.input, source.output))
    assert rows.bias is None


def test_measuring_gives_predictions_the_mean_and_spread_of_the_source() -> None:
    config = replace(MISTRAL, pad_id=ROWS - 1)
    network, source = network_of(config), source_of(config)
    network.measure(source)
    ids = torch.arange(ROWS)[:CALIBRATION, None]
    rows = network(ids, source)
    sides = ((rows.input, network.scaler), (rows.output, network.out_scaler))
    for (made, scaler), wanted in zip(sides, source.sides, strict=True):
        off = (made.mean(dim=0) - wanted.mean(dim=0)).abs().max()
        # What is scaled is about 1e-3 wide, and its roundings are scaled with it.
        amount = bound(torch.float64, float(scaler.w.abs().max()))
        assert float(off) <= amount
        # The published formula divides by the standard deviation plus 1e-8.
        spread = made.std(dim=0, correction=0) + 1e-8 * scaler.w
        assert float((spread - wanted.std(dim=0, correction=0)).abs().max()) <= amount


def test_measuring_brings_input_rows_to_the_spread_of_roberta() -> None:
    network, source = network_of(MISTRAL), source_of(MISTRAL)
    network.measure(source)
    x = network.in_scaler(torch.cat(source.sides, dim=1))
    # Near 1, they lose 1e-8 of it; their means are sums of 30 numbers under 0.1.
    assert float((x.std(dim=0, correction=0) / 0.02 - 1).abs().max()) < 1e-6
    assert float(x.mean(dim=0).abs().max()) < ROWS * 0.1 * torch.finfo(torch.float64).eps


def test_scales_are_not_trained() -> None:
    names = [name for name, _ in ZettHypernet(MISTRAL).named_parameters()]
    assert not [name for name in names if "scaler" in name]


@pytest.mark.parametrize(
    ("config", "size", "unit"),
    [
        # What the hub says of the released model.safetensors.
        (
            ZettConfig(
                width=768,
                tied=True,
                source_rows=250_002,
                pad_id=1,
                hidden=768,
                inner=1536,
                extra_rows=161,
                languages=tuple(map(str, range(26))),
            ),
            82.5,
            1e6,
        ),
        (
            ZettConfig(
                width=2048,
                tied=False,
                source_rows=32_000,
                pad_id=2,
                hidden=2048,
                inner=4096,
                extra_rows=362,
            ),
            682,
            1e6,
        ),
        (
            ZettConfig(
                width=4096,
                tied=False,
                source_rows=32_000,
                pad_id=2,
                hidden=4096,
                inner=8192,
                heads=32,
                extra_rows=522,
            ),
            2.71,
            1e9,
        ),
        (
            ZettConfig(
                width=4096,
                tied=False,
                source_rows=128_256,
                pad_id=128_001,
                hidden=4096,
                inner=8192,
                heads=32,
            ),
            4.79,
            1e9,
        ),
    ],
    ids=["xlm-r", "tinyllama", "mistral", "llama-3"],
)
def test_a_network_is_as_large_as_the_released_file(
    config: ZettConfig, size: float, unit: float
) -> None:
    with torch.device("meta"):
        network = ZettHypernet(config)
    numbers = sum(one.numel() for one in network.state_dict().values())
    numbers += (config.pad_id + 1) * config.hidden  # RoBERTa's own tokens, which nothing reads
    digits = 2 if unit == 1e9 else 1 if size < 100 else 0
    assert round(4 * numbers / unit, digits) == size


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"language": torch.tensor(0)}, "language"),
        ({"features": torch.zeros(1, 5)}, "features"),
        ({"pieces": torch.tensor([[ROWS + MISTRAL.extra_rows]])}, "pieces"),
        ({"pieces": torch.zeros(1, 515, dtype=torch.int64)}, "pieces"),
        ({"source": SourceRows(torch.zeros(ROWS, WIDTH))}, "source"),
        ({"source": SourceRows(torch.zeros(9, WIDTH), torch.zeros(9, WIDTH))}, "source"),
    ],
)
def test_what_the_network_cannot_take_is_refused(change: dict, field: str) -> None:
    given = {"pieces": torch.tensor([[1]]), "source": source_of(MISTRAL), **change}
    with pytest.raises(errors.InvalidValue) as caught:
        network_of(MISTRAL)(given.pop("pieces"), given.pop("source"), **given)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "language", [None, torch.tensor(3), torch.tensor(-1), torch.zeros(2, dtype=torch.int64)]
)
def test_a_language_must_be_one_that_is_known(language: torch.Tensor | None) -> None:
    with pytest.raises(errors.InvalidValue, match=r"^language: "):
        network_of(XLMR)(torch.tensor([[3]]), source_of(XLMR), language=language)


def test_an_unknown_language_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(errors.InvalidValue, match="'xx'; it knows en, ru, de"):
        network_of(XLMR).language_id("xx")


@pytest.mark.parametrize(
    "change", [{"hidden": 100, "heads": 3}, {"layers": -1}, {"width": 0}, {"max_pieces": 600}]
)
def test_impossible_sizes_are_refused(change: dict) -> None:
    with pytest.raises(errors.InvalidValue):
        replace(MISTRAL, **change)
