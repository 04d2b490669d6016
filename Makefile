# The five things one does here. `make` alone lists them; PYTHON chooses the interpreter of an environment.
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python)

.PHONY: help install test lint check docs

help:
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /  make \1	/'

install: ## create .venv and install everything that the program and its tests need
	python3 -m venv .venv
	.venv/bin/pip install -q -r requirements-dev.txt

test: ## run all tests
	$(PYTHON) -m pytest -q -n auto --dist loadfile

lint: ## ruff (rules and format) and mypy
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

check: ## a short training, validation and detection
	.ci/check $(PYTHON)

docs: ## write the generated tables of docs/ again
	$(PYTHON) -m utils.losses --write docs/losses.md
	$(PYTHON) -m utils.assigners --write docs/losses.md
