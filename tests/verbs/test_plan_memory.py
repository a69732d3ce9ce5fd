"""`sweeper plan` and the memory of GPUs."""

import json
from pathlib import Path

from command_line import sweeper

from sweeper.errors import ExitCode

SWEEP = """
name: large
corpus: {source: "synthetic:markov?vocab=8&tokens=200000", seq_len: 64}
series: {masked: {family: masked}}
design: {grid: {sizes: [%s], tokens: [1M]}}
train: {batch_tokens: 1024, precision: bfloat16}
evaluation: {sequences: 16}
resources: {gpus: 1, gpu_memory: %s}
"""


def test_a_model_that_fits_no_gpu_is_refused_with_what_would_fit(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP % ("100M", "3GB"))
    done = sweeper("plan", "sweep.yaml", cwd=tmp_path)
    assert done.returncode == ExitCode.BAD_INPUT
    assert "sweep.yaml:8:12  resources: found" in done.stderr
    assert "-parameter model of series 'masked' — 1.43 GB of the 3 GB of a GPU" in done.stderr
    assert "expected {gpus: 2, shard: true, recompute: true}" in done.stderr


def test_the_peak_of_every_trial_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP % ("10K, 100K", "80GB"))
    shown = sweeper("plan", "sweep.yaml", "--memory", "--json", cwd=tmp_path)
    small, large = (one["peak_memory_bytes"] for one in json.loads(shown.stdout)["trials"])
    assert 16 * 1e4 < small < large < 80e9
