# Both targets work on a bare machine with Python 3.11 and pip; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin
export JAX_PLATFORMS ?= cpu

.PHONY: demo test lint train clean

demo: .venv/.core ## read the pictures in samples/ with the shipped model
	$(BIN)/python -m samples.demo

test: .venv/.dev ## all tests
	$(BIN)/python -m pytest

lint: .venv/.dev ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

train: .venv/.dev ## (re)start the training of the shipped model
	$(BIN)/got-jax train configs/nano_text.py

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.core: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/.dev: .venv/.core
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[pipelines,eval,dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
