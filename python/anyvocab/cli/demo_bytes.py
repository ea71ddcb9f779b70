"""The part of the demo that asks tokenized models for bytes: prompts, a middle, an ensemble."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyvocab.cli.output import Output

if TYPE_CHECKING:
    from anyvocab import ByteLM, Infill
    from anyvocab.cli.ensemble import Row

__all__ = ["BytesShown", "document", "measure", "print_bytes"]

# Prompts that end inside a token: where people stop typing, and where a template's text ends.
PROMPTS = (
    b"def f(x):\n    return ",
    b"raise ValueE",
    b"from functools imp",
    b"def main():\n    parser = argparse.Argumen",
)
NEW_TOKENS = 4
HOLE = (b"def area(width, height):\n    return wid", b" * height\n")
HOLE_TOKENS = 12
SCORED = 512  # bytes of each text: seconds on one core


@dataclass(frozen=True)
class Prompted:
    """What is written behind a prompt from its bytes, and from its own tokens."""

    prompt: bytes
    by_bytes: bytes
    by_tokens: bytes


@dataclass(frozen=True)
class BytesShown:
    """What the demo shows of bytes.

    Attributes:
        prompts: Continuations of prompts.
        middles: One hole, by mode; empty where the model was not trained to fill one.
        scores: Bits per byte of each model and of all of them together.
        scored: How many bytes were scored.
    """

    prompts: tuple[Prompted, ...]
    middles: tuple[Infill, ...]
    scores: tuple[Row, ...]
    scored: int


def measure(output: Output, sources: Mapping[str, object], texts: Mapping[str, str]) -> BytesShown:
    """Return what models say of bytes.

    Args:
        output: Where progress goes.
        sources: Name to model; the first one writes.
        texts: Held-out texts.
    """
    from anyvocab import ByteLM, Ensemble
    from anyvocab.cli.ensemble import score_ensemble
    from anyvocab.evaluate import Domain

    output.progress(f"{', '.join(sources)}: asked for bytes ...")
    members = [ByteLM.load(source) for source in sources.values()]
    heads = tuple(text.encode()[:SCORED] for text in texts.values())
    scores = score_ensemble(
        output,
        Ensemble(members),
        list(sources),
        [Domain("held out", heads)],
        window=_window(members),
        block=SCORED,
    )
    return BytesShown(
        tuple(_prompted(members[0])),
        _middles(members[0]),
        tuple(scores),
        sum(map(len, heads)),
    )


def _window(members: Sequence[ByteLM]) -> int:
    """Return bytes that every model takes at once, even if each of them is a token."""
    limits = [one.backend.max_context for one in members]
    # A few ids stand before a text, and a context may be a token longer than its bytes.
    return min([2 * SCORED, *(limit - 8 for limit in limits if limit is not None)])


def _prompted(lm: ByteLM) -> Iterator[Prompted]:
    """Yield continuations of the prompts, those left out that no tokens of the model spell."""
    from anyvocab.bytelm.baselines import context_ids, generate

    for prompt in PROMPTS:
        if lm.start(prompt).log_mass == -math.inf:  # a normalizer that joins spaces, say
            continue
        plain = generate(lm, context_ids(lm, prompt), ends=lm.ends, max_new_tokens=NEW_TOKENS)
        yield Prompted(prompt, lm.complete(prompt, max_new_tokens=NEW_TOKENS).bytes, plain.bytes)


def _middles(lm: ByteLM) -> tuple[Infill, ...]:
    from anyvocab import errors, infill

    prefix, suffix = HOLE
    try:
        return (
            infill(lm, prefix, suffix, template="spm", max_new_tokens=HOLE_TOKENS),
            infill(lm, prefix, suffix, template="spm", max_new_tokens=HOLE_TOKENS, mode="tokens"),
        )
    except (errors.UnsupportedTokenizer, errors.InvalidValue):  # no marks, or of another order
        return ()


def print_bytes(output: Output, name: str, shown: BytesShown) -> None:
    """Print the three parts."""
    from anyvocab.report.visible import one_line

    output.heading(f"Prompts that end inside a token, gone on with by {name}")
    output.table(
        ["prompt", "from its bytes", "from its tokens"],
        [
            [
                f"{one_line(_last_line(one.prompt))}▏",
                one_line(one.by_bytes),
                one_line(one.by_tokens),
            ]
            for one in shown.prompts
        ],
    )
    output.text("")
    output.text(
        "A prompt's own tokens say that a token ends where the prompt ends; its bytes do not."
    )
    if shown.middles:
        prefix, suffix = HOLE
        output.heading("The middle of a line")
        output.table(
            ["", "before", "middle", "behind"],
            [
                [
                    f"from its {one.mode}",
                    one_line(_last_line(prefix)).lstrip(),
                    one_line(one.bytes),
                    one_line(suffix),
                ]
                for one in shown.middles
            ],
        )
    output.heading(f"Two vocabularies, one model: bits per byte of {shown.scored:,} unseen bytes")
    output.table(
        ["model", "bits per byte"],
        [[row.name, f"{row.bits_per_byte:.3f}"] for row in shown.scores],
        numbers=[1],
    )


def _last_line(text: bytes) -> bytes:
    return text[text.rfind(b"\n") + 1 :]


def document(shown: BytesShown | None) -> dict[str, object] | None:
    """Return the same for JSON."""
    if shown is None:
        return None
    return {
        "prompts": [
            {
                "prompt": one.prompt.decode(),
                "from_bytes": one.by_bytes.decode("utf-8", "backslashreplace"),
                "from_tokens": one.by_tokens.decode("utf-8", "backslashreplace"),
            }
            for one in shown.prompts
        ],
        "middles": [
            {"prefix": HOLE[0].decode(), "suffix": HOLE[1].decode(), **one.to_dict()}
            for one in shown.middles
        ],
        "scored_bytes": shown.scored,
        "bits_per_byte": {row.name: round(row.bits_per_byte, 4) for row in shown.scores},
    }
