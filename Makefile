# Every target installs what it needs into .venv first. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# One more than cores, because a quarter of the time tests wait for files, pages and other programs.
PROCESSES := $(shell $(PYTHON) -c "import os; print(min(4, (os.cpu_count() or 1) + 1))")

.PHONY: help demo test test-slow test-oldest lint format docs install clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1: /p' Makefile

demo: $(INSTALLED) ## predict the example clip
	$(BIN)/python examples/demo.py

# One thread in each of several processes: more of them wait for each other.
test: $(INSTALLED) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(PROCESSES) --dist worksteal

test-slow: $(INSTALLED) ## run the tests that take minutes
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow

test-oldest: $(INSTALLED) ## run the tests with the oldest version of each package that pyproject.toml allows
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/oldest
	$(BIN)/uv pip install --quiet --python build/oldest/bin/python --resolution lowest-direct --editable '.[dev]'
	OMP_NUM_THREADS=1 build/oldest/bin/python -m pytest --numprocesses $(PROCESSES) --dist worksteal \
		-W default::DeprecationWarning # old packages use deprecated functions of newer ones

lint: $(INSTALLED) ## run ruff, its formatter, and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## fix the formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Warnings are errors, such as a broken link; --quiet would hide them from --strict. The variable hides an advertisement.
docs: $(INSTALLED) ## build the website in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

install: $(INSTALLED) ## create .venv

$(INSTALLED): pyproject.toml constraints.txt hatch_build.py $(wildcard tinyhd_cli/*/csrc/*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean: ## remove everything that make creates
	rm -rf $(VENV) out build dist .mypy_cache .pytest_cache .ruff_cache
