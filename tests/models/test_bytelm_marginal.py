"""The marginal law on a text longer than its bound reaches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

import anyvocab
from anyvocab.bytelm import ByteLM


def test_a_text_is_not_lost_among_contexts_that_were_left_out_long_ago() -> None:
    text = (Path(anyvocab.__file__).parent / "errors.py").read_bytes()[300:500]
    local = ByteLM.load("pico:code-4k")
    marginal = ByteLM(local.backend, local.tokenizer, law="marginal")
    rows = marginal.next_byte_logprobs(text)
    assert np.isfinite(rows.max(axis=1)).all()
    assert np.isfinite(rows[np.arange(len(text)), list(text)]).all()
    # All covers weigh more than the canonical ones alone, as far as they were looked at.
    assert marginal.score(text) > ByteLM(local.backend, local.tokenizer, law="canonical").score(
        text
    )
