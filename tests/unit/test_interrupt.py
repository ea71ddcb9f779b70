"""Ctrl-C ends long work in the core within a second."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

WORK = {
    "one long text": "tok.encode(data)",
    "counting": "tok.count(data)",
    "a batch": "tok.encode_batch([text] * 400, threads=2)",
    "offsets": "tok.encode_with_offsets(text * 10)",
    "merging": "av.DynamicTokenizer(tok).merge([text], boundary='superword', transition=0)",
}


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
def test_ctrl_c_is_heard_within_a_second(work: str) -> None:
    program = textwrap.dedent(
        f"""
        import json, anyvocab as av
        from anyvocab.testing import tiny_tokenizer
        tok = av.Tokenizer.load(json.dumps(tiny_tokenizer()).encode())
        text = b"hello hell yes, 12 times over the hills " * 100_000
        data = text * 100  # made here: Python cannot be interrupted while it copies
        print("ready", flush=True)
        while True:
            {work}
        """
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
        time.sleep(1.0)
        start = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=20)
        waited = time.monotonic() - start
    assert b"KeyboardInterrupt" in said
    # The bound is one second; a loaded machine may be slow to take the process down.
    assert waited < 3.0, f"{waited:.1f} s"
