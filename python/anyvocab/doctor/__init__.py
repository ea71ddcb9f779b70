"""Static checks of a tokenizer and of the model folder around it.

A check is a function that yields findings; `@check` registers it, and no list of checks is kept by
hand. Nothing is executed: templates are read as text, weights by their headers.
"""

from anyvocab.doctor import behaviour, chat, files, roles, rows, vocabulary
from anyvocab.doctor.registry import (
    Finding,
    Patient,
    Report,
    Severity,
    check_names,
    check_summaries,
    examine,
)

__all__ = [
    "Finding",
    "Patient",
    "Report",
    "Severity",
    "behaviour",
    "chat",
    "check_names",
    "check_summaries",
    "examine",
    "files",
    "roles",
    "rows",
    "vocabulary",
]
