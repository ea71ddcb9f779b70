"""The marginal law on a text longer than its bound reaches."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from anyvocab.bytelm import ByteLM

TEXTS = {
    "code": b"""annotations

from collections.abc import Sequence
from typing import TypeVar

try:
    from anyvocab._core import Fault
except ImportError as error:  # pragma: no cover
    raise SystemExit from error
""",
    "no text": b"q9x_zz\xff\xfe~~ \xc3\xa9 kdfj 3.14e-77 QWERTYUIOPvlarm!!####",
    "another language": "Der schnelle Fuchs \u4f60\u597d springt ".encode() * 2,
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_not_lost_among_contexts_that_were_left_out_long_ago(name: str) -> None:
    text = TEXTS[name]
    local = ByteLM.load("pico:code-4k")
    marginal = ByteLM(local.backend, local.tokenizer, law="marginal")
    rows = marginal.next_byte_logprobs(text)
    assert np.isfinite(rows.max(axis=1)).all()
    assert np.isfinite(rows[np.arange(len(text)), list(text)]).all()
    # All covers weigh more than the canonical ones alone, which are always looked at.
    assert marginal.score(text) > ByteLM(local.backend, local.tokenizer, law="canonical").score(
        text
    )
