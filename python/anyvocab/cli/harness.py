"""`anyvocab eval --harness`: tasks of lm-evaluation-harness on byte-level models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import typer

from anyvocab.cli.byte_options import open_model
from anyvocab.cli.output import ExitCode, Output

__all__ = ["run"]


def run(
    output: Output,
    models: Sequence[str],
    tasks: Sequence[str],
    *,
    task_files: Path | None,
    examples: int | None,
    shots: int | None,
    law: str,
    batch: int,
    seed: int,
    device: str | None,
    dtype: str,
) -> ExitCode:
    """Run tasks on each model and print every metric that they report.

    Args:
        output: Where results go.
        models: What :meth:`anyvocab.ByteLM.load` takes.
        tasks: Names of tasks or groups; a name may hold several, with commas between them.
        task_files: A folder of further task files (`.yaml`); names in it come before the harness's.
        examples: How many examples of each task; all of them.
        shots: How many solved examples stand before each; what the task says.
        law: Which distribution of bytes is meant.
        batch: How many requests are scored together.
        seed: Of tasks that sample, and of what the harness draws.
        device: Where models run.
        dtype: The type of their weights.

    Raises:
        MissingExtra: lm-eval is not installed.
    """
    # First of all, since it says what to install where the harness is missing.
    from anyvocab.integrations.lm_eval import ByteHarness

    names = [name for task in tasks for name in task.split(",") if name]
    manager = _manager(names, task_files)
    import lm_eval

    documents = []
    for source in models:
        lm = open_model(output, source, law=law, device=device, dtype=dtype)
        found = lm_eval.simple_evaluate(
            model=ByteHarness(lm, batch_size=batch, seed=seed),
            tasks=names,
            task_manager=manager,
            limit=examples,
            num_fewshot=shots,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
        # None only on ranks other than the first of a distributed run.
        documents.append(_document(source, found or {}))
    if output.json:
        output.document(
            {"harness": f"lm-eval {version('lm-eval')}", "law": law, "models": documents}
        )
    else:
        _print(output, documents, law)
    return ExitCode.DONE


def _manager(names: Sequence[str], task_files: Path | None) -> Any:
    """Return what finds the tasks' files."""
    from lm_eval.tasks import TaskManager

    folder = None if task_files is None else str(task_files)
    # The harness's own thousands of files take seconds to list: only where the folder lacks a name.
    unknown = list(names)
    for include_defaults in (False, True) if folder else (True,):
        manager = TaskManager(include_path=folder, include_defaults=include_defaults)
        unknown = [name for name in names if not manager.match_tasks([name])]
        if names and not unknown:
            return manager
    raise typer.BadParameter(
        f"no task is called {', '.join(unknown) or 'so'}: see `lm-eval ls tasks`, or name the "
        "folder of its file with --task-files",
        param_hint="--harness",
    )


def _document(source: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of one model; the harness names them `metric,filter`."""
    results = []
    for task, numbers in found.get("results", {}).items():
        for name, value in numbers.items():
            metric, comma, chosen = name.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = numbers.get(f"{metric}_stderr,{chosen}")
            known = isinstance(error, int | float) and math.isfinite(error)
            results.append(
                {
                    "task": task,
                    "metric": metric,
                    "filter": chosen,
                    "value": float(value),
                    "stderr": float(error) if known else None,
                    "examples": found.get("n-samples", {}).get(task, {}).get("effective"),
                }
            )
    return {"model": source, "results": results}


def _print(output: Output, documents: Sequence[Mapping[str, Any]], law: str) -> None:
    output.heading(f"lm-evaluation-harness {version('lm-eval')}, bytes by the {law} law")
    rows = [
        [
            one["task"],
            one["metric"] if one["filter"] == "none" else f"{one['metric']} ({one['filter']})",
            document["model"],
            f"{one['value']:.4f}",
            "" if one["stderr"] is None else f"{one['stderr']:.4f}",
            "" if one["examples"] is None else one["examples"],
        ]
        for document in documents
        for one in document["results"]
    ]
    rows.sort(key=lambda row: (str(row[0]), str(row[1])))  # models keep their order
    output.table(
        ["task", "metric", "model", "value", "stderr", "examples"], rows, numbers=[3, 4, 5]
    )
