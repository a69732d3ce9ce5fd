"""Measurements of samples: one write-once record each, beside the trials of their sweep.

    results/<sweep>/sampling/
      published/<task_id>.json    the task, and the row it gives
      attempts/ drivers/ …        as of the sweep itself

It is a store of its own, with a lease of its own: models are measured while others still train.
"""

import json
from collections.abc import Mapping
from typing import Any

from sweeper.store import files
from sweeper.store.assignment import Assignment
from sweeper.store.attempts import latest_number
from sweeper.store.layout import Store
from sweeper.store.results import read_records, record_paths, record_stamps
from sweeper.trials.records import SampleRow
from sweeper.trials.sampling_task import SamplingTask

# Columns by which rows of one model are sorted, then by task.
ORDER = ("series", "sampler", "n_steps", "temperature", "top_p")


def sampling_store(store: Store) -> Store:
    """Where a sweep's measurements are."""
    return Store(store.folder / "sampling")


def publish_measurement(assignment: Assignment, task: SamplingTask, row: SampleRow) -> bool:
    """Publish a measurement; False, changing nothing, where it is or a later attempt has begun.

    Raises ValueError for a number that is not finite.
    """
    store = Store(assignment.store_folder)
    if latest_number(store, task.task_id) > assignment.attempt.number:
        return False
    parts = {
        "attempt": assignment.attempt.number,
        "identity": task.to_json(),
        "sample": vars(row),
    }
    lines = [f'"{key}": {json.dumps(part, allow_nan=False)}' for key, part in parts.items()]
    data = ("{\n" + ",\n".join(lines) + "\n}\n").encode()
    return files.create_exclusively(store.record(task.task_id), data)


def measured_tasks(store: Store) -> frozenset[str]:
    """Ids of the tasks that a store of measurements has records of."""
    return frozenset(record_stamps(store))


def measurement_stamps(store: Store) -> dict[str, str]:
    """Size and time of change of every record of a sweep's measurements."""
    return record_stamps(sampling_store(store))


def sample_rows(store: Store, series_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of `samples` under the plan's labels by trajectory; StoreError for a torn record."""
    labelled = [
        {
            **record["sample"],
            "series": series_of.get(
                record["identity"]["trajectory_id"], record["sample"]["series"]
            ),
        }
        for record in read_records(record_paths(sampling_store(store)))
    ]
    # A stable sort: of equals in the order of their tasks.
    return sorted(labelled, key=lambda row: tuple(row[name] for name in ORDER))
