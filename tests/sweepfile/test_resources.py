"""What each trial occupies, by its size."""

from pathlib import Path

import pytest

from sweeper.errors import ConfigError
from sweeper.sweepfile.schema import load_sweep
from sweeper.trials.ladder import rung_of_width
from sweeper.trials.resources import Resources

SWEEP = """
name: resources
corpus: {{source: "synthetic:markov", seq_len: 64}}
series: {{masked: {{family: masked}}}}
design: {{grid: {{sizes: [10K], tokens: [1M]}}}}
resources: {resources}
"""


def resources_of(tmp_path: Path, resources: str, width: int = 64) -> Resources:
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP.format(resources=resources))
    return load_sweep(path).sweep.resources.of(rung_of_width(width), seq_len=64)


def test_one_rank_on_a_gpu_if_there_is_any(tmp_path: Path) -> None:
    assert resources_of(tmp_path, "{}") == Resources()


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ("{gpus: 0.25}", Resources(gpus=0.25)),
        ("{gpus: 4}", Resources(gpus=4, n_ranks=4)),
        ("{gpus: 0, ranks: 2}", Resources(gpus=0, n_ranks=2)),
        ("{gpus: 2, shard: true, recompute: true}",
         Resources(gpus=2, n_ranks=2, sharded=True, recomputed=True)),
        ("{micro_batch_tokens: 200}", Resources(micro_batch_sequences=3)),
        ("{checkpoint_every: 5m}", Resources(checkpoint_every_s=300.0)),
    ],
)  # fmt: skip
def test_keys_of_the_sweep_file(tmp_path: Path, resources: str, expected: Resources) -> None:
    assert resources_of(tmp_path, resources) == expected


def test_larger_models_take_what_they_name_and_the_rest_from_smaller_ones(tmp_path: Path) -> None:
    resources = """
  gpus: 0.5
  cpus: 2
  from_size:
    - {size: 1M, gpus: 1}
    - {size: 10M, gpus: 8, shard: true}
"""
    small, middle, large = (resources_of(tmp_path, resources, width) for width in (64, 256, 1024))
    assert small == Resources(gpus=0.5, cpus=2)
    assert middle == Resources(gpus=1, cpus=2)
    assert large == Resources(gpus=8, cpus=2, n_ranks=8, sharded=True)


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ("{gpus: 2, ranks: 4}", "one GPU for each rank"),
        ("{gpus: 0.5, ranks: 2}", "one GPU for each rank"),
        ("{shard: true}", "several gpus or ranks"),
        ("{gpus: 1, from_size: [{size: 1M, shard: true}]}", "several gpus or ranks"),
        ("{from_size: [{size: 10M}, {size: 1M}]}", "increasing"),
        ("{from_size: [{gpus: 1}]}", "size"),
        ("{checkpoint_every: 0s}", "above zero"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, resources: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resources_of(tmp_path, resources)


def test_retries_are_bounded_by_the_sweep_file(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP.format(resources="{}") + "retry: {failures: 0, preemptions: 5}\n")
    retry = load_sweep(path).sweep.retry
    assert (retry.failures, retry.preemptions, retry.same_error) == (0, 5, 3)
