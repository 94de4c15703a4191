# `make help` lists the targets. All that they need is Python 3.10 or newer, git and make.

PYTHON  ?= python3
SOURCE  ?= storyworld
PROFILE ?= quick
CORES   ?=
CLUSTER ?=

BIN   := .venv/bin
START := $(shell date +%s)

# Ends a recipe: prints how long it took, installation included, and keeps the exit code. $(1): what to do on failure.
finish = code=$$?; seconds=$$(( $$(date +%s) - $(START) )); \
	if [ $$code -eq 0 ]; then echo "== make $@: done in $$seconds s"; \
	else echo "== make $@: FAILED after $$seconds s. $(1)" >&2; fi; exit $$code

.PHONY: help book runs test coverage lock clean

help:  ## list the targets
	@echo "make TARGET [SOURCE=storyworld|picture_books] [PROFILE=quick|full] [CORES=n] [CLUSTER=slurm|generic]"; echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

OPTIONS = --profile $(PROFILE) $(if $(CORES),--cores $(CORES)) $(if $(CLUSTER),--cluster $(CLUSTER))
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadgroup
# The source travels in the environment: neither make nor a shell reads anything into its name.
book runs: export STORYLIB_SOURCE := $(value SOURCE)

book: .venv/.installed  ## train, evaluate, execute the notebooks and build the book (4 to 10 minutes on two cores; seconds when nothing changed)
	@$(BIN)/storylib book $(OPTIONS); $(call finish)

runs: .venv/.installed  ## train and evaluate only, without the book
	@$(BIN)/storylib runs $(OPTIONS); $(call finish)

test: .venv/.installed  ## style, types and every test (4 to 8 minutes)
	@( set -e; \
	  echo "== 1/4 ruff check: likely mistakes (seconds)"; $(BIN)/ruff check .; \
	  echo "== 2/4 ruff format: layout (seconds)"; $(BIN)/ruff format --check .; \
	  echo "== 3/4 mypy: types (half a minute the first time)"; $(BIN)/mypy storylib; \
	  echo "== 4/4 pytest: every test, two at a time (4 to 8 minutes)"; $(PYTEST) --durations=10 ); \
	$(call finish,The errors are above.)

coverage: .venv/.installed  ## every test, and which lines of storylib they run (longer)
	@echo "== pytest, two at a time, with coverage: the lines run in the tests' own processes, not in kernels and commands"; \
	$(PYTEST) --cov --cov-report=term; $(call finish,The errors are above.)

lock: .venv/.installed  ## update requirements.lock from pyproject.toml and constraints.txt (15 s)
	@echo "== resolving every dependency for Python 3.10 and newer"; \
	$(BIN)/uv pip compile pyproject.toml --all-extras --group language-model --universal --python-version 3.10 \
	  --constraint constraints.txt --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet \
	  -o requirements.lock; $(call finish,requirements.lock is unchanged.)

clean:  ## delete build outputs; downloads, features and run records stay (cache/, runs/)
	@echo "== deleting _build and .snakemake"; rm -rf _build .snakemake; $(call finish)

# The environment, exactly as locked. uv is itself in the lock and five times as fast as pip, which is the fallback.
.venv/.installed: requirements.lock pyproject.toml setup.py
	@( set -e; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	    echo "== This needs Python 3.10 or newer as '$(PYTHON)', which is: $$($(PYTHON) --version 2>&1)."; \
	    echo "   Install one, or name one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; } >&2; \
	  echo "== 1/4 a virtual environment in .venv, with $$($(PYTHON) --version) (10 s)"; \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || rm -rf .venv; \
	  [ -d .venv ] || $(PYTHON) -m venv .venv || { \
	    rm -rf .venv; echo "== On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	  echo "== 2/4 the installer uv, as pinned in requirements.lock (10 s)"; \
	  awk '/^uv==/ {on = 1} on {print} on && !/\\$$/ {exit}' requirements.lock > .venv/uv.lock; \
	  echo "== 3/4 every package of requirements.lock: about 3 GB to download, 7 GB on disk (1 to 5 minutes)"; \
	  { $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock \
	    && VIRTUAL_ENV="$$PWD/.venv" $(BIN)/uv pip sync --require-hashes requirements.lock; } || { \
	    echo "== uv failed; the same with pip (3 to 10 minutes)"; \
	    $(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r requirements.lock; }; \
	  echo "== 4/4 storylib itself, editable (5 s)"; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	  touch $@; echo "== the environment is ready after $$(( $$(date +%s) - $(START) )) s" ) || { \
	  echo "== The environment could not be made; the error is above. The same command tries again." >&2; exit 1; }
