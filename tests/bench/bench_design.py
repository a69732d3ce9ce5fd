"""What designs of runs save, replayed on the runs of others and in simulation: `make bench-design`.

Every line is one quantity beside its target; over an hour on one core.
"""

import argparse
from collections.abc import Callable, Iterable

import numpy
import scipy
from bench_lines import Line, say, say_machine
from design_auto import auto_lines
from design_coverage import tuning_coverage
from design_farseer import farseer_lines
from design_rounds import GIDD, SAHOO, TINY_RUNS, rounds_lines
from design_tuning import tuning_replay
from planted_tables import SHARED_DATA

N_REPLAYS = 100  # of every design and study

PARTS: dict[str, Callable[[], Iterable[Line]]] = {
    "tuning": tuning_replay,
    "coverage": tuning_coverage,
    "farseer": lambda: farseer_lines(N_REPLAYS),
    "rounds": lambda: (
        line for study in (GIDD, SAHOO, TINY_RUNS) for line in rounds_lines(study, N_REPLAYS)
    ),
    "auto": auto_lines,
}


def main() -> None:
    """Print every part as it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="all unless named")
    chosen = parser.parse_args().part or list(PARTS)
    if not SHARED_DATA.is_dir():
        say(f"skipped: the public tables are not in {SHARED_DATA}")
        return
    say_machine(f"NumPy {numpy.__version__}", f"SciPy {scipy.__version__}")
    for part in chosen:
        for line in PARTS[part]():
            say(str(line))


if __name__ == "__main__":
    main()
