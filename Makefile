# Every target makes the environment that it needs first; PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --constraint constraints.txt
DEMO := .venv/.demo
DEV := .venv/.dev

# Test data beside the checkout is used where it lies there; the suite passes without it.
ifneq ($(wildcard ../shared/parity),)
export SACMA_PARITY ?= $(abspath ../shared/parity)
endif
ifneq ($(wildcard ../shared/data),)
export SACMA_DATA ?= $(abspath ../shared/data)
endif
ifneq ($(wildcard ../shared/faults),)
export SACMA_FAULTS ?= $(abspath ../shared/faults)
endif

.PHONY: demo test parity lint docs docs-build bench bench-gpu fuzz soak clean

# The CPU build of torch comes first: nothing else may bring another one along.
.venv/.torch: constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch
	touch $@

$(DEMO): .venv/.torch pyproject.toml src/sacma/version.py
	$(PIP) --editable '.[media,report]'
	touch $@

$(DEV): .venv/.torch pyproject.toml src/sacma/version.py
	$(PIP) --editable '.[dev]'
	touch $(DEMO) $@

demo: $(DEMO)
	$(BIN)/sacma demo --force

# Where no bytecode is kept, each of the many processes of the tests would compile all modules again.
# A worker takes a file at a time, so that fixtures are made once, in the order of tests/conftest.py.
test: $(DEV)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

parity: $(DEV)
	$(BIN)/pytest --numprocesses auto tests/parity tests/speed tests/training/test_published_weights.py

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Both make the pages of commands, methods and names from src.
docs: $(DEV)
	$(BIN)/mkdocs serve

docs-build: $(DEV)
	$(BIN)/mkdocs build --strict --quiet

# Each prints target and figure of each line; a missed target does not stop the next.
bench: $(DEV)
	$(BIN)/python speed/bench.py
	-$(BIN)/python speed/startup.py
	-$(BIN)/python speed/extraction.py --film 240

GPU_FIGURES ?= gpu-figures
bench-gpu: $(DEV)
	PYTHON=$(abspath $(BIN))/python speed/gpu.sh $(GPU_FIGURES)

# Readers of files, then the decoder; half of the time each.
FUZZ_SECONDS ?= 3600
fuzz: $(DEV)
	SACMA_FUZZ_SECONDS=$$(($(FUZZ_SECONDS) / 2)) $(BIN)/pytest -rP tests/attacks/test_readers.py tests/attacks/test_clips.py

# The page under 20 visitors; SOAK_PREDICTIONS=100 makes it short.
soak: $(DEV)
	$(BIN)/python tests/attacks/soak.py

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
