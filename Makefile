# Every habit of this repository. `make setup` first; `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONDONTWRITEBYTECODE :=  # tests begin hundreds of processes: what one has compiled is for all
TORCH := torch==2.14.1 torchvision==0.29.1

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types bench chaos models

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.ready  ## make .venv with all extras and test dependencies, and fetch the demo's images and weights

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[ray,test,bench]"
	$(BIN)/segsvc models pull
	bash tests/servers.sh
	touch $@

demo: $(VENV)/.ready  ## segment real nuclei and classify real photos, then review them in the browser
	$(BIN)/segsvc demo --out demo-out --ledger demo-out/ledger

test: lint types  ## everything that CI runs: ruff, mypy --strict, tests (the direction of imports among them)
	$(BIN)/python -m pytest -n auto --no-loadscope-reorder

lint: $(VENV)/.ready  ## ruff
	$(BIN)/ruff check .

types: $(VENV)/.ready  ## mypy --strict
	$(BIN)/mypy --num-workers auto

bench: $(VENV)/.ready  ## run every benchmark; each prints JSON with its peer's figure of the same run
	@set -e; for script in benchmarks/[a-z]*.py; do echo "== $$script" >&2; $(BIN)/python $$script; done

chaos: $(VENV)/.ready  ## 200 seeded kills over executors, places, queues and a bad network; the tables are build/chaos*.json
	CHAOS_KILLS=200 $(BIN)/python -m pytest tests/chaos/test_long.py tests/chaos/test_service.py tests/chaos/test_trigger.py \
		tests/chaos/test_clock.py tests/jobs/test_submit.py tests/jobs/test_train.py -n 0

models: $(VENV)/.ready  ## train the packaged models again, from their seeds
	$(BIN)/python -m segsvc.training.nuclei --seed 0 --out segsvc/packaged_models
