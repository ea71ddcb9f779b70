"""Renders untrusted chat templates; run as a script, in a process that may be killed.

Reads a request from standard input, writes a list of `{"text": ...}` or `{"error": ...}`. The
sandbox of jinja2 keeps a template from attributes and methods it has no business with; it does not
keep it from using up time and memory, which is what the process is for.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def _bound(seconds: int, memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the caller's clock alone
        return
    for name, value in (("RLIMIT_CPU", seconds), ("RLIMIT_AS", memory), ("RLIMIT_FSIZE", 0)):
        limit = getattr(resource, name, None)
        if limit is None:
            continue
        _, hard = resource.getrlimit(limit)
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(limit, (wanted, hard))
        except (OSError, ValueError):  # macOS has no bound of the address space
            continue


def _environment() -> Any:
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}`: marks what an assistant wrote; here only its contents count."""

        tags = {"generation"}  # noqa: RUF012 (the name and type that jinja2 asks for)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    def raise_exception(message: object) -> None:
        raise TemplateError(str(message))

    def tojson(value: object, **options: Any) -> str:
        options = {"ensure_ascii": False, **options}
        return json.dumps(value, **options)

    def strftime_now(form: object) -> str:
        return str(form)  # the same at every rendering

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    made.filters["tojson"] = tojson
    made.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    return made


def _render(template: Any, variables: dict[str, object], limit: int) -> str:
    pieces: list[str] = []
    size = 0
    for piece in template.generate(**variables):
        size += len(piece)
        if size > limit:
            raise ValueError(f"it writes more than {limit} characters")
        pieces.append(piece)
    return "".join(pieces)


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    _bound(request["seconds"], request["memory"])
    sys.path[:] = request["path"]
    from jinja2 import TemplateError

    # What a template can make happen in an expression.
    failures = (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
        TemplateError,
        TypeError,
        ValueError,
    )
    answers = []
    environment = _environment()
    for job in request["jobs"]:
        for variables in job["variables"]:
            try:
                template = environment.from_string(job["template"])
                answers.append({"text": _render(template, variables, request["characters"])})
            except failures as error:
                answers.append({"error": f"{type(error).__name__}: {error}"[:500]})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
