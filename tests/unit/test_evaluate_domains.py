"""Texts from files, folders and patterns; what is no text is refused by name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

import anyvocab as av
from anyvocab.evaluate import read_domains


def test_every_file_is_a_domain_with_its_bytes_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\n")
    (tmp_path / "b.py").write_bytes("é = 1\n".encode())
    domains = read_domains([tmp_path / "a.txt", tmp_path / "b.py"])
    assert [(one.name, one.documents) for one in domains] == [
        ("a", (b"one\r\ntwo\n",)),
        ("b.py", ("é = 1\n".encode(),)),
    ]
    assert (domains[1].bytes, domains[1].left_out) == (7, 0)


def test_every_line_of_jsonl_is_a_document(tmp_path: Path) -> None:
    lines = [json.dumps({"text": "é"}), "", json.dumps("two"), json.dumps({"text": ""})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (domain,) = read_domains([tmp_path / "a.jsonl"])
    assert (domain.name, domain.documents) == ("a", ("é".encode(), b"two"))


def test_the_member_of_a_line_that_is_its_text_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"content": "x", "text": "y"}')
    assert read_domains([tmp_path / "a.jsonl"], field="content")[0].documents == (b"x",)


def test_gzip_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"hello", mtime=0))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'"x"\n"y"', mtime=0))
    domains = read_domains([tmp_path])
    assert [(one.name, one.documents) for one in domains] == [
        ("a", (b"hello",)),
        ("b", (b"x", b"y")),
    ]


def test_folders_and_patterns_give_their_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.md", "a.txt", "deep/c.py", "no.bin"):
        (tmp_path / name).write_text(name)
    assert [one.name for one in read_domains([tmp_path])] == ["a", "b.md", "c.py"]
    assert [one.name for one in read_domains([f"{tmp_path}/**/*.py"])] == ["c.py"]


def test_a_named_place_is_one_domain(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1")
    (tmp_path / "b.txt").write_text("2")
    (domain,) = read_domains([f"all={tmp_path}"])
    assert (domain.name, domain.documents) == ("all", (b"1", b"2"))


def test_domains_of_one_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for place in ("a.txt", "x/a.txt"):
        (tmp_path / place).write_text(place)
    assert [one.name for one in read_domains([tmp_path])] == ["a", "a (2)"]


def test_a_limit_keeps_whole_documents_and_then_whole_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('"12345"\n"one\\ntwo\\nthree"\n"never"')
    (domain,) = read_domains([tmp_path / "a.jsonl"], limit=14)
    assert (domain.documents, domain.left_out) == ((b"12345", b"one\ntwo\n"), 10)


def test_a_limit_cuts_no_character(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("日本語", encoding="utf-8")
    (domain,) = read_domains([tmp_path / "a.txt"], limit=5)
    assert (domain.documents, domain.left_out) == (("日".encode(),), 6)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.txt", b"\x7fELF\x00\x01\xff", "a binary file, no text"),
        ("x.txt", b"plain\x00", "byte 5 is NUL"),
        ("x.txt", b"caf\xe9", "no valid UTF-8 at byte 3; convert the text"),
        ("x.txt", b"", "there is no text in it"),
        ("x.jsonl", b'\n\n{"text"', "line 3: no valid JSON"),
        ("x.jsonl", b'{"body": "x", "id": 1}', "has no text called 'text'; it has body, id"),
        ("x.txt.gz", b"no gzip", "no valid gzip"),
        ("x.txt.gz", gzip.compress(b"hello", mtime=0)[:-6], "no valid gzip"),
    ],
)
def test_what_is_no_text_is_named_with_its_file(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(av.InvalidValue, match=words) as raised:
        read_domains([tmp_path / name])
    assert raised.value.file == str(tmp_path / name)
    assert raised.value.fix


def test_empty_files_of_a_folder_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"")
    (tmp_path / "b.txt").write_bytes(b"text")
    assert [one.name for one in read_domains([tmp_path])] == ["b"]


def test_places_that_hold_nothing_are_not_found(tmp_path: Path) -> None:
    with pytest.raises(av.SourceNotFound, match="no such file or folder"):
        read_domains([tmp_path / "no"])
    with pytest.raises(av.SourceNotFound, match="no file matches"):
        read_domains([f"{tmp_path}/*.txt"])
    with pytest.raises(av.SourceNotFound, match="the folder holds no"):
        read_domains([tmp_path])
    with pytest.raises(av.InvalidValue, match="limit: must be at least 1"):
        read_domains([tmp_path], limit=0)
    with pytest.raises(av.InvalidValue, match="there is no text"):
        read_domains([])
