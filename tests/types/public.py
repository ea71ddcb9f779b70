"""What a type checker must see of the public interface. Checked by `make check`, never run."""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import anyvocab as av
from anyvocab.dynamic import (
    FaissSearch,
    Found,
    Generation,
    GrowReport,
    LargeVocabularyLM,
    grow,
    recall,
)

tok = av.Tokenizer.load("pico:code-4k")
assert_type(tok, av.Tokenizer)
assert_type(tok.encode("x"), NDArray[np.uint32])
assert_type(tok.encode(b"x", specials="text", add_special_tokens=True), NDArray[np.uint32])
assert_type(tok.encode_with_offsets("x"), av.Encoding)
assert_type(tok.encode_with_offsets("x").offsets, NDArray[np.int64])
assert_type(tok.count("x"), int)
assert_type(tok.is_canonical([1, 2]), bool)
assert_type(tok.decode([1, 2]), bytes)
assert_type(tok.decode(np.zeros(3, dtype=np.int64)), bytes)
assert_type(tok.decode_text((1, 2)), str)
assert_type(tok.incremental(), av.IncrementalEncoder)
assert_type(tok.chat_template, str | None)
assert_type(tok.save("folder", existing="replace"), Path)

batch = tok.encode_batch(["a", b"b"], threads=2)
assert_type(batch, av.Ragged)
assert_type(batch[0], NDArray[np.uint32])
assert_type(batch[1:], av.Ragged)
assert_type(batch.to_list(), list[list[int]])
assert_type([row for row in batch], list[NDArray[np.uint32]])  # noqa: C416

assert_type(tok.vocabulary, av.Vocabulary)
assert_type(tok.vocabulary.token_bytes(3), bytes | None)
assert_type(tok.vocabulary.role(3), str | None)
assert_type(tok.vocabulary.ids_with_prefix(b"x"), NDArray[np.uint32])
assert_type(tok.vocabulary.duplicates(), dict[bytes, tuple[int, ...]])
for record in tok.vocabulary.roles:
    assert_type(record, av.RoleRecord)
    assert_type((record.role, record.id, record.source), tuple[str, int, str])

score = av.bits_per_byte("pico:code-4k", ["a", b"b"], window=64, stride=32)
assert_type(score, av.BitsPerByte)
assert_type((score.bits_per_byte, score.bytes, score.tokens), tuple[float, int, int])
assert_type(av.compression(tok, ["a"]), av.Compression)
assert_type(av.compression("pico:code-4k", ["a"]).bytes_per_token, float)

compared = av.compare_tokenizers({"a": tok, "b": "pico:code-2k"}, {"x": ["a", b"b"]}, passes=0)
assert_type(compared, av.TokenizerComparison)
assert_type(compared["a"].bytes_per_token, float)
assert_type(compared.to_json(), str)

lm = av.ByteLM.load("pico:code-4k", law="canonical")
assert_type(lm, av.ByteLM)
assert_type(lm.start([av.Ids([1]), b"x"]), av.ByteState)
assert_type(lm.start("x").logprobs(), NDArray[np.float64])
assert_type(lm.complete("x", heard=lambda data: None), av.Completion)
assert_type(lm.sample(b"x").bytes, bytes)
assert_type(lm.score("x", prefix=b"y"), float)
assert_type(av.Ensemble([lm, lm]).complete(av.Each(["x", "y"])), av.Completion)
assert_type(av.infill(lm, "x", b"y"), av.Infill)
assert_type(av.END, int)

try:
    pass
except av.AnyvocabError as error:
    assert_type(error.file, str | None)
    assert_type((error.field, error.fix), tuple[str, str])

assert_type(av.__version__, str)
tok.encode(3)  # type: ignore[arg-type]
tok.encode("x", specials="both")  # type: ignore[arg-type]
anything: Any = object()
av.Tokenizer.load(anything)

dyn = av.DynamicTokenizer(tok)
assert_type(dyn.base("x"), tuple[NDArray[np.uint32], NDArray[np.uint32]])
merged = dyn.merge(["x", b"y"], max_merges=3, boundary="superword", transition=1)
assert_type(merged, av.DynamicBatch)
assert_type(merged.rows, av.Ragged)
assert_type(merged.token_bytes(), list[list[bytes | None]])
assert_type(merged.new_tokens[0], bytes)
assert_type(merged.from_base(np.zeros(3, dtype=np.int64)), NDArray[np.int64])

grown = grow("pico:code-4k", ["corpus.txt"], "grown", size=100_000)
assert_type(grown, GrowReport)
large = LargeVocabularyLM.open("grown")
assert_type(large.generate("x", top_k=20, temperature=1.0), Generation)
assert_type([step.bytes for step in large.stream(b"x")], list[bytes])
assert_type(large.bits_per_byte(["x"]), av.BitsPerByte)
assert_type(large.exact.top(large.states([1]), 5), Found)
assert_type(recall(FaissSearch(large.rows), large.exact, large.states([1]), 5), float)
