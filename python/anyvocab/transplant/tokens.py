"""How every token's rows were made, one by one, as text."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from anyvocab.transplant.identity import Origin, token_table
from anyvocab.transplant.plan import Plan, SidePlan
from anyvocab.vocabulary import KINDS

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer
    from anyvocab.transplant.roles import ControlMap
    from anyvocab.vocabulary import Vocabulary

__all__ = ["ORIGINS", "origin_lines"]

ORIGINS: Final = "swap_tokens.jsonl"
SHOWN: Final = 16  # source rows of a combination; the plan's file has them all
DIGITS: Final = 7  # behind the point of a weight: float32 has no more


def origin_lines(target: Tokenizer, controls: ControlMap, plan: Plan) -> dict[str, bytes]:
    """Return JSON lines by file name: how the rows of every target id were made, ascending by id.

    A token's bytes are `text` where they are UTF-8, else `bytes` in hexadecimal digits; a control
    token has its `spelling`. `input` and `output` list source ids and weights, the heaviest first;
    neither is there where a row has none, and a tied plan has no `output`.
    """
    vocabulary = target.vocabulary
    size = len(vocabulary)
    kinds = {vocabulary.kind_code(kind): kind for kind in KINDS}
    origins = [origin.name.lower() for origin in Origin]
    reasons = {row.id: f',"reason":{_quoted(row.reason)}' for row in controls if row.reason}
    # Put together by hand: an encoder's set-up for each line takes longer than the line.
    lines = [
        f'{{"id":{id},"kind":"{kinds[kind]}",{name},"origin":"{origins[origin]}"'
        f"{first}{second}{reasons.get(id, '')}}}\n"
        for id, (kind, name, origin, first, second) in enumerate(
            zip(
                vocabulary.kinds().tolist(),
                _names(vocabulary),
                plan.input.origin[:size].tolist(),
                _sources("input", plan.input, size),
                [""] * size if plan.output is None else _sources("output", plan.output, size),
                strict=True,
            )
        )
    ]
    return {ORIGINS: "".join(lines).encode("utf-8", "surrogatepass")}


def _names(vocabulary: Vocabulary) -> list[str]:
    """Return what each id stands for, as a member of a JSON object."""
    names = []
    for id, token in enumerate(token_table(vocabulary)):
        if token is None:
            spelling = (vocabulary.spelling(id) or b"").decode("utf-8", "replace")
            names.append(f'"spelling":{_quoted(spelling)}')
            continue
        try:
            names.append(f'"text":{_quoted(token.decode("utf-8"))}')
        except UnicodeDecodeError:
            names.append(f'"bytes":"{token.hex()}"')
    return names


def _sources(side: str, plan: SidePlan, size: int) -> list[str]:
    """Return the source ids and weights of the first `size` rows; nothing for a row of nothing."""
    shown = plan.heaviest(SHOWN)
    # Few weights are different, and a float becomes text slowly. By their bits: -0.0 equals 0.0.
    bits, places = np.unique(shown.weights.view(np.int32), return_inverse=True)
    weights = [json.dumps(round(weight, DIGITS)) for weight in bits.view(np.float32).tolist()]
    pairs = [
        f"[{id},{weights[place]}]"
        for id, place in zip(shown.columns.tolist(), places.tolist(), strict=True)
    ]
    ends = shown.indptr[: size + 1].tolist()
    return [
        f',"{side}":[{",".join(pairs[start:end])}]' if start < end else ""
        for start, end in pairwise(ends)
    ]


_quoted = json.JSONEncoder(ensure_ascii=False).encode
