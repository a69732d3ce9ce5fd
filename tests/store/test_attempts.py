from pathlib import Path

import pytest
from planted import assignment_of, planned_sweep, planted_result, refresh, submitted_store

from sweeper.orchestration.verify import verify
from sweeper.store import files
from sweeper.store.attempts import (
    Progress,
    archive_attempts,
    attempts,
    begin_attempt,
    begun_trials,
    end_attempt,
    latest_number,
    torn_lines,
)
from sweeper.store.attempts import progress_reporter as reporter
from sweeper.store.layout import Store
from sweeper.store.results import publish, published
from sweeper.store.storage import ObjectPath, StoragePath
from sweeper.store.tables import tidy

PLAN = planned_sweep(("masked",))
IDS = tuple(planned.trial_id for planned in PLAN.trials)
PROGRESS = Progress(
    step=5, n_steps=20, flops_done=1.0, loss_nats_per_token=2.0, train_time_s=1.0, eval_time_s=0.0
)


def _begin(store: Store, trial_id: str) -> int:
    return begin_attempt(store, trial_id, executor="inline", device="cpu", n_threads=1).number


def _train(store: Store) -> None:
    """Publish every trial, each in its second attempt."""
    for planned in PLAN.trials:
        assert _begin(store, planned.trial_id) == 1
        error = ("ValueError", "planted", "Traceback ...\nValueError: planted\n")
        end_attempt(store, planned.trial_id, 1, "error", error=error)
        assignment = assignment_of(store, planned, _begin(store, planned.trial_id))
        reporter(assignment)(PROGRESS)
        publish(assignment, planted_result(assignment))
        end_attempt(store, planned.trial_id, 2, "published")


@pytest.fixture(params=["folder", "object store"])
def trained(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    results: StoragePath = tmp_path
    if request.param == "object store":
        results = ObjectPath(f"bucket://{tmp_path}")
    store = submitted_store(results / "planted", PLAN)
    _train(store)
    return store


def test_archived_attempts_read_as_before(trained: Store) -> None:
    before = [attempts(trained, trial_id) for trial_id in IDS]
    archive_attempts(trained, IDS)
    assert not begun_trials(trained)
    assert [attempts(trained, trial_id) for trial_id in IDS] == before
    assert "ValueError: planted" in trained.attempt_archive.read_text()
    refresh(trained)
    assert verify(trained.folder) == []


def test_only_the_named_trials_are_archived(trained: Store) -> None:
    archive_attempts(trained, IDS[:1])
    assert begun_trials(trained) == set(IDS[1:])
    archive_attempts(trained, IDS)
    assert [latest_number(trained, trial_id) for trial_id in IDS] == [2, 2, 2]


def test_killed_between_writing_and_removing_doubles_nothing(trained: Store) -> None:
    before = attempts(trained, IDS[0])
    contents = {
        path: path.read_bytes()
        for path in (trained.folder / "attempts").rglob("*")
        if path.is_file()
    }
    archive_attempts(trained, IDS)
    for path, data in list(contents.items())[: len(contents) // 2]:  # as many were not yet removed
        files.replace(path, data)
    assert attempts(trained, IDS[0]) == before
    archive = trained.attempt_archive.read_bytes()
    archive_attempts(trained, IDS)
    assert trained.attempt_archive.read_bytes() == archive
    assert not begun_trials(trained)


def test_trial_whose_record_was_deleted_counts_its_attempts_on(trained: Store) -> None:
    archive_attempts(trained, IDS)
    trained.record(IDS[0]).unlink()
    late = assignment_of(trained, PLAN.trials[0], attempt=2)
    assert _begin(trained, IDS[0]) == 3
    assert [attempt.number for attempt in attempts(trained, IDS[0])] == [1, 2, 3]
    assert not publish(late, planted_result(late))
    current = assignment_of(trained, PLAN.trials[0], attempt=3)
    assert publish(current, planted_result(current))
    end_attempt(trained, IDS[0], 3, "published")
    archive_attempts(trained, IDS)
    assert [attempt.number for attempt in attempts(trained, IDS[0])] == [1, 2, 3]


def test_late_worker_of_an_archived_trial_publishes_nothing(trained: Store) -> None:
    record = trained.record(IDS[0]).read_bytes()
    archive_attempts(trained, IDS)
    late = assignment_of(trained, PLAN.trials[0], attempt=1)
    reporter(late)(PROGRESS)  # writes where its folder was
    assert not publish(late, planted_result(late))
    assert trained.record(IDS[0]).read_bytes() == record
    archive_attempts(trained, IDS)
    assert not begun_trials(trained)
    assert latest_number(trained, IDS[0]) == 2


def test_torn_attempt_stays_where_verify_names_it(trained: Store) -> None:
    torn = trained.attempts(IDS[0]) / "1.json"
    files.replace(torn, b'{"number": 1, "exec')
    archive_attempts(trained, IDS)
    assert begun_trials(trained) == {IDS[0]}
    assert "torn-attempt" in {finding.code for finding in verify(trained.folder)}


def test_torn_line_costs_only_its_trial(trained: Store) -> None:
    archive_attempts(trained, IDS)
    first, *others = trained.attempt_archive.read_bytes().splitlines(keepends=True)
    files.replace(trained.attempt_archive, first[:50] + b"\n" + b"".join(others))
    assert sorted(len(attempts(trained, trial_id)) for trial_id in IDS) == [0, 2, 2]
    assert torn_lines(trained) == [1]
    assert "torn-archive" in {finding.code for finding in verify(trained.folder)}


def test_foreign_file_beside_attempts_is_kept(trained: Store) -> None:
    note = trained.attempts(IDS[0]) / "note.txt"
    files.replace(note, b"mine")
    archive_attempts(trained, IDS)
    assert note.read_bytes() == b"mine"
    assert begun_trials(trained) == {IDS[0]}


def test_end_of_a_run_archives_what_is_published(trained: Store) -> None:
    trained.record(IDS[0]).unlink()
    tidy(trained, PLAN, published(trained), before_s=0.0)
    assert begun_trials(trained) == {IDS[0]}
