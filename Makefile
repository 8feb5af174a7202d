# Needs Python 3.11, 3.12 or 3.13 and nothing else: everything goes into .venv.
# Another Python than the one found: make env PYTHON=/path/to/python3.12

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?=
CANDIDATES := $(or $(PYTHON),python3.12 python3.13 python3.11 python3 python)
UV := $(or $(wildcard $(BIN)/uv),uv)

# True of an interpreter that can make the environment: its version, and the parts of the
# standard library that Debian and Ubuntu package apart.
USABLE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout=300 \
	--nbval-sanitize-with notebooks/sanitize.cfg

# Not those of few cells last: one of them trains for a minute, and the other process would wait.
BY_NAME := --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help env demo check test gpu book lab lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' Makefile

env: $(STAMP) ## make .venv and install the versions of requirements.txt into it, all extras

# The stamp is written last, so an interrupted installation is taken up again. An environment
# that works is kept when the lock changes, and remade when it is broken.
$(STAMP): requirements.txt pyproject.toml
	@rm -f $(STAMP)
	@if $(BIN)/python -c '$(USABLE)' && $(BIN)/python -m pip --version; then exit 0; fi \
		>/dev/null 2>&1; \
	for python in $(CANDIDATES); do \
		if "$$python" -c '$(USABLE)' >/dev/null 2>&1; then \
			exec "$$python" -m venv --clear $(VENV); \
		fi; \
	done; \
	echo "bckd needs Python 3.11, 3.12 or 3.13 with its venv module (Debian and Ubuntu:" \
		"python3-venv), and none of these is one: $(CANDIDATES); install it, or name it" \
		"with 'make env PYTHON=/path/to/python3.12'." >&2; \
	exit 1
	$(BIN)/python -m pip install -r requirements.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: env ## distil a small student on the built-in scenes and see what it gains
	$(BIN)/bckd demo

check: env ## lint, format, types and the direction of imports, in a minute
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -q tests/test_rooms.py

# A thread each: what runs side by side, and the processes that tests start, would wait for one
# another. Each notebook writes to folders of its own, and data that several draw are drawn once,
# behind a lock.
test: check ## run the tests, on all cores, and the notebooks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(BY_NAME) $(NBVAL) notebooks

gpu: env ## check what runs on a CUDA GPU, in some minutes, and time it to runs/gpu.json
	$(BIN)/python -m pytest tests/gpu tests/system/test_devices.py
	@if $(BIN)/python -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then \
	    $(BIN)/bckd bench --device cuda --parts step loader inference --out runs/gpu.json; \
	else echo "there is no CUDA GPU here: the tests of one skipped, and nothing is timed"; fi

book: env ## write the course as static pages into runs/book, explorers included
	$(BIN)/python -m bckd.course.book notebooks runs/book

lab: env ## open the notebooks in JupyterLab
	$(BIN)/python -m jupyterlab notebooks

# Written beside and renamed: a failed resolution leaves the old lock as it was.
lock: ## remake requirements.txt: the newest versions in the ranges of pyproject.toml
	@$(UV) --version >/dev/null 2>&1 || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	@rm -f requirements.new
	$(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 --extra all \
		--no-header --no-annotate --output-file requirements.new
	{ echo "# Exact versions for Python 3.11 to 3.13 on Linux, macOS and Windows; remade by: make lock"; \
		cat requirements.new; } > requirements.tmp
	@rm -f requirements.new
	mv requirements.tmp requirements.txt

clean: ## delete caches and what was built; runs/ and data/ stay
	rm -rf build dist bckd.egg-info .pytest_cache .mypy_cache .ruff_cache notebooks/.ipynb_checkpoints
	find bckd tests notebooks -name __pycache__ -type d -prune -exec rm -rf {} +
