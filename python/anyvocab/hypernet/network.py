"""The residual hypernetwork: a token's rows are a mean of its pieces' rows, and what it learns.

The residual form of Minixhofer et al. (ZeTT, arXiv:2405.07883; ALM, arXiv:2503.20083, appendix D),
with three changes: the weights of the mean are learned, too, starting equal, so that step 0 is the
mean strategy exactly, for tokens of any number of pieces; what is read off is a position of its
own, not the first piece; and a token is told what the vocabulary around it is like. That last
one is not published: a row that is right in one vocabulary is wrong in another, because what a
token is followed by depends on which longer tokens there are.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from anyvocab import errors
from anyvocab.hypernet.rows import Rows, SourceRows

__all__ = ["BYTES", "NetworkConfig", "ResidualHypernet", "Surroundings"]

BYTES = 256  # rows of the network's own, for bytes that the source has no token for
Surroundings = Literal["vocabulary", "none"]


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of a residual hypernetwork.

    Attributes:
        width: D, the length of the model's rows.
        tied: Whether one row serves both sides.
        bias: Whether the head has a bias.
        hidden: h, the width inside.
        inner: m, the width of the inner layers.
        layers: Attention layers over the pieces.
        heads: Attention heads.
        max_pieces: Positions that are told apart, from either end; pieces in between share one.
        surroundings: `vocabulary`: tokens come with `features` (see :mod:`.features`).
        features: How many numbers those are.
        languages: Names of languages a row may be predicted for; none: no language is asked for.
    """

    width: int
    tied: bool
    bias: bool = False
    hidden: int = 256
    inner: int = 512
    layers: int = 2
    heads: int = 4
    max_pieces: int = 8
    surroundings: Surroundings = "vocabulary"
    features: int = 0
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("width", "hidden", "inner", "heads", "max_pieces"):
            if getattr(self, name) < 1:
                raise errors.build(
                    errors.InvalidValue,
                    f"must be at least 1, got {getattr(self, name)}",
                    field=name,
                )
        if self.layers < 0:
            raise errors.build(
                errors.InvalidValue, f"must not be negative, got {self.layers}", field="layers"
            )
        if self.hidden % self.heads:
            raise errors.build(
                errors.InvalidValue,
                f"{self.hidden} is not a multiple of {self.heads} heads",
                field="hidden",
                fix="give a multiple of the heads",
            )
        if self.surroundings not in get_args(Surroundings):
            raise errors.build(
                errors.InvalidValue,
                f"{self.surroundings!r} is no choice",
                field="surroundings",
                fix=" or ".join(get_args(Surroundings)),
            )
        if (self.surroundings == "vocabulary") != (self.features > 0):
            raise errors.build(
                errors.InvalidValue,
                f"{self.features} features with surroundings={self.surroundings!r}",
                field="features",
                fix='give features with surroundings="vocabulary", and 0 with "none"',
            )

    @property
    def sides(self) -> int:
        """How many rows a token has: k."""
        return 1 if self.tied else 2

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {**asdict(self), "languages": list(self.languages)}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> NetworkConfig:
        """Return the config of a dictionary.

        Raises:
            InvalidValue: A field is unknown or missing.
        """
        known = {one.name for one in fields(cls)}
        unknown = sorted(set(found) - known)
        if unknown or not {"width", "tied"} <= set(found):
            raise errors.build(
                errors.InvalidValue,
                f"has no field {unknown[0]!r}" if unknown else "lacks width or tied",
                field="network",
            )
        return cls(**{**found, "languages": tuple(found.get("languages", ()))})


