# Everything a developer runs. Needs make and Python 3.11 or newer, nothing else. `make` lists the targets.
.DEFAULT_GOAL := help

VENV   ?= .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN    := $(VENV)/bin
READY  := $(VENV)/installed
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help install up test test-long pictures check format bench lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## the environment in .venv, exactly as requirements.lock says

$(READY): requirements.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found. Install it, or name it: make PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

up: $(READY) ## database, simulated demo, Dagster's UI and daemon on 127.0.0.1; Ctrl-C stops them
	@$(BIN)/integrations up $(UP)

test: $(READY) ## all tests but the long ones (minutes)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not long"

test-long: $(READY) ## the tests that take minutes each, in full
	$(BIN)/python -m pytest -m long

pictures: $(READY) ## all pictures in docs/pictures, taken anew (minutes; needs Chromium)
	SCREENSHOTS=docs/pictures $(BIN)/python -m pytest -m long integrations_pipeline_tests/journeys/test_pictures.py

check: $(READY) ## format, lint, types, structure, documents (under a minute)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest integrations_pipeline_tests/house

format: $(READY) ## puts the code into the shape that `make check` asks for
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## the whole path beside the bare limit, memory, read-ahead, webhooks (minutes)
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/webhooks.py

# uv is no dependency of the project: `pipx install uv`, or `make lock UV="python3 -m uv"`.
# No URL goes into the lock, so that every machine installs from the index it is set up for.
UV ?= uv
lock: ## renews requirements.lock from pyproject.toml (needs uv); `make lock UPGRADE=--upgrade` takes new versions
	$(UV) pip compile pyproject.toml --extra dev --extra alerts --universal --python-version 3.11 --generate-hashes \
		--no-strip-extras --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
		$(UPGRADE) --quiet -o requirements.lock

clean: ## removes the environment and all caches; your data in .integrations stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
