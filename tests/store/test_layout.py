import dataclasses
import json
import multiprocessing
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from planted import (
    KINDS,
    assignment_of,
    kind_of_store,
    planned_sweep,
    planned_trial,
    planted_result,
    submitted_store,
)

from sweeper.errors import StoreError
from sweeper.store import files
from sweeper.store.assignment import Assignment
from sweeper.store.attempts import attempts, begin_attempt, end_attempt
from sweeper.store.layout import Store, open_store, store_at
from sweeper.store.pending import pending_trials
from sweeper.store.results import publish, published, read_head
from sweeper.store.submission import read_plan, submit, write_plan
from sweeper.trials.plan import Plan
from sweeper.trials.text_options import TextOptions


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    folder = kind_of_store(request.param, tmp_path) / "planted"
    return submitted_store(folder, planned_sweep())


def _begin(store: Store, trial_id: str) -> int:
    return begin_attempt(store, trial_id, executor="inline", device="cpu", n_threads=1).number


def test_plan_survives_its_file(store: Store) -> None:
    assert read_plan(store) == planned_sweep()


def test_a_plan_keeps_how_its_corpus_is_read_and_older_plans_are_of_bytes(store: Store) -> None:
    planned = dataclasses.replace(planned_trial(), reading=TextOptions(tokenizer="a.json"))
    plan = Plan("planted", (planned,))
    write_plan(store, plan)
    assert read_plan(store) == plan
    fields = files.read_json(store.plan)
    del fields["trials"][0]["reading"]
    files.replace(store.plan, files.to_json(fields))
    assert read_plan(store).trials == (planned_trial(),)


def test_only_the_first_of_two_publishers_wins(store: Store) -> None:
    planned = planned_trial()
    assert publish(assignment_of(store, planned), planted_result(assignment_of(store, planned)))
    before = store.record(planned.trial_id).read_bytes()
    again = assignment_of(store, planned, attempt=2)
    assert not publish(again, planted_result(again))
    assert store.record(planned.trial_id).read_bytes() == before


def test_superseded_attempt_cannot_publish(store: Store) -> None:
    planned = planned_trial()
    first = _begin(store, planned.trial_id)
    second = _begin(store, planned.trial_id)
    late = assignment_of(store, planned, attempt=first)
    assert not publish(late, planted_result(late))
    assert not store.record(planned.trial_id).exists()
    current = assignment_of(store, planned, attempt=second)
    assert publish(current, planted_result(current))


def _publish_in_a_race(
    assignment: Assignment, barrier: Barrier, n_wins: "Synchronized[int]"
) -> None:
    barrier.wait()
    if publish(assignment, planted_result(assignment)):
        with n_wins.get_lock():
            n_wins.value += 1


