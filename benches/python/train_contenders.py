"""One contender of the training bench in a process of its own: `train.py` starts it.

A task comes as JSON, what it took goes to standard output as JSON. This file is run by the rivals'
Python, too: it imports nothing of anyvocab but where anyvocab is measured. Threads are kept to
their number by the processors that the process may use, whatever a library thinks of options.
"""

from __future__ import annotations

import functools
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}

Work = Callable[[], Any]
Merges = list[tuple[bytes, bytes]]


def peak() -> float:
    """Return the largest resident set so far, MiB."""
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1024


def documents(paths: list[str]) -> Iterator[str]:
    """Yield the documents, each read when it is asked for: no contender holds the corpus."""
    for path in paths:
        yield Path(path).read_bytes().decode()


@functools.cache
def byte_of() -> dict[str, int]:
    """Return what each character of a byte-level token stands for (GPT-2's table)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in shown}
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    return table | {chr(256 + place): byte for place, byte in enumerate(hidden)}


def merges_of(tokenizer_json: str) -> Merges:
    """Return the merges of a byte-level tokenizer.json, as bytes."""
    table = byte_of()
    merges = json.loads(tokenizer_json)["model"]["merges"]
    pairs = [one.split(" ") if isinstance(one, str) else one for one in merges]
    return [(bytes(table[c] for c in a), bytes(table[c] for c in b)) for a, b in pairs]


class Anyvocab:
    """`av.train`; its count alone is `count_corpus`."""

    package = "anyvocab"

    def prepare(self, task: dict[str, Any]) -> Work:
        paths, pattern, threads = task["paths"], task["pattern"], task["threads"]
        if task["job"] == "count":
            from anyvocab.training.counting import Plan, count_corpus

            return lambda: count_corpus(paths, Plan(pattern=pattern, threads=threads))
        import anyvocab as av

        words = {"superwords": task["superwords"]} if task.get("superwords") else {}
        size = task["vocab_size"]
        return lambda: av.train(paths, vocab_size=size, pattern=pattern, threads=threads, **words)

    def merges(self, trained: Any, task: dict[str, Any]) -> Merges:
        folder = Path(task["folder"])
        trained.save(folder)
        return merges_of((folder / "tokenizer.json").read_text(encoding="utf-8"))


class Tokenizers:
    """BpeTrainer behind Split and ByteLevel, from an iterator: files would be cut at newlines."""

    package = "tokenizers"

    def prepare(self, task: dict[str, Any]) -> Work:
        from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        split = pre_tokenizers.Split(Regex(PATTERNS[task["pattern"]]), "isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
        trainer = trainers.BpeTrainer(
            vocab_size=task["vocab_size"],
            min_frequency=2,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )

        def work() -> Any:
            tokenizer.train_from_iterator(documents(task["paths"]), trainer)
            return tokenizer

        return work

    def merges(self, trained: Any, _: dict[str, Any]) -> Merges:
        return merges_of(trained.to_str())


class Gigatoken:
    """Its trainer knows GPT-2's pattern alone; it maps the files itself."""

    package = "gigatoken"

    def prepare(self, task: dict[str, Any]) -> Work:
        import gigatoken

        source = gigatoken.TextFileSource(task["paths"])
        return lambda: gigatoken.train_bpe(source, task["vocab_size"], [])

    def merges(self, trained: Any, _: dict[str, Any]) -> Merges:
        return [(bytes(left), bytes(right)) for left, right in trained[1]]


class Rustbpe:
    """Any pattern; tells ranks, not merges."""

    package = "rustbpe"

    def prepare(self, task: dict[str, Any]) -> Work:
        import rustbpe

        tokenizer = rustbpe.Tokenizer()
        pattern, size = PATTERNS[task["pattern"]], task["vocab_size"]

        def work() -> Any:
            tokenizer.train_from_iterator(documents(task["paths"]), size, pattern=pattern)
            return tokenizer

        return work

    def tokens(self, trained: Any) -> list[bytes]:
        return [bytes(token) for token, _ in trained.get_mergeable_ranks()]


