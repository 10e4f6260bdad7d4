# Two commands on a fresh machine with Python and make: `make demo` and `make test`.
PYTHON ?= python3
TORCH ?= torch==2.13.0
PROMPT ?=
export PROMPT  # so that the shell sees it as it is, quotes and all
MODEL ?= model/pretrained
PORT ?= 8000
DATA ?= data
BIN := .venv/bin

.PHONY: setup demo serve test proof board pictures lint audit
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

# The model's scores on the physics suite: a clip of each of its 136 prompts, within a quarter of an
# hour on two idle cores. BOARD_CASES=17 tries one prompt of each family.
BOARD ?= docs/board$(patsubst model/pretrained%,%,$(filter model/pretrained-%,$(MODEL))).md
BOARD_CASES ?=
BOARD_REPEATS ?= 1
BOARD_NAME ?= $(if $(filter model/pretrained,$(MODEL)),kinetograph-mini,$(notdir \
	$(patsubst model/pretrained-%,kinetograph-%,$(MODEL))))
# Other weights, other clips: the folder is named by what is in the checkpoint.
BOARD_DIR = out/board/$(shell (echo "$(MODEL)"; cat "$(MODEL)"/*/*.safetensors) 2>/dev/null | \
	sha256sum | cut -c 1-12)
board: setup
	$(BIN)/python -m benchmarks.physics prompts -o $(BOARD_DIR)/prompts.jsonl \
		--repeats $(BOARD_REPEATS) $(if $(BOARD_CASES),--limit $(BOARD_CASES))
	$(BIN)/kinetograph generate --model "$(MODEL)" --prompts $(BOARD_DIR)/prompts.jsonl \
		-o $(BOARD_DIR)/clips
	$(BIN)/python -m benchmarks.physics run --videos $(BOARD_DIR)/clips -o $(BOARD_DIR)/report \
		--name "$(BOARD_NAME)" --board "$(BOARD)"

# The pictures of docs/studio.md, taken by a browser (Debian's chromium) of the real thing.
BEGIN ?=
pictures: setup
	$(BIN)/python -m tests.studio.pictures --model "$(MODEL)" --only "$(BEGIN)"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Known faults of what is installed, by the Python Packaging Advisory Database; it needs a network.
audit: setup
	$(BIN)/pip-audit --skip-editable --progress-spinner off
