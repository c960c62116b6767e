# make demo: faces that are bald and bearded, and the number that proves it. make test: the test suite.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test lint bench help
help:            ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: $(READY)   ## train Method A small on drawn faces, with its baselines, and print the table
	$(BIN)/facegan demo --out runs/demo

test: $(READY)   ## the test suite
	$(BIN)/pytest tests

lint: $(READY)   ## ruff and mypy
	$(BIN)/ruff check . && $(BIN)/mypy

bench: $(READY)  ## speed, as ratios measured side by side
	$(BIN)/pytest benchmarks --benchmark-only

# torch comes first and alone: the build of this package then finds it, and needs no second copy in an isolated environment.
# Without an NVIDIA driver the CPU wheel spares gigabytes of CUDA; where its index cannot be reached, the default one has torch too.
CPU_TORCH := torch --no-deps --retries 0 --timeout 10 --index-url https://download.pytorch.org/whl/cpu
$(READY): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV) || { echo "This Python has no venv: apt-get install python3-venv, then make again."; exit 1; }
	@command -v nvidia-smi >/dev/null || $(BIN)/pip install -q -c constraints.txt $(CPU_TORCH) || echo "Taking torch from the default index."
	$(BIN)/pip install -q -c constraints.txt setuptools wheel torch
	$(BIN)/pip install -q -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $(READY)
