# `make demo` and `make test` need Python 3.11, make, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_DATA ?= .demo-data
# Most tests wait for containers and processes: more workers than cores pay off. The longest files come first, as they stand.
TEST_WORKERS ?= 3

.PHONY: help setup demo tutorial test check bench clean

help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.stamp ## make the virtual environment

$(VENV)/.stamp: pyproject.toml scripts/setup
	@PYTHON="$(PYTHON)" scripts/setup "$(VENV)"
	@touch $@

demo: setup ## train a real image classifier on this machine, deploy it, ask it, run it over a bucket, now
	@$(BIN)/sagewright demo --data $(DEMO_DATA)

tutorial: setup ## the tutorial's notebook from docker build to batch predictions, headless, with both SDKs
	@scripts/tutorial $(SDK)

check: setup ## formatting, lint, types, layers
	@scripts/check

test: setup check ## everything: sets up an engine and the official clients, then runs every test
	@scripts/engine
	@scripts/images
	@scripts/sdk-venvs
	@$(BIN)/pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

bench: setup ## the measured claims, one script each
	@scripts/bench

clean: ## remove what setup and demo made
	rm -rf $(VENV) $(DEMO_DATA)
