# Everything a person needs: make demo, make test, make check, make bench, make clean.
SHELL := /bin/bash
.DELETE_ON_ERROR:
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
.PHONY: help setup setup-dev demo test check check-units check-rest check-audits chaos bench clean lock vendor generate format
.DEFAULT_GOAL := help

# Tests start hundreds of processes, and without bytecode each of them compiles everything again. Where Python is told to leave
# none beside the sources, it lies in the environment's own folder.
ifdef PYTHONDONTWRITEBYTECODE
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/bytecode
endif

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(UV): lock/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Reelworks needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Say which one: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r lock/uv.txt
	@touch $(UV)

$(VENV)/.run: $(UV) lock/run.txt pyproject.toml
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --require-hashes -r lock/run.txt
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run lock/dev.txt
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --require-hashes -r lock/dev.txt
	@touch $@

setup: $(VENV)/.run      ## make .venv with what running needs
setup-dev: $(VENV)/.dev  ## make .venv with what testing needs, too

demo: setup      ## start everything, take a film in, end with the page where it plays (ONCE=1: stop as soon as it is all there)
	@$(BIN)/reelworks demo $(if $(ONCE),--once,--open)

# Most tests wait for processes to start and leases to end, so two files at a time take little more than half of the time.
test: setup-dev  ## all the tests; the servers that they need are started by them
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(PYTEST)

check: setup-dev ## under a minute: format, lint, types, imports, generated files, audits, unit tests
	@$(MAKE) --no-print-directory --jobs 3 --output-sync=target check-units check-rest check-audits

check-units:
	$(BIN)/python -m pytest -q --numprocesses 2 --dist loadfile tests/unit

check-rest:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m schemas.generate --check
	$(BIN)/python -m services.cli.docs --check
	$(BIN)/python -m services.gateway.vendor --check
	$(BIN)/python -m tests.chaos.report --check
	$(BIN)/basedpyright --level error

# ruff's S rules are bandit's, and count at every weight. Bandit itself finds what ruff has no rule for yet; its hints (low) are those
# that ruff has answered line by line. What it says of its own comments on lines with several expressions is left out.
check-audits:
	$(BIN)/bandit --quiet --recursive --severity-level medium --configfile pyproject.toml services schemas 2> >(grep -v 'nosec encountered' >&2)
	$(BIN)/python -m tests.tooling.audit

SEED ?= 1
MINUTES ?= 3
BROKERS ?= 1
chaos: setup-dev ## do to everything what may happen to it: SEED=7 MINUTES=3 BROKERS=3; writes docs/reliability.md
	$(BIN)/python -m tests.chaos --seed $(SEED) --minutes $(MINUTES) --brokers $(BROKERS) --record tests/chaos/runs.jsonl
	$(BIN)/python -m tests.chaos.report

bench: setup-dev ## measure, and write benchmarks/results.md; ONLY="loop drain" for some
	$(BIN)/python -m benchmarks --keep $(ONLY)

generate: setup-dev ## write the generated files: schemas, API descriptions, the settings table
	$(BIN)/python -m schemas.generate
	$(BIN)/python -m services.cli.docs

format: setup-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

vendor: setup-dev ## copy the browser's libraries out of their npm packages again
	$(BIN)/python -m services.gateway.vendor

lock: $(UV)      ## resolve the dependencies again
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra local pyproject.toml lock/build.in -o lock/run.txt
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra local --extra test --extra dev -c lock/run.txt pyproject.toml lock/build.in -o lock/dev.txt

clean:           ## remove what was built and the demo's data; downloads stay in the user's cache
	rm -rf $(VENV) .demo .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
