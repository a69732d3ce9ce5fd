"""What `fit`, `compare`, `report` and `serve` take of processor and memory: `make bench-report`.

Tables are planted: 5 series × 10 budgets × 20 sizes with 1, 10 and 100 seeds, as they are and with
what other conventions are counted from. Each command runs in a process of its own; times are those
of processors, user and system, of the whole process, so that others on the machine move them
little. `--keep FOLDER` writes the tables there and stops.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench_lines import Line, say, say_machine
from planted import assignment_of, planned_sweep, planted_result, submitted_store
from planted_growth import observations, with_ingredients
from served import asked, served

from sweeper.store.layout import Store
from sweeper.store.results import publish

MIB = 1024.0  # of Linux's counts of memory, in KiB
TARGETS_S = {1: 5.0, 10: 10.0, 100: 30.0}  # `report`, by seeds
MOST_MIB, MOST_PAGE_MB = 1024.0, 8.0
FOLLOWS_S, ASKED_EVERY_S = 5.0, 1.0
IDLE_PERCENT, IDLE_S = 2.0, 30.0


def written(folder: Path) -> Iterator[tuple[int, Path]]:
    """The tables as CSV, with their numbers of seeds."""
    for n_seeds in TARGETS_S:
        rows = observations(n_seeds)
        for name, frame in (("plain", rows), ("conventions", with_ingredients(rows))):
            path = folder / f"{name}-{len(rows)}.csv"
            frame.to_csv(path, index=False, float_format="%.10g")
            yield n_seeds, path


def command(*arguments: str) -> tuple[float, float]:
    """Processor seconds and peak memory in MiB of `sweeper` with these arguments."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-m", "sweeper", *arguments], env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, arguments
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / MIB


def reports(folder: Path, most_seeds: int) -> list[Line]:
    """Fits, comparisons and pages of all tables up to so many seeds."""
    lines = []
    for n_seeds, path in written(folder):
        if n_seeds > most_seeds:
            continue
        pair = ("--baseline", "ar", "--against", "masked", "--json")
        page = folder / f"{path.stem}.html"
        for verb, rest in (("fit", ("--json",)), ("compare", pair), ("report", ("-o", str(page)))):
            seconds, memory = command(verb, str(path), *rest)
            what = f"sweeper {verb}, {path.stem.replace('-', ' ')} points"
            target = TARGETS_S[n_seeds] if verb == "report" else None
            lines += [Line(what, seconds, target), Line(f"{what}: memory", memory, MOST_MIB, "MiB")]
        size = page.stat().st_size / 1e6
        lines.append(Line(f"page of {path.stem}", size, MOST_PAGE_MB, "MB"))
    return lines


def following(folder: Path) -> list[Line]:
    """Seconds from a record to the report that holds it, and the share of a core at rest."""
    plan = planned_sweep(widths=(8, 16, 32, 64))
    store = submitted_store(folder / "results" / "planted", plan)
    delays: list[float] = []
    with served(folder / "results") as server:

        def n_shown() -> int:
            asked(server, "/sweeps/planted/state")
            answer, body = asked(server, "/sweeps/planted/report.html")
            # As the section on provenance says it.
            return int(body.partition(" observations of ")[2].split(" ")[0]) if _ok(answer) else 0

        for number, planned in enumerate(plan.trials, 1):
            _publish(store, planned.trial_id)
            delays.append(_seconds_until(lambda n=number: n_shown() >= n))  # type: ignore[misc]
            time.sleep(1.7)  # records come at any moment of a page's making
        share = _share_at_rest(lambda: asked(server, "/sweeps/planted/state"))
    return [
        Line("serve: first report of a sweep, from the first look", delays[0], None),
        Line("serve: report after a record, the longest of 7", max(delays[1:]), FOLLOWS_S),
        Line("serve: of a core at rest, asked every second", share, IDLE_PERCENT, "%"),
    ]


def _ok(answer: object) -> bool:
    return getattr(answer, "status", 0) == 200


def _publish(store: Store, trial_id: str) -> None:
    plan = planned_sweep(widths=(8, 16, 32, 64))
    planned = next(each for each in plan.trials if each.trial_id == trial_id)
    assignment = assignment_of(store, planned)
    publish(assignment, planted_result(assignment))


def _seconds_until(is_true: Callable[[], bool]) -> float:
    began = time.monotonic()
    while not is_true():
        assert time.monotonic() - began < 120.0, "the report does not follow"
        time.sleep(ASKED_EVERY_S)
    return time.monotonic() - began


def _share_at_rest(ask: Callable[[], object]) -> float:
    time.sleep(5.0)
    before, began = time.process_time(), time.monotonic()
    while time.monotonic() - began < IDLE_S:
        ask()
        time.sleep(ASKED_EVERY_S)
    return 100.0 * (time.process_time() - before) / (time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the tables and stop")
    parser.add_argument("--seeds", type=int, default=100, help="the largest tables to take")
    parser.add_argument("--serve", action="store_true", help="only `serve`")
    chosen = parser.parse_args()
    if chosen.keep is not None:
        chosen.keep.mkdir(parents=True, exist_ok=True)
        say("\n".join(str(path) for _, path in written(chosen.keep)))
        return
    say_machine("one thread")
    with tempfile.TemporaryDirectory() as folder:
        found = [] if chosen.serve else reports(Path(folder), chosen.seeds)
        say("\n".join(map(str, [*found, *following(Path(folder))])))


if __name__ == "__main__":
    main()
