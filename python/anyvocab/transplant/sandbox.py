"""Chat templates rendered in a process of their own, with bounds on time, memory and output."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anyvocab import errors
from anyvocab._chat_template import TEMPLATE_LIMIT

__all__ = ["Rendered", "render"]

SECONDS: Final = 20.0  # of the wall clock, the start of an interpreter on a busy machine included
MEMORY: Final = 512 << 20  # bytes of address space
CHARACTERS: Final = 1 << 18  # of one rendering
_WORKER: Final = Path(__file__).with_name("_render.py")


@dataclass(frozen=True, slots=True)
class Rendered:
    """One rendering: its text, or what went wrong."""

    text: str | None = None
    error: str = ""


def render(
    template: str,
    variables: Sequence[Mapping[str, object]],
    *,
    name: str = "chat_template",
    seconds: float = SECONDS,
    characters: int = CHARACTERS,
) -> list[Rendered]:
    """Return what a template writes for each set of variables, as transformers would render it.

    A template is a stranger's program: it runs in jinja2's immutable sandbox, in a process without
    environment that is bounded in time, memory and output. What a template raises itself comes
    back as that rendering's error.

    Args:
        template: Jinja text.
        variables: What each rendering knows: `messages`, `add_generation_prompt`, `bos_token`, ...
        name: What to call the template in messages.
        seconds: For all renderings together.
        characters: The most that one rendering may write.

    Raises:
        ChatTemplateError: It is too long, or takes too much time or memory.
        MissingExtra: jinja2 is not installed.
    """
    if len(template) > TEMPLATE_LIMIT:
        raise errors.build(
            errors.ChatTemplateError,
            f"{len(template)} characters, over the limit of {TEMPLATE_LIMIT}",
            field=name,
        )
    if importlib.util.find_spec("jinja2") is None:
        raise errors.build(
            errors.MissingExtra,
            "jinja2 is needed to compare chat templates",
            field=name,
            fix="install it with `pip install 'anyvocab[models]'`",
        )
    request = {
        "template": template,
        "variables": list(variables),
        "characters": characters,
        "seconds": math.ceil(seconds),
        "memory": MEMORY,
        "path": sys.path,
    }
    kept = {key: os.environ[key] for key in ("SYSTEMROOT",) if key in os.environ}  # for Windows
    try:
        done = subprocess.run(  # noqa: S603 (this interpreter, our own script)
            [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_WORKER)],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=seconds,
            env=kept,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise errors.build(
            errors.ChatTemplateError,
            f"is not rendered within {seconds:g} s",
            field=name,
            fix="it may loop without end: read it before you use it",
        ) from None
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        reason = last or f"signal or exit status {done.returncode}: out of time or memory"
        raise errors.build(
            errors.ChatTemplateError,
            f"cannot be rendered ({reason})",
            field=name,
            fix="read it before you use it",
        )
    answers = json.loads(done.stdout)
    return [Rendered(one.get("text"), one.get("error", "")) for one in answers]
