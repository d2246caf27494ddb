# make demo   the whole story on this machine: installs what it needs, and ends with the report
# make chaos  breaks whatever can break, and judges what came of it
# make test   installs what it needs, and runs every test
# make        lists everything

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
# A shell that read no profile does not see what rustup installed.
export PATH := $(PATH):$(HOME)/.cargo/bin

VENV := target/venv/bin
PYTHON := $(VENV)/python
WHEEL_SOURCES := $(shell find src Cargo.toml Cargo.lock pyproject.toml README.md \
    -not -name '*.so' -not -name '*.pyc' -not -name __pycache__)

.PHONY: help setup wheel check check-python check-rust test chaos demo bench bench-fleet bench-addresses bench-checksums lab-up lab-down clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## */\1|/' | awk -F'|' '{printf "make %-16s %s\n", $$1, $$2}'

setup:  ## install what building and testing need (Debian packages as root; the rest into target/)
	@tests/setup.sh

wheel: setup  ## build the wheel, and install it into target/venv
	@$(MAKE) --silent target/wheels/.installed

target/wheels/.installed: $(WHEEL_SOURCES)
	@tests/wheel.sh

check: setup  ## formatters, linters, types, the wall between the layers
	@$(MAKE) --silent check-python check-rust

# Seconds first, then what compiles.
check-python:
	@echo "==> ruff, mypy, salt-lint, the wall between the layers"
	@$(VENV)/ruff check --quiet --output-format concise .
	@$(VENV)/ruff format --check --quiet --output-format concise .
	@$(VENV)/mypy --no-error-summary src/saltext
	@$(VENV)/salt-lint $$(find salt pillar-example -name '*.sls')
	@$(PYTHON) -m pytest -q --no-header tests/unit/test_layers.py

check-rust:
	@echo "==> rustfmt"
	@cargo fmt --check -- --files-with-diff
	@echo "==> clippy"
	@PYO3_PYTHON=$(CURDIR)/$(PYTHON) cargo clippy --quiet --locked --all-targets --features python -- -D warnings

test: wheel  ## every check and every test; the lab part needs root
	@$(MAKE) --silent check-python
	@tests/run.sh test

chaos: wheel  ## whatever can fail, at every moment, flip and revert; target/chaos/report.json (an hour at most, root)
	@tests/run.sh chaos

demo: wheel  ## cut a whole site over, on this machine (root only)
	@[ "$$(id -u)" = 0 ] || { echo "the demo needs root: namespaces, mounts and cgroups" >&2; exit 1; }
	@tests/run.sh demo

bench: wheel  ## the window beside that of a fixed script, in 15 interleaved pairs, at 20 ms and at none (root)
	@$(PYTHON) -m tests.bench.wan --pairs 15 --delay 10 --in-memory
	@$(PYTHON) -m tests.bench.wan --pairs 15 --delay 0 --in-memory

bench-fleet: wheel  ## fifty servers beside a plain script of openstacksdk
	@$(PYTHON) -m tests.bench.fleet

bench-addresses: wheel  ## the search for old addresses beside ripgrep, on 1 GB (needs rg)
	@$(PYTHON) -m tests.bench.addresses

bench-checksums: wheel  ## the comparison of data beside pt-table-checksum (needs percona-toolkit)
	@$(PYTHON) -m tests.bench.checksums

lab-up: wheel  ## bring the two clouds up, to play with (python -m tests.lab shell HOST)
	@$(PYTHON) -m tests.lab up

lab-down: setup  ## and down again
	@$(PYTHON) -m tests.lab down

clean:  ## remove everything that was built
	@rm -rf target .pytest_cache .ruff_cache .mypy_cache
