# The commands of the project; `make` alone lists them. PYTHON chooses the interpreter for .venv (3.11 or newer).
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
PY := .venv/bin/python
SOURCES := provider cache_cluster tests testbed demo dags scripts

.PHONY: compat deferred help setup demo test e2e lint format constraints bench bench-quick soak simulate tour clients chart
help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: .venv/.ready ## make .venv with both distributions, editable, at the versions of constraints.txt

.venv/.ready: pyproject.toml cache_cluster/pyproject.toml constraints.txt scripts/setup.sh
	PYTHON=$(PYTHON) bash scripts/setup.sh
	@touch $@

demo: setup ## warm a real dataset from Airflow, train on it, show the numbers (KEEP=1 leaves it running)
	$(PY) -m demo $(if $(KEEP),--keep)

test: setup lint ## every check that CI runs (SEED=n shuffles the tests in another order)
	$(PY) -m pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder --randomly-seed=$(or $(SEED),20261121)

lint: setup ## format, lint, types and layers
	.venv/bin/ruff format --check $(SOURCES)
	.venv/bin/ruff check $(SOURCES)
	.venv/bin/mypy
	.venv/bin/lint-imports

format: setup ## rewrite the code in the project's format
	.venv/bin/ruff format $(SOURCES)
	.venv/bin/ruff check --fix $(SOURCES)

e2e: setup ## the tests that take minutes: real Airflow processes that are killed, other Airflow versions, 1,000 of something
	$(PY) -m pytest -m long --timeout=1800 --durations=0

compat: setup ## the provider with Airflow 3.1 and 3.2, each in .venv-compat, on a real cluster
	$(PY) -m pytest -m long --timeout=1800 --durations=0 tests/e2e/test_compatibility.py

deferred: setup ## count 1,000 deferred preloads in one triggerer: warnings, latency, load (NUMBERS="100 1000")
	$(PY) -m tests.e2e.deferred $(NUMBERS)

soak: setup ## thousands of long random histories of faults (SEEDS=2000 FIRST=0 to choose)
	FAULT_SEEDS=$(or $(SEEDS),2000) FAULT_FIRST_SEED=$(or $(FIRST),0) FAULT_SECONDS=300 $(PY) -m pytest tests/faults -q

tour: setup ## write docs/tour.md anew from a real run of its commands
	$(PY) -m tests.integration.tour

reference: setup ## write docs/reference/operators.md anew from the provider's docstrings
	$(PY) -m scripts.operator_reference

clients: setup ## try every operation with every client, and write docs/reference/clients.md anew
	PYTHON=$(PYTHON) bash scripts/clients.sh
	PYTHON=$(PYTHON) bash scripts/alluxio-clients.sh
	$(PY) -m tests.clients

simulate: setup ## what 10, 100 and 1,000 workers come to: placement, planning, messages; writes docs/explanation/scale.md
	$(PY) -m tests.simulation

chart: setup ## write the chart's README and the rendering that its tests compare with anew
	PYTHON=$(PYTHON) bash scripts/helm.sh
	$(PY) scripts/chart_readme.py
	.helm/helm4 template preheat helm/preheat --namespace ml --values helm/preheat/ci/external-secrets-values.yaml \
	  > tests/chart/external-secrets.golden.yaml

constraints: setup ## resolve constraints.txt anew (names and versions only, no hosts)
	bash scripts/constraints.sh

bench: setup ## measure Preheat beside s5cmd, juicefs, nginx, boto3 and s3fs, and the job service; writes docs/benchmarks
	PYTHON=$(PYTHON) bash scripts/peers.sh
	$(PY) -m tests.benchmarks

bench-quick: setup ## the same with smaller sets, in about two minutes; writes .bench/quick
	PYTHON=$(PYTHON) bash scripts/peers.sh
	$(PY) -m tests.benchmarks --quick --output .bench/quick
