"""What the tokenizer does to probe texts: what it loses, what becomes unk, how it groups digits."""

from __future__ import annotations

from collections.abc import Iterator

from anyvocab.doctor.registry import Finding, Patient, check
from anyvocab.doctor.vocabulary import missing_bytes
from anyvocab.report.sample import SAMPLE
from anyvocab.report.visible import one_line

# What is probed, the text, and how bad its loss is.
LOSSES = (
    ("upper case", "Hello WORLD Straße", "warning"),
    ("accents", "naïve café ñ", "warning"),
    ("runs of spaces", "a  b    c", "warning"),
    ("line breaks and tabs", "a\nb\n\n\tc", "warning"),
    ("carriage returns", "a\r\nb", "warning"),
    ("a space at the end", "a ", "warning"),
    ("a space at the start", " a", "info"),
    ("decomposed characters (NFC)", "e\u0301 n\u0303", "info"),
    ("compatibility characters (NFKC)", "ﬁ ① ½ Ａ", "warning"),
    ("zero-width characters", "a\u200bb\u200dc", "info"),
    ("control characters", "a\x00b\x1bc\x7f", "info"),
)
CORPUS = {
    **SAMPLE,
    "code": 'def f(x: int) -> str:\n    return f"{x!r:>4}"  # 100 %\n',
    "mathematics": "∀ε>0 ∃δ: |x−a|<δ ⇒ |f(x)−f(a)|<ε, √2≈1.41421",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ☕ 🇫🇷",
    "rare scripts": "ᚠᛇᚻ 𐍈𐌰𐌹 𓀀𓁐 ꦗꦮ ᎠᎡ ߒߞߏ",
    "private and unassigned": "\ue000 \U000f0000 \U0010fffd",
}
"""Name to text: many scripts, code, emoji, what no vocabulary has seen."""

_NUMBERS = ("1234567", "12345678", "20260131", "9876543210")


def is_kept(data: bytes, back: bytes) -> bool:
    """Whether a text came back, be it behind a space: some tokenizers put one before every text."""
    return back in (data, b" " + data)


def _comes_back(patient: Patient, data: bytes) -> bool:
    tokenizer = patient.tokenizer
    return is_kept(data, tokenizer.decode(tokenizer.encode(data, specials="text")))


def _claims_everything(patient: Patient) -> bool:
    """Whether nothing may change a text: byte-level, no normalizer, a token for every byte."""
    decoder = patient.components.get("decoder")
    byte_level = isinstance(decoder, dict) and decoder.get("type") == "ByteLevel"
    return byte_level and not patient.components.get("normalizer") and not missing_bytes(patient)


@check
def texts_come_back(patient: Patient) -> Iterator[Finding]:
    """Texts of many scripts, code and emoji come back as they were."""
    lost = [name for name, text in CORPUS.items() if not _comes_back(patient, text.encode())]
    if not lost:
        return
    broken = _claims_everything(patient)
    yield Finding(
        "texts_come_back",
        "error" if broken else "warning",
        "decode(encode(text))",
        f"{len(lost)} of {len(CORPUS)} probe texts come back changed: {', '.join(lost[:8])}"
        + (" ..." if len(lost) > 8 else ""),
        "the decoder does not undo the encoder: compare `decoder` with `pre_tokenizer`"
        if broken
        else "do not use this tokenizer where the text must be kept",
    )


@check
def nothing_is_normalized_away(patient: Patient) -> Iterator[Finding]:
    """Case, accents, white space and composition survive."""
    for name, text, severity in LOSSES:
        data = text.encode()
        tokenizer = patient.tokenizer
        back = tokenizer.decode(tokenizer.encode(data, specials="text"))
        if not is_kept(data, back):
            yield Finding(
                "nothing_is_normalized_away",
                "info" if severity == "info" else "warning",
                f"decode(encode([{one_line(data)}]))",
                f"{name}: comes back as [{one_line(back)}]",
            )


