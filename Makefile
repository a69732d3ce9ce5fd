# Sets up a virtual environment and does the main jobs. Every target works from a fresh clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP_DONE := $(VENV)/setup-done

.PHONY: setup run test test-fast mutants bench-fit bench-report bench-orchestration bench-design bench-sampling bench-train bench-eval coverage check format docs clean

setup: $(SETUP_DONE)  ## virtual environment with pinned versions and the `sweeper` command

$(SETUP_DONE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

run: setup  ## the main job: train the quick sweep, fit, compare, report
	$(BIN)/sweeper run sweeps/quick.yaml
	$(BIN)/sweeper fit results/quick
	$(BIN)/sweeper compare results/quick --baseline masked --against uniform
	$(BIN)/sweeper report results/quick
	@echo "tables: results/quick/{trials,losses,observations,samples} (Parquet; columns in docs/results.md)"

# Matrices of a fit, and networks of tests, are so small that threads of BLAS only wait for each other.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# Neighbours stay together until a worker has nothing left to do: what a module makes is made once.
ON_TWO_CORES := -n 2 --dist worksteal

test: setup  ## every test that needs no GPU
	$(ONE_THREAD) $(BIN)/python -m pytest $(ON_TWO_CORES) -m "not gpu and not ray"
	$(ONE_THREAD) $(BIN)/python -m pytest -m "ray and not gpu"

test-fast: setup  ## no Ray, nothing slow
	$(ONE_THREAD) $(BIN)/python -m pytest $(ON_TWO_CORES) -m "not gpu and not ray and not slow"

mutants: setup  ## deliberate errors in the mathematics, each of which some test must catch
	$(BIN)/python tests/mutants.py

bench-fit: setup  ## time and memory of fits, beside their targets
	PYTHONPATH=tests/support $(ONE_THREAD) $(BIN)/python tests/bench/bench_fit.py

bench-report: setup  ## time and memory of fits, comparisons and pages of large tables, and how fast `serve` follows
	PYTHONPATH=tests/support $(ONE_THREAD) $(BIN)/python tests/bench/bench_report.py

bench-orchestration: setup  ## planning, driving, resuming and watching many trials, beside Ray Tune; about ten minutes
	PYTHONPATH=tests/support $(BIN)/python tests/bench/bench_orchestration.py

bench-design: setup  ## what designs and rounds of chosen runs save, replayed on runs of others; over an hour
	PYTHONPATH=tests/support $(ONE_THREAD) $(BIN)/python tests/bench/bench_design.py

bench-sampling: setup  ## caches, timing, and samples of trained models on a known source; about five minutes
	PYTHONPATH=tests/support $(ONE_THREAD) $(BIN)/python tests/bench/bench_sampling.py

bench-train bench-eval: bench-%: setup  ## tokens per second of all families at four sizes, beside plain operations; five minutes
	PYTHONPATH=tests/support $(ONE_THREAD) $(BIN)/python tests/bench/bench_speed.py $*

coverage: setup  ## how often 95 % intervals hold the truth in simulation; both cores, half an hour
	PYTHONPATH=tests/support $(ONE_THREAD) $(BIN)/python tests/bench/simulate_coverage.py --processes 2 --out docs/coverage.md

check: setup  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup  ## pages generated from the code
	$(BIN)/python -m sweeper.trials.results_page docs/results.md

clean:
	rm -rf $(VENV) results .mypy_cache .ruff_cache .pytest_cache
