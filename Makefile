# Two commands do everything on a machine that has Python 3.11-3.13, a C compiler (for pesq) and git:
#   make demo    install, enhance noisy speech, train a tiny SEGAN for a minute, write demo/index.html
#   make test    install, lint, run the tests and the notebooks
.DEFAULT_GOAL := help
PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help install demo test test-slow lint notebooks bench figures clean

help: ## show this help
	@echo "ganse_tf: GAN speech enhancement to read, run and compare"
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

# The stamp lives inside the environment: delete .venv and everything is made again.
$(VENV)/installed: setup.cfg pyproject.toml
	"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"ganse_tf needs Python 3.11, 3.12 or 3.13; this is {v[0]}.{v[1]}. Try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	"$(PYTHON)" -m venv "$(VENV)"
	"$(BIN)/python" -m pip install --quiet --upgrade pip
	"$(BIN)/python" -m pip install --quiet --editable ".[dev]"
	@touch "$@"

install: $(VENV)/installed ## create the environment in .venv and install the package

demo: $(VENV)/installed ## enhance, train for a minute, print the score table, write demo/index.html
	"$(BIN)/python" -m ganse_tf demo --out demo

test: $(VENV)/installed lint ## lint, unit tests, notebooks; JOBS=2 at a time
	"$(BIN)/python" -m pytest -n $(JOBS)
	"$(BIN)/python" notebooks/build.py --check
	"$(BIN)/python" -m pytest -n $(JOBS) --nbmake --nbmake-timeout=900 notebooks

lint: $(VENV)/installed ## ruff
	"$(BIN)/ruff" check .

test-slow: $(VENV)/installed ## the tests marked slow: paper-size steps, learning on the toy corpus
	"$(BIN)/python" -m pytest -m slow

bench: $(VENV)/installed ## speed against PyTorch (installs torch into benchmarks/.venv-torch)
	"$(BIN)/python" -m benchmarks.speed

clean: ## remove the environment and everything generated
	rm -rf "$(VENV)" build dist demo .pytest_cache .ruff_cache ganse_tf.egg-info
