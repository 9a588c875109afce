# `make demo` and `make test` do all the set-up. Everything installed is pinned with hashes in requirements/.
PYTHON ?= python3
BASE := .venv
FULL := .venv-test
PEERS := .venv-bench

.PHONY: help demo test faults bench tensorrt lock schemas figures train paper clean
help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(BASE)/.installed  ## local Kafka and Redis, worker, replay, alerts, latency report (no torch)
	$(BASE)/bin/wardwatch demo

test: $(FULL)/.installed  ## style, import rules and every test, on the real broker
	$(FULL)/bin/ruff check .
	$(FULL)/bin/ruff format --check .
	$(FULL)/bin/lint-imports --no-cache
	OMP_NUM_THREADS=1 $(FULL)/bin/python -m pytest  # more threads spin where other work shares the cores

# A virtual environment of exactly what a lock names, and this project in it.
define environment
$(1)/.installed: requirements/$(2).lock requirements/uv.lock pyproject.toml
	$$(PYTHON) -m venv --clear $(1)
	$(1)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.lock
	$(1)/bin/uv pip sync -q --python $(1)/bin/python --require-hashes requirements/$(2).lock requirements/uv.lock
	$(1)/bin/uv pip install -q --python $(1)/bin/python --no-deps --build-constraint requirements/build.lock --editable .
	touch $$@
endef

$(eval $(call environment,$(BASE),base))
$(eval $(call environment,$(PEERS),bench))
$(eval $(call environment,$(FULL),all))

WARDWATCH_BENCH = $(PEERS)/bin/wardwatch bench
bench: $(PEERS)/.installed  ## the live path beside bare clients (about 50 minutes on a quiet machine); writes benchmarks/*.json
	eval "$$($(PEERS)/bin/wardwatch up --data-dir .wardwatch/bench)" && \
	{ $(WARDWATCH_BENCH) latency --rates 10,100,200,500,1000 --seconds 8 --json benchmarks/latency.json && \
	$(WARDWATCH_BENCH) throughput --json benchmarks/throughput.json && \
	$(WARDWATCH_BENCH) growth --json benchmarks/growth.json && \
	$(WARDWATCH_BENCH) mix --json benchmarks/mix.json && \
	$(WARDWATCH_BENCH) scale --latency benchmarks/latency.json --throughput benchmarks/throughput.json \
	--growth benchmarks/growth.json --json benchmarks/scale.json; status=$$?; \
	$(PEERS)/bin/wardwatch down --data-dir .wardwatch/bench; exit $$status; }

tensorrt: $(FULL)/.installed  ## every part, two precisions and sizes, through torch-tensorrt without a GPU; writes benchmarks/tensorrt.json
	$(FULL)/bin/python -m tests.models.torch_tensorrt_rtx --json benchmarks/tensorrt.json

lock:  ## compile requirements/*.lock again (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements/base.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra train --extra openvino --extra test --constraint requirements/pins.txt pyproject.toml -o requirements/all.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra bench pyproject.toml -o requirements/bench.lock
	echo uv | uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header - -o requirements/uv.lock
	printf 'setuptools>=77\nwheel\n' | uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header - -o requirements/build.lock

faults: $(FULL)/.installed  ## kill workers in whole replays (ten minutes or more), write benchmarks/faults.json
	$(FULL)/bin/python -m pytest -x -s --timeout=3600 tests/integration/kills.py

schemas: $(FULL)/.installed  ## write deploy/schemas and deploy/asyncapi.yaml from the message classes
	$(FULL)/bin/python -m streaming.schemas

figures: $(FULL)/.installed  ## write the figures that README quotes from benchmarks/
	$(FULL)/bin/python -m streaming.readme_figures

train: $(FULL)/.installed  ## train models/reference again from the open data
	$(FULL)/bin/wardwatch train reference --data $${WARDWATCH_DATA:-../shared/data} --out models/reference

paper: $(FULL)/.installed  ## measure the model and its peers from the open data; writes benchmarks/paper/paper.{json,html}
	$(FULL)/bin/python -m training.paper --data $${WARDWATCH_DATA:-../shared/data} --out benchmarks/paper $(PAPER)

clean:  ## remove environments and local data
	rm -rf $(BASE) $(FULL) $(PEERS) .wardwatch
