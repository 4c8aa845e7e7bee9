# Two commands: `make demo` shows what the package does, `make test` proves that it does.
# A machine needs Python 3.11 or newer, make and git; everything else is installed from PyPI into .venv.

# The first Python that runs and is new enough; name another with PYTHON=…
PYTHON ?= $(or $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done),python3)
VENV   := .venv
BARE   := .venvs/bare
BENCH  := .venvs/bench
LLAMA  := .venvs/llama-index
MINIMUM := .venvs/minimum
BIN    := $(VENV)/bin
PLOT   := build/layout.png

.PHONY: help demo test bench bench-layout redis-server lint format clean

help:
	@echo "make demo    run the support agent against the local simulator"
	@echo "make test    lint, types, import contracts, and every test"
	@echo "make lint    the first three of those"
	@echo "make bench   every measurement, as ratios in one run"
	@echo "make bench-layout DATA=folder EMIT=folder   prompt layout over workloads of your own, with a picture; some five minutes"
	@echo "make format  put the code into the house's format"
	@echo "make clean   remove the environments"

demo: $(VENV)/.demo
	@$(BIN)/python -m examples.support_agent $(ARGS)

# What also runs beside LlamaIndex, whose integrations take older SDKs (openai 2, anthropic 0): all that SDKs pass through.
# The types that the dialects are checked against are those of the current SDKs.
BESIDE_LLAMA_INDEX := tests/llama_index tests/test_sdk_hooks.py tests/dialects tests/prompt tests/flows tests/stores \
	--ignore tests/dialects/test_contract.py --ignore tests/dialects/test_langchain_payloads.py

# What also runs on the lowest versions allowed; the rest speaks of what only the current SDKs know.
ON_LOWEST_VERSIONS := tests/langchain tests/examples tests/stores tests/flows tests/testing \
	--ignore tests/langchain/test_standard_cache_suites.py

test: lint $(BARE)/.ready $(LLAMA)/.ready $(MINIMUM)/.ready redis-server
	$(BARE)/bin/python tests/bare_imports.py
	$(BIN)/python -m pytest $(ARGS)
	$(LLAMA)/bin/python -m pytest $(BESIDE_LLAMA_INDEX)
	$(MINIMUM)/bin/python -m pytest $(ON_LOWEST_VERSIONS)

redis-server: $(VENV)/.test
	@$(BIN)/python tests/redis_server.py

bench: $(BENCH)/.ready redis-server bench-layout
	$(BENCH)/bin/python -m benchmarks.response_cache $(ARGS)
	$(BIN)/python -m benchmarks.accounting
	$(BIN)/python -m benchmarks.breaks
	$(BIN)/python -m benchmarks.diagnosis

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-layout: $(VENV)/.layout
	$(BIN)/python -m benchmarks.layout $(if $(DATA),--data "$(DATA)") $(if $(EMIT),--emit "$(EMIT)") --plot "$(PLOT)"
	$(BIN)/python -m benchmarks.layout.planning_time --samples 100

clean:
	rm -rf .venv .venvs build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

define make_venv
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "prefixcache-integrations needs Python 3.11 or newer; found: $$("$(PYTHON)" --version 2>&1). Name one with PYTHON=…"; exit 1; }
	@"$(PYTHON)" -m venv $(1) || \
		{ echo "Python's venv module is incomplete here. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(1)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
endef

$(VENV)/pyvenv.cfg:
	$(call make_venv,$(VENV))

$(VENV)/.layout: $(VENV)/.demo
	@$(BIN)/python -m pip install --quiet --group bench-layout || echo "No picture: matplotlib could not be installed."
	@touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "Installing what the demo needs into $(VENV) (once, about a minute) …"
	@$(BIN)/python -m pip install --quiet --editable ".[all]" --group demo
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@echo "Installing what the tests need into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --editable ".[all]" --group demo --group test
	@touch $@

$(BARE)/.ready: pyproject.toml
	$(call make_venv,$(BARE))
	@$(BARE)/bin/python -m pip install --quiet --editable .
	@touch $@

$(LLAMA)/.ready: pyproject.toml
	$(call make_venv,$(LLAMA))
	@echo "Installing LlamaIndex into $(LLAMA) (once, about a minute) …"
	@$(LLAMA)/bin/python -m pip install --quiet --group test-llama-index \
		--editable ".[llama-index-anthropic,tokens,prices,server,redis,postgres,crypto,zstd]"
	@touch $@

$(MINIMUM)/.ready: pyproject.toml tests/minimum.txt
	$(call make_venv,$(MINIMUM))
	@echo "Installing the lowest versions allowed into $(MINIMUM) (once, about a minute) …"
	@$(MINIMUM)/bin/python -m pip install --quiet --constraint tests/minimum.txt --group demo --group test-run \
		--editable ".[all]"
	@touch $@

$(BENCH)/.ready: pyproject.toml
	$(call make_venv,$(BENCH))
	@echo "Installing the caches that are compared into $(BENCH) (once, some minutes) …"
	@$(BENCH)/bin/python -m pip install --quiet --editable ".[langchain,openai,redis,crypto,zstd]" --group bench
	@touch $@
