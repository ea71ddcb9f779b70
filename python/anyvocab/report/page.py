"""The frame of a page: one file that needs nothing else.

No font, no image, nothing from elsewhere: the page's own policy forbids it. Its one style sheet,
and its one script where it has one, are named there by their hashes, so that nothing else can run
whatever a token's text says. Text goes through `text`, which escapes it; the builders below take
finished HTML only where their argument is called `html`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from html import escape

from anyvocab import errors

__all__ = ["card", "data", "page", "section", "table", "text"]

LONG_TITLE = 20  # characters: what a column's title may take of one line
MANY = 6  # columns that fit on a page

_STYLE = """
:root { color-scheme: light dark;
  --paper: #fbfbf9; --ink: #1c2024; --soft: #5d6670; --line: #dcdfe3; --panel: #ffffff;
  --a: #3563b8; --b: #c2571a; --c: #2f7d4f; --d: #8247a8; --e: #8a6d1a; --f: #7a7f86; --g: #b3303c;
  --t0: #cfe6d4; --t1: #d6dcf5; --t2: #f6dfc6; --t3: #c9e7ee; --control: #e9c6e4; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #15181c; --ink: #e7eaed; --soft: #9aa4af; --line: #30363d; --panel: #1b1f24;
  --a: #7ea6f0; --b: #eb9660; --c: #6fc592; --d: #c596e6; --e: #d8b95a; --f: #8d949c; --g: #f0808a;
  --t0: #24503a; --t1: #323c70; --t2: #65431f; --t3: #1e4f5c; --control: #64305d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .6rem; padding-top: .9rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1rem 0 .4rem; overflow-wrap: anywhere; }
p { margin: .3rem 0 .8rem; max-width: 46rem; } .soft, small, footer { color: var(--soft); }
footer { margin-top: 3rem; font-size: .85rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .6rem;
  margin: 1rem 0; padding: 0; list-style: none; }
.cards li { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem;
  padding: .55rem .7rem; }
.cards b { display: block; font-size: 1.3rem; font-weight: 600; line-height: 1.25;
  overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.cards span { color: var(--soft); font-size: .84rem; line-height: 1.3; display: block; }
.wrap { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .85rem; }
th, td { padding: .28rem .7rem .28rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.n, th.n { text-align: right; white-space: nowrap; } td.bars { min-width: 7rem; width: 40%; }
th { vertical-align: bottom; } th .long { display: inline-block; white-space: normal;
  max-width: 9rem; overflow-wrap: anywhere; }
.many th:first-child, .many td:first-child { position: sticky; left: 0; min-width: 8rem;
  background: var(--paper); }
.made { min-width: 10rem; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code { font-size: .92em; background: var(--t1); border-radius: .2rem; padding: .05rem .25rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
td:last-child { overflow-wrap: anywhere; } td code { overflow-wrap: break-word; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; margin: 0;
  padding: .7rem .8rem; font-size: .95rem; line-height: 1.75; white-space: pre-wrap;
  overflow-wrap: anywhere; tab-size: 4; }
pre span { border-radius: .18rem; padding: .08em 0; box-decoration-break: clone;
  -webkit-box-decoration-break: clone; print-color-adjust: exact;
  -webkit-print-color-adjust: exact; }
.t0 { background: var(--t0); } .t1 { background: var(--t1); } .t2 { background: var(--t2); }
.t3 { background: var(--t3); } .control { background: var(--control); font-weight: 600; }
.merged { box-shadow: inset 0 -.16em var(--a); }
.gap { color: var(--soft); text-decoration: underline dotted; } .hid { opacity: .55; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr));
  gap: 1rem; } .pair > div { min-width: 0; }
svg { display: block; } svg.bar { width: 100%; height: .62rem; margin: .42rem 0 .1rem; }
svg.bar + svg.bar { margin-top: .15rem; } svg.tall { height: 1.1rem; }
svg.chart { width: 100%; max-width: 46rem; height: auto; } svg.rows { min-width: 30rem; }
svg line { stroke: var(--line); }
svg text { fill: var(--soft); font-size: 12px; font-family: inherit; }
.a { fill: var(--a); } .b { fill: var(--b); } .c { fill: var(--c); } .d { fill: var(--d); }
.e { fill: var(--e); } .f { fill: var(--f); } .g { fill: var(--g); } .h { fill: var(--line); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; padding: 0; margin: .5rem 0;
  list-style: none; font-size: .9rem; } .legend svg { display: inline-block; width: .8rem;
  height: .8rem; vertical-align: -.06rem; margin-right: .35rem; }
.warn { border-left: .25rem solid var(--b); padding: .1rem 0 .1rem .8rem; }
.good, .bad { font-weight: 600; } .good { color: var(--c); } .bad { color: var(--g); }
svg.dot { display: inline-block; width: .7rem; height: .7rem; margin-right: .35rem; }
svg.strip { width: 100%; height: 2.1rem; } .ends { display: flex; justify-content: space-between; }
.tools { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin: .8rem 0 .5rem; }
.tools input { flex: 1 1 12rem; min-width: 0; }
input, select, button { font: inherit; font-size: .92rem; color: var(--ink); padding: .3rem .6rem;
  background: var(--panel); border: 1px solid var(--line); border-radius: .4rem; max-width: 100%; }
button { cursor: pointer; } button:disabled { opacity: .4; cursor: default; }
th button { all: unset; cursor: pointer; } th button:hover { color: var(--ink); }
:focus-visible { outline: 2px solid var(--a); outline-offset: 2px; }
svg.tree text { font-size: 12px; } svg.tree text.mono { font-size: 13.5px; fill: var(--ink);
  font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
svg.tree text.strong { font-weight: 600; } svg.tree text.mark { fill: var(--soft); }
svg.tree .box { fill-opacity: .22; stroke: var(--line); } svg.tree .box.h { fill-opacity: .35; }
svg.tree .over { fill-opacity: .38; } .joint, .edge { fill: none; stroke: var(--soft); }
.curve { fill: none; stroke: var(--a); stroke-width: 2.5; stroke-linejoin: round; }
svg line.edge { stroke: var(--soft); }
.joint { stroke-opacity: .6; } .edge { stroke-dasharray: 4 3; } td.broad { width: 75%; }
[hidden] { display: none; } .nowrap { white-space: nowrap; }
ul.plain { padding: 0; list-style: none; font-size: .9rem; color: var(--soft); }
@media (max-width: 44rem) { .wide { display: none; } th, td { padding-right: .5rem; }
  .made { min-width: 8.2rem; } }
"""


def text(value: object) -> str:
    """Return a value as text that a page shows and never obeys."""
    return escape(str(value), quote=True)


def page(title: str, html: Iterable[str], *, made_by: str, script: str = "") -> str:
    """Return a whole page.

    Args:
        title: Its title, as text.
        html: What stands in it.
        made_by: A line at its end, as text.
        script: The only script that may run in it, run when all of it is there; none if empty.

    Raises:
        InvalidValue: The script holds `<`, a slash and a letter, or `<!`, which HTML would read.
    """
    if "</" in script or "<!" in script:
        raise errors.build(errors.InvalidValue, "it ends itself", field="script")
    allowed = f"script-src {_hash(script)}; " if script else ""
    policy = (
        f"default-src 'none'; {allowed}style-src {_hash(_STYLE)}; base-uri 'none'; "
        "form-action 'none'"
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{text(title)}</title><style>{_STYLE}</style></head><body><main>",
            *html,
            f"<footer>{text(made_by)}</footer></main>",
            *([f"<script>{script}</script>"] if script else []),
            "</body></html>\n",
        ]
    )


def _hash(contents: str) -> str:
    """Return how a policy names a style sheet or a script: by what is in it."""
    digest = base64.b64encode(hashlib.sha256(contents.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def data(id: str, value: object) -> str:
    """Return a value as JSON that a page's script can read by an id; nothing in it is markup."""
    document = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # In JSON `<` stands in strings only, and there it may be written as an escape.
    safe = document.replace("<", "\\u003c")
    return f'<script type="application/json" id="{text(id)}">{safe}</script>'


def section(title: str, *html: str) -> str:
    """Return a part of a page under its title."""
    return f"<section><h2>{text(title)}</h2>{''.join(html)}</section>"


def card(value: object, label: str) -> str:
    """Return one fact for a list of class `cards`."""
    return f"<li><b>{text(value)}</b><span>{text(label)}</span></li>"


def table(
    columns: Sequence[str], rows_html: Iterable[Sequence[str]], *, numbers: Sequence[int] = ()
) -> str:
    """Return a table.

    Args:
        columns: Its titles, as text.
        rows_html: Its cells, as HTML.
        numbers: Which columns are aligned to the right.
    """
    kinds = [' class="n"' if i in numbers else "" for i in range(len(columns))]
    head = "".join(f"<th{k}>{_title(c)}</th>" for k, c in zip(kinds, columns, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{k}>{c}</td>" for k, c in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows_html
    )
    many = ' class="many"' if len(columns) > MANY else ""  # the first stays in sight
    whole = f"<table{many}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wrap">{whole}</div>'


def _title(title: str) -> str:
    """Return the title of a column; a long name takes several lines, not a page's width."""
    return f'<span class="long">{text(title)}</span>' if len(title) > LONG_TITLE else text(title)
