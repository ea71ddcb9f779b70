"""Byte-level models inside other people's programs. Each module imports its program; this does not.

- :mod:`anyvocab.integrations.lm_eval`: a model for lm-evaluation-harness.
- :mod:`anyvocab.integrations.transformers`: `model.generate(..., custom_generate=...)` that goes on
  from the prompt's bytes.
"""

from __future__ import annotations

__all__: list[str] = []