class _Layer(nn.Module):
    """Attention over a token's positions, then an inner layer, each added to what was there."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        h = config.hidden
        self.heads = config.heads
        self.before = nn.LayerNorm(h)
        self.mix = nn.Linear(h, 3 * h)
        self.out = nn.Linear(h, h)
        self.between = nn.LayerNorm(h)
        self.widen = nn.Linear(h, config.inner)
        self.narrow = nn.Linear(config.inner, h)

    def forward(self, x: Tensor) -> Tensor:
        n, s, h = x.shape
        mixed = self.mix(self.before(x)).view(n, s, 3, self.heads, h // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)  # each (N, heads, S, h / heads)
        # A handful of positions: kernels made for long sequences are many times slower here.
        scores = query.mul((h // self.heads) ** -0.5) @ key.mT  # (N, heads, S, S)
        seen = scores.softmax(dim=-1).to(value.dtype) @ value  # (N, heads, S, h / heads)
        x = x + self.out(seen.transpose(1, 2).reshape(n, s, h))  # (N, S, h)
        inner = gelu(self.widen(self.between(x)), approximate="tanh")  # (N, S, m)
        added: Tensor = x + self.narrow(inner)  # (N, S, h)
        return added


class _Head(nn.Module):
    """One side's row: weights of the pieces, and a correction, both nothing at first."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        h, d = config.hidden, config.width
        self.weigh = nn.Linear(h, 1, bias=False)
        self.widen = nn.Linear(h, config.inner)
        self.correct = nn.Linear(config.inner, d)
        nn.init.zeros_(self.weigh.weight)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)

    def forward(self, x: Tensor, rows: Tensor, scale: Tensor) -> Tensor:
        """Return rows (N, D).

        Args:
            x: What the layers made, (N, n + 1, h); the last position is read off.
            rows: The source's rows of the pieces, (N, n, D).
            scale: What a correction of 1 is, (D,).
        """
        weights = self.weigh(x[:, :-1]).float().softmax(dim=1)  # (N, n, 1)
        mean = (weights * rows).sum(dim=1)  # (N, D)
        inner = gelu(self.widen(x[:, -1]), approximate="tanh")  # (N, m)
        return mean + self.correct(inner).float() * scale  # (N, D)


