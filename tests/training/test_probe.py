"""A probe takes real steps of the right trials."""

import dataclasses

import torch
from planted import planned_sweep, planned_trial

from sweeper.training.probe import MAX_PROBED_SIZES, probe, probed_trials
from sweeper.trials.flops import FlopsPerToken


def test_every_size_is_probed_once_and_a_middle_one_in_every_series() -> None:
    chosen = probed_trials(planned_sweep(("masked", "uniform", "ar")).trials)
    widths = [each.trial.rung.width for each in chosen]
    assert sorted(widths) == [8, 16, 16, 16, 32]
    assert {each.series for each in chosen} == {"masked", "uniform", "ar"}


def test_of_many_sizes_some_spread_in_log_are_probed() -> None:
    trials = planned_sweep(("masked",), widths=tuple(range(8, 257, 8))).trials
    sizes = sorted({each.params.trunk for each in probed_trials(trials)})
    assert 5 <= len(sizes) <= MAX_PROBED_SIZES
    assert (sizes[0], sizes[-1]) == (trials[0].params.trunk, trials[-1].params.trunk)


def test_a_probe_times_steps_and_changes_no_settings() -> None:
    planned = planned_trial(width=8)
    trial = dataclasses.replace(planned.trial, family_options=())
    seconds = probe(dataclasses.replace(planned, trial=trial), torch.device("cpu"), 1, time_s=0.01)
    assert seconds is not None
    assert 1e-8 < seconds < 1e-2


def test_what_takes_too_long_is_not_probed() -> None:
    huge = dataclasses.replace(planned_trial(), flops_per_token=FlopsPerToken(1e15, 0.0, 0.0))
    assert probe(huge, torch.device("cpu"), 1) is None