def test_of_racing_publishers_exactly_one_wins(store: Store) -> None:
    context = multiprocessing.get_context("fork")
    barrier, n_wins = context.Barrier(4), context.Value("i", 0)
    assignment = assignment_of(store, planned_trial())
    processes = [
        context.Process(target=_publish_in_a_race, args=(assignment, barrier, n_wins))
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert n_wins.value == 1
    assert [path.name for path in store.published.iterdir()] == [
        f"{assignment.trial.trial_id}.json"
    ]


def _begin_in_a_race(store: Store, barrier: Barrier, numbers: "Queue[int]") -> None:
    barrier.wait()
    numbers.put(_begin(store, "x"))


def test_of_racing_drivers_each_gets_a_number_of_its_own(store: Store) -> None:
    context = multiprocessing.get_context("fork")
    barrier, numbers = context.Barrier(4), context.Queue()
    processes = [
        context.Process(target=_begin_in_a_race, args=(store, barrier, numbers)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    assert sorted(numbers.get(timeout=30) for _ in processes) == [1, 2, 3, 4]
    for process in processes:
        process.join()


def test_publishing_drops_the_checkpoints_of_the_trial(store: Store) -> None:
    assignment = assignment_of(store, planned_trial())
    files.replace(store.checkpoints(assignment.trial) / "latest.pt", b"weights")
    publish(assignment, planted_result(assignment))
    assert not store.checkpoints(assignment.trial).exists()


def test_incomplete_result_is_refused(store: Store) -> None:
    planned = planned_trial(steps=(10, 20))
    assignment = assignment_of(store, planned)
    short = planted_result(assignment_of(store, planned_trial(steps=(10,))))
    with pytest.raises(ValueError, match="another trial"):
        publish(assignment, short)
    diverged = planted_result(assignment, until_step=15)
    pretended = type(diverged)(
        trial=type(diverged.trial)(**{**vars(diverged.trial), "status": "done"}),
        observations=diverged.observations,
        losses=diverged.losses,
    )
    with pytest.raises(ValueError, match="not done: 15 of 20 steps"):
        publish(assignment, pretended)


def test_number_that_is_not_finite_is_refused(store: Store) -> None:
    assignment = assignment_of(store, planned_trial())
    result = planted_result(assignment)
    loss = type(result.losses[0])(**{**vars(result.losses[0]), "loss_nats_per_token": float("nan")})
    broken = type(result)(trial=result.trial, observations=result.observations, losses=(loss,))
    with pytest.raises(ValueError, match="not finite"):
        publish(assignment, broken)
    assert not list(store.published.glob("*"))


def test_truncated_record_is_an_error_that_names_the_file(store: Store) -> None:
    assignment = assignment_of(store, planned_trial())
    publish(assignment, planted_result(assignment))
    path = store.record(assignment.trial.trial_id)
    files.replace(path, path.read_bytes()[:200])
    with pytest.raises(StoreError, match=rf"{path.name}.*delete it"):
        read_head(path)


def test_head_of_a_record_agrees_with_the_whole(store: Store) -> None:
    assignment = assignment_of(store, planned_trial(steps=(10, 20)))
    result = planted_result(assignment)
    publish(assignment, result)
    (head,) = published(store)
    assert head.observed_steps == (10, 20)
    assert head.last_bound_nats_per_token == result.observations[-1].bound_nats_per_token
    assert head.train_flops == result.trial.train_flops


def test_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table"
    files.replace(path, b"old")

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.replace_with(path, fail)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["table"]


class TestMissing:
    def test_everything_is_missing_from_an_empty_store(self, store: Store) -> None:
        plan = read_plan(store)
        pending = pending_trials(plan.trials, published(store))
        assert [each.trial_id for each in pending] == [each.trial_id for each in plan.trials]

    def test_a_new_budget_asks_only_for_its_own_step(self, store: Store) -> None:
        assignment = assignment_of(store, planned_trial(steps=(10, 20)))
        publish(assignment, planted_result(assignment))
        (pending,) = pending_trials([planned_trial(steps=(10, 20, 40))], published(store))
        assert pending.trial.observe_at_steps == (40,)
        assert [cell.step for cell in pending.cells] == [40]
        assert pending.trial.trajectory_id == assignment.trial.trajectory_id

    def test_a_budget_taken_away_leaves_nothing_to_do(self, store: Store) -> None:
        assignment = assignment_of(store, planned_trial(steps=(10, 20)))
        publish(assignment, planted_result(assignment))
        assert not pending_trials([planned_trial(steps=(20,))], published(store))

    def test_renamed_series_is_not_trained_again(self, store: Store) -> None:
        assignment = assignment_of(store, planned_trial())
        publish(assignment, planted_result(assignment))
        renamed = type(planned_trial())(**{**vars(planned_trial()), "series": "other"})
        assert not pending_trials([renamed], published(store))

    def test_two_planned_trials_of_one_trajectory_are_trained_once(self, store: Store) -> None:
        (pending,) = pending_trials(
            [planned_trial(steps=(10, 20)), planned_trial(steps=(15, 20))], published(store)
        )
        assert pending.trial.observe_at_steps == (10, 15, 20)

    def test_nothing_beyond_a_divergence_is_tried_again(self, store: Store) -> None:
        assignment = assignment_of(store, planned_trial(steps=(10, 20)))
        publish(assignment, planted_result(assignment, until_step=15))
        assert not pending_trials([planned_trial(steps=(10, 20))], published(store))
        assert not pending_trials([planned_trial(steps=(10, 20, 40))], published(store))
        (pending,) = pending_trials([planned_trial(steps=(5, 20))], published(store))
        assert pending.trial.observe_at_steps == (5,)


class TestSubmission:
    def test_each_revision_is_kept_once(self, store: Store) -> None:
        for text in ("name: planted\n# 2\n", "name: planted\n# 2\n", "name: planted\n"):
            submit(store, planned_sweep(), text)
        names = {path.name for path in (store.folder / "revisions").iterdir()}
        assert names == {"0001.yaml", "0002.yaml", "0003.yaml"}
        assert (store.folder / "sweep.yaml").read_text() == "name: planted\n"

    def test_manifest_holds_versions_and_no_secrets(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("API_TOKEN", "s3cret-value")
        store = submitted_store(tmp_path / "x", Plan("x", ()))
        text = store.manifest.read_text()
        assert "s3cret" not in text
        assert str(Path.home()) not in text
        assert json.loads(text)["packages"]["pyarrow"]

    @pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\0b"])
    def test_name_cannot_leave_the_results_folder(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(StoreError, match="one folder"):
            store_at(tmp_path, name)

    def test_foreign_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"no plan\.json"):
            open_store(tmp_path)
        with pytest.raises(StoreError, match="does not exist"):
            open_store(tmp_path / "nowhere")

    @pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}', '{"version": 99}', ""])
    def test_damaged_plan_is_an_error_that_says_what_to_do(self, store: Store, text: str) -> None:
        files.replace(store.plan, text.encode())
        with pytest.raises(StoreError, match="run the sweep again"):
            read_plan(store)


def test_attempts_are_numbered_and_keep_their_errors(store: Store) -> None:
    assert [_begin(store, "x"), _begin(store, "x")] == [1, 2]
    end_attempt(store, "x", 1, "error", error=("ValueError", "bad\x1b[0m", "Traceback ..."))
    first, second = attempts(store, "x")
    assert (first.error_class, first.has_failed, second.outcome) == ("ValueError", True, None)
    assert (store.attempts("x") / "1.traceback.txt").read_text() == "Traceback ..."
