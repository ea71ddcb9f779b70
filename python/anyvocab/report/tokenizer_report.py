"""A report on a tokenizer: everything that can be measured of it, as data and as a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyvocab.report.compare_page import compare_page
from anyvocab.report.pieces import cut_text

if TYPE_CHECKING:
    import os

    from anyvocab import Tokenizer
    from anyvocab.evaluate import Bootstrap, Domain
    from anyvocab.evaluate.tokenizers import ModelShape, TokenizerComparison
    from anyvocab.report.pieces import Cut
    from anyvocab.tokenizer import Text

__all__ = ["TokenizerReport", "example_cuts", "tokenizer_report"]

EXAMPLES = 2  # domains of which a text is shown token by token
EXAMPLE_BYTES = 320


@dataclass(frozen=True)
class TokenizerReport:
    """A tokenizer judged on texts.

    Attributes:
        comparison: The numbers, the tokenizer first and its baselines after it.
        html: The same as a page.
    """

    comparison: TokenizerComparison
    html: str

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page: to a temporary file first, which then takes the name."""
        from pathlib import Path

        from anyvocab._save import write_atomically

        write_atomically(Path(path), self.html.encode("utf-8", "backslashreplace"))


def tokenizer_report(
    tokenizer: object,
    texts: Mapping[str, Iterable[Text]] | Iterable[Text] | Iterable[Domain],
    *,
    name: str = "trained",
    baselines: Mapping[str, object] | Iterable[object] = (),
    parallel: Mapping[str, Text | Iterable[Text]] | None = None,
    parallel_name: str = "",
    bootstrap: Bootstrap | None = None,
    shape: ModelShape | None = None,
    passes: int = 3,
    progress: Callable[[str, str, int, int], None] | None = None,
) -> TokenizerReport:
    """Return a report on a tokenizer, beside others where there are any.

    Args:
        tokenizer: Anything :meth:`anyvocab.Tokenizer.load` takes.
        texts: Texts by domain or language that it was not trained on, or texts of one domain.
        name: What the report calls it.
        baselines: Others to compare with it; as a mapping, with their names.
        parallel: Language to the same content in that language; the built-in Article 1 of the
            Universal Declaration of Human Rights in 15 languages when left out.
        parallel_name: Where `parallel` comes from, for the page.
        bootstrap: How intervals are made.
        shape: The model whose cost is reckoned.
        passes: How often encoding is timed; 0 for not at all.
        progress: Is told the tokenizer, the step, and how much of how much is done.

    Raises:
        InvalidValue: There is no text, or a tokenizer makes no token of a domain.
        AnyvocabError: A tokenizer cannot be loaded.

    >>> report = tokenizer_report("pico:code-4k", ["def f(x): return x"], name="mine", passes=0)
    >>> report.comparison["mine"].bytes, report.html.startswith("<!doctype html>")
    (18, True)
    """
    from anyvocab.evaluate.compare import _domains
    from anyvocab.evaluate.tokenizers import compare_tokenizers, open_tokenizers
    from anyvocab.report.sample import SAMPLE, SAMPLE_NAME

    domains = _domains(texts)
    opened = open_tokenizers({name: tokenizer})
    others = baselines if isinstance(baselines, Mapping) else list(baselines)
    for other, loaded in (open_tokenizers(others) if others else {}).items():
        opened[other if other not in opened else f"{other} (baseline)"] = loaded
    if parallel is None:
        parallel, parallel_name = dict(SAMPLE), SAMPLE_NAME
    comparison = compare_tokenizers(
        opened,
        domains,
        parallel=parallel,
        bootstrap=bootstrap,
        shape=shape,
        passes=passes,
        progress=progress,
    )
    html = compare_page(
        comparison,
        example_cuts(opened, domains),
        title=f"The tokenizer {name}" if len(opened) == 1 else "",
        parallel=parallel_name,
    )
    return TokenizerReport(comparison, html)


def example_cuts(
    tokenizers: Mapping[str, Tokenizer], domains: Iterable[Domain], *, text: bytes = b""
) -> dict[str, dict[str, Cut]]:
    """Return title to a text as every tokenizer cuts it: the beginnings of some domains.

    Args:
        tokenizers: Name to tokenizer.
        domains: Whose first documents are shown.
        text: What to show instead, where it is not empty.
    """
    if text:
        return {"text": {name: cut_text(one, text) for name, one in tokenizers.items()}}
    found: dict[str, dict[str, Cut]] = {}
    several = list(domains)
    for domain in several[:: max(1, len(several) - 1)][:EXAMPLES]:  # the first and the last
        # A little way in: files begin with headers.
        document = max(domain.documents[:20], key=_readable)
        start = document.find(b"\n", len(document) // 10, len(document) // 2) + 1
        part = document[start : start + EXAMPLE_BYTES].decode("utf-8", "ignore")
        shown = part.strip("\r\n")
        if shown:
            found[domain.name] = {name: cut_text(one, shown) for name, one in tokenizers.items()}
    return found


def _readable(document: bytes) -> tuple[bool, float]:
    """Return what ranks documents as examples: long enough, then the most letters and spaces."""
    part = document[:4096]
    letters = sum(byte == 0x20 or byte >= 0x80 or chr(byte).isalpha() for byte in part)
    return len(document) >= 4 * EXAMPLE_BYTES, letters / max(1, len(part))
