"""The card of a pico model, written from its `metrics.json` alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .optim import OptimConfig
from .train import TrainConfig

TOKENIZERS = {
    "code-4k": (
        "Byte-level BPE with Llama 3's split pattern; {vocab} ids, the five special tokens last. "
        "`<|endoftext|>` begins, ends and pads; `<|fim_prefix|>`, `<|fim_suffix|>`, "
        "`<|fim_middle|>` and `<|fim_pad|>` carry Qwen-Coder's names. Input and output matrix "
        "are one (tied)."
    ),
    "code-2k": (
        "SentencePiece-style BPE with byte fallback; {vocab} ids: `<unk>`, `<s>`, `</s>`, the 256 "
        "bytes `<0x00>`..`<0xFF>`, pieces, and StarCoder's `<fim_prefix>`, `<fim_suffix>`, "
        "`<fim_middle>`, `<fim_pad>`. A space is `▁`, there is no dummy prefix and no "
        "pretokenizer; runs of spaces, tabs and newlines are pieces. U+2581 itself reads as a "
        "space. Input and output matrix are two (untied)."
    ),
}

LEARNED = """What follows lowers the bits of a middle by {gain:.0%} (SPM, whole lines): the suffix
is used. {ended:.0%} of the greedy answers to a whole line end by themselves, and to guess one
exactly is beyond a model of this size. Tokens blur both edges: a prompt that ends inside a token,
and a middle that ends before a newline which a token joins to the line, are strings that training
saw at cuts alone.
"""
NOT_LEARNED = """**Infilling is not learned.** The marks and the templates are in place and the
model continues a text, but what follows lowers the bits of a middle by {gain:.0%} only (SPM, whole
lines), and {ended:.0%} of the greedy answers end by themselves. Use this model for scoring and
continuation, and its infilling to exercise code only.
"""
USEFUL_GAIN = 0.05

CARD = """---
license: other
license_name: apache-2.0-weights-psf-2.0-text
language: [en]
library_name: transformers
pipeline_tag: text-generation
tags: [code, python, fill-in-the-middle, tiny]
---

# anyvocab pico: {name}

A language model of {parameters:.2f} M parameters for examples, tests and demonstrations of
anyvocab: real enough that its probabilities mean something, small enough to ship in a package. It
knows the manner of Python's standard library and little else. It is not a coding assistant.

| held-out modules ({held_out_modules} modules, {held_out_bytes:,} bytes) | |
|---|---|
| bits per byte | **{bpb:.3f}** |
| bits per byte of `xz -9e`, given the training text | {xz:.3f} |
| bits per byte of `gzip -9`, alone | {gzip:.3f} |
| bytes per token | {bytes_per_token:.2f} |

| infilling: exact match, edit similarity | a whole line | the rest of a line |
|---|---|---|
| SPM prompt, ends by itself | {line[spm]} | {rest[spm]} |
| PSM prompt, ends by itself | {line[psm]} | {rest[psm]} |
| SPM prompt, cut at the line's end | {line[spm_line]} | {rest[spm_line]} |
| no suffix, cut at the line's end | {line[left_to_right]} | {rest[left_to_right]} |

| bits per byte of the true middle | a whole line | the rest of a line |
|---|---|---|
| SPM prompt | {middle_line[spm]:.3f} | {middle[spm]:.3f} |
| PSM prompt | {middle_line[psm]:.3f} | {middle[psm]:.3f} |
| no suffix | {middle_line[left_to_right]:.3f} | {middle[left_to_right]:.3f} |

Bits per byte: every held-out source whole, in windows of {context} tokens that move by half a
window, so each token has at least {half} tokens before it except at a file's start; a begin mark
first, the end mark not counted; canonical encodings; the bfloat16 weights of this folder computed
in float32.

Infilling: {cases} seeded lines, each whole with its indentation, or from a random character on
(4 to 72 characters; the prompt often ends inside a token), with up to 560 characters before and
320 after it, greedy, at most 48 tokens. Exact means to the byte, the end included; similarity is 1
minus the byte edit distance over the longer length. The PSM prompt is
`<begin><pre>prefix<suf>suffix<mid>`, the SPM prompt `<begin><pre><suf>suffix<mid>prefix`. In SPM
and without a suffix the token in which a middle begins counts whole; in PSM the middle is encoded
apart. The end of a middle is not in its bits.

{advice}
## Shape and tokenizer

Llama architecture: {layers} layers, width {dim}, {heads} heads, SwiGLU {hidden}, RMSNorm, rotary
positions (base {rope:.0f}), context {context}. {weight_bytes:,} bytes of bfloat16 safetensors.

{tokenizer}

## Data and licence

{source}: {train_bytes:,} bytes of training text in {train_documents} documents. Sources; docstrings
of 200 characters and more once again as prose; the language reference that `pydoc` carries; the
library's own tests, {tests_share:.0%} of them in a pass, others each time. Left out by measurement:
literal tables (over half of the lines are entries), near-copies of earlier documents, tests of
held-out modules, and whatever shares more than a tenth of its long lines with a held-out module.
The tokenizer saw the same training documents, without the tests, and no others.

Held out: {held_out_names}.

The text is CPython's, copyright the Python Software Foundation and its contributors, under
PSF-2.0 (and the licences it lists for incorporated software). A model this small can repeat
passages of it; such passages stay under that licence. The weights are released as the rest of
anyvocab is, under Apache-2.0.

## Recipe

