# Stepbox. `make demo` and `make test` do everything on a fresh Debian or Ubuntu machine with python3 and make.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench lock security-table fmt clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

help:
	@echo "make demo   install into .venv and run a real flow in the embedded sandbox"
	@echo "make test   install, start what the tests need, run every test"
	@echo "make check  lint, types and import contracts"
	@echo "make bench  the benchmarks"
	@echo "make lock   pin the dependencies anew"
	@echo "make security-table   the table of attacks in docs/security.md, from the tests"

$(INSTALLED): pyproject.toml requirements/dev.txt scripts/setup.py
	@$(PYTHON) scripts/setup.py $(VENV)
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/python scripts/demo.py

test: $(INSTALLED)
	@$(BIN)/python scripts/services.py run --early -- $(BIN)/pytest -n 3 --dist loadfile $(PYTEST_ARGS)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	@$(BIN)/python tests/benchmarks/run.py

lock: $(INSTALLED)
	@$(BIN)/python scripts/lock.py

security-table: $(INSTALLED)
	@$(BIN)/python scripts/security_table.py

fmt: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .stepbox dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
