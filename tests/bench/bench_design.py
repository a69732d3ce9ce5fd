"""How well designs of runs spend their compute, replayed on public tables: `make bench-design`."""

import argparse
from collections.abc import Callable, Iterable

from bench_lines import Line, say, say_machine
from design_coverage import tuning_coverage
from design_tuning import tuning_replay
from planted_tables import SHARED_DATA

PARTS: dict[str, Callable[[], Iterable[Line]]] = {
    "tuning": tuning_replay,
    "coverage": tuning_coverage,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="all unless named")
    chosen = parser.parse_args().part or list(PARTS)
    if not SHARED_DATA.is_dir():
        say(f"skipped: the public tables are not in {SHARED_DATA}")
        return
    say_machine("one thread")
    for part in chosen:
        for line in PARTS[part]():
            say(str(line))


if __name__ == "__main__":
    main()
