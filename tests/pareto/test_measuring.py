"""Sampling tasks: which there are, and that a killed driver repeats and loses none of them."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import planted_samples
import pytest
from planted_samples import COMMON, GRID, candidate, drive, measure_planted, planted_store, wanted

from sweeper.errors import ConfigError
from sweeper.executors.stop import StopSignal
from sweeper.orchestration.verify import verify
from sweeper.pareto.grid import Grid, best_judge, chosen_models, powers_of_two, tasks_of
from sweeper.store.assignment import Assignment, Outcome, StopRequested
from sweeper.store.attempts import attempts
from sweeper.store.files import read_json
from sweeper.store.layout import Store
from sweeper.store.measurements import measured_tasks, sampling_store

SERIES = ("ar", "masked", "uniform")


def samples(store: Store) -> pd.DataFrame:
    return pd.read_parquet(str(store.table("samples")))


def published_at(store: Store) -> dict[str, int]:
    """When each record was written, in nanoseconds."""
    folder = sampling_store(store).published
    assert isinstance(folder, Path)
    return {path.stem: path.stat().st_mtime_ns for path in folder.glob("*.json")}


def test_tasks_are_the_product_of_models_steps_and_temperatures_with_controls_first() -> None:
    tasks = [each.task for each in wanted()]
    diffusion = 2 * len(GRID.steps) * len(GRID.temperatures)
    by_series = pd.Series([task.series for task in tasks]).value_counts()
    # What is drawn token by token takes as many steps as tokens, and is measured once.
    assert by_series["ar"] == len(GRID.temperatures)
    assert len(tasks) == 2 + len(GRID.temperatures) + diffusion
    assert [task.series for task in tasks[:2]] == ["unigram", "repeated"]
    assert len({task.task_id for task in tasks}) == len(tasks)


def test_a_judge_does_not_judge_itself() -> None:
    rows = {task.series: task.judge_revision for task in (each.task for each in wanted())}
    assert rows["ar"] == ""
    assert rows["masked"] == rows["unigram"] == "weights of ar at 100000000000.0"


def test_the_identity_of_a_task_is_all_that_changes_its_numbers_and_nothing_else() -> None:
    task = wanted()[-1].task
    same = dataclasses.replace(task, series="renamed", model_folder="moved", judge="named")
    assert same.task_id == task.task_id
    for change in (
        {"temperature": 0.9}, {"n_steps": 3}, {"judge_revision": "other"}, {"source": "other"},
        {"n_sequences": 9}, {"seed": 1}, {"sampling_version": 2}, {"device": "cuda"},
    ):  # fmt: skip
        assert dataclasses.replace(task, **change).task_id != task.task_id, change


def test_models_are_the_best_of_the_largest_budget_that_all_series_have() -> None:
    there = [
        *(candidate(series, 2.0, 1e11) for series in SERIES),
        *(candidate(series, 1.5, 3e11) for series in SERIES),
        candidate("ar", 1.0, 1e12),
    ]
    assert {each.budget_flops for each in chosen_models(there, Grid())} == {3e11}
    assert best_judge(there).revision == "weights of ar at 1000000000000.0"
    alone = chosen_models(there, Grid(series=("ar",)))
    assert [each.budget_flops for each in alone] == [1e12]
    with pytest.raises(ConfigError, match="--models mask: expected some of ar, masked, uniform"):
        chosen_models(there, Grid(series=("mask",)))
    with pytest.raises(ConfigError, match=r"no model of masked is kept; expected one of 1e\+11, 3"):
        chosen_models(there, Grid(budget_flops=1e12))
    with pytest.raises(ConfigError, match="no budget has a model of every series"):
        chosen_models([candidate("ar", 1.0, 1e11), candidate("masked", 1.0, 2e11)], Grid())


def test_without_an_exact_model_it_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="to the series of the sweep file and run it"):
        best_judge([candidate("masked"), candidate("uniform")])


def test_a_sampler_that_no_family_has_is_refused() -> None:
    models = [candidate(series) for series in SERIES]
    with pytest.raises(ConfigError, match="--samplers telepathy: no model here has it"):
        tasks_of(models, None, Grid(samplers=("telepathy",)), COMMON)


def test_steps_are_powers_of_two_up_to_the_length() -> None:
    assert powers_of_two(64) == (1, 2, 4, 8, 16, 32, 64)
    assert powers_of_two(6) == (1, 2, 4, 6)
    assert powers_of_two(1) == (1,)


def test_a_driver_killed_again_and_again_repeats_nothing_and_loses_nothing(tmp_path: Path) -> None:
    undisturbed = planted_store(tmp_path / "undisturbed" / "planted")
    drive(undisturbed, measure_planted, [])
    store = planted_store(tmp_path / "killed" / "planted")
    own = sampling_store(store)
    before: dict[str, int] = {}
    for _ in range(3):
        support = Path(planted_samples.__file__)
        paths = os.pathsep.join([str(support.parent), str(support.parents[2])])
        driver = subprocess.Popen(
            [sys.executable, str(support), str(store.folder), "0.1"],
            env={**os.environ, "PYTHONPATH": paths},
        )
        end_s = time.monotonic() + 60
        while len(measured_tasks(own)) < len(before) + 2:
            assert driver.poll() is None, "nothing is left to disturb"
            assert time.monotonic() < end_s
            time.sleep(0.01)
        driver.kill()
        driver.wait()
        after = published_at(store)
        assert before.items() <= after.items()  # what was there is as it was
        before = after
    assert 0 < len(before) < len(wanted())
    outcome = drive(store, measure_planted, [])
    assert (outcome.n_done, outcome.n_failed, outcome.n_left) == (len(wanted()), 0, 0)
    assert before.items() <= published_at(store).items()
    pd.testing.assert_frame_equal(samples(store), samples(undisturbed))
    for pending in wanted():  # the same records, but for the number of the attempt
        name = pending.task.task_id
        one, other = (read_json(sampling_store(each).record(name)) for each in (store, undisturbed))
        assert one | {"attempt": 1} == other | {"attempt": 1}


def test_a_finished_grid_measures_nothing_and_a_larger_one_what_is_missing(tmp_path: Path) -> None:
    store, told = planted_store(tmp_path / "planted"), list[str]()
    drive(store, measure_planted, told)
    assert len(told) == len(wanted())
    told.clear()
    assert drive(store, measure_planted, told).n_left == 0
    assert told == []
    assert len(samples(store)) == len(wanted())
    assert not [each for each in verify(store.folder) if each.code == "stale-table"]


def test_a_stop_leaves_the_rest_to_another_run(tmp_path: Path) -> None:
    store, stop = planted_store(tmp_path / "planted"), StopSignal()

    def measure(assignment: Assignment, *, stop: StopRequested) -> Outcome:
        if len(measured_tasks(sampling_store(store))) == 3:
            signal.request("signal")
        return measure_planted(assignment, stop=stop, seconds=0.01)

    signal = stop
    outcome = drive(store, measure, [], stop)
    assert (outcome.n_done, outcome.n_left) == (3, len(wanted()) - 3)
    assert drive(store, measure_planted, []).n_left == 0


def test_an_error_is_tried_again_and_then_given_up_with_its_reason(tmp_path: Path) -> None:
    store, told = planted_store(tmp_path / "planted"), list[str]()
    bad = wanted()[-1].task.task_id

    def measure(assignment: Assignment, *, stop: StopRequested) -> Outcome:
        if assignment.task_id == bad:
            raise ValueError("planted")
        return measure_planted(assignment, stop=stop)

    outcome = drive(store, measure, told)
    assert (outcome.n_done, outcome.n_failed) == (len(wanted()) - 1, 1)
    assert sum("failed: ValueError: planted" in line for line in told) == 2
    assert [each.outcome for each in attempts(sampling_store(store), bad)] == ["error", "error"]


def test_a_superseded_measurement_publishes_nothing(tmp_path: Path) -> None:
    store = planted_store(tmp_path / "planted")
    drive(store, measure_planted, [])
    before = published_at(store)
    own = sampling_store(store)
    pending = wanted()[-1]
    late = dataclasses.replace(
        attempts(own, pending.task.task_id)[-1], number=0, started_at="2026-01-01T00:00:00+00:00"
    )
    assignment = Assignment(own.folder, "planted", pending.planned, late, sampling=pending.task)
    measure_planted(assignment, stop=lambda: False)
    assert published_at(store) == before


def test_verify_names_a_measurement_that_is_torn_or_was_renamed(tmp_path: Path) -> None:
    store = planted_store(tmp_path / "planted")
    drive(store, measure_planted, [])
    own = sampling_store(store)
    torn, renamed = (own.record(each.task.task_id) for each in wanted()[:2])
    assert isinstance(torn, Path)
    assert isinstance(renamed, Path)
    torn.write_bytes(torn.read_bytes()[:40])
    renamed.rename(renamed.with_name("0123456789ab.json"))
    codes = {finding.file.name: finding.code for finding in verify(store.folder)}
    assert codes[torn.name] == "torn-record"
    assert codes["0123456789ab.json"] == "foreign-record"
