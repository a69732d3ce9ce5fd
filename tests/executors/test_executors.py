"""Sweeps of planted trials, undisturbed and disturbed, end in the same tables."""

import fcntl
import os
import pty
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import planted
import pytest
from planted import on_disk, planned_sweep, submitted_store
from processes import descendants, listening_beyond_loopback, marked, title

from sweeper.errors import ConfigError
from sweeper.executors.inline import InlineExecutor
from sweeper.executors.ray_executor import RayExecutor
from sweeper.executors.ray_session import joined
from sweeper.executors.stop import WARNINGS, StopSignal
from sweeper.orchestration.driver import SweepRun, run_sweep
from sweeper.orchestration.events import (
    Event,
    SweepOutcome,
    TrialFailed,
    TrialPublished,
    TrialStarted,
)
from sweeper.orchestration.verify import verify
from sweeper.store.assignment import RunTrial
from sweeper.store.layout import Store, store_at
from sweeper.store.results import published
from sweeper.trials.plan import Plan
from sweeper.trials.resources import Limits

SUPPORT = Path(planted.__file__).parent

VOLATILE = ["n_attempts", "started_at", "finished_at"]
"""Columns of `trials` that say when and how often, not what."""


def _run_inline(
    store: Store,
    plan: Plan,
    run_trial: RunTrial = planted.run_planted,
    limits: Limits | None = None,
) -> tuple[SweepOutcome, list[Event]]:
    stop, events = StopSignal(), list[Event]()
    executor = InlineExecutor(run_trial, stop.is_requested)
    run = SweepRun(
        store=store,
        plan=plan,
        executor=executor,
        stop=stop,
        on_event=events.append,
        limits=limits or Limits(),
    )
    return run_sweep(run), events


def _tables(folder: Path) -> list[pd.DataFrame]:
    trials = pd.read_parquet(folder / "trials").drop(columns=VOLATILE)
    return [trials, *(pd.read_parquet(folder / name) for name in ("losses", "observations"))]


def _assert_complete(folder: Path, undisturbed: list[pd.DataFrame]) -> None:
    for table, expected in zip(_tables(folder), undisturbed, strict=True):
        pd.testing.assert_frame_equal(table, expected)
    assert verify(folder) == []
    assert not (folder / "checkpoints").exists() or not list((folder / "checkpoints").iterdir())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return submitted_store(tmp_path / "results" / "planted", planned_sweep())


@pytest.fixture
def undisturbed(tmp_path: Path) -> list[pd.DataFrame]:
    store = submitted_store(tmp_path / "undisturbed" / "planted", planned_sweep())
    _run_inline(store, planned_sweep())
    return _tables(on_disk(store.folder))


def test_sweep_publishes_everything_longest_first(store: Store) -> None:
    outcome, events = _run_inline(store, planned_sweep())
    assert outcome.exit_code == 0
    assert (outcome.n_done, outcome.n_left) == (6, 0)
    started = [event.assignment for event in events if isinstance(event, TrialStarted)]
    assert [each.trial.rung.width for each in started] == [32, 32, 16, 16, 8, 8]


def test_second_run_trains_nothing(store: Store) -> None:
    _run_inline(store, planned_sweep())
    outcome, events = _run_inline(store, planned_sweep())
    assert outcome.exit_code == 0
    assert not [event for event in events if isinstance(event, TrialStarted)]


def test_added_budget_trains_only_its_own_cells(store: Store) -> None:
    _run_inline(store, planned_sweep())
    extended = planned_sweep(steps=(10, 20, 40))
    store = submitted_store(store.folder, extended)
    _, events = _run_inline(store, extended)
    started = [event.assignment for event in events if isinstance(event, TrialStarted)]
    assert {each.trial.observe_at_steps for each in started} == {(40,)}
    observations = pd.read_parquet(on_disk(store.table("observations")))
    assert len(observations) == 6 * 3
    assert not observations.duplicated(["trajectory_id", "step"]).any()


