# Both targets work on a bare machine with Python 3.11 and pip; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin
export JAX_PLATFORMS ?= cpu

.PHONY: demo test newest lint node renderers accelerators train stages golden clean

demo: .venv/.core ## read the pictures in samples/ with the shipped model
	$(BIN)/python -m samples.demo

WORKERS ?= 2
test: .venv/.dev ## all tests, by two processes
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

newest: ## all tests with the newest packages that PYTHON can have, as in: make newest PYTHON=python3.12
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/pip install --quiet --disable-pip-version-check --upgrade --editable '.[pipelines,eval,parity,dev]'
	.venv-newest/bin/python -m pytest --numprocesses $(WORKERS) --dist worksteal

lint: .venv/.dev ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

NODE := pipelines/node
node: $(NODE)/node_modules/.done ## the Node packages of the engines: formulas, molecules, charts
$(NODE)/node_modules/.done: $(NODE)/package.json $(NODE)/package-lock.json
	cd $(NODE) && npm ci --no-audit --no-fund --silent
	touch $@

renderers: ## everything the formatted engines draw with (apt-get and npm)
	tools/renderers.sh

FETCH = $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target
JAX = $(shell sed -n 's/^jax==//p' constraints.txt)
accelerators: .accelerators/.done ## the compilers of TPUs and GPUs, for machines without any (eval.accelerators)
.accelerators/.done: constraints.txt | .venv/.dev
	rm -rf .accelerators
	$(FETCH) .accelerators/tpu 'libtpu==0.0.42.*'
	$(FETCH) .accelerators/cuda jax-cuda12-plugin==$(JAX) jax-cuda12-pjrt==$(JAX)
	touch $@

# Huge pages make the step 1.2 x faster on CPU: XLA's large temporaries otherwise fault in 4 KiB at a time.
TUNED := GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4000000000:glibc.malloc.trim_threshold=8000000000

train: .venv/.dev ## (re)start the training of the shipped model
	$(TUNED) $(BIN)/got-jax train configs/nano_letters.py
	$(TUNED) $(BIN)/got-jax train configs/nano_words.py
	$(TUNED) $(BIN)/got-jax train configs/nano_text.py

stages: .venv/.dev ## the three stages of GOT at the size of a CPU
	$(TUNED) $(BIN)/got-jax train configs/nano_stage1.py
	$(TUNED) $(BIN)/got-jax train configs/nano_stage2.py
	$(TUNED) $(BIN)/got-jax train configs/nano_stage3.py

golden: .venv/.core ## rewrite the texts that tests expect of the demo, after a new training
	$(BIN)/python -m samples.demo --golden tests/data/demo.json

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.core: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/.dev: .venv/.core
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[pipelines,eval,parity,dev]'
	touch $@

clean:
	rm -rf .venv .venv-newest .accelerators build *.egg-info
