"""The gate before a swap: what it refuses, what it warns of, and how."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import anyvocab as av
from anyvocab import errors
from anyvocab.roles import Declarations
from anyvocab.testing import tiny_tokenizer
from anyvocab.transplant.gate import GateFinding, check, digit_scheme, enforce

NORMALIZERS = {
    "NFC": {"type": "NFC"},
    "NFKC": {"type": "NFKC"},
    "lower": {"type": "Lowercase"},
    "accents": {
        "type": "Sequence",
        "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}],
    },
    "spaces": {"type": "Replace", "pattern": {"Regex": " +"}, "content": " "},
    "lines": {"type": "Replace", "pattern": {"Regex": "\\s"}, "content": " "},
}


def tiny(**changes: object) -> av.Tokenizer:
    return av.Tokenizer.load(json.dumps(tiny_tokenizer(**changes)).encode())


def declared(**config: object) -> av.Tokenizer:
    return tiny().with_declarations(Declarations(tokenizer_config=config))


def behind(spelling: str, *, before: bool) -> dict[str, object]:
    """Return a post-processor that puts a control token before or behind a text."""
    special = {"SpecialToken": {"id": spelling, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 1}}
    return {
        "type": "TemplateProcessing",
        "single": [special, text] if before else [text, special],
        "pair": [text, second],
        "special_tokens": {spelling: {"id": spelling, "ids": [260], "tokens": [spelling]}},
    }


def without_bytes(*, unk: bool) -> av.Tokenizer:
    """Return a BPE of the letters of `hello`, with or without an unknown token."""
    document = tiny_tokenizer(added_tokens=[])
    document["pre_tokenizer"] = document["decoder"] = None
    model = document["model"]
    assert isinstance(model, dict)
    vocab = {token: id for id, token in enumerate(["<unk>"] * unk + list("helo"))}
    model |= {"vocab": vocab, "merges": [], "unk_token": "<unk>" if unk else None}
    if unk:
        template = tiny_tokenizer()["added_tokens"][0]  # type: ignore[index]
        document["added_tokens"] = [{**template, "id": 0, "content": "<unk>"}]
    return av.Tokenizer.load(json.dumps(document).encode())


def digits(split: dict[str, object] | None, *merged: str) -> av.Tokenizer:
    """Return the tiny tokenizer with its digits cut by a pattern and merged to `merged`."""
    document = tiny_tokenizer(added_tokens=[])
    model = document["model"]
    assert isinstance(model, dict)
    vocab: dict[str, int] = dict(model["vocab"])
    merges = list(model["merges"])
    for token in merged:
        vocab.setdefault(token, len(vocab))
        merges.append([token[:-1], token[-1]])
    # A whole pretoken that is a token needs no merges.
    model |= {"vocab": vocab, "merges": merges, "ignore_merges": True}
    byte_level = {**document["pre_tokenizer"], "use_regex": False}  # type: ignore[dict-item]
    steps = [byte_level] if split is None else [split, byte_level]
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    return av.Tokenizer.load(json.dumps(document).encode())


def pattern(regex: str) -> dict[str, object]:
    return {
        "type": "Split",
        "pattern": {"Regex": regex},
        "behavior": "Isolated",
        "invert": False,
    }


ALL_TRIPLES = [f"{n:02}" for n in range(100)] + [f"{n:03}" for n in range(1000)]


def found(code: str, *arguments: av.Tokenizer, **options: object) -> list[GateFinding]:
    findings = check(*arguments, **options)  # type: ignore[arg-type]
    return [finding for finding in findings if finding.code == code]


def severities(findings: list[GateFinding]) -> list[str]:
    return [finding.severity for finding in findings]


def test_a_tokenizer_passes_its_own_gate() -> None:
    findings = check(tiny(), tiny(), source_rows=262, target_rows=262)
    assert [finding.code for finding in findings] == ["digits_alike"]
    enforce(findings)


@pytest.mark.parametrize("name", ["pico:code-4k", "pico:code-2k"])
def test_the_embedded_models_pass_each_other(name: str) -> None:
    other = {"pico:code-4k": "pico:code-2k", "pico:code-2k": "pico:code-4k"}[name]
    findings = check(av.Tokenizer.load(name), av.Tokenizer.load(other))
    assert {finding.severity for finding in findings} == {"info"}


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ({"source_rows": 261}, "source_ids_beyond_rows"),
        ({"donor_rows": 261}, "donor_ids_beyond_rows"),
        ({"target_rows": 261}, "target_ids_beyond_rows"),
    ],
)
def test_ids_without_rows_are_refused(rows: dict[str, int], code: str) -> None:
    (finding,) = found(code, tiny(), tiny(), **rows)
    assert finding.severity == "refuse"
    assert "1 ids have no row among 261: 261 <|fim_prefix|>" in finding.found
    assert not found(code, tiny(), tiny(), **dict.fromkeys(rows, 262))


@pytest.mark.parametrize(
    ("normalizer", "code", "severity", "name"),
    [
        ("lower", "normalizer_loss", "refuse", "upper case"),
        ("accents", "normalizer_loss", "refuse", "accents"),
        ("spaces", "white_space_lost", "refuse", "runs of spaces"),
        ("lines", "white_space_lost", "refuse", "line breaks and tabs"),
        ("NFKC", "normalizer_loss", "warn", "compatibility characters (NFKC)"),
        ("NFC", "normalizer_loss", "info", "decomposed characters (NFC)"),
    ],
)
def test_text_that_a_normalizer_loses_is_found(
    normalizer: str, code: str, severity: str, name: str
) -> None:
    target = tiny(normalizer=NORMALIZERS[normalizer])
    (finding,) = (one for one in found(code, tiny(), target) if one.found.startswith(name))
    assert finding.severity == severity


def test_what_the_source_loses_too_is_no_reason_to_refuse() -> None:
    lower = tiny(normalizer=NORMALIZERS["lower"])
    (finding,) = (
        one for one in found("normalizer_loss", lower, lower) if one.found.startswith("upper case")
    )
    assert finding.severity == "info"
    assert finding.found.endswith("the source loses it too")


def test_bytes_that_vanish_are_refused_and_those_that_become_unk_are_not() -> None:
    code = "bytes_without_token"
    assert severities(found(code, tiny(), without_bytes(unk=False))) == ["refuse"]
    (finding,) = found(code, tiny(), without_bytes(unk=True))
    assert finding.severity == "warn"
    assert "in 20 of 20 probe texts" in finding.found
    both = without_bytes(unk=True), without_bytes(unk=True)
    assert severities(found(code, *both)) == ["info"]


def test_a_tokenizer_that_ends_every_prompt_is_refused() -> None:
    target = tiny(post_processor=behind("<|end|>", before=False))
    (finding,) = found("ends_every_text", tiny(), target)
    assert finding.severity == "refuse"
    assert "puts 260 <|end|> behind every text" in finding.found
    assert not found("ends_every_text", target, target)


def test_a_begin_token_on_one_side_only_is_a_warning() -> None:
    begins = tiny(post_processor=behind("<|end|>", before=True))
    for pair, who in (((begins, tiny()), "the source puts"), ((tiny(), begins), "the target puts")):
        (finding,) = found("bos_differs", *pair)
        assert finding.severity == "warn"
        assert finding.found.startswith(f"{who} 260 <|end|> before every text")
    assert not found("bos_differs", begins, begins)


def test_a_target_without_an_end_is_a_warning() -> None:
    ended, endless = declared(eos_token="<|end|>"), tiny(added_tokens=[])
    assert severities(found("no_end", ended, endless)) == ["warn"]
    assert not found("no_end", endless, endless)


@pytest.mark.parametrize(
    ("make", "scheme"),
    [
        (lambda: digits(pattern(r"\p{N}")), "single"),
        (lambda: digits(pattern(r"\p{N}{1,3}"), *ALL_TRIPLES), "left triples"),
        (
            lambda: digits(pattern(r"\p{N}{1,3}(?=(\p{N}{3})*(?!\p{N}))"), *ALL_TRIPLES),
            "right triples",
        ),
        (lambda: digits(None, "12", "123", "1234"), "free"),
        (lambda: without_bytes(unk=True), "lost"),
    ],
)
def test_the_way_digits_are_cut_has_a_name(make: Callable[[], av.Tokenizer], scheme: str) -> None:
    assert digit_scheme(make()) == scheme


def test_digits_cut_in_another_way_are_a_warning() -> None:
    (finding,) = found("digits_differ", tiny(), digits(None, "12", "123"))
    assert finding.severity == "warn"
    assert "single in the source, free in the target" in finding.found


def test_a_space_before_every_text_is_said_when_it_is_new(fixtures: Path) -> None:
    llama = av.Tokenizer.load(fixtures / "tokenizers" / "llama2")
    (finding,) = found("prefix_space", tiny(), llama)
    assert finding.found.startswith("the target puts a space")
    (finding,) = found("prefix_space", llama, tiny())
    assert finding.found.startswith("the source puts a space")


def test_a_much_larger_vocabulary_and_long_tokens_are_warnings() -> None:
    tokens = ["x" * n for n in (2, 4, 8, 16, 32, 64, 128, 129)]
    document = tiny_tokenizer(added_tokens=[])
    model = document["model"]
    assert isinstance(model, dict)
    vocab = dict(model["vocab"]) | {token: 260 + i for i, token in enumerate(tokens)}
    vocab |= {f"fill{i}": len(vocab) + i for i in range(900)}
    halves = [[token[: len(token) // 2]] * 2 for token in tokens[:-1]]
    model |= {"vocab": vocab, "merges": [*model["merges"], *halves, [tokens[-2], "x"]]}
    target = av.Tokenizer.load(json.dumps(document).encode())
    (finding,) = found("long_tokens", tiny(), target)
    assert "1 tokens are longer than 128 bytes, up to 129" in finding.found
    assert severities(found("much_larger", tiny(), target)) == ["warn"]


def test_tokens_with_the_same_bytes_are_named() -> None:
    (finding,) = found("duplicated_bytes", tiny(), av.Tokenizer.load("pico:code-2k"))
    assert finding.severity == "info"


def test_the_context_is_told_in_bytes() -> None:
    texts = ["def f(x):\n    return x"]
    four, two = av.Tokenizer.load("pico:code-4k"), av.Tokenizer.load("pico:code-2k")
    (finding,) = found("context_in_bytes", four, two, texts=texts, context=512)
    new = 512 * len(texts[0]) / len(two.encode(texts[0]))
    assert f"a context of 512 tokens for {new:,.0f} bytes" in finding.found
    assert not found("context_in_bytes", four, two)


@pytest.mark.parametrize("name", ["t5", "bert_uncased"])
def test_tokenizers_that_lose_line_breaks_are_refused(fixtures: Path, name: str) -> None:
    target = av.Tokenizer.load(fixtures / "tokenizers" / name)
    findings = check(av.Tokenizer.load("pico:code-4k"), target)
    assert "refuse" in severities([one for one in findings if one.code == "white_space_lost"])
    assert severities(findings) == sorted(
        severities(findings), key=["refuse", "warn", "info"].index
    )


def test_a_refusal_is_raised_with_its_reason_unless_forced() -> None:
    findings = check(tiny(), tiny(normalizer=NORMALIZERS["lower"]), source_rows=261)
    with pytest.raises(errors.IncompatibleTokenizer) as raised:
        enforce(findings)
    assert raised.value.field == "source_ids_beyond_rows"
    assert "(and 1 more reasons)" in str(raised.value)
    assert "or insist with force" in raised.value.fix
    enforce(findings, force=True)


def test_a_space_that_stays_before_a_text_refuses_nothing() -> None:
    splits = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
    spaced = tiny(pre_tokenizer=splits | {"use_regex": True})
    assert spaced.decode(spaced.encode("Hello")) == b" Hello"
    findings = check(tiny(), spaced)
    assert not [one for one in findings if one.severity == "refuse"]
    assert [one.severity for one in findings if one.code == "prefix_space"] == ["info"]
