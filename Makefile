# Everything here runs on a CPU in .venv, which the first target makes. Another interpreter: make test PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
export JAX_PLATFORMS := cpu

.PHONY: demo test test-fast lint clean

demo: $(VENV)/installed
	$(VENV)/bin/python -m hitpro_jax.main --config=configs/synthetic.py

test: lint
	$(VENV)/bin/python -m pytest -q --durations=15 -n 2 --dist worksteal

test-fast: lint
	$(VENV)/bin/python -m pytest -q -n 2 --dist worksteal -m "not slow"

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ty check hitpro_jax

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache tests/.jax_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# uv installs in seconds what takes pip a minute; where it is not to be had, pip does it.
$(VENV)/installed: requirements-cpu.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; sys.exit(0 if sys.version_info >= (3, 11) else \
	  "hitpro_jax needs Python 3.11 or newer, but $(PYTHON) is " + v + ": run make with PYTHON=/path/to/python3.11.")'
	@echo "making $(VENV) and installing requirements-cpu.txt: up to two minutes, once"
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install -q uv && $(VENV)/bin/uv pip install -q --python $(VENV)/bin/python \
	  -r requirements-cpu.txt || $(VENV)/bin/python -m pip install -q -r requirements-cpu.txt
	@touch $@
