# make demo: install and run every stage on the sample images.   make test: all tests.   make bench: how fast cropping is.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test lint bench clean

demo: $(READY)
	$(BIN)/prep demo demo

test: $(READY) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m 'not full_size'

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/crop.py

# The versions in constraints.txt are those that the tests ran on.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[8bit,control,dadaptation,jxl,lion,prodigy,raw,ray,tensorboard,upscale,dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) demo
