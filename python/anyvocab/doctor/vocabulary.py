"""What a vocabulary holds that will surprise somebody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from anyvocab.doctor.registry import Finding, Patient, check
from anyvocab.report.visible import one_line

SHOWN = 6
LONG = 128  # bytes
MANY = 0.01  # share of the ids


@check
def no_holes(patient: Patient) -> Iterator[Finding]:
    """Every id has a token."""
    holes = patient.tokenizer.vocabulary.holes().tolist()
    if holes:
        yield Finding(
            "no_holes",
            "info",
            f"ids {_some(holes)}",
            f"{len(holes)} ids have no token",
            "a model that gives one of them produces nothing: forbid them when sampling",
        )


@check
def bytes_are_unique(patient: Patient) -> Iterator[Finding]:
    """No two ids stand for the same bytes."""
    duplicates = patient.tokenizer.vocabulary.duplicates()
    if duplicates:
        shown = ", ".join(
            f"[{one_line(token, limit=16)}] {'='.join(map(str, ids[:4]))}"
            for token, ids in list(duplicates.items())[:SHOWN]
        )
        yield Finding(
            "bytes_are_unique",
            "info",
            "vocabulary",
            f"{len(duplicates)} byte strings have several ids: {shown}",
            "a score of one id is not the score of its bytes: sum over all of them",
        )


def missing_bytes(patient: Patient) -> list[int]:
    """Return the bytes without a token, without those that occur in no valid UTF-8."""
    vocabulary = patient.tokenizer.vocabulary
    in_text = (*range(0xC0), *range(0xC2, 0xF5))
    return [byte for byte in in_text if not len(vocabulary.ids_of(bytes([byte])))]


@check
def all_bytes_have_a_token(patient: Patient) -> Iterator[Finding]:
    """Every one of the 256 bytes has a token, so that any text can be written."""
    vocabulary = patient.tokenizer.vocabulary
    missing = [byte for byte in range(256) if not len(vocabulary.ids_of(bytes([byte])))]
    needed = missing_bytes(patient)
    if needed:
        shown = " ".join(f"{byte:02X}" for byte in needed[:16])
        more = " ..." if len(needed) > 16 else ""
        yield Finding(
            "all_bytes_have_a_token",
            "warning",
            "vocabulary",
            f"{len(needed)} of 256 bytes have no token: {shown}{more}",
            "text that needs them becomes unk or is dropped; use byte fallback or a byte-level "
            "vocabulary where that matters",
        )
    elif missing:
        yield Finding(
            "all_bytes_have_a_token",
            "info",
            "vocabulary",
            f"{len(missing)} bytes that occur in no valid UTF-8 have no token",
        )


@check
def no_empty_tokens(patient: Patient) -> Iterator[Finding]:
    """No token of text stands for nothing."""
    empty = patient.tokenizer.vocabulary.empty().tolist()
    if empty:
        yield Finding(
            "no_empty_tokens",
            "warning",
            f"ids {_some(empty)}",
            f"{len(empty)} tokens stand for no bytes",
            "a model can give them without end: forbid them when sampling",
        )


@check
def tokens_are_reachable(patient: Patient) -> Iterator[Finding]:
    """The tokenizer gives every token back for the token's own text."""
    vocabulary = patient.tokenizer.vocabulary
    unreachable = vocabulary.unreachable().tolist()
    if unreachable:
        many = len(unreachable) > MANY * len(vocabulary)
        shown = ", ".join(
            f"{id} [{one_line(vocabulary.token_bytes(id) or b'', limit=20)}]"
            for id in unreachable[:SHOWN]
        )
        yield Finding(
            "tokens_are_reachable",
            "warning" if many else "info",
            "vocabulary",
            f"{len(unreachable)} tokens are not what their own text becomes: {shown}",
            "their rows are hardly trained: do not use them as anchors"
            if many
            else "harmless where they occur inside longer texts",
        )


@check
def tokens_are_short(patient: Patient) -> Iterator[Finding]:
    """No token is longer than 128 bytes."""
    vocabulary = patient.tokenizer.vocabulary
    lengths = vocabulary.lengths()
    long = [id for id in (lengths > LONG).nonzero()[0].tolist() if vocabulary.kind(id) == "text"]
    if long:
        yield Finding(
            "tokens_are_short",
            "warning",
            f"ids {_some(long)}",
            f"{len(long)} tokens are longer than {LONG} bytes, up to {int(lengths.max())}",
            "they come from repeated text in the training corpus; look at them with "
            "`anyvocab inspect`",
        )


def _some(ids: Iterable[int]) -> str:
    listed = list(ids)
    shown = ", ".join(map(str, listed[:SHOWN]))
    return shown + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")
