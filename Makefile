# One command for each thing that people do with a checkout. Everything is installed into .venv here, nothing
# elsewhere; no target calls a system package manager or asks for root (only .ci/install does).

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# What a person may add: make sandbox ARGS="--clients 4", make test ARGS="test/protocol -x", make test-examples TORCH=1
ARGS ?=
TORCH ?=
SEEDS ?= 200
SECONDS ?= 60
ROUNDS ?= 200

# Rules of the pure layers and of the repository itself: no server, no process of ours, seconds in all.
PURE_TESTS := $(wildcard test/test_*.py test/model test/masking test/aggregation test/protocol test/scenarios test/repository)

.DEFAULT_GOAL := help
.PHONY: help install sandbox test test-examples swarm fuzz chaos soak bench bench-scale bench-web check gates servers format proto docs screenshots wheel clean

help:  ## List these targets
	@echo "fedn_py: make TARGET"
	@echo
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{printf "  %-15s %s\n", $$1, $$2}'
	@echo
	@echo "A Python other than python3: make install PYTHON=/path/to/python3.12"

install: .venv/.installed  ## Make .venv with the command .venv/bin/fedn-py

sandbox: .venv/.installed  ## Start a whole network here and train a model (ARGS="--help" lists its options)
	@$(BIN)/fedn-py sandbox $(ARGS)

test: gates servers  ## Everything: static gates, then the whole test suite, three tests at a time
	$(BIN)/python -m pytest -m "not examples" -n 3 --dist worksteal $(ARGS)

test-examples: .venv/.installed-dev $(if $(TORCH),.venv/.installed-torch)  ## Train the example projects at full size (TORCH=1 adds PyTorch, 3 GB)
	FEDN_TEST_TORCH=$(TORCH) $(BIN)/python -m pytest -m examples --timeout 1800 $(ARGS)
	@test -n "$(TORCH)" || echo "make test-examples: mnist-pytorch skipped; TORCH=1 runs it (PyTorch is a download of 3 GB)."

swarm: .venv/.installed-dev  ## Run the machines of the three roles under faults, on virtual time (SEEDS=2000)
	@PYTHONPATH=test $(BIN)/python -m simulator.swarm --seeds $(SEEDS)
	@PYTHONPATH=test $(BIN)/python -m simulator.crash_points

fuzz: .venv/.installed-dev  ## Damage every message of masked rounds at random (SECONDS=600, SEEDS=20; ARGS="--replay 17")
	@PYTHONPATH=test $(BIN)/python -m fuzz.long_form --seconds $(SECONDS) --seeds $(SEEDS) $(ARGS)

chaos: .venv/.installed-dev servers  ## Kill, stop and cut real processes at named points (ARGS="--list", ARGS="--only NAME")
	@PYTHONPATH=test:test/system $(BIN)/python -m chaos.run $(ARGS)

soak: .venv/.installed-dev servers  ## Masked rounds on real processes with faults at random; does memory stay flat? (ROUNDS=200)
	@PYTHONPATH=test:test/system $(BIN)/python -m chaos.soak --rounds $(ROUNDS) $(ARGS)

bench: .venv/.installed  ## Time rounds of five sizes, plain and masked, beside this machine's limits (ARGS='--only "10 x 1 MB"')
	@$(BIN)/fedn-py bench targets --out docs/explanation $(ARGS)

bench-scale: .venv/.installed  ## Time rounds of ever more clients, larger models, more combiners; draw them (ARGS="--only clients"; large: 40 x 1 GB)
	@$(BIN)/fedn-py bench scale --out docs/explanation $(ARGS)

bench-web: .venv/.installed  ## Time each web page with 1,000 clients and 200 rounds in the stores (ARGS="--clients 100")
	@$(BIN)/fedn-py bench web $(ARGS)

check: gates  ## Before each commit: format, lint, types, layers, wire, pure tests; under a minute
	@$(BIN)/python -m pytest -q $(PURE_TESTS)

# The static gates, without an installation of their own: what test and check have in common.
gates: .venv/.installed-dev
	@$(BIN)/ruff format --check --quiet . || { echo "make check: run 'make format'."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python proto/generate.py --check

# Servers for the tests against real MongoDB wire and real S3: from PATH, or built once from pinned Go modules into
# .cache, here so that it is not on pytest's time. What is still missing then is skipped and told at pytest's end, or
# with FEDN_REQUIRE_SERVICES=1 a failure.
servers: .venv/.installed-dev
	@$(BIN)/python test/servers/build.py || true

format: .venv/.installed-dev  ## Put all Python into the one format and apply the safe lint fixes
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

proto: .venv/.installed-dev  ## Generate fedn_py/wire from proto/
	$(BIN)/python proto/generate.py

docs: .venv/.installed-dev  ## Write the reference pages from the code and check all pages
	$(BIN)/python docs/generate.py
	@$(BIN)/python -m pytest -q test/repository/test_pages.py

screenshots: .venv/.installed-dev  ## Take the pictures of the tutorial anew, in Chromium before a sandbox of their own
	@PYTHONPATH=test:test/system:test/in_browser $(BIN)/python docs/screenshots.py

wheel: .venv/.installed  ## Build the wheel into dist/
	$(PIP) wheel --no-deps --wheel-dir dist .

clean:  ## Remove caches and built files; .venv and every network's state stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache
	find fedn_py test proto docs -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- what is installed, remembered by stamp files so that a second call costs nothing --------------------------

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "fedn_py needs Python 3.11 or newer, and '$(PYTHON)' is not: $$($(PYTHON) --version 2>&1 | head -n 1)" >&2; \
	    echo "Point to one that is: make install PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { \
	    echo "'$(PYTHON)' cannot make a virtual environment; on Debian and Ubuntu its package is python3-venv." >&2; \
	    rm -rf .venv; exit 1; }

.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing fedn_py into .venv (once; a few minutes at most)"
	@$(PIP) install --upgrade "pip>=25.1"
	@$(PIP) install --constraint constraints.txt --editable ".[sklearn]"
	@touch $@

.venv/.installed-dev: pyproject.toml constraints.txt | .venv/.installed
	@echo "Installing what the tests need into .venv (once)"
	@$(PIP) install --constraint constraints.txt --editable ".[sklearn,keras]" --group dev
	@touch $@

.venv/.installed-torch: pyproject.toml constraints.txt | .venv/.installed-dev
	@$(PIP) install --constraint constraints.txt --editable ".[torch]"
	@touch $@
