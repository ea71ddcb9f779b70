"""How much memory a rewrite takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.models

MEMORY = """
import json, struct, sys
from pathlib import Path
import torch
from anyvocab.transplant.weights import Checkpoint, Rows, rewrite

def peak(key="VmHWM"):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(l.split()[1]) >> 10 for l in lines if l.startswith(key))  # MiB

source, out = Path(sys.argv[1]), Path(sys.argv[2])
rows, width, more = 51200, 1024, 52428800
header, place = {}, 0
for name, shape in (("embed_tokens.weight", [rows, width]), ("mlp.weight", [more // 2048, 2048])):
    size = 2 * shape[0] * shape[1]
    header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [place, place + size]}
    place += size
text = json.dumps(header).encode()
source.mkdir()
with (source / "model.safetensors").open("wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    file.truncate(8 + len(text) + place)
(source / "config.json").write_text('{"vocab_size": 51200, "hidden_size": 1024}')
torch.aminmax(torch.zeros(4, dtype=torch.bfloat16))
torch.zeros(4, dtype=torch.bfloat16).view(torch.uint8).numpy()
Path("/proc/self/clear_refs").write_text("5")  # the peak begins again here
before = peak("VmRSS")
checkpoint = Checkpoint.open(source)
matrix = checkpoint.matrix("input")
matrix.take(range(0, rows, 64))
rewrite(checkpoint, out, {matrix.tensor.name: matrix})
print(place >> 20, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_is_a_few_blocks_whatever_the_file_holds(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", MEMORY, str(tmp_path / "in"), str(tmp_path / "out")]
    output = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    size, grown = map(int, output.split())
    assert size == 200
    # Some blocks of 8 MiB: mapped, copied, and the one before. The matrix alone would be 100.
    assert grown < 100
