# Every command that the README and the project's check use. `make` alone lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# On machines with many cores BLAS and OpenMP pools of every test process would fight for them.
PYTEST := $(BIN)/python -m pytest -n $(or $(WORKERS),2)

OUT    ?= codes
INDEX  ?= index
DEMO   ?= demo

.DEFAULT_GOAL := help
.PHONY: help setup demo encode test test-slow test-gpu lint format evaluate builtin-model bench-methods bench-ablation bench-training bench-grocery bench-encode bench-search clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv and install everything (uv if there is one, else venv and pip)

$(READY): pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
	  test -x $(BIN)/python || uv venv --quiet --python $(PYTHON) $(VENV); \
	  uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[dev]'; \
	else \
	  test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
	    command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && rm -rf $(VENV) && apt-get update -qq && apt-get install -qq -y python3-venv >/dev/null && $(PYTHON) -m venv $(VENV); \
	  } || { echo "error: $(PYTHON) cannot make a virtual environment; install python3-venv (apt install python3-venv) or uv" >&2; exit 1; }; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'; \
	fi
	@touch $(READY)

$(READY)-bench: $(READY)
	if command -v uv >/dev/null 2>&1; then uv pip install --quiet --python $(BIN)/python --editable '.[bench]'; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'; fi
	@touch $@

demo: $(READY) ## draw pictures (or SHARDS=... WEIGHTS=...), encode, build, ask, show: demo/page.html
	$(BIN)/python -m pipelines.demo --out $(DEMO) $(if $(WEIGHTS),--weights '$(WEIGHTS)') $(SHARDS)

encode: $(READY) ## encode SHARDS='...' into OUT=codes (MODEL=..., ARGS=... for more options)
	$(BIN)/encoder encode $(SHARDS) --out $(OUT) $(if $(MODEL),--model '$(MODEL)') $(ARGS)

test: $(READY) ## run the tests: no GPU, no network
	$(PYTEST)

test-slow: $(READY) ## run the tests that take minutes: kill -9 at random moments, large inputs
	$(BIN)/python -m pytest -m slow

test-gpu: $(READY) ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

lint: $(READY) ## ruff, format, mypy strict, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

evaluate: OUT = evaluation
evaluate: $(READY) ## score MODEL on TEST='...' (and TRAIN='...' or INDEX=...) by PRESET=full|test-only|unseen-classes
	$(BIN)/python -m pipelines.evaluate $(or $(PRESET),full) --out '$(OUT)' $(if $(MODEL),--model '$(MODEL)') \
	  $(foreach spec,$(TEST),--test '$(spec)') $(foreach spec,$(TRAIN),--train '$(spec)') \
	  $(if $(filter-out file,$(origin INDEX)),--database '$(INDEX)') $(ARGS)

builtin-model: $(READY) ## train the built-in model: CIFAR='train-*.tar' (about 100 minutes on 2 cores)
	$(BIN)/encoder train $(CIFAR) --loss mid=orthohash --half --overwrite --out encoder/model/builtin.safetensors

bench-methods: $(READY) ## every hash function and loss on the features of MODEL=...: TRAIN='...' TEST='...'
	$(BIN)/python benchmarks/methods.py '$(MODEL)' --train $(TRAIN) --test $(TEST)

bench-ablation: $(READY) ## what each part of the recipe is worth: TRAIN='...'
	$(BIN)/python benchmarks/ablation.py $(TRAIN)

bench-training: $(READY) ## training rate against bare forward and backward passes: TRAIN='...'
	$(BIN)/python benchmarks/training.py $(TRAIN)

bench-grocery: $(READY) ## retrieval on real photos: GROCERY=folder of shards, WEIGHTS=resnet50 file
	$(BIN)/python benchmarks/grocery.py '$(GROCERY)' '$(WEIGHTS)'

bench-encode: $(READY) ## encoding against its roofline and against loops of a user: SHARDS='...' WEIGHTS=... (hours; DEVICE=cuda, ARGS=...)
	$(BIN)/python -m benchmarks.encode $(SHARDS) $(if $(WEIGHTS),--weights '$(WEIGHTS)') $(if $(DEVICE),--device $(DEVICE)) $(ARGS)

bench-search: $(READY)-bench ## every search over the same codes, 1 M and 10 M, against FAISS, usearch and LanceDB (hours; ARGS=...)
	$(BIN)/python -m benchmarks.search $(ARGS)

clean: ## remove what the targets made (not codes/ and index/)
	rm -rf $(VENV) $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
