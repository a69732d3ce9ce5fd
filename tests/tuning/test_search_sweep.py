"""A search as a sweep: killed anywhere, it goes on as if it had not been."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import planted_search
import pytest
from disturbed import VOLATILE
from planted_search import drive, search_sweep

from sweeper.errors import ConfigError
from sweeper.store.results import published
from sweeper.tuning.search_sweep import check_search, open_revision, results, submitted_revision

SWEEP = """\
name: planted
corpus: {source: "synthetic:iid?tokens=40000", seq_len: 16}
series:
  masked: {family: masked, train: {ema: 0.5}}
  uniform: {family: hybrid, shift: inf}
design: {grid: {sizes: [5K], tokens: [100K]}}
train: {batch_tokens: 256}
evaluation: {sequences: 64}
tune:
  search:
    weight_decay: {log: [1e-3, 1]}
    betas: {choices: [[0.9, 0.95], [0.9, 0.99]]}
    objective: {choices: [nelbo]}
  at: {size: 5K, tokens: 50K}
  series: [masked]
  trials: 11
  parallel: 4
  seed: 0
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "planted.yaml"
    path.write_text(SWEEP)
    return path


def plan_and_records(results_folder: Path) -> tuple[str, dict[str, Any]]:
    """`plan.json`, and the records without what says when, how long and how often."""
    (folder,) = results_folder.iterdir()
    records = {}
    for path in (folder / "published").iterdir():
        record = json.loads(path.read_text())
        del record["attempt"]
        for name in VOLATILE:
            del record["trial"][name]
        records[path.name] = record
    return (folder / "plan.json").read_text(), records


PRUNED = SWEEP.replace("tokens: 50K}", "tokens: 80K}") + "  pruner: successive_halving\n"