- Fill-in-the-middle (arXiv:2207.14255) on half of the chunks, cut at characters, not tokens; five
  eighths of the middles are a line, or the rest of one, with up to two lines more; a quarter are
  at most 80 characters; an eighth lie between two uniform cuts. Half are written
  `<pre>prefix<suf>suffix<mid>middle<eos>` (PSM), half `<pre><suf>suffix<mid>prefix middle<eos>`
  (SPM, the paper's second variant), parts encoded apart. A transformed chunk lies whole inside one
  window; plain text fills the rest. The begin mark comes first in training and in what the
  tokenizer returns by default.
- {steps} updates of {batch_tokens} positions, {tokens:,} scored tokens, {epochs} passes over the
  text begun, each cut anew; windows of {windows}.
  Products in {precision}, sums and weights in float32; seed {seed}.
- In the loss a token counts 1; of a middle, its end included, {middle_weight:g}, less where the
  middle would count more than {middle_tokens} in all. Around a middle the end mark is no possible
  answer, so that it is learned where it is asked for.
- Muon for the layers' matrices (rate {matrix_lr}), AdamW for embeddings, head and norms (rate
  {embed_lr} and {norm_lr}); gradient norm clipped at {clip}; a warm-up of {warmup} updates, a
  plateau, and a linear fall to 0 over the last {decay:.0%} of the budget.
- One CPU thread for {minutes:.0f} minutes on a shared machine: {speed:,.0f} tokens a second.

```
python -m anyvocab.pico.train {name} --out runs/{name} --minutes {budget:.0f}{flags}
python -m anyvocab.pico.export runs/{name} {folder}
```

`metrics.json` holds every number of this card and the digest of the data.
"""


def _flags(train: dict[str, Any]) -> str:
    """Return the options of the command that made the run, where they are not the defaults."""
    options = {
        "--seed": (train["seed"], 0),
        "--batch-tokens": (train["batch_tokens"], TrainConfig.batch_tokens),
        "--matrix-lr": (train["optim"]["matrix_lr"], OptimConfig.matrix_lr),
        "--embed-lr": (train["optim"]["embed_lr"], OptimConfig.embed_lr),
        "--short-share": (train["short_share"], TrainConfig.short_share),
    }
    return "".join(f" {name} {used}" for name, (used, usual) in options.items() if used != usual)


def _windows(train: dict[str, Any], context: int) -> str:
    """Return how long the windows of the run were, in words."""
    short, share = train["short_context"], train["short_share"]
    return f"{short} tokens" + (
        f" for {share:.0%} of the time, then {context}" if share < 1 else ""
    )


def _cells(infill: dict[str, float]) -> dict[str, str]:
    """Return the exact match and edit similarity of every way, as a cell of the table."""
    ways = ("spm", "psm", "spm_line", "left_to_right")
    return {
        way: f"{infill[f'{way}_exact_match']:.1%}, {infill[f'{way}_edit_similarity']:.3f}"
        for way in ways
    }


def render_card(metrics: dict[str, Any], folder_name: str) -> str:
    """Return the card's text."""
    model, train, progress = metrics["model"], metrics["train"], metrics["progress"]
    optim, data = train["optim"], metrics["data"]
    held_out, baseline = metrics["held_out"], metrics["baseline_bits_per_byte"]
    modules = data["held_out_modules"]
    minutes = progress["elapsed"] / 60
    line = metrics["middle_line"]
    gain, ended = 1 - line["spm"] / line["left_to_right"], metrics["infill_line"]["spm_ended"]
    advice = LEARNED if gain >= USEFUL_GAIN else NOT_LEARNED
    return CARD.format(
        name=metrics["name"],
        parameters=metrics["parameters"] / 1e6,
        held_out_modules=len(modules),
        held_out_names=", ".join(f"`{module}`" for module in modules),
        held_out_bytes=held_out["bytes"],
        bpb=held_out["bits_per_byte"],
        xz=baseline["xz_given_train"],
        gzip=baseline["gzip"],
        bytes_per_token=held_out["bytes_per_token"],
        rest=_cells(metrics["infill"]),
        line=_cells(metrics["infill_line"]),
        middle=metrics["middle"],
        middle_line=line,
        advice=advice.format(gain=gain, ended=ended),
        tests_share=metrics["packing"]["tests_share"],
        cases=metrics["infill"]["cases"],
        precision=optim.get("precision", "float32"),
        middle_weight=metrics["packing"]["middle_weight"],
        middle_tokens=metrics["packing"]["middle_tokens"],
        context=model["context"],
        half=model["context"] // 2,
        layers=model["layers"],
        dim=model["dim"],
        heads=model["heads"],
        hidden=model["hidden"],
        rope=model["rope_theta"],
        weight_bytes=metrics["weight_bytes"],
        tokenizer=TOKENIZERS[metrics["name"]].format(vocab=model["vocab_size"]),
        source=data["source"],
        train_bytes=data["train_bytes"],
        train_documents=data["train_documents"],
        steps=progress["step"],
        batch_tokens=train["batch_tokens"],
        tokens=progress["tokens"],
        epochs=progress["epoch"] + 1,
        windows=_windows(train, model["context"]),
        seed=train["seed"],
        matrix_lr=optim["matrix_lr"],
        embed_lr=optim["embed_lr"],
        norm_lr=optim["norm_lr"],
        clip=optim["clip"],
        warmup=train["warmup_steps"],
        decay=train["decay_share"],
        minutes=minutes,
        budget=train["minutes"] or minutes,
        flags=_flags(train),
        speed=progress["tokens"] / max(1e-9, progress["elapsed"]),
        folder=folder_name,
    )


def write_card(target: Path, metrics: dict[str, Any]) -> None:
    """Write the card beside the weights."""
    temporary = target.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as handle:
        handle.write(render_card(metrics, target.parent.name))
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(target)
