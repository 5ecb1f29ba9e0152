# Every command of the project: the README, the checks of a change, and the hooks of pre-commit call these targets.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
UV      = $(shell uv --version >/dev/null 2>&1 && echo uv)
# On machines with many cores BLAS and OpenMP pools of every test process would fight for them.
PYTEST := $(BIN)/python -m pytest -n $(or $(WORKERS),2)
# The tests of `make test-fast`, as arguments of pytest.
FAST   ?= tests/contract tests/unit $(addprefix --ignore tests/,contract/test_commands.py contract/test_inputs.py $(addprefix unit/encoder/,training/test_job.py model stream))

OUT    ?= codes
INDEX  ?= index
DEMO   ?= demo

.DEFAULT_GOAL := help
.PHONY: help setup demo serve encode living evaluate check lint format test test-fast test-slow faults faults-long test-gpu test-browser test-milvus test-ray docs page-picture builtin-model bench-methods bench-ablation bench-training bench-grocery bench-encode bench-search bench-hostile bench-service bench-null-gpu gpu-check lint-containers clean

##@ Use

help: ## list these targets
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv, install everything there, about 7 GB (by uv if there is one, else venv and pip), and compile the scan
	$(BIN)/indexer warm

INSTALL = $(if $(UV),uv pip install --compile-bytecode --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check) --editable

$(READY): pyproject.toml
	@echo "setup: about 7 GB into $(VENV), most of it torch and faiss with their CUDA libraries (a GPU is not needed)."
	@echo "setup: 1 to 3 minutes with uv and a fast network, up to 10 with pip; this is $(if $(UV),uv,pip)."
	@test -x $(BIN)/$(if $(UV),python,pip) || { $(if $(UV),uv venv --quiet --clear --python $(PYTHON) $(VENV),$(PYTHON) -c 'import ensurepip' 2>/dev/null && $(PYTHON) -m venv $(VENV)); } || { \
	  rm -rf $(VENV); \
	  echo "error: $(PYTHON) cannot make a virtual environment; $(if $(UV),name another one (make PYTHON=python3.12),install python3-venv (apt install python3-venv) or uv), and run make again" >&2; \
	  exit 1; }
	$(if $(UV),,@echo "setup: pip says nothing while it unpacks, after 'Installing collected packages': a few minutes.")
	$(INSTALL) '.[dev]'
	@touch $@

$(READY)-containers: $(READY)
	$(INSTALL) '.[containers]'
	@touch $@

$(READY)-browser: $(READY)
	$(INSTALL) '.[browser]'
	@touch $@

$(READY)-ray: $(READY)
	$(INSTALL) '.[ray]'
	@touch $@

$(READY)-bench: $(READY)
	$(INSTALL) '.[bench]'
	@touch $@

demo: $(READY) ## draw pictures and train on some (or SHARDS=... WEIGHTS=...), encode, build, search, show: demo/page.html
	$(BIN)/python -m pipelines.demo --out $(DEMO) $(if $(WEIGHTS),--weights '$(WEIGHTS)') $(SHARDS)

serve: $(READY) ## serve INDEX=index over HTTP, with a page to search it by (ARGS=... for more options)
	$(BIN)/indexer serve $(INDEX) $(ARGS)

encode: $(READY) ## encode SHARDS='...' into OUT=codes (MODEL=..., ARGS=... for more options)
	$(BIN)/encoder encode $(SHARDS) --out $(OUT) $(if $(MODEL),--model '$(MODEL)') $(ARGS)

living: $(READY) ## bring OUT=codes up to date with SHARDS='...', and INDEX=index with them (MODEL=..., ARGS=... for more of sync)
	$(BIN)/encoder encode $(SHARDS) --out $(OUT) $(if $(MODEL),--model '$(MODEL)')
	$(BIN)/indexer sync $(OUT) --index $(INDEX) $(ARGS)

evaluate: OUT = evaluation
evaluate: $(READY) ## score MODEL on TEST='...' (and TRAIN='...' or INDEX=...) by PRESET=full|test-only|unseen-classes
	$(BIN)/python -m pipelines.evaluate $(or $(PRESET),full) --out '$(OUT)' $(if $(MODEL),--model '$(MODEL)') \
	  $(foreach spec,$(TEST),--test '$(spec)') $(foreach spec,$(TRAIN),--train '$(spec)') \
	  $(if $(filter-out file,$(origin INDEX)),--database '$(INDEX)') $(ARGS)

##@ Check

check: lint test-fast ## before each commit: lint and the fast tests

lint: $(READY) ## ruff, format, mypy strict, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(READY) ## all tests that need no GPU and no network, a few minutes (WORKERS=2)
	$(PYTEST)

test-fast: $(READY) ## the tests of single modules and of documents
	$(PYTEST) $(FAST)

test-slow: $(READY) ## the tests that take minutes: kill -9 at random moments, large inputs
	$(BIN)/python -m pytest -m slow

# Each campaign prints what it counted and what was wrong; docs/RELIABILITY.md says what it tries. No threads: processes are forked.
CAMPAIGN = OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults

