"""What a hypernetwork's folder says of it to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyvocab.hypernet.folder import Card

__all__ = ["readme"]


def readme(card: Card) -> str:
    """Return the README.md of a hypernetwork's folder."""
    name = card.model or "its model"
    sides = "one row for both sides" if card.tied else "one row for reading and one for writing"
    lines = [
        f"# A hypernetwork for {name}",
        "",
        f"It predicts the rows of any tokenizer's tokens from the rows of {name}: {sides}.",
        "",
        "```bash",
        f"anyvocab hypernet transfer {card.model or 'MODEL'} TOKENIZER OUT --hypernet THIS_FOLDER",
        "```",
        "",
        f"- kind: {card.kind}",
        f"- rows of the source: {card.rows:,}",
    ]
    before = card.trained.get("before")
    if card.trained:
        parts = ", ".join(
            f"{part} ({size:,} bytes)" for part, size in card.trained.get("corpus", {}).items()
        )
        lines.append(
            f"- trained: {card.trained.get('steps', 0):,} steps, "
            f"{card.trained.get('tokens', 0):,} targets, "
            f"{card.trained.get('seconds', 0):,} seconds, on {parts or 'a corpus'}"
        )
        if before:
            lines.append(
                f"- before that, from nothing: {before['steps']:,} steps, {before['tokens']:,} "
                f"targets, {before['seconds']:,} seconds"
            )
    else:
        lines.append("- not trained: it predicts the mean of a token's pieces")
    numbers = [one for one in card.measured if "bits_per_byte" in one]
    if numbers:
        first, last, since = numbers[0]["bits_per_byte"], numbers[-1]["bits_per_byte"], "training"
        if before and before.get("window") == card.trained.get("options", {}).get("window"):
            first = before.get("bits_per_byte", first)
        elif before:  # texts were read in other windows then, and the numbers do not compare
            since = "this run"
        lines.append(
            f"- held-out text under sampled tokenizers: {first:.4f} bits per byte before {since}, "
            f"{last:.4f} after"
        )
    merged = [one["merged"] for one in card.measured if one.get("merged") is not None]
    if merged:
        lines.append(
            f"- what merging costs on held-out text (dynamic tokenization): {merged[0]:.4f} bits "
            f"per byte before training, {merged[-1]:.4f} after"
        )
    return "\n".join(lines) + "\n"
