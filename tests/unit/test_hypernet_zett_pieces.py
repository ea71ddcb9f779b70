"""The pieces of the released ZeTT checkpoints: a source's tokenizer rewritten to cut bytes."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.hypernet.zett_pieces import _CHARACTERS, ZettTokenizer, zett_pieces

# Bytes of GPT-2's alphabet: é is Ã © (C3 A9), 中 is ä ¸ Ń (E4 B8 AD), a space is Ġ.
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}


def tokenizer_json(model: dict[str, object]) -> bytes:
    specials = ["<unk>", "<s>"]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": id,
                    "content": content,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
                for id, content in enumerate(specials)
            ],
            "normalizer": None,
            "pre_tokenizer": METASPACE,
            "post_processor": None,
            "decoder": {
                "type": "Sequence",
                "decoders": [
                    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                    {"type": "ByteFallback"},
                    {"type": "Fuse"},
                    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
                ],
            },
            "model": model,
        }
    ).encode()


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]  # ids 2 to 257
# 258 ▁   259 a   260 b   261 é   262 中   263 ab   264 ▁a   265 ▁é
CHARACTERS = ["▁", "a", "b", "é", "中", "ab", "▁a", "▁é"]


@cache
def bpe() -> av.Tokenizer:
    """BPE over characters with byte-fallback tokens, as Llama-2 and Mistral have it."""
    vocab = {name: id for id, name in enumerate(["<unk>", "<s>", *BYTES, *CHARACTERS])}
    merges = ["a b", "▁ a", "▁ é"]
    return av.Tokenizer.load(
        tokenizer_json(
            {
                "type": "BPE",
                "dropout": None,
                "unk_token": "<unk>",
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": True,
                "byte_fallback": True,
                "ignore_merges": False,
                "vocab": vocab,
                "merges": merges,
            }
        )
    )


@cache
def unigram() -> av.Tokenizer:
    """Unigram without byte fallback, as XLM-R has it: ids 2 to 9 are `CHARACTERS`."""
    # ▁ ab costs 2.5, ▁a b costs 3
    costs = dict(zip(CHARACTERS, [1, 1, 1, 1, 1, 1.5, 2, 1.5], strict=True))
    scores = [("<unk>", 0.0), ("<s>", 0.0), *((name, -cost) for name, cost in costs.items())]
    return av.Tokenizer.load(
        tokenizer_json({"type": "Unigram", "unk_id": 0, "byte_fallback": False, "vocab": scores})
    )


def test_bytes_a_unigram_model_lacks_are_appended_ascending() -> None:
    tokenizer = ZettTokenizer.from_source(unigram())
    lacking = [bytes([byte]) for byte in range(256) if byte not in b" ab"]
    assert (tokenizer.rows, list(tokenizer.extra)) == (10, lacking)


def test_strings_between_a_byte_and_a_character_are_appended_sorted() -> None:
    tokenizer = ZettTokenizer.from_source(bpe())
    # 0xFF, which the rewriting misses; then of "<0xFF>", which it takes for a token of text, the
    # neighbours < 0, x F, F > and <0 xF; then of 中 its first two bytes. Sorted as spelt.
    between = [b"<0", b"<0xF", b"F>", b"xF", b"\xe4\xb8"]
    assert list(tokenizer.extra) == [b"\xff", *between]


@pytest.mark.parametrize(
    ("token", "pieces"),
    [
        (b" ab", [258, 263]),  # `a b` comes before `▁ a`
        (b"ab", [263]),
        (" é".encode(), [265]),
        ("é".encode(), [261]),
        ("中".encode(), [262]),
        ("中".encode()[:2], [266 + 5]),  # a string in between
        (b"\xb8", [2 + 0xB8]),  # a byte-fallback token
        (b"c", [2 + ord("c")]),
        (b"\xff", [2 + 0xFF]),  # not 266, which nothing was trained on
        (b"a\xffb", [259, 2 + 0xFF, 260]),
        (b"<s>", [2 + ord("<"), 2 + ord("s"), 2 + ord(">")]),  # text, not the control token
        (1, [1]),
    ],
)
def test_pieces_by_hand(token: bytes | int, pieces: list[int]) -> None:
    made = zett_pieces(bpe(), [token], max_pieces=4)
    assert made.tolist() == [pieces + [-1] * (4 - len(pieces))]


@pytest.mark.parametrize(
    ("token", "pieces"),
    [
        (b" ab", [2, 7]),
        ("中é".encode(), [6, 5]),
        (b"<s>", [1]),  # a spelling like any other, as the authors' rewriting has it
        (b"c", [10 + ord("c") - 3]),  # of the bytes before it " ", "a" and "b" have tokens
        ("中".encode()[:1], [10 + 0xE4 - 3]),
    ],
)
def test_pieces_of_a_unigram_model_by_hand(token: bytes, pieces: list[int]) -> None:
    made = zett_pieces(unigram(), [token], max_pieces=4)
    assert made.tolist() == [pieces + [-1] * (4 - len(pieces))]


def test_pieces_over_the_limit_are_dropped() -> None:
    assert zett_pieces(bpe(), [b"abab"], max_pieces=1).tolist() == [[263]]


def test_a_tokenizer_of_bytes_is_left_as_it_is() -> None:
    source = av.Tokenizer.load("pico:code-4k")
    tokenizer = ZettTokenizer.from_source(source)
    assert tokenizer.extra == ()
    tokens = [b"return", b" def", b"\xff\xc3"]
    made = tokenizer.pieces(tokens, max_pieces=8)
    ids = [source.encode(token, specials="text").tolist() for token in tokens]
    assert [[id for id in row if id >= 0] for row in made.tolist()] == ids


def texts() -> list[bytes]:
    rng = random.Random(11)
    parts = [" ", "a", "b", "ab", "é", "中", "乭", "<s>", "<0xFF>", "c", "\n", "😀"]
    found = ["".join(rng.choices(parts, k=rng.randint(1, 9))).encode() for _ in range(400)]
    return [*found, *(bytes(rng.choices(range(255), k=rng.randint(1, 6))) for _ in range(400))]


@pytest.mark.parametrize("source", [bpe, unigram], ids=["bpe", "unigram"])
def test_pieces_are_what_tokenizers_makes_of_the_rewritten_model(source) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is missing")
    tokenizer = ZettTokenizer.from_source(source())
    theirs = tokenizers.Tokenizer.from_str(tokenizer.json.decode()).model
    tokens = texts()
    for token, row in zip(tokens, tokenizer.pieces(tokens, max_pieces=40).tolist(), strict=True):
        wanted = theirs.tokenize("".join(_CHARACTERS[byte] for byte in token))
        assert [id for id in row if id >= 0] == [one.id for one in wanted]


@pytest.mark.parametrize("source", [bpe, unigram], ids=["bpe", "unigram"])
def test_pieces_together_are_the_token(source) -> None:
    tokenizer = ZettTokenizer.from_source(source())
    vocabulary, extra = source().vocabulary, dict(enumerate(tokenizer.extra, tokenizer.rows))
    for token, row in zip(tokens := texts(), tokenizer.pieces(tokens, max_pieces=40), strict=True):
        ids = [id for id in row.tolist() if id >= 0]
        parts = [extra.get(id) or vocabulary.token_bytes(id) or b"<s>" for id in ids]
        # That text is the byte's token in the authors' rewriting, too.
        assert b"".join(parts) == (token.replace(b"<0xFF>", b"\xff") if source is bpe else token)


@pytest.mark.parametrize(
    ("name", "rows"),
    # hn_n_extra_tokens in the config.json of the releases for these tokenizers' models
    [
        ("mistral01", 522),
        ("llama2", 362),  # TinyLlama's
        pytest.param("xlmr", 161, marks=pytest.mark.slow),
    ],
)
def test_a_source_gets_as_many_rows_as_its_released_hypernetwork_has(
    fixtures: Path, name: str, rows: int
) -> None:
    source = av.Tokenizer.load(fixtures / "tokenizers" / name)
    assert len(ZettTokenizer.from_source(source).extra) == rows


def released(folder: Path, tokenizer: ZettTokenizer) -> Path:
    """Write the rewritten tokenizer with the pipeline that the authors put around it."""
    document = json.loads(tokenizer.json)
    document["normalizer"] = {"type": "Prepend", "prepend": " "}
    document["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": "\\s+|\\S+"},
                "behavior": "Removed",
                "invert": True,
            },
            {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": True,
                "use_regex": False,
            },
        ],
    }
    (folder / "tokenizer.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize("source", [bpe, unigram], ids=["bpe", "unigram"])
def test_the_tokenizer_of_a_released_folder_gives_the_same_pieces(tmp_path: Path, source) -> None:
    made = ZettTokenizer.from_source(source())
    read = ZettTokenizer.load(released(tmp_path, made), rows=made.rows)
    assert read.extra == made.extra
    tokens = [*texts(), b"\xff", 1]
    assert (read.pieces(tokens, max_pieces=9) == made.pieces(tokens, max_pieces=9)).all()


def test_the_tokenizer_of_the_source_is_not_the_rewritten_one(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(unigram().to_json())
    with pytest.raises(errors.TokenizerFormatError, match="byte 0x00 has no token"):
        ZettTokenizer.load(tmp_path, rows=10)


@pytest.mark.parametrize("text", ["{}", '{"model": 3}', '{"model": {"type": "BPE", "vocab": 1}}'])
def test_a_malformed_tokenizer_is_an_error_of_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(errors.AnyvocabError, match=r"tokenizer\.json"):
        ZettTokenizer.load(tmp_path, rows=10)


def test_a_folder_without_a_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(errors.SourceNotFound, match="from_source"):
        ZettTokenizer.load(tmp_path, rows=10)


@pytest.mark.parametrize("tokens", [[b""], [266], [-1]])
def test_what_is_no_token_is_refused(tokens: list[bytes | int]) -> None:
    with pytest.raises(errors.InvalidValue, match=r"^tokens: "):
        zett_pieces(bpe(), tokens)


def test_a_source_of_another_size_is_refused() -> None:
    with pytest.raises(errors.InvalidValue, match="has 266 ids, and the hypernetwork was made for"):
        ZettTokenizer.from_source(bpe(), rows=32_000)
