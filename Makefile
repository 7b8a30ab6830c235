# Scrigno: the verbs of the project. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.built
PAGES := webui/dist/index.html
PAGES_FROM := $(shell find webui -name node_modules -prune -o -path webui/dist -prune -o -type f -print)
ROOMS := daemon tests bench tools

.DEFAULT_GOAL := help
.PHONY: help build run test test-fast faults check format bench spec mutants screens schema lock deb clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

build: $(STAMP) $(PAGES) ## make everything in .venv and webui/dist without starting it

$(PAGES): $(PAGES_FROM) tools/make-pages | $(STAMP)
	@tools/make-pages $(VENV)

$(STAMP): pyproject.toml requirements.lock
	@tools/make-venv $(PYTHON) $(VENV)
	@touch $@

run: build ## start the box on folders under ./var and print how to reach it
	@$(BIN)/python tools/run_box.py

test: build $(VENV)/.dev ## install what the tests need and run all of them
	@tools/need-test-packages
	@tools/pages-check test $(VENV)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-fast: $(VENV)/.dev ## the tests that take less than ten seconds each
	@$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

faults: build $(VENV)/.dev ## break disks, processes and peers for real, ROWS="1 6 21" or all (long)
	@tools/need-test-packages
	@$(BIN)/python tools/faults.py $(FAULTS_ARGS) $(ROWS)

check: build $(VENV)/.dev ## format, lint, types, layers, spelling, licences, house rules
	@PATH="$(CURDIR)/$(BIN):$$PATH" tools/check
	@tools/pages-check check $(VENV)

format: $(VENV)/.dev ## put the code into its format
	@$(BIN)/ruff format $(ROOMS)
	@$(BIN)/ruff check --fix --quiet $(ROOMS)

bench: build $(VENV)/.dev ## measure side by side with Orthanc and DCMTK
	@$(BIN)/python -m bench $(BENCH_ARGS)

spec: build $(VENV)/.dev ## print the rows of the specification proved by a test, and those not
	@$(BIN)/python tools/spec_rows.py

mutants: build $(VENV)/.dev ## break the durable path on purpose, one way at a time, and see a test fail
	@$(BIN)/python tools/mutants.py $(if $(FAULTS),--fault-rows)

screens: build $(VENV)/.dev ## take the pictures under docs/screens
	@$(BIN)/python tools/screens.py

schema: build ## write config/scrigno.schema.json anew from the settings' own table
	@$(BIN)/python -c 'import json; from scrigno.settings.boot import json_schema; \
	    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))' > config/scrigno.schema.json

lock: $(VENV)/.dev ## write the locked versions anew from pyproject.toml
	@$(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-trusted-host \
	    --no-emit-find-links --generate-hashes --allow-unsafe -o requirements.lock pyproject.toml
	@$(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-trusted-host \
	    --no-emit-find-links --generate-hashes --allow-unsafe --extra dev \
	    -c requirements.lock -o requirements-dev.lock pyproject.toml

$(VENV)/.dev: $(STAMP) requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

deb: build ## build the Debian package into dist/
	@tools/build-deb

clean: ## remove what was built; the folders under ./var stay
	@rm -rf $(VENV) build dist webui/dist webui/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find daemon tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} +
