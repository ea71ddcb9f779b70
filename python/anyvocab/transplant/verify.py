"""Looking at a finished model: in a process of its own, as a user would load it.

`python -m anyvocab.transplant.verify SPEC.json` prints what it found as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anyvocab import errors
from anyvocab._source import read_json
from anyvocab.evaluate.models import model_kind
from anyvocab.tokenizer import Tokenizer
from anyvocab.transplant.result import Check, Verification

__all__ = ["PROBES", "compare_rows", "verify"]

TIMEOUT = 3600  # seconds
PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    "def f(x):\n\treturn {'a': x ** 2, \"b\": [1, 22, 333, 4444]}\n",
    "naïve café, déjà vu — „quoted“ … ½ ²",
    "Это тест. 这是一个测试。これはテストです。이것은 시험입니다. هذا اختبار. यह एक परीक्षण है।",
    "🙂👩‍👩‍👧 x  y\n\n\n   z\r\n",
)
GREEDY_TOKENS = 16
PADDING_IDS = 64  # of a probe that the probability of padding is averaged over


def compare_rows(
    checkpoint_before: Any, checkpoint_after: Any, pairs: Mapping[str, tuple[Any, Any]]
) -> list[Check]:
    """Return whether copied rows are the source's bit for bit.

    Args:
        checkpoint_before: The old :class:`anyvocab.transplant.weights.Checkpoint`.
        checkpoint_after: The new one.
        pairs: Side to source ids and target ids of the rows that were copied.
    """
    import torch

    checks = []
    for side, (sources, targets) in pairs.items():
        before, after = checkpoint_before.matrix(side), checkpoint_after.matrix(side)
        different = 0
        for start in range(0, len(sources), 4096):
            old = before.take(sources[start : start + 4096])
            new = after.take(targets[start : start + 4096])
            different += int((old.view(torch.uint8) != new.view(torch.uint8)).any(dim=1).sum())
        checks.append(
            Check(
                f"copied rows, {side}",
                different == 0,
                f"{len(sources):,} rows are the source's bit for bit"
                if not different
                else f"{different:,} of {len(sources):,} rows differ from the source's",
            )
        )
    return checks


def verify(
    folder: Path,
    before: Path,
    *,
    tokenizer: Tokenizer,
    texts: Mapping[str, Sequence[bytes]],
    run: bool,
    copied: bool = True,
) -> Verification:
    """Return what a fresh process finds in a finished model.

    Args:
        folder: The new model.
        before: The old one.
        tokenizer: What the new model's tokenizer must equal.
        texts: Domain to texts to judge by.
        run: Whether the models may be run; without it only files are looked at.
        copied: Whether the input rows of shared tokens are the old model's: then so are hidden
            states.

    Raises:
        InternalError: The process died without an answer.
    """
    began = time.perf_counter()
    probes = [*(one.encode() for one in PROBES), *(t[:2000] for o in texts.values() for t in o[:4])]
    with tempfile.TemporaryDirectory(prefix="anyvocab-verify-") as place:
        spec = Path(place) / "spec.json"
        spec.write_text(
            json.dumps(
                {
                    "folder": str(folder.resolve()),
                    "before": str(before.resolve()),
                    "run": run,
                    "copied": copied,
                    "probes": [
                        [probe.decode("latin-1"), tokenizer.encode(probe).tolist()]
                        for probe in probes
                    ],
                    "texts": {
                        name: [text.decode("latin-1") for text in documents]
                        for name, documents in texts.items()
                    },
                }
            )
        )
        answer = _run(spec)
    checks = tuple(Check(**one) for one in answer["checks"])
    return Verification(checks, answer["evaluation"], time.perf_counter() - began)


def _run(spec: Path) -> dict[str, Any]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
        [sys.executable, "-m", "anyvocab.transplant.verify", str(spec)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except BaseException:
        process.kill()
        process.wait()
        raise
    try:
        answer: dict[str, Any] = json.loads(out)
    except ValueError:
        raise errors.build(
            errors.InternalError,
            f"the verifying process ended with {process.returncode} and no answer: "
            f"{err.decode('utf-8', 'replace').strip()[-500:]}",
            field="verify",
            fix='load the model by hand, or swap with verification="files"',
        ) from None
    return answer


def _examine(spec: Mapping[str, Any]) -> dict[str, Any]:
    folder = Path(spec["folder"])
    checks = [*_tokenizer_checks(folder, spec["probes"])]
    evaluation = None
    if spec["run"]:
        model, found = _load(folder)
        checks.append(found)
        if model is not None:
            checks += _model_checks(folder, model)
            texts = {
                name: [text.encode("latin-1") for text in documents]
                for name, documents in spec["texts"].items()
            }
            kind = model_kind(read_json(folder / "config.json"))
            if kind != "causal":
                checks += _without_bits(kind, model, folder, spec, texts)
            elif texts:
                from anyvocab.evaluate import evaluate_models

                judged = evaluate_models({"after": str(folder)}, texts, against=spec["before"])
                evaluation = judged.to_dict()
                checks.append(_exactness(judged["after"].exactness, copied=spec["copied"]))
    return {"checks": [vars(one) for one in checks], "evaluation": evaluation}


def _tokenizer_checks(folder: Path, probes: Iterable[tuple[str, list[int]]]) -> Iterable[Check]:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ours = Tokenizer.load(folder)
    wrong = read = 0
    for latin, ids in probes:
        data = latin.encode("latin-1")
        read += ours.encode(data).tolist() != ids
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            continue  # transformers takes text only
        wrong += theirs(text, add_special_tokens=False)["input_ids"] != ids
    yield Check(
        "tokenizer in transformers",
        not wrong,
        "the same ids as the target tokenizer" if not wrong else f"{wrong} probes differ",
    )
    yield Check(
        "tokenizer in anyvocab",
        not read,
        "the same ids as the target tokenizer" if not read else f"{read} probes differ",
    )


def _load(folder: Path) -> tuple[Any, Check]:
    from anyvocab.evaluate.models import KINDS, load_model

    try:
        model = load_model(folder, kinds=KINDS)
    except errors.AnyvocabError as error:
        return None, Check("model in transformers", False, str(error))
    size = sum(parameter.numel() for parameter in model.parameters())
    return model, Check("model in transformers", True, f"loads, {size:,} parameters")


def _model_checks(folder: Path, model: Any) -> Iterable[Check]:
    import torch

    tokenizer = Tokenizer.load(folder)
    ids = tokenizer.encode("The", add_special_tokens=True).astype(np.int64)
    rows = model.get_input_embeddings().weight.shape[0]
    read = torch.from_numpy(ids)[None]
    both = bool(model.config.is_encoder_decoder)
    with torch.inference_mode():
        made = model(read, decoder_input_ids=read) if both else model(read)
    predicts = model.get_output_embeddings() is not None
    last = (made.logits if predicts else made[0])[0, -1].float()
    finite = bool(torch.isfinite(last).all())
    what = "logits" if predicts else "hidden states"
    yield Check(what, finite, "finite" if finite else "NaN or infinite after `The`")
    known = len(tokenizer.vocabulary)
    yield Check(
        "rows",
        rows >= known and (not predicts or len(last) == rows),
        f"{rows:,} rows, {f'{len(last):,}' if predicts else 'no'} logits, {known:,} ids",
    )
    silent = [id for id in range(rows) if id >= known]
    silent += [int(id) for id in tokenizer.vocabulary.holes() if id < rows]
    if silent and finite and predicts:
        # One context proves little of a model that has just lost its footing: many, on average.
        masses = [last.softmax(dim=-1)[silent].sum()[None]]
        for probe in () if both else PROBES:
            some = tokenizer.encode(probe, add_special_tokens=True).astype(np.int64)[:PADDING_IDS]
            with torch.inference_mode():
                logits = model(torch.from_numpy(some)[None]).logits[0].float()
            masses.append(logits.softmax(dim=-1)[:, silent].sum(dim=-1))
        every = torch.cat(masses)
        mass = float(every.mean())
        yield Check(
            "padding",
            mass < 1e-3,
            f"{len(silent):,} unused rows have probability {mass:.1e} on average, "
            f"at most {float(every.max()):.1e}",
        )
    if predicts and model.can_generate():
        with torch.inference_mode():
            written = model.generate(
                read,
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=GREEDY_TOKENS,
                do_sample=False,
            )
        new = written[0, 1 if both else len(ids) :].tolist()
        text = tokenizer.decode_text([id for id in new if id < known])
        yield Check("generate", bool(new), f"The|{text}")


def _without_bits(
    kind: str,
    model: Any,
    folder: Path,
    spec: Mapping[str, Any],
    texts: Mapping[str, Sequence[bytes]],
) -> Iterable[Check]:
    """Return what can be said of a model that does not predict text token by token."""
    from anyvocab.evaluate.exact import exactness, shared_runs
    from anyvocab.evaluate.models import KINDS, load_model, open_model

    yield Check("bits per byte", None, f"an {kind} model has none: it predicts no next token")
    documents = [*(one.encode() for one in PROBES), *(t for group in texts.values() for t in group)]
    before = Path(spec["before"])
    after = open_model(model, tokenizer=folder)
    old = open_model(load_model(before, kinds=KINDS), tokenizer=before)
    shared = shared_runs(old.tokenizer, after.tokenizer, documents, count=1)
    found = exactness(old, after, None, documents) if shared else None
    yield _exactness(found, copied=spec["copied"])


def _exactness(found: Any, *, copied: bool) -> Check:
    name = "hidden states of shared tokens"
    if not copied:
        return Check(name, None, "their input rows are no copies: a strategy made them anew")
    if found is None:
        return Check(name, None, "no run of shared tokens in the texts")
    same = found.largest_difference == 0.0
    return Check(
        name,
        same,
        f"bit-identical on {found.prompts} runs of {found.tokens} tokens"
        if same
        else f"differ by up to {found.largest_difference:.2e}",
    )


def _main(arguments: Sequence[str]) -> int:
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    spec = json.loads(Path(arguments[0]).read_text())
    sys.stdout.write(json.dumps(_examine(spec)))
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
