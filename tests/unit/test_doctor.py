"""`anyvocab doctor`: every check finds what it is for, and healthy folders stay quiet."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import anyvocab as av
from anyvocab.cli import main
from anyvocab.doctor import Finding, Patient, check_names, check_summaries, examine
from anyvocab.doctor.behaviour import digit_grouping
from anyvocab.doctor.weights import read_header, read_weights
from anyvocab.testing import tiny_tokenizer


def safetensors(path: Path, shapes: dict[str, list[int]]) -> None:
    """Write a file whose header is sound and whose data is missing: only headers are read."""
    header = {
        name: {"dtype": "F32", "shape": s, "data_offsets": [0, 0]} for name, s in shapes.items()
    }
    data = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(data)) + data)


def findings(folder: Path, check: str, **options: object) -> list[Finding]:
    patient = Patient.of(av.Tokenizer.load(folder), folder=folder, **options)  # type: ignore[arg-type]
    return [finding for finding in examine(patient).findings if finding.check == check]


def write(folder: Path, name: str, value: object) -> None:
    (folder / name).write_text(json.dumps(value))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["doctor", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_healthy_folder_has_no_errors(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny_folder / "generation_config.json").write_text('{"eos_token_id": 260}')
    code, out, err = run(capsys, tiny_folder)
    assert (code, err) == (0, "")
    assert f"{len(check_names())} checks: 0 errors, 0 warnings" in out


def test_json_has_a_stable_shape(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, tiny_folder, "--rows", 261, "--json")
    assert (code, err) == (3, "")
    document = json.loads(out)
    assert list(document) == [
        "format_version",
        "source",
        "model",
        "ok",
        "counts",
        "checks",
        "findings",
    ]
    assert (document["format_version"], document["ok"]) == (1, False)
    assert document["checks"] == list(check_names())
    first = document["findings"][0]
    assert list(first) == ["check", "severity", "where", "found", "fix"]
    assert (first["check"], first["severity"], first["where"]) == (
        "ids_have_rows",
        "error",
        "--rows",
    )
    assert "261 <|fim_prefix|>" in first["found"]


def test_every_check_says_what_it_demands() -> None:
    assert len(check_names()) >= 20
    assert all(summary.endswith(".") for summary in check_summaries().values())


def test_the_guide_lists_every_check() -> None:
    guide = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
    text = guide.read_text(encoding="utf-8")
    listed = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert listed == list(check_names())
    for summary in check_summaries().values():
        assert summary in text


def test_an_unreadable_source_is_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, tmp_path)[0] == 1
    (tmp_path / "tokenizer.json").write_text("{")
    code, out, err = run(capsys, tmp_path)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_ids_are_compared_with_the_rows_of_the_weights(tiny_folder: Path) -> None:
    safetensors(tiny_folder / "model.safetensors", {"model.embed_tokens.weight": [260, 8]})
    (error,) = findings(tiny_folder, "ids_have_rows")
    assert error.severity == "error"
    assert error.where == "model.safetensors: model.embed_tokens.weight"
    assert error.found.startswith("2 ids have no row, the matrix has 260: 260 <|end|>, 261")


def test_rows_beyond_the_ids_are_only_worth_knowing(tiny_folder: Path) -> None:
    write(tiny_folder, "config.json", {"text_config": {"vocab_size": 320}, "vocab_size": 1})
    (padded,) = findings(tiny_folder, "ids_have_rows")
    assert (padded.severity, padded.found) == (
        "info",
        "58 rows from 262 on belong to no id (padding)",
    )


def test_the_model_may_be_another_folder(tiny_folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    write(model, "config.json", {"vocab_size": 100, "eos_token_id": 9999})
    found = findings(tiny_folder, "ids_have_rows", model=model)
    assert [one.severity for one in found] == ["error"]
    (problem,) = findings(tiny_folder, "declarations_fit", model=model)
    assert problem.where == "config.json: eos_token_id"


def test_config_and_matrices_must_agree(tiny_folder: Path) -> None:
    write(tiny_folder, "config.json", {"vocab_size": 264})
    safetensors(
        tiny_folder / "model.safetensors",
        {"model.embed_tokens.weight": [264, 8], "lm_head.weight": [262, 8], "norm.weight": [8]},
    )
    found = findings(tiny_folder, "matrices_agree")
    assert [(one.severity, one.where) for one in found] == [
        ("error", "model.safetensors: lm_head.weight"),
        ("warning", "input and output matrix"),
    ]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "shorter than 8 bytes"),
        (struct.pack("<Q", 1 << 60) + b"{}", "a header of"),
        (struct.pack("<Q", 100) + b"{}", "a header of 100 bytes in a file of 10"),
        (struct.pack("<Q", 2) + b"[]", "no JSON object"),
        (struct.pack("<Q", 1) + b"{", "no JSON"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, "no JSON"),
        (struct.pack("<Q", 9) + b'{"a": {}}', "no valid shape"),
        (struct.pack("<Q", 22) + b'{"a": {"shape": [-1]}}', "no valid shape"),
    ],
)
def test_damaged_headers_are_findings(tiny_folder: Path, data: bytes, why: str) -> None:
    path = tiny_folder / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=why):
        read_header(path)
    (finding,) = findings(tiny_folder, "weights_can_be_read")
    assert (finding.severity, finding.where) == ("error", "model.safetensors")


@pytest.mark.parametrize(
    "file", ["../other.safetensors", "/etc/passwd", "a/../../b", "C:\\x", "..\\x", "", 3]
)
def test_an_index_may_not_leave_its_folder(tiny_folder: Path, file: object) -> None:
    index = {"weight_map": {"model.embed_tokens.weight": file}}
    write(tiny_folder, "model.safetensors.index.json", index)
    (finding,) = findings(tiny_folder, "weights_can_be_read")
    assert finding.severity == "error"
    assert "outside the folder; it is not opened" in finding.found


def test_shards_are_found_through_the_index(tiny_folder: Path) -> None:
    safetensors(tiny_folder / "a.safetensors", {"lm_head.weight": [262, 4]})
    names = {"lm_head.weight": "a.safetensors", "x.weight": "b.safetensors"}
    write(tiny_folder, "model.safetensors.index.json", {"weight_map": names})
    weights = read_weights(tiny_folder)
    assert [(one.side, one.rows, one.width) for one in weights.matrices] == [("output", 262, 4)]
    assert [where for where, _, _ in weights.problems] == ["b.safetensors"]


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}', "[" * 200_000])
def test_damaged_indexes_are_findings(tiny_folder: Path, text: str) -> None:
    (tiny_folder / "model.safetensors.index.json").write_text(text)
    assert [one.severity for one in findings(tiny_folder, "weights_can_be_read")] == ["error"]


def test_files_cannot_steer_the_terminal(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b[2J\x9b2J\u202e"
    _config(
        eos_token=evil,
        extra_special_tokens={evil: "<|end|>"},
        added_tokens_decoder={str(id): {"content": evil} for id in range(99)},
        chat_template=f"{{{{ '<|{evil}|>' }}}}",
    )(tiny_folder)
    names = {"lm_head.weight": f"{evil}.safetensors", "x.weight": f"../{evil}"}
    write(tiny_folder, "model.safetensors.index.json", {"weight_map": names})
    for command in ("doctor", "inspect"):
        for more in ([], ["--json"]):
            assert main([command, str(tiny_folder), *more]) == (3 if command == "doctor" else 0)
            captured = capsys.readouterr()
            assert not set("\x1b\x9b") & set(captured.out + captured.err)
    assert len(findings(tiny_folder, "listed_tokens_agree")) == 13


def test_pickles_are_named(tiny_folder: Path) -> None:
    (tiny_folder / "pytorch_model.bin").write_bytes(b"x")
    (finding,) = findings(tiny_folder, "weights_are_no_pickles")
    assert (finding.severity, finding.where) == ("warning", "pytorch_model.bin")


def _config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "tokenizer_config.json").read_text())
        write(folder, "tokenizer_config.json", config | changes)

    return change


def _generation(eos: object) -> Callable[[Path], None]:
    return lambda folder: write(folder, "generation_config.json", {"eos_token_id": eos})


@pytest.mark.parametrize(
    ("change", "check", "severity", "words"),
    [
        (_generation(9999), "declarations_fit", "error", "9999 is no id"),
        (_generation([5]), "end_ids_agree", "warning", "ends at 5, tokenizer_config.json at 260"),
        (
            _config(added_tokens_decoder={"260": {"content": "<eos>"}}),
            "listed_tokens_agree",
            "error",
            "says [<eos>], the tokenizer has [<|end|>]",
        ),
        (
            _config(added_tokens_decoder={"7000": {"content": "<eos>"}}),
            "listed_tokens_agree",
            "error",
            "has no token",
        ),
        (_config(tokenizer_class="TokenizersBackend"), "class_is_stock", "warning", "Backend"),
        (_config(auto_map={"AutoTokenizer": "x.Y"}), "class_is_stock", "warning", "run code"),
        (_config(pad_token="<|end|>"), "roles_are_apart", "info", "pad and eos are one id"),
        (
            _config(chat_template="{{ '<|im_start|>' }}{{ pad_token }}"),
            "template_tokens_exist",
            "warning",
            "<|im_start|>",
        ),
        (
            _config(chat_template="{{ pad_token }}"),
            "template_tokens_exist",
            "warning",
            "uses pad_token, and no id is pad",
        ),
    ],
)
def test_files_that_contradict_are_found(
    tiny_folder: Path, change: Callable[[Path], None], check: str, severity: str, words: str
) -> None:
    change(tiny_folder)
    found = findings(tiny_folder, check)
    assert any(one.severity == severity and words in one.found for one in found), found


def tokenizer_with(folder: Path, **changes: object) -> Path:
    document = tiny_tokenizer(**changes)
    write(folder, "tokenizer.json", document)
    return folder


def test_a_turn_that_does_not_end_generation_is_found(tiny_folder: Path) -> None:
    template = (
        "{% for m in messages %}{{ '<|fim_prefix|>' }}{{ m.role }}{{ m.content }}{{ '<|end|>' }}"
        "{% endfor %}"
    )
    _config(chat_template=template, eos_token=None, bos_token=None)(tiny_folder)
    _generation([0])(tiny_folder)
    (finding,) = findings(tiny_folder, "turns_end_generation")
    assert finding.found.startswith("the chat template ends a turn with 260 <|end|>")


@pytest.mark.parametrize(
    ("normalizer", "words"),
    [
        ({"type": "Lowercase"}, "upper case: comes back as [hello world straße]"),
        ({"type": "NFC"}, "decomposed characters (NFC)"),
        ({"type": "NFKC"}, "compatibility characters (NFKC): comes back as [fi 1 1⁄2 A]"),
        ({"type": "Strip", "strip_left": True, "strip_right": True}, "a space at the end"),
    ],
)
def test_what_a_normalizer_loses_is_measured(
    tiny_folder: Path, normalizer: object, words: str
) -> None:
    tokenizer_with(tiny_folder, normalizer=normalizer)
    found = findings(tiny_folder, "nothing_is_normalized_away")
    assert any(words in one.found for one in found), found


def test_a_space_before_every_text_is_no_loss(tiny_folder: Path) -> None:
    splits = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
    tokenizer_with(tiny_folder, pre_tokenizer=splits | {"use_regex": True})
    assert not findings(tiny_folder, "texts_come_back")
    assert not findings(tiny_folder, "nothing_is_normalized_away")
    (finding,) = findings(tiny_folder, "nothing_is_put_before_a_text")
    assert finding.severity == "info"


def test_a_decoder_that_does_not_undo_the_encoder_is_found(tiny_folder: Path) -> None:
    tokenizer_with(tiny_folder, decoder=None)
    (finding,) = findings(tiny_folder, "texts_come_back")
    assert finding.severity == "warning"


@pytest.mark.parametrize(
    ("cuts", "words"),
    [
        ([[1, 1, 1]], "digit by digit"),
        ([[3, 3, 1], [3, 3, 2]], "threes? from the left|three from the left"),
        ([[1, 3, 3], [2, 3, 3]], "three from the right"),
        ([[4, 3]], "as they occur"),
    ],
)
def test_digit_grouping_has_a_name(cuts: list[list[int]], words: str) -> None:
    import re

    assert re.search(words, digit_grouping(cuts))


def test_digits_of_the_tiny_tokenizer_stand_alone(tiny_folder: Path) -> None:
    (finding,) = findings(tiny_folder, "digits_are_grouped")
    assert finding.found == "numbers are cut digit by digit"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama3", {"digits_are_grouped"}),
        ("bert_uncased", {"nothing_becomes_unk", "texts_come_back", "all_bytes_have_a_token"}),
        ("llama2", {"bytes_are_unique", "words_at_the_start_are_plain"}),
    ],
)
def test_real_tokenizers_have_their_known_quirks(
    fixtures: Path, name: str, expected: set[str]
) -> None:
    folder = fixtures / "tokenizers" / name
    report = examine(Patient.of(av.Tokenizer.load(folder), folder=folder))
    assert report.ok, report.findings
    assert expected <= {finding.check for finding in report.findings}


def test_a_real_model_folder_is_read(fixtures: Path) -> None:
    folder = fixtures / "models" / "stories260K"
    patient = Patient.of(av.Tokenizer.load(folder), folder=folder)
    assert patient.weights is not None
    assert {matrix.rows for matrix in patient.weights.matrices} == {512}
    assert examine(patient).ok
    assert not examine(Patient.of(av.Tokenizer.load(folder), folder=folder, rows=500)).ok


def test_nothing_is_read_without_a_folder(tiny: bytes) -> None:
    report = examine(Patient.of(av.Tokenizer.load(tiny)))
    assert report.ok
    assert "files_are_there" not in {finding.check for finding in report.findings}
