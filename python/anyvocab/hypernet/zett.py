"""The hypernetwork of the released ZeTT checkpoints: one file, the published graph.

Minixhofer, Ponti, Vulić: Zero-Shot Tokenizer Transfer (arXiv:2405.07883). A token is a short text
of source tokens, its pieces. Their rows, rescaled, go through a projection and a few RoBERTa layers
(arXiv:1907.11692); the state of the first piece is the token, and heads make its rows from it. A
token is predicted by itself: no other token of its vocabulary changes its rows.

The names of parameters and buffers are those of the released files, which therefore load as they
are; :mod:`.zett_files` reads and writes folders, :mod:`.zett_pieces` makes the pieces.

Where a formula says LN(x; e): (x - mean) / sqrt(variance + e) * weight + bias over the last axis,
the variance with divisor h. gelu is x * Phi(x); gelu_tanh is its approximation
x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))). The layers use the first, projections and
heads the second.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, scaled_dot_product_attention

from anyvocab import errors
from anyvocab.hypernet.rows import Rows, SourceRows

__all__ = ["ZettConfig", "ZettHypernet"]

PROJECTOR_EPS = 1e-6  # of the LN in projections and heads
LAYER_EPS = 1e-5  # of the LN in and before the layers: roberta-base's
POSITIONS = 514  # roberta-base's position table, of which the first L + 1 are used
INIT_STD = 0.02  # roberta-base's initializer range, and what input rows are rescaled to
SCALE_EPS = 1e-8  # added to a standard deviation that is divided by
HEAD_WIDTH = 64  # where a config does not count the heads
CALIBRATION = 2048  # source tokens that the output scales are measured on


@dataclass(frozen=True)
class ZettConfig:
    """The shape of a released hypernetwork.

    Attributes:
        width: d, the length of the model's rows.
        tied: Whether one row serves both sides.
        source_rows: V, ids of the source; a piece of id V + i is the network's own row i.
        pad_id: The id that stands behind a token's last piece. A piece of this id is masked, too.
        hidden: h, the width inside.
        inner: m, the width of the inner layers.
        heads: Attention heads; h / 64 when left out.
        layers: RoBERTa layers.
        extra_rows: Rows of the network's own: what the byte conversion of the source's tokenizer
            appended. There is one even where it appended none.
        max_pieces: L, the pieces that were kept of a token in training.
        bias: Whether it predicts a bias.
        languages: Names of languages, in the order of their ids; none: it knows no languages.
        positions: Rows of the position table.
    """

    width: int
    tied: bool
    source_rows: int
    pad_id: int
    hidden: int
    inner: int
    heads: int = 0
    layers: int = 3
    extra_rows: int = 0
    max_pieces: int = 7
    bias: bool = True
    languages: tuple[str, ...] = ()
    positions: int = POSITIONS

    def __post_init__(self) -> None:
        if not self.heads:
            object.__setattr__(self, "heads", max(1, self.hidden // HEAD_WIDTH))
        least = {"layers": 0, "extra_rows": 0, "pad_id": 0}
        for one in fields(self):
            value = getattr(self, one.name)
            if one.type == "bool" and type(value) is not bool:
                raise errors.build(
                    errors.InvalidValue, f"must be true or false, got {value!r}", field=one.name
                )
            if one.type != "int" or (type(value) is int and value >= least.get(one.name, 1)):
                continue
            raise errors.build(
                errors.InvalidValue,
                f"must be an integer of at least {least.get(one.name, 1)}, got {value!r}",
                field=one.name,
            )
        if self.hidden % self.heads:
            raise errors.build(
                errors.InvalidValue,
                f"{self.hidden} is not a multiple of {self.heads} heads",
                field="hidden",
                fix="give a multiple of the heads",
            )
        if self.max_pieces > self.positions:
            raise errors.build(
                errors.InvalidValue,
                f"{self.max_pieces} pieces with a table of {self.positions} positions",
                field="max_pieces",
            )

    @property
    def sides(self) -> int:
        """How many rows a token has: k."""
        return 1 if self.tied else 2

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {**asdict(self), "languages": list(self.languages)}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> ZettConfig:
        """Return the config of a dictionary that `to_dict` made.

        Raises:
            InvalidValue: A field is unknown, missing or out of range.
        """
        known = {one.name for one in fields(cls)}
        wrong = sorted(known.symmetric_difference(found))
        if wrong:
            what = "lacks the field" if wrong[0] in known else "has no field"
            raise errors.build(errors.InvalidValue, f"{what} {wrong[0]!r}", field="network")
        languages = found["languages"]
        if not isinstance(languages, list) or not all(isinstance(one, str) for one in languages):
            raise errors.build(errors.InvalidValue, "must be a list of names", field="languages")
        return cls(**{**found, "languages": tuple(languages)})


class Rescaler(nn.Module):
    """A fixed affine map of every dimension: w * x + b. Not trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("w", torch.ones(1, width))
        self.register_buffer("b", torch.zeros(1, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x + self.b

    def fit(self, x: Tensor, mean: Tensor, std: Tensor) -> None:
        """Make the map that gives `x` (N, D) a mean and a standard deviation, each (D,)."""
        w = std / (x.std(dim=0, correction=0) + SCALE_EPS)
        self.w.copy_(w)  # type: ignore[operator]
        self.b.copy_(mean - (w * x).mean(dim=0))  # type: ignore[operator]


class Projector(nn.Module):
    """LN(gelu_tanh(W2 gelu_tanh(W1 x)) + x; 1e-6), h to m to h."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.dense1 = nn.Linear(hidden, inner)
        self.dense2 = nn.Linear(inner, hidden)
        self.ln = nn.LayerNorm(hidden, eps=PROJECTOR_EPS)

    def forward(self, x: Tensor) -> Tensor:
        added = self.dense2(gelu(self.dense1(x), approximate="tanh"))
        return self.ln(gelu(added, approximate="tanh") + x)


class Layer(nn.Module):
    """A RoBERTa layer: x = LN(x + attention(x)), then x = LN(x + W2 gelu(W1 x)); LN behind both."""

    def __init__(self, config: ZettConfig) -> None:
        super().__init__()
        h, m = config.hidden, config.inner
        self.heads = config.heads
        parts = {name: nn.Linear(h, h) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict(parts),
                "output": nn.ModuleDict(
                    {"dense": nn.Linear(h, h), "LayerNorm": nn.LayerNorm(h, eps=LAYER_EPS)}
                ),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(h, m)})
        self.output = nn.ModuleDict(
            {"dense": nn.Linear(m, h), "LayerNorm": nn.LayerNorm(h, eps=LAYER_EPS)}
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the next states, (N, T, h).

        Args:
            x: States, (N, T, h).
            mask: What is added to scores, (N, 1, 1, T): 0 where a position is seen, else the least
                finite number. Where nothing is seen, every position is seen alike.
        """
        n, t, h = x.shape
        parts, output = self.attention["self"], self.attention["output"]
        query, key, value = (
            parts[name](x).view(n, t, self.heads, h // self.heads).transpose(1, 2)
            for name in ("query", "key", "value")
        )  # each (N, heads, T, h / heads)
        # softmax(query key / sqrt(h / heads) + mask) value
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = mixed.transpose(1, 2).reshape(n, t, h)
        x = output["LayerNorm"](output["dense"](mixed) + x)
        inner = gelu(self.intermediate["dense"](x))  # (N, T, m)
        return self.output["LayerNorm"](self.output["dense"](inner) + x)


class Encoder(nn.Module):
    """Adds types and positions, appends a language, normalises, and runs the layers."""

    def __init__(self, config: ZettConfig) -> None:
        super().__init__()
        h = config.hidden
        self.embeddings = nn.ModuleDict(
            {
                "token_type_embeddings": nn.Embedding(1, h),
                "position_embeddings": nn.Embedding(config.positions, h),
                "LayerNorm": nn.LayerNorm(h, eps=LAYER_EPS),
            }
        )
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(Layer(config) for _ in range(config.layers))}
        )

    def forward(self, z: Tensor, seen: Tensor, language: Tensor | None) -> Tensor:
        """Return the states of the first piece, (N, h).

        Args:
            z: Projected pieces, (N, L, h).
            seen: bool (N, L): which of them are pieces.
            language: Embeddings of each token's language, (N, h), or None.
        """
        tables = self.embeddings
        length = z.shape[1]
        # All pieces are of type 0. Positions count from 0, not from behind a padding id.
        z = z + tables["token_type_embeddings"].weight[0]
        z = z + tables["position_embeddings"].weight[:length]  # (N, L, h)
        if language is not None:  # one more position, with neither a type nor a place
            z = torch.cat((z, language[:, None]), dim=1)  # (N, L + 1, h)
            seen = torch.cat((seen, seen.new_ones(len(seen), 1)), dim=1)
        least = torch.finfo(z.dtype).min
        mask = torch.zeros_like(seen, dtype=z.dtype).masked_fill(~seen, least)[:, None, None]
        z = tables["LayerNorm"](z)
        for layer in self.encoder["layer"]:
            z = layer(z, mask)
        return z[:, 0]


class ZettHypernet(nn.Module):
    """Predicts the rows of tokens as the released checkpoints do.

    It runs in the type of its parameters; rows come back in float32, or in float64 if that is it.

    Attributes:
        config: Its shape.
    """

    def __init__(self, config: ZettConfig) -> None:
        super().__init__()
        self.config = config
        d, h, m = config.width, config.hidden, config.inner
        if config.languages:
            self.lang_embeddings = nn.Embedding(len(config.languages), h)
        self.fallback_embeddings = nn.Embedding(max(config.extra_rows, 1), config.sides * d)
        self.in_scaler = Rescaler(config.sides * d)
        self.input_projection = nn.Sequential(nn.Linear(config.sides * d, h), Projector(h, m))
        self.model = Encoder(config)
        self.output_projection = nn.Sequential(Projector(h, m), nn.Linear(h, d))
        self.scaler = Rescaler(d)
        if not config.tied:
            self.output_projection_out = nn.Sequential(Projector(h, m), nn.Linear(h, d))
            self.out_scaler = Rescaler(d)
        if config.bias:
            self.bias_projection = nn.Linear(h, 1)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=INIT_STD)

    def forward(
        self,
        pieces: Tensor,
        source: SourceRows,
        *,
        features: Tensor | None = None,
        language: Tensor | None = None,
    ) -> Rows:
        """Return the rows of tokens.

        Every token is predicted alone: calls in chunks give the rows of one call. Memory is
        O(N L max(m, k d)). Columns of -1 behind the longest token may be dropped.

        Args:
            pieces: int64 (N, L): ids of each token's pieces, -1 behind its end. An id of V + i, V
                as in the config, is the network's own row i. The network knew no more than
                `config.max_pieces` of them in training.
            source: The model's matrices, in any type; not trained through this call.
            features: Nothing: this network has no use for them.
            language: int64 (N,), or one id for all, where the network has languages.

        Returns:
            Rows in the order of `pieces`. The bias is there where the network predicts one and the
            source has one: releases for models without predict one that nothing was trained on.

        Raises:
            InvalidValue: The matrices are not of the source this network is for, an id is out of
                range, there are more pieces than positions; features are given; a language is
                missing or unasked for.

        Source: arXiv:2405.07883, section 3, and the configurations that the authors released.

        >>> config = ZettConfig(width=8, tied=True, source_rows=10, pad_id=0, hidden=64, inner=128)
        >>> network = ZettHypernet(config)
        >>> source = SourceRows(torch.randn(10, 8))
        >>> network.measure(source)
        >>> network(torch.tensor([[3, 5, -1], [4, -1, -1]]), source).input.shape
        torch.Size([2, 8])
        """
        self._check(pieces, source, features)
        state = self._state(pieces, source, self._language(language, len(pieces)))  # (N, h)
        wide = torch.promote_types(state.dtype, torch.float32)
        rows = self.scaler(self.output_projection(state).to(wide))  # (N, d)
        output = None
        if not self.config.tied:
            output = self.out_scaler(self.output_projection_out(state).to(wide))  # (N, d)
        bias = None
        if self.config.bias and source.bias is not None:
            bias = self.bias_projection(state)[:, 0].to(wide)  # (N,)
        return Rows(rows, output, bias)

    @torch.no_grad()
    def measure(self, source: SourceRows, *, language: Tensor | None = None) -> None:
        """Match the scales to the source's matrices, as the authors do before training.

        Input rows come to mean 0 and standard deviation 0.02 in every dimension; predictions for
        the first 2,048 source tokens, each its own piece, to those of the source's rows.

        Args:
            source: The model's matrices.
            language: An id, where the network has languages.

        Raises:
            InvalidValue: As for a call.
        """
        ids = torch.arange(self.config.source_rows, device=self._device)
        rows = self._look_up(ids, source)  # (V, k d)
        self.in_scaler.fit(rows, rows.new_zeros(()), rows.new_full((), INIT_STD))
        heads = [self.scaler] if self.config.tied else [self.scaler, self.out_scaler]
        for scaler in heads:
            scaler.w.fill_(1.0)  # type: ignore[operator]
            scaler.b.fill_(0.0)  # type: ignore[operator]
        predicted = self(ids[:CALIBRATION, None], source, language=language)
        sides = [one for one in (predicted.input, predicted.output) if one is not None]
        for scaler, made, wanted in zip(heads, sides, source.sides, strict=True):
            target = wanted[: self.config.source_rows].to(made)
            scaler.fit(made, target.mean(dim=0), target.std(dim=0, correction=0))

    def language_id(self, name: str) -> Tensor:
        """Return the id of a language, int64 (), for `language`.

        Raises:
            InvalidValue: The network does not know it; the message lists those that it knows.
        """
        if name not in self.config.languages:
            known = ", ".join(self.config.languages) or "none"
            raise errors.build(
                errors.InvalidValue,
                f"this network does not know {name!r}",
                field="language",
                fix=f"it knows {known}",
            )
        return torch.tensor(self.config.languages.index(name), device=self._device)

    @property
    def _device(self) -> Any:
        return self.fallback_embeddings.weight.device

    def _look_up(self, ids: Tensor, source: SourceRows) -> Tensor:
        """Return the source's rows of `ids` in the network's type, the sides side by side."""
        rows = torch.cat([embedding(ids, side) for side in source.sides], dim=-1)
        return rows.to(self.fallback_embeddings.weight.dtype)  # (..., k d)

    def _state(self, pieces: Tensor, source: SourceRows, language: Tensor | None) -> Tensor:
        """Return what the heads read, (N, h)."""
        size = self.config.source_rows
        ids = torch.where(pieces < 0, self.config.pad_id, pieces)  # (N, L)
        own = ids >= size
        x = self.in_scaler(self._look_up(ids.clamp_max(size - 1), source))  # (N, L, k d)
        extra = self.fallback_embeddings((ids - size).clamp_min(0))  # not rescaled
        x = torch.where(own[..., None], extra, x)
        z = self.input_projection(x)  # (N, L, h)
        return self.model(z, ids != self.config.pad_id, language)

    def _language(self, language: Tensor | None, count: int) -> Tensor | None:
        """Return the embedding of each token's language, (N, h)."""
        known = self.config.languages
        if (language is None) == bool(known):
            raise errors.build(
                errors.InvalidValue,
                "this network needs one" if known else "this network knows no languages",
                field="language",
                fix=f"give `language_id(...)` of one of {', '.join(known)}" if known else "",
            )
        if language is None:
            return None
        if language.numel() not in {1, count} or language.dim() > 1:
            raise errors.build(
                errors.InvalidValue,
                f"has the shape {tuple(language.shape)} for {count} tokens",
                field="language",
                fix="give one id, or one for each token",
            )
        if language.numel() and not 0 <= int(language.min()) <= int(language.max()) < len(known):
            raise errors.build(
                errors.InvalidValue, f"ids are 0..{len(known) - 1}", field="language"
            )
        return self.lang_embeddings(language.reshape(-1)).expand(count, -1)

    def _check(self, pieces: Tensor, source: SourceRows, features: Tensor | None) -> None:
        config = self.config
        if features is not None:
            raise errors.build(
                errors.InvalidValue, "this network has no use for them", field="features"
            )
        shapes = [tuple(side.shape) for side in source.sides]
        if len(shapes) != config.sides or any(
            rows < config.source_rows or width != config.width for rows, width in shapes
        ):
            raise errors.build(
                errors.InvalidValue,
                f"matrices of {shapes} where {config.sides} of "
                f"{(config.source_rows, config.width)} belong",
                field="source",
                fix="give the matrices of the model that this hypernetwork was trained for",
            )
        if pieces.dim() != 2 or not 1 <= pieces.shape[1] <= config.positions:
            raise errors.build(
                errors.InvalidValue,
                f"has the shape {tuple(pieces.shape)}",
                field="pieces",
                fix=f"give (N, L) with L in 1..{config.positions}",
            )
        stop = config.source_rows + config.extra_rows
        if pieces.numel() and int(pieces.max()) >= stop:
            raise errors.build(
                errors.InvalidValue,
                f"holds the id {int(pieces.max())}, and the last one is {stop - 1}",
                field="pieces",
                fix="make pieces with anyvocab.hypernet.zett_pieces",
            )
