"""The marginal law against genlm-bytes, an independent implementation of the same distribution.

genlm-bytes (Vieira et al., arXiv:2412.03719) sums over all covers with a beam; one that is wider
than the number of covers is exact up to float32. Skipped where it is not installed.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="torch is missing")
transformers = pytest.importorskip("transformers", reason="transformers is missing")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    genlm = pytest.importorskip("genlm.bytes", reason="genlm-bytes is missing")

from anyvocab.backends import TransformersBackend  # noqa: E402
from anyvocab.bytelm import END, ByteLM  # noqa: E402
from anyvocab.testing import tiny_tokenizer  # noqa: E402

TEXT = b"hello hell, he"  # covered by `he`, `ll`, `hell`, ` hell` and single bytes in many ways
BEAM = 1000
# Probabilities are sums of at most 262 float32 numbers, each rounded to 2^-24 of itself after a
# forward pass in another batch: 1e-5 is about 170 roundings.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a random GPT-2 with the tiny byte-level BPE, in files that transformers reads."""
    path: Path = tmp_path_factory.mktemp("tiny")
    document: dict[str, Any] = tiny_tokenizer()
    document["added_tokens"] = document["added_tokens"][:1]  # genlm spells other control tokens
    (path / "tokenizer.json").write_text(json.dumps(document))
    words = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|end|>"}
    (path / "tokenizer_config.json").write_text(json.dumps({**words, "eos_token": "<|end|>"}))
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=261,
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=2,
        tie_word_embeddings=False,
        bos_token_id=260,
        eos_token_id=260,
        initializer_range=0.5,  # so that some tokens are likely and others are not
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(path)
    return path


async def walk(folder: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return genlm's next-byte distributions at all positions of the text, float64[n + 1, 257]."""
    from genlm.backend.llm.hf import AsyncTransformer

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    params = genlm.BeamParams(K=BEAM, prune_threshold=0.0, eos_byte_strings=[b"<|end|>"])
    beam = await genlm.ByteBeamState.initial(AsyncTransformer(model, tokenizer), params)
    rows = [(await beam.logp_next()).ps]
    for byte in TEXT:
        beam = await (beam.prune() << byte)
        rows.append((await beam.logp_next()).ps)
    # Its place 256 is the end of a token, 257 the end of the text.
    return np.delete(np.stack(rows), 256, axis=1)


@pytest.mark.filterwarnings("ignore")  # of genlm and of what it imports
def test_the_marginal_law_is_that_of_genlm_bytes_with_a_wide_beam(folder: Path) -> None:
    theirs = np.exp(asyncio.run(walk(folder)))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    lm = ByteLM(TransformersBackend(model), folder, law="marginal", eps=0, budget=1 << 20)
    state = lm.start()
    for at in range(len(TEXT) + 1):
        if at:
            state.push(TEXT[at - 1])
        ours = np.exp(state.logprobs())
        assert state.missing_mass == 0
        assert np.abs(ours - theirs[at]).sum() / 2 <= TOLERANCE, TEXT[:at]
        assert ours[END] > 0  # the end is compared, too
