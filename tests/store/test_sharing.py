"""Sweeps of one results folder take results over from each other."""

import dataclasses
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from planted import (
    KINDS,
    assignment_of,
    kind_of_store,
    on_disk,
    planned_sweep,
    planned_trial,
    planted_result,
    refresh,
    submitted_store,
)

from sweeper.orchestration.verify import verify
from sweeper.store.layout import Store
from sweeper.store.pending import pending_trials
from sweeper.store.results import publish, published, read_records
from sweeper.store.sharing import adopt, adopt_one
from sweeper.store.storage import StoragePath
from sweeper.store.tables import read_table
from sweeper.trials.plan import Plan, PlannedTrial


@pytest.fixture(params=KINDS)
def results(request: pytest.FixtureRequest, tmp_path: Path) -> StoragePath:
    """A results folder, on disk or in an object store."""
    return kind_of_store(request.param, tmp_path / "results")


def plan_of(name: str, *trials: PlannedTrial) -> Plan:
    return Plan(name, trials)


def sweep(results: StoragePath, plan: Plan) -> Store:
    """A sweep that nobody has run yet."""
    return submitted_store(results / plan.name, plan)


def trained(results: StoragePath, plan: Plan, *, until_step: int | None = None) -> Store:
    """A sweep that was run to its end."""
    store = sweep(results, plan)
    for planned in plan.trials:
        assignment = dataclasses.replace(assignment_of(store, planned), sweep=plan.name)
        publish(assignment, planted_result(assignment, until_step=until_step))
    refresh(store)
    return store


def left(store: Store, plan: Plan) -> list[tuple[int, ...]]:
    """Observed steps of the trials that are still to be trained."""
    return [each.trial.observe_at_steps for each in pending_trials(plan.trials, published(store))]


def test_what_another_sweep_has_trained_is_copied_and_not_trained_again(
    results: StoragePath,
) -> None:
    other = trained(results, dataclasses.replace(planned_sweep(("masked",)), name="other"))
    plan = dataclasses.replace(planned_sweep(("masked", "uniform")), name="own")
    own = sweep(results, plan)
    taken = adopt(own, plan)
    assert {head.sweep for head in taken} == {"other"}
    assert {head.trial_id for head in taken} == {each.trial_id for each in published(other)}
    for head in taken:
        assert own.record(head.trial_id).read_bytes() == other.record(head.trial_id).read_bytes()
    assert len(left(own, plan)) == 3  # those of uniform
    assert adopt(own, plan) == ()


def test_a_sweep_stays_whole_without_the_one_it_took_over_from(tmp_path: Path) -> None:
    plan = dataclasses.replace(planned_sweep(), name="own")
    other = trained(tmp_path, dataclasses.replace(plan, name="other"))
    own = sweep(tmp_path, plan)
    adopt(own, plan)
    refresh(own)
    on_disk(other.folder).rename(tmp_path.parent / f"{tmp_path.name}-gone")
    on_disk(own.folder).rename(tmp_path / "moved")
    moved = Store(tmp_path / "moved")
    assert verify(moved.folder) == []
    trials = read_table(moved, "trials").to_pylist()
    assert len(trials) == len(plan.trials)
    assert {row["sweep"] for row in trials} == {"other"}


def test_the_same_run_observed_at_other_steps_settles_what_it_observed(
    results: StoragePath,
) -> None:
    trained(results, plan_of("other", planned_trial(steps=(10, 20))))
    plan = plan_of("own", planned_trial(steps=(10, 40)))
    own = sweep(results, plan)
    assert [head.observed_steps for head in adopt(own, plan)] == [(10, 20)]
    assert left(own, plan) == [(40,)]


def test_few_records_are_taken_that_settle_much(results: StoragePath) -> None:
    trained(results, plan_of("a", planned_trial(steps=(10,))))
    trained(results, plan_of("b", planned_trial(steps=(10, 20, 30))))
    trained(results, plan_of("c", planned_trial(steps=(10, 20))))
    trained(results, plan_of("d", planned_trial(steps=(40,))))
    plan = plan_of("own", planned_trial(steps=(10, 20, 40)))
    own = sweep(results, plan)
    assert [head.sweep for head in adopt(own, plan)] == ["c", "d"]
    assert left(own, plan) == []


def test_of_several_records_the_trial_itself_is_taken(results: StoragePath) -> None:
    trained(results, plan_of("a", planned_trial(steps=(10, 20, 30))))
    trained(results, plan_of("b", planned_trial(steps=(10, 20))))
    plan = plan_of("own", planned_trial(steps=(10, 20)))
    own = sweep(results, plan)
    assert [head.sweep for head in adopt(own, plan)] == ["b"]


def test_points_that_come_along_are_no_findings_and_in_no_table_twice(results: StoragePath) -> None:
    plan = plan_of("own", planned_trial(steps=(10, 20)))
    own = trained(results, plan)
    trained(results, plan_of("other", planned_trial(steps=(10, 20, 40))))
    longer = plan_of("own", planned_trial(steps=(10, 40)))
    submitted_store(own.folder, longer)
    assert [head.sweep for head in adopt(own, longer)] == ["other"]
    refresh(own)
    assert verify(own.folder) == []
    rows = read_table(own, "observations").to_pylist()
    assert [row["step"] for row in rows] == [10, 20, 40]


def test_tables_show_of_another_sweep_what_this_one_plans(results: StoragePath) -> None:
    trained(results, plan_of("other", planned_trial(steps=(10, 20, 40))))
    plan = plan_of("own", planned_trial(steps=(10, 40)))
    own = sweep(results, plan)
    assert adopt(own, plan)
    refresh(own)
    rows = read_table(own, "observations").to_pylist()
    assert [row["step"] for row in rows] == [10, 40]
    assert verify(own.folder) == []


