import io
import re
from pathlib import Path

import pytest
from command_line import sweeper
from planted import assignment_of, planned_sweep, planted_result, submitted_store
from rich.console import Console

from sweeper.errors import one_per_kind
from sweeper.orchestration.events import SweepStarted, TrialStarted
from sweeper.store.attempts import Progress, begin_attempt, progress_reporter
from sweeper.store.layout import Store
from sweeper.store.results import publish
from sweeper.verbs.progress import Panel
from sweeper.verbs.watching.terminal import block
from sweeper.watching.view import Watch

SERIES = "masked-with-a-label-that-is-far-too-long-for-eighty-columns\x1b[31m"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = submitted_store(tmp_path / "planted", planned_sweep((SERIES,)))
    small, middle, _ = (assignment_of(store, each) for each in planned_sweep((SERIES,)).trials)
    publish(small, planted_result(small, started_at="2026-01-01T00:00:00+00:00"))
    begin_attempt(store, middle.trial.trial_id, executor="ray", device="cpu", n_threads=1)
    progress_reporter(middle)(
        Progress(
            step=10,
            n_steps=20,
            flops_done=0.5 * middle.planned.train_flops,
            loss_nats_per_token=2.31,
            train_time_s=8.0,
            eval_time_s=2.0,
        )
    )
    return store


@pytest.mark.parametrize("width", [80, 160])
def test_every_line_fits_the_terminal_and_none_steers_it(store: Store, width: int) -> None:
    output = io.StringIO()
    console = Console(file=output, width=width)
    shown = block(Watch(store).look())
    console.print(shown)
    printed = output.getvalue().splitlines()
    assert len(printed) == len(shown.renderables)
    assert max(map(len, printed)) <= width
    assert "\x1b" not in output.getvalue()
    text = output.getvalue()
    for part in (
        "21% of 3.74e9 FLOPs",
        "1 done, 1 running, 1 pending",
        "device-hours",
        "10/20",
        "2.310",
    ):
        assert part in text


@pytest.mark.parametrize("width", [80, 100])
def test_the_panel_of_a_run_does_not_wrap(store: Store, width: int) -> None:
    plan = planned_sweep((SERIES,))
    panel, name = Panel(store), "a-sweep-with-a-name-of-some-length-as-people-write-them"
    flops = plan.train_flops
    panel.update(SweepStarted(name, 3, 0, 3, flops, 0.0, flops, plan.trials, "ray", 2, "cpu"))
    for planned in plan.trials[:2]:
        panel.update(TrialStarted(assignment_of(store, planned)))
    output = io.StringIO()
    Console(file=output, width=width).print(panel.render())
    assert len(output.getvalue().splitlines()) == 4  # the sweep, its counts, two trials


@pytest.mark.slow
def test_in_a_pipe_a_complete_sweep_is_one_plain_block(tmp_path: Path) -> None:
    store = submitted_store(tmp_path / "planted", planned_sweep(("masked",)))
    for planned in planned_sweep(("masked",)).trials:
        publish(assignment_of(store, planned), planted_result(assignment_of(store, planned)))
    shown = sweeper("status", "planted", "--watch", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("3 done") == 1
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", shown.stdout)
    assert max(map(len, shown.stdout.splitlines())) <= 80
    refused = sweeper("status", "planted", "--watch", "--json", cwd=tmp_path)
    assert refused.returncode == 2


def test_warnings_of_one_kind_are_one_line_with_a_count() -> None:
    found = [("few", "a has two"), ("far", "b is far"), ("few", "c has one"), ("few", "d")]
    assert one_per_kind(found) == [
        "a has two [few, and 2 more of this kind]",
        "b is far [far]",
    ]
