# Needs Python 3.11 or newer and make; everything else goes into .venv.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt
PINS := pyproject.toml constraints.txt
# --no-compile: Python compiles what it imports, which is a small part of what torch brings along.

.PHONY: demo test bench clean

# Train, prune, quantize and verify a small network on bundled images, and leave a bundle in dist/.
demo: .venv/installed
	$(BIN)/export build --target cpu-int8

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q

# README's tables. Takes about an hour, on a machine with nothing else to do.
# CIFAR-10 has to be there (exporter train --data cifar10 --download --out FOLDER), or in DATA.
DATA ?= cifar10
bench: .venv/installed
	$(BIN)/python -m benchmarks.cifar10 --data "$(DATA)"
	$(BIN)/python -m benchmarks.training_throughput
	$(BIN)/python -m benchmarks.data_loading --data "$(DATA)"

clean:
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache

.venv/installed: $(PINS) | .venv/bin/python
	@echo "Installing into .venv; torch is large, a first time takes a minute or two."
	$(PIP) -e .
	@touch $@

.venv/installed-dev: $(PINS) | .venv/installed
	@echo "Installing the tools for tests into .venv."
	$(PIP) -e '.[dev]'
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
