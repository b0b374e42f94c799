PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CHECK_PYTHON := -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v >= (3, 10) else "nas-ext needs Python 3.10 or newer, got %d.%d: name another one, as in make install PYTHON=python3.12" % v)'

.DEFAULT_GOAL := help
.PHONY: help install demo test drills lint audit format lock bench evidence clean

help:  ## print the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## make .venv with the tested stack and this checkout in it (about 6 GB)

# pip replaces only what differs from the lock; nothing runs while the stamp is the newest.
$(INSTALLED): pyproject.toml lock.txt
	@test -x $(BIN)/python || $(PYTHON) $(CHECK_PYTHON)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@$(BIN)/python $(CHECK_PYTHON)
	$(BIN)/python -m pip install --require-hashes -r lock.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	$(BIN)/python -c "import nas_ext.nni"  # NNI writes a module at its first import: once, alone
	@touch $@

demo: install  ## search, retrain and report on a small data set; needs no network
	$(BIN)/nas-ext demo --out runs/demo

test: install  ## the core's tests without torch and NNI, then every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --core tests/core -q -x -n 2
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

drills: install  ## kill, starve and break real runs, one line each (up to 20 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/drills -m "drill or not drill" -v -n 2 --dist loadfile

lint: install  ## style, import rules and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pyright

audit: install  ## ask for known vulnerabilities in the tested stack
	$(BIN)/python .ci/audit

lock:  ## write lock.txt anew from constraints.txt, with the hashes of all files
	.ci/lock

format: install  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install  ## run the speed scripts of perf/ one after the other; results in runs/bench/
	@mkdir -p runs/bench; missed=; for script in perf/[!_]*.py; do name=$$(basename "$$script" .py); \
		NAS_EXT_BENCH=runs/bench $(BIN)/python -W ignore -m "perf.$$name" || missed="$$missed $$name"; \
	done; if [ -n "$$missed" ]; then echo "missed:$$missed"; exit 1; fi

evidence: install  ## run the study again, ground truths included; resumable; needs Fashion-MNIST
	$(BIN)/nas-ext evidence --out runs/evidence --workers 2 $$(test -d docs/evidence && echo --against docs/evidence)

clean:  ## remove what building, testing and linting leave; keeps .venv and runs
	rm -rf build dist *.egg-info htmlcov .coverage .coverage.* .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
