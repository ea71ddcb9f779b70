"""Strategies with a donor against mergekit-tokensurgeon, in one run: seconds, memory, fidelity.

The pair is made here: a base of 32,000 tokens and a donor with more, both cut from one BPE (the
first merges of the llama3 tokenizer in ANYVOCAB_FIXTURES), width 2048, tied, bfloat16; base rows
are donor rows turned, with noise. What each part is for:

- full: the donor's whole 128,000 tokens. anyvocab makes a sample of rows by pursuit and all rows by
  the other strategies; `per 1000` is the time past the sample's set-up, from two sample sizes, and
  `all` extrapolates: set-up and rows. mergekit's `mean` and `subword` run whole.
- whole: `anyvocab swap` from the command line to the finished folder, for the whole donor
  vocabulary, and mergekit's whole command beside it. Nothing is verified, as mergekit does not
  either; omp-centred takes minutes.
- small: 512 new tokens, one batch of mergekit's OMP, so that it ends; anyvocab makes the same rows.
  mergekit's whole command is timed, and what its `mean` takes on the same pair is given, so that
  the difference is its OMP.

Every measurement is a process of its own: wall and processor seconds, and the peak of the resident
set until the rows are there, mapped files included. A busy machine lengthens both times; compare
within a run. Fidelity is the mean cosine of the rows made to the true ones, the mean row off both.

    python benches/python/transplant.py --mergekit VENV/bin/mergekit-tokensurgeon --part full small
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(os.environ.get("ANYVOCAB_FIXTURES", ROOT.parent / "shared" / "fixtures"))
Wanted = Callable[[str], bool]
WIDTH, BASE, LARGE, BATCH = 2048, 32_000, 128_000, 512
SAMPLES = (256, 1280)
PURSUITS = {
    "omp": {"k": 64},
    "omp-centred": {"k": 64},
    "omp screen=None": {"k": 64, "screen": None},
}
NEIGHBOURS = ("knn", "common-interpolation")
MAPS = ("linear-map", "procrustes")  # mostly one fit: made for all rows
WHOLE = ("mean", "front", "linear-map", "omp-centred")
PARTS = ("whole", "full", "small")


def cut_tokenizer(folder: Path, size: int) -> None:
    """Write a tokenizer of the first `size` tokens of llama3's, and an end token after them."""
    given = json.loads((FIXTURES / "tokenizers/llama3/tokenizer.json").read_text())
    model = given["model"]
    vocab = {token: id for token, id in model["vocab"].items() if id < size}
    model["vocab"] = vocab
    pairs = (one if isinstance(one, list) else one.split(" ") for one in model["merges"])
    model["merges"] = [one for one in pairs if "".join(one) in vocab and set(one) <= vocab.keys()]
    end = {"id": size, "content": "<|end_of_text|>", "special": True, "normalized": False}
    given["added_tokens"] = [{**end, "single_word": False, "lstrip": False, "rstrip": False}]
    given["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(given))
    names = {"bos_token": "<|end_of_text|>", "eos_token": "<|end_of_text|>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def true_rows(size: int):
    """Return donor rows and base rows of the first `size` tokens, bfloat16."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int):  # rows of length 1
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    concepts, common, away = draw(6000, WIDTH), draw(WIDTH), draw(WIDTH)
    places = torch.randperm(WIDTH, generator=generator)  # the map between the two: a rotation
    donor = torch.empty(size, WIDTH, dtype=torch.bfloat16)
    base = torch.empty_like(donor)
    for start in range(0, size, 4096):
        n = min(4096, size - start)
        rows = 0.4 * common + 0.7 * draw(n, WIDTH)
        for share in (0.4, 0.3, 0.2):
            rows += share * concepts[torch.randint(6000, (n,), generator=generator)]
        donor[start : start + n] = rows
        base[start : start + n] = rows[:, places] + 0.4 * away + 0.3 * draw(n, WIDTH)
    return donor, base


def write_model(folder: Path, size: int, rows) -> None:
    """Write a llama of one thin layer with `rows` as its tied matrix."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()

    folder.mkdir(parents=True)
    cut_tokenizer(folder, size)
    config = LlamaConfig(
        vocab_size=size + 1,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=16,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        bos_token_id=size,
        eos_token_id=size,
        dtype=torch.bfloat16,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        model.model.embed_tokens.weight[:size] = rows[:size]
    model.save_pretrained(folder)


def timed(command: list[str], threads: int, log: Path) -> dict[str, float]:
    """Run a process and return its seconds, processor seconds and peak resident set in MB."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    began = time.perf_counter()
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=env)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command} failed:\n{log.read_text()[-2000:]}")
    return {
        "wall": time.perf_counter() - began,
        "cpu": usage.ru_utime + usage.ru_stime,
        "rss": usage.ru_maxrss / 1024,
    }


def child(folder: Path, name: str, sample: int) -> None:
    """Make rows with one strategy and print, as JSON, how many, how long and how well."""
    import numpy as np
    import torch

    from anyvocab.transplant import strategies
    from anyvocab.transplant.job import open_job

    context = open_job(folder / "base", folder / "donor", donor=folder / "donor").context
    told = np.array([bool(token) for token in context.target_tokens])
    ids = np.flatnonzero((context.match.source_of < 0) & told)
    chosen = ids[np.linspace(0, len(ids) - 1, min(sample, len(ids))).astype(int)]
    wall, cpu = time.perf_counter(), time.process_time()
    made = strategies.make(name.split()[0], PURSUITS.get(name, {})).rows(context, "input", chosen)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    some = slice(0, 512)
    if isinstance(made, torch.Tensor):
        rows = made[some]
    else:
        rows = made.combine(context.matrices["input"])[some]
    from safetensors.torch import load_file

    true = load_file(folder / "true.safetensors")["rows"]
    mean = true[:BASE].float().mean(dim=0)
    wanted = true[torch.from_numpy(chosen[some])].float()
    cosine = torch.cosine_similarity(rows - mean, wanted - mean, dim=1).mean()
    print(
        json.dumps(
            {
                "anchors": len(context.anchors[0]),
                "rows": len(chosen),
                "new": len(ids),
                "wall": wall,
                "cpu": cpu,
                "cosine": float(cosine),
                "rss": peak,
            }
        )
    )


def measure(folder: Path, name: str, sample: int, threads: int) -> dict[str, float]:
    log = folder / "log"
    command = [sys.executable, __file__, "--child", name, "--folder", str(folder)]
    timed([*command, "--sample", str(sample)], threads, log)
    return dict(json.loads(log.read_text().splitlines()[-1]))


def rival(folder: Path, command: str, *options: str, threads: int) -> dict[str, float]:
    out = folder / "out"
    models = [str(folder / "base"), str(folder / "donor"), str(out)]
    found = timed([command, *models, *options, "--quiet"], threads, folder / "log")
    subprocess.run(["rm", "-rf", str(out)], check=True)
    return found


def make_pair(folder: Path, size: int) -> None:
    """Write both models, in a process of its own: a child's peak begins at its parent's size."""
    command = [sys.executable, __file__, "--pair", str(size), "--folder", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def write_pair(folder: Path, size: int) -> None:
    donor, base = true_rows(size)
    write_model(folder / "donor", size, donor)
    write_model(folder / "base", BASE, base)
    from safetensors.torch import save_file

    save_file({"rows": base.contiguous()}, folder / "true.safetensors")


def part_full(folder: Path, mergekit: str | None, threads: int, wanted: Wanted) -> None:
    make_pair(folder, LARGE)
    for name in (*PURSUITS, *NEIGHBOURS):
        if not wanted(name):
            continue
        sizes = (32, 96) if "None" in name else SAMPLES
        one, two = (measure(folder, name, sample, threads) for sample in sizes)
        line = f"{name:22} "
        for clock in ("wall", "cpu"):
            each = (two[clock] - one[clock]) / (two["rows"] - one["rows"])
            fixed = one[clock] - each * one["rows"]
            line += (
                f"{clock}: {1000 * each:7.2f} s per 1000, all {fixed + each * two['new']:7.0f} s; "
            )
        show(line, two)
    for name in filter(wanted, MAPS):
        found = measure(folder, name, LARGE, threads)
        show(f"{name:22} wall {found['wall']:7.1f} s, cpu {found['cpu']:7.1f} s, all rows; ", found)
    for method in filter(wanted, ("mean", "subword") if mergekit else ()):
        found = rival(folder, mergekit or "", "-a", method, threads=threads)
        show(
            f"mergekit {method:13} wall {found['wall']:7.1f} s, cpu {found['cpu']:7.1f} s; ", found
        )


def part_small(folder: Path, mergekit: str | None, threads: int, wanted: Wanted) -> None:
    make_pair(folder, BASE + BATCH)
    for name in filter(wanted, PURSUITS):
        found = measure(folder, name, BATCH, threads)
        show(f"{name:22} wall {found['wall']:7.1f} s, cpu {found['cpu']:7.1f} s; ", found)
    for options in (("mean",), ("omp", "-k", "64")) if mergekit else ():
        if not wanted(options[0]):
            continue
        found = rival(folder, mergekit or "", "-a", *options, threads=threads)
        name = " ".join(options)
        show(f"mergekit {name:13} wall {found['wall']:7.1f} s, cpu {found['cpu']:7.1f} s; ", found)


def part_whole(folder: Path, mergekit: str | None, threads: int, wanted: Wanted) -> None:
    make_pair(folder, LARGE)
    base, donor, out = (str(folder / name) for name in ("base", "donor", "out"))
    for name in filter(wanted, WHOLE):
        command = [sys.executable, "-m", "anyvocab", "swap", base, donor, out, "--strategy", name]
        command += ["--verify", "off", "--run", "never", "--donor", donor]
        found = timed(command, threads, folder / "log")
        show(f"{name:22} wall {found['wall']:7.1f} s, cpu {found['cpu']:7.1f} s; ", found)
        subprocess.run(["rm", "-rf", out], check=True)
    for method in filter(wanted, ("mean", "subword") if mergekit else ()):
        found = rival(folder, mergekit or "", "-a", method, threads=threads)
        show(
            f"mergekit {method:13} wall {found['wall']:7.1f} s, cpu {found['cpu']:7.1f} s; ", found
        )


def show(line: str, found: dict[str, float]) -> None:
    line += f"peak {found['rss']:6.0f} MB"
    if "cosine" in found:
        line += f"; {found['rows']:.0f} rows, {found['anchors']:.0f} anchors"
        line += f", cosine {found['cosine']:.3f}"
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--mergekit", help="path of mergekit-tokensurgeon, in a venv of its own")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="+", help="measure only these strategies and methods")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--pair", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--sample", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.pair:
        write_pair(given.folder, given.pair)
        return
    if given.child:
        child(given.folder, given.child, given.sample)
        return

    def wanted(name: str) -> bool:
        return not given.only or name in given.only

    for part in given.part:
        print(f"{part}, {given.threads} threads, load {os.getloadavg()[0]:.1f}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            work = {"full": part_full, "small": part_small, "whole": part_whole}[part]
            work(Path(folder), given.mergekit, given.threads, wanted)


if __name__ == "__main__":
    main()
