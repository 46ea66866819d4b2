# Two commands on a fresh machine: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
# Number of processes for the tests, each with one thread.
WORKERS ?= 2
SHARES = $(BIN)/python -m pytest -q tests/benchmarks/test_ratios.py --benchmark-only

.PHONY: demo test test-slow test-all check docs notebooks world bars build bench baseline aot architecture wheel
.DELETE_ON_ERROR:

.venv/installed: pyproject.toml setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt torch setuptools wheel ninja
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt --no-build-isolation -e '.[plot,test,dev,docs]'
	touch $@

demo: .venv/installed
	$(BIN)/diffexplain-fast demo

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Build the site of docs/ into site/; a warning, such as a link that leads nowhere, is an error.
docs: .venv/installed
	$(BIN)/python -m mkdocs build

# Run the notebooks of examples/ and store their outputs, after a change of what they show.
notebooks: .venv/installed
	$(BIN)/python -m tests.docs.notebooks

# Rooms, arrows, circles, doors, Any and lines; fails if a rule of the house is broken.
architecture: .venv/installed
	$(BIN)/python -m tests.architecture

# At most 12 minutes on two cores; test-all adds the tests that take longer.
test: check
	$(BIN)/python -m pytest -ra -n $(WORKERS) --dist worksteal -m "not slow"
	$(SHARES) --benchmark-compare=benchmarks/results/ratios.json --benchmark-compare-fail=median:50%

test-slow: .venv/installed
	$(BIN)/python -m pytest -ra -n $(WORKERS) --dist worksteal -m slow

test-all: test test-slow

# Our shares of plain autograd's time, with which make test compares later changes.
baseline: .venv/installed
	$(SHARES) --benchmark-json=benchmarks/results/ratios.json

# Build the models of the tiny world in world-build/: hours on a CPU, minutes on a GPU; it resumes where it stopped.
# The stage "ship" (recipe ship) then replaces the models that ship.
world: .venv/installed
	$(BIN)/python -m diffexplain_fast.tinyworld.recipe

# Measure the bars that the tiny world and its explanations must reach; writes benchmarks/results/.
bars: .venv/installed
	$(BIN)/python -m benchmarks.gates
	$(BIN)/python -m benchmarks.bars

# Compile csrc again after a change.
build: .venv/installed
	$(BIN)/python setup.py -q build_ext --inplace

# Compile the Triton kernels that changed for every chip; writes benchmarks/results/aot.json.
aot: .venv/installed
	$(BIN)/python -m benchmarks.aot

# Measure one optimisation iteration on the tiny world, against today's usual code.
bench: .venv/installed
	$(BIN)/diffexplain-fast bench run --threads 2 --device cpu --out benchmarks/results/iteration-cpu.jsonl

# Build the wheel with the CPU kernels inside, and try it in an empty environment without a compiler; leaves dist/*.whl.
wheel: .venv/installed
	benchmarks/wheel.sh
