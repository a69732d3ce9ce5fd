"""What designs and rounds save, replayed on the runs of others: `make bench-design`.

Every line is one quantity beside its target; about half an hour on one core.
"""

import argparse

import numpy
import scipy
from bench_lines import say, say_machine
from design_farseer import farseer_lines
from design_rounds import GIDD, SAHOO, TINY_RUNS, rounds_lines


def main() -> None:
    """Print every part as it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replays", type=int, default=100, help="of every design and study")
    n_replays: int = parser.parse_args().replays
    say_machine(f"NumPy {numpy.__version__}", f"SciPy {scipy.__version__}")
    for line in farseer_lines(n_replays):
        say(str(line))
    for study in (GIDD, SAHOO, TINY_RUNS):
        for line in rounds_lines(study, n_replays):
            say(str(line))


if __name__ == "__main__":
    main()
