"""What was written."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Completion"]


@dataclass(frozen=True)
class Completion:
    """What a model wrote behind a context.

    Attributes:
        bytes: The bytes, without the context.
        logprob: Their log-probability, in nats, under the model that wrote them, before temperature
            and truncation: of the bytes (END included where it was written) for `sample`, of the
            cover's share and the tokens behind it for `complete`.
        finish: `end`: the model ended the text; `stop`: a stop string came, which is cut off;
            `length`: the budget was used up.
        tokens: How many tokens the model was asked to write; 0 where it wrote bytes.
    """

    bytes: bytes
    logprob: float
    finish: str
    tokens: int = 0

    @property
    def text(self) -> str:
        """The bytes as text; what is not UTF-8 is replaced."""
        return self.bytes.decode("utf-8", "replace")

    def to_dict(self) -> dict[str, object]:
        """Return it as plain data for JSON; bytes that are not UTF-8 are escaped."""
        return {
            "text": self.bytes.decode("utf-8", "backslashreplace"),
            "logprob": self.logprob,
            "finish": self.finish,
            "tokens": self.tokens,
        }
