"""The measurements of a results folder: its kept models on a grid, and the controls."""

from sweeper.pareto.candidates import candidates
from sweeper.pareto.driver import Pending
from sweeper.pareto.grid import (
    Grid,
    JudgeChoice,
    Surroundings,
    best_judge,
    chosen_models,
    tasks_of,
)
from sweeper.sampling.controls import control_names
from sweeper.sampling.protocol import SAMPLING_VERSION
from sweeper.store.layout import Store
from sweeper.trials.plan import Plan


def planned_measurements(
    store: Store, plan: Plan, grid: Grid, judge: JudgeChoice | None, *, is_on_gpus: bool
) -> tuple[Pending, ...]:
    """What to measure, published or not; the judge is the best exact model where none is named.

    Raises ConfigError where no model is kept, or none can judge.
    """
    there = candidates(store)
    models = chosen_models(there, grid)
    of_trajectory = {planned.trajectory_id: planned for planned in plan.trials}
    # One whose run is no longer planned was trained on the same corpus all the same.
    first = of_trajectory.get(models[0].trajectory_id, plan.trials[0])
    uses_gpus = is_on_gpus and first.resources.gpus != 0
    common = Surroundings(
        context_tokens=first.trial.data.seq_len,
        data_fingerprint=first.trial.data.fingerprint,
        device="cuda" if uses_gpus else "cpu",
        sampling_version=SAMPLING_VERSION,
        controls=control_names(first.source),
    )
    tasks = tasks_of(models, judge or best_judge(there), grid, common)
    return tuple(Pending(task, of_trajectory.get(task.trajectory_id, first)) for task in tasks)