@check
def nothing_is_put_before_a_text(patient: Patient) -> Iterator[Finding]:
    """No space is put before a text and left there."""
    tokenizer = patient.tokenizer
    if tokenizer.decode(tokenizer.encode(b"a", specials="text")) == b" a":
        yield Finding(
            "nothing_is_put_before_a_text",
            "info",
            "decode(encode([a]))",
            "a space stands before the text that comes back",
            "join texts before they are encoded, not their ids",
        )


@check
def any_bytes_come_back(patient: Patient) -> Iterator[Finding]:
    """Bytes that are no text come back too."""
    lost = [byte for byte in range(256) if not _comes_back(patient, b"a" + bytes([byte]) + b"b")]
    lost = [byte for byte in lost if byte >= 0x80]  # those below are text; other checks say
    if lost or not _comes_back(patient, bytes(range(0x80, 0x100)) * 2):
        yield Finding(
            "any_bytes_come_back",
            "info",
            "decode(encode(bytes))",
            f"{len(lost)} of the 128 bytes above 7F do not survive outside UTF-8",
            "give it valid UTF-8 only",
        )


@check
def nothing_becomes_unk(patient: Patient) -> Iterator[Finding]:
    """No text becomes the unknown token."""
    unknown = set(patient.tokenizer.vocabulary.ids_of_role("unk"))
    if not unknown:
        return
    hit = [
        name
        for name, text in CORPUS.items()
        if unknown & set(patient.tokenizer.encode(text, specials="text").tolist())
    ]
    if hit:
        yield Finding(
            "nothing_becomes_unk",
            "warning",
            "unk",
            f"characters are lost in {len(hit)} of {len(CORPUS)} probe texts: {', '.join(hit[:8])}"
            + (" ..." if len(hit) > 8 else ""),
            "choose a vocabulary with byte fallback where these matter",
        )


@check
def words_at_the_start_are_plain(patient: Patient) -> Iterator[Finding]:
    """No space is put before a text."""
    tokenizer = patient.tokenizer
    ids = tokenizer.encode("hello", specials="text").tolist()
    token = tokenizer.vocabulary.token_bytes(ids[0]) if ids else None
    if token is not None and token.startswith(b" "):
        back = tokenizer.decode(ids)
        yield Finding(
            "words_at_the_start_are_plain",
            "info" if back == b"hello" else "warning",
            "encode('hello')",
            f"its first token is [{one_line(token)}]: a space is put before a text"
            + (" and taken off again" if back == b"hello" else " and stays there"),
            "ids of parts of a text, joined, are not the ids of the text",
        )


@check
def digits_are_grouped(patient: Patient) -> Iterator[Finding]:
    """Say how numbers are cut: digit by digit, in threes, or freely."""
    cuts = [_digit_lengths(patient, number) for number in _NUMBERS]
    if any(sum(lengths) != len(n) for lengths, n in zip(cuts, _NUMBERS, strict=True)):
        return  # digits become something else: other findings say so
    yield Finding("digits_are_grouped", "info", "encode('1234567')", digit_grouping(cuts))


def _digit_lengths(patient: Patient, number: str) -> list[int]:
    vocabulary = patient.tokenizer.vocabulary
    ids = patient.tokenizer.encode("x=" + number, specials="text").tolist()
    tokens = [(vocabulary.token_bytes(id) or b"") for id in ids]
    lengths = [sum(48 <= byte <= 57 for byte in token) for token in tokens]
    return [length for length in lengths if length]


def digit_grouping(cuts: list[list[int]]) -> str:
    """Return in words how numbers are cut, from the lengths of the groups of several numbers.

    >>> digit_grouping([[3, 3, 1], [3, 3, 2]])
    'numbers are cut in groups of three from the left: 331, 332'
    """
    shown = ", ".join("".join(map(str, lengths)) for lengths in cuts)
    if all(set(lengths) == {1} for lengths in cuts):
        return "numbers are cut digit by digit"
    if all(set(lengths[:-1]) <= {3} and lengths[-1] <= 3 for lengths in cuts):
        return f"numbers are cut in groups of three from the left: {shown}"
    if all(set(lengths[1:]) <= {3} and lengths[0] <= 3 for lengths in cuts):
        return f"numbers are cut in groups of three from the right: {shown}"
    return f"numbers are cut as they occur in the vocabulary: {shown}"