def test_failed_trial_does_not_hold_up_the_others(tmp_path: Path) -> None:
    plan = planned_sweep(("masked", "broken"), widths=(8,))
    store = submitted_store(tmp_path / "planted", plan)
    outcome, events = _run_inline(store, plan, planted.run_or_raise)
    assert outcome.exit_code == 1
    assert (outcome.n_done, outcome.n_failed, outcome.n_left) == (1, 1, 0)
    failures = [event for event in events if isinstance(event, TrialFailed)]
    assert [event.will_retry for event in failures] == [True, False]
    trials = pd.read_parquet(on_disk(store.table("trials"))).set_index("series")
    assert trials.status.to_dict() == {"masked": "done", "broken": "failed"}
    assert trials.error_message["broken"] == "planted failure"
    trial_id = trials.trial_id["broken"]
    assert "second line" in (store.attempts(trial_id) / "2.traceback.txt").read_text()


def test_worker_that_publishes_nothing_has_failed(store: Store) -> None:
    outcome, _ = _run_inline(store, planned_sweep(), lambda _assignment, *, stop: "published")  # noqa: ARG005
    assert outcome.exit_code == 1
    assert outcome.reason == "same_error"
    assert outcome.n_done == 0


def test_flops_limit_stops_the_sweep_and_a_higher_one_resumes_it(store: Store) -> None:
    plan = planned_sweep()
    limit = 0.6 * plan.train_flops
    outcome, _ = _run_inline(store, plan, limits=Limits(flops=limit))
    assert outcome.exit_code == 4
    assert outcome.n_left > 0
    assert 0 < sum(record.train_flops for record in published(store)) <= limit
    again, events = _run_inline(store, plan, limits=Limits(flops=limit))
    assert again == outcome
    assert not [event for event in events if isinstance(event, TrialStarted)]
    assert _run_inline(store, plan)[0].exit_code == 0


def test_wall_limit_interrupts_what_runs(store: Store) -> None:
    plan = planned_sweep()
    outcome, events = _run_inline(
        store, plan, planted.run_planted_slowly, limits=Limits(wall_s=0.2)
    )
    assert outcome.exit_code == 4
    assert not [event for event in events if isinstance(event, TrialPublished)]
    (interrupted,) = (store.folder / "checkpoints").iterdir()
    assert (interrupted / "step.json").exists()


def test_second_signal_means_now() -> None:
    stop, handler = StopSignal(), signal.getsignal(signal.SIGINT)
    with stop.on_signals():
        signal.raise_signal(signal.SIGINT)
        assert stop.reason == "signal"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("number", WARNINGS)
def test_a_warning_asks_to_stop_however_often_it_comes(number: signal.Signals) -> None:
    stop, handler = StopSignal(), signal.getsignal(number)
    with stop.on_signals():
        for _ in range(3):  # by the kernel, by the shell, to the process, to its group
            signal.raise_signal(number)
        assert stop.reason == "signal"
        signal.raise_signal(signal.SIGTERM)  # at the end of the time that was left
    assert signal.getsignal(number) is handler


def test_a_driver_under_nohup_outlives_its_terminal() -> None:
    stop, handler = StopSignal(), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop.on_signals():
        signal.raise_signal(signal.SIGHUP)
    assert signal.signal(signal.SIGHUP, handler) is signal.SIG_IGN
    assert not stop.is_requested()


def test_waiting_for_nodes_takes_no_cpu_time() -> None:
    executor = RayExecutor(planted.run_planted)  # nothing runs in it
    start_s, start_cpu_s = time.monotonic(), time.process_time()
    for _ in range(4):
        assert executor.poll(0.25) == []
    assert time.monotonic() - start_s >= 1.0
    assert time.process_time() - start_cpu_s < 0.2


