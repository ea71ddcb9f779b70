"""Where a text may be cut: characters, token ends, and encodings without a leading space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from anyvocab import errors

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer

__all__ = [
    "continuation_head",
    "encode_spelled",
    "has_dummy_prefix",
    "incomplete_tail",
    "settled_end",
]

_FAR: Final = 64  # bytes; a settled token end that lies further back is not worth the text it hides
# What a text is put behind to be encoded as the inside of a longer one: a character that is rare
# enough to be in no merge, as llama's own infilling does it, then two that are in few.
_SENTINELS: Final = ("☺".encode(), b"\x01", b"\n")


def incomplete_tail(text: bytes) -> int:
    """Return how many bytes at the end of `text` begin a UTF-8 character and do not end it.

    >>> incomplete_tail("中".encode()[:2]), incomplete_tail("中".encode())
    (2, 0)
    """
    for count in range(1, min(3, len(text)) + 1):
        lead = text[-count]
        if lead >= 0xC0:
            try:
                text[-count:].decode("utf-8")
            except UnicodeDecodeError as error:
                # What a longer text can still make well-formed is reported as a cut-off end.
                return count if error.reason == "unexpected end of data" else 0
            return 0
        if lead < 0x80:
            return 0
    return 0


def continuation_head(text: bytes) -> int:
    """Return how many bytes at the start of `text` are inside a UTF-8 character, 0 to 3.

    >>> continuation_head("中x".encode()[1:]), continuation_head(b"x")
    (2, 0)
    """
    count = 0
    while count < min(3, len(text)) and 0x80 <= text[count] < 0xC0:
        count += 1
    return count


def settled_end(tokenizer: Tokenizer, text: bytes) -> int:
    """Return the last position in `text` at which a token ends whatever text follows.

    Where no such position lies in the last `_FAR` bytes (a tokenizer without pretokens can change
    its mind about a whole text), where the last token begins.
    """
    if not text:
        return 0
    encoder = tokenizer.incremental(specials="text")
    encoder.append(text)
    settled = encoder.stable()
    offsets = tokenizer.encode_with_offsets(text, specials="text").offsets
    at = int(offsets[settled - 1, 1]) if settled else 0
    return at if len(text) - at <= _FAR or not len(offsets) else int(offsets[-1, 0])


def encode_spelled(tokenizer: Tokenizer, text: bytes) -> list[int]:
    """Return the ids of `text` as they are inside a longer text: their bytes are `text`.

    A tokenizer that puts a space before a text (SentencePiece's dummy prefix) is asked with
    something in front, which is cut off again. What a normalizer changes stays changed.

    Raises:
        UnsupportedTokenizer: The space cannot be told from the text.
    """
    if not text:
        return []
    if not has_dummy_prefix(tokenizer):
        ids: list[int] = tokenizer.encode(text, specials="text").tolist()
        return ids
    for sentinel in _SENTINELS:
        head: list[int] = tokenizer.encode(sentinel, specials="text").tolist()
        whole: list[int] = tokenizer.encode(sentinel + text, specials="text").tolist()
        if whole[: len(head)] == head:
            return whole[len(head) :]
    raise errors.build(
        errors.UnsupportedTokenizer,
        "a text cannot be encoded without the space that this tokenizer puts before it",
        field="tokenizer",
        fix="use mode='bytes'",
    )


def has_dummy_prefix(tokenizer: Tokenizer) -> bool:
    """Return whether the tokenizer puts a space before a text that has none."""
    vocabulary = tokenizer.vocabulary
    spelled = [vocabulary.token_bytes(id) or b"" for id in tokenizer.encode(b"x").tolist()]
    return b"".join(spelled) == b" x"