class Bpeasy:
    """Any pattern; tells ranks, not merges. Tokens of 128 bytes at most."""

    package = "bpeasy"

    def prepare(self, task: dict[str, Any]) -> Work:
        from bpeasy import train_bpe_stream

        pattern, size = PATTERNS[task["pattern"]], task["vocab_size"]
        return lambda: train_bpe_stream(documents(task["paths"]), pattern, 128, size, 100)

    def tokens(self, trained: Any) -> list[bytes]:
        return [bytes(token) for token in trained]


class Sentencepiece:
    """BPE over characters with a pretokenizer of its own: another model, for scale."""

    package = "sentencepiece"

    def prepare(self, task: dict[str, Any]) -> Work:
        import sentencepiece

        lines = (line for text in documents(task["paths"]) for line in text.split("\n") if line)
        model = io.BytesIO()
        return lambda: sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=model,
            model_type="bpe",
            vocab_size=task["vocab_size"],
            num_threads=task["threads"],
            max_sentence_length=1 << 20,
            minloglevel=2,
        )


class Reading:
    """The documents alone, read and decoded: a part of what every contender takes."""

    package = ""

    def prepare(self, task: dict[str, Any]) -> Work:
        return lambda: sum(map(len, documents(task["paths"])))


CONTENDERS: dict[str, Any] = {
    "anyvocab": Anyvocab,
    "tokenizers": Tokenizers,
    "gigatoken": Gigatoken,
    "rustbpe": Rustbpe,
    "bpeasy": Bpeasy,
    "sentencepiece": Sentencepiece,
    "reading": Reading,
}


def train(task: dict[str, Any]) -> dict[str, Any]:
    """Train or count; return what it took, and write what was learnt."""
    contender = CONTENDERS[task["contender"]]()
    if task["job"] == "count":
        task = task | {"vocab_size": 256}  # who cannot count alone learns no merge
    work = contender.prepare(task)
    found: dict[str, Any] = {"begun_mib": peak()}
    cpu, wall = time.process_time(), time.perf_counter()
    trained = work()
    found["wall"], found["cpu"] = time.perf_counter() - wall, time.process_time() - cpu
    found["peak_mib"] = peak()
    if task["job"] == "train" and task.get("out"):
        if hasattr(contender, "merges"):
            lines = [f"{a.hex()} {b.hex()}" for a, b in contender.merges(trained, task)]
            Path(task["out"]).write_text("\n".join(lines))
        elif hasattr(contender, "tokens"):
            lines = sorted(token.hex() for token in contender.tokens(trained))
            Path(task["out"]).write_text("\n".join(lines))
    if contender.package:
        found["version"] = version(contender.package)
    return found


def encode(task: dict[str, Any]) -> dict[str, Any]:
    """Encode the documents one by one; return processor seconds and the ids' digest."""
    import hashlib

    file = Path(task["folder"]) / "tokenizer.json"
    run: Callable[[str], Any]
    if task["contender"] == "anyvocab":
        import anyvocab as av

        run = av.Tokenizer.load(file).encode
    else:
        from tokenizers import Tokenizer

        theirs = Tokenizer.from_file(str(file))
        run = functools.partial(theirs.encode, add_special_tokens=False)
    texts = list(documents(task["paths"]))
    run(texts[0])
    cpu, wall = time.process_time(), time.perf_counter()
    made = [run(text) for text in texts]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    digest, tokens = hashlib.md5(), 0
    for one in made:
        ids = one.tolist() if task["contender"] == "anyvocab" else one.ids
        tokens += len(ids)
        digest.update(json.dumps(ids).encode())
    size = sum(len(text.encode()) for text in texts)
    return {"wall": wall, "cpu": cpu, "ids": digest.hexdigest(), "tokens": tokens, "bytes": size,
            "version": version(task["contender"])}  # fmt: skip


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, processors[: task["threads"]])
    os.environ["RAYON_NUM_THREADS"] = str(task["threads"])
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if task["threads"] > 1 else "false"
    task["paths"] = Path(task["paths"]).read_text().split("\n")
    found = encode(task) if task["job"] == "encode" else train(task)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
