# Two commands do everything: `make demo` and `make test`. Needs git, make and Python 3.11 or newer.
PYTHON ?= python3
VENV   ?= .venv
OUT    ?= demo
# What the tests can use beyond the core; a missing extra skips its tests.
EXTRAS ?= dev,llamacpp

comma := ,
BIN  := $(VENV)/bin
CORE := $(VENV)/.core-installed
TEST := $(VENV)/.test-installed-$(subst $(comma),-,$(EXTRAS))

.PHONY: demo test test-quick lint audit docs study-report benchmarks clean

demo: $(CORE)
	$(BIN)/shapelaw demo --out $(OUT)

test: $(TEST)
	$(BIN)/python -m pytest

test-quick: $(TEST)
	$(BIN)/python -m pytest -m "not long"

lint: $(TEST)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy docs/conf.py examples

# Versions, hashes of installed files, and vulnerabilities where $OSV_PYPI names a copy of the data.
audit: $(TEST)
	$(BIN)/python -m benchmarks.audit

docs: $(CORE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python -m sphinx -q -W --keep-going docs docs/_build
	@echo docs/_build/index.html

study-report: $(CORE)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.study

benchmarks: $(TEST)
	for name in fit holdout coverage devices search train sweep; do $(BIN)/python -m benchmarks.$$name || exit 1; done

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(CORE): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(TEST): $(CORE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) build docs/_build docs/_generated src/*.egg-info
