"""Write the corpus of the training bench: documentation in many languages and code.

The texts are those of Debian's documentation packages, fetched with `apt-get download` (nothing is
installed; run `apt-get update` first). A package that this release does not have is left out and
named. Every document becomes a file:

    OUT/en/…  OUT/multi/LANGUAGE/…  OUT/code/LANGUAGE/…   what to train on
    OUT/heldout/{en,multi/LANGUAGE,code/LANGUAGE}/…       a twentieth, chosen by the text's hash
    OUT/corpus.json                                       packages, versions, documents and bytes

A text is written once, whatever number of packages hold it. Of a page, lines that a fifth of the
pages beside it share are left out (menus and frames), and so are lines of at least 100 bytes that
an earlier document has (licences, paragraphs that were not translated), which also keeps the
held-out part unknown. Where there is more of a language than its share, documents are taken in the
order of their hashes. The same packages give the same corpus.

    python benches/python/train_corpus.py --out FOLDER        # 400 MB of packages, some minutes
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import multiprocessing
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from train_corpus_text import read, tidy, words

TRANSLATED = {  # one package for each language
    "libreoffice-help": "en-us de fr es ru ja zh-cn ko it pt-br pl tr el hu cs nl fi sv da vi hi"
    " id",
    "manpages": "de fr es ja pl ru zh it pt-br tr hu ro nl da fi cs uk sv el vi sr",
    "debian-reference": "en de es fr it ja pt zh-cn zh-tw id",
    "developers-reference": "de fr ja ru",
    "maint-guide": "ca ja ru zh-cn",
    "aptitude-doc": "fi ja ru",
    "fortunes": "cs pl ru",
}
PROSE = words(
    "apache2-doc bind9-doc debian-faq debian-handbook debian-policy developers-reference git-doc"
    " gnome-user-docs harden-doc installation-guide-amd64 linux-doc-6.1 manpages manpages-dev"
    " maxima-doc octave-doc perl-doc postgresql-doc-15 python-django-doc python3.11-doc sqlite3-doc"
    " vim-runtime zsh-doc"
)
CODE = words(
    "golang-1.19-src libboost1.74-dev libeigen3-dev libjs-jquery-ui libjs-three libruby3.1"
    " libpython3.11-stdlib linux-headers-6.1.0-57-common node-lodash-packages perl-modules-5.36"
    " python3-django python3-sympy rust-src"
)
CODE_OF = {  # suffix -> language; where .h is C is said by its package
    ".c": "c", ".go": "go", ".h": "c", ".hpp": "cpp", ".ipp": "cpp", ".js": "js", ".pl": "perl",
    ".pm": "perl", ".py": "python", ".rb": "ruby", ".rs": "rust", ".ts": "ts",
}  # fmt: skip
CPP = {"libeigen3-dev", "libboost1.74-dev"}
PAGES = re.compile(r"\.(html|page|txt|rst|pod|u8|[1-8][a-z]*)(\.gz)?$")
# Copies of pages in another form, indexes, and lists in no language.
NO_PAGES = re.compile(
    r"(/_sources/|linux-doc-6\.1/html/|genindex|searchindex|/search\.|changelog|copyright|"
    r"robots\.txt|/README\.txt$)"
)
LANGUAGES = words(
    "ar as ca cs da de el en es eu fa fi fr gl gu he hi hr hu id it ja kn ko lt lv mr nb nl pa pl"
    " pt ro ru sl sr sv ta te tr uk vi zh"
)
NOT_LATIN = words("ar as el fa gu he hi ja kn ko mr pa ru ta te uk zh")
SHARE = {"en": 52_000_000, "multi": 3_600_000, "code": 2_400_000}  # bytes, of each language
SMALLEST, LARGEST = 200, 1_000_000  # bytes of a document
LEAST = 100_000  # bytes of a language
LONG_LINE = 100  # bytes; a shorter line may well be written twice
HELD_OUT = 20  # one in so many documents


@dataclass(frozen=True)
class Source:
    """A file of a package: where it is and what it is written in."""

    path: Path
    package: str
    part: str
    language: str


def packages() -> list[str]:
    """Return every package that is asked for."""
    translated = [f"{name}-{code}" for name, codes in TRANSLATED.items() for code in codes.split()]
    return sorted({*translated, *PROSE, *CODE})


def fetch(folder: Path) -> dict[str, str]:
    """Download what is not there, unpack it, and return package -> version."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in packages():
        if any(folder.glob(f"{name}_*.deb")):
            continue
        done = subprocess.run(["apt-get", "download", name], cwd=folder, capture_output=True)
        if done.returncode:
            print(f"left out: {name}: {done.stderr.decode().strip().splitlines()[-1]}")
    versions = {}
    for name in packages():
        for archive in sorted(folder.glob(f"{name}_*.deb")):
            versions[name] = archive.name.split("_")[1]
            if not (folder / name).is_dir():
                subprocess.run(["dpkg-deb", "-x", archive.name, name], cwd=folder, check=True)
    return versions


def language_of(package: str, inside: Path) -> str | None:
    """Return the language of a page by its package's name or its path, None for an unknown one."""
    found = re.search(r"-([a-z]{2})(-[a-z]{2})?$", package)
    if found:
        return found.group(1)
    for segment in inside.parts[2:-1]:  # after usr/share
        found = re.fullmatch(r"([a-z]{2})([-_@]\w+)?", segment)
        if found and "@" not in segment and found.group(1) in LANGUAGES:
            return found.group(1)
    return "en"


