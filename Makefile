# One environment, .venv, serves demo, test, docs, lint and build.
#
#   make env PYTHON=python3.12         choose the Python that makes .venv
#   make test PYTEST_ARGS="-k mapping" hand arguments on to pytest
#   make test JOBS=8                   number of test processes
#   make docs SPHINX_ARGS="-D plot_gallery=0"   build without running the examples

VENV = .venv
JOBS = 2
PYTEST_ARGS =
SPHINX_ARGS =

PY = $(VENV)/bin/python
PIP = $(PY) -m pip --disable-pip-version-check --no-input
INSTALLED = $(VENV)/.installed
INSTALLED_DEV = $(VENV)/.installed-dev
INSTALLED_DOCS = $(VENV)/.installed-docs
NEW_ENOUGH = import sys; sys.exit(sys.version_info < (3, 11))
PYTHONS = $(or $(PYTHON),python3.13 python3.12 python3.11 python3)

# Each test process computes on one thread; JOBS of them run in parallel.
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
	VECLIB_MAXIMUM_THREADS=1 NUMBA_NUM_THREADS=1

LOWEST = .venv-lowest

.PHONY: help env demo test test-lowest docs lint build clean
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' Makefile | \
		awk -F '\t' '{ printf "make %-12s  %s\n", $$1, $$2 }'

env: $(INSTALLED) ## make .venv, or take the one that is there, and install into it

demo: $(INSTALLED) ## run examples/demo.py
	$(PY) examples/demo.py

test: $(INSTALLED) ## run the tests and the doctests
	$(ONE_THREAD) MPLBACKEND=Agg \
		$(PY) -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

test-lowest: ## run the tests with the lowest versions that pyproject.toml allows
	$(or $(PYTHON),python3.11) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install -c .ci/lowest.txt --editable . \
		hypothesis pandas pytest pytest-xdist
	$(ONE_THREAD) $(LOWEST)/bin/python -m pytest -n $(JOBS) --dist worksteal \
		$(PYTEST_ARGS) tests

# -E reads every page again: one that did not change would keep its warnings to itself.
docs: $(INSTALLED_DOCS) ## build the documentation and its gallery; warnings fail
	$(ONE_THREAD) MPLBACKEND=Agg $(PY) -m sphinx -b html -E -W --keep-going \
		$(SPHINX_ARGS) docs docs/_build/html

lint: $(INSTALLED) ## check style, format and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

build: $(INSTALLED_DEV) ## put an sdist and a wheel into dist/
	$(PY) -m build

clean: ## remove what was built and cached, but not .venv
	rm -rf build dist *.egg-info .coverage $(LOWEST)
	rm -rf docs/_build docs/auto_examples docs/generated
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -prune \
		-exec rm -rf {} +

# A name such as python3.13 may be a shim that only says that it is not there:
# each candidate has to run, and to be able to make an environment.
$(PY):
	@for python in $(PYTHONS); do \
		if $$python -c 'import ensurepip, venv; $(NEW_ENOUGH)' \
				>/dev/null 2>&1; then \
			echo "$(VENV) is made with $$($$python --version) ($$python)"; \
			exec $$python -m venv $(VENV); \
		fi; \
	done; \
	echo "No Python >= 3.11 with venv and ensurepip among: $(PYTHONS)." >&2; \
	echo "Install one, or name it: make env PYTHON=/path/to/python3" >&2; \
	exit 1

# audio is a part of test; named here too, it lets pip see the torch that torchaudio
# needs before it has downloaded a newer one.
$(INSTALLED): pyproject.toml | $(PY)
	@$(PY) -c '$(NEW_ENOUGH)' || { \
		echo "$(VENV) does not run a Python >= 3.11: remove it and try again." >&2; \
		exit 1; \
	}
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip
	$(PIP) install --editable ".[audio,test]"
	@touch $@

# audio and test too: without them pip could give the packages that make test left
# other versions.
$(INSTALLED_DOCS): $(INSTALLED)
	$(PIP) install --editable ".[audio,docs,test]"
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP) install "pip>=25.1"
	$(PIP) install --group dev
	@touch $@
