# Everything here starts from nothing but Python 3.11+, a Rust toolchain and a package index:
# each target makes .venv, installs what it needs and builds the extension, once.
#
#   PYTHON=python3.12   the Python to make .venv with
#   EXTRAS=             leaves torch and transformers out (the tests that need them skip)
#   SLOW=1              also the slow tests
#   ARGS="-k roles"     more arguments for pytest

PYTHON ?= python3
EXTRAS ?= models
SLOW ?=
ARGS ?=

VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
PY := $(BIN)/python.exe
else
BIN := $(VENV)/bin
PY := $(BIN)/python
endif

# maturin builds for this environment, whatever else is active; pyo3 asks the same Python each
# time, so cargo and maturin share one build.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PYO3_PYTHON := $(CURDIR)/$(PY)
unexport CONDA_PREFIX
unexport PYTHONPATH
unexport PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK := 1

RUST := $(shell git ls-files -co --exclude-standard -- rust Cargo.toml Cargo.lock 2>/dev/null)
ifeq ($(RUST),)
RUST := $(wildcard Cargo.toml Cargo.lock rust/*/Cargo.toml rust/*/src/*.rs rust/*/src/*/*.rs rust/*/src/*/*/*.rs)
endif

.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs wheel format build rust-test python-test clean

help: ## show this
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: build ## show what the library does, offline, on the embedded models (two minutes)
	@$(PY) -m anyvocab demo

test: rust-test python-test ## run every test, Rust then Python (under ten minutes on two cores)

check: $(VENV)/.tools $(VENV)/.extension ## rustfmt, clippy, ruff, mypy, and the stub against the extension
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m mypy tests/types
	MYPYPATH=python $(PY) -m mypy.stubtest anyvocab._core --ignore-missing-stub --mypy-config-file pyproject.toml
	$(PY) tests/check_tree.py

bench: build $(VENV)/.oracles ## measure against the peers, in one run
	$(PY) benches/python/run.py $(ARGS)

docs: build ## run the examples of the README and the guides
	$(PY) -m pytest tests/docs $(ARGS)

wheel: $(VENV)/.tools ## build a wheel and a source archive into dist/
	$(PY) -m maturin build --release --locked --out dist
	$(PY) -m maturin sdist --out dist

format: $(VENV)/.tools ## let rustfmt and ruff write
	cargo fmt --all
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

build: $(VENV)/.extension $(if $(EXTRAS),$(VENV)/.extra-$(EXTRAS)) ## .venv with the extension, in release mode

rust-test: $(VENV)/.venv
	cargo test --workspace --locked

# Last, so that pytest's closing line is the last one. A process for each core, one thread each; the tests of a file
# share what they set up.
python-test: build $(VENV)/.oracles $(if $(EXTRAS),$(VENV)/.adapters $(VENV)/.harness $(VENV)/.engines) rust-test
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile $(if $(SLOW),,-m "not slow") $(ARGS)

clean: ## remove what builds and tests made, .venv included
	rm -rf $(VENV) target dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find python -name '*.so' -delete -o -name '*.pyd' -delete
	find python tests -name __pycache__ -prune -exec rm -rf {} +

# A source that was deleted is no reason to stop.
$(RUST): ;

# Stamps: each is made once and again when what it was made from changes.

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"anyvocab needs Python 3.11 or later, {sys.executable} is {v[0]}.{v[1]}: run make PYTHON=python3.11")'
	@cargo --version >/dev/null || { echo "anyvocab needs a Rust toolchain: https://rustup.rs" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.tools: $(VENV)/.venv pyproject.toml
	$(PY) -m pip install --quiet --group test --group check "maturin>=1.9,<2"
	@touch $@

$(VENV)/.extension: $(VENV)/.tools $(RUST) pyproject.toml
	$(PY) -m maturin develop --release --locked
	@touch $@

$(VENV)/.oracles: $(VENV)/.venv pyproject.toml
	$(PY) -m pip install --quiet --group oracles --group shards
	@touch $@

$(VENV)/.adapters: $(VENV)/.extra-$(EXTRAS) pyproject.toml
	$(PY) -m pip install --quiet --group adapters
	@touch $@

$(VENV)/.harness: $(VENV)/.extra-$(EXTRAS) pyproject.toml
	$(PY) -m pip install --quiet --group harness
	@touch $@

# About 100 MB to download; pyspark, which is of use with Java alone, is another 460.
$(VENV)/.engines: $(VENV)/.extra-$(EXTRAS) pyproject.toml
	$(PY) -m pip install --quiet --group engines $$(command -v java >/dev/null && echo --group spark)
	@touch $@

$(VENV)/.extra-%: $(VENV)/.extension
	$(PY) -c 'import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ("torch", "transformers"))))' \
	  || $(PY) -m maturin develop --release --locked --extras $*
	@touch $@
