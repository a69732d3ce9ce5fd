"""The functions that Ray workers run."""

# A module of its own: a worker would import click with `verbs.run`, and a driver that finds
# nothing to do would import torch with `training.worker`.

from sweeper.store.assignment import Assignment, Outcome, StopRequested


def run_trial(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Run `assignment` from its last checkpoint, if there is one, to its end."""
    from sweeper.training.worker import run_trial  # it imports torch

    return run_trial(assignment, stop=stop)


def run_measurement(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Measure the samples that `assignment` asks for, and publish the row."""
    from sweeper.pareto.worker import run_measurement

    return run_measurement(assignment, stop=stop)
