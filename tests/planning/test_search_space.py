"""What a search may choose from."""

from typing import Any

import pytest

from sweeper.planning.search_space import Dimension, search_space
from sweeper.sweepfile.problems import InvalidSweep
from sweeper.sweepfile.schema import Sweep


def space_of(search: dict[str, Any], **tune: Any) -> dict[str, Dimension]:
    sweep = Sweep.model_validate(
        {
            "name": "tiny",
            "corpus": {"source": "stdlib", "seq_len": 64},
            "series": {
                "masked": {"family": "masked"},
                "balanced": {"family": "hybrid", "shift": 0},
            },
            "design": {"grid": {"sizes": ["10K"], "tokens": ["1M"]}},
            "tune": {"search": search, "at": {"size": "10K", "tokens": "1M"}, **tune},
        }
    )
    return search_space(sweep, sweep.tune, vocab_size=256)


def test_keys_of_train_and_options_of_the_family_are_searched() -> None:
    space = space_of(
        {
            "weight_decay": {"log": ["1e-3", 1]},
            "shift": {"range": [-4, 4]},
            "objective": {"choices": ["nelbo", "unweighted"]},
        },
        series="balanced",
    )
    assert [*space] == ["weight_decay", "shift", "objective"]
    assert space["weight_decay"] == Dimension((0.001, 1.0), is_log=True)
    assert space["shift"] == Dimension((-4.0, 4.0))
    assert space["objective"].choices == ("nelbo", "unweighted")


def test_a_setting_that_takes_no_fraction_is_searched_in_whole_numbers() -> None:
    space = space_of({"warmup": {"log": [10, 1000]}, "clip_norm": {"range": [1, 4]}})
    assert space["warmup"].is_whole
    assert not space["clip_norm"].is_whole


def test_all_problems_of_a_space_are_told_at_once() -> None:
    with pytest.raises(InvalidSweep) as caught:
        space_of({"shift": {"range": [-4, 4]}, "betas": {"range": [0, 1]}})
    assert [problem.path for problem in caught.value.problems] == [
        ("tune", "search", "shift"),
        ("tune", "search", "betas", "range", 0),
        ("tune", "search", "betas", "range", 1),
    ]
