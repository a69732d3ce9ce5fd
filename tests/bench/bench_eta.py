"""How far the expected time left of a real sweep is from the truth, a tenth of its FLOPs done.

    PYTHONPATH=. python tests/bench/bench_eta.py sweeps/tiny.yaml --set train.seeds=[0,1]

A sweep is probed and run as a user does, into an empty folder; `sweeper status --json` is asked
every few seconds. The truth is when the last record was published. It depends on what else the
machine does meanwhile, so its load at the start and at the end is told, too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_lines import Line, say, say_machine

SWEEPER = (sys.executable, "-m", "sweeper")
SHARES = (0.1, 0.25, 0.5, 0.75)
"""Of the FLOPs; the first is the one with a target."""
TARGET = 0.20
ASK_EVERY_S = 3.0


def asked(folder: Path) -> dict[str, Any] | None:
    """The status of a sweep; None before there is one."""
    result = subprocess.run(
        [*SWEEPER, "status", str(folder), "--json"], capture_output=True, text=True, check=False
    )
    return json.loads(result.stdout) if result.returncode == 0 else None


def followed(words: list[str], folder: Path) -> list[tuple[float, float, dict[str, float]]]:
    """Time, share of the FLOPs done and time left, when each share was first seen to be passed."""
    seen: list[tuple[float, float, dict[str, float]]] = []
    with subprocess.Popen([*SWEEPER, "run", *words], stdout=subprocess.DEVNULL) as run:
        while run.poll() is None:
            time.sleep(ASK_EVERY_S)
            now_s, status = time.time(), asked(folder)
            if status is None or status["time_left"] is None or len(seen) == len(SHARES):
                continue
            share = status["flops_done"] / status["flops_planned"]
            if share >= SHARES[len(seen)]:
                seen.append((now_s, share, status["time_left"]))
    if run.returncode:
        raise SystemExit(f"the sweep ended with code {run.returncode}")
    return seen


def line_of(
    at_s: float, share: float, left: dict[str, float], end_s: float, target: float | None
) -> Line:
    truth_s = end_s - at_s
    within = "within p90" if truth_s <= left["p90_s"] else "beyond p90"
    remark = f"p50 {left['p50_s']:.1f} s, p90 {left['p90_s']:.1f} s, took {truth_s:.1f} s: {within}"
    what = f"time left at {share:.0%} of the FLOPs, p50 off by"
    return Line(what, abs(left["p50_s"] / truth_s - 1), target, "", remark)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--no-probe", action="store_true", help="assume speeds at first")
    chosen = parser.parse_args()
    say_machine()
    with tempfile.TemporaryDirectory() as results:
        words = [str(chosen.sweep), "--results", results]
        for override in (*chosen.set, "name=eta"):
            words += ["--set", override]
        probe = [] if chosen.no_probe else ["--probe"]
        plan = subprocess.run(
            [*SWEEPER, "plan", *words, "--json", *probe], capture_output=True, text=True, check=True
        )
        cost = json.loads(plan.stdout)["cost"]
        started_s, folder = time.time(), Path(results) / "eta"
        seen = followed(words, folder)
        end_s = max(path.stat().st_mtime for path in (folder / "published").iterdir())
    say(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")
    lines = [line_of(started_s, 0.0, cost["wall"], end_s, None)]
    for number, (at_s, share, left) in enumerate(seen):
        lines.append(line_of(at_s, share, left, end_s, TARGET if number == 0 else None))
    say("\n".join(map(str, lines)))
    sys.exit(any(line.is_missed for line in lines))


if __name__ == "__main__":
    main()
