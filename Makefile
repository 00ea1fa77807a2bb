# `make demo` and `make test` create their environment in .venv and install what they need.

PYTHON ?= python3
BIN := .venv/bin
# REQUIRE_PARTS=1 (CI) also installs PyTorch, for the parity tests against the original libraries.
comma := ,
EXTRAS := $(if $(filter 1,$(REQUIRE_PARTS)),test$(comma)export,test)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo demo-stop test test-full lint protos checkpoints clean

demo: .venv/.installed
	$(BIN)/python demo/run.py start

demo-stop: .venv/.installed
	$(BIN)/python demo/run.py stop

# Three processes for two cores, because tests mostly wait; each with whole files, so that the
# servers a file starts are started once, in the order of `testpaths`.
test: lint
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# Some minutes more: thousands of broken inputs, half precision on every real radiograph, Triton's
# load generator, and the wheel in an empty environment of each supported Python.
test-full: test
	$(BIN)/python -m pytest tests/extended
	CXREVAL_RADIOGRAPHS=198 $(BIN)/python -m pytest tests/unit/test_preprocess.py tests/integration/test_export.py

lint: .venv/.installed-$(EXTRAS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint

protos: .venv/.installed-$(EXTRAS)
	PYTHON=$(abspath $(BIN))/python protos/generate.sh $(abspath src)

# Trains the demo's checkpoints anew.
checkpoints: .venv/.installed-$(EXTRAS)
	$(BIN)/python demo/train_checkpoints.py

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[inference,leaderboard,worker]'
	touch $@

.venv/.installed-$(EXTRAS): .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[$(EXTRAS)]'
	touch $@ .venv/.installed

clean: demo-stop
	rm -rf .venv .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
