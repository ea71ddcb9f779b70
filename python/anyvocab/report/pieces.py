"""A text cut into tokens: every byte of the text once, in order, each with its token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyvocab.report.visible import visible_bytes

if TYPE_CHECKING:
    from anyvocab import Tokenizer

__all__ = ["Cut", "Piece", "cut_text"]


@dataclass(frozen=True)
class Piece:
    """A stretch of a text and the token that stands for it.

    Attributes:
        id: The token id; None for bytes that no token stands for (a normalizer dropped them).
        text: The bytes of the text. The texts of all pieces, joined, are the text. Empty where
            several tokens share bytes that cannot be told apart.
        token: What the token stands for; None for control tokens and for no token.
        spelling: As the tokenizer's file writes it.
        kind: The token's kind; `"gap"` for no token.
        merged: The base tokens that became this one, as a batch merged them; empty otherwise.
    """

    id: int | None
    text: bytes
    token: bytes | None
    spelling: bytes
    kind: str
    merged: tuple[bytes, ...] = ()

    @property
    def shown(self) -> str:
        """What a reader sees: the text itself, with everything unseen spelled out."""
        return visible_bytes(self.text)


@dataclass(frozen=True)
class Cut:
    """A text and its pieces.

    Attributes:
        text: The text.
        pieces: Its pieces, in order.
    """

    text: bytes
    pieces: tuple[Piece, ...]

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        return sum(piece.id is not None for piece in self.pieces)

    @property
    def bytes_per_token(self) -> float:
        """The length of the text over the number of tokens; 0 without tokens."""
        return len(self.text) / self.tokens if self.tokens else 0.0


def cut_text(tokenizer: Tokenizer, text: str | bytes) -> Cut:
    """Return the pieces of `text`. O(bytes + tokens).

    Offsets that overlap (one character that became several tokens) are resolved so that every byte
    is shown once: where the tokens' own bytes spell the shared stretch each gets its own,
    otherwise the first gets all of it.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)
    encoding = tokenizer.encode_with_offsets(data)
    ids = encoding.ids.tolist()
    spans = encoding.offsets.tolist()
    vocabulary = tokenizer.vocabulary
    pieces: list[Piece] = []

    def gap(start: int, end: int) -> None:
        if start < end:
            pieces.append(Piece(None, data[start:end], None, b"", "gap"))

    done = 0  # bytes before this are shown
    at = 0
    while at < len(ids):
        stop = at + 1
        while stop < len(ids) and spans[stop] == spans[at]:
            stop += 1
        tokens = [vocabulary.token_bytes(id) for id in ids[at:stop]]
        start, end = max(done, spans[at][0]), max(done, spans[at][1])
        # WordPiece and `</w>` keep the space between words in a token, not in its offsets.
        if (tokens[0] or b"")[:1] == b" " and start > done and data[start - 1 : start] == b" ":
            start -= data[start : start + 1] != b" "
        if (tokens[-1] or b"")[-1:] == b" " and data[end : end + 1] == b" ":
            end += data[end - 1 : end] != b" "
        gap(done, start)
        for id, token, shown in zip(
            ids[at:stop], tokens, _share(data[start:end], tokens), strict=True
        ):
            spelling = vocabulary.spelling(id) or b""
            pieces.append(Piece(id, shown, token, spelling, vocabulary.kind(id)))
        done, at = end, stop
    gap(done, len(data))
    return Cut(data, tuple(pieces))


def _share(text: bytes, tokens: Sequence[bytes | None]) -> list[bytes]:
    """Return a part of `text` for every token: its own bytes where they spell it, in order."""
    if len(tokens) == 1:
        return [text]
    rest, parts = text, []
    for token in tokens:
        # A word mark at either end need not be in the text.
        own = next((one for one in _forms(token) if one and rest.startswith(one)), None)
        if own is None:
            return [text, *(b"" for _ in tokens[1:])]
        parts.append(own)
        rest = rest[len(own) :]
    parts[-1] += rest
    return parts


def _forms(token: bytes | None) -> tuple[bytes, ...]:
    return () if token is None else (token, token.rstrip(b" "), token.strip(b" "))
