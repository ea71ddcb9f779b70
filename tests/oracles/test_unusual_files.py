"""Files that `tokenizers` loads and nobody writes on purpose: ids and texts are its own."""

from __future__ import annotations

import random
from typing import Any

import pytest

import anyvocab as av

tokenizers = pytest.importorskip("tokenizers", reason="the oracle `tokenizers` is not installed")
from tokenizers import (  # noqa: E402
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

SPACED = [" ", "  ", "x", "x ", " x", "y", "\n"]


def panics(call: Any, *args: Any, **kwargs: Any) -> bool:
    try:
        call(*args, **kwargs)
    except BaseException as panic:
        if type(panic).__name__ != "PanicException":
            raise
        return True
    return False


@pytest.mark.parametrize("seed", range(4))
def test_added_tokens_share_white_space_as_in_tokenizers(
    seed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(seed)
    compared = 0
    for _ in range(150):
        theirs = tokenizers.Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
        normalized = rng.random() < 0.5
        for content in rng.sample(SPACED, rng.randint(1, 4)):
            flags = {flag: rng.random() < 0.5 for flag in ("lstrip", "rstrip")}
            single = rng.random() < 0.2
            theirs.add_tokens(
                [AddedToken(content, normalized=normalized, single_word=single, **flags)]
            )
        ours = av.Tokenizer.load(theirs.to_str().encode())
        for _ in range(4):
            text = "".join(rng.choices("x  y a\n", k=rng.randint(1, 9)))
            got = ours.encode_with_offsets(text)
            if panics(theirs.encode, text):  # white space taken twice
                continue
            compared += 1
            want = theirs.encode(text)
            assert got.ids.tolist() == want.ids, (text, theirs.to_str())
            assert got.offsets.tolist() == [list(one) for one in want.offsets]
            assert ours.encode(text).tolist() == want.ids
            grown = ours.incremental()
            for at in range(0, len(text), 2):
                grown.append(text[at : at + 2])
            assert grown.ids().tolist() == want.ids, (text, theirs.to_str())
    assert compared > 500
    capfd.readouterr()


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize(
    ("normalizer", "decoder"),
    [
        (normalizers.Lowercase(), None),
        (normalizers.Lowercase(), decoders.WordPiece()),
        (normalizers.Lowercase(), decoders.ByteLevel()),
        (normalizers.ByteLevel(), decoders.ByteLevel()),
        (normalizers.Prepend("▁"), decoders.Metaspace()),
        (normalizers.Replace(" ", "▁"), decoders.Sequence([decoders.Replace("▁", " ")])),
        (normalizers.NFC(), None),
    ],
)
def test_an_added_token_is_decoded_to_the_content_it_is_searched_by(
    normalizer: Any, decoder: Any, special: bool
) -> None:
    theirs = tokenizers.Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    theirs.normalizer, theirs.decoder = normalizer, decoder
    token = AddedToken("É[New] one", normalized=True, special=special)
    plain = AddedToken("É[Raw] one", normalized=False, special=special)
    theirs.add_tokens([token, plain])
    ours = av.Tokenizer.load(theirs.to_str().encode())
    for ids in ([2], [1, 2, 1], [2, 3, 2], [3, 1]):
        assert ours.decode_text(ids) == theirs.decode(ids, skip_special_tokens=False)
    if special:  # `tokenizers` no longer sees that 2 is special when its content has changed
        assert ours.decode_text([1, 2, 3], skip_special=True) == ours.decode_text([1])


def test_an_added_token_of_which_the_normalizer_leaves_nothing_is_refused_by_name() -> None:
    theirs = tokenizers.Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    theirs.normalizer = normalizers.StripAccents()
    theirs.add_tokens([AddedToken("\u0301", normalized=True)])  # is found between all bytes
    with pytest.raises(av.UnsupportedTokenizer, match=r"leaves nothing of .*set its normalized to"):
        av.Tokenizer.load(theirs.to_str().encode())


MODELS: dict[str, Any] = {
    "bpe": models.BPE({"Ġ": 0, "a": 1, "Ġa": 2, "▁b": 3, "<0x41>": 4, "##c": 5}, [("Ġ", "a")]),
    "fallback": models.BPE(
        {"Ġ": 0, "a": 1, "Ġa": 2, "▁b": 3, "<0x41>": 4, "##c": 5}, [("Ġ", "a")], byte_fallback=True
    ),
    "suffixed": models.BPE({"Ġ": 0, "a</w>": 1, "▁b": 2}, [], end_of_word_suffix="</w>"),
    "unigram": models.Unigram([("<unk>", 0.0), ("Ġa", -1.0), ("▁b", -2.0), ("<0x41>", -3.0)], 0),
    "wordpiece": models.WordPiece({"[UNK]": 0, "a": 1, "##c": 2, "▁b": 3, "Ġa": 4}),
    "wordlevel": models.WordLevel({"<unk>": 0, "Ġa": 1, "▁b": 2, "<0x41>": 3}, unk_token="<unk>"),
}
MARKED = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
DECODERS: dict[str, Any] = {
    "none": None,
    "bytes": decoders.ByteLevel(),
    "marks": decoders.Sequence(MARKED),
    "stripped": decoders.Sequence([*MARKED, decoders.Strip(" ", 1, 0)]),
    "metaspace": decoders.Metaspace(),
    "wordpiece": decoders.WordPiece(),
    "suffix": decoders.BPEDecoder(),
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("alphabet", [False, True])
def test_a_decoder_that_does_not_fit_its_model_is_run_as_it_is(
    model: str, decoder: str, alphabet: bool
) -> None:
    theirs = tokenizers.Tokenizer(MODELS[model])
    theirs.decoder = DECODERS[decoder]
    if alphabet:
        theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    try:
        ours = av.Tokenizer.load(theirs.to_str().encode())
    except av.UnsupportedTokenizer as error:
        assert alphabet
        pytest.skip(f"refused by name: {error.field}")
    rng = random.Random(f"{model} {decoder}")
    for _ in range(40):
        ids = rng.choices(range(theirs.get_vocab_size()), k=rng.randint(0, 6))
        assert ours.decode_text(ids) == theirs.decode(ids, skip_special_tokens=False), ids


@pytest.mark.parametrize("kind", ["Unigram", "WordLevel"])
@pytest.mark.parametrize("pattern", [None, "gpt2", r"\s+|\d"])
def test_a_model_of_characters_reads_the_byte_alphabet(kind: str, pattern: str | None) -> None:
    rng = random.Random(f"{kind} {pattern}")
    theirs, trainer = {
        "Unigram": (
            tokenizers.Tokenizer(models.Unigram()),
            trainers.UnigramTrainer(
                vocab_size=400,
                special_tokens=["<unk>"],
                unk_token="<unk>",
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            ),
        ),
        "WordLevel": (
            tokenizers.Tokenizer(models.WordLevel(unk_token="<unk>")),
            trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False),
        ),
    }[kind]
    bytes_ = pre_tokenizers.ByteLevel(
        add_prefix_space=rng.random() < 0.5, use_regex=pattern == "gpt2"
    )
    split = [] if pattern in (None, "gpt2") else [pre_tokenizers.Split(Regex(pattern), "isolated")]
    theirs.pre_tokenizer = pre_tokenizers.Sequence([*split, bytes_])
    theirs.decoder = decoders.ByteLevel()
    letters = [*"ab 1\n.", "é", "中", "👩\u200d👩", "the", " of", "नि", "\x00"]
    texts = ["".join(rng.choices(letters, k=rng.randint(0, 20))) for _ in range(120)]
    theirs.train_from_iterator(texts[:60], trainer)
    theirs.add_tokens([AddedToken("the", normalized=False)])
    ours = av.Tokenizer.load(theirs.to_str().encode())
    again = tokenizers.Tokenizer.from_str(ours.to_json().decode())
    for text in texts:
        want = theirs.encode(text)
        got = ours.encode(text)
        assert got.tolist() == want.ids, text
        assert ours._core.encode_reference(text.encode(), "parse").tolist() == want.ids
        assert again.encode(text).ids == want.ids
        assert ours.decode_text(got) == theirs.decode(want.ids, skip_special_tokens=False)
        places = [len(text[:at].encode()) for at in range(len(text) + 1)]
        offsets = [[places[start], places[end]] for start, end in want.offsets]
        assert _whole(ours.encode_with_offsets(text).offsets.tolist(), places) == offsets
    if kind == "Unigram":
        data = bytes(rng.randrange(256) for _ in range(60))
        assert ours.decode(ours.encode(data)).removeprefix(b" ") == data.removeprefix(b" ")


def _whole(offsets: list[list[int]], places: list[int]) -> list[list[int]]:
    """Return ranges of whole characters: here a token may be part of one."""
    return [
        [max(p for p in places if p <= start), min(p for p in places if p >= end)]
        for start, end in offsets
    ]
