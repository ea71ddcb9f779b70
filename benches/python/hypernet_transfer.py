"""A transfer by hypernetwork from 32,000 to 128,000 tokens at width 2048: memory and rows a second.

What it is for: a transfer must not need more memory than the model that it makes. The pair is
synthetic: the vocabularies are the first merges of the llama3 tokenizer in ANYVOCAB_FIXTURES, the
rows are drawn, the model is one thin layer, untied, bfloat16, and the network is not trained, which
changes neither. Every measurement is a process of its own, its peak the resident set's since torch
and the library were imported:

- predict: every row of the target once, in chunks, none kept: the sources and a chunk;
- swap: the whole command to the finished folder, with what it writes checked: copied rows are the
  source's, and a sample of new rows is what the network says.

The authors' transfer of a model to a tokenizer needs 29 GB (JAX; reported by its users). A busy
machine lengthens times, not peaks. `--hidden` is the network's width: training takes the model's
own by default, which is 2048 here and slow on a CPU; its weights are part of the peak.

    python benches/python/hypernet_transfer.py --hidden 256
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from transplant import BASE, LARGE, WIDTH, cut_tokenizer

CHILDREN = ("predict", "swap")


def write_pair(folder: Path, hidden: int) -> None:
    """Write the model, the target tokenizer and the network."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from anyvocab.hypernet import Hypernet
    from anyvocab.hypernet.features import FEATURES
    from anyvocab.hypernet.folder import Card
    from anyvocab.hypernet.network import NetworkConfig, ResidualHypernet
    from anyvocab.hypernet.predict import SourceModel
    from anyvocab.transplant.files import vocabulary_digest

    for name, size in (("base", BASE), ("target", LARGE)):
        (folder / name).mkdir()
        cut_tokenizer(folder / name, size)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=BASE + 1,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=16,
        num_key_value_heads=1,
        tie_word_embeddings=False,
        bos_token_id=BASE,
        eos_token_id=BASE,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / "base")
    source = SourceModel.open(folder / "base")
    shape = NetworkConfig(
        width=WIDTH,
        tied=False,
        hidden=hidden,
        inner=2 * hidden,
        heads=max(1, hidden // 64),
        features=len(FEATURES),
    )
    network = ResidualHypernet(shape)
    network.measure(source.rows)
    digest = vocabulary_digest(source.tokenizer.vocabulary)
    card = Card("residual", shape.to_dict(), "base", digest, len(source.rows))
    Hypernet(network, card).save(folder / "base" / "hypernet")


def resident(what: str) -> int:
    """Return a line of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024


def child(folder: Path, what: str) -> dict[str, float]:
    import torch

    import anyvocab as av
    from anyvocab.hypernet.predict import SourceModel
    from anyvocab.transplant import swap as _  # noqa: F401 - its imports are not the transfer's

    torch.zeros(1).bfloat16().float()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again here
    before, began = resident("VmRSS"), time.perf_counter()
    if what == "predict":
        hypernet = av.Hypernet.load(folder / "base")
        found = hypernet.predict(folder / "target", SourceModel.open(folder / "base"))
        ready = time.perf_counter()
        rows = sum(len(places) for places, _ in found)
        seconds = time.perf_counter() - ready
        return {
            "rows": rows,
            "set-up": ready - began,
            "seconds": seconds,
            "rows a second": rows / seconds,
            "peak": resident("VmHWM") - before,
        }
    report = av.swap(
        folder / "base",
        folder / "target",
        folder / "new",
        strategy="hypernet",
        options={"anchor": "hard"},
        calibrate="off",
        run="never",
        verification="off",
    )
    seconds, peak = time.perf_counter() - began, resident("VmHWM") - before
    check(folder, report)
    return {"rows": report.rows, "seconds": seconds, "peak": peak, "stages": report.seconds}


def check(folder: Path, report) -> None:
    """Stop where the new rows are not what they have to be."""
    import numpy as np
    import torch

    import anyvocab as av
    from anyvocab.hypernet.predict import Predictions, SourceModel
    from anyvocab.transplant.identity import Origin, token_table
    from anyvocab.transplant.verify import compare_rows
    from anyvocab.transplant.weights import Checkpoint

    before, after = Checkpoint.open(folder / "base"), Checkpoint.open(folder / "new")
    hypernet, source = av.Hypernet.load(folder / "base"), SourceModel.open(folder / "base")
    table = token_table(av.Tokenizer.load(folder / "target").vocabulary)
    for side in ("input", "output"):
        plan = report.plan.side(side)
        same = plan.verbatim().nonzero()[0]
        pairs = {side: (plan.combination.select(same).columns, same)}
        assert all(one.ok for one in compare_rows(before, after, pairs))
        made = np.flatnonzero(plan.origin == Origin.PREDICTED)
        some = made[np.linspace(0, len(made) - 1, 64).astype(int)]
        tokens = [table[id] for id in some.tolist()]
        everything = [token for token in table if token]
        rows = Predictions(
            hypernet.network, hypernet.card, source, tokens, vocabulary=everything
        ).rows()
        wanted = rows.head if side == "output" else rows.input
        found = after.matrix(side).take(some).float()
        # float32 sums in another order, then a rounding to 8 bits
        assert bool(((found - wanted).abs() <= wanted.abs() * 2.0**-8 + 1e-5).all())
    assert torch.isfinite(found).all()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hidden", type=int, default=256, help="the network's width")
    parser.add_argument("--child", choices=CHILDREN)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(child(given.folder, given.child)))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = [
            sys.executable,
            "-c",
            "import hypernet_transfer as b, sys; from pathlib import Path; "
            f"b.write_pair(Path({place!r}), {given.hidden})",
        ]
        subprocess.run(made, check=True, cwd=Path(__file__).parent, stdout=subprocess.DEVNULL)
        matrices = 2 * LARGE * WIDTH * 2
        weights = (folder / "base/hypernet/hypernet.safetensors").stat().st_size
        print(f"new matrices {matrices / 2**20:,.0f} MiB, network {weights / 2**20:,.0f} MiB")
        for what in CHILDREN:
            command = [sys.executable, __file__, "--child", what, "--folder", place]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            found["peak"] = f"{found['peak'] / 2**20:,.0f} MiB"
            print(what, found)


if __name__ == "__main__":
    main()
