# Two commands: `make report` and `make test`. Each needs only Python >= 3.11, git and make on the machine.

PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2
PIP_WHEEL := $(wildcard bootstrap/pip-*.whl)

.PHONY: report test test-all lint clean

report: .venv/installed
	$(BIN)/exactscore report --jobs $(JOBS)

test: .venv/installed
	$(BIN)/pytest -n $(JOBS) -m "not slow and not gpu and not network"

# everything, the slow lane and whatever the machine has (GPU, network) included
test-all: .venv/installed
	$(BIN)/pytest -n $(JOBS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

# The stamp file is newer than what it was made from, so a second run installs nothing. Some systems ship Python
# without ensurepip; there the environment is made without pip, and the pip in bootstrap/ installs itself into it.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "exactscore needs Python >= 3.11; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || { $(PYTHON) -m venv --clear --without-pip .venv && \
		$(BIN)/python $(PIP_WHEEL)/pip install --quiet --no-index $(PIP_WHEEL); }
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv .exactscore build *.egg-info
