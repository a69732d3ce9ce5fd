"""What results on disk depend on: ids of trials, and the bytes of a plan and a record.

Where an id changes, a sweep that was trained before is trained again. Where a format changes, a
results folder written before must still be readable. So a difference here is either a mistake, or
comes with a note in docs/log.md and a new file in tests/frozen.
"""

import hashlib
import json
from pathlib import Path

import pytest
from planted import assignment_of, planned_sweep, planted_result, submitted_store

from sweeper.planning.planner import preview_sweep
from sweeper.planning.recipe import bfloat16_from_width
from sweeper.store.results import publish
from sweeper.sweepfile.schema import load_sweep

ROOT = Path(__file__).parent.parent
FROZEN = ROOT / "tests/frozen"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sahoo_isoflop", "gidd_grid"])
def test_trials_of_published_grids_keep_their_ids(name: str) -> None:
    loaded = load_sweep(ROOT / f"sweeps/{name}.yaml")
    # The corpora are assumed, so that the ids depend on the sweep file alone.
    precision = bfloat16_from_width(has_gpu=True)
    plan = preview_sweep(loaded, bfloat16_from_width=precision, cache_folder=None)
    ids = sorted(planned.trial.trial_id for planned in plan.trials)
    digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()
    found = {"n_trials": len(ids), "first_ids": ids[:3], "sha256": digest}
    assert found == json.loads((FROZEN / "trial_ids.json").read_text())[name]


def test_plans_and_records_keep_their_format(tmp_path: Path) -> None:
    plan = planned_sweep(("masked",), widths=(8,))
    store = submitted_store(tmp_path / "planted", plan)
    assignment = assignment_of(store, plan.trials[0])
    publish(assignment, planted_result(assignment))
    plan_file = tmp_path / "planted/plan.json"
    (record_file,) = (tmp_path / "planted/published").iterdir()
    assert plan_file.read_text() == (FROZEN / "plan.json").read_text()
    assert record_file.read_text() == (FROZEN / "record.json").read_text()