def sources(folder: Path, versions: Iterable[str]) -> Iterator[Source]:
    """Yield the files that may hold documents, English prose first."""
    found = []
    for package in versions:
        for path in (folder / package).rglob("*"):
            if not path.is_file() or path.is_symlink():
                continue
            inside = path.relative_to(folder / package)
            if package in CODE:
                language = CODE_OF.get(path.suffix)
                if package in CPP and language == "c":
                    language = "cpp"
                if language:
                    found.append(Source(path, package, "code", language))
            elif PAGES.search(path.name) and not NO_PAGES.search(str(inside)):
                language = language_of(package, inside)
                if language in LANGUAGES:
                    part = "en" if language == "en" else "multi"
                    found.append(Source(path, package, part, language))
    parts = {"en": 0, "multi": 1, "code": 2}
    return iter(sorted(found, key=lambda one: (parts[one.part], str(one.path))))


def text_of(source: Source) -> str | None:
    """Return the text of a source; for a process of its own."""
    return read(source.path)


def without_furniture(pages: list[str]) -> list[str]:
    """Return the pages of one package and language without the lines that many of them share."""
    shared = collections.Counter(line for page in pages for line in set(page.split("\n")))
    least = max(10, len(pages) // 5)
    often = {line for line, count in shared.items() if count >= least and " " in line.strip()}
    return ["\n".join(line for line in page.split("\n") if line not in often) for page in pages]


def beyond_latin(text: str) -> bool:
    """Return whether a fifth of a text's letters are of another script than Latin."""
    letters = [letter for letter in text if letter.isalpha()]
    return 5 * sum(letter > "\u024f" for letter in letters) >= len(letters)


def documents(folder: Path, versions: Iterable[str], jobs: int) -> dict[tuple[str, str], set[str]]:
    """Return (part, language) -> its texts, each once in the whole corpus."""
    listed = list(sources(folder, versions))
    with multiprocessing.Pool(jobs) as pool:
        texts = pool.map(text_of, listed, chunksize=64)
    groups: dict[tuple[str, str, str], list[str]] = {}
    for source, text in zip(listed, texts, strict=True):
        if text is not None:
            groups.setdefault((source.part, source.language, source.package), []).append(text)
    seen: set[bytes] = set()  # long lines of prose, and whole texts
    kept: dict[tuple[str, str], set[str]] = {}
    for (part, language, _), pages in groups.items():
        for page in pages if part == "code" else without_furniture(pages):
            text = page if part == "code" else tidy(unseen(page, seen))
            size = len(text.encode())
            if not SMALLEST <= size <= LARGEST or unseen(text, seen, least=0) != text:
                continue
            if part != "multi" or language not in NOT_LATIN or beyond_latin(text):
                kept.setdefault((part, language), set()).add(text)
    return kept


def unseen(page: str, seen: set[bytes], least: int = LONG_LINE) -> str:
    """Return a page without its long lines that were seen; with `least` 0 it is one line."""
    lines = page.split("\n") if least else [page]
    left = []
    for line in lines:
        data = line.encode()
        if len(data) >= least:
            key = hashlib.blake2b(data, digest_size=12).digest()
            if key in seen:
                continue
            seen.add(key)
        left.append(line)
    return "\n".join(left)


def write(out: Path, kept: dict[tuple[str, str], set[str]]) -> dict[str, dict[str, list[int]]]:
    """Write the texts; return split -> part/language -> [documents, bytes]."""
    told: dict[str, dict[str, list[int]]] = {"train": {}, "heldout": {}}
    for (part, language), texts in sorted(kept.items()):
        if sum(map(len, texts)) < LEAST:
            continue
        name = part if part == "en" else f"{part}/{language}"
        room = SHARE[part]
        for data in sorted((text.encode() for text in texts), key=digest):
            if len(data) > room:
                break
            room -= len(data)
            key = digest(data)
            split = "heldout" if int(key[:8], 16) % HELD_OUT == 0 else "train"
            place = (out / "heldout" if split == "heldout" else out) / name
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{key[:20]}.txt").write_bytes(data)
            count = told[split].setdefault(name, [0, 0])
            count[0] += 1
            count[1] += len(data)
    return told


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the corpus")
    parser.add_argument("--packages", type=Path, help="folder of the packages; OUT/packages")
    parser.add_argument("--jobs", type=int, default=2, help="processes that read pages")
    given = parser.parse_args()
    folder = (given.packages or given.out / "packages").absolute()
    versions = fetch(folder)
    for part in ("en", "multi", "code", "heldout"):
        shutil.rmtree(given.out / part, ignore_errors=True)
    told = write(given.out, documents(folder, versions, given.jobs))
    manifest = {"packages": versions, **told}
    (given.out / "corpus.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    for split, parts in told.items():
        for name, (count, size) in parts.items():
            print(f"{split:8} {name:14} {count:6} documents {size / 1e6:7.2f} MB")
        total = sum(size for _, size in parts.values())
        print(f"{split:8} {'all':14} {sum(n for n, _ in parts.values()):6} {total / 1e6:17.2f} MB")


if __name__ == "__main__":
    main()
