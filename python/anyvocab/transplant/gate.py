"""May this model have that tokenizer? Asked before anything is computed.

A check is a function that yields findings about a pair of tokenizers; `@_check` registers it.
`refuse` stands for harm that no choice of rows mends: text that cannot come back, ids without rows,
prompts that end before they begin. The caller raises it unless the user insists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

from anyvocab import errors
from anyvocab.doctor.behaviour import CORPUS, LOSSES, is_kept
from anyvocab.doctor.registry import Patient
from anyvocab.doctor.vocabulary import LONG, missing_bytes
from anyvocab.evaluate.tokens import compression
from anyvocab.report.visible import one_line

if TYPE_CHECKING:
    from anyvocab.tokenizer import Text, Tokenizer
    from anyvocab.vocabulary import Vocabulary

__all__ = ["DigitScheme", "GateFinding", "check", "digit_scheme", "enforce"]

Severity = Literal["refuse", "warn", "info"]
SEVERITIES: Final[tuple[Severity, ...]] = ("refuse", "warn", "info")
DigitScheme = Literal["single", "left triples", "right triples", "free", "lost"]

MUCH_LARGER: Final = 4  # times the ids of the source
SHOWN: Final = 5
# Longer than any whole-number token, of every remainder by three, first digits of all kinds.
LONG_NUMBERS: Final = tuple(
    ("9876543210" * 3)[start : start + length] for length in range(5, 14) for start in range(4)
)
# What of the doctor's probes is about white space, and what nobody can do without.
_WHITE_SPACE: Final = frozenset(
    {
        "runs of spaces",
        "line breaks and tabs",
        "carriage returns",
        "a space at the end",
        "a space at the start",
    }
)
_NEEDED: Final = frozenset({"upper case", "accents", "runs of spaces", "line breaks and tabs"})


@dataclass(frozen=True, slots=True)
class GateFinding:
    """What speaks against a pair of tokenizers.

    Attributes:
        code: The check's name, stable.
        severity: `refuse`: harm that rows cannot mend; `warn`: it costs quality; `info`: worth
            knowing.
        found: What is there.
        fix: What to do about it; empty where nothing needs doing.
    """

    code: str
    severity: Severity
    found: str
    fix: str = ""


@dataclass(frozen=True)
class _Pair:
    source: Tokenizer
    target: Tokenizer
    source_rows: int | None
    target_rows: int | None
    donor_rows: int | None
    context: int | None
    texts: Sequence[Text]

    @cached_property
    def source_losses(self) -> dict[str, str]:
        return _losses(self.source)

    @cached_property
    def target_losses(self) -> dict[str, str]:
        return _losses(self.target)


_Check = Callable[[_Pair], Iterator[GateFinding]]
_CHECKS: list[_Check] = []


def _check(function: _Check) -> _Check:
    _CHECKS.append(function)
    return function


def check(
    source: Tokenizer,
    target: Tokenizer,
    *,
    source_rows: int | None = None,
    target_rows: int | None = None,
    donor_rows: int | None = None,
    context: int | None = None,
    texts: Sequence[Text] = (),
) -> list[GateFinding]:
    """Return what speaks against giving `target` to the model of `source`, the worst first.

    Args:
        source: The model's own tokenizer.
        target: The new tokenizer.
        source_rows: Rows of the model's smaller vocabulary matrix.
        target_rows: Rows that the new matrices shall have.
        donor_rows: Rows of the matrices of a donor that has the target's vocabulary.
        context: How many tokens the model sees at once.
        texts: Texts of the model's use: what the new tokenizer makes of its context.
    """
    pair = _Pair(source, target, source_rows, target_rows, donor_rows, context, texts)
    findings = [finding for one in _CHECKS for finding in one(pair)]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))  # stable
    return findings


def enforce(findings: Sequence[GateFinding], *, force: bool = False) -> None:
    """Raise the first finding that refuses; do nothing when there is none, or with `force`.

    Raises:
        IncompatibleTokenizer: A finding refuses; the message has its reason, and how many there
            are.
    """
    refused = [finding for finding in findings if finding.severity == "refuse"]
    if refused and not force:
        more = f" (and {len(refused) - 1} more reasons)" if len(refused) > 1 else ""
        raise errors.build(
            errors.IncompatibleTokenizer,
            refused[0].found + more,
            field=refused[0].code,
            fix=f"{refused[0].fix}; or insist with force",
        )


@_check
def _ids_have_rows(pair: _Pair) -> Iterator[GateFinding]:
    for code, tokenizer, rows, fix in (
        (
            "source_ids_beyond_rows",
            pair.source,
            pair.source_rows,
            "this tokenizer does not belong to the model: give the one it was trained with",
        ),
        (
            "donor_ids_beyond_rows",
            pair.target,
            pair.donor_rows,
            "give the donor that was trained with this tokenizer",
        ),
        (
            "target_ids_beyond_rows",
            pair.target,
            pair.target_rows,
            f"ask for at least {len(pair.target.vocabulary)} rows",
        ),
    ):
        if rows is None:
            continue
        vocabulary = tokenizer.vocabulary
        beyond = [id for id in vocabulary.ids_beyond(rows) if vocabulary.kind(id) != "hole"]
        if beyond:
            found = f"{len(beyond)} ids have no row among {rows}: {_some(vocabulary, beyond)}"
            yield GateFinding(code, "refuse", found, fix)


@_check
def _text_comes_back(pair: _Pair) -> Iterator[GateFinding]:
    for name, _, doctor in LOSSES:
        back = pair.target_losses.get(name)
        if back is None:
            continue
        code = "white_space_lost" if name in _WHITE_SPACE else "normalizer_loss"
        found = f"{name}: {back}"
        if name in pair.source_losses:
            yield GateFinding(code, "info", f"{found}; the source loses it too")
            continue
        severity: Severity = "warn" if doctor == "warning" else "info"
        yield GateFinding(
            code,
            "refuse" if name in _NEEDED else severity,
            found,
            "the model cannot write it any more: choose a tokenizer that keeps it",
        )


def _losses(tokenizer: Tokenizer) -> dict[str, str]:
    """Return what does not come back, by the doctor's names; what becomes unk is told elsewhere."""
    vocabulary = tokenizer.vocabulary
    unknown = set(vocabulary.ids_of_role("unk"))
    missing = {bytes([byte]) for byte in missing_bytes(Patient(tokenizer))}
    losses: dict[str, str] = {}
    for name, text, _ in LOSSES:
        data = text.encode()
        ids = tokenizer.encode(data, specials="text").tolist()
        back = tokenizer.decode(ids)
        normalized = tokenizer.normalize(data)
        dropped = not unknown and any(byte in normalized for byte in missing)
        if not is_kept(data, back) and not unknown & set(ids) and not dropped:
            losses[name] = f"[{one_line(data)}] comes back as [{one_line(back)}]"
    return losses


@_check
def _every_byte_has_a_token(pair: _Pair) -> Iterator[GateFinding]:
    missing = missing_bytes(Patient(pair.target))
    if not missing:
        return
    unknown = set(pair.target.vocabulary.ids_of_role("unk"))
    hit = [
        name
        for name, text in CORPUS.items()
        if unknown & set(pair.target.encode(text, specials="text").tolist())
    ]
    shown = " ".join(f"{byte:02X}" for byte in missing[:SHOWN]) + " ..." * (len(missing) > SHOWN)
    found = f"{len(missing)} bytes have no token ({shown})"
    if len(missing_bytes(Patient(pair.source))) >= len(missing):
        yield GateFinding("bytes_without_token", "info", f"{found}; the source has no more of them")
    elif unknown:
        yield GateFinding(
            "bytes_without_token",
            "warn",
            f"{found}: text that needs them becomes unk, in {len(hit)} of {len(CORPUS)} probe "
            "texts",
            "choose a vocabulary with byte fallback where all text matters",
        )
    else:
        yield GateFinding(
            "bytes_without_token",
            "refuse",
            f"{found}, and there is no unk: text that needs them vanishes",
            "choose a byte-level vocabulary or one with byte fallback",
        )


@_check
def _texts_begin_and_end_alike(pair: _Pair) -> Iterator[GateFinding]:
    before, after = _around(pair.source)
    new_before, new_after = _around(pair.target)
    old, new = pair.source.vocabulary, pair.target.vocabulary
    if new_after and not after:
        yield GateFinding(
            "ends_every_text",
            "refuse",
            f"the target puts {_some(new, new_after)} behind every text, the source nothing: "
            "every prompt would be a finished text",
            "take it out of the target's post-processor",
        )
    if before and not new_before:
        yield GateFinding(
            "bos_differs",
            "warn",
            f"the source puts {_some(old, before)} before every text, the target nothing: the "
            "model has hardly seen a text without it",
            "add the target's begin token to its post-processor",
        )
    if new_before and not before:
        yield GateFinding(
            "bos_differs",
            "warn",
            f"the target puts {_some(new, new_before)} before every text, the source nothing",
            "take it out of the target's post-processor, or map it to what begins the model's "
            "documents",
        )


