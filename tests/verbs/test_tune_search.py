"""Searching from the command line: trials, the table, JSON and the exported study."""

import io
import json
from pathlib import Path

import pytest
from command_line import sweeper
from rich.console import Console

from sweeper.tuning.search import Tried
from sweeper.verbs.tuning.search import SearchResult, result_to_json, result_view

SWEEP = """\
name: pilot
corpus: {source: "synthetic:iid?tokens=40000", seq_len: 16}
series:
  masked: {family: masked}
design: {grid: {sizes: [2.6K], tokens: [20K]}}
train: {batch_tokens: 256}
evaluation: {sequences: 64}
tune:
  search:
    learning_rate: {log: [0.01, 0.5]}
    betas: {choices: [[0.9, 0.95], [0.9, 0.99]]}
  at: {size: 2.6K, tokens: 20K}
  trials: 3
  parallel: 2
"""


@pytest.mark.slow
def test_a_search_runs_resumes_and_is_exported(tmp_path: Path) -> None:
    (tmp_path / "pilot.yaml").write_text(SWEEP)
    arguments = ["tune", "pilot.yaml", "--executor", "inline"]
    first = sweeper(*arguments, "--set", "tune.trials=2", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "pilot-search: 2 of 2 trials finished" in first.stdout
    assert "bound of masked" in first.stdout

    second = sweeper(*arguments, "--json", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    answer = json.loads(second.stdout)
    assert (answer["name"], answer["series"]) == ("pilot-search", ["masked"])
    assert (answer["n_trials"], answer["n_finished"], len(answer["trials"])) == (3, 3, 3)
    bounds = {t["trial"]: t["bound_nats_per_token"]["masked"] for t in answer["trials"]}
    assert answer["best"] == [min(bounds, key=lambda number: bounds[number])]
    assert len([*(tmp_path / "results/pilot-search/published").iterdir()]) == 3

    export = ["tune", "pilot.yaml", "--export-study", "study.log"]
    exported = sweeper(*export, cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert "wrote 3 trials to study.log" in exported.stdout
    again = sweeper(*export, cwd=tmp_path)
    assert again.returncode == 2
    assert "study.log exists already" in again.stderr


@pytest.mark.parametrize(
    ("old", "new", "arguments", "expected"),
    [
        ("betas:", "bettas:", [], "pilot.yaml:11:5  tune.search.bettas"),
        ("tokens: 20K}\n  trials", "tokens: 1K}\n  trials", ["--executor", "inline"], "4 steps"),
        ("", "", ["--export-study", "study.log"], "has no trial of this search"),
        ("", "", ["-o", "laws.yaml"], "-o is for laws"),
        (SWEEP[SWEEP.index("tune:") :], "", ["--export-study", "x"], "no tune.search"),
    ],
)
def test_mistakes_end_in_code_2_and_leave_no_file(
    tmp_path: Path, old: str, new: str, arguments: list[str], expected: str
) -> None:
    (tmp_path / "pilot.yaml").write_text(SWEEP.replace(old, new))
    result = sweeper("tune", "pilot.yaml", *arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stdout
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["pilot.yaml"]


def shown(result: SearchResult) -> str:
    text = io.StringIO()
    console = Console(file=text, width=140, soft_wrap=True)
    for part in result_view(result):
        console.print(part)
    return text.getvalue()


def tried(*bounds: float, ema: float = 0.5) -> Tried:
    return Tried({"ema": ema, "betas": [0.9, 0.99]}, bounds, tuple(0.01 for _ in bounds))


def test_the_lowest_bound_and_the_lowest_expected_are_told_apart() -> None:
    result = SearchResult(
        name="pilot-search",
        labels=("masked",),
        n_trials=4,
        tried={0: tried(2.5), 1: tried(), 2: tried(2.4, ema=0.1), 3: tried(2.6)},
        best=(2,),
        expected={0: 2.45, 2: 2.48, 3: 2.58},
        run_sd=0.05,
    )
    text = shown(result)
    assert "4 of 4 trials finished, 1 of them diverged" in text
    rows = [line.split()[0] for line in text.splitlines() if line.startswith("t0")]
    assert rows == ["t0000", "t0002", "t0003", "t0002"]  # by what is expected; then the sentence
    assert "t0002 has the lowest of 3 bounds, t0000 the lowest that is expected" in text
    fields = result_to_json(result)
    assert (fields["best"], fields["best_expected"]) == ((2,), 0)
    assert [trial["status"] for trial in fields["trials"]] == ["done", "diverged", "done", "done"]


def test_of_several_series_the_front_is_shown() -> None:
    result = SearchResult(
        name="pilot-search",
        labels=("masked", "uniform"),
        n_trials=3,
        tried={0: tried(2.5, 2.9), 1: tried(2.7, 2.7), 2: tried(2.8, 2.8)},
        best=(0, 1),
        expected={},
        run_sd=0.0,
    )
    text = shown(result)
    assert "bound of masked" in text
    assert "bound of uniform" in text
    assert "t0002" not in text
    assert "Pareto front: 2 trials" in text


def test_a_search_of_which_all_diverged_has_no_best() -> None:
    result = SearchResult("pilot-search", ("masked",), 1, {0: tried()}, (), {}, 0.0)
    assert shown(result).strip() == "pilot-search: 1 of 1 trials finished, 1 of them diverged"
    assert result_to_json(result)["best_expected"] is None
