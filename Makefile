# make demo: faces that are bald and bearded, and the number that proves it. make test: the test suite.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test test-kernels test-package test-browser campaigns coverage lint docs kernel-check gpu-check asan sanitize bench bench-report help
help:            ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: $(READY)   ## train Method A small on synthetic faces, with its baselines, mix styles, and print the table
	$(BIN)/facegan demo --out runs/demo

test: test-kernels test-package test-browser ## the test suite; -j2 runs two parts at the same time

test-kernels: $(READY) ## the operators on every backend that can run here; Triton's kernels by its interpreter
	$(BIN)/pytest tests/ops tests/kernels

test-package: $(READY) ## all other tests
	$(BIN)/pytest tests --ignore=tests/ops --ignore=tests/kernels --ignore=tests/app/browser

test-browser: $(READY) ## the page of `facegan app` in a headless Chromium, where one is installed
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/app/browser

# make campaigns ONLY=kills,machines SCALE=0.1 SEED=7
campaigns: $(READY) ## an hour of faults and load, outside the test suite; what held is in docs/reliability.md
	$(BIN)/python tests/campaigns/run.py $(if $(ONLY),--only $(ONLY)) $(if $(SCALE),--scale $(SCALE)) $(if $(SEED),--seed $(SEED))

coverage: $(READY) ## the test suite, and which lines it reaches
	$(BIN)/pytest tests --cov --cov-report=term:skip-covered

lint: docs       ## formatting, ruff, types, layers, spelling, and the documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/clang-format --dry-run --Werror $(filter-out %.py %.md,$(SOURCES)) tests/kernels/emulation/*.h tests/kernels/emulation/*.c*

docs: $(READY)   ## the documentation as a site in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

kernel-check: $(READY) ## compile every kernel for its GPUs, no GPU needed: registers, spills, access width, bytes moved
	$(BIN)/python -m benchmarks.kernel_check

# make gpu-check TOTAL=400 FIRST=layers ONLY=modulated_conv2d PEER=~/stylegan3; gpu_check.py --plan shows what it will do.
TOTAL ?= 585
gpu-check: $(READY) ## on a GPU, within TOTAL seconds: its tests, the benchmarks, one JSON of results
	$(BIN)/python benchmarks/gpu_check.py --total $(TOTAL) $(if $(FIRST),--first $(FIRST)) $(if $(ONLY),--only '$(ONLY)') $(if $(PEER),--peer-nvidia $(PEER))

# A copy of the package in build/asan, so that the one in use stays as it is.
asan: $(READY)   ## the compiled CPU kernels' tests under AddressSanitizer and UndefinedBehaviorSanitizer
	CXXFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g" FACEGAN_BUILD=cpu \
		$(BIN)/pip install -q --no-build-isolation --no-deps --upgrade --target build/asan .
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=build/asan \
		$(BIN)/pytest tests/kernels -m "not gpu" -k native

# Without torch's memory pool, so that a kernel that leaves its tensor leaves the allocation as well.
SANITIZE := PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode=1
sanitize: $(READY) ## on a GPU: the compiled CUDA kernels' tests under compute-sanitizer
	$(SANITIZE) --tool=memcheck $(BIN)/python -m pytest tests/kernels -m gpu -k native
	$(SANITIZE) --tool=racecheck $(BIN)/python -m pytest tests/kernels -m gpu -k native

bench: $(READY)  ## speed, as ratios measured side by side
	$(BIN)/pytest benchmarks --benchmark-only --benchmark-quiet --results benchmarks/results

bench-report: $(READY) ## the tables of docs/benchmarks.md and the roofline from benchmarks/results
	$(BIN)/python benchmarks/report.py --page docs/benchmarks.md --roofline docs/images/roofline.png

# torch and ninja come first: the build of this package then finds them, and needs no second copy in an isolated environment.
# Without an NVIDIA driver the CPU wheel spares gigabytes of CUDA; where its index cannot be reached, the default one has torch too.
# The last line says whether the compiled kernels are there, or why not.
CPU_TORCH := torch --no-deps --retries 0 --timeout 10 --index-url https://download.pytorch.org/whl/cpu
SOURCES   := $(wildcard csrc/*.* csrc/*/*.*)
$(READY): pyproject.toml setup.py constraints.txt $(SOURCES)
	$(PYTHON) -m venv $(VENV) || { echo "This Python has no venv: apt-get install python3-venv, then make again."; exit 1; }
	@command -v nvidia-smi >/dev/null || $(BIN)/pip install -q -c constraints.txt $(CPU_TORCH) || echo "Taking torch from the default index."
	$(BIN)/pip install -q -c constraints.txt setuptools wheel ninja torch
	$(BIN)/pip install -q -c constraints.txt --no-build-isolation -e '.[dev,triton]'
	@$(BIN)/python -m facegan.env | grep library
	touch $(READY)
