"""Which trials a pruner lets go on, and that a search with one is killed without loss."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from planted_search import drive, search_sweep

from sweeper.errors import ConfigError
from sweeper.planning.search_space import Dimension
from sweeper.store.layout import Store
from sweeper.store.results import published
from sweeper.sweepfile.choices.pruner import PrunerName
from sweeper.sweepfile.choices.search import SamplerName
from sweeper.sweepfile.schema import load_sweep
from sweeper.tuning.pruning import Course, standings
from sweeper.tuning.search import Search, Tried, frozen_trial, propose_generation, study_of
from sweeper.tuning.search_sweep import (
    check_search,
    flops_saved,
    next_revision,
    open_revision,
    results,
    submitted_revision,
)

SWEEP = """\
name: planted
corpus: {source: "synthetic:iid?tokens=40000", seq_len: 16}
series:
  masked: {family: masked}
  uniform: {family: uniform}
design: {grid: {sizes: [5K], tokens: [100K]}}
train: {batch_tokens: 256}
evaluation: {sequences: 64}
tune:
  search: {weight_decay: {log: [1e-3, 1]}}
  at: {size: 5K, tokens: 80K}
  series: [masked]
  trials: 8
  parallel: 4
  seed: 0
  pruner: successive_halving
"""
PRUNERS: dict[PrunerName, dict[str, Any]] = {
    "successive_halving": {"reduction_factor": 2},
    "hyperband": {},
    "median": {"n_startup_trials": 2},
    "percentile": {"percentile": 25, "n_startup_trials": 1},
    "threshold": {"upper": 3.0},
    "patient": {"patience": 0},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "planted.yaml"
    path.write_text(SWEEP)
    return path


def search_with(tmp_path: Path, name: PrunerName, **options: Any) -> Search:
    """Four trials at a time, judged at 25 and 50 % of their runs."""
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP.replace("successive_halving", json.dumps({name: options})))
    pruner = load_sweep(file).sweep.tune.pruner
    space = {"weight_decay": Dimension((1e-3, 1.0), is_log=True)}
    return Search(space, ("masked",), 8, 4, "tpe", 0, pruner, (25, 50, 100))


def course(*bounds: float, has_diverged: bool = False) -> Course:
    return Course(tuple((bound,) for bound in bounds), tuple((0.01,) for _ in bounds), has_diverged)


def states(search: Search, *courses: Course) -> list[tuple[str, int]]:
    return [(one.state, one.n_milestones) for one in standings(search, courses)]


def test_all_trials_of_a_generation_reach_a_milestone_before_any_goes_on(tmp_path: Path) -> None:
    search = search_with(tmp_path, "successive_halving")
    assert states(search, *[course()] * 4) == [("open", 1)] * 4
    three = [course(2.7), course(2.5), course(2.6), course()]
    assert states(search, *three) == [("open", 1)] * 4
    # The first has nobody to be compared with; then the best half of those before goes on.
    four = [*three[:3], course(2.55)]
    assert states(search, *four) == [("open", 2), ("open", 2), ("pruned", 1), ("open", 2)]


def test_survivors_are_judged_again_at_each_milestone(tmp_path: Path) -> None:
    search = search_with(tmp_path, "successive_halving")
    rising = [course(bound) for bound in (2.5, 2.6, 2.7, 2.4)]
    found = states(search, *rising)
    assert found == [("open", 2), ("pruned", 1), ("pruned", 1), ("open", 2)]
    waiting = [course(2.5, 2.3), *rising[1:]]
    assert states(search, *waiting) == found
    further = [course(2.5, 2.3), *rising[1:3], course(2.4, 2.35)]
    assert states(search, *further) == [("open", 3), *found[1:3], ("pruned", 2)]
    ended = [course(2.5, 2.3, 2.1), *further[1:]]
    assert states(search, *ended) == [("done", 3), *found[1:3], ("pruned", 2)]


def test_a_trial_that_diverges_is_out_and_holds_nobody_up(tmp_path: Path) -> None:
    search = search_with(tmp_path, "successive_halving")
    found = states(
        search, course(2.5), course(has_diverged=True), course(2.6), course(2.7, has_diverged=True)
    )
    assert found == [("open", 2), ("diverged", 1), ("pruned", 1), ("pruned", 1)]


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_decides_the_same_of_the_same_courses(
    tmp_path: Path, name: PrunerName
) -> None:
    search = search_with(tmp_path, name, **PRUNERS[name])
    # Most fall; two rise.
    courses = [
        course(2.5, 2.3, 2.1),
        course(2.9, 2.95, 2.6),
        course(2.6, 2.5, 2.4),
        course(3.3, 3.1, 3.0),
        course(2.4, 2.2, 2.0),
        course(3.1, 3.15, 2.9),
        course(2.7, 2.6, 2.5),
        course(2.8, 2.5, 2.3),
    ]
    found = states(search, *courses)
    assert found == states(search, *courses)
    pruned = [number for number, (state, _) in enumerate(found) if state == "pruned"]
    assert pruned
    assert "done" in [state for state, _ in found]
    assert found[:4] == states(search, *courses[:4])


def test_a_pruned_trial_is_one_in_the_study_with_what_it_was_seen_at(tmp_path: Path) -> None:
    search = search_with(tmp_path, "median")
    settings = propose_generation(search, [], 0)
    history = [
        Tried(settings[0], (2.1,), (0.01,), ((25, 2.5), (50, 2.3), (100, 2.1))),
        Tried(settings[1], (), (), ((25, 2.9),), is_pruned=True),
        Tried(settings[2], (), ()),
        Tried(settings[3], (), (), ((25, 2.8), (50, 2.7)), is_pruned=True),
    ]
    samplers: tuple[SamplerName, ...] = ("tpe", "cmaes", "nsga2", "gp")
    for sampler in samplers:
        asked = dataclasses.replace(search, sampler=sampler)
        trials = study_of(asked, history).trials
        names = [trial.state.name for trial in trials]
        assert names == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED"]  # a failure is told as worst
        assert trials[3].intermediate_values == {25: 2.8, 50: 2.7}
        assert trials[3].value == 2.7
    assert frozen_trial(search, history[2], None).state.name == "FAIL"
    assert len(propose_generation(search, history, 1)) == 4


def plan_and_bounds(store: Store) -> tuple[str, list[tuple[str, int, float | None]]]:
    heads = published(store)
    bounds = sorted((h.trajectory_id, h.steps, h.last_bound_nats_per_token) for h in heads)
    return (store.folder / "plan.json").read_text(), bounds


def test_survivors_are_lengthened_and_what_pruning_saves_is_told(path: Path) -> None:
    sweep = search_sweep(path, path.parent / "results")
    check_search(sweep)
    assert drive(sweep) == 0
    revision = submitted_revision(sweep)
    assert revision is not None
    found = results(sweep, revision)
    done = [one for one in found if one and one.bounds]
    pruned = [one for one in found if one and one.is_pruned]
    assert len(found) == 8
    assert done
    assert pruned
    assert None not in found
    assert [[percent for percent, _ in one.reports] for one in done] == [[25, 50, 100]] * len(done)
    assert 0.2 < flops_saved(sweep, revision) / revision.whole.totals.train_flops < 0.7
    for planned, whole in zip(revision.planned.trials, revision.whole.trials, strict=True):
        assert planned.trajectory_id == whole.trajectory_id
        assert planned.trial.n_steps <= whole.trial.n_steps
    assert next_revision(sweep) is None
    assert open_revision(sweep) is None


def test_a_search_of_several_series_or_of_runs_with_an_end_refuses_a_pruner(path: Path) -> None:
    path.write_text(SWEEP.replace("  series: [masked]\n", ""))
    with pytest.raises(ConfigError, match=r"tune\.pruner: .*a pruner judges by one"):
        search_sweep(path, path.parent / "results")
    path.write_text(SWEEP.replace("batch_tokens: 256", "batch_tokens: 256, schedule: cosine"))
    with pytest.raises(ConfigError, match="schedule cosine cannot be lengthened"):
        check_search(search_sweep(path, path.parent / "results"))
    path.write_text(SWEEP.replace("tokens: 80K}", "tokens: 20K}"))
    with pytest.raises(ConfigError, match="20 steps until the first; expected at least 50"):
        check_search(search_sweep(path, path.parent / "results"))
