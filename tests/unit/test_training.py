"""Training: what may be asked for, what is refused, and what comes out."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import anyvocab as av
from anyvocab import _core, errors
from anyvocab.cli import main
from anyvocab.training import export
from anyvocab.training._memory import available_bytes
from anyvocab.training.bpe import Trained, train_corpus, train_counts
from anyvocab.training.counting import Plan, count_corpus
from anyvocab.training.options import Parity, Special, TrainOptions, Veto, special_tokens_of

TEXT = "the cat sat on the mat, the dog sat on the log; 12 cats and 345 dogs.\n" * 5
BYTES = TEXT.encode()
PLAN = Plan(pattern="llama3", threads=1)


def learn(texts: list[bytes] | None = None, **options: object) -> Trained:
    return train_corpus(texts or [BYTES], TrainOptions(**options), PLAN)  # type: ignore[arg-type]


def learnt_tokens(trained: Trained) -> list[bytes]:
    vocabulary = trained.tokenizer.vocabulary
    return [vocabulary.token_bytes(int(one)) or b"" for one in trained.merges[:, 2]]


# What is learnt.


def test_a_smaller_vocabulary_has_the_first_merges_of_a_larger_one() -> None:
    small, large = learn(vocab_size=270), learn(vocab_size=290)
    assert small.merges.tolist() == large.merges[: len(small.merges)].tolist()


def test_threads_and_order_do_not_change_the_tokenizer() -> None:
    lines = BYTES.splitlines(keepends=True)
    one = av.train(lines, 290, threads=1)
    two = av.train(lines[::-1], 290, threads=2)
    assert one.to_json() == two.to_json()


def test_counts_give_what_their_corpus_gives() -> None:
    counts = count_corpus([BYTES], PLAN)
    assert av.train(counts, 280).to_json() == av.train([BYTES], 280).to_json()


def test_another_pattern_than_that_of_the_counts_is_refused() -> None:
    counts = count_corpus([BYTES], PLAN)
    with pytest.raises(av.InvalidValue, match=r"pattern: 'gpt2', and the counts.*'llama3'"):
        av.train(counts, 280, pattern="gpt2")


def test_a_corpus_that_runs_out_of_pairs_gives_fewer_tokens_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trained = learn([b"ab ab"], vocab_size=1000)
    assert trained.stop == "exhausted"
    assert len(trained.tokenizer.vocabulary) < 1000
    assert "not 1000" in caplog.text


@pytest.mark.parametrize(
    "pattern", ["gpt2", "o200k", "qwen35", "starcoder", "deepseek_v3", "tekken", "none", r" ?\w+"]
)
def test_every_pattern_gives_a_tokenizer_that_cuts_as_it_was_counted(pattern: str) -> None:
    tok = av.train([BYTES], 280, pattern=pattern, threads=1)
    counts = count_corpus([BYTES], Plan(pattern=pattern, threads=1)).to_dict()
    pieces = tok.pretokenize(TEXT)
    assert {piece: pieces.count(piece) for piece in set(pieces)} == counts
    assert tok.decode(tok.encode(TEXT)) == TEXT.encode()


def test_bytes_that_are_no_utf8_are_learnt_as_bytes() -> None:
    tok = av.train([b"\xff\xfe\xff\xfe"] * 3, 257, threads=1)
    assert tok.vocabulary.token_bytes(256) == b"\xff\xfe"


def test_a_normalizer_is_part_of_the_tokenizer() -> None:
    tok = av.train(["e\u0301te\u0301".encode()] * 2, 262, normalizer="nfc", threads=1)
    assert tok.encode("e\u0301te\u0301").tolist() == tok.encode("\u00e9t\u00e9").tolist()


# Special tokens.


def test_special_tokens_have_the_first_ids_and_their_roles(tmp_path: Path) -> None:
    specials = [("eos", "<|end|>"), ("pad", "<|end|>"), ("fim_prefix", "<|pre|>"), "<|x|>"]
    tok = av.train([BYTES], 300, special_tokens=specials, threads=1)
    assert tok.encode("<|x|>a<|end|>").tolist()[::2] == [2, 0]
    assert tok.vocabulary.roles.ids("eos") == (0,)
    assert tok.vocabulary.roles.ids("pad") == (0,)
    assert 1 in tok.vocabulary.roles.ids("fim_prefix")
    config = json.loads((tok.save(tmp_path / "out") / "tokenizer_config.json").read_bytes())
    assert (config["eos_token"], config["pad_token"]) == ("<|end|>", "<|end|>")
    assert config["extra_special_tokens"] == {"fim_prefix_token": "<|pre|>"}
    assert av.Tokenizer.load(tmp_path / "out").vocabulary.roles.ids("eos") == (0,)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["<a>", "<b>", "<a>"], r"special_tokens\[2\]: '<a>' is there twice"),
        ([("eos", "<a>"), ("eos", "<b>")], "the role 'eos' has '<a>' already"),
        (["<a>", ("eos", "<a>")], "once without a role"),
        ([""], "an empty text"),
    ],
)
def test_contradictory_special_tokens_are_refused(given: list[object], found: str) -> None:
    with pytest.raises(av.InvalidValue, match=found):
        av.train([BYTES], 300, special_tokens=given)  # type: ignore[arg-type]


def test_a_special_token_that_is_a_letter_of_the_alphabet_is_refused() -> None:
    with pytest.raises(av.InvalidValue, match=r"special_tokens\[0\].*byte 0x20"):
        av.train([BYTES], 300, special_tokens=["Ġ"])


def test_a_vocabulary_smaller_than_alphabet_and_specials_is_refused() -> None:
    with pytest.raises(av.InvalidValue, match="vocab_size: 256 is less than 257"):
        av.train([BYTES], 256, special_tokens=["<a>"])


def test_one_text_is_no_list_of_special_tokens() -> None:
    with pytest.raises(TypeError, match="several texts"):
        special_tokens_of("<a>")
    assert special_tokens_of([Special("<a>", "eos")]).roles == {"eos": "<a>"}


# Bounds.


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"vocab_size": 0}, "vocab_size: must be at least 1"),
        ({"min_frequency": -1}, "min_frequency"),
        ({"max_token_bytes": 3, "max_token_length": 3}, "give one of the two"),
        ({"initial_alphabet": "all"}, "initial_alphabet: 'all' is no choice"),
        ({"seed_tokens": (b"",)}, "seed_tokens: an empty text"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], found: str) -> None:
    with pytest.raises(av.InvalidValue, match=found):
        TrainOptions(**options)  # type: ignore[arg-type]


def test_a_veto_keeps_tokens_out_and_the_vocabulary_full() -> None:
    texts = [("aб1 aб1 x22 x22 longword longword" * 3).encode()]
    free = learnt_tokens(learn(texts, vocab_size=285))
    rules = Veto(max_digits=0, one_script=True, max_bytes=5, inside=("wo",), pattern="^x.")
    bound = learnt_tokens(learn(texts, vocab_size=265, veto=rules))
    assert any(rules.forbids(token) for token in free)
    assert not any(rules.forbids(token) for token in bound)
    assert len(bound) == 9


@pytest.mark.parametrize("name", ["max_words", "max_bytes", "max_chars"])
def test_a_veto_of_every_token_is_refused(name: str) -> None:
    with pytest.raises(av.InvalidValue, match=f"veto.{name}: must be at least 1"):
        Veto(**{name: 0})  # type: ignore[arg-type]


def test_max_token_bytes_is_inclusive() -> None:
    tokens = learnt_tokens(learn(vocab_size=400, max_token_bytes=4))
    assert max(map(len, tokens)) == 4


# Seed tokens.


def test_seed_tokens_are_tokens_and_the_size_is_kept() -> None:
    seeds = ["zebra", " unicorn", "12"]
    tok = av.train([BYTES], 290, seed_tokens=seeds, threads=1)
    assert len(tok.vocabulary) == 290
    for seed in seeds:
        assert len(tok.encode(seed)) == 1, seed


def test_a_seed_token_that_the_pattern_cuts_is_refused() -> None:
    with pytest.raises(av.InvalidValue, match=r"'New York' is cut into New \|  York"):
        av.train([BYTES], 300, seed_tokens=["New York"])


# Parity.


def test_the_language_with_the_most_tokens_a_byte_chooses() -> None:
    corpus = {"en": [BYTES * 20], "xx": [b"qzqzqz wvwvwv"]}
    plain = train_corpus([BYTES * 20, b"qzqzqz wvwvwv"], TrainOptions(vocab_size=268), PLAN)
    fair = train_corpus(corpus, TrainOptions(vocab_size=268), PLAN, parity=Parity())
    assert fair.chosen_by is not None
    assert {"en", "xx"} <= set(fair.chosen_by)

    def cost(trained: Trained) -> float:
        tok = trained.tokenizer
        return max(len(tok.encode(text)) / len(text) for text in (BYTES, b"qzqzqz wvwvwv"))

    assert cost(fair) < cost(plain)


def test_global_merges_are_those_of_a_plain_training() -> None:
    corpus = {"a": [BYTES], "b": [b"qzqzqz wvwvwv"]}
    parity = Parity(global_merges=9, window=10, share=1.5)
    fair = train_corpus(corpus, TrainOptions(vocab_size=270), PLAN, parity=parity)
    plain = train_corpus([BYTES, b"qzqzqz wvwvwv"], TrainOptions(vocab_size=270), PLAN)
    assert fair.chosen_by is not None
    assert fair.chosen_by[:9] == (None,) * 9
    assert fair.merges[:9].tolist() == plain.merges[:9].tolist()


def test_parity_is_for_languages() -> None:
    with pytest.raises(av.InvalidValue, match="parity needs several languages"):
        av.train([BYTES], 280, parity=Parity())
    with pytest.raises(av.InvalidValue, match=r"parity.sizes: is for de, and the languages are en"):
        av.train({"en": [BYTES]}, 280, parity=Parity(sizes={"de": 1.0}))


# Extension.


def test_an_extension_leaves_ids_and_merges_and_adds_tokens() -> None:
    base = av.train([BYTES], 280, special_tokens=["<|end|>"], threads=1)
    more = av.extend(base, [b"xylophone zither " * 9], 12, threads=1)
    assert len(more.vocabulary) == 292
    old, new = (json.loads(tok.to_json())["model"] for tok in (base, more))
    assert new["merges"][: len(old["merges"])] == old["merges"]
    assert {token: new["vocab"][token] for token in old["vocab"]} == old["vocab"]
    assert len(more.encode(" zither")) < len(base.encode(" zither"))
    assert more.encode("<|end|>").tolist() == [0]


def test_extending_on_the_same_corpus_gives_the_larger_training() -> None:
    counts = count_corpus([BYTES], PLAN)
    small, large = av.train(counts, 270), av.train(counts, 285)
    assert av.extend(small, counts, 15).to_json() == large.to_json()


def test_a_pretrained_tokenizer_can_be_extended(tmp_path: Path) -> None:
    base = av.Tokenizer.load("pico:code-4k")
    more = av.extend(base, [b"Donaudampfschifffahrt Donaudampfschifffahrt"] * 3, 8, threads=1)
    assert len(more.vocabulary) == len(base.vocabulary) + 8
    for id in range(len(base.vocabulary)):
        assert more.vocabulary.token_bytes(id) == base.vocabulary.token_bytes(id)
    assert export.save_verified(more, tmp_path / "out", ["Donaudampfschifffahrt"]).tokens > 0
    assert more.encode("def f(x): return x").tolist() == base.encode("def f(x): return x").tolist()


def test_what_cannot_be_extended_is_refused_by_name() -> None:
    # The same model without its <0xNN> loses what has no symbol.
    document = json.loads(av.Tokenizer.load("pico:code-2k").to_json())
    document["model"]["byte_fallback"] = False
    with pytest.raises(av.UnsupportedTokenizer, match="model: a BPE of characters"):
        av.extend(json.dumps(document).encode(), [BYTES], 5)


def test_a_bpe_with_byte_fallback_is_extended_as_tokenizers_reads_it() -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is missing")
    base = av.Tokenizer.load("pico:code-2k")
    # Spellings of tokens that no text makes, marks, and characters that only <0xNN> can write.
    odd = "x <0x41> <0x41> <unk> <unk> <s> ▁▁ x ▁▁ x 漢字 漢字 😀😀 😀😀 "
    code = Path(errors.__file__).read_bytes()
    corpus = [code, BYTES, odd.encode() * 5, b"\xff\xfe\xff\xfe" * 5]
    more = av.extend(base, corpus, 120, min_frequency=2, threads=1)
    size = len(base.vocabulary)
    assert len(more.vocabulary) == size + 120
    for id in range(size):
        assert more.vocabulary.token_bytes(id) == base.vocabulary.token_bytes(id)
    new = [more.vocabulary.token_bytes(id) or b"" for id in range(size, len(more.vocabulary))]
    assert len(set(new)) == 120
    assert not {b"<0x41>", b"<unk>", b"<s>"} & set(new)
    assert all(b" " not in token.strip(b" ") for token in new)  # a word and no more
    assert not any("漢" in token.decode() or "😀" in token.decode() for token in new)
    stock = tokenizers.Tokenizer.from_str(more.to_json().decode())
    rng = random.Random(5)
    texts = [TEXT, odd, "", " ", "   a", "\n\t x"]
    texts += ["".join(rng.choice(" ▁ab\ndefé漢<0x41>") for _ in range(40)) for _ in range(60)]
    for text in texts:
        found = more.encode(text).tolist()
        assert found == stock.encode(text, add_special_tokens=False).ids
        assert more.decode(found) == text.replace("▁", " ").encode()
    assert len(more.encode(TEXT)) < len(base.encode(TEXT))


def test_byte_fallback_that_lacks_a_byte_is_not_extended() -> None:
    document = json.loads(av.Tokenizer.load("pico:code-2k").to_json())
    vocab = document["model"]["vocab"]
    vocab["<0xXX>"] = vocab.pop("<0x07>")
    with pytest.raises(av.UnsupportedTokenizer, match="255 of 256 tokens for bytes"):
        av.extend(json.dumps(document).encode(), [BYTES], 5)


def test_counts_cut_in_another_way_do_not_extend() -> None:
    base = av.train([BYTES], 280, pattern="gpt2", threads=1)
    with pytest.raises(av.InvalidValue, match=r"made with 'llama3', and the tokenizer.*'gpt2'"):
        av.extend(base, count_corpus([BYTES], PLAN), 5)


def test_a_tokenizer_without_some_byte_is_not_extended() -> None:
    base = av.train([BYTES], 100, initial_alphabet="seen", threads=1)
    with pytest.raises(av.UnsupportedTokenizer, match="no token for the byte 0x00"):
        av.extend(base, [BYTES], 5)


@pytest.mark.parametrize("name", ["llama3", "gpt2", "starcoder", "gpt_neox"])
def test_published_tokenizers_extend_and_export(name: str, fixtures: Path) -> None:
    # GPT-NeoX's and StarCoder's vocabularies lack bytes that no assigned character has.
    text = (fixtures / "text" / "udhr" / "tam.txt").read_bytes()
    base = av.Tokenizer.load(fixtures / "tokenizers" / name)
    more = av.extend(base, [text, b"\xff\xc0" * 9], 40, threads=1)
    assert len(more.vocabulary) == len(base.vocabulary) + 40
    assert len(more.encode(text)) < len(base.encode(text))
    export.verify(more, [text.decode()[:5000]])


# Export.


def test_an_export_that_reads_back_differently_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tok = av.train([BYTES], 280, threads=1)
    other = av.train([BYTES], 270, threads=1).to_json()
    monkeypatch.setattr(av.Tokenizer, "to_json", lambda self: other)
    with pytest.raises(errors.VerificationFailed, match="differently from token"):
        export.save_verified(tok, tmp_path / "out", [TEXT])
    assert not (tmp_path / "out").exists()


def test_an_export_is_read_back_by_tokenizers() -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is missing")
    trained = learn(vocab_size=280)
    done = export.verify(trained.tokenizer, trained.sample)
    assert done.by == tokenizers.__version__
    assert done.tokens > 100


# The core's door.


def test_arrays_that_do_not_fit_are_refused() -> None:
    data, counts = np.zeros(3, np.uint8), np.ones(1, np.uint64)
    with pytest.raises(av.InvalidValue, match=r"offsets: 0\.\.2 for 3 elements"):
        _core.train_words(data, np.array([0, 2]), counts, specials=[], alphabet=b"", vocab_size=9)


def test_sequences_of_tokens_merge_and_inherited_merges_are_carried_out() -> None:
    table = b"abcbc"  # a, b, c, bc
    merges, counts, data, offsets, stop = _core.train_sequences(
        np.array([0, 1, 2, 0, 1], np.uint32),
        np.array([0, 3, 5]),
        np.array([9, 20], np.uint64),
        np.frombuffer(table, np.uint8),
        np.array([0, 1, 2, 3, 5]),
        inherited=np.array([[1, 2, 3]], np.uint32),
        min_frequency=1,
    )
    assert merges.tolist() == [[0, 1, 4], [0, 3, 5]]
    assert counts.tolist() == [20, 9]
    assert data.tobytes() == b"abcbcababc"
    assert offsets.tolist() == [0, 1, 2, 3, 5, 7, 10]
    assert stop == "exhausted"


def test_empty_counts_are_refused() -> None:
    counts = count_corpus([BYTES], PLAN)
    nothing = type(counts)(counts.data[:0], np.zeros(1, np.int64), counts.counts[:0], counts.header)
    with pytest.raises(av.InvalidValue, match="no pretokens"):
        train_counts(nothing)


# Commands.


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, "utf-8")
    return path


def test_train_writes_a_tokenizer_that_loads(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tok"
    options = ["--vocab-size", "275", "--special", "eos=<|end|>", "--seed-token", "zebra"]
    assert main(["train", str(text_file), "--out", str(out), *options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["tokens"] == 275
    assert report["special_tokens"] == {"<|end|>": 0}
    tok = av.Tokenizer.load(out)
    assert tok.vocabulary.roles.ids("eos") == (0,)
    assert len(tok.encode("zebra")) == 1
    assert main(["train", str(text_file), "--out", str(out), *options]) == 1
    assert "already holds" in capsys.readouterr().err
    assert main(["train", str(text_file), "--out", str(out), *options, "--replace"]) == 0


def test_what_can_be_refused_is_refused_before_the_work(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the corpus was read")

    monkeypatch.setattr("anyvocab.training.bpe.train_corpus", work)
    monkeypatch.setattr("anyvocab.training.bpe.counts_of", work)
    text, out, page = str(text_file), str(tmp_path / "new"), str(tmp_path / "page.html")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "tokenizer.json").write_text("{}")
    learn = ["extend", "pico:code-4k", text, "--tokens", "5", "--out"]
    assert main(["train", text, "--out", str(tmp_path / "old")]) == 1
    assert main([*learn, str(tmp_path / "old")]) == 1
    for wrong in (
        ["--report", page, "--text", str(tmp_path / "none.txt")],
        ["--report", page, "--against", str(tmp_path / "none")],
    ):
        assert main(["train", text, "--out", out, *wrong]) == 1
    assert main(["train", text, "--out", out, "--report", str(tmp_path / "no" / "p.html")]) == 2


def test_train_writes_a_page_about_its_tokenizer(text_file: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    judged = ["--report", str(page), "--text", str(text_file), "--against", "pico=pico:code-4k"]
    size = ["--vocab-size", "275"]
    assert main(["train", str(text_file), "--out", str(tmp_path / "mine"), *size, *judged]) == 0
    html = page.read_text("utf-8")
    assert "<title>mine and pico</title>" in html
    count = len(av.Tokenizer.load(tmp_path / "mine").encode(TEXT))
    assert f"{len(TEXT.encode()) / count:.2f}" in html


def test_train_from_counts_and_extend(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is missing")
    shard, direct, counted = tmp_path / "c.parquet", tmp_path / "direct", tmp_path / "counted"
    assert main(["count", str(text_file), "--out", str(shard)]) == 0
    size = ["--vocab-size", "270"]
    assert main(["train", str(text_file), "--out", str(direct), *size]) == 0
    assert main(["train", "--from-counts", str(shard), "--out", str(counted), *size]) == 0
    assert (direct / "tokenizer.json").read_bytes() == (counted / "tokenizer.json").read_bytes()
    more = ["--tokens", "10", "--out", str(tmp_path / "more"), "--json"]
    capsys.readouterr()
    assert main(["extend", str(direct), str(text_file), *more]) == 0
    assert json.loads(capsys.readouterr().out)["first_new_id"] == 270
    assert len(av.Tokenizer.load(tmp_path / "more").vocabulary) == 280


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--out", "x"],
        ["train", "f", "--from-counts", __file__, "--out", "x"],
        ["train", "--from-counts", __file__, "--out", "x", "--pattern", "gpt2"],
        ["extend", "pico:code-4k", "--tokens", "5", "--out", "x"],
    ],
)
def test_contradictory_arguments_are_wrong_usage(arguments: list[str]) -> None:
    assert main(arguments) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vocab-size", "100"], "--vocab-size: 100 is less than 256"),
        (["--special", "eos=a"], '--special[0]: "a" is the spelling of the byte 0x61'),
        (["--seed-token", "two words"], "--seed-token: 'two words' is cut into two |  words"),
        (["--veto", "["], "--veto: premature end"),
        (["--documents", "page"], "--documents: 'page' is no choice; use 'file' or 'line'"),
        (["--limit", "0"], "--limit['corpus']: must be at least 1"),
        (["--superwords", "superbpe", "--vocab-size", "9"], "--vocab-size: 9 is less than 256"),
    ],
)
def test_what_no_corpus_makes_possible_is_refused_unread_in_the_words_of_the_options(
    text_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert main(["train", str(text_file), "--out", str(tmp_path / "out"), *arguments]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert "counting" not in told
    assert not (tmp_path / "out").exists()


def test_an_error_of_the_corpus_is_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty.txt"
    empty.touch()
    assert main(["train", str(empty), "--out", str(tmp_path / "out")]) == 1
    assert "there is no text" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupted_training_stops_within_a_second() -> None:
    # Random words without end: many seconds of merging.
    program = """