@pytest.fixture(scope="module", params=[SWEEP, PRUNED], ids=["whole", "pruned"])
def text(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def undisturbed(text: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "planted.yaml").write_text(text)
    assert drive(search_sweep(folder / "planted.yaml", folder / "results")) == 0
    return plan_and_records(folder / "results")


def driver(path: Path, results_folder: Path, **kill: int) -> int:
    """The exit code of a driver in a process of its own."""
    command = [sys.executable, planted_search.__file__, str(path), str(results_folder)]
    paths = [Path(planted_search.__file__).parent, Path(__file__).parents[2]]
    done = subprocess.run(
        [*command, json.dumps(kill)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode in (0, -9), done.stderr
    return done.returncode


@pytest.mark.slow
def test_a_search_killed_in_every_generation_ends_as_if_it_had_not_been(
    path: Path, text: str, undisturbed: tuple[str, dict[str, Any]]
) -> None:
    path.write_text(text)
    folder = path.parent / "results"
    assert driver(path, folder, trial=3) == -9  # in the middle of the first generation
    assert driver(path, folder, plan=3) == -9  # the second is decided and not yet recorded
    assert driver(path, folder, trial=2) == -9
    assert driver(path, folder, trial=4) == -9  # in the first trial of the third
    assert driver(path, folder) == 0
    assert plan_and_records(folder) == undisturbed


def test_a_search_that_is_over_trains_nothing_more(path: Path) -> None:
    sweep = search_sweep(path, path.parent / "results")
    assert drive(sweep) == 0
    n_published = len(published(sweep.store))
    assert n_published == 11
    assert open_revision(sweep) is None
    assert len([*(sweep.store.folder / "revisions").iterdir()]) == 3


def test_each_trial_is_a_series_with_its_settings(path: Path) -> None:
    revision = open_revision(search_sweep(path, path.parent / "results"))
    assert revision is not None
    written = revision.loaded.document.value
    assert written["name"] == "planted-search"
    assert "tune" not in written
    assert [*written["series"]] == ["t0000", "t0001", "t0002", "t0003"]
    for settings, planned in zip(revision.settings, revision.planned.trials, strict=True):
        optimizer = planned.trial.optimizer
        assert optimizer.weight_decay == settings["weight_decay"]
        assert optimizer.betas == tuple(settings["betas"])
        assert optimizer.ema_decay == 0.5  # of the series that is tuned
        assert dict(planned.trial.family_options)["objective"] == settings["objective"]
        assert planned.cells[-1].tokens == pytest.approx(50_000, rel=0.01)


def test_what_diverged_is_remembered_as_that(path: Path) -> None:
    sweep = search_sweep(path, path.parent / "results")
    drive(sweep)
    revision = submitted_revision(sweep)
    assert revision is not None
    found = [one for one in results(sweep, revision) if one]
    decays = [one.settings["weight_decay"] for one in found]
    assert [not one.bounds for one in found] == [decay > 0.5 for decay in decays]
    assert any(decay > 0.5 for decay in decays)


def test_more_trials_go_on_from_those_that_were_made(path: Path) -> None:
    folder = path.parent / "results"
    drive(search_sweep(path, folder))
    before = submitted_revision(search_sweep(path, folder))
    path.write_text(SWEEP.replace("trials: 11", "trials: 14"))
    longer = search_sweep(path, folder)
    assert drive(longer) == 0
    after = submitted_revision(longer)
    assert before is not None
    assert after is not None
    assert after.settings[:11] == before.settings
    assert len(published(longer.store)) == len(after.settings) == 14


def test_what_changes_no_number_does_not_begin_a_search_anew(path: Path) -> None:
    folder = path.parent / "results"
    drive(search_sweep(path, folder))
    before = submitted_revision(search_sweep(path, folder))
    path.write_text(SWEEP + "limits: {wall: 1h}\n")
    after = submitted_revision(search_sweep(path, folder))
    assert before is not None
    assert after is not None
    assert after.settings == before.settings
    assert after.loaded.sweep.limits.wall_s == 3600


def test_another_search_decides_anew(path: Path) -> None:
    folder = path.parent / "results"
    drive(search_sweep(path, folder))
    path.write_text(SWEEP.replace("log: [1e-3, 1]", "log: [1e-2, 1]"))
    other = search_sweep(path, folder)
    assert submitted_revision(other) is None
    revision = open_revision(other)
    assert revision is not None
    assert len(revision.settings) == 4


def test_settings_chosen_again_get_seeds_of_their_own(path: Path) -> None:
    path.write_text(
        SWEEP.replace("weight_decay: {log: [1e-3, 1]}", "weight_decay: {choices: [0.1]}").replace(
            "seed: 0", "seeds: [0, 2]"
        )
    )
    revision = open_revision(search_sweep(path, path.parent / "results"))
    assert revision is not None
    written = revision.loaded.document.value["series"]
    seeds: dict[str, list[list[int]]] = {}
    for settings, entry in zip(revision.settings, written.values(), strict=True):
        seeds.setdefault(str(settings), []).append(entry["train"]["seeds"])
    assert len(seeds) <= 2
    for chosen in seeds.values():
        assert chosen == [[3 * i, 3 * i + 2] for i in range(len(chosen))]


def test_series_tuned_together_have_an_objective_each(path: Path) -> None:
    path.write_text(SWEEP.replace("series: [masked]", "series: [uniform, masked]"))
    sweep = search_sweep(path, path.parent / "results")
    drive(sweep)
    revision = submitted_revision(sweep)
    assert revision is not None
    assert len(revision.planned.trials) == 22
    labels = [*revision.loaded.document.value["series"]]
    assert labels[:3] == ["t0000-uniform", "t0000-masked", "t0001-uniform"]
    done = [one for one in results(sweep, revision) if one and one.bounds]
    assert {len(one.bounds) for one in done} == {2}


def test_results_come_with_every_seed(path: Path) -> None:
    path.write_text(SWEEP.replace("trials: 11", "trials: 1\n  seeds: [0, 1]"))
    sweep = search_sweep(path, path.parent / "results")
    revision = open_revision(sweep)
    assert revision is not None
    assert results(sweep, revision) == [None]
    drive(sweep)
    _, second = (sweep.store.folder / "published").iterdir()
    (one,) = results(sweep, revision)
    assert one is not None
    assert len(one.bounds) == 1
    second.unlink()
    assert results(sweep, revision) == [None]


def refusal(path: Path, old: str, new: str) -> str:
    assert SWEEP.count(old) == 1
    path.write_text(SWEEP.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        check_search(search_sweep(path, path.parent / "results"))
    assert not (path.parent / "results").exists()
    return str(caught.value)


def test_a_search_that_could_not_end_is_refused_before_it_begins(path: Path) -> None:
    check_search(search_sweep(path, path.parent / "results"))
    decay = "weight_decay: {log: [1e-3, 1]}"
    # 195 steps, of which a later generation might have chosen more for warmup.
    assert "found 400 — expected fewer steps" in refusal(path, decay, "warmup: {log: [10, 400]}")
    evaluation = "evaluation: {sequences: 64}"
    dear = refusal(path, evaluation, f"{evaluation}\nlimits: {{flops: 1e10}}")
    assert "planted.yaml:9:17  limits.flops: found 1e10 — the search costs up to" in dear
    many = refusal(path, evaluation, f"{evaluation}\nlimits: {{trials: 10}}")
    assert "planted.yaml:9:18  limits.trials: found 10 — the search has 11" in many


def test_batches_are_searched_in_whole_sequences(path: Path) -> None:
    path.write_text(
        SWEEP.replace("weight_decay: {log", "batch_tokens: {log").replace("[1e-3, 1]", "[20, 300]")
    )
    sweep = search_sweep(path, path.parent / "results")
    check_search(sweep)
    revision = open_revision(sweep)
    assert revision is not None
    batches = [settings["batch_tokens"] for settings in revision.settings]
    assert all(batch % 16 == 0 and 32 <= batch <= 288 for batch in batches)
    assert len(set(batches)) > 1
