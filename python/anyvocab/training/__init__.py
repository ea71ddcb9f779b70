"""Training of tokenizers: counting pretokens, and what is learnt from the counts."""

from __future__ import annotations

__all__: list[str] = []
