"""A sweep's status as tables for the terminal. Renders; prints nothing."""

import datetime
from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from sweeper.orchestration.lease import DriverAtWork
from sweeper.orchestration.status import SweepStatus, TrialStatus
from sweeper.verbs.plain_text import plain
from sweeper.verbs.progress import count, duration
from sweeper.verbs.text_table import TextTable

STYLES = {"done": "green", "diverged": "magenta", "failed": "red", "running": "cyan"}


def status_view(status: SweepStatus) -> Iterator[RenderableType]:
    """Counts and progress, then one line per trial."""
    counts = ", ".join(f"{n} {state}" for state, n in status.counts.items() if n)
    share = status.flops_done / status.flops_planned if status.flops_planned else 1.0
    left = f", about {duration(status.time_left_s)} left" if status.time_left_s else ""
    done = f"{counts}; {share:.0%} of {status.flops_planned:.3g} FLOPs{left}"
    yield Text(plain(f"{status.name}: {done}"))
    yield Text(plain(_driver(status.driver)))
    yield _trials(status.trials)


def _driver(driver: DriverAtWork | None) -> str:
    if driver is None:
        return "no driver at work"
    since = datetime.datetime.fromtimestamp(driver.started_s, datetime.UTC)
    return f"driver: process {driver.pid} on {driver.host} since {since:%Y-%m-%d %H:%M:%S} UTC"


def _trials(trials: tuple[TrialStatus, ...]) -> TextTable:
    numbers = ("params", "FLOPs", "done", "bound")
    table = TextTable("trial", "series", *numbers, "state", "error", numbers=numbers)
    for trial in trials:
        bound = trial.bound_nats_per_token
        table.add(
            trial.trial_id,
            plain(trial.series),
            count(trial.params_trunk),
            f"{trial.train_flops:.2g}",
            f"{trial.share_done:.0%}",
            "" if bound is None else f"{bound:.3f}",
            trial.state + (f" ({trial.n_attempts} attempts)" if trial.n_attempts > 1 else ""),
            plain(trial.error or ""),
            style=STYLES.get(trial.state),
        )
    return table
