# make quickstart   set up and run the loop on a small real model: seven minutes on two idle cores after the download
# make test         set up and run the tests: about forty minutes on two cores after the download
# make docs         build the documentation in build/site; a broken link fails: half a minute after make install
# make soak         kill, interrupt and starve small runs of fakes some hundred times: MINUTES=180 at most
PYTHON ?= python3
BIN := .venv/bin
TORCH := torch==2.13.0+cpu
TORCH_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: install quickstart test check docs soak audit newest

install: .venv/installed

# torch's CPU build is looked for where pip is configured to look, then in PyTorch's own wheel index.
.venv/installed: requirements-cpu.txt pyproject.toml
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); sys.exit(0 if ok else "crescent needs Python 3.11 to 3.13, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.11 ...")'
	@echo 'Setting up .venv with pinned packages: 2 to 10 minutes, 3.4 GB.'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps '$(TORCH)' 2>/dev/null \
		|| $(BIN)/python -m pip install --quiet --no-deps --index-url $(TORCH_INDEX) '$(TORCH)'
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-cpu.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

quickstart: install
	$(BIN)/python -m crescent.warm_start +start=quickstart
	$(BIN)/python -m crescent.loop +experiment=quickstart

# Two files of tests at once where there is memory for two models; WORKERS=0: one after another, in this process.
WORKERS ?= $(shell awk '/^MemAvailable/ {print ($$2 > 14000000) ? 2 : 0}' /proc/meminfo 2>/dev/null || echo 0)

test: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Open build/site/index.html: no server and no network is needed to read it.
docs: install .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --clean --strict

# At the pinned versions where a package is pinned.
.venv/docs: pyproject.toml
	$(BIN)/python -m pip install --quiet --no-build-isolation --constraint requirements-cpu.txt -e '.[docs]'
	@touch $@

# The result goes to tests/reliability/last_soak.json and, by hand, into docs/reliability.md (--table prints it).
MINUTES ?= 180

soak: install
	$(BIN)/python tests/reliability/soak.py --minutes $(MINUTES)

# Known vulnerabilities of the pinned packages, where PyPI can be asked.
audit: install
	$(BIN)/python -P launch/audit.py

# What the newest allowed versions would change in both tested sets. Needs uv (pip install uv); installs nothing.
newest:
	$(PYTHON) -P launch/newest.py