def test_a_diverged_run_is_taken_over_as_a_result(results: StoragePath) -> None:
    trained(results, plan_of("other", planned_trial(steps=(10, 20))), until_step=15)
    plan = plan_of("own", planned_trial(steps=(10, 40)))
    own = sweep(results, plan)
    (head,) = adopt(own, plan)
    assert head.is_diverged
    assert left(own, plan) == []


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _change_seed(path: Path) -> None:
    fields = json.loads(path.read_text())
    fields["identity"]["seed"] = 7
    path.write_text(json.dumps(fields))


def _drop_column(path: Path) -> None:
    fields = json.loads(path.read_text())
    del fields["trial"]["device"]
    path.write_text(json.dumps(fields))


def _replace_by_a_list(path: Path) -> None:
    path.write_text("[1, 2]")


def _replace_by_nothing(path: Path) -> None:
    path.write_text("")


def _replace_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _lead_outside(path: Path) -> None:
    outside = path.parent.parent.parent.parent / f"outside-{path.name}"
    path.rename(outside)
    path.symlink_to(outside)


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _change_seed,
        _drop_column,
        _replace_by_a_list,
        _replace_by_nothing,
        _replace_by_a_pipe,
        _lead_outside,
    ],
)
def test_an_unsound_record_is_skipped_and_the_others_are_taken(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    results = tmp_path / "results"
    plan = dataclasses.replace(planned_sweep(("masked",)), name="own")
    other = trained(results, dataclasses.replace(plan, name="other"))
    damaged = plan.trials[0].trial_id
    damage(on_disk(other.record(damaged)))
    own = sweep(results, plan)
    assert {head.trial_id for head in adopt(own, plan)} == {
        planned.trial_id for planned in plan.trials[1:]
    }
    for pending in pending_trials(plan.trials, published(own)):
        assert adopt_one(own, pending) is None
    assert not own.record(damaged).exists()


def test_links_to_other_folders_are_not_followed(tmp_path: Path) -> None:
    plan = dataclasses.replace(planned_sweep(("masked",)), name="own")
    elsewhere = trained(tmp_path / "elsewhere", dataclasses.replace(plan, name="other"))
    own = sweep(tmp_path / "results", plan)
    (tmp_path / "results" / "linked").symlink_to(on_disk(elsewhere.folder))
    (tmp_path / "results" / "half").mkdir()
    (tmp_path / "results" / "half" / "published").symlink_to(on_disk(elsewhere.published))
    indexed = trained(tmp_path / "results", plan_of("indexed"))
    indexed.record_index.unlink()
    on_disk(indexed.record_index).symlink_to(on_disk(elsewhere.record_index))
    assert adopt(own, plan) == ()


def test_odd_neighbours_are_no_siblings(tmp_path: Path) -> None:
    plan = dataclasses.replace(planned_sweep(("masked",)), name="own")
    own = sweep(tmp_path, plan)
    (tmp_path / "notes.txt").write_text("published")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "published").write_text("no folder")
    hidden = trained(tmp_path, dataclasses.replace(plan, name="other"))
    on_disk(hidden.folder).rename(tmp_path / ".other")
    assert adopt(own, plan) == ()


def test_a_trial_that_was_published_elsewhere_meanwhile_is_taken_over_at_its_start(
    results: StoragePath,
) -> None:
    plan = plan_of("own", planned_trial(steps=(10, 20)))
    own = sweep(results, plan)
    (pending,) = pending_trials(plan.trials, published(own))
    assert adopt_one(own, pending) is None
    trained(results, plan_of("other", planned_trial(steps=(10, 20))))
    head = adopt_one(own, pending)
    assert head is not None
    assert head.sweep == "other"
    assert left(own, plan) == []


def test_what_settles_only_a_part_is_left_for_the_next_start(results: StoragePath) -> None:
    # Two planned trials of one run, trained as one; the other sweep has only the first of them.
    plan = plan_of("own", planned_trial(steps=(10,)), planned_trial(steps=(20,)))
    own = sweep(results, plan)
    (pending,) = pending_trials(plan.trials, published(own))
    trained(results, plan_of("other", planned_trial(steps=(10,))))
    assert adopt_one(own, pending) is None
    assert not list(own.published.glob("*"))


def _adopt(store: Store, plan: Plan) -> None:
    adopt(store, plan)


def test_two_sweeps_may_take_over_at_the_same_time(tmp_path: Path) -> None:
    plan = planned_sweep()
    trained(tmp_path, dataclasses.replace(plan, name="other"))
    plans = [dataclasses.replace(plan, name=name) for name in ("a", "b")]
    stores = [sweep(tmp_path, each) for each in plans]
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_adopt, args=(store, each))
        for store, each in zip(stores, plans, strict=True)
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    for store, each in zip(stores, plans, strict=True):
        assert left(store, each) == []
        for planned in plan.trials:
            assert read_records([store.record(planned.trial_id)])[0]["trial"]["sweep"] == "other"


def test_nothing_is_looked_for_when_nothing_is_missing(
    results: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = dataclasses.replace(planned_sweep(("masked",)), name="own")
    own = trained(results, plan)
    trained(results, dataclasses.replace(plan, name="other"))
    monkeypatch.setattr("sweeper.store.sharing._siblings", None)  # calling it would raise
    assert adopt(own, plan) == ()
