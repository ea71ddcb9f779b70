"""Plain text of the files that documentation packages hold: HTML and Mallard pages, man pages.

Rough on purpose: what a person would read is kept, markup and page furniture are not. Nothing is
guessed about encodings: a file that is not UTF-8 has no text here.
"""

from __future__ import annotations

import gzip
import re
from html.parser import HTMLParser
from pathlib import Path


def words(text: str) -> frozenset[str]:
    """Return the words of a list that is written as a text."""
    return frozenset(text.split())


BLOCKS = words(
    "address article blockquote br caption dd div dl dt fieldset figcaption figure form h1 h2 h3 h4"
    " h5 h6 hr item li note ol p page pre section steps synopsis table td terms th title tr ul"
)
# Not what a reader came for: scripts, menus, the frame that is the same on every page.
SKIPPED = words("aside button footer head header info nav script select style svg")
FURNITURE = words("docnav footer headerlink menu nav navfooter navheader related sphinxsidebar")
FRAME = re.compile(
    r"(?is)<(aside|footer|head|header|nav|script|style)\b.*?</\1>"
)  # the bulk, cheaply
VOID = words("area base br col embed hr img input link meta source track wbr")

MACRO = re.compile(r"[.']\s*(\w+)\s*(.*)")
DEFINITION = re.compile(r"(?ms)^[.'][ \t]*(?:de|ig)\b.*?^\.\.$")
TEXT_MACROS = words("B BI BR I IB IR R RB RI SB SM TP UR")
BREAKS = words("PP P LP IP TP HP SH SS TH br sp")
ESCAPES = (
    (re.compile(r'\\".*'), ""),
    (re.compile(r"\\f(?:\(..|\[[^\]]*\]|.)"), ""),
    (re.compile(r"\\s[-+]?\d+|\\[hv]'[^']*'|\\[{}]"), ""),
    (re.compile(r"\\\(em|\\\[em\]"), "—"),
    (re.compile(r"\\\(aq|\\\[aq\]"), "'"),
    (re.compile(r"\\\((?:lq|rq|dq)|\\\[(?:lq|rq|dq)\]"), '"'),
    (re.compile(r"\\\(bu|\\\[bu\]"), "•"),
    (re.compile(r"\\\*?(?:\(..|\[[^\]]*\])"), ""),
    (re.compile(r"\\[-]"), "-"),
    (re.compile(r"\\ "), " "),
    (re.compile(r"\\e|\\\\"), r"\\"),
    (re.compile(r"\\[&/,|^%:c]"), ""),
)


class _Reader(HTMLParser):
    """Collects the text outside of SKIPPED elements; white space counts in `pre` alone."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._hidden: list[str] = []  # open elements from the outermost hidden one on
        self._pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in VOID:
            if tag in BLOCKS and not self._hidden:
                self.pieces.append("\n")
            return
        if self._hidden:
            if tag == self._hidden[0]:
                self._hidden.append(tag)
            return
        classes = " ".join(v for k, v in attrs if k in {"class", "id", "role"} and v).split()
        if tag in SKIPPED or not FURNITURE.isdisjoint(classes):
            self._hidden = [tag]
            return
        if tag == "pre":
            self._pre += 1
        if tag in BLOCKS:
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            if tag == self._hidden[0]:
                self._hidden.pop()
            return
        if tag == "pre":
            self._pre = max(0, self._pre - 1)
        if tag in BLOCKS:
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(data if self._pre else re.sub(r"\s+", " ", data))


def html_text(page: str) -> str:
    """Return the text of an HTML or Mallard page, a line for each block."""
    reader = _Reader()
    reader.feed(FRAME.sub("", page))
    reader.close()
    return "".join(reader.pieces)


def man_text(page: str) -> str:
    """Return the text of a man page: macros taken away, escapes written out."""
    lines: list[str] = []
    for line in DEFINITION.sub("", page).splitlines():
        found = MACRO.match(line)
        if found is None:
            if not line.startswith((".", "'")):
                lines.append(line)
            continue
        name, words = found.groups()
        if name in BREAKS and lines and lines[-1]:
            lines.append("")
        if name in TEXT_MACROS:
            lines.append(words.replace('"', ""))
        elif name in {"SH", "SS"}:
            lines += [words.replace('"', ""), ""]
    text = "\n".join(lines)
    for pattern, with_ in ESCAPES:
        text = pattern.sub(with_, text)
    return re.sub(r"(?<=\S)\n(?=\S)", " ", text)  # roff fills: a paragraph is one line


def tidy(text: str) -> str:
    """Return text without the blanks at ends of lines and with one empty line at most."""
    text = "\n".join(line.rstrip() for line in text.replace("\r\n", "\n").split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def read(path: Path) -> str | None:
    """Return the text of a file by its suffix, None where it holds none or is not UTF-8."""
    data = path.read_bytes()
    name = path.name
    if name.endswith(".gz"):
        data, name = gzip.decompress(data), name[:-3]
    if b"\0" in data:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    suffix = Path(name).suffix
    if suffix in {".html", ".htm", ".page"}:
        text = html_text(text)
    elif re.fullmatch(r"\.[0-9][a-z]*", suffix):
        text = man_text(text)
    return tidy(text)
