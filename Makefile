# `make help` lists the targets. Every target makes .venv when it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-fast test-lowest lint format golden clean

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

venv: $(STAMP)  ## Make .venv with the tested versions.

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	# Collections of models to test with; without dependencies, because theirs would replace torch.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps torchvision timm
	@touch $@

demo: $(STAMP)  ## Draw the regions of a real photo (matplotlib's grace_hopper.jpg) into demo/.
	$(BIN)/drconv visualize "$$($(BIN)/python -c 'import matplotlib.cbook as c; print(c.get_sample_data("grace_hopper.jpg", asfileobj=False))')" -o demo --force
	@echo "The picture is $(CURDIR)/demo/grace_hopper.png"

test: $(STAMP)  ## Run the whole test suite.
	DRCONV_REQUIRE_ZOO=1 $(BIN)/python -m pytest

test-fast: $(STAMP)  ## Run the tests that are not marked slow.
	$(BIN)/python -m pytest -m "not slow"

test-lowest:  ## Run the whole suite with the oldest versions that pyproject.toml allows, in .venv-lowest.
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable . pytest hypothesis
	.venv-lowest/bin/python -m pytest

lint: $(STAMP)  ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## Rewrite the code in the project's style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: $(STAMP)  ## Rewrite the expected outputs in tests/golden.
	DRCONV_REWRITE_GOLDEN=1 $(BIN)/python -m pytest tests/drconv_cli/test_golden.py

clean:  ## Remove what the targets made.
	rm -rf $(VENV) .venv-lowest demo build dist .mypy_cache .pytest_cache .ruff_cache
