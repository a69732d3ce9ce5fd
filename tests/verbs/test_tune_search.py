"""Searching from the command line: trials, the table, JSON and the exported study."""

import json
from pathlib import Path

import pytest
from command_line import sweeper

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
