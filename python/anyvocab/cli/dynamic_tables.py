"""What `anyvocab dynamic` prints on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from anyvocab.cli.output import Output, printable

if TYPE_CHECKING:
    from anyvocab.dynamic.judged import Judged
    from anyvocab.dynamic.survey import Survey
    from anyvocab.report.dynamic_texts import Lengths
    from anyvocab.report.pieces import Cut

__all__ = ["print_judged", "print_survey"]

TOP = 10  # merges, new tokens
TEXTS = 40  # rows of lengths
SHARES = (0.25, 0.5, 0.75, 0.9, 1.0)


def print_survey(
    output: Output,
    found: Survey,
    cuts: Mapping[str, tuple[Cut, Cut]],
    lengths: Sequence[Lengths],
) -> None:
    """Print texts before and after, lengths, merges and new tokens."""
    _print_cuts(output, cuts)
    _print_lengths(output, found, lengths)
    total = found.total
    batches = "1 batch" if total.batches == 1 else f"{total.batches} batches"
    output.text(
        f"\n{total.merges} merges in {batches}, {total.new_tokens} new tokens in the texts; "
        f"every merge that the boundary lets would leave {total.attainable_reduction:.1%} fewer."
    )
    if total.batches > 1:
        output.text(f"{found.hit_rate:.1%} of a batch's new tokens had been in an earlier one.")
    if found.merges:
        _print_merges(output, found)
    if len(found.curve) > 2:
        unit = "merges in every batch" if total.batches > 1 else "merges"
        output.heading("What more merges give")
        output.table(
            ["of what all give", unit, "fewer tokens"],
            [
                [f"{share:.0%}", at := found.merges_for(share), f"{found.curve[at]:.1%}"]
                for share in SHARES
            ],
            numbers=[0, 1, 2],
        )


def _print_cuts(output: Output, cuts: Mapping[str, tuple[Cut, Cut]]) -> None:
    from anyvocab.report.terminal import has_colour, side_by_side

    for name, (before, after) in cuts.items():
        if not before.pieces:
            continue
        output.heading(printable(name))
        side_by_side(output.console, {"before": before, "after": after})
    if has_colour(output.console) and any(after.pieces for _, after in cuts.values()):
        output.text("\nMerged tokens are underlined.")


def _print_lengths(output: Output, found: Survey, lengths: Sequence[Lengths]) -> None:
    from anyvocab.report.terminal import bar

    output.heading("Tokens")
    shown: list[list[object]] = [
        [one.name, one.bytes, one.before, one.after, f"{1 - one.left:.1%}", bar(one.left, 16)]
        for one in lengths[:TEXTS]
    ]
    if len(lengths) > 1:
        total = found.total
        shown.append(
            [
                "all",
                int(total.bytes.sum()),
                total.base_tokens,
                total.tokens,
                f"{total.reduction:.1%}",
                bar(1 - total.reduction, 16),
            ]
        )
    output.table(["text", "bytes", "before", "after", "fewer", "left"], shown, numbers=[1, 2, 3, 4])
    if len(lengths) > TEXTS:
        output.text(f"and {len(lengths) - TEXTS} more texts; --html shows them")
    if len(found.rows) > 1:
        output.text(f"mean of the {len(found.rows)} rows: {found.mean_reduction:.1%} fewer")


def _print_merges(output: Output, found: Survey) -> None:
    from anyvocab.report.visible import one_line

    output.heading("Merges that saved most")
    output.table(
        ["left", "right", "replaced", "batches"],
        [
            [f"[{one_line(one.left)}]", f"[{one_line(one.right)}]", one.replaced, one.batches]
            for one in found.merges[:TOP]
        ],
        numbers=[2, 3],
    )
    if found.new_tokens:
        output.heading("New tokens by their uses")
        output.table(
            ["token", "uses", "batches", "first made of"],
            [
                [
                    f"[{one_line(one.token)}]",
                    one.uses,
                    one.batches,
                    " ".join(f"[{one_line(piece)}]" for piece in one.pieces),
                ]
                for one in found.new_tokens[:TOP]
            ],
            numbers=[1, 2],
        )


def print_judged(output: Output, judged: Judged) -> None:
    """Print bits per byte and time."""
    from anyvocab.report.dynamic_page import STEPS

    total = judged.total
    if total is not None:
        output.heading("Bits per byte behind a context that is merged or not (lower is better)")
        output.table(
            ["text", "bytes scored", "context fewer", "before", "after", "change"],
            [
                [
                    name,
                    one.base.scored_bytes,
                    f"{one.reduction:.1%}",
                    f"{one.base.bits_per_byte:.4f}",
                    f"{one.merged.bits_per_byte:.4f}",
                    f"{one.loss:+.4f}",
                ]
                for name, one in judged.listed.items()
            ],
            numbers=[1, 2, 3, 4, 5],
        )
        kept = f"; the last {judged.keep_last} of a context kept" if judged.keep_last else ""
        output.text(
            f"rows of new tokens: {judged.rows}; {judged.hit_rate:.1%} were in the cache{kept}"
        )
        output.heading("Time in ms, once, on this machine")
        sides = (total.base.seconds, total.merged.seconds)
        rows = [
            [STEPS.get(step, step), *(f"{1e3 * side[step]:.1f}" for side in sides)]
            for step in total.base.seconds
        ]
        rows.append(["all", *(f"{1e3 * sum(side.values()):.1f}" for side in sides)])
        output.table(["step", "before", "after"], rows, numbers=[1, 2])
    for note in judged.notes:
        output.text(printable(f"not scored: {note}"))
