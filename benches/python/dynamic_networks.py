"""What hypernetworks are worth to merged prompts, one beside another on the same texts.

Each text is cut in half: the first half is context and is merged in batches of 32, the second half
is scored in base tokens, the same bytes everywhere (`anyvocab.dynamic.judge`). Rows of new tokens
are the mean of their pieces' or a network's. The loss is against the model as it is; the last
column is the difference between the last network and the one before it, with the standard error of
the paired difference over texts, which is much less than that of either loss.

Texts are the held-out modules of the pico models, and the files of folders that are named.

    python benches/python/dynamic_networks.py code-4k before=runs/4k after=pico:code-4k
    python benches/python/dynamic_networks.py code-4k before=runs/4k after=pico:code-4k \
        --texts english=heldout/en
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path

import torch

import anyvocab as av
from anyvocab.dynamic.judge import Judgement, Side, judge
from anyvocab.pico.data import HELD_OUT, load_module

SETTINGS = (("word", 0.35), ("word", 0.8), ("word", 1.0), ("pretoken", 1.0))
SHORTEST = 1_500  # characters of a file that takes part


def texts_of(folder: Path, count: int, chars: int) -> list[str]:
    """Return the beginnings of files of a folder that are long enough, spread over all of them."""
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    found = [one.read_text(encoding="utf-8", errors="ignore")[:chars] for one in files]
    long = [text for text in found if len(text) > SHORTEST]
    taken = min(count, len(long))
    return [long[at * len(long) // taken] for at in range(taken)]


def apart(after: Side, before: Side) -> tuple[float, float]:
    """Return the mean difference in bits per byte of a text, and its standard error."""
    pairs = zip(after.by_text, before.by_text, strict=True)
    found = [one - other for one, other in pairs if one is not None and other is not None]
    return statistics.mean(found), statistics.stdev(found) / math.sqrt(len(found))


def table(name: str, texts: list[str], models: dict[str, av.DynamicModel]) -> None:
    """Print the rows of one kind of text."""
    base: Side | None = None
    for boundary, attainable in SETTINGS:
        found: dict[str, Judgement] = {}
        for rows, model in models.items():
            one = judge(model, texts, boundary=boundary, attainable=attainable, base=base)  # type: ignore[arg-type]
            found[rows], base = one, one.base
        if base is None:
            return
        plain, sides = base.bits_per_byte, [one.merged for one in found.values()]
        difference, error = apart(sides[-1], sides[-2])
        shortened = next(iter(found.values())).reduction
        cells = [f"{one.loss / plain:+.2%}" for one in found.values()]
        print(
            f"| {name}, {len(texts)} | {boundary}, {attainable:.0%} | {shortened:.1%} | "
            f"{plain:.4f} | {' | '.join(cells)} | "
            f"{difference / plain:+.2%} ± {error / plain:.2%} |",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", choices=("code-4k", "code-2k"))
    parser.add_argument("networks", nargs="+", metavar="NAME=PLACE")
    parser.add_argument("--texts", nargs="+", default=(), metavar="NAME=FOLDER")
    parser.add_argument("--count", type=int, default=60, help="files of a folder")
    given = parser.parse_args()
    torch.set_num_threads(1)
    places = dict(one.split("=", 1) for one in given.networks)
    models = {
        name: av.DynamicModel.load(f"pico:{given.model}", rows=rows, cache_bytes=1 << 30)
        for name, rows in {"mean": "mean", **places}.items()
    }
    print(
        f"{given.model}\n\n| text | merged | context | base | {' | '.join(models)} | last two |\n"
        + "|"
        + "---|" * (5 + len(models))
    )
    table("held-out modules", [load_module(one).text[:3_000] for one in sorted(HELD_OUT)], models)
    for pair in given.texts:
        name, _, folder = pair.partition("=")
        table(name, texts_of(Path(folder), given.count, 2_000), models)


if __name__ == "__main__":
    main()
