"""Every ```python block of the README and the guides runs, offline, as a reader would run it.

Blocks of one document share their names, in order. A block after `<!-- needs: models -->` is left
out where torch or transformers is missing, one after `<!-- needs: datatrove -->` where datatrove
is; `<!-- not run: why -->` leaves one out always.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[^>]*?) -->\n)?```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    line: int
    language: str
    code: str
    mark: str


def blocks(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, m.start("code")) + 1, m["language"], m["code"], m["mark"] or "")
        for m in BLOCK.finditer(text)
    ]


def python_blocks(path: Path) -> list[Block]:
    return [
        block
        for block in blocks(path)
        if block.language == "python" and not block.mark.startswith("not run")
    ]


def is_possible(block: Block) -> bool:
    """Whether the packages are there that a block needs."""
    _, needs, what = block.mark.partition("needs: ")
    packages = ("torch", "transformers") if what.strip() == "models" else (what.strip(),)
    return not needs or all(map(importlib.util.find_spec, packages))


@pytest.mark.parametrize(
    "path",
    [path for path in DOCUMENTS if python_blocks(path)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_examples_of_a_document_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in python_blocks(path):
        if not is_possible(block):
            continue
        # Line numbers in a traceback are the document's.
        code = compile("\n" * (block.line - 1) + block.code, str(path), "exec")
        exec(code, names)


def test_the_readme_names_the_two_commands() -> None:
    shell = [block.code for block in blocks(ROOT / "README.md") if block.language == "bash"]
    assert any("make demo" in code and "make test" in code for code in shell)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_inside_the_repository_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), target
