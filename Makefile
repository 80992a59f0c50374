# Two commands for a fresh machine: `make demo` and `make test`. Both set up their own virtual environment first.
PYTHON ?= python3
VENV ?= .venv
# Another torch, or another index for it: make demo TORCH="torch==2.13.0+cu130" TORCH_INDEX=https://...
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
# Processes that share the tests; each runs on one thread
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
export PIP_NO_WARN_SCRIPT_LOCATION := 1

.PHONY: demo test lint docs asan tsan clean

demo: $(VENV)/.demo
	$(BIN)/saccade demo --out runs/demo

test: $(VENV)/.test lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

# The native module under AddressSanitizer and UBSan, and under ThreadSanitizer: built aside with gcc and cmake, work shared among
# three threads in the smallest pieces. Each sanitizer must first see a fault that is there.
NATIVE_TESTS := tests/kernels tests/layers/test_packed.py tests/dehaze/test_engines.py tests/events/test_native_mutations.py \
	tests/deploy/test_native_engine.py tests/deploy/test_engine_mutations.py
RUNTIMES = $(foreach name,$(1),$(shell gcc -print-file-name=lib$(name).so))
SANITIZED = SACCADE_NATIVE="$$(ls $(CURDIR)/build/$(1)/_native*.so)" \
	SACCADE_ENGINE="$$(ls $(CURDIR)/build/$(1)/engine/_engine*.so)" PYTHONPATH=$(CURDIR)/tests/sanitizers:$(CURDIR)/src \
	OMP_NUM_THREADS=3 SACCADE_TEST_THREADS=3 PYTHONDONTWRITEBYTECODE=1

asan: build/asan/.built
	! $(call SANITIZED,asan) $(ASAN) $(BIN)/python tests/sanitizers/faults.py overflow 2>/dev/null
	$(call SANITIZED,asan) $(ASAN) $(BIN)/python -m pytest -p no:cacheprovider $(NATIVE_TESTS)
asan: ASAN = SACCADE_MUTATIONS=34000 SACCADE_PROGRAM_MUTATIONS=2000 ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	LD_PRELOAD="$(call RUNTIMES,asan ubsan)"
build/asan/.built: SANITIZERS = address,undefined

tsan: build/tsan/.built
	! $(call SANITIZED,tsan) $(TSAN) $(BIN)/python tests/sanitizers/faults.py race 2>/dev/null
	$(call SANITIZED,tsan) $(TSAN) $(BIN)/python -m pytest -p no:cacheprovider $(NATIVE_TESTS)
tsan: TSAN = TSAN_OPTIONS="ignore_noninstrumented_modules=1 exitcode=66" \
	LD_PRELOAD="$(call RUNTIMES,tsan) $(CURDIR)/build/tsan/libthreads.so" setarch -R
build/tsan/.built: SANITIZERS = thread

build/%/.built: $(VENV)/.test $(wildcard native/* native/engine/*)
	$(PIP) "nanobind>=2.4"
	cmake -S native -B $(@D) -DSACCADE_SANITIZE=$(SANITIZERS) -DPython_EXECUTABLE=$(abspath $(BIN))/python
	cmake --build $(@D)
	@touch $@

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
