"""When merging ends: the options that every call that merges has, written once."""

from __future__ import annotations

from fractions import Fraction
from numbers import Real
from typing import Literal, NamedTuple, TypedDict, get_args

from anyvocab import errors

__all__ = ["MAX_TOKEN_BYTES", "Limits", "Stops", "Target", "Unreached", "limits"]

Unreached = Literal["raise", "keep"]

MAX_TOKEN_BYTES = 4096
"""Longest token of a merge unless said otherwise: it bounds the work on one endless pretoken."""

_NO_LIMIT = (1 << 64) - 1


class Stops(TypedDict, total=False):
    """The options, as keywords. Without one of the first five, all that may merge does.

    Attributes:
        max_merges: Most merges.
        reduction: Stop at the first merge by which this share of the base tokens is gone: 0.2
            leaves at most 80 % of them. One of the three targets at most.
        attainable: Stop at the first merge by which this share of the reduction that the boundary
            allows is reached: 1.0 is all of it.
        target_length: Stop at the first merge by which the whole batch has no more tokens.
        min_count: Least occurrences of a pair that is merged; 1, as published, when left out.
        max_token_bytes: Longest token that a merge makes, in bytes; `MAX_TOKEN_BYTES` when left
            out.
        transition: With boundary `"superword"`, and needed there: how many merges stay inside
            pretokens before they may cross them.
        unreached: What happens when `reduction` or `target_length` is not reached though nothing
            is left to merge: `"raise"`, or `"keep"` what there is.
    """

    max_merges: int | None
    reduction: float | None
    attainable: float | None
    target_length: int | None
    min_count: int
    max_token_bytes: int
    transition: int | None
    unreached: Unreached


class Target(NamedTuple):
    """How many tokens are enough, as the core takes it, and how the caller said it."""

    kind: str
    parts: int
    of: int
    said: str = ""


class Limits(NamedTuple):
    """Stops that were checked, as the core takes them."""

    transition: int
    max_merges: int
    target: Target
    min_count: int
    max_token_bytes: int
    unreached: Unreached


def limits(
    boundary: str,
    *,
    max_merges: int | None = None,
    reduction: float | None = None,
    attainable: float | None = None,
    target_length: int | None = None,
    min_count: int = 1,
    max_token_bytes: int = MAX_TOKEN_BYTES,
    transition: int | None = None,
    unreached: Unreached = "raise",
) -> Limits:
    """Return what :class:`Stops` says, checked.

    Raises:
        InvalidValue: An option is out of its range or contradicts another.
    """
    begins = _transition(boundary, transition)
    target = _target(reduction, attainable, target_length)
    _at_least(0, max_merges=max_merges)
    _at_least(1, min_count=min_count, max_token_bytes=max_token_bytes)
    errors.check_choice("unreached", unreached, get_args(Unreached))
    return Limits(
        min(begins, _NO_LIMIT),
        _NO_LIMIT if max_merges is None else min(max_merges, _NO_LIMIT),
        target,
        min(min_count, (1 << 32) - 1),
        min(max_token_bytes, _NO_LIMIT),
        unreached,
    )


def _transition(boundary: str, transition: int | None) -> int:
    if boundary != "superword" and transition is not None:
        raise errors.build(
            errors.InvalidValue,
            f'boundary="{boundary}" has no transition',
            field="transition",
            fix='leave it out, or use boundary="superword"',
        )
    if boundary == "superword" and transition is None:
        raise errors.build(
            errors.InvalidValue,
            "merges across pretokens begin at some merge",
            field="transition",
            fix="say after how many; 0 is at once",
        )
    _at_least(0, transition=transition)
    return transition or 0


def _target(reduction: float | None, attainable: float | None, target_length: int | None) -> Target:
    given = {
        "reduction": reduction,
        "attainable": attainable,
        "target_length": target_length,
    }
    said = {name: value for name, value in given.items() if value is not None}
    if len(said) > 1:
        raise errors.build(
            errors.InvalidValue,
            f"{' and '.join(f'{name}={value}' for name, value in said.items())} are different "
            "targets",
            field=list(said)[1],
            fix="give one of them",
        )
    if target_length is not None:
        _at_least(0, target_length=target_length)
        return Target("tokens", min(target_length, _NO_LIMIT), 1, f"target_length={target_length}")
    if reduction is not None:
        return Target("of_base", *_share("reduction", reduction), f"reduction={reduction}")
    if attainable is not None:
        return Target("of_open", *_share("attainable", attainable))
    return Target("none", 0, 1)


def _share(field: str, value: object) -> tuple[int, int]:
    """Return a share as numerator and denominator: 0.1 is a tenth, as it is written."""
    if not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise errors.build(
            errors.InvalidValue,
            f"must be a share, 0 to 1, got {value!r}",
            field=field,
            fix="20 % is 0.2",
        )
    return Fraction(str(float(value))).limit_denominator(10**15).as_integer_ratio()


def _at_least(least: int, **options: int | None) -> None:
    for field, value in options.items():
        if value is not None and value < least:
            raise errors.build(
                errors.InvalidValue,
                f"must be at least {least}, got {value}",
                field=field,
                fix="leave it out for the default",
            )