import numpy as np, anyvocab as av
from anyvocab import _core
rng = np.random.default_rng(0)
n = 400_000
data = rng.integers(97, 123, n * 12).astype(np.uint8)
offsets = np.arange(0, n * 12 + 1, 12)
counts = np.ones(n, np.uint64)
print("ready", flush=True)
while True:
    _core.train_words(data, offsets, counts, specials=[], alphabet=b"", vocab_size=10**6)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    time.sleep(0.5)
    started = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=30)
    assert b"KeyboardInterrupt" in stderr
    assert time.monotonic() - started < 1.0


def test_merging_that_takes_more_memory_than_allowed_is_refused_before_it_begins() -> None:
    with pytest.raises(errors.InvalidValue, match="MB may be used") as caught:
        learn(memory_bytes=1000)
    assert caught.value.field == "memory"
    assert caught.value.fix is not None
    assert "limit for each source" in caught.value.fix
    roomy = learn(memory_bytes=1 << 30)
    assert roomy.merges.tolist() == learn().merges.tolist()


def test_the_memory_that_is_left_is_the_lesser_of_the_systems_and_the_groups(
    tmp_path: Path,
) -> None:
    meminfo, group = tmp_path / "meminfo", tmp_path / "group"
    assert available_bytes(meminfo, group) is None
    meminfo.write_text("MemTotal:       9000 kB\nMemAvailable:   4000 kB\n")
    assert available_bytes(meminfo, group) == 4000 * 1024
    group.mkdir()
    (group / "memory.current").write_text("900000\n")
    (group / "memory.stat").write_text("anon 500000\ninactive_file 100000\n")
    (group / "memory.max").write_text("max\n")
    assert available_bytes(meminfo, group) == 4000 * 1024
    (group / "memory.max").write_text("1000000\n")
    assert available_bytes(meminfo, group) == 1000000 - 900000 + 100000
