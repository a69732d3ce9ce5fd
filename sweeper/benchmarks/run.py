"""Tasks of `lm-eval` for one model, and what came of them; needs that package.

The tasks of this folder are YAML files with their documents beside them: nothing is fetched.
"""

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import datasets
import yaml
from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager

from sweeper.benchmarks.adapter import SweeperLM, Tally
from sweeper.errors import ConfigError, UnavailableData, did_you_mean
from sweeper.models.load import Model

TASKS = Path(__file__).parent / "tasks"

LOCAL_TASKS = tuple(sorted(path.stem for path in TASKS.glob("*.yaml")))
"""Tasks that need no network, by name."""


@dataclass(frozen=True)
class Outcome:
    """One metric of one task."""

    task: str
    metric: str
    value: float
    stderr: float | None
    """Over documents; None where the metric has none."""
    n_documents: int
    tally: Tally


@dataclass(frozen=True)
class Benchmarks:
    """What tasks say of a model."""

    outcomes: list[Outcome]
    scores: Literal["exact", "bound", "joint bound"]
    """What texts were scored by; the joint bound is that of a context and an option together."""


def run_benchmarks(
    model: Model,
    folder: Path,
    tasks: Sequence[str],
    *,
    limit: int | None,
    seed: int,
    after: Callable[[int], object] = lambda _: None,
) -> Benchmarks:
    """Tasks by name, local ones or any of lm-eval, for the model in a folder.

    `after` is told how many more questions or texts are done. Raises ConfigError for a task that
    nobody knows and UnavailableData for one whose documents are not to be had here.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of what is meant so
    items = _loaded(tasks)
    adapter = SweeperLM(model, folder, seed, after)
    found = simple_evaluate(
        adapter,
        tasks=items,
        task_manager=TaskManager(include_defaults=False),
        limit=limit,
        bootstrap_iters=1000,
        log_samples=False,
        random_seed=None,  # else it seeds the global generators of this process
        numpy_random_seed=None,
        torch_random_seed=None,
        fewshot_random_seed=seed,
    )
    outcomes = [
        Outcome(
            task=task,
            metric=metric.removesuffix(",none"),
            value=float(value),
            stderr=_number(values.get(_stderr_of(metric))),
            n_documents=found["n-samples"].get(task, {}).get("effective", 0),
            tally=adapter.tallies[task],
        )
        for task, values in found["results"].items()
        for metric, value in values.items()
        if "," in metric and "_stderr," not in metric and _number(value) is not None
    ]
    scores: Literal["exact", "bound", "joint bound"] = "exact"
    if not model.family.is_exact:
        scores = "bound" if adapter.scorer.reads_contexts else "joint bound"
    return Benchmarks(outcomes, scores)


def local_task(name: str) -> dict[str, Any]:
    """The configuration of a local task, with its documents."""
    config: dict[str, Any] = yaml.safe_load((TASKS / f"{name}.yaml").read_text(encoding="utf-8"))
    lines = (TASKS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()

    def documents(**_: object) -> dict[str, datasets.Dataset]:
        return {"test": datasets.Dataset.from_list([json.loads(line) for line in lines])}

    return {**config, "task": name, "custom_dataset": documents}


def _loaded(names: Sequence[str]) -> list[Any]:
    """Tasks and groups of tasks."""
    are_theirs = not set(names) <= {*LOCAL_TASKS}
    manager = TaskManager(include_defaults=are_theirs)  # reading the index of theirs takes seconds
    known = [*LOCAL_TASKS, *manager.all_tasks]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ConfigError(
                f"--tasks: unknown task {name!r}{hint} (expected {', '.join(LOCAL_TASKS)}, or a "
                "task of lm-eval: lm_eval ls tasks)"
            )
    try:
        loaded = manager.load([local_task(n) if n in LOCAL_TASKS else n for n in names])
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UnavailableData(
            f"--tasks {','.join(names)}: cannot be loaded here ({type(error).__name__}: {reason}); "
            "expected documents that lm-eval can fetch from the Hugging Face hub or has in its "
            f"cache: check the network, or take {', '.join(LOCAL_TASKS)}"
        ) from error
    children = {child for group in loaded["group_map"].values() for child in group}
    items = loaded["groups"] | loaded["tasks"]
    return [item for name, item in items.items() if name not in children]


def _stderr_of(metric: str) -> str:
    """The key of a metric's standard error: `acc,none` has `acc_stderr,none`."""
    name, _, chosen = metric.partition(",")
    return f"{name}_stderr,{chosen}"


def _number(value: Any) -> float | None:
    """A finite number; None for texts such as N/A."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
