"""HumanEval-Infilling: middles that are judged by running the function they complete.

The data is that of Bavarian et al., arXiv:2207.14255 (single line, multi line, random span, random
span light), read from a file; none is shipped or downloaded. Each line has `task_id`, `prompt`,
`suffix`, `canonical_solution`, `test` and `entry_point`.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anyvocab import errors
from anyvocab.evaluate.infilling_sandbox import Outcome, SandboxLimits, run_program

if TYPE_CHECKING:
    import os

__all__ = ["Problem", "judge", "judge_all", "pass_at_k", "read_problems"]

_FIELDS: Final = ("task_id", "prompt", "suffix", "canonical_solution", "test", "entry_point")
_FILE_LIMIT: Final = 1 << 28  # bytes of a file, unpacked


@dataclass(frozen=True)
class Problem:
    """A function with a hole.

    Attributes:
        task_id: Its name.
        prefix: The file before the hole.
        suffix: The file behind it.
        solution: A middle that passes.
        test: Source that defines `check`.
        entry_point: The name of the function to check.
    """

    task_id: str
    prefix: str
    suffix: str
    solution: str
    test: str
    entry_point: str

    def program(self, middle: str | bytes) -> bytes:
        """Return the program that judges `middle`: it runs to its end exactly if it passes."""
        data = middle.encode("utf-8", "surrogatepass") if isinstance(middle, str) else middle
        judge = f"\n{self.test}\ncheck({self.entry_point})\n"
        before, after = (
            text.encode("utf-8", "surrogatepass") for text in (self.prefix, self.suffix + judge)
        )
        return before + data + after


def read_problems(place: str | os.PathLike[str], *, limit: int | None = None) -> list[Problem]:
    """Return the problems of a file, JSON lines, plain or packed by gzip.

    Args:
        place: The file.
        limit: How many are read; all when left out.

    Raises:
        SourceNotFound: There is no such file.
        InvalidValue: It is no such data.
        LimitExceeded: It is too long.
    """
    file = Path(place)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise errors.build(
            errors.SourceNotFound,
            error.strerror or str(error),
            field="problems",
            file=str(file),
            fix="give a HumanEval-Infilling file (.jsonl or .jsonl.gz)",
        ) from error
    found: list[Problem] = []
    for number, line in enumerate(_unpacked(data, file).splitlines(), 1):
        if limit is not None and len(found) >= limit:
            break
        if line.strip():
            found.append(_problem(line, f"line {number}", file))
    if not found:
        raise errors.build(errors.InvalidValue, "no problem in it", field="line 1", file=str(file))
    return found


def _unpacked(data: bytes, file: Path) -> bytes:
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
                data = packed.read(_FILE_LIMIT + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise errors.build(
                errors.InvalidValue, f"cannot be unpacked: {error}", field="gzip", file=str(file)
            ) from error
    if len(data) > _FILE_LIMIT:
        raise errors.build(
            errors.LimitExceeded, f"over {_FILE_LIMIT} bytes", field="problems", file=str(file)
        )
    return data


def _problem(line: bytes, field: str, file: Path) -> Problem:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise errors.build(
            errors.InvalidValue, f"no JSON: {error}", field=field, file=str(file)
        ) from error
    values = [entry.get(name) if isinstance(entry, Mapping) else None for name in _FIELDS]
    for name, value in zip(_FIELDS, values, strict=True):
        if not isinstance(value, str):
            raise errors.build(
                errors.InvalidValue,
                f"has no text {name!r}",
                field=field,
                file=str(file),
                fix=f"every line has {', '.join(_FIELDS)}",
            )
    return Problem(*(str(value) for value in values))


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Return the unbiased estimate of the chance that one of `k` samples passes.

    1 - C(n - c, k) / C(n, k) for c of n that passed: the share of all choices of k samples that
    hold one that passed.

    Source: Chen et al., arXiv:2107.03374, eq. 1.

    Raises:
        InvalidValue: `k` is not in 1..samples, or more passed than there are.

    >>> pass_at_k(10, 3, 1), round(pass_at_k(10, 3, 5), 4)
    (0.3, 0.9167)
    """
    if not 1 <= k <= samples:
        raise errors.build(
            errors.InvalidValue, f"must lie in 1..{samples}, got {k}", field="k", fix="sample more"
        )
    if not 0 <= passed <= samples:
        raise errors.build(
            errors.InvalidValue, f"{passed} of {samples} samples passed", field="passed"
        )
    choices = math.comb(samples, k)  # whole numbers of any size: rounded once, by the division
    return (choices - math.comb(samples - passed, k)) / choices


def judge(problem: Problem, middle: str | bytes, *, limits: SandboxLimits | None = None) -> Outcome:
    """Return what becomes of a problem's program with `middle` in its hole."""
    return run_program(problem.program(middle), limits=limits)


def judge_all(
    problems: Sequence[Problem],
    middles: Iterable[str | bytes],
    *,
    limits: SandboxLimits | None = None,
    workers: int = 1,
) -> list[Outcome]:
    """Return the outcome of each problem with its middle, in order.

    Args:
        problems: One for each middle.
        middles: What is put into the holes.
        limits: For each program.
        workers: How many run at once; more than there are cores makes programs meet the clock.

    Raises:
        InvalidValue: There are no workers.
    """
    if workers < 1:
        raise errors.build(
            errors.InvalidValue, f"must be at least 1, got {workers}", field="workers"
        )
    pairs = list(zip(problems, middles, strict=True))
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda pair: judge(*pair, limits=limits), pairs))
