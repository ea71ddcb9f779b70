"""Inside other people's programs. Each module imports its program; this does not.

Byte-level models:

- :mod:`anyvocab.integrations.lm_eval`: a model for lm-evaluation-harness.
- :mod:`anyvocab.integrations.transformers`: `model.generate(..., custom_generate=...)` that goes on
  from the prompt's bytes.

Counting on many machines:

- :mod:`anyvocab.integrations.datatrove`: steps of a pipeline; the one to take.
- :mod:`anyvocab.integrations.ray`: a column of a Ray data set.
- :mod:`anyvocab.integrations.spark`: a column of a Spark data frame.
"""

from __future__ import annotations

__all__: list[str] = []
