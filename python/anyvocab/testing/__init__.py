"""For tests, here and elsewhere: tokenizers small enough to check by hand."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["byte_alphabet", "merged_tokenizer", "tiny_tokenizer"]


def byte_alphabet() -> list[str]:
    """Return GPT-2's character for every byte, by its definition.

    Printable bytes stand for themselves, the others, in order, for the characters from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(b) if b in printable else chr(0x100 + others.index(b)) for b in range(256)]


def tiny_tokenizer(**changes: object) -> dict[str, object]:
    """Return a `tokenizer.json` that can be checked by hand: a byte-level BPE with four merges.

    The ids: 0..255 the bytes in their order, 256 `he`, 257 `ll`, 258 `hell`, 259 ` hell`, and the
    control tokens 260 `<|end|>` and 261 `<|fim_prefix|>`.

    Args:
        changes: Members of the document to replace.
    """
    alphabet = byte_alphabet()
    tokens = [*alphabet, "he", "ll", "hell", "Ġhell"]
    merges = [["h", "e"], ["l", "l"], ["he", "ll"], ["Ġ", "hell"]]
    added = ["<|end|>", "<|fim_prefix|>"]
    document: dict[str, object] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": len(tokens) + i,
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for i, content in enumerate(added)
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: id for id, token in enumerate(tokens)},
            "merges": merges,
        },
    }
    return document | changes


def merged_tokenizer(
    merges: Sequence[tuple[str, str]],
    controls: Sequence[str] = ("<|end|>", "<|fim_prefix|>"),
    *,
    pattern: bool = False,
) -> dict[str, object]:
    """Return the `tokenizer.json` of a byte-level BPE with merges of one's own.

    The ids: 0..255 the bytes in their order, then one for each merge, then the control tokens.

    Args:
        merges: Pairs in GPT-2's characters, in the order of their ranks.
        controls: The spellings of control tokens.
        pattern: Whether GPT-2's pattern splits texts; otherwise merges may happen anywhere, and an
            encoding's canonical test needs no look ahead.
    """
    tokens = [*byte_alphabet(), *(left + right for left, right in merges)]
    document = tiny_tokenizer()
    model, splits = document["model"], document["pre_tokenizer"]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    if not isinstance(model, dict) or not isinstance(splits, dict):  # it is written above
        raise TypeError("tiny_tokenizer has changed")
    return document | {
        "model": model
        | {
            "vocab": {token: id for id, token in enumerate(tokens)},
            "merges": [list(pair) for pair in merges],
        },
        "pre_tokenizer": splits | {"use_regex": pattern},
        "added_tokens": [
            {"id": len(tokens) + at, "content": content, "special": True, **flags}
            for at, content in enumerate(controls)
        ],
    }
