# Two commands for a fresh machine: `make demo` and `make test`. Both set up their own virtual environment first.
PYTHON ?= python3
VENV ?= .venv
# Another torch, or another index for it: make demo TORCH="torch==2.13.0+cu130" TORCH_INDEX=https://...
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
export PIP_NO_WARN_SCRIPT_LOCATION := 1

.PHONY: demo test lint docs clean

demo: $(VENV)/.demo
	$(BIN)/saccade demo --out runs/demo

test: $(VENV)/.test lint
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

# torch comes first and alone, so that no other requirement can pull in a larger build of it
$(VENV)/.torch:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..."; exit 1; }
	@echo "making $(VENV) and installing $(TORCH) (200 MB for CPUs, some gigabytes with CUDA)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	@touch $@

# the package once, with its native part; what each command needs beside it comes without building it again
$(VENV)/.package: $(VENV)/.torch pyproject.toml $(wildcard native/*)
	@echo "building the native part and installing the package (a minute or two)"
	$(PIP) --editable .
	@touch $@

$(VENV)/.demo $(VENV)/.test $(VENV)/.docs: $(VENV)/.package
	@echo "installing what 'make $(patsubst .%,%,$(notdir $@))' needs (a minute or two, by the network)"
	$(PIP) $$($(BIN)/python tools/requirements_of.py $(patsubst .%,%,$(notdir $@)))
	@touch $@

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache
