"""SentencePiece, tiktoken, RWKV and llama.cpp vocabularies against what they came from."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from anyvocab import Tokenizer

HARD_TEXTS = (
    "",
    " ",
    "  a  b ",
    "\n\n \n\t x",
    "▁ x ▁▁y",
    "a" * 700,
    " " * 700,
    "<s> hi </s><unk>",
    "ｆｕｌｌ　ｗｉｄｔｈ ½ ² ﬁ",
    "日本語のテキスト、東京都。 한국어 ไทย 👩‍👩‍👧‍👦",
    "\x00\x01\x7f\x85\u200b\ufeff",
)
SENTENCEPIECE = ("fineweb_8192_bpe", "llama2", "mistral01", "sp_test_1000", "t5_base", "xlnet")
# name of the encoding, file
TIKTOKEN = (
    ("r50k_base", "r50k_gpt2.tiktoken"),
    ("cl100k_base", "cl100k_base.tiktoken"),
    ("o200k_base", "o200k_base.tiktoken"),
)


def texts(fixtures: Path) -> list[str]:
    """Texts of many languages and some that are hard."""
    found = []
    for path in sorted((fixtures / "text/udhr").glob("*.txt")):
        found.append(path.read_text("utf-8")[:6000])
    for path in sorted((fixtures / "text/books").iterdir()):
        found += path.read_text("utf-8")[:30000].splitlines(keepends=True)[:150]
    return [*found, *HARD_TEXTS]


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_every_text_has_the_ids_of_sentencepiece(fixtures: Path, name: str) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    path = fixtures / "sentencepiece" / f"{name}.model"
    theirs: Any = sentencepiece.SentencePieceProcessor(model_file=str(path))
    ours = Tokenizer.load(path)
    for text in texts(fixtures):
        ids = ours.encode(text).tolist()
        assert ids == theirs.EncodeAsIds(text), repr(text[:40])


@pytest.mark.parametrize(("encoding", "file"), TIKTOKEN)
def test_every_text_has_the_ids_of_tiktoken(fixtures: Path, encoding: str, file: str) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    load = pytest.importorskip("tiktoken.load")
    path = fixtures / "tiktoken" / file
    ours = Tokenizer.load(path, pattern=encoding)
    ranks = load.load_tiktoken_bpe(str(path))
    theirs = tiktoken.Encoding(
        encoding, pat_str=_pattern(encoding), mergeable_ranks=ranks, special_tokens={}
    )
    for text in texts(fixtures):
        ids = ours.encode(text, specials="text").tolist()
        assert ids == theirs.encode_ordinary(text), repr(text[:40])
    assert ours.encode("a<|endoftext|>b").tolist() != theirs.encode_ordinary("a<|endoftext|>b")


def _pattern(encoding: str) -> str:
    """The pattern in tiktoken's own sources, read as text: its functions would ask the network."""
    public: Any = pytest.importorskip("tiktoken_ext.openai_public")
    if encoding == "r50k_base":
        return str(public.r50k_pat_str)
    tree = ast.parse(Path(public.__file__).read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == encoding:
            scope: dict[str, Any] = {}
            for part in node.body:
                if isinstance(part, ast.Assign) and getattr(part.targets[0], "id", "") == "pat_str":
                    return str(eval(compile(ast.Expression(part.value), "pat", "eval"), scope))
            for part in ast.walk(node):
                if isinstance(part, ast.Dict):
                    for key, value in zip(part.keys, part.values, strict=True):
                        if isinstance(key, ast.Constant) and key.value == "pat_str":
                            return str(ast.literal_eval(value))
    raise AssertionError(f"no pattern of {encoding} in tiktoken's sources")


def test_rwkv_takes_the_longest_token_at_every_place(fixtures: Path) -> None:
    path = fixtures / "rwkv" / "rwkv_vocab_v20230424.txt"
    ours = Tokenizer.load(path)
    vocab: dict[bytes, int] = {}
    for line in path.read_text("utf-8").splitlines():
        first, last = line.index(" "), line.rindex(" ")
        literal = ast.literal_eval(line[first:last].strip())
        token = literal.encode() if isinstance(literal, str) else literal
        vocab[token] = int(line[:first])
    longest = max(map(len, vocab))
    for text in texts(fixtures)[::3]:
        data, want, at = text.encode()[:3000], [], 0
        while at < len(data):
            size = next(n for n in range(longest, 0, -1) if data[at : at + n] in vocab)
            want.append(vocab[data[at : at + size]])
            at += size
        assert ours.encode(data).tolist() == want
        assert ours.decode(want) == data


KITOKEN = {
    "tokenizers": {
        "clip_base": "tokenizers/clip/tokenizer.json",
        "gpt2": "tokenizers/gpt2/tokenizer.json",
        "gpt_neox": "tokenizers/gpt_neox/tokenizer.json",
        "llama2": "tokenizers/llama2/tokenizer.json",
        "mistral01": "tokenizers/mistral01/tokenizer.json",
        "xlnet_base_cased": "tokenizers/xlnet/tokenizer.json",
    },
    "sentencepiece": {
        "llama2": "sentencepiece/llama2.model",
        "mistral01": "sentencepiece/mistral01.model",
        "xlnet_base_cased": "sentencepiece/xlnet.model",
    },
    "tiktoken": {
        "cl100k_base": "tiktoken/cl100k_base.tiktoken",
        "o200k_base": "tiktoken/o200k_base.tiktoken",
    },
}


def _line(line: str) -> str:
    return line.replace("\\n", "\n").replace("\\s", " ").replace("\\x", "")


@pytest.mark.parametrize(
    ("family", "name"), [(f, n) for f, names in KITOKEN.items() for n in names]
)
def test_the_published_vectors_are_reproduced(fixtures: Path, family: str, name: str) -> None:
    source = fixtures / KITOKEN[family][name]
    ours = Tokenizer.load(source, pattern=name if family == "tiktoken" else None)
    folder = fixtures / "vectors/kitoken"
    for kind in ("small", "mixed"):
        lines = (folder / f"{kind}_input.txt").read_text("utf-8").split("\n")
        rows = (folder / family / f"{kind}_tokens_{name}.txt").read_text("utf-8").split("\n")
        checked = 0
        for line, row in zip(lines, rows, strict=False):
            if not line:
                continue
            want = [int(n) for n in row.replace(",", " ").strip("[] ").split()]
            assert ours.encode(_line(line)).tolist() == want, (kind, line[:60])
            checked += 1
        assert checked >= 20


@pytest.mark.parametrize("name", ["bert_uncased", "deepseek_coder", "llama3", "qwen2", "starcoder"])
def test_the_vectors_of_llama_cpp_are_reproduced(fixtures: Path, name: str) -> None:
    ours = Tokenizer.load(fixtures / "tokenizers" / name)
    folder = fixtures / "vectors/llamacpp"
    cases = (folder / f"{name}.inp").read_text("utf-8").split("\n__ggml_vocab_test__\n")
    rows = (folder / f"{name}.out").read_text("utf-8").split("\n")
    assert len(cases) > 40
    for case, row in zip(cases, rows, strict=False):
        assert ours.encode(case).tolist() == [int(n) for n in row.split()], repr(case[:60])