class ResidualHypernet(nn.Module):
    """Predicts the rows of tokens from the rows of their pieces, each token by itself.

    Attributes:
        config: Its shape.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        h, k, d = config.hidden, config.sides, config.width
        self.bytes = nn.Parameter(torch.zeros(BYTES, k, d))
        self.project = nn.Linear(k * d, h)
        self.from_start = nn.Embedding(config.max_pieces, h)
        self.from_end = nn.Embedding(config.max_pieces, h)
        self.readout = nn.Parameter(torch.zeros(h))
        self.length = nn.Embedding(config.max_pieces, h)
        self.surroundings = (
            nn.Sequential(nn.Linear(config.features, h), nn.GELU(), nn.Linear(h, h))
            if config.features
            else None
        )
        self.language = nn.Embedding(len(config.languages), h) if config.languages else None
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.last = nn.LayerNorm(h)
        self.heads = nn.ModuleList(_Head(config) for _ in range(k))
        self.bias = nn.Linear(h, 1) if config.bias else None
        if self.bias is not None:
            nn.init.zeros_(self.bias.weight)
            nn.init.zeros_(self.bias.bias)
        for table in (self.from_start, self.from_end, self.length, self.language):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)
        # Fixed by `measure`: they say what the source's rows are like, and are not trained.
        self.register_buffer("centre", torch.zeros(k, d))
        self.register_buffer("spread", torch.ones(k, d))
        self.register_buffer("bias_mean", torch.zeros(()))
        self.register_buffer("low", torch.full((config.features,), -math.inf))
        self.register_buffer("high", torch.full((config.features,), math.inf))

    @torch.no_grad()
    def measure(self, source: SourceRows, *, seed: int = 0) -> None:
        """Match the scales to the source's matrices and draw the byte rows around their mean."""
        generator = torch.Generator().manual_seed(seed)
        for side, matrix in enumerate(self._sides(source)):
            rows = matrix.float()
            self.centre[side] = rows.mean(dim=0)  # type: ignore[index]
            self.spread[side] = rows.std(dim=0).clamp_min(1e-6)  # type: ignore[index]
            noise = torch.randn(BYTES, self.config.width, generator=generator)
            self.bytes[:, side] = self.centre[side] + self.spread[side] * noise.to(rows.device)  # type: ignore[index]
        if source.bias is not None:
            self.bias_mean.fill_(float(source.bias.float().mean()))  # type: ignore[operator]

    def bound_features(self, low: Tensor, high: Tensor) -> None:
        """Say what features were seen in training: others are moved to the nearest seen."""
        self.low.copy_(low)  # type: ignore[operator]
        self.high.copy_(high)  # type: ignore[operator]

    def _sides(self, source: SourceRows) -> tuple[Tensor, ...]:
        """Return the source's matrices, one for each side that is predicted.

        A tied source may be given rows of its own for both sides.
        """
        return source.sides * 2 if self.config.sides > len(source.sides) else source.sides

    def forward(
        self,
        pieces: Tensor,
        source: SourceRows,
        *,
        features: Tensor | None = None,
        language: Tensor | None = None,
    ) -> Rows:
        """Return the rows of tokens.

        Args:
            pieces: int64 (N, L): ids of each token's pieces, -1 behind its end. An id of V + b,
                V the number of source rows, is the network's own row of byte b.
            source: The model's matrices; not trained through this call.
            features: float32 (N, F), with surroundings="vocabulary".
            language: int64 (N,), with languages.

        Returns:
            Rows, float32, in the order of `pieces`.

        Raises:
            InvalidValue: A token has no piece; features or a language are missing or unasked for.

        >>> config = NetworkConfig(width=8, tied=True, hidden=16, inner=32, heads=2,
        ...                        surroundings="none")
        >>> source = SourceRows(torch.randn(10, 8))
        >>> network = ResidualHypernet(config)
        >>> network.measure(source)
        >>> rows = network(torch.tensor([[3, 5, -1], [4, -1, -1]]), source)
        >>> bool((rows.input[0] - source.input[[3, 5]].mean(dim=0)).abs().max() < 1e-6)
        True
        """
        lengths = (pieces >= 0).sum(dim=1)  # (N,)
        self._check(lengths, features, language)
        used, place = torch.unique(pieces.clamp_min(0), return_inverse=True)  # (U,), (N, L)
        table = self._table(used, source)  # (U, k, D)
        seen = self.project(((table - self.centre) / self.spread).flatten(1))  # (U, h)
        # Tokens of as many pieces go together: nothing is padded, so nothing is masked.
        order, parts = [], []
        for n in torch.unique(lengths).tolist():
            chosen = (lengths == n).nonzero()[:, 0]  # (M,)
            at = place[chosen, :n]  # (M, n)
            x = self._positions(seen[at])  # (M, n, h)
            last = self._readout(n, chosen, features, language)  # (M, h)
            order.append(chosen)
            parts.append(self._part(torch.cat((x, last[:, None]), dim=1), table[at]))
        back = torch.empty_like(lengths)
        back[torch.cat(order)] = torch.arange(len(back), device=back.device)
        sides = [torch.cat([part[0][i] for part in parts])[back] for i in range(self.config.sides)]
        bias = None if self.bias is None else torch.cat([part[1] for part in parts])[back]
        return Rows(sides[0], sides[1] if len(sides) > 1 else None, bias)

    def _check(self, lengths: Tensor, features: Tensor | None, language: Tensor | None) -> None:
        if len(lengths) == 0 or int(lengths.min()) == 0:
            raise errors.build(
                errors.InvalidValue,
                "there is no token" if len(lengths) == 0 else "a token has no piece",
                field="pieces",
            )
        for name, given, wanted in (
            ("features", features is not None, self.surroundings is not None),
            ("language", language is not None, self.language is not None),
        ):
            if given != wanted:
                raise errors.build(
                    errors.InvalidValue,
                    "this network needs it" if wanted else "this network has no use for it",
                    field=name,
                )

    def _table(self, used: Tensor, source: SourceRows) -> Tensor:
        """Return the rows of pieces that occur, float32 (U, k, D); bytes' rows are trained."""
        size = len(source)
        rows = torch.stack([one[used.clamp_max(size - 1)] for one in self._sides(source)], dim=1)
        own = self.bytes[(used - size).clamp(0, BYTES - 1)]  # (U, k, D)
        return torch.where((used >= size)[:, None, None], own, rows.float())

    def _positions(self, x: Tensor) -> Tensor:
        n, most = x.shape[1], self.config.max_pieces - 1
        place = torch.arange(n, device=x.device)
        start, end = place.clamp_max(most), (n - 1 - place).clamp_max(most)
        summed: Tensor = x + self.from_start(start) + self.from_end(end)  # (M, n, h)
        return summed

    def _readout(
        self, n: int, chosen: Tensor, features: Tensor | None, language: Tensor | None
    ) -> Tensor:
        """Return the position that is read off, (M, h)."""
        length = torch.tensor(min(n, self.config.max_pieces) - 1, device=chosen.device)
        x = (self.readout + self.length(length)).expand(len(chosen), -1)
        if features is not None and self.surroundings is not None:
            within = torch.clamp(features[chosen], self.low, self.high)
            x = x + self.surroundings(within)
        if language is not None and self.language is not None:
            x = x + self.language(language[chosen])
        return x

    def _part(self, x: Tensor, rows: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return each side's rows, (M, D), and the biases, (M,), of tokens with n pieces each.

        Args:
            x: (M, n + 1, h).
            rows: (M, n, k, D).
        """
        for layer in self.layers:
            x = layer(x)
        x = self.last(x)
        sides = [
            head(x, rows[:, :, i], self.spread[i])  # type: ignore[index]
            for i, head in enumerate(self.heads)
        ]
        if self.bias is None:
            return sides, x.new_zeros(len(x))
        return sides, self.bias(x[:, -1])[:, 0].float() + self.bias_mean