faults: $(READY) ## a few faults of each kind: kills, failing calls, damaged files, limits, readers (about 5 minutes)
	$(CAMPAIGN).histories --count 300
	$(CAMPAIGN).points --kills 1 --errors 1
	$(CAMPAIGN).calls --each 6
	$(CAMPAIGN).starts --each 2
	$(CAMPAIGN).kills --count 60
	$(CAMPAIGN).limits --each 2
	$(CAMPAIGN).readers --readers 2 --publishes 20
	$(CAMPAIGN).mutants --flips 100 --cuts 60

faults-long: $(READY) ## all of them: every step of every operation, 10,000 histories, 1,000 kills (hours; SEED=...)
	$(CAMPAIGN).histories --count 10000 --seed $(or $(SEED),0)
	$(CAMPAIGN).points --kills 0 --errors 0 --jobs $(or $(WORKERS),2)
	$(CAMPAIGN).calls --each 0 --jobs $(or $(WORKERS),2)
	$(CAMPAIGN).starts --each 30 --seed $(or $(SEED),0)
	$(CAMPAIGN).kills --count 1000 --seed $(or $(SEED),0)
	$(CAMPAIGN).limits --each 64 --seed $(or $(SEED),0)
	$(CAMPAIGN).readers --readers 4 --publishes 200 --seed $(or $(SEED),0)
	$(CAMPAIGN).mutants --flips 4000 --cuts 3000 --seed $(or $(SEED),0)

test-gpu: $(READY) ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

test-browser: $(READY)-browser ## drive the service's page by Chromium (installed by apt-get if root), at most 5 minutes; screenshots: build/screenshots
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium >/dev/null; } || { \
	  echo "error: chromium is not installed; install it (apt install chromium)" >&2; exit 1; }
	timeout $(or $(SECONDS),300) $(BIN)/python -m pytest -n 0 -m browser tests/browser

# One process: each module of tests starts a cluster of its own.
test-ray: $(READY)-ray ## the tests on clusters of Ray with several nodes, all on this machine, about 3 minutes
	timeout $(or $(SECONDS),600) $(BIN)/python -m pytest -n 0 -m ray tests/ray

# Milvus Lite is kept out of $(VENV): version 3 knows no binary vectors, and its FAISS would overwrite ours. Of 2.5 only the server is run.
LITE := $(VENV)-milvus-lite

$(LITE)/lib: $(READY)
	$(if $(UV),uv pip install --quiet --no-deps --target $@,$(BIN)/python -m pip install --quiet --no-deps --target $@) 'milvus-lite>=2.5,<3'

test-milvus: $(if $(MILVUS_URI),$(READY),$(LITE)/lib) ## export to a Milvus server, MILVUS_URI=http://HOST:19530 (MILVUS_TOKEN=...), else to Milvus Lite
	MILVUS_LITE='$(abspath $(LITE))/lib/milvus_lite' timeout $(or $(SECONDS),300) $(BIN)/python -m pytest -n 0 -m milvus tests/milvus

lint-containers: $(READY)-containers ## check Dockerfile, compose files and manifests (hadolint, yamllint, Kubernetes' schemas; dclint, if there is a node)
	$(BIN)/hadolint Dockerfile
	$(BIN)/yamllint --strict deploy
	$(BIN)/python -m pytest -n 0 -m containers tests/deploy
	@command -v npx >/dev/null || { echo "lint-containers: there is no npx, compose files are not checked" >&2; exit 0; }; \
	  npx --yes dclint@3 --max-warnings 3 compose.yaml compose.cuda.yaml

docs: $(READY) ## write docs/CLI.md from the commands and docs/INPUTS.md from runs, and draw docs/speed.svg from docs/BENCHMARKS.md
	$(BIN)/python docs/generate_cli.py
	$(BIN)/python -m docs.generate_inputs
	$(BIN)/python benchmarks/chart.py

page-picture: test-browser ## take docs/page.png, the README's picture, from a screenshot of the tests
	$(BIN)/python docs/page_picture.py build/screenshots/page.png docs/page.png

clean: ## remove what the targets made (not codes/ and index/)
	rm -rf $(VENV) $(LITE) $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

##@ Measure

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

bench-null-gpu: OUT = null-gpu
bench-null-gpu: $(READY) ## what the host does around a GPU that costs nothing (draws 7 GB of photos into OUT=null-gpu; ARGS=--holds: who keeps the lock)
	$(BIN)/python -m benchmarks.encode.null_gpu $(OUT) --images 20000 $(ARGS)

bench-service: $(READY) ## a service under load beside the engine in a process, 1 M rows: takes wrk and hey (apt install wrk hey; ARGS=...)
	$(BIN)/python -m benchmarks.service.load $(ARGS)

bench-hostile: $(READY) ## a service under hostile clients and drawn requests, beside an honest one; exits 1 if something is not kept (minutes; ARGS=...)
	$(INSTALL) '.[service-check]'
	$(BIN)/python -m benchmarks.service.hostile $(ARGS)

gpu-check: $(READY) ## check all that uses a GPU on the one at hand: right, how fast, what is missing; nine minutes at most (docs/GPU.md)
	$(BIN)/python -m benchmarks.gpu_check --out gpu-check $(ARGS)
