# Sets up .venv once (torch first and alone, the rest by constraints.txt), then does what is asked.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
TORCH_INDEX ?=

.PHONY: demo test lint bench faults clean

demo: $(VENV)/ready-make
	$(BIN)/zhen run recipes/tiny.toml

test: $(VENV)/ready-test
	$(BIN)/python -m pytest tests

lint: $(VENV)/ready-test
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/ready-test
	$(BIN)/python benchmarks/train.py

faults: $(VENV)/ready-test
	$(BIN)/python -m pytest tests/faults tests/checkpoint/test_rename_kills.py --full-chain

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/ready-torch: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	touch $@

$(VENV)/ready-make $(VENV)/ready-test: $(VENV)/ready-%: $(VENV)/ready-torch pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) build
