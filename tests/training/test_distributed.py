"""Several ranks train a trial to the numbers of one process."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_processes import RankError, RankProcesses, rank_processes
from small_trials import (
    ROUNDING,
    SEQ_LEN,
    SOURCE,
    StopAfter,
    alone,
    assigned,
    assignment_of,
    interrupted_at,
    observed_at_every_step,
    results,
    trial_of,
)

from sweeper.data.corpus import load_corpus
from sweeper.evaluation.bound import evaluate_bound, evaluate_given_prefixes, validation_set
from sweeper.families import family_of
from sweeper.store.assignment import Assignment
from sweeper.store.layout import Store
from sweeper.training import distributed
from sweeper.training.trainer import Trainer
from sweeper.training.worker import run_trial
from sweeper.trials.resources import Resources
from sweeper.trials.trial import Evaluation, Optimizer

pytestmark = pytest.mark.slow


DDP, FSDP = Resources(n_ranks=2), Resources(n_ranks=2, sharded=True)
both_kinds = pytest.mark.parametrize("resources", [DDP, FSDP], ids=["ddp", "fsdp"])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankProcesses]:
    with rank_processes(2, tmp_path_factory.mktemp("two")) as processes:
        yield processes


def start(assignment: Assignment, stop_after: int) -> str:
    """In a rank: run a trial until `stop` is asked for the n-th time."""
    return run_trial(assignment, stop=StopAfter(stop_after))


def assert_close(found: tuple[list[float], ...], expected: tuple[list[float], ...]) -> None:
    for values, others in zip(found, expected, strict=True):
        assert values == pytest.approx(others, rel=ROUNDING)


TRIALS: dict[str, dict[str, Any]] = {
    "ar": {},
    "masked": {},
    "esolm": {},
    "uniform": {"prefix_share": 0.5},
    "masked with dit": {"backbone": "dit", "optimizer": Optimizer(8, 3e-3, 3e-3, 2)},
    "masked, seven sequences": {"optimizer": Optimizer(7, 0.1, 6e-3, 2)},
    "esolm, one sequence": {"optimizer": Optimizer(1, 0.1, 6e-3, 2)},
    "hybrid with laprop, averaged": {
        "optimizer": Optimizer(8, 0.1, 6e-3, 2, name="laprop", weight_decay=0.01, ema_decay=0.9)
    },
    "masked, unclipped": {"optimizer": Optimizer(8, 0.1, 6e-3, 2, clip_norm=None)},
}


@both_kinds
@pytest.mark.parametrize("what", TRIALS)
def test_two_ranks_have_the_losses_and_bounds_of_one_process(
    tmp_path: Path, two: RankProcesses, what: str, resources: Resources
) -> None:
    trial = observed_at_every_step(what.split()[0].rstrip(","), **TRIALS[what])
    outcomes = two.run(start, assigned(tmp_path / "two", trial, resources), 1000)
    assert outcomes == ["published", "published"]
    assert_close(results(tmp_path / "two", trial), alone(tmp_path / "one", trial))


MUON_ROUNDING = 1e-3
"""Relative; the iteration of Muon is in bfloat16, where the order of sums of gradients shows."""


def test_two_replicas_train_with_muon_and_resume_to_the_same_bits(
    tmp_path: Path, two: RankProcesses
) -> None:
    trial = observed_at_every_step("masked", optimizer=Optimizer(8, 0.1, 6e-3, 2, name="muon"))
    two.run(start, assigned(tmp_path / "two", trial, DDP), 1000)
    found, expected = results(tmp_path / "two", trial), alone(tmp_path / "one", trial)
    for values, others in zip(found, expected, strict=True):
        assert values == pytest.approx(others, rel=MUON_ROUNDING)
    cut = tmp_path / "cut"
    assert two.run(start, assigned(cut, trial, DDP), 4) == ["interrupted"] * 2
    assert two.run(start, assigned(cut, trial, DDP), 1000) == ["published"] * 2
    assert results(cut, trial) == found


SAVERS = {
    "recomputed": {"recomputed": True},
    "micro-batches": {"micro_batch_sequences": 4},
    "uneven micro-batches": {"micro_batch_sequences": 3, "recomputed": True},
}


@both_kinds
@pytest.mark.parametrize("saver", SAVERS)
@pytest.mark.parametrize("name", ["ar", "masked", "esolm"])
def test_memory_savers_leave_the_numbers_alone(
    tmp_path: Path, two: RankProcesses, name: str, saver: str, resources: Resources
) -> None:
    trial = observed_at_every_step(name, optimizer=Optimizer(7, 0.1, 6e-3, 2))
    saving = dataclasses.replace(resources, **SAVERS[saver])  # type: ignore[arg-type]
    two.run(start, assigned(tmp_path / "two", trial, saving), 1000)
    assert_close(results(tmp_path / "two", trial), alone(tmp_path / "one", trial))


AVERAGED = Optimizer(8, 0.1, 6e-3, 2, ema_decay=0.9)


@both_kinds
def test_a_resumed_trial_ends_in_the_same_bits(
    tmp_path: Path, two: RankProcesses, resources: Resources
) -> None:
    trial = observed_at_every_step("masked", optimizer=AVERAGED)
    two.run(start, assigned(tmp_path / "whole", trial, resources), 1000)
    cut = tmp_path / "cut"
    assert two.run(start, assigned(cut, trial, resources), 4) == ["interrupted"] * 2
    assert two.run(start, assigned(cut, trial, resources), 1000) == ["published"] * 2
    assert results(cut, trial) == results(tmp_path / "whole", trial)


@pytest.mark.parametrize("saved_by", [DDP, FSDP, None], ids=["ddp", "fsdp", "alone"])
@pytest.mark.parametrize("resumed_by", [DDP, FSDP, None], ids=["ddp", "fsdp", "alone"])
def test_a_checkpoint_is_good_for_any_number_of_ranks(
    tmp_path: Path,
    two: RankProcesses,
    saved_by: Resources | None,
    resumed_by: Resources | None,
) -> None:
    optimizer = dataclasses.replace(AVERAGED, name="laprop", weight_decay=0.01)
    trial = observed_at_every_step("masked", optimizer=optimizer)

    def attempt(resources: Resources | None, stop_after: int) -> None:
        if resources is None:
            run_trial(assignment_of(tmp_path, trial), stop=StopAfter(stop_after))
        else:
            two.run(start, assigned(tmp_path, trial, resources), stop_after)

    attempt(saved_by, 4)
    (path,) = Store((tmp_path / "sweep").resolve()).checkpoints(trial).iterdir()
    assert path.name == "step-00000004.pt"
    attempt(resumed_by, 1000)
    assert_close(results(tmp_path, trial), alone(tmp_path / "one", trial))


def start_with_one_asked(assignment: Assignment, asked_rank: int, stop_after: int) -> str:
    """In a rank: run a trial; only one of the ranks hears that it should stop."""
    is_asked = distributed.current().rank == asked_rank
    return run_trial(assignment, stop=StopAfter(stop_after if is_asked else 1000))


@both_kinds
@pytest.mark.parametrize("asked_rank", [0, 1])
def test_all_ranks_stop_at_the_step_at_which_one_is_asked_to(
    tmp_path: Path, two: RankProcesses, asked_rank: int, resources: Resources
) -> None:
    trial = observed_at_every_step("masked")
    assignment = assigned(tmp_path, trial, resources)
    assert two.run(start_with_one_asked, assignment, asked_rank, 6) == ["interrupted"] * 2
    (path,) = Store((tmp_path / "sweep").resolve()).checkpoints(trial).iterdir()
    assert path.name == "step-00000006.pt"


def test_checkpoints_are_written_on_time_and_by_the_first_rank_alone(
    tmp_path: Path, two: RankProcesses
) -> None:
    trial = observed_at_every_step("masked")
    often = dataclasses.replace(FSDP, checkpoint_every_s=0.0)
    two.run(start, assigned(tmp_path, trial, often), 5)
    files = Store((tmp_path / "sweep").resolve()).checkpoints(trial).iterdir()
    assert sorted(path.name for path in files) == ["step-00000004.pt", "step-00000005.pt"]


def test_a_damaged_checkpoint_gives_way_to_the_one_before_in_all_ranks(
    tmp_path: Path, two: RankProcesses
) -> None:
    trial = observed_at_every_step("masked")
    _, newer = interrupted_at(tmp_path, trial, 3, 5)
    newer.write_bytes(newer.read_bytes()[:-1000])
    assert two.run(start, assigned(tmp_path, trial, FSDP), 1000) == ["published"] * 2
    assert_close(results(tmp_path, trial), alone(tmp_path / "one", trial))


@both_kinds
def test_ranks_agree_that_a_trial_has_diverged(
    tmp_path: Path, two: RankProcesses, resources: Resources
) -> None:
    trial = trial_of(optimizer=Optimizer(8, 1e30, auxiliary_learning_rate=6e-3, warmup_steps=1))
    outcomes = two.run(start, assigned(tmp_path, trial, resources), 1000)
    assert outcomes == ["diverged"] * 2


def bounds_after(assignment: Assignment) -> list[float]:
    """In a rank, or alone: bounds of a network that two steps have trained in one process."""
    trial, corpus = assignment.trial, load_corpus(SOURCE)
    cpu, here = torch.device("cpu"), distributed.current()
    first = Trainer(trial, family_of(trial), corpus, cpu)
    for _ in range(2):
        first.advance()
    trainer = Trainer(trial, family_of(trial), corpus, cpu, assignment.planned.resources, here)
    trainer.load_state_dict(first.state_dict())
    validation = validation_set(corpus, seq_len=SEQ_LEN, n_sequences=62)
    with trainer.evaluation_weights():
        scoring = trainer.scoring(lambda: None)
        what = trainer.family, trainer.denoise, validation, 0, scoring
        estimates = evaluate_bound(*what), evaluate_given_prefixes(*what)
    return [value for e in estimates for value in (e.nats_per_token, e.stderr)]


@both_kinds
@pytest.mark.parametrize("name", ["masked", "uniform"])
def test_ranks_score_a_network_to_the_bits_of_one_process(
    tmp_path: Path, two: RankProcesses, name: str, resources: Resources
) -> None:
    trial = observed_at_every_step(name, optimizer=AVERAGED, evaluation=Evaluation(62))
    assignment = assigned(tmp_path, trial, resources)
    assert two.run(bounds_after, assignment) == [bounds_after(assignment)] * 2


@both_kinds
def test_ranks_round_to_bfloat16_where_one_process_does(
    tmp_path: Path, two: RankProcesses, resources: Resources
) -> None:
    trial = observed_at_every_step("masked", precision="bfloat16")
    two.run(start, assigned(tmp_path / "two", trial, resources), 1000)
    (losses, norms, _), (others, other_norms, _) = (
        results(tmp_path / "two", trial),
        alone(tmp_path / "one", trial),
    )
    # Rows do not know of each other on the way forward. Gradients of weights are sums over rows
    # that each rank rounds to bfloat16, to one part in 2^8.
    assert losses[0] == pytest.approx(others[0], rel=1e-6)
    assert norms[0] == pytest.approx(other_norms[0], rel=2**-8)


def raise_in_the_second(assignment: Assignment) -> str:
    """In a rank: run a trial whose second rank fails before its third step."""
    n_asked = 0

    def fail() -> bool:
        nonlocal n_asked
        n_asked += 1
        if distributed.current().rank == 1 and n_asked == 3:
            raise torch.OutOfMemoryError("planted")
        return False

    return run_trial(assignment, stop=fail)


def test_an_exception_in_one_rank_ends_the_other(tmp_path: Path) -> None:
    assignment = assigned(tmp_path, observed_at_every_step("masked"), FSDP)
    with (
        rank_processes(2, tmp_path) as ranks_that_end,
        pytest.raises(RankError, match="OutOfMemoryError: planted"),
    ):
        ranks_that_end.run(raise_in_the_second, assignment)


def test_three_ranks_resume_to_the_same_bits(tmp_path: Path) -> None:
    trial, resources = observed_at_every_step("masked"), Resources(n_ranks=3)
    with rank_processes(3, tmp_path) as three:
        three.run(start, assigned(tmp_path / "whole", trial, resources), 1000)
        three.run(start, assigned(tmp_path / "cut", trial, resources), 4)
        three.run(start, assigned(tmp_path / "cut", trial, resources), 1000)
    assert results(tmp_path / "cut", trial) == results(tmp_path / "whole", trial)
    assert_close(results(tmp_path / "whole", trial), alone(tmp_path / "one", trial))
