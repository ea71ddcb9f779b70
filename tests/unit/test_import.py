"""Importing the package is cheap; what is heavy waits until it is used."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

import anyvocab as av
from anyvocab import errors

HEAVY = ("numpy", "torch", "transformers", "tokenizers", "rich", "typer", "huggingface_hub")


def fresh(code: str) -> str:
    """Return what a fresh interpreter prints for `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def loaded_after(statement: str) -> set[str]:
    return set(fresh(f"import sys; {statement}; print(*sorted(sys.modules))").split())


def cpu_ms(statement: str) -> float:
    """Return the processor time of a statement in a fresh interpreter: the best of five."""
    code = (
        "import time; start = time.process_time()\n"
        f"{statement}\nprint((time.process_time() - start) * 1000)"
    )
    return min(float(fresh(code)) for _ in range(5))


def test_import_loads_nothing_heavy() -> None:
    assert not loaded_after("import anyvocab").intersection(HEAVY)


def test_import_takes_under_80_ms() -> None:
    assert cpu_ms("import anyvocab") < 80


def test_a_tokenizer_loads_neither_torch_nor_transformers() -> None:
    loaded = loaded_after("import anyvocab; anyvocab.Tokenizer; anyvocab.Vocabulary")
    assert not loaded.intersection({"torch", "transformers", "tokenizers", "huggingface_hub"})


def test_help_loads_neither_numpy_nor_the_core() -> None:
    run = (
        "from anyvocab.cli import main; import io, sys; out, sys.stdout = sys.stdout, io.StringIO()"
    )
    loaded = loaded_after(f"{run}; main(['--help']); sys.stdout = out")
    assert not loaded.intersection({"numpy", "torch", "transformers", "anyvocab._core"})


def test_help_takes_under_400_ms() -> None:
    code = "import sys; sys.argv = ['anyvocab', '--help']; from anyvocab.cli import main; main()"
    quiet = "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n    "
    quiet += f"exec({code!r})"
    assert cpu_ms(quiet) < 400


def test_every_public_name_exists() -> None:
    for name in av.__all__:
        assert getattr(av, name) is not None
    assert set(av.__all__) <= set(dir(av))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Tokeniser'"):
        av.Tokeniser  # noqa: B018


@pytest.mark.parametrize("name", [n for n in errors.__all__ if n[0].isupper()])
def test_every_error_has_the_root_and_survives_pickling(name: str) -> None:
    kind = getattr(errors, name)
    error = errors.build(kind, "17 is odd", field="model.merges[3]", fix="make it even", file="a.b")
    assert isinstance(error, av.AnyvocabError)
    assert str(error) == "a.b: model.merges[3]: 17 is odd; make it even"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert (again.file, again.field, again.fix) == ("a.b", "model.merges[3]", "make it even")


def test_errors_are_also_what_their_names_say() -> None:
    assert issubclass(av.SourceNotFound, FileNotFoundError)
    assert issubclass(av.MissingExtra, ImportError)
    assert issubclass(av.OutputExists, FileExistsError)
    assert issubclass(av.TokenizerFormatError, ValueError)
    assert issubclass(av.InvalidValue, ValueError)
