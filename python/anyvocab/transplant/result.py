"""What a swap did and what it cost, for people and machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer
    from anyvocab.transplant.auto import Choice
    from anyvocab.transplant.gate import GateFinding
    from anyvocab.transplant.plan import Plan
    from anyvocab.transplant.roles import ControlMap
    from anyvocab.transplant.row_statistics import RowStatistics

__all__ = ["FORMAT_VERSION", "Check", "SwapReport", "Verification"]

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Check:
    """One thing that was looked at in the finished model.

    Attributes:
        name: What.
        ok: Whether it is as it must be; None where it could not be looked at.
        found: What was there, in words.
    """

    name: str
    ok: bool | None
    found: str


@dataclass(frozen=True)
class Verification:
    """The finished model, loaded in a process of its own.

    Attributes:
        checks: What was looked at.
        evaluation: Bits per byte before and after, as `anyvocab eval --json` gives them; None
            where there was no text to judge by.
        seconds: How long it took.
    """

    checks: tuple[Check, ...]
    evaluation: Mapping[str, Any] | None
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(check.ok is not False for check in self.checks)


@dataclass(frozen=True)
class SwapReport:
    """Everything about one swap.

    Attributes:
        model: The model, as the caller named it.
        tokenizer: The tokenizer, likewise.
        out: The new folder; None after a dry run.
        source_ids: Ids of the old vocabulary.
        target_ids: Ids of the new one.
        rows: Rows of the new matrices, padding included.
        tied: Whether they are one.
        was_tied: Whether they were.
        strategies: Side to strategy and its options.
        choice: How the strategies were chosen; None where the caller named them.
        counts: Side to origin to rows.
        findings: What the gate found.
        controls: What control tokens take.
        chat: What became of the chat template.
        notes: What the user ought to know.
        plan: The plan itself.
        corpus: Where calibration and judgement come from, in words.
        compression: Domain to bytes per token before and after.
        files: Name to how each weights file came about.
        bytes: Bytes of all weights files.
        written: Bytes that were written.
        verification: What was found in the finished model; None where it was not looked at.
        seconds: Stage to how long it took.
        peak_bytes: The process's largest memory, where the system tells.
        row_statistics: Side to lengths and directions of its rows; empty where they were not
            looked at.
        ends: Ids that end generation.
        source: The old tokenizer.
        target: The new one.
    """

    model: str
    tokenizer: str
    out: Path | None
    source_ids: int
    target_ids: int
    rows: int
    tied: bool
    was_tied: bool
    strategies: Mapping[str, Mapping[str, Any]]
    choice: Choice | None
    counts: Mapping[str, Mapping[str, int]]
    findings: Sequence[GateFinding]
    controls: ControlMap
    chat: str
    notes: Sequence[str]
    plan: Plan
    corpus: str = ""
    compression: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    bytes: int = 0
    written: int = 0
    verification: Verification | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_bytes: int | None = None
    row_statistics: Mapping[str, RowStatistics] = field(default_factory=dict)
    ends: tuple[int, ...] = ()
    source: Tokenizer | None = None
    target: Tokenizer | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing that was verified failed."""
        return self.verification is None or self.verification.ok

    def bits_per_byte(self) -> tuple[float, float] | None:
        """Return bits per byte before and after over all domains; None where not measured."""
        if self.verification is None or self.verification.evaluation is None:
            return None
        models = self.verification.evaluation["models"]
        return float(models[0]["bits_per_byte"]), float(models[1]["bits_per_byte"])

    def to_dict(self) -> dict[str, Any]:
        """Return the report without the plan and the tokenizers, ready for JSON."""
        choice = self.choice
        verification = self.verification
        return {
            "format_version": FORMAT_VERSION,
            "model": self.model,
            "tokenizer": self.tokenizer,
            "out": None if self.out is None else str(self.out),
            "source_ids": self.source_ids,
            "target_ids": self.target_ids,
            "rows": self.rows,
            "tied": self.tied,
            "was_tied": self.was_tied,
            "strategies": {side: dict(what) for side, what in self.strategies.items()},
            "choice": None
            if choice is None
            else {
                "strategies": dict(choice.strategies),
                "reason": choice.reason,
                "hidden_rows": [asdict(one) for one in choice.fidelities],
                "trials": [asdict(one) for one in choice.trials],
            },
            "counts": {side: dict(found) for side, found in self.counts.items()},
            "gate": [asdict(one) for one in self.findings],
            "control_tokens": [
                {
                    "id": row.id,
                    "spelling": row.spelling,
                    "roles": list(row.roles),
                    "sources": list(row.sources),
                    "rule": row.rule,
                    "reason": row.reason,
                }
                for row in self.controls
            ],
            "chat": self.chat,
            "notes": list(self.notes),
            "corpus": self.corpus,
            "ends": list(self.ends),
            "row_norms": {
                side: found.summary(self.plan.side("output" if side == "output" else "input"))
                for side, found in self.row_statistics.items()
            },
            "bytes_per_token": {
                name: {"before": before, "after": after}
                for name, (before, after) in self.compression.items()
            },
            "files": dict(self.files),
            "bytes": self.bytes,
            "written": self.written,
            "verification": None
            if verification is None
            else {
                "ok": verification.ok,
                "checks": [asdict(one) for one in verification.checks],
                "evaluation": verification.evaluation,
                "seconds": round(verification.seconds, 3),
            },
            "seconds": {stage: round(value, 3) for stage, value in self.seconds.items()},
            "peak_bytes": self.peak_bytes,
        }
