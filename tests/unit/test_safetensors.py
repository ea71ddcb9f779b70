"""Safetensors headers: the sound ones are read as they are, the others are refused by name."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anyvocab._safetensors import Header, HeaderError, encode_header, read_header, read_index

SOUND = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
    "c": {"dtype": "F32", "shape": [0, 7], "data_offsets": [26, 26]},
}


def write(path: Path, header: object, data: bytes = b"\0" * 26) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_a_sound_header_is_read_in_the_order_of_its_data(tmp_path: Path) -> None:
    backwards = dict(reversed(SOUND.items()))
    header = read_header(write(tmp_path / "x", backwards))
    assert [(e.name, e.shape, e.size) for e in header.entries.values()] == [
        ("a", (2, 3), 24),
        ("b", (), 2),
        ("c", (0, 7), 0),
    ]
    assert header.metadata == {"format": "pt"}
    assert header.entries["a"].start == header.data_start


def _entry(dtype: object = "U8", shape: object = (2,), offsets: object = (0, 2)) -> object:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (_entry(offsets=[0, 3]), "does not fill bytes 0 to 3"),
        (_entry(offsets=[2, 0]), "does not fill"),
        (_entry(offsets=[-2, 0]), "no valid data_offsets"),
        (_entry(offsets=[0]), "no valid data_offsets"),
        (_entry(offsets=[0, True]), "no valid data_offsets"),
        (_entry(offsets=[1, 3]), "leaves a gap"),
        (_entry(offsets=[30, 32]), "cut off"),
        (_entry(shape=[1 << 47, 1 << 47], offsets=[0, 2]), "does not fill"),
        (_entry(shape=[1] * 17, offsets=[0, 1]), "no valid shape"),
        (_entry(shape=[1 << 60]), "no valid shape"),
        (_entry(dtype="X"), "unknown type 'X'"),
        (_entry(dtype=["F32"]), "unknown type"),
        (_entry(), "24 bytes behind the last tensor"),
        (_entry(dtype="F4", shape=[3], offsets=[0, 1]), "does not fill"),
        ({**SOUND, "b": {"dtype": "U8", "shape": [3], "data_offsets": [23, 26]}}, "overlaps"),
        ({**SOUND, "__metadata__": {"a": 1}}, "no object of texts"),
        ({**SOUND, "__metadata__": []}, "no object of texts"),
        (b'{"a": {}, "a": {}}', "'a' stands there twice"),
        (b'{"a": {"shape": [1], "shape": [2]}}', "'shape' stands there twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no JSON"),
        (b"\xff\xfe", "no JSON"),
    ],
)
def test_an_unsound_header_says_what_is_wrong(tmp_path: Path, header: object, why: str) -> None:
    with pytest.raises(HeaderError, match=why):
        read_header(write(tmp_path / "x", header))


def test_a_pipe_is_no_file_to_wait_for(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(tmp_path / "x")
    with pytest.raises(HeaderError, match="no regular file"):
        read_header(tmp_path / "x")


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, place: int, noise: bytes) -> None:
    data = bytearray(write(tmp_path / "x", SOUND).read_bytes())
    data[place : place + len(noise)] = noise
    (tmp_path / "y").write_bytes(data)
    try:
        header = read_header(tmp_path / "y")
    except HeaderError:
        return
    assert sum(entry.size for entry in header.entries.values()) == 26


def test_a_header_is_spelled_as_the_library_spells_it(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    np = pytest.importorskip("numpy")
    tensors = {"ä": np.zeros((2, 3), "f4"), "b": np.zeros(3, "u1"), 'q"\\': np.zeros((), "f2")}
    numpy.save_file(tensors, tmp_path / "x", metadata={"format": "pt"})
    header = read_header(tmp_path / "x")
    shifted = [
        type(e)(e.name, e.dtype, e.shape, e.start - header.data_start, e.stop - header.data_start)
        for e in header.entries.values()
    ]
    spelled = encode_header(shifted, header.metadata)
    assert spelled == (tmp_path / "x").read_bytes()[: header.data_start]


def test_an_index_names_what_lies_outside(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text('{"weight_map": {"a": "sub/x", "b": "../x", "c": 3, "d": "/x"}}')
    index = read_index(path)
    assert dict(index.files) == {"a": "sub/x"}
    assert index.outside == ("../x", "3", "/x")


def test_an_empty_file_of_tensors_is_sound(tmp_path: Path) -> None:
    assert read_header(write(tmp_path / "x", {}, b"")) == Header({}, {}, 10, 10)
