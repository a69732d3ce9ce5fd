import io
from pathlib import Path

import pytest
from planted import assignment_of, planned_sweep, planted_result, submitted_store
from rich.console import Console

from sweeper.executors.base import Failure
from sweeper.orchestration.events import (
    Event,
    SweepStarted,
    TrialFailed,
    TrialPublished,
    TrialStarted,
)
from sweeper.store.attempts import Progress, progress_reporter
from sweeper.store.layout import Store
from sweeper.store.results import publish, published
from sweeper.sweepfile.quantities import count, duration, three_digits
from sweeper.verbs.progress import Panel, shown

SERIES = "masked[red]"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return submitted_store(tmp_path / "planted", planned_sweep((SERIES,)))


def _start(n_slots: int = 2) -> SweepStarted:
    plan = planned_sweep((SERIES,))
    flops = plan.train_flops
    return SweepStarted("planted", 3, 0, 3, flops, 0.0, flops, plan.trials, "ray", n_slots, "cpu")


def _shown(store: Store, *events: Event) -> str:
    output = io.StringIO()
    with shown(Console(file=output, width=200), store) as show:
        for event in events:
            show(event)
    return output.getvalue()


def _rendered(panel: Panel) -> str:
    output = io.StringIO()
    Console(file=output, width=200).print(panel.render())
    return output.getvalue()


def test_without_a_terminal_each_event_is_one_plain_line(store: Store) -> None:
    first = assignment_of(store, planned_sweep((SERIES,)).trials[1])
    publish(first, planted_result(first))
    (record,) = published(store)
    lines = _shown(store, _start(), TrialStarted(first), TrialPublished(first, record)).splitlines()
    assert lines[0].startswith("sweep planted: 3 of 3 trials to run")
    assert lines[1].startswith(f"trial {first.trial.trial_id} started: masked[red] 6.5K, ")
    assert lines[2] == (
        f"trial {first.trial.trial_id} done: masked[red] 6.5K, "
        f"bound {record.last_bound_nats_per_token:.3f} nats/token, 1.5 s"
    )


def test_what_users_and_workers_write_cannot_steer_the_terminal(store: Store) -> None:
    assignment = assignment_of(store, planned_sweep((SERIES,)).trials[0])
    failure = Failure("error", "Error", "[bold]x[/bold]\x1b[31m\r[/]", "")
    output = _shown(store, _start(), TrialFailed(assignment, failure, will_retry=True))
    assert "\x1b" not in output
    assert "\r" not in output
    assert "[bold]x[/bold]" in output


def test_panel_shows_flops_done_of_running_and_published_trials(store: Store) -> None:
    trials = planned_sweep((SERIES,)).trials
    small, large = assignment_of(store, trials[0]), assignment_of(store, trials[2])
    panel = Panel(store)
    assert "starting" in _rendered(panel)
    for event in (_start(), TrialStarted(small), TrialStarted(large)):
        panel.update(event)
    assert "2 running, 0/3 done, 0 failed, time left unknown" in _rendered(panel)
    progress_reporter(large)(
        Progress(
            step=10,
            n_steps=20,
            flops_done=0.5 * large.planned.train_flops,
            loss_nats_per_token=2.31,
            train_time_s=8.0,
            eval_time_s=2.0,
        )
    )
    publish(small, planted_result(small))
    panel.update(TrialPublished(small, published(store)[0]))
    text = _rendered(panel)
    share = (small.planned.train_flops + 0.5 * large.planned.train_flops) / planned_sweep(
        (SERIES,)
    ).train_flops
    assert f"{share:.0%} of" in text
    assert "1 running, 1/3 done, 0 failed, about" in text
    assert "10/20" in text
    assert "loss 2.310" in text


def test_terminal_gets_a_live_panel(store: Store) -> None:
    output = io.StringIO()
    assignment = assignment_of(store, planned_sweep((SERIES,)).trials[0])
    console = Console(file=output, width=200, force_terminal=True)
    with shown(console, store) as show:
        show(_start())
        show(TrialStarted(assignment))
    assert "1 running, 0/3 done" in output.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (31.2, "31 s"),
        (250, "4 min 10 s"),
        (59.7, "1 min 0 s"),
        (12000, "3 h 20 min"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (812, "812"),
        (999.6, "1.0K"),
        (1504, "1.5K"),
        (24_800, "25K"),
        (1.5e6, "1.5M"),
        (3e9, "3.0B"),
    ],
)
def test_counts_read_well(number: float, text: str) -> None:
    assert count(number) == text


def test_numbers_of_any_scale_read_well() -> None:
    assert [three_digits(each) for each in (0.2104, 3.84e11, 4e9, 0)] == [
        "0.21",
        "3.84e11",
        "4e9",
        "0",
    ]