def _driver(folder: Path, executor: str, run_trial: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{SUPPORT}{os.pathsep}{SUPPORT.parents[1]}"}
    environment.pop("HOME", None)
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, SUPPORT / "planted_driver.py", folder, executor, run_trial],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.005)


def _checkpointed(folder: Path) -> bool:
    return any((folder / "checkpoints").glob("*/step.json"))


def _interrupt_then_finish(folder: Path, executor: str, number: signal.Signals) -> str:
    """Signal a driver's whole process group, as a terminal does; return its output."""
    driver = _driver(folder, executor, "run_until_stopped")
    _wait_until(lambda: _checkpointed(folder))
    os.killpg(driver.pid, number)
    output, errors = driver.communicate(timeout=60)
    assert driver.returncode == 3, errors
    assert "Traceback" not in errors
    assert not list(folder.rglob(".tmp-*"))
    driver = _driver(folder, "inline", "run_planted")
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 0, errors
    return output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, *WARNINGS])
def test_signal_stops_inline_at_a_checkpoint(
    tmp_path: Path, undisturbed: list[pd.DataFrame], number: signal.Signals
) -> None:
    folder = tmp_path / "results" / "planted"
    output = _interrupt_then_finish(folder, "inline", number)
    assert "interrupted" in output
    _assert_complete(folder, undisturbed)


@pytest.mark.slow
def test_a_closed_terminal_stops_a_driver_at_a_checkpoint(
    tmp_path: Path, undisturbed: list[pd.DataFrame]
) -> None:
    folder = tmp_path / "results" / "planted"
    terminal, descriptor = pty.openpty()
    folder.mkdir(parents=True)
    driver = subprocess.Popen(
        [sys.executable, SUPPORT / "planted_driver.py", folder, "inline", "run_until_stopped"],
        env={**os.environ, "PYTHONPATH": f"{SUPPORT}{os.pathsep}{SUPPORT.parents[1]}"},
        stdin=descriptor,
        stdout=descriptor,
        stderr=descriptor,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that it hears of its end
    )
    os.close(descriptor)
    _wait_until(lambda: _checkpointed(folder))
    os.close(terminal)
    assert driver.wait(timeout=60) == 3
    _run_inline(store_at(folder.parent, "planted"), planned_sweep())
    _assert_complete(folder, undisturbed)


@pytest.mark.slow
def test_killed_driver_loses_nothing_and_doubles_nothing(
    tmp_path: Path, undisturbed: list[pd.DataFrame]
) -> None:
    folder = tmp_path / "results" / "planted"
    moments = random.Random(0)
    for _ in range(5):
        driver = _driver(folder, "inline", "run_planted_slowly")
        plan_file = folder / "plan.json"
        _wait_until(lambda file=plan_file: file.exists())  # type: ignore[misc]
        time.sleep(moments.uniform(0.0, 0.8))
        driver.kill()
        driver.communicate()
    driver = _driver(folder, "inline", "run_planted")
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 0, errors
    _assert_complete(folder, undisturbed)


