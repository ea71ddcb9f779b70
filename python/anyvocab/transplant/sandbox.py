"""Chat templates rendered in a process of their own, with bounds on time, memory and output."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anyvocab import errors
from anyvocab._chat_template import TEMPLATE_LIMIT

__all__ = ["Rendered", "render", "render_all"]

SECONDS: Final = 10  # of processor time; an honest template takes milliseconds
PATIENCE: Final = 6  # wall clock over processor time: a busy machine, and one without limits
MEMORY: Final = 512 << 20  # bytes of address space
CHARACTERS: Final = 1 << 18  # of one rendering
_WORKER: Final = Path(__file__).with_name("_render.py")


@dataclass(frozen=True, slots=True)
class Rendered:
    """One rendering: its text, or what went wrong."""

    text: str | None = None
    error: str = ""


def render(
    template: str, variables: Sequence[Mapping[str, object]], *, name: str = "chat_template"
) -> list[Rendered]:
    """Return what one template writes for each set of variables; see :func:`render_all`."""
    return render_all([(template, variables)], name=name)[0]


def render_all(
    jobs: Sequence[tuple[str, Sequence[Mapping[str, object]]]],
    *,
    name: str = "chat_template",
    seconds: int = SECONDS,
    characters: int = CHARACTERS,
) -> list[list[Rendered]]:
    """Return what templates write for sets of variables, as transformers would render them.

    A template is a stranger's program: it runs in jinja2's immutable sandbox, in a process without
    environment that is bounded in time, memory and output. What a template raises itself comes
    back as that rendering's error.

    Args:
        jobs: Jinja text, and what each of its renderings knows: `messages`,
            `add_generation_prompt`, `bos_token`, ...
        name: What to call the templates in messages.
        seconds: Of processor time, for all renderings together; of the wall clock, `PATIENCE`
            times as many.
        characters: The most that one rendering may write.

    Raises:
        ChatTemplateError: One is too long, or takes too much time or memory.
        MissingExtra: jinja2 is not installed.
    """
    longest = max((len(template) for template, _ in jobs), default=0)
    if longest > TEMPLATE_LIMIT:
        raise errors.build(
            errors.ChatTemplateError,
            f"{longest} characters, over the limit of {TEMPLATE_LIMIT}",
            field=name,
        )
    if importlib.util.find_spec("jinja2") is None:
        raise errors.missing_extra("jinja2 is needed to compare chat templates", field=name)
    request = {
        "jobs": [{"template": one, "variables": list(variables)} for one, variables in jobs],
        "characters": characters,
        "seconds": seconds,
        "memory": MEMORY,
        # Not the working directory, which may be the stranger's folder.
        "path": [place for place in sys.path if Path(place).is_absolute()],
    }
    answers = iter(_ask(request, name, seconds))
    return [[next(answers) for _ in variables] for _, variables in jobs]


def _ask(request: Mapping[str, object], name: str, seconds: int) -> list[Rendered]:
    kept = {key: os.environ[key] for key in ("SYSTEMROOT",) if key in os.environ}  # for Windows
    try:
        done = subprocess.run(  # noqa: S603 (this interpreter, our own script)
            [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_WORKER)],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=PATIENCE * seconds,
            env=kept,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _endless(name, f"within {PATIENCE * seconds} s") from None
    if done.returncode == -getattr(signal, "SIGXCPU", 0) != 0:
        raise _endless(name, f"within {seconds} s of processor time")
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        raise errors.build(
            errors.ChatTemplateError,
            f"cannot be rendered ({last or f'exit status {done.returncode}'})",
            field=name,
            fix="read it before you use it",
        )
    return [Rendered(one.get("text"), one.get("error", "")) for one in json.loads(done.stdout)]


def _endless(name: str, bound: str) -> errors.ChatTemplateError:
    return errors.build(
        errors.ChatTemplateError,
        f"is not rendered {bound}",
        field=name,
        fix="it may loop without end: read it before you use it",
    )
