"""`sweeper tune`: what it finds, shows and writes."""

import io
import json
import math
from pathlib import Path

import planted_rates
import pytest
from command_line import sweeper
from planted_rates import LAW, tuning_in, write_sweep
from rich.console import Console

from sweeper.planning.planner import plan_sweep
from sweeper.sweepfile.law_file import read_laws
from sweeper.sweepfile.schema import load_sweep
from sweeper.verbs.tuning.laws import answers_of, fitted_law, tuning_view, write_answers


def test_a_planted_law_is_found_shown_written_and_planned_by(tmp_path: Path) -> None:
    write_sweep(tmp_path, rate="0.1", batch="512")
    tuning = tuning_in(tmp_path, fitted_law)
    planted_rates.tune(tuning)
    answers = answers_of(tuning)
    (answer,) = answers
    law = answer.fit.law
    for cell in answer.fit.cells:
        low, high = answer.fit.rate_interval(cell.params, cell.tokens)
        best_batch = LAW.best_batch(cell.params, cell.tokens)
        assert 0.8 * low < LAW.best_rate(cell.params, cell.tokens, best_batch) < 1.25 * high
        assert law.best_batch(cell.params, cell.tokens) == pytest.approx(best_batch, rel=0.5)
    shown = io.StringIO()
    console = Console(file=shown, width=200, soft_wrap=True)
    for part in tuning_view(answers):
        console.print(part)
    text = shown.getvalue()
    assert "published: D^0.82" in text
    assert f"lose {answer.gains[0].expected:.2%} by the law" in text
    assert text.count("checked at") == 3
    write_answers(tmp_path / "laws.yaml", tuning, answers, "sweeper tune tiny.yaml")
    (written,) = read_laws(tmp_path / "laws.yaml")
    assert written.key == planted_rates.KEY
    path = write_sweep(tmp_path, rate="tuned, laws: laws.yaml", batch="tuned")
    plan = plan_sweep(load_sweep(path), bfloat16_from_width=math.inf)
    assert {run.law for run in plan.tuned} == {"masked"}
    # What is lost by the planted law, horizon of one run included, is little.
    for run in plan.tuned:
        excess = LAW.excess(run.params, run.tokens, run.learning_rate, run.batch_tokens)
        assert excess < 0.004


SWEEP = """\
name: pilot
corpus: {source: "synthetic:markov?vocab=16&tokens=100000", seq_len: 16}
series:
  ar: {family: ar}
design: {grid: {sizes: [1.7K, 5K], tokens: [24K, 48K]}}
train: {learning_rate: tuned, batch_tokens: tuned, laws: pilot-laws.yaml}
evaluation: {sequences: 64}
tune: {sizes: [1.7K], tokens: [10K, 24K], radius: 1.5}
"""


@pytest.mark.slow
def test_from_a_sweep_file_to_a_law_file_and_again_to_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "pilot.yaml").write_text(SWEEP)
    without = sweeper("plan", "pilot.yaml", cwd=tmp_path)
    assert without.returncode == 2
    assert "no such law file" in without.stderr
    first = sweeper("tune", "pilot.yaml", "--executor", "inline", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "ar: " in first.stdout
    laws = (tmp_path / "pilot-laws.yaml").read_bytes()
    records = sorted(p.name for p in (tmp_path / "results/pilot-tune/published").iterdir())
    again = sweeper("tune", "pilot.yaml", "--executor", "inline", "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    (found,) = json.loads(again.stdout)["series"]
    assert found["n_runs"] >= 7
    *tuned, checked = found["cells"]  # of the two cells, and of the size that was checked
    assert (len(tuned), checked["n_points"]) == (2, 3)
    assert (tmp_path / "pilot-laws.yaml").read_bytes() == laws
    assert records == sorted(p.name for p in (tmp_path / "results/pilot-tune/published").iterdir())
    ran = sweeper("run", "pilot.yaml", "--executor", "inline", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    # What is stored with the results can be planned alone, from anywhere.
    stored = sweeper("plan", "results/pilot/sweep.yaml", cwd=tmp_path)
    assert stored.returncode == 0, stored.stderr
    assert "ar of pilot-laws.yaml" in stored.stdout
