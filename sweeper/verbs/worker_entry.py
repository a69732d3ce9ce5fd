"""The worker, loaded where a trial runs: a driver that finds nothing to do needs no trainer."""

from sweeper.store.assignment import Assignment, Outcome, StopRequested


def run_trial(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Run `assignment` from its last checkpoint, if there is one, to its end."""
    from sweeper.training.worker import run_trial  # it loads the network, the optimiser and torch

    return run_trial(assignment, stop=stop)
