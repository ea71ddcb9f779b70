"""What a card says about a pico model: bits per byte and infilling on the held-out modules.

Works on the exported folder through transformers, so what is measured is what is shipped.
"""

from __future__ import annotations

import lzma
import math
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from .data import Corpus, Document
from .fim import Order, prompt
from .packing import RoleIds
from .vocab import SPECIALS

INFILL_CASES = 200
PREFIX_CHARS, SUFFIX_CHARS = 560, 320  # prompt and answer fit 512 tokens
MIDDLE_CHARS = (4, 72)
MAX_NEW_TOKENS = 48
BATCH = 16
ORDERS: tuple[Order, ...] = ("psm", "spm")


@dataclass(frozen=True)
class InfillCase:
    """Write `middle` between `prefix` and `suffix`: the end of one line of a held-out module."""

    module: str
    prefix: str
    middle: str
    suffix: str


def edit_distance(left: bytes, right: bytes) -> int:
    """Return the Levenshtein distance in bytes. O(len(left) * len(right)) time."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def edit_similarity(left: str, right: str) -> float:
    """Return 1 minus the byte edit distance over the longer length; 1 for two empty texts."""
    a, b = left.encode(), right.encode()
    longest = max(len(a), len(b))
    return 1.0 - edit_distance(a, b) / longest if longest else 1.0


def _tail_lines(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    cut = text.find("\n", len(text) - limit)
    return text[cut + 1 :] if cut >= 0 else text[-limit:]


def _head_lines(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    cut = text.rfind("\n", 0, limit)
    return text[: cut + 1] if cut >= 0 else text[:limit]


def infill_cases(
    documents: Sequence[Document],
    *,
    start: Literal["anywhere", "line"] = "anywhere",
    count: int = INFILL_CASES,
    seed: int = 0,
) -> list[InfillCase]:
    """Return seeded single-line cases, the same lines for both starts.

    The prefix keeps at most `PREFIX_CHARS` characters, the suffix `SUFFIX_CHARS`, both at line
    boundaries.

    Args:
        documents: Where lines are taken from.
        start: `anywhere`: from a random character of a line to its end, so that the prefix is often
            cut inside a token; `line`: the whole line with its indentation, behind a newline,
            where tokens end too.
        count: How many.
        seed: Of the choice.
    """
    places: list[tuple[Document, int, int]] = []
    for document in sorted(documents, key=lambda item: item.name):
        offset = 0
        for line in document.text.splitlines(keepends=True):
            indent = len(line) - len(line.lstrip())
            body = len(line.strip())
            if body >= 2 * MIDDLE_CHARS[0] and body <= MIDDLE_CHARS[1] + 8:
                places.append((document, offset + indent, offset + indent + body))
            offset += len(line)
    rng = random.Random(f"infill/{seed}")
    rng.shuffle(places)
    cases = []
    for document, first, end in places[:count]:
        drawn = rng.randint(max(first, end - MIDDLE_CHARS[1]), end - MIDDLE_CHARS[0])
        begin = drawn if start == "anywhere" else document.text.rfind("\n", 0, first) + 1
        cases.append(
            InfillCase(
                module=document.name,
                prefix=_tail_lines(document.text[:begin], PREFIX_CHARS),
                middle=document.text[begin:end],
                suffix=_head_lines(document.text[end:], SUFFIX_CHARS),
            )
        )
    return cases


@torch.no_grad()
def bits_per_byte(
    logits_of: Callable[[Tensor], Tensor],
    tokenizer: Tokenizer,
    roles: RoleIds,
    documents: Sequence[Document],
    context: int,
) -> dict[str, float]:
    """Return bits per byte of the canonical encodings, in sliding windows of `context`.

    `logits_of` maps ids (B, T) to logits (B, T, V).

    Each document starts with the begin mark; windows move by half a context and every token is
    scored once, with at least half a context before it except at the start. The end mark is not
    counted. `bytes` are the documents' UTF-8 bytes.
    """
    stride = context // 2
    jobs: list[tuple[list[int], int]] = []  # (ids, first scored target)
    total_bytes = total_tokens = 0
    for document in documents:
        ids = [roles.bos, *tokenizer.encode(document.text, add_special_tokens=False).ids]
        total_bytes += len(document.text.encode())
        total_tokens += len(ids) - 1
        scored = 1
        while scored < len(ids):
            end = min(len(ids), max(context, scored + stride))
            start = max(0, end - context)
            jobs.append((ids[start:end], scored - start))
            scored = end
    jobs.sort(key=lambda job: len(job[0]))
    nats = 0.0
    for at in range(0, len(jobs), BATCH):
        batch = jobs[at : at + BATCH]
        width = max(len(ids) for ids, _ in batch)
        rows = torch.tensor([ids + [roles.pad] * (width - len(ids)) for ids, _ in batch])
        logits = logits_of(rows).float()  # (B, T, V); padding is on the right: causal, unseen
        for row, (ids, first) in enumerate(batch):
            wanted = rows[row, first : len(ids)]
            given = logits[row, first - 1 : len(ids) - 1]
            nats += float(F.cross_entropy(given.double(), wanted, reduction="sum"))
    return {
        "bits_per_byte": nats / math.log(2) / total_bytes,
        "bytes": total_bytes,
        "bytes_per_token": total_bytes / total_tokens,
        "nats_per_token": nats / total_tokens,
    }


@torch.no_grad()
def _greedy(
    model: Any, prompts: Sequence[list[int]], roles: RoleIds
) -> list[tuple[list[int], bool]]:
    """Return greedy continuations up to the end mark and whether it came, batched by length."""
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers: list[tuple[list[int], bool]] = [([], False) for _ in prompts]
    for at in range(0, len(order), BATCH):
        chosen = order[at : at + BATCH]
        width = max(len(prompts[index]) for index in chosen)
        lacks = [width - len(prompts[index]) for index in chosen]
        rows = [[roles.pad] * lack + prompts[i] for i, lack in zip(chosen, lacks, strict=True)]
        mask = [[0] * lack + [1] * (width - lack) for lack in lacks]
        out = model.generate(
            torch.tensor(rows),
            attention_mask=torch.tensor(mask),
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=False,
            eos_token_id=roles.eos,
            pad_token_id=roles.pad,
        )
        for index, row in zip(chosen, out.tolist(), strict=True):
            answer = row[width:]
            ended = roles.eos in answer
            answers[index] = answer[: answer.index(roles.eos)] if ended else answer, ended
    return answers


def infilling(
    model: Any, tokenizer: Tokenizer, roles: RoleIds, cases: Sequence[InfillCase]
) -> dict[str, float]:
    """Return exact match and byte edit similarity of greedy infilling, by prompt order.

    `psm_*` and `spm_*` must end by themselves. `left_to_right_*` is the same model without the
    suffix, its continuation cut at the line's end; `spm_line_*` is SPM cut there too, so the two
    differ by what the suffix is worth. `*_ended` is the share of answers that ended by themselves.
    """

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    def answers_to(prompts: list[list[int]]) -> tuple[list[str], float]:
        found = _greedy(model, [[roles.bos, *ids] for ids in prompts], roles)
        texts = [tokenizer.decode(ids, skip_special_tokens=False) for ids, _ in found]
        return texts, sum(ended for _, ended in found) / len(found)

    result: dict[str, float] = {"cases": len(cases)}
    answers: dict[str, list[str]] = {}
    for order in ORDERS:
        asked = [prompt(c.prefix, c.suffix, encode, roles.fim, order=order) for c in cases]
        answers[order], result[f"{order}_ended"] = answers_to(asked)
    plain, _ = answers_to([encode(case.prefix) for case in cases])
    scored = {
        **answers,
        "spm_line": [answer.split("\n", 1)[0] for answer in answers["spm"]],
        "left_to_right": [answer.split("\n", 1)[0] for answer in plain],
    }
    for name, given in scored.items():
        pairs = list(zip(given, (case.middle for case in cases), strict=True))
        result[f"{name}_exact_match"] = sum(a == b for a, b in pairs) / len(pairs)
        result[f"{name}_edit_similarity"] = sum(edit_similarity(*p) for p in pairs) / len(pairs)
    return result


@torch.no_grad()
def middle_bits(
    logits_of: Callable[[Tensor], Tensor],
    tokenizer: Tokenizer,
    roles: RoleIds,
    cases: Sequence[InfillCase],
) -> dict[str, float]:
    """Return the bits per byte of the true middles, by what the model was shown.

    `left_to_right` is shown the prefix alone, `spm` and `psm` the suffix too; the end mark is not
    counted. Where prefix and middle are one string (`spm`, `left_to_right`), the token in which
    the middle begins counts whole, for both alike.
    """

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    result = {}
    total = sum(len(case.middle.encode()) for case in cases)
    for name in (*ORDERS, "left_to_right"):
        nats = 0.0
        for case in cases:
            joint = tokenizer.encode(case.prefix + case.middle, add_special_tokens=False)
            counted = sum(end > len(case.prefix) for _, end in joint.offsets)
            if name == "left_to_right":
                ids = [roles.bos, *joint.ids]
            elif name == "spm":
                asked = prompt("", case.suffix, encode, roles.fim, order="spm")
                ids = [roles.bos, *asked, *joint.ids]
            else:
                middle = encode(case.middle)
                asked = prompt(case.prefix, case.suffix, encode, roles.fim, order="psm")
                ids, counted = [roles.bos, *asked, *middle], len(middle)
            row = torch.tensor([ids])
            given = logits_of(row)[0, -counted - 1 : -1].double()
            nats += float(F.cross_entropy(given, row[0, -counted:], reduction="sum"))
        result[name] = nats / math.log(2) / total
    return result


def compressor_baselines(corpus: Corpus) -> dict[str, float]:
    """Return bits per byte of general compressors on the held-out text.

    `xz_given_train`: what the held-out text adds to the training text, xz -9e with a dictionary
    that spans both. `gzip`: the held-out text alone.
    """
    train = b"".join(document.text.encode() for document in corpus.train)
    held_out = b"".join(document.text.encode() for document in corpus.held_out)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 26}]
    alone, both = (
        len(lzma.compress(text, format=lzma.FORMAT_XZ, filters=filters))
        for text in (train, train + held_out)
    )
    return {
        "gzip": 8 * len(zlib.compress(held_out, 9)) / len(held_out),
        "xz_given_train": 8 * (both - alone) / len(held_out),
    }


def measure(folder: Path, name: str, corpus: Corpus) -> dict[str, Any]:
    """Return every number of the card for the exported model in `folder`."""
    from transformers import AutoModelForCausalLM

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    roles = RoleIds.of(tokenizer, SPECIALS[name])
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    context = int(model.config.max_position_embeddings)
    anywhere = infill_cases(corpus.held_out)
    lines = infill_cases(corpus.held_out, start="line")

    def logits_of(ids: Tensor) -> Tensor:
        out: Tensor = model(ids).logits
        return out

    return {
        "held_out": bits_per_byte(logits_of, tokenizer, roles, corpus.held_out, context),
        "middle": middle_bits(logits_of, tokenizer, roles, anywhere),
        "middle_line": middle_bits(logits_of, tokenizer, roles, lines),
        "infill": infilling(model, tokenizer, roles, anywhere),
        "infill_line": infilling(model, tokenizer, roles, lines),
        "baseline_bits_per_byte": compressor_baselines(corpus),
    }
