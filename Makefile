# make demo   installs into $(VENV), trains on the embedded dataset, prints the table and leaves the figures
# make test   installs into $(VENV) and runs the everyday tests
#
# VENV    where the environment is, or is made            (default .venv)
# PYTHON  what makes it; by default python3, or else the newest suitable python3.x
# PYTEST  further options for pytest, for example PYTEST='tests/methods -k partition'
# JOBS    processes that share the tests, a file at a time (default: one per core, at most 8); JOBS=0 shows them one by one

VENV ?= .venv
PYTEST ?=
JOBS ?= auto
PYTHON_GIVEN := $(PYTHON)
BIN := $(VENV)/bin
STAMP := $(VENV)/.mtl-plugins-installed
DOCS_STAMP := $(VENV)/.mtl-plugins-docs-installed
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
FIND_PYTHON = for python in python3 python3.12 python3.11; do \
	"$$python" -c '$(SUITABLE)' > /dev/null 2>&1 && { echo "$$python"; break; }; done
PARALLEL = -n $(JOBS) --maxprocesses 8 --dist loadfile
# One thread per process: the tests are many small jobs, which threads only slow down.
export_threads := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint docs format build clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP)  ## train STGU on the embedded dataset, print the table, leave the figures in work_dirs/
	$(BIN)/python tools/demo.py

test: $(STAMP)  ## run the everyday tests
	$(export_threads) $(BIN)/python -m pytest $(PARALLEL) $(PYTEST)

test-all: $(STAMP)  ## run all tests, the slow ones included
	$(export_threads) $(BIN)/python -m pytest $(PARALLEL) -m '' $(PYTEST)

lint: $(STAMP)  ## check style, format, the types of the pure methods, and which way imports run
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

build: $(STAMP)  ## build wheel and sdist into dist/; tests/packaging checks what they hold
	rm -rf dist
	$(BIN)/python -m build --no-isolation

docs: $(DOCS_STAMP)  ## build the site into docs/_build/html, warnings are errors
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo docs/_build/html/index.html

format: $(STAMP)  ## repair style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove builds and caches; keeps the environment and work_dirs/
	rm -rf build dist docs/_build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage htmlcov
	find mtl_plugins tests tools configs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@python="$(PYTHON_GIVEN)"; \
	if [ -x "$(BIN)/python" ]; then python="$(BIN)/python"; fi; \
	if [ -z "$$python" ]; then python="$$($(FIND_PYTHON))"; fi; \
	if [ -z "$$python" ]; then python=python3; fi; \
	if ! command -v "$$python" > /dev/null; then \
		echo "Python is missing: $$python was not found. Install Python 3.11 or 3.12, or name it: make PYTHON=/path" >&2; \
		exit 1; \
	fi; \
	"$$python" tools/misc/check_system.py || exit 1; \
	if ! "$(BIN)/python" -m pip --version > /dev/null 2>&1; then \
		echo "making the environment $(VENV) with $$python"; \
		"$$python" -m venv "$(VENV)"; \
	fi
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[openmmlab,tensorboard,dev]'
	@touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@
