"""Logits of tree nodes from vLLM: a request per node, its beginning out of the prefix cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab import errors
from anyvocab.backends._contexts import ContextTree, Node

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["VllmBackend"]

BATCH = 8  # requests at a time; vLLM makes a Python object of every log-probability of each


class VllmBackend:
    """A vLLM engine as a :class:`~anyvocab.backends.TokenBackend`.

    **This was written against vLLM's documented interface and tested with a stand-in for it; it
    was not run against vLLM itself.**

    Every node asked for is one request for one token with the log-probabilities of all tokens
    (`SamplingParams(max_tokens=1, logprobs=-1, detokenize=False)`), which serve as logits. vLLM
    keeps keys and values itself: with its prefix cache on, a request computes only what no
    earlier one has in whole blocks (16 tokens, by default). Nodes are asked in batches, shorter
    contexts first.

    The engine has to be made with `max_logprobs=-1` (vLLM allows 20 otherwise) and
    `logprobs_mode="raw_logprobs"` or `"raw_logits"` (the default is the former); :meth:`load` does
    so. vLLM hands over every log-probability as a Python object: at 128,000 tokens that takes
    longer than a small model's forward pass. For whole-vocabulary rows at speed, use
    `TransformersBackend`.

    Rows are float32[rows], on the CPU; a token for which vLLM gives no number raises.

    Args:
        llm: A `vllm.LLM`.
        batch: Requests at a time; each holds `rows` Python objects in memory.

    Raises:
        MissingExtra: vLLM is not installed.
        InvalidValue: `batch` is not positive.
    """

    def __init__(self, llm: Any, *, batch: int = BATCH) -> None:
        if batch < 1:
            raise errors.build(
                errors.InvalidValue, f"must be at least 1, got {batch}", field="batch"
            )
        # Temperature 1 and no cut-offs: they leave processed log-probabilities what they were.
        self._params = _import_vllm().SamplingParams(
            max_tokens=1, temperature=1.0, top_p=1.0, top_k=0, logprobs=-1, detokenize=False
        )
        config = llm.llm_engine.model_config
        self._llm = llm
        self._batch = batch
        self._rows = int(config.get_vocab_size())
        # The token that is sampled and thrown away takes a place too.
        self._tree = ContextTree(tokens=self._rows, max_context=int(config.max_model_len) - 1)

    @classmethod
    def load(cls, model: str, *, batch: int = BATCH, **options: Any) -> VllmBackend:
        """Return a backend for a new `vllm.LLM` with the settings that it needs.

        Args:
            model: A folder or a hub id.
            batch: As of the class.
            options: Further arguments of `vllm.LLM`; they overrule the settings.

        Raises:
            MissingExtra: vLLM is not installed.
        """
        settings = {
            "max_logprobs": -1,
            "logprobs_mode": "raw_logprobs",
            "enable_prefix_caching": True,
        }
        return cls(_import_vllm().LLM(model=model, **(settings | options)), batch=batch)

    @property
    def rows(self) -> int:
        """The length of a row."""
        return self._rows

    @property
    def max_context(self) -> int | None:
        """One less than the engine's `max_model_len`."""
        return self._tree.max_context

    def root(self, ids: Sequence[int]) -> int:
        """Return the node of a whole context."""
        return self._tree.root(ids)

    def extend(self, parent: int, token: int) -> int:
        """Return the node one token longer."""
        return self._tree.extend(parent, token)

    def logits(self, nodes: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the log-probabilities at every distinct node, shorter contexts first."""
        asked = sorted(self._tree.asked(nodes, empty="refused"), key=lambda node: node.depth)
        return self._tree.hold_while(asked, self._rows_of(asked))

    def release(self, node: int) -> None:
        """Give up one claim to a node. vLLM drops its keys and values when it needs the room."""
        self._tree.release(node)

    def close(self) -> None:
        """Forget the tree. The engine is the caller's and stays as it is."""
        self._tree.close()

    def _rows_of(self, asked: list[Node]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for at in range(0, len(asked), self._batch):
            part = asked[at : at + self._batch]
            prompts = [{"prompt_token_ids": self._tree.ids(node)} for node in part]
            outputs = self._llm.generate(prompts, self._params, use_tqdm=False)
            for node, output in zip(part, outputs, strict=True):
                yield node.handle, self._row(output.outputs[0].logprobs)

    def _row(self, logprobs: Any) -> NDArray[np.float32]:
        """Return one position's log-probabilities in the order of their ids."""
        found = logprobs[0] if logprobs else {}
        row = np.full(self._rows, np.nan, dtype=np.float32)
        for id, one in found.items():
            row[id] = one.logprob
        missing = int(np.isnan(row).sum())
        if missing:
            raise errors.build(
                errors.InvalidValue,
                f"vLLM gave no log-probability for {missing} of {self._rows} tokens",
                field="llm",
                fix="make the engine with max_logprobs=-1, or use VllmBackend.load",
            )
        return row


def _import_vllm() -> Any:
    try:
        return import_module("vllm")
    except ImportError as error:
        raise errors.build(
            errors.MissingExtra,
            "vLLM is not installed",
            field="llm",
            fix="pip install vllm, or use TransformersBackend",
        ) from error
