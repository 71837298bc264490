# `make run` and `make test` do all of their own set-up; so does every other target.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SHELL  := /bin/bash

.PHONY: run test slow check install dev bench sim soak proto lock peers differential clean help

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /\1\t/' | expand -t 14

$(VENV)/.run: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(VENV)/.run
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

install: $(VENV)/.run ## leave .venv/bin/kvorum, kvorumctl and kvorumutl
dev: $(VENV)/.dev

run: $(VENV)/.run ## serve on 127.0.0.1:2379 with data in ./default.etcd
	exec $(BIN)/kvorum

test: $(VENV)/.run $(VENV)/.dev ## the whole suite, under ten minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist worksteal

slow: $(VENV)/.run $(VENV)/.dev ## what the suite leaves out for its ten minutes: pages that build clusters, floods, kills
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

check: $(VENV)/.run $(VENV)/.dev ## ruff, mypy --strict, the tidy test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_tidy.py

bench: $(VENV)/.run $(VENV)/.dev ## Kvorum and etcd side by side (needs h2load)
	$(BIN)/python -m bench

differential: $(VENV)/.run $(VENV)/.dev ## thousands of random programs, the same to etcd and to Kvorum
	$(BIN)/python -m tests.differential
	$(BIN)/python -m tests.v2.differential --seeds 0..199

sim: $(VENV)/.run $(VENV)/.dev ## whole clusters on one thread, a thousand seeds with faults
	$(BIN)/python -m kvorum.sim --seeds 0..999 --processes 2

soak: $(VENV)/.run $(VENV)/.dev ## three members killed and paused at random under load, ten minutes
	$(BIN)/python -m tests.soak --minutes 10

proto: $(VENV)/.run $(VENV)/.dev ## regenerate src/kvorum/proto/*_pb2.py
	$(BIN)/python scripts/protoc.py

lock: ## pin the newest allowed versions of everything
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install -q pip-tools
	$(VENV)-lock/bin/pip-compile -q --upgrade --generate-hashes --allow-unsafe --no-emit-find-links --no-emit-index-url --no-emit-trusted-host --strip-extras --extra build -o requirements.lock pyproject.toml
	$(VENV)-lock/bin/pip-compile -q --upgrade --generate-hashes --allow-unsafe --no-emit-find-links --no-emit-index-url --no-emit-trusted-host --strip-extras --extra build --extra dev -o requirements-dev.lock pyproject.toml
	rm -rf $(VENV)-lock

peers: ## install the Debian packages that some tests and benchmarks use (needs root)
	scripts/peers.sh

clean: ## remove what the targets made
	rm -rf $(VENV) default.etcd bench/out
