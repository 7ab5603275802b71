# Every target sets up what it needs in .venv; PYTHON is the interpreter that makes it (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test soak check speed report

demo: .venv/installed
	$(BIN)/python -m bench.grid demo

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

soak: .venv/installed
	$(BIN)/python -m pytest -m soak

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -q tests/test_floors.py

speed: .venv/installed
	$(BIN)/python -m bench.speed

report: .venv/installed
	$(BIN)/python -m bench.report results/demo --readme docs/results.md
	$(BIN)/python -m bench.report results/caltech-real --readme README.md --block caltech --show table
	$(BIN)/python -m bench.report results/caltech-recipes
	$(BIN)/python -m bench.report results/field --readme README.md --block field --show field
	$(BIN)/python -m bench.report results/baselines --readme README.md --block baselines --show baselines
	$(BIN)/python -m bench.report results/stress --readme README.md --block stress --show stress
	$(BIN)/python tools/gallery.py

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@
