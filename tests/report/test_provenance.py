"""How each series was trained stands in the report, so that a comparison can be judged."""

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.errors import SourceError
from analysis.report.provenance import provenance_of
from sweeper.trials.records import TABLE_FILE

SWEEP = """\
series:
  masked: {family: masked}
  uniform: {family: uniform, train: {learning_rate: 0.05}}
design: {isoflop: {budgets: [1e11], sizes: [5K, 20K]}}
train: {learning_rate: tuned, laws: laws.yaml}
law_files: {laws.yaml: {version: 1, laws: [{series: masked, measured: {runs: 14}}]}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        {"trial_id": f"{series}{rate}", "series": series, "status": "done", "precision": "float32"}
        | {"learning_rate": rate, "batch_tokens": 512, "data_source": "stdlib", "device": "cpu"}
        | {"data_fingerprint": "f00d", "eval_sequences": 64}
        for series, rate in (("masked", 0.02), ("masked", 0.04), ("uniform", 0.05))
    ]
    (tmp_path / "trials").mkdir()
    pd.DataFrame(rows).to_parquet(tmp_path / "trials" / TABLE_FILE)
    (tmp_path / "manifest.json").write_text(json.dumps({"packages": {}}))
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return tmp_path


def test_each_series_says_how_its_rate_and_batch_were_chosen(folder: Path) -> None:
    facts = dict(provenance_of(folder).facts)
    untuned = "tokens a batch 512, untuned, auto"
    assert facts["training of masked"] == f"learning rate 0.02 to 0.04, tuned in 14 runs; {untuned}"
    assert facts["training of uniform"] == (
        f"learning rate 0.05, as written in the sweep file; {untuned}"
    )


def test_settings_of_listed_runs_are_as_written(folder: Path) -> None:
    design = "design: {list: [{size: 5K, tokens: 1M, train: {batch_tokens: 512}}]}"
    old = "design: {isoflop: {budgets: [1e11], sizes: [5K, 20K]}}"
    (folder / "sweep.yaml").write_text(SWEEP.replace(old, design))
    facts = dict(provenance_of(folder).facts)
    assert facts["training of masked"].endswith("tokens a batch 512, as written in the sweep file")


def test_a_sweep_file_that_is_torn_is_an_error_that_names_the_folder(folder: Path) -> None:
    (folder / "sweep.yaml").write_text("series: {a")
    with pytest.raises(SourceError, match="sweep file cannot be read"):
        provenance_of(folder)
