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
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from anyvocab import errors
from anyvocab.hypernet.rows import Rows, SourceRows

__all__ = ["BYTES", "Merged", "NetworkConfig", "ResidualHypernet", "Surroundings", "Use"]

ROUND = 512  # positions come in multiples: kernels are made anew for every other shape
BYTES = 256  # rows of the network's own, for bytes that the source has no token for
Surroundings = Literal["vocabulary", "none"]
Merged = Literal["shared", "own"]
Use = Literal["vocabulary", "merged"]


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
        merged: `own`: a token that stands among the source's own is read by a row of its own, from
            a head of its own; `shared`: by the row that it has in a vocabulary.
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
    merged: Merged = "shared"

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
        errors.check_choice("surroundings", self.surroundings, get_args(Surroundings))
        errors.check_choice("merged", self.merged, get_args(Merged))
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
        """Return the fields, ready for JSON; without `merged` where there is no such head."""
        found = {**asdict(self), "languages": list(self.languages)}
        if self.merged == "shared":  # what has none is what it was before there were any
            del found["merged"]
        return found

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


@dataclass(frozen=True, eq=False)
class _Groups:
    """Tokens in the order of their numbers of pieces, all positions of all tokens end to end.

    A token with n pieces has n + 1 positions: its pieces', then the one that is read off. Tokens
    of as many pieces stand together, so nothing is padded and nothing is masked; and what is done
    to every position is one product for all of them.

    Attributes:
        sizes: (tokens, pieces) of each group.
        order: int64 (N,): the tokens in this order.
        places: int64 (P,): which piece is at a position, -1 at those that are read off and behind
            the last token, where a few idle positions make the number a multiple of `ROUND`.
        read: int64 (N,): the positions that are read off.
    """

    sizes: tuple[tuple[int, int], ...]
    order: Tensor
    places: Tensor
    read: Tensor

    @classmethod
    def of(cls, pieces: Tensor) -> _Groups:
        """Return the groups of pieces (N, L); `places` counts them in row-major order."""
        lengths = (pieces >= 0).sum(dim=1)
        order = torch.argsort(lengths, stable=True)
        counts = torch.bincount(lengths).tolist()
        sizes = tuple((count, n) for n, count in enumerate(counts) if count)
        steps = lengths[order] + 1
        ends = torch.cumsum(steps, dim=0)  # (N,)
        total = int(ends[-1])
        whole = -(-total // ROUND) * ROUND
        token = torch.repeat_interleave(torch.arange(len(order), device=pieces.device), steps)
        within = torch.arange(total, device=pieces.device) - (ends - steps)[token]
        places = torch.full((whole,), -1, device=pieces.device)
        found = order[token] * pieces.shape[1] + within
        places[:total] = torch.where(within < lengths[order][token], found, -1)
        return cls(sizes, order, places, ends - 1)

    def split(self, x: Tensor) -> Iterator[Tensor]:
        """Yield each group's positions of x (P, ...), as (tokens, n + 1, ...)."""
        at = 0
        for tokens, n in self.sizes:
            size = tokens * (n + 1)
            yield x[at : at + size].view(tokens, n + 1, *x.shape[1:])
            at += size


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

    def forward(self, x: Tensor, groups: _Groups) -> Tensor:
        size, h = x.shape
        mixed = self.mix(self.before(x)).view(size, 3, self.heads, h // self.heads)
        seen = [self._attend(one.float()) for one in groups.split(mixed)]
        seen.append(x.new_zeros(size - sum(map(len, seen)), h))
        x = x + self.out(torch.cat(seen))  # (P, h)
        inner = gelu(self.widen(self.between(x)), approximate="tanh")  # (P, m)
        added: Tensor = x + self.narrow(inner)  # (P, h)
        return added

    def _attend(self, mixed: Tensor) -> Tensor:
        """Return what each position sees, (M (n + 1), h), of (M, n + 1, 3, heads, h / heads)."""
        query, key, value = mixed.permute(2, 0, 3, 1, 4)  # each (M, heads, n + 1, h / heads)
        # A handful of positions: kernels made for long sequences are many times slower here.
        with torch.autocast(mixed.device.type, enabled=False):
            scores = (query * query.shape[-1] ** -0.5) @ key.mT  # (M, heads, n + 1, n + 1)
            seen = scores.softmax(dim=-1) @ value
        return seen.transpose(1, 2).reshape(-1, query.shape[1] * query.shape[3])


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

    def forward(self, x: Tensor, rows: Tensor, groups: _Groups, scale: Tensor) -> Tensor:
        """Return rows (N, D), in the groups' order.

        Args:
            x: What the layers made, (P, h).
            rows: The source's rows of the pieces, (P, D); anything at other positions.
            groups: What stands where.
            scale: What a correction of 1 is, (D,).
        """
        weights = self.weigh(x).float()  # (P, 1)
        parts = []
        for weight, row in zip(groups.split(weights), groups.split(rows), strict=True):
            share = weight[:, :-1].softmax(dim=1)  # (M, n, 1)
            parts.append((share * row[:, :-1]).sum(dim=1))  # (M, D)
        inner = gelu(self.widen(x[groups.read]), approximate="tanh")  # (N, m)
        return torch.cat(parts) + self.correct(inner).float() * scale  # (N, D)


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
        self.merged = _Head(config) if config.merged == "own" else None
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

    def with_merged(self, merged: Merged) -> ResidualHypernet:
        """Return a copy with a head for merged tokens, or without: see :class:`NetworkConfig`.

        What it predicts for vocabularies is what this network does. A head that is new begins as
        that of the input's side, and so predicts that, too.
        """
        made = ResidualHypernet(replace(self.config, merged=merged))
        made.load_state_dict(self.state_dict(), strict=False)
        if self.merged is None and made.merged is not None:
            made.merged.load_state_dict(self.heads[0].state_dict())
        return made.to(self.readout.device)

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
        use: Use = "vocabulary",
    ) -> Rows:
        """Return the rows of tokens.

        Args:
            pieces: int64 (N, L): ids of each token's pieces, -1 behind its end. An id of V + b,
                V the number of source rows, is the network's own row of byte b.
            source: The model's matrices; not trained through this call.
            features: float32 (N, F), with surroundings="vocabulary".
            language: int64 (N,), with languages.
            use: Where the rows will stand: in a vocabulary whose every row is predicted
                (`vocabulary`), or among the source's own (`merged`). That makes a difference for
                `merged="own"` alone; there is then a row for each side, of a tied model, too.

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
        self._check(pieces, features, language)
        groups = _Groups.of(pieces)
        used, place = torch.unique(pieces.clamp_min(0), return_inverse=True)  # (U,), (N, L)
        table = self._table(used, source)  # (U, k, D)
        seen = self.project(((table - self.centre) / self.spread).flatten(1))  # (U, h)
        at = place.flatten()[groups.places.clamp_min(0)]  # (P,)
        x = seen[at] * (groups.places >= 0)[:, None]  # (P, h)
        x = x + self._positions(groups)
        x = x.index_add(0, groups.read, self._readout(groups, features, language).to(x.dtype))
        for layer in self.layers:
            x = layer(x, groups)
        x = self.last(x)  # (P, h)
        rows = table[at]  # (P, k, D)
        back = torch.empty_like(groups.order)
        back[groups.order] = torch.arange(len(back), device=back.device)
        sides = [
            head(x, rows[:, i], groups, self.spread[i])[back]  # type: ignore[index]
            for i, head in enumerate(self.heads)
        ]
        bias = None
        if self.bias is not None:
            bias = self.bias(x[groups.read])[back, 0].float() + self.bias_mean
        if use == "merged" and self.merged is not None:
            reads = self.merged(x, rows[:, 0], groups, self.spread[0])[back]  # type: ignore[index]
            return Rows(reads, sides[-1], bias)
        return Rows(sides[0], sides[1] if len(sides) > 1 else None, bias)

    def _check(self, pieces: Tensor, features: Tensor | None, language: Tensor | None) -> None:
        if pieces.numel() == 0 or int(pieces[:, 0].min()) < 0:
            raise errors.build(
                errors.InvalidValue,
                "there is no token" if len(pieces) == 0 else "a token has no piece",
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

    def _positions(self, groups: _Groups) -> Tensor:
        """Return what tells positions of pieces apart, (P, h); zeros elsewhere."""
        most, device = self.config.max_pieces - 1, groups.order.device
        parts = []
        for tokens, n in groups.sizes:
            place = torch.arange(n, device=device)
            start, end = place.clamp_max(most), (n - 1 - place).clamp_max(most)
            made = self.from_start(start) + self.from_end(end)  # (n, h)
            made = torch.cat((made, made.new_zeros(1, made.shape[1])))
            parts.append(made.expand(tokens, -1, -1).flatten(0, 1))
        used = sum(map(len, parts))
        parts.append(parts[0].new_zeros(len(groups.places) - used, parts[0].shape[1]))
        return torch.cat(parts)

    def _readout(self, groups: _Groups, features: Tensor | None, language: Tensor | None) -> Tensor:
        """Return what the positions that are read off begin with, (N, h)."""
        most, device = self.config.max_pieces, groups.order.device
        lengths = torch.tensor([min(n, most) - 1 for _, n in groups.sizes], device=device)
        counts = torch.tensor([tokens for tokens, _ in groups.sizes], device=device)
        x = self.readout + self.length(torch.repeat_interleave(lengths, counts))
        if features is not None and self.surroundings is not None:
            within = torch.clamp(features[groups.order], self.low, self.high)
            x = x + self.surroundings(within)
        if language is not None and self.language is not None:
            x = x + self.language(language[groups.order])
        return x
