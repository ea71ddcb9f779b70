"""The page of `anyvocab swap --report`, in the order of the questions a reader has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from anyvocab.report.page import page
from anyvocab.transplant.report.controls import chat_section, control_section
from anyvocab.transplant.report.headline import headline, judgement
from anyvocab.transplant.report.measured import (
    compression_section,
    domain_section,
    greedy_section,
    split_section,
)
from anyvocab.transplant.report.rows import row_section
from anyvocab.transplant.report.tokens import script, token_table
from anyvocab.transplant.report.work import choice_section, work_section

if TYPE_CHECKING:
    from anyvocab.transplant.result import SwapReport

__all__ = ["swap_page"]


def swap_page(report: SwapReport) -> str:
    """Return the page: one file that loads nothing, with a table of all tokens to search.

    Parts for which nothing was measured are left out. Without scripts it shows everything but that
    table, of which it shows the first rows that matter. About 4 MB for 128,000 tokens.

    Args:
        report: What :func:`anyvocab.swap` returned.
    """
    from anyvocab._core import __version__

    table = token_table(report)
    parts = [
        headline(report),
        judgement(report),
        domain_section(report),
        split_section(report),
        table,
        row_section(report),
        control_section(report),
        chat_section(report),
        compression_section(report),
        choice_section(report),
        greedy_section(report),
        work_section(report),
    ]
    name = report.model if report.out is None else Path(report.out).name
    return page(
        f"{name}: a tokenizer swap",
        [part for part in parts if part],
        made_by=f"anyvocab {__version__}, anyvocab swap",
        script=script() if table else "",
    )
