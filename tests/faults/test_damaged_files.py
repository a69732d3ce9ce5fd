"""Files of a results folder that are cut, emptied or lost between two runs."""

from collections.abc import Callable
from pathlib import Path

import planted
import pytest
from disturbed import Sweep, Tables
from noted import run_and_do, run_noting_quick_steps

from sweeper.errors import StoreError
from sweeper.executors.stop import StopSignal
from sweeper.orchestration.verify import verify
from sweeper.store import files
from sweeper.store.assignment import Assignment, Outcome, StopRequested

pytestmark = pytest.mark.slow

N_STEPS = planted.planned_trial().trial.n_steps
Damage = Callable[[Path], object]


def _cut(path: Path) -> None:
    """Leave the first half of a file, as a power cut may on some file systems."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = pytest.mark.parametrize("damage", [_cut, _empty, Path.unlink])


@pytest.fixture
def stopped(sweep: Sweep) -> str:
    """Stop the sweep behind a checkpoint of its second trial; which that is."""
    stop, begun = StopSignal(), list[str]()

    def run_until_the_second(assignment: Assignment, *, stop: StopRequested) -> Outcome:
        begun.append(assignment.trial.trial_id)
        return run_and_do(assignment, stop=stop, step_time_s=0.001, on_step=stop_at_six)

    def stop_at_six(step: int) -> None:
        if len(begun) == 2 and step == 6:
            stop.request("signal")

    assert sweep.run_here(run_until_the_second, stop).exit_code == 3
    return begun[1]


@pytest.fixture
def record(sweep: Sweep, stopped: str) -> Path:
    """The only record that is published when the sweep is stopped."""
    (path,) = planted.on_disk(sweep.store.published).glob("*.json")
    return path


def _finish(sweep: Sweep) -> None:
    assert sweep.run_here(run_noting_quick_steps).exit_code == 0


@DAMAGES
def test_damaged_tables_are_made_anew(
    sweep: Sweep, undisturbed: Tables, stopped: str, damage: Damage
) -> None:
    for path in (*sweep.folder.glob("*/part-0.parquet"), sweep.folder / "records.json"):
        damage(path)
    assert verify(sweep.folder)
    _finish(sweep)
    sweep.assert_as(undisturbed, n_lost=0)


@DAMAGES
def test_a_damaged_attempt_costs_no_result(
    sweep: Sweep, undisturbed: Tables, stopped: str, damage: Damage
) -> None:
    attempt = planted.on_disk(sweep.store.attempts(stopped)) / "1.json"
    damage(attempt)
    _finish(sweep)
    found = verify(sweep.folder)
    assert [finding.file for finding in found] == ([] if damage is Path.unlink else [attempt])
    attempt.unlink(missing_ok=True)  # as `verify` says
    sweep.assert_as(undisturbed, n_lost=0)


@pytest.mark.parametrize("damage", [_cut, _empty])
def test_a_torn_record_is_named_and_never_counts_as_done(
    sweep: Sweep, undisturbed: Tables, record: Path, damage: Damage
) -> None:
    damage(record)
    with pytest.raises(StoreError) as raised:
        sweep.run_here(run_noting_quick_steps)
    assert str(raised.value).startswith(f"{record} is not a complete record")
    assert "delete it and run the sweep again" in str(raised.value)
    assert [finding.file for finding in verify(sweep.folder)] == [record]
    record.unlink()
    _finish(sweep)
    assert sweep.outcomes()[record.stem] == ("published", "published")
    sweep.assert_as(undisturbed, n_lost=N_STEPS)


def test_a_lost_record_is_trained_anew(sweep: Sweep, undisturbed: Tables, record: Path) -> None:
    record.unlink()
    _finish(sweep)
    sweep.assert_as(undisturbed, n_lost=N_STEPS)


@DAMAGES
def test_a_damaged_report_of_progress_costs_nothing(
    sweep: Sweep, undisturbed: Tables, stopped: str, damage: Damage
) -> None:
    damage(planted.on_disk(sweep.store.attempts(stopped)) / "progress.json")
    _finish(sweep)
    assert sweep.outcomes()[stopped] == ("interrupted", "published")
    sweep.assert_as(undisturbed, n_lost=0)


def test_what_killed_processes_leave_half_written_is_removed(
    sweep: Sweep, undisturbed: Tables, stopped: str
) -> None:
    half = b'{\n"attempt": 1,\n"identity"'
    for folder in (sweep.store.published, sweep.store.attempts(stopped), sweep.folder / "losses"):
        files.replace(folder / f".tmp-{stopped}.json-0123456789ab", half)
    assert {finding.code for finding in verify(sweep.folder)} >= {"orphan-temporary"}
    _finish(sweep)
    sweep.assert_as(undisturbed, n_lost=0)
