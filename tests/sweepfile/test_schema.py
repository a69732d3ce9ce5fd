"""The schema of sweep files: everything that is valid, and how several mistakes are told."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.errors import ConfigError
from sweeper.sweepfile.schema import Sweep, load_sweep
from sweeper.trials.ladder import Rung, nearest_rung

MINIMAL = """\
name: tiny
corpus: {source: stdlib, seq_len: 64}
series:
  ar: {family: ar}
design:
  grid: {sizes: [10K], tokens: [1M]}
"""


def sweep_of(text: str, folder: Path, overrides: tuple[str, ...] = ()) -> Sweep:
    path = folder / "x.yaml"
    path.write_text(text)
    return load_sweep(path, overrides).sweep


def test_a_minimal_file_takes_its_defaults(tmp_path: Path) -> None:
    sweep = sweep_of(MINIMAL, tmp_path)
    assert sweep.train.batch_tokens == sweep.train.learning_rate == sweep.train.warmup == "auto"
    assert sweep.train.seeds == (0,)
    assert sweep.train.betas == (0.9, 0.99)
    assert sweep.evaluation.sequences == 1024
    assert sweep.resources.gpus == sweep.resources.cpus == "auto"
    assert sweep.limits.flops == sweep.limits.wall_s == math.inf
    assert sweep.limits.n_trials == math.inf


@pytest.mark.parametrize(
    ("old", "new", "read"),
    [
        ("1M", "1e6", lambda s: s.design.grid.tokens == (1_000_000,)),
        ("1M", "1_000_000", lambda s: s.design.grid.tokens == (1_000_000,)),
        ("1M", "'1M'", lambda s: s.design.grid.tokens == (1_000_000,)),
        ("1M", "3M, 1M, 2M", lambda s: s.design.grid.tokens == (3_000_000, 1_000_000, 2_000_000)),
        ("10K", "10060", lambda s: s.design.grid.sizes == (nearest_rung(10_000),)),
        ("10K", "1.5B", lambda s: s.design.grid.sizes == (nearest_rung(1.5e9),)),
        (
            "10K",
            "{layers: 3, width: 32, heads: 2}",
            lambda s: s.design.grid.sizes == (Rung(3, 32, 2),),
        ),
        ("tiny", "Masked_vs-uniform2", lambda s: s.name == "Masked_vs-uniform2"),
        ("tiny", "tiny\ndescription: 'on: purpose'", lambda s: s.description == "on: purpose"),
        ("64", "1K", lambda s: s.corpus.seq_len == 1000),
        ("stdlib", "path:~/books", lambda s: s.corpus.source == "path:~/books"),
        ("ar: {", "MDLM-2: {", lambda s: list(s.series) == ["MDLM-2"]),
        (
            "family: ar",
            "family: hybrid, shift: -inf, objective: nelbo",
            lambda s: s.series["ar"].options == {"shift": "-inf", "objective": "nelbo"},
        ),
        (
            "grid: {sizes: [10K], tokens: [1M]}",
            "isoflop: {budgets: [1e18, 3E15], sizes: [1M], tokens_per_param: [5, 1e3]}",
            lambda s: (
                s.design.isoflop.budgets == (1e18, 3e15)
                and s.design.isoflop.tokens_per_param == (5, 1000)
            ),
        ),
        (
            "grid: {sizes: [10K], tokens: [1M]}",
            "zip: {sizes: [10K, 10K], tokens: [1M, 2M]}",
            lambda s: s.design.zipped.tokens == (1_000_000, 2_000_000),
        ),
        (
            "grid: {sizes: [10K], tokens: [1M]}",
            "list: [{size: 10K, tokens: 1M}, {size: 20K, tokens: 1M, series: ar}]",
            lambda s: [entry.series for entry in s.design.listed] == [(), ("ar",)],
        ),
    ],
)
def test_valid_spellings(old: str, new: str, read: object, tmp_path: Path) -> None:
    assert MINIMAL.count(old) == 1
    assert callable(read)
    assert read(sweep_of(MINIMAL.replace(old, new), tmp_path))


TRAIN = """\
train:
  batch_tokens: 32K
  learning_rate: 3e-4
  warmup: 2e3
  seeds: [2, 0, 1]
  betas: [90%, 0.95]
  weight_decay: 10%
  clip_norm: none
  optimizer: laprop
  schedule: wsd
  cooldown: 15%
  ema: 99.99%
  precision: bfloat16
