# Two commands on a fresh machine with Python and make: `make demo` and `make test`.
PYTHON ?= python3
TORCH ?= torch==2.13.0
PROMPT ?=
export PROMPT  # so that the shell sees it as it is, quotes and all
MODEL ?= model/pretrained
PORT ?= 8000
DATA ?= data
BIN := .venv/bin

.PHONY: setup demo serve test proof lint
.DELETE_ON_ERROR:

setup: .venv/installed

.venv/installed: pyproject.toml
	@command -v $(PYTHON) >/dev/null || \
		{ echo "make: Python 3.11 or newer is needed, and no '$(PYTHON)' was found"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: Python 3.11 or newer is needed, and '$(PYTHON)' is $$($(PYTHON) -V)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "make: '$(PYTHON)' lacks the venv module (on Debian: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

demo: setup
	@$(BIN)/kinetograph demo --model "$(MODEL)" --output out/demo.mp4 $(if $(PROMPT),--prompt "$$PROMPT")

serve: setup
	@$(BIN)/kinetograph serve --model "$(MODEL)" --port "$(PORT)" --data "$(DATA)"

test: setup
	$(BIN)/pytest -m "not proof"

proof: setup
	$(BIN)/pytest -m proof -s

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
