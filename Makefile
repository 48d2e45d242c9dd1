# Everything the house can do, from a bare checkout: Python >= 3.11 and make are all it takes.
#
# One virtual environment, .venv, grows as needed: `run` installs the exact versions of requirements/run.txt, the
# others those of requirements/dev.txt too. Stamp files inside it remember what it holds, so a second call starts at once.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check test-compose compiled test-compiled simulate bench fuzz lock protobuf clean

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
IN := $(VENV)/bin/python
PIP := $(IN) -m pip install -qq --no-input --disable-pip-version-check
SEED ?=
FUZZ_S ?= 60
FUZZED ?= http2 zmtp
SEEDS ?= $(if $(SEED),1,1000)
ARGS ?=
# Much of the suite waits for real processes, so more than one file is run at a time: one more than there are processors.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(os.cpu_count() + 1, 8))')
SIDE_BY_SIDE = -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# A copy of zkv whose hot modules are machine code (setup.py). `make run` runs it with COMPILED=1; `make bench` does where
# there is a C compiler, for so it is deployed where speed counts, and takes the tree as it is with COMPILED= (empty).
COPY := build/compiled
COMPILED ?= $(if $(filter bench,$(MAKECMDGOALS)),$(if $(shell command -v $(firstword $(CC))),1))
COMPILED_TESTS ?= unit/wire unit/core unit/client unit/actors unit/gateway unit/ctl/test_bench.py unit/test_courier.py \
	unit/test_connection.py unit/test_curve.py unit/test_door.py unit/test_line.py unit/test_zmtp_with_libzmq.py \
	unit/test_zmtp.py integration/test_node.py integration/test_clients.py integration/test_benchmark.py \
	integration/test_etcd_api.py integration/test_etcd_hostile.py integration/test_gateway_door.py \
	conformance/test_same_answers_as_etcd.py
SOURCES = setup.py pyproject.toml $(wildcard actors/rocks_options/*) $(shell find zkv actors gateway ctl -follow -name '*.py')
AS = $(if $(COMPILED),PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(COPY))

help:
	@echo 'make run                     start a three-node cluster on loopback, and keep it until Ctrl-C'
	@echo 'make test                    lint, formatting, types, layers, and the whole test suite'
	@echo 'make test-compose            the three-node cluster of compose.yaml, on the Docker engine of this machine'
	@echo 'make compiled                build/compiled: zkv with its hot modules as machine code; takes a C compiler'
	@echo 'make test-compiled           that copy: the tests of what is compiled, and a cluster of both kinds'
	@echo 'make simulate SEEDS=100000   that many simulated clusters; SEED=17 plays that one again'
	@echo 'make bench                   zkv against etcd 3.5.1 on this machine: both figures and their ratios'
	@echo 'make fuzz FUZZ_S=600         HTTP/2, then ZMTP and CURVE, against inputs that reach ever new lines of them'
	@echo 'make lock                    resolve requirements/*.txt anew'
	@echo 'make protobuf                generate gateway/pb from its .proto files'
	@echo 'make clean                   remove .venv and every cache'

run: $(VENV)/zkv.stamp $(if $(COMPILED),$(COPY)/.stamp)
	@$(AS) exec $(IN) scripts/run_cluster.py $(ARGS)

test check: $(VENV)/dev.stamp $(VENV)/zkv.stamp
	@echo '== ruff'; $(IN) -m ruff check -q --output-format concise
	@$(IN) -m ruff format --check -q || { echo 'not formatted: $(IN) -m ruff format' >&2; exit 1; }
	@echo '== mypy'; $(IN) -m mypy
	@echo '== pytest'; $(IN) -m pytest $(SIDE_BY_SIDE) $(ARGS)

test-compose: $(VENV)/dev.stamp $(VENV)/zkv.stamp
	@$(IN) -m pytest tests/compose/on_docker.py $(ARGS)

simulate: $(VENV)/dev.stamp $(VENV)/zkv.stamp
	@exec $(IN) -m tests.simulation --seeds $(SEEDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: $(VENV)/dev.stamp $(VENV)/zkv.stamp $(if $(COMPILED),$(COPY)/.stamp)
	@$(AS) exec $(IN) -m tests.bench $(ARGS)

compiled: $(COPY)/.stamp

# Beside the tree and not in it: a compiled module would be taken for its source after the next edit, too.
test-compiled: $(COPY)/.stamp
	@cd $(COPY) && PYTHONPATH=$$PWD ../../$(IN) -m pytest -m 'not patches' $(SIDE_BY_SIDE) \
	    tests/compiled/on_the_copy.py $(COMPILED_TESTS:%=tests/%) $(ARGS)

fuzz: $(VENV)/dev.stamp $(VENV)/zkv.stamp requirements/fuzz.txt
	@$(PIP) --require-hashes -r requirements/fuzz.txt || { echo 'atheris is not to be had for this Python here' >&2; exit 1; }
	@for parser in $(FUZZED); do $(IN) -m tests.fuzz.$$parser -max_total_time=$(FUZZ_S) $(ARGS) || exit 1; done

$(VENV)/run.stamp: requirements/run.txt
	@test -n '$(PYTHON)' || { echo 'zkv needs Python 3.11 or newer: make PYTHON=/path/to/python3.x' >&2; exit 1; }
	@echo '== $(VENV): creating it, and installing what zkv runs on (once)'
	@$(PYTHON) -m venv --clear $(VENV) || { echo 'no virtual environment: is python3-venv installed?' >&2; exit 1; }
	@$(PIP) --require-hashes -r requirements/run.txt
	@touch $@

$(VENV)/zkv.stamp: $(VENV)/run.stamp pyproject.toml
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/run.stamp
	@echo '== $(VENV): installing what tests and benchmarks need (once)'
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

$(COPY)/.stamp: $(VENV)/dev.stamp $(SOURCES)
	@echo '== $(COPY): compiling (some minutes of processor time)'
	@rm -rf build && mkdir -p $(COPY)
	@ZKV_COMPILE=1 $(PIP) --no-deps --no-build-isolation --target $(COPY) .
	@ln -s $(CURDIR)/tests $(CURDIR)/docs $(CURDIR)/README.md $(CURDIR)/pyproject.toml $(COPY)
	@touch $@

# uv resolves for every platform and Python at once, which pip cannot; it lives in a throw-away environment.
lock:
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && $(PYTHON) -m venv "$$dir" && \
	"$$dir/bin/python" -m pip install -qq --disable-pip-version-check uv && \
	compile="$$dir/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate" && \
	$$compile pyproject.toml requirements/build.in -o requirements/run.txt && \
	$$compile pyproject.toml requirements/build.in requirements/dev.in -c requirements/run.txt -o requirements/dev.txt && \
	$$compile pyproject.toml requirements/build.in requirements/compile.in -c requirements/dev.txt -o requirements/compile.txt && \
	$$compile requirements/fuzz.in -o requirements/fuzz.txt

protobuf: $(VENV)/dev.stamp
	@$(IN) -m grpc_tools.protoc -I. --python_out=. --pyi_out=. zkv/gateway/pb/*.proto

clean:
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
