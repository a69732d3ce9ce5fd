"""Nodes of a Ray cluster that are lost, and nodes that differ."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from disturbed import Sweep, Tables, tables, wait_until
from noted import STEP_NOTES, Step, mixed_sweep

from sweeper.executors.machine import temporary_folder
from sweeper.orchestration.verify import verify

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SMALL = {"object_store_memory": 100 * 2**20}
"""Options of each node."""


@pytest.fixture
def cluster(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster whose head takes no trials; its nodes are processes of their own."""
    environment = {**sweep.environment(), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    monkeypatch.delenv(STEP_NOTES)  # what keeps the folder is no process of the sweep
    with temporary_folder() as folder:  # ends who writes to it, also where a node fails to start
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        # There the cluster writes its address, by default to a file that `ray.init()` of every
        # program on this machine reads.
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        (folder / "ray").mkdir()
        sweep.ray_folders.add(str(folder))
        from ray.cluster_utils import Cluster  # Ray reads its environment when it is imported

        cluster = Cluster(shutdown_at_exit=False)
        cluster.add_node(num_cpus=0, include_dashboard=False, temp_dir=str(folder), **SMALL)
        yield cluster
        cluster.shutdown()


def _wait_for_trials_on(sweep: Sweep, node: Any, n_trials: int) -> set[str]:
    """Wait until so many trials on a node are past a checkpoint."""

    def there() -> set[str]:
        running = sweep.running().items()
        return {each for each, step in running if step.node == node.node_id and step.step > 4}

    wait_until(lambda: len(there()) >= n_trials)
    return there()


def test_trials_of_a_lost_node_go_on_elsewhere(
    sweep: Sweep, cluster: Any, undisturbed: Tables
) -> None:
    first, second = (cluster.add_node(num_cpus=2, **SMALL) for _ in range(2))
    driver = sweep.start("ray", "noted.run_noting_slow_steps", address=cluster.address)
    lost = _wait_for_trials_on(sweep, first, 2)
    cluster.remove_node(first, allow_graceful=False)
    _wait_for_trials_on(sweep, second, 1)
    # Its workers may get to their end before they notice that their node is gone.
    os.kill(second.all_processes["raylet"][0].process.pid, signal.SIGKILL)
    lost_s = time.monotonic()
    cluster.add_node(num_cpus=2, **SMALL)
    output = sweep.end(driver)
    outcomes = sweep.outcomes()
    n_lost = sum(history.count("preempted") for history in outcomes.values())
    assert output.count(" was preempted: ") == n_lost
    for trial_id, (*failures, last) in outcomes.items():
        assert last == "published"
        assert set(failures) == {"preempted"} or (not failures and trial_id not in lost)
    cluster.shutdown()
    sweep.assert_as(undisturbed)
    again_s = min(sweep.started_s(trial_id, 2) for trial_id in lost) - lost_s
    sys.stdout.write(f"trains again {again_s:.1f} s after the last node was lost\n")


def test_placement_follows_what_trials_ask_for(
    sweep: Sweep, cluster: Any, undisturbed: Tables
) -> None:
    gpu_node = cluster.add_node(num_cpus=2, num_gpus=1, **SMALL).node_id
    cpu_node = cluster.add_node(num_cpus=2, **SMALL).node_id
    driver = sweep.start(
        "ray", "noted.run_noting_steps", address=cluster.address, plan="noted.mixed_sweep"
    )
    output = sweep.end(driver, exit_code=1)
    *others, infeasible = mixed_sweep().trials
    lines = output.splitlines()
    (refused,) = (i for i, line in enumerate(lines) if infeasible.trial_id in line)
    assert "asks for 64 CPUs; expected no more than one node offers, 2 CPUs" in lines[refused]
    assert refused < min(i for i, line in enumerate(lines) if " started: " in line)
    steps = sweep.steps()
    for planned in others:
        wants_gpu = planned.resources.gpus == 0.5
        node, gpus = (gpu_node, "0") if wants_gpu else (cpu_node, "-")
        assert {(step.node, step.gpus) for step in steps[planned.trial_id]} == {(node, gpus)}
    assert _most_at_once(steps, gpu_node) == 2
    findings = [(finding.code, finding.file.stem) for finding in verify(sweep.folder)]
    assert findings == [("missing-trial", infeasible.trial_id)]
    is_planned = undisturbed[1].trial_id.isin([planned.trial_id for planned in others])
    expected = undisturbed[1][is_planned].reset_index(drop=True)
    pd.testing.assert_frame_equal(tables(sweep.folder)[1], expected, check_exact=True)


def _most_at_once(steps: dict[str, list[Step]], node: str) -> int:
    """Most trials that took steps on a node during the same time."""
    spans = [(each[0].at_s, each[-1].at_s) for each in steps.values() if each[0].node == node]
    return max(sum(first <= start <= last for first, last in spans) for start, _ in spans)
