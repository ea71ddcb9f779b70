"""Ids against the rows of the model's matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from anyvocab.doctor.registry import Finding, Patient, check
from anyvocab.report.visible import one_line

__all__ = ["config_rows", "known_rows"]

SHOWN = 5


def config_rows(patient: Patient) -> int | None:
    """Return `vocab_size` of `config.json`, that of its text model where it has one."""
    config = patient.declarations.config
    text = config.get("text_config")
    for source in (text, config) if isinstance(text, Mapping) else (config,):
        rows = source.get("vocab_size")
        if isinstance(rows, int) and not isinstance(rows, bool) and rows >= 0:
            return rows
    return None


def known_rows(patient: Patient) -> tuple[int, str] | None:
    """Return the rows of the smallest matrix and who says so; None where nobody does."""
    if patient.given_rows is not None:
        return patient.given_rows, "--rows"
    matrices = patient.weights.matrices if patient.weights is not None else ()
    if matrices:
        least = min(matrices, key=lambda matrix: matrix.rows)
        return least.rows, f"{least.file}: {least.name}"
    rows = config_rows(patient)
    return None if rows is None else (rows, "config.json: vocab_size")


@check
def ids_have_rows(patient: Patient) -> Iterator[Finding]:
    """Every id has a row in the model's matrices."""
    known = known_rows(patient)
    if known is None:
        return
    rows, where = known
    vocabulary = patient.tokenizer.vocabulary
    beyond = vocabulary.ids_beyond(rows)
    used = [id for id in beyond if vocabulary.kind(id) != "hole"]
    if used:
        shown = ", ".join(
            f"{id} {one_line(vocabulary.spelling(id) or b'', limit=24)}" for id in used[:SHOWN]
        )
        more = f" and {len(used) - SHOWN} more" if len(used) > SHOWN else ""
        yield Finding(
            "ids_have_rows",
            "error",
            where,
            f"{len(used)} ids have no row, the matrix has {rows}: {shown}{more}",
            f"resize the model's embeddings to at least {len(vocabulary)} rows, or remove the "
            "added tokens",
        )
    padded = vocabulary.padded_rows(rows)
    if padded:
        yield Finding(
            "ids_have_rows",
            "info",
            where,
            f"{len(padded)} rows from {padded.start} on belong to no id (padding)",
        )


@check
def matrices_agree(patient: Patient) -> Iterator[Finding]:
    """The matrices and config.json name the same number of rows."""
    matrices = patient.weights.matrices if patient.weights is not None else ()
    declared = config_rows(patient)
    for matrix in matrices:
        if declared is not None and matrix.rows != declared:
            yield Finding(
                "matrices_agree",
                "error",
                f"{matrix.file}: {matrix.name}",
                f"{matrix.rows} rows, config.json says vocab_size {declared}",
                "make vocab_size the number of rows: the model does not load as it is",
            )
    if len({matrix.rows for matrix in matrices}) > 1:
        sizes = ", ".join(f"{matrix.name} {matrix.rows}" for matrix in matrices)
        yield Finding(
            "matrices_agree",
            "warning",
            "input and output matrix",
            f"their rows differ: {sizes}",
            "resize both to the same number of rows",
        )


@check
def weights_can_be_read(patient: Patient) -> Iterator[Finding]:
    """The headers of the weights are sound, and an index names files in its own folder."""
    if patient.weights is not None:
        for where, found, fix in patient.weights.problems:
            yield Finding("weights_can_be_read", "error", where, found, fix)