@pytest.fixture
def ray_folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where embedded Ray keeps its folders, for one test: /tmp has those of other programs."""
    with tempfile.TemporaryDirectory(prefix="test-", dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


@pytest.mark.ray
@pytest.mark.slow
def test_ray_gives_the_tables_of_inline_and_keeps_to_itself(
    tmp_path: Path,
    ray_folders: Path,
    undisturbed: list[pd.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "results" / "planted"
    monkeypatch.setenv("PLANTED_GROUP", "1")
    driver = _driver(folder, "ray", "run_planted_slowly")
    _wait_until(lambda: _checkpointed(folder))
    beyond = listening_beyond_loopback(marked("PLANTED_GROUP=1"))
    output, errors = driver.communicate(timeout=60)
    assert driver.returncode == 0, errors
    assert beyond == []
    assert errors == ""
    assert len(output.splitlines()) == 1 + 2 * 6 + 1
    assert not list(ray_folders.iterdir())
    _assert_complete(folder, undisturbed)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", "found nothing; expected HOST:PORT"),
        ("local", "found local; expected HOST:PORT"),
        ("ray://127.0.0.1:10001", "found ray://127.0.0.1:10001; expected HOST:PORT"),
        ("http://127.0.0.1:8265", "to send the driver to a cluster, use `sweeper submit`"),
        ("127.0.0.1:99999", "nobody answers at 127.0.0.1:99999"),
        ("[::1]:1", "nobody answers at"),
    ],
)
def test_an_address_of_no_cluster_is_refused_at_once(address: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)), joined(address):
        pytest.fail("joined")


def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    with socket.socket() as unused:  # bound, so that it is nobody's, and does not listen
        unused.bind(("127.0.0.1", 0))
        host, port = unused.getsockname()
        with pytest.raises(ConfigError, match=f"nobody answers at {host}:{port}"):
            joined(f"{host}:{port}").__enter__()


IMPATIENT_PROGRAM = """\
import ray, signal, sys
from planted import run_planted
from sweeper.executors.ray_executor import RayExecutor

shut_down = ray.shutdown

def shut_down_impatiently():
    signal.raise_signal(signal.SIGINT)
    shut_down()

ray.shutdown = shut_down_impatiently
with RayExecutor(run_planted):
    print("up", flush=True)
    sys.stdin.readline()
"""
"""Imports Ray before we do, and gets a Ctrl-C in the middle of its end."""


@pytest.mark.ray
@pytest.mark.slow
def test_ray_keeps_to_itself_in_any_program_and_ends_with_it(ray_folders: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", IMPATIENT_PROGRAM],
        env={**os.environ, "PYTHONPATH": str(SUPPORT), "IMPATIENT_PROGRAM": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    mine = marked("IMPATIENT_PROGRAM=1")
    beyond = listening_beyond_loopback(mine)
    _, errors = process.communicate("\n", timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert beyond == []
    assert not list(ray_folders.iterdir())
    assert not any(map(title, mine))


@pytest.mark.ray
@pytest.mark.slow
def test_killed_workers_are_replaced_and_resume(
    tmp_path: Path, undisturbed: list[pd.DataFrame]
) -> None:
    folder = tmp_path / "results" / "planted"
    driver = _driver(folder, "ray", "run_and_die_midway")
    output, errors = driver.communicate(timeout=90)
    assert driver.returncode == 0, errors
    assert output.count(" crashed: ") == 6
    assert set(pd.read_parquet(folder / "trials").n_attempts) == {2}
    _assert_complete(folder, undisturbed)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, *WARNINGS])
def test_signal_to_all_processes_leaves_ray_resumable(
    tmp_path: Path, ray_folders: Path, undisturbed: list[pd.DataFrame], number: signal.Signals
) -> None:
    folder = tmp_path / "results" / "planted"
    output = _interrupt_then_finish(folder, "ray", number)
    assert output.count("interrupted") == 2 + 1
    assert not list(ray_folders.iterdir())
    _assert_complete(folder, undisturbed)


@pytest.mark.ray
@pytest.mark.slow
def test_orphan_workers_of_a_killed_driver_do_no_harm(
    tmp_path: Path, undisturbed: list[pd.DataFrame]
) -> None:
    folder = tmp_path / "results" / "planted"
    driver = _driver(folder, "ray", "run_planted_slowly")
    _wait_until(lambda: _checkpointed(folder))
    # Which would end the workers, too; those on other machines of a cluster it cannot reach.
    (reaper,) = (pid for pid in descendants(driver.pid) if "reaper.py" in title(pid))
    os.kill(reaper, signal.SIGKILL)
    driver.kill()
    driver.communicate()
    # At once, while the orphans still train and publish.
    driver = _driver(folder, "inline", "run_planted_slowly")
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 0, errors
    _assert_complete(folder, undisturbed)
