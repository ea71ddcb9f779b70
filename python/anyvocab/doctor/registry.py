"""Findings, the checks by name, and what is examined."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from anyvocab import Tokenizer
from anyvocab._source import read_declarations
from anyvocab.doctor.weights import Weights, read_weights
from anyvocab.roles import Declarations

__all__ = [
    "SEVERITIES",
    "Finding",
    "Patient",
    "Report",
    "Severity",
    "check",
    "check_names",
    "check_summaries",
    "examine",
]

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: The check's name.
        severity: `error`: something is broken; `warning`: it will surprise somebody; `info`: worth
            knowing.
        where: The file, field, ids or rows it is about.
        found: What is there.
        fix: How to mend it; empty where nothing needs mending.
    """

    check: str
    severity: Severity
    where: str
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Patient:
    """What is examined. Made by :meth:`of`.

    Attributes:
        tokenizer: The tokenizer, its roles read with the model's configurations.
        folder: The folder of the tokenizer's files; None for a single file or an object.
        model: The model's folder; None where there is none.
        given_rows: Rows of the embedding matrix as the caller says; None to read them.
    """

    tokenizer: Tokenizer
    folder: Path | None = None
    model: Path | None = None
    given_rows: int | None = None

    @classmethod
    def of(
        cls,
        tokenizer: Tokenizer,
        *,
        folder: Path | None = None,
        model: Path | None = None,
        rows: int | None = None,
    ) -> Patient:
        """Return a patient.

        Args:
            tokenizer: The tokenizer.
            folder: Where its files lie.
            model: Another folder for the model; `folder` when left out.
            rows: Rows of the embedding matrix, for a model that is not there.

        Raises:
            TokenizerFormatError: A configuration in `model` is malformed.
        """
        if model is not None and model != folder:
            declared = read_declarations(model)
            tokenizer = tokenizer.with_declarations(
                replace(
                    tokenizer.declarations,
                    config=declared.config,
                    generation_config=declared.generation_config,
                )
            )
        return cls(tokenizer, folder, model if model is not None else folder, rows)

    @property
    def declarations(self) -> Declarations:
        """What the files beside the tokenizer say."""
        return self.tokenizer.declarations

    @cached_property
    def components(self) -> Mapping[str, object]:
        """The pipeline as `tokenizer.json` spells it, without tables."""
        parsed = json.loads(self.tokenizer.components())
        return parsed if isinstance(parsed, dict) else {}

    @cached_property
    def weights(self) -> Weights | None:
        """What the headers of the model's weights say; None without a model folder."""
        return None if self.model is None else read_weights(self.model)


@dataclass(frozen=True)
class Report:
    """All findings, errors first.

    Attributes:
        findings: The findings.
        checks: The names of the checks that ran.
    """

    findings: tuple[Finding, ...]
    checks: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return not self.count("error")

    def count(self, severity: Severity) -> int:
        """Return how many findings have this severity."""
        return sum(finding.severity == severity for finding in self.findings)


_Check = Callable[[Patient], Iterator[Finding]]
_CHECKS: dict[str, _Check] = {}


def check(function: _Check) -> _Check:
    """Register a check under its function's name."""
    _CHECKS[function.__name__] = function
    return function


def check_names() -> tuple[str, ...]:
    """Return the names of all checks, in the order they run."""
    return tuple(_CHECKS)


def check_summaries() -> dict[str, str]:
    """Return name to what the check demands, in a line."""
    return {name: (one.__doc__ or "").strip().partition("\n")[0] for name, one in _CHECKS.items()}


def examine(patient: Patient) -> Report:
    """Run every check and return what they found, errors first."""
    findings = [finding for one in _CHECKS.values() for finding in one(patient)]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))  # stable
    return Report(tuple(findings), check_names())
