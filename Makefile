# `make demo`, `make test` and `make lint` set up all they need in .venv first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

.PHONY: help setup demo test test-all lint format bench docs clean

help:
	@echo "make demo      a real campaign on the nanochat lab, in a scratch clone under demo/ (about 5 minutes)"
	@echo "make test      the tests"
	@echo "make test-all  the tests, the long ones too"
	@echo "make lint      ruff and mypy"
	@echo "make bench     the benchmarks that README quotes"
	@echo "make docs      what the documents show of the code"

setup: $(READY)

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[lab,claude,mcp,ui,dev]"
	command -v bwrap >/dev/null \
	  || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -qq bubblewrap; } >/dev/null 2>&1 \
	  || echo "bubblewrap is not installed: experiments run without a sandbox, and its tests are skipped"
	command -v chromium >/dev/null && command -v chromedriver >/dev/null \
	  || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -qq chromium chromium-driver; } >/dev/null 2>&1 \
	  || echo "chromium and its driver are not installed: tests of the page in a browser are skipped"
	touch $(READY)

demo: $(READY)
	$(BIN)/python scripts/demo.py

test: $(READY)
	$(BIN)/python -m pytest

test-all: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[cluster]"
	$(BIN)/python -m pytest -m "slow or not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/train_throughput.py
	$(BIN)/python benchmarks/judge_campaigns.py
	$(BIN)/python benchmarks/overhead.py

docs: $(READY)
	$(BIN)/python scripts/docs.py

clean:
	rm -rf demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
