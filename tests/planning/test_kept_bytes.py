"""How many bytes of models a plan may leave, and what is said of a plan of too many."""

import pytest
import torch
from test_planner import plan_of

from sweeper.families import family_of
from sweeper.models.weights_file import TensorEntry, header_of
from sweeper.networks.backbone import backbone_of
from sweeper.planning.kept_bytes import kept_bytes
from sweeper.sweepfile.problems import InvalidSweep
from sweeper.trials.plan import PlannedTrial


def file_bytes(planned: PlannedTrial) -> int:
    with torch.device("meta"):
        backbone = backbone_of(planned.trial, family_of(planned.trial).needs)
    named = sorted(backbone.state_dict().items())
    entries = tuple(TensorEntry(name, "F32", tuple(tensor.shape)) for name, tensor in named)
    return len(header_of(entries)) + sum(entry.n_bytes for entry in entries)


@pytest.mark.parametrize("backbone", ["gidd", "dit"])
def test_what_stays_is_bounded_from_above_and_closely(backbone: str) -> None:
    plan = plan_of(backbone=backbone, keep="all")
    files = sum(len(planned.cells) * file_bytes(planned) for planned in plan.trials)
    n_models = sum(len(planned.cells) for planned in plan.trials)
    bound = kept_bytes(plan.trials, "all")
    assert files + 3000 * n_models <= bound <= files + 20_000 * n_models


def test_optimal_models_are_at_most_the_largest_of_each_series_and_budget() -> None:
    plan = plan_of()
    assert plan.plan.keep == "optimal"
    (one,) = {kept_bytes([p], "all", until=1e11) for p in plan.trials[-1:]}
    assert kept_bytes(plan.trials, "optimal") == 2 * 3 * one
    assert kept_bytes(plan.trials, "none") == 0


@pytest.mark.parametrize(
    ("keep", "told"),
    [
        ({"models": "all", "at_most": "2MB"}, "`models: optimal` fits and takes 1."),
        ({"at_most": "1.1MB"}, r"up to 3e\+11 fit"),
        ({"at_most": "1kB"}, "not even those of the least budget fit"),
    ],
)
def test_a_plan_of_too_many_bytes_is_refused_with_what_fits(
    keep: dict[str, str], told: str
) -> None:
    with pytest.raises(InvalidSweep, match=told) as caught:
        plan_of(keep=keep)
    assert [problem.path for problem in caught.value.problems] == [("keep", "at_most")]
