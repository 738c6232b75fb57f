# Everything from a bare clone with Python 3.11 to 3.13 and make. Without make: see README.md.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install train test smoke corpus part1 handin bench lint clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/installed ## make .venv and install senone with its tested dependencies

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -e '.[dev]' -c constraints.txt
	@touch $@

train: install ## make the speech, train, draw, write the submission: the main job
	$(BIN)/python scripts/train.py $(ARGS)

test: install ## run the tests
	$(BIN)/python -m pytest $(ARGS)

smoke: install ## the whole way on a tiny corpus, in seconds
	$(BIN)/python scripts/train.py experiment=smoke $(ARGS)

corpus: install ## make the speech alone
	$(BIN)/python scripts/make_corpus.py $(ARGS)

part1: install ## train the numpy network on handwritten digits and draw its curves
	$(BIN)/python scripts/part1.py $(ARGS)

runs/part1/train_loss.png: .venv/installed
	$(BIN)/python scripts/part1.py

handin: install runs/part1/train_loss.png ## pack Part 1 as the course takes it: handin.tar
	$(BIN)/python scripts/handin.py $(ARGS)

bench: install ## measure how fast everything is
	$(BIN)/python scripts/bench.py all $(ARGS)

lint: install ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove .venv and caches; data, runs and submissions stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