evaluation: {sequences: 2K, seed: 7}
resources: {gpus: 25%, cpus: 2, price_per_hour: 1.5}
limits: {flops: 1e20, wall: 1d12h, trials: 1K, device_hours: 40, cost: 6e1}
"""


def test_every_number_may_be_written_as_people_do(tmp_path: Path) -> None:
    sweep = sweep_of(MINIMAL + TRAIN, tmp_path)
    assert sweep.train.batch_tokens == 32_000
    assert sweep.train.learning_rate == 3e-4
    assert sweep.train.warmup == 2000
    assert sweep.train.seeds == (2, 0, 1)
    assert sweep.train.betas == (0.9, 0.95)
    assert sweep.train.weight_decay == 0.1
    assert sweep.train.clip_norm is None
    assert (sweep.train.optimizer, sweep.train.schedule) == ("laprop", "wsd")
    assert (sweep.train.cooldown, sweep.train.ema) == (0.15, 0.9999)
    assert sweep.evaluation.sequences == 2000
    assert (sweep.resources.gpus, sweep.resources.cpus) == (0.25, 2)
    assert sweep.limits.wall_s == 36 * 3600
    assert (sweep.limits.flops, sweep.limits.n_trials) == (1e20, 1000)
    assert (sweep.limits.device_hours, sweep.limits.cost) == (40, 60)
    assert sweep.resources.price_per_hour == 1.5
    assert sweep.limits.device_s(1.5) == 40 * 3600
    assert sweep.limits.device_s(2.0) == 30 * 3600


def test_a_series_overrides_the_training_keys_that_it_names(tmp_path: Path) -> None:
    text = MINIMAL.replace("family: ar}", "family: ar, train: {learning_rate: 0.1, seeds: [5]}}")
    sweep = sweep_of(text + "train: {seeds: [1, 2], weight_decay: 0.5}\n", tmp_path)
    merged = sweep.train.overridden_by(sweep.series["ar"].train)
    assert (merged.learning_rate, merged.seeds, merged.weight_decay) == (0.1, (5,), 0.5)


def test_overrides_are_read_like_the_file(tmp_path: Path) -> None:
    overrides = ("train.seeds=[0, 1]", "design.grid.tokens.0=2M", "series.masked.family=masked")
    sweep = sweep_of(MINIMAL, tmp_path, overrides)
    assert sweep.train.seeds == (0, 1)
    assert sweep.design.grid is not None
    assert sweep.design.grid.tokens == (2_000_000,)
    assert list(sweep.series) == ["ar", "masked"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.sedes=[0]", "--set:1:1  train.sedes: found unknown key 'sedes'"),
        ("train.seeds=3", "--set:1:13  train.seeds: found 3 — expected a list"),
        ("train.seeds=[0, -1]", "--set:1:17  train.seeds.1: found -1"),
        ("design.grid.sizes.0=7", "--set:1:21  design.grid.sizes.0: found 7"),
        ("limits.flops=", "--set:1:1  limits.flops: found nothing — expected a number"),
        ("design.isoflop={}", "--set:1:1  design.isoflop: found the key 'isoflop' — a second"),
    ],
)
def test_a_mistake_in_an_override_is_found_in_it(override: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        sweep_of(MINIMAL, tmp_path, (override,))
    assert words in str(caught.value)


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = MINIMAL.replace("tiny", "my sweep").replace("64", "1").replace("10K", "-5, 7")
    with pytest.raises(ConfigError) as caught:
        sweep_of(text + "train: {sedes: [0], betas: [2, x]}\n", tmp_path)
    lines = str(caught.value).splitlines()[::3]
    assert [line.split(":")[1:3] for line in lines] == [
        ["1", "7  name"],
        ["2", "35  corpus.seq_len"],
        ["6", "18  design.grid.sizes.0"],
        ["6", "22  design.grid.sizes.1"],
        ["7", "9  train.sedes"],
        ["7", "29  train.betas.0"],
        ["7", "32  train.betas.1"],
    ]


SEARCH = """\
tune:
  search:
    weight_decay: {log: [0.1%, 1]}
    betas: {choices: [[0.9, 0.95], [0.9, 0.99]]}
    ema: {range: [0, 99.99%]}
  at: {size: 20K, tokens: 1.5M}
  series: ar
  trials: 1K
  sampler: gp
"""


def test_a_search_is_read(tmp_path: Path) -> None:
    tune = sweep_of(MINIMAL + SEARCH, tmp_path).tune
    assert tune.at is not None
    assert tune.search["weight_decay"].log == (0.001, 1)
    assert tune.search["betas"].choices == ([0.9, 0.95], [0.9, 0.99])
    assert tune.search["ema"].span == (0, 0.9999)
    assert (tune.at.size, tune.at.tokens) == (nearest_rung(20_000), 1_500_000)
    assert (tune.series, tune.trials, tune.parallel, tune.sampler) == (("ar",), 1000, 4, "gp")
    assert (tune.seed, tune.seeds) == (100, ())


def test_reading_a_sweep_loads_no_torch_and_no_ray() -> None:
    script = (
        "import sys; from pathlib import Path; from sweeper.sweepfile.schema import load_sweep;"
        "load_sweep(Path('sweeps/quick.yaml'));"
        "sys.exit(', '.join({'torch', 'ray', 'pandas', 'scipy'} & set(sys.modules)) or 0)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