def _around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return what the post-processor puts before and behind a text."""
    plain = tokenizer.encode("a").tolist()
    full = tokenizer.encode("a", add_special_tokens=True).tolist()
    for at in range(len(full) - len(plain) + 1):
        if full[at : at + len(plain)] == plain:
            return full[:at], full[at + len(plain) :]
    return [], []


@_check
def _something_ends_a_text(pair: _Pair) -> Iterator[GateFinding]:
    ends = pair.source.vocabulary.ids_of_role("eos")
    if ends and not pair.target.vocabulary.ids_of_role("eos"):
        yield GateFinding(
            "no_end",
            "warn",
            f"the source ends texts with {_some(pair.source.vocabulary, ends)}, no token of the "
            "target does: generation never ends",
            "add an end token to the target and declare it as eos_token",
        )


@_check
def _words_begin_alike(pair: _Pair) -> Iterator[GateFinding]:
    old, new = _prefix_space(pair.source), _prefix_space(pair.target)
    if old != new:
        who = "the target puts a space before every text, the source does not"
        if old:
            who = "the source puts a space before every text, the target does not"
        yield GateFinding(
            "prefix_space",
            "info",
            who,
            "prompts begin with other tokens; begin a prompt with a space where that matters"
            if old
            else "join texts before they are encoded, not their ids",
        )


def _prefix_space(tokenizer: Tokenizer) -> bool:
    ids = tokenizer.encode("hello", specials="text").tolist()
    token = tokenizer.vocabulary.token_bytes(ids[0]) if ids else None
    return token is not None and token.startswith(b" ")


@_check
def _digits_are_grouped_alike(pair: _Pair) -> Iterator[GateFinding]:
    old, new = digit_scheme(pair.source), digit_scheme(pair.target)
    if old != new:
        yield GateFinding(
            "digits_differ",
            "warn",
            f"digits are grouped in another way: {old} in the source, {new} in the target",
            "the model's arithmetic suffers until it is trained again; choose a tokenizer that "
            "groups digits as the source does where numbers matter",
        )
    else:
        yield GateFinding("digits_alike", "info", f"digits are grouped as before: {new}")


def digit_scheme(tokenizer: Tokenizer) -> DigitScheme:
    """Return how numbers are cut, seen on 0..9999 and on numbers of 5 to 13 digits.

    `single`: digit by digit; `left triples`: threes from the left, the rest behind; `right
    triples`: threes from the right, the rest in front; `free`: as tokens happen to exist; `lost`:
    digits become something else.
    """
    numbers = [*map(str, range(10_000)), *LONG_NUMBERS]
    vocabulary = tokenizer.vocabulary
    digits: dict[int, int] = {}
    cuts: list[list[int]] = []
    # Behind a character that is no digit and no letter: no token of words takes part.
    batch = tokenizer.encode_batch([f"={n}" for n in numbers], specials="text", threads=1)
    for ids in batch.to_list():
        for id in ids:
            if id not in digits:
                token = vocabulary.token_bytes(id) or b""
                digits[id] = sum(48 <= byte <= 57 for byte in token)
        cuts.append([digits[id] for id in ids if digits[id]])
    if any(sum(cut) != len(number) for cut, number in zip(cuts, numbers, strict=True)):
        return "lost"
    if all(max(cut) == 1 for cut in cuts):
        return "single"
    if all(set(cut[:-1]) <= {3} and cut[-1] <= 3 for cut in cuts):
        return "left triples"
    if all(set(cut[1:]) <= {3} and cut[0] <= 3 for cut in cuts):
        return "right triples"
    return "free"


@_check
def _tokens_are_ordinary(pair: _Pair) -> Iterator[GateFinding]:
    vocabulary = pair.target.vocabulary
    duplicates = vocabulary.duplicates()
    if duplicates:
        shown = ", ".join(f"[{one_line(token, limit=16)}]" for token in list(duplicates)[:SHOWN])
        yield GateFinding(
            "duplicated_bytes",
            "info",
            f"{len(duplicates)} byte strings have several ids: {shown}; they get equal rows",
        )
    lengths = vocabulary.lengths()
    long = [id for id in (lengths > LONG).nonzero()[0].tolist() if vocabulary.kind(id) == "text"]
    if long:
        yield GateFinding(
            "long_tokens",
            "warn",
            f"{len(long)} tokens are longer than {LONG} bytes, up to {int(lengths.max())}",
            "their rows say little about what they spell: leave them out when you train the "
            "tokenizer",
        )


@_check
def _sizes_are_near(pair: _Pair) -> Iterator[GateFinding]:
    old, new = len(pair.source.vocabulary), len(pair.target.vocabulary)
    if new > MUCH_LARGER * old:
        yield GateFinding(
            "much_larger",
            "warn",
            f"{new} ids, {new / old:.1f} times the source's {old}: most rows are guesses from few",
            "plan to train the new rows, or choose a smaller vocabulary",
        )


@_check
def _context_in_bytes(pair: _Pair) -> Iterator[GateFinding]:
    texts = [text for text in pair.texts if text]
    if not texts:
        return
    old, new = (compression(one, texts).bytes_per_token for one in (pair.source, pair.target))
    found = f"a token stands for {new:.2f} bytes of the given texts, before {old:.2f}"
    if pair.context is not None:
        found += f"; a context of {pair.context} tokens for {new * pair.context:,.0f} bytes, "
        found += f"before {old * pair.context:,.0f}"
    yield GateFinding(
        "context_in_bytes",
        "warn" if new < 0.8 * old else "info",  # a fifth of the context gone is felt
        found,
        "the model sees less of a text at once" if new < old else "",
    )


def _some(vocabulary: Vocabulary, ids: Sequence[int]) -> str:
    shown = ", ".join(
        f"{id} {one_line(vocabulary.spelling(id) or b'', limit=24)}" for id in ids[:SHOWN]
    )
    return shown + (f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")
