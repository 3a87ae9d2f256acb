# Everything a clone needs: Python >= 3.11, make and a package index. No container engine, no uv.
# Another interpreter: make setup PYTHON=/path/to/python3.12
# More arguments for a command: make test ARGS="-k retries", make demo ARGS="--port 9000"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := libs services examples deploy tests benchmarks proof docs
ARGS ?=
# Tests run in this many processes, each with servers of its own: 1 GB of memory a process.
WORKERS ?= 2
QUIXSTREAMS := .cache/quixstreams/installed

.PHONY: help setup demo test check bench proof audit sbom lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/dev.stamp ## make .venv with everything for development; .venv/bin/impact works after it

demo: $(VENV)/demo.stamp ## start the service, play a year of CareMessage in, and show what it means (docs/examples.md)
	$(BIN)/impact demo $(ARGS)

test: $(VENV)/dev.stamp ## run the tests; those that need Java, Maven or PostgreSQL say so where one is missing
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

check: $(VENV)/dev.stamp ## linters, formatting, types, import rules, Dockerfile, and the lock files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/uv lock --check --quiet || { echo "uv.lock is behind pyproject.toml: run make lock" >&2; exit 1; }
	@$(foreach name,$(LOCKED),$(call export,$(name)) | diff - requirements/$(name).txt \
	  || { echo "requirements/$(name).txt is behind uv.lock: run make lock" >&2; exit 1; };)

bench: $(VENV)/dev.stamp $(QUIXSTREAMS) ## measure, and write docs/performance.md (20 min); less: QUICK=1, ONLY=aggregator,growth
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick) $(ARGS)

proof: $(VENV)/dev.stamp ## break it under load, in pieces: PACE=0.1 ARGS="--for 45m --write"; one round: FAULT=zombie SEED=7
	$(BIN)/python -m proof $(if $(FAULT),--fault $(FAULT)) $(if $(SEED),--seed $(SEED)) $(if $(PACE),--pace $(PACE)) $(ARGS)

audit: $(VENV)/dev.stamp ## known vulnerabilities of what the images install; needs the advisories of pypi.org
	@$(foreach name,ingest aggregator demo,$(BIN)/uv tool run --from pip-audit==2.10.1 pip-audit --strict \
	  --disable-pip --require-hashes -r requirements/$(name).txt;)

sbom: $(VENV)/dev.stamp ## a CycloneDX list of what each kind of installation is made of: .cache/sbom-*.json
	@mkdir -p .cache
	@$(foreach name,ingest aggregator demo,$(BIN)/uv tool run --from cyclonedx-bom==7.5.0 cyclonedx-py requirements \
	  --output-reproducible -o .cache/sbom-$(name).json requirements/$(name).txt;)

lock: $(VENV)/dev.stamp ## after a change of dependencies in pyproject.toml: bring uv.lock and requirements/ up to date
	$(BIN)/uv lock
	@$(foreach name,$(LOCKED),$(call export,$(name)) > requirements/$(name).txt;)

clean: ## remove what setup and the tools made; never data
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# --- Locked requirements: one file for each kind of installation, all from uv.lock, with hashes ---

LOCKED := dev demo ingest aggregator reports build
EXPORT_dev := --extra dev
EXPORT_demo := --extra demo
EXPORT_ingest := --extra ingest --extra kafka --extra postgresql --no-group build
EXPORT_aggregator := --extra aggregator --extra verify --extra kafka --extra postgresql --no-group build
EXPORT_reports := --extra reports --extra kafka --extra postgresql --no-group build
EXPORT_build := --only-group build
export = $(BIN)/uv export --quiet --frozen --no-header --no-annotate --no-emit-project $(EXPORT_$(1))

# --- The virtual environment. A stamp says which requirements are in it; dev contains demo. ---
# pip is order-only: its own date is no reason to install again. --no-deps: the lists are complete.

$(VENV)/dev.stamp: requirements/dev.txt pyproject.toml | $(BIN)/pip
	$(PIP) install --quiet --no-deps --require-hashes -r requirements/dev.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $(VENV)/demo.stamp $@

$(VENV)/demo.stamp: requirements/demo.txt pyproject.toml | $(BIN)/pip
	$(PIP) install --quiet --no-deps --require-hashes -r requirements/demo.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# What the aggregator is measured beside; it pins older libraries than ours. Without it that row is left out.
$(QUIXSTREAMS): | $(BIN)/pip
	-$(BIN)/python -m venv $(@D) && $(@D)/bin/pip install --quiet quixstreams==3.28.1 && touch $@

PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
$(BIN)/pip:
	@for python in $(PYTHON); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$("$$python" --version)"; \
	    exec "$$python" -m venv --clear $(VENV); \
	  fi; \
	done; \
	echo "No Python >= 3.11 among: $(PYTHON)." \
	  "Install one, or say where it is: make setup PYTHON=/path/to/python3" >&2; \
	exit 1
