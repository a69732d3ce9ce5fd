"""One attempt at one trial, from corpus to published record."""

import dataclasses
import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from planted import on_disk
from small_trials import (
    SEQ_LEN,
    SOURCE,
    StopAfter,
    assignment_of,
    interrupted_at,
    never,
    numbers,
    planned_with,
    trial_of,
)

from sweeper.data.corpus import load_corpus
from sweeper.errors import DataError
from sweeper.evaluation.bound import evaluate_bound, validation_set
from sweeper.families import family_of
from sweeper.networks.backbone import Backbone
from sweeper.store.assignment import Assignment
from sweeper.store.layout import Store
from sweeper.store.results import head_of, read_records
from sweeper.training import worker
from sweeper.training.trainer import Trainer
from sweeper.training.worker import run_trial
from sweeper.trials.resources import Resources
from sweeper.trials.text_options import TextOptions
from sweeper.trials.trial import Data, Optimizer, Schedule, Trial


def test_a_trial_is_published_with_its_numbers(tmp_path: Path) -> None:
    trial = trial_of()
    assert run_trial(assignment_of(tmp_path, trial), stop=never) == "published"
    record = read_records([Store((tmp_path / "sweep").resolve()).record(trial.trial_id)])[0]
    assert [row["step"] for row in record["observations"]] == [4, 10]
    assert record["trial"]["status"] == "done"
    assert record["losses"]["step"] == [4, 10]
    for row in record["observations"]:
        assert 0 < row["bound_nats_per_token"] < 5
        assert row["bound_bits_per_byte"] is None  # a synthetic source has no bytes
        assert row["eval_tokens"] == 20 * SEQ_LEN


def test_a_trial_with_prefixes_has_their_own_bound_and_resumes(tmp_path: Path) -> None:
    trial = trial_of("uniform", prefix_share=0.5)
    assert run_trial(assignment_of(tmp_path / "whole", trial), stop=never) == "published"
    cut = tmp_path / "cut"
    assert run_trial(assignment_of(cut, trial), stop=StopAfter(5)) == "interrupted"
    assert run_trial(assignment_of(cut, trial), stop=never) == "published"
    assert numbers(cut, trial) == numbers(tmp_path / "whole", trial)
    plain = dataclasses.replace(trial, prefix_share=0.0)
    assert run_trial(assignment_of(tmp_path / "plain", plain), stop=never) == "published"
    (_, rows, losses), (_, others, other_losses) = (
        numbers(tmp_path / name, t) for name, t in (("whole", trial), ("plain", plain))
    )
    assert isinstance(rows, list)
    assert isinstance(others, list)
    assert all(0 < row["bound_given_prefix_nats_per_token"] < 5 for row in rows)
    assert all(0 < row["bound_given_prefix_stderr_nats_per_token"] < 1 for row in rows)
    assert all(row["bound_given_prefix_nats_per_token"] is None for row in others)
    assert losses != other_losses


def test_micro_batches_change_neither_identity_nor_results(tmp_path: Path) -> None:
    trial = trial_of("masked")
    whole, cut = assignment_of(tmp_path / "whole", trial), assignment_of(tmp_path / "cut", trial)
    assert run_trial(whole, stop=never) == "published"
    cut = planned_with(cut, resources=Resources(micro_batch_sequences=3))
    assert run_trial(cut, stop=never) == "published"
    (_, rows, _), (_, others, _) = (numbers(tmp_path / name, trial) for name in ("whole", "cut"))
    assert isinstance(rows, list)
    assert isinstance(others, list)
    for row, other in zip(rows, others, strict=True):
        # Ten float32 steps whose sums are taken in another order.
        assert other["bound_nats_per_token"] == pytest.approx(row["bound_nats_per_token"], rel=1e-3)


@pytest.mark.parametrize("stop_at_step", [1, 4, 5, 9])
def test_a_stopped_trial_resumes_to_the_same_numbers(tmp_path: Path, stop_at_step: int) -> None:
    trial = trial_of("uniform")
    assert run_trial(assignment_of(tmp_path / "whole", trial), stop=never) == "published"
    cut = tmp_path / "cut"
    stop = StopAfter(stop_at_step)  # the worker asks once before each step
    assert run_trial(assignment_of(cut, trial), stop=stop) == "interrupted"
    checkpoints = Store((cut / "sweep").resolve()).checkpoints(trial)
    path = on_disk(checkpoints / f"step-{stop_at_step:08}.pt")
    assert torch.load(path)["trainer"]["step"] == stop_at_step
    assert run_trial(assignment_of(cut, trial), stop=never) == "published"
    assert numbers(cut, trial) == numbers(tmp_path / "whole", trial)
    assert not checkpoints.exists()


def test_a_stopped_trial_resumes_with_its_averages_and_in_the_middle_of_its_cooldown(
    tmp_path: Path,
) -> None:
    settings = Optimizer(
        8, 0.1, 6e-3, 2, 1.0, "wsd", "laprop", schedule_steps=10, cooldown_steps=5, ema_decay=0.9
    )
    trial = trial_of(optimizer=settings)
    assert run_trial(assignment_of(tmp_path / "whole", trial), stop=never) == "published"
    cut = tmp_path / "cut"
    assert run_trial(assignment_of(cut, trial), stop=StopAfter(8)) == "interrupted"
    assert run_trial(assignment_of(cut, trial), stop=never) == "published"
    assert numbers(cut, trial) == numbers(tmp_path / "whole", trial)


def test_a_trial_that_averages_its_weights_is_scored_by_their_average(tmp_path: Path) -> None:
    plain = trial_of()
    averaged = trial_of(optimizer=dataclasses.replace(plain.optimizer, ema_decay=0.9))
    assert run_trial(assignment_of(tmp_path / "plain", plain), stop=never) == "published"
    assert run_trial(assignment_of(tmp_path, averaged), stop=never) == "published"
    _, plain_bounds, plain_losses = numbers(tmp_path / "plain", plain)
    _, bounds, losses = numbers(tmp_path, averaged)
    assert losses == plain_losses
    assert bounds != plain_bounds
    corpus = load_corpus(SOURCE)
    trainer = Trainer(averaged, family_of(averaged), corpus, torch.device("cpu"))
    for _ in range(10):
        trainer.advance()
    validation = validation_set(corpus, seq_len=SEQ_LEN, n_sequences=20)
    with trainer.evaluation_weights():
        estimate = evaluate_bound(trainer.family, trainer.denoise, validation, seed=0)
    assert isinstance(bounds, list)
    assert bounds[-1]["bound_nats_per_token"] == estimate.nats_per_token


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def forget_the_optimiser(path: Path) -> None:
    contents = torch.load(path)
    del contents["trainer"]["optimizer"]
    torch.save(contents, path)


def take_another_trajectory(path: Path) -> None:
    torch.save(torch.load(path) | {"trajectory": "0123456789ab"}, path)


def take_something_else(path: Path) -> None:
    torch.save([1, 2, 3], path)


DAMAGES = [
    tear,
    halve,
    empty,
    flip_a_bit,
    forget_the_optimiser,
    take_another_trajectory,
    take_something_else,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    trial = trial_of()
    assert run_trial(assignment_of(tmp_path / "whole", trial), stop=never) == "published"
    cut = tmp_path / "cut"
    older, newer = interrupted_at(cut, trial, 3, 5)
    damage(newer)
    # Seven steps are left of ten, so the attempt that resumes at the third is stopped at the ninth.
    assert run_trial(assignment_of(cut, trial), stop=StopAfter(6)) == "interrupted"
    assert f"{newer.name} is skipped" in caplog.text
    assert [path.name for path in older.parent.iterdir() if path != older] == ["step-00000009.pt"]
    assert run_trial(assignment_of(cut, trial), stop=never) == "published"
    assert numbers(cut, trial) == numbers(tmp_path / "whole", trial)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_without_a_readable_checkpoint_a_trial_starts_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    trial = trial_of()
    assert run_trial(assignment_of(tmp_path / "whole", trial), stop=never) == "published"
    cut = tmp_path / "cut"
    for path in interrupted_at(cut, trial, 3, 5):
        damage(path)
    assert run_trial(assignment_of(cut, trial), stop=never) == "published"
    assert caplog.text.count("is skipped") == 2
    assert numbers(cut, trial) == numbers(tmp_path / "whole", trial)


def test_checkpoints_stay_two_however_many_are_written(tmp_path: Path) -> None:
    trial = trial_of(observe_at_steps=(4, 20))
    folder = on_disk(Store((tmp_path / "sweep").resolve()).checkpoints(trial))
    assigned = assignment_of(tmp_path, trial)
    assigned = planned_with(assigned, resources=Resources(checkpoint_every_s=0.0))
    folder.mkdir(parents=True)
    (folder / ".tmp-step-00000001.pt-killed").write_bytes(b"left by a worker that was killed")
    seen: list[list[str]] = []

    def watch() -> bool:
        seen.append(sorted(path.name for path in folder.iterdir()))
        return False

    assert run_trial(assigned, stop=watch) == "published"
    assert [len(names) for names in seen[2:]] == [2] * 18
    assert seen[-1] == ["step-00000017.pt", "step-00000018.pt"]
    assert not folder.exists()


def test_a_full_disk_costs_checkpoints_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trial = trial_of()
    assert run_trial(assignment_of(tmp_path / "whole", trial), stop=never) == "published"
    (older,) = interrupted_at(tmp_path / "cut", trial, 2)

    def fill_the_disk(contents: dict[str, object], file: BinaryIO) -> None:
        file.write(b"half a checkpoint")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(torch, "save", fill_the_disk)
        assigned = assignment_of(tmp_path / "cut", trial)
        assigned = planned_with(assigned, resources=Resources(checkpoint_every_s=0.0))
        assert run_trial(assigned, stop=StopAfter(4)) == "interrupted"
    assert caplog.text.count("the disk is full") == 4 + 1
    assert [*older.parent.iterdir()] == [older]
    assert run_trial(assignment_of(tmp_path / "cut", trial), stop=never) == "published"
    assert numbers(tmp_path / "cut", trial) == numbers(tmp_path / "whole", trial)


def test_after_running_out_of_gpu_memory_a_smaller_micro_batch_goes_on_from_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of()
    assert run_trial(assignment_of(tmp_path / "whole", trial), stop=never) == "published"
    cut, forward = tmp_path / "cut", Backbone.forward
    steps: list[int] = []

    def with_little_memory(
        backbone: Backbone, z_BL: torch.Tensor, *rest: Any, **reading: Any
    ) -> Any:
        if len(z_BL) > 4 and len(steps) >= 6 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(backbone, z_BL, *rest, **reading)

    def count_steps() -> bool:
        steps.append(len(steps))
        return False

    monkeypatch.setattr(Backbone, "forward", with_little_memory)
    every_step = Resources(checkpoint_every_s=0.0)
    assigned = planned_with(assignment_of(cut, trial), resources=every_step)
    with pytest.raises(torch.OutOfMemoryError):
        run_trial(assigned, stop=count_steps)
    assert len(steps) == 6
    smaller = dataclasses.replace(every_step, micro_batch_sequences=4)
    assigned = planned_with(assignment_of(cut, trial), resources=smaller)
    assert run_trial(assigned, stop=count_steps) == "published"
    assert len(steps) == 6 + 5  # five steps lay behind the checkpoint
    (_, rows, _), (_, others, _) = (numbers(tmp_path / name, trial) for name in ("whole", "cut"))
    assert isinstance(rows, list)
    assert isinstance(others, list)
    for row, other in zip(rows, others, strict=True):
        # Five float32 steps whose sums are taken in another order.
        assert other["bound_nats_per_token"] == pytest.approx(row["bound_nats_per_token"], rel=1e-3)


def test_a_worker_tells_of_itself_during_evaluations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of("uniform", prefix_share=0.5, observe_at_steps=(2,))
    reported: list[int] = []
    monkeypatch.setattr(
        worker, "progress_reporter", lambda _: lambda progress: reported.append(progress.step)
    )
    assert run_trial(assignment_of(tmp_path, trial), stop=never) == "published"
    # At the start and after each step; in the evaluation, one batch for each half of the set and
    # one for each of 8 prefix lengths.
    assert reported == [0, 1, *[2] * (2 + 8), 2]


def test_a_checkpoint_past_an_unobserved_step_is_not_used(tmp_path: Path) -> None:
    trial = trial_of()
    assert run_trial(assignment_of(tmp_path, trial), stop=StopAfter(7)) == "interrupted"
    earlier = trial_of(observe_at_steps=(2, 10))
    assert earlier.trajectory_id == trial.trajectory_id
    assert run_trial(assignment_of(tmp_path, earlier), stop=never) == "published"
    whole = tmp_path / "whole"
    assert run_trial(assignment_of(whole, earlier), stop=never) == "published"
    assert numbers(tmp_path, earlier) == numbers(whole, earlier)


def test_a_checkpoint_before_an_unobserved_step_is_used_although_a_newer_one_is_past_it(
    tmp_path: Path,
) -> None:
    trial = trial_of()
    interrupted_at(tmp_path, trial, 3, 7)
    later = trial_of(observe_at_steps=(4, 6))
    asked = StopAfter(100)
    assert run_trial(assignment_of(tmp_path, later), stop=asked) == "published"
    assert 100 - asked.left == 3
    _, rows, _ = numbers(tmp_path, later)
    assert run_trial(assignment_of(tmp_path / "whole", later), stop=never) == "published"
    assert rows == numbers(tmp_path / "whole", later)[1]


def test_a_checkpoint_past_the_end_of_a_shortened_trial_is_not_used(tmp_path: Path) -> None:
    interrupted_at(tmp_path, trial_of(), 7)
    shortened = trial_of(observe_at_steps=(4,))
    assert run_trial(assignment_of(tmp_path, shortened), stop=never) == "published"
    assert run_trial(assignment_of(tmp_path / "whole", shortened), stop=never) == "published"
    assert numbers(tmp_path, shortened) == numbers(tmp_path / "whole", shortened)


def kept(folder: Path, trial: Trial) -> Assignment:
    return planned_with(assignment_of(folder, trial), checkpoint_kept_until="complete")


def record_of(folder: Path, trial: Trial) -> dict[str, Any]:
    return read_records([Store((folder / "sweep").resolve()).record(trial.trial_id)])[0]


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}, {"name": "laprop"}])
def test_a_longer_trial_goes_on_from_a_published_one_in_the_same_bits(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    optimizer = dataclasses.replace(trial_of().optimizer, **changes)
    short, long = (
        trial_of("uniform", optimizer=optimizer, observe_at_steps=steps) for steps in [(4,), (10,)]
    )
    assert short.trajectory_id == long.trajectory_id
    assert run_trial(kept(tmp_path, short), stop=never) == "published"
    asked = StopAfter(100)
    assert run_trial(kept(tmp_path, long), stop=asked) == "published"
    assert 100 - asked.left == 6
    # A run that was never cut observes both steps.
    whole = trial_of("uniform", optimizer=optimizer, observe_at_steps=(4, 10))
    assert run_trial(assignment_of(tmp_path / "whole", whole), stop=never) == "published"
    _, rows, losses = numbers(tmp_path / "whole", whole)
    assert isinstance(rows, list)
    found = [row for trial in (short, long) for row in record_of(tmp_path, trial)["observations"]]
    for row in (*found, *rows):
        del row["trial_id"]
    assert found == rows
    assert record_of(tmp_path, long)["losses"] == losses
    (checkpoint,) = on_disk(Store((tmp_path / "sweep").resolve()).checkpoints(long)).iterdir()
    assert checkpoint.name == "step-00000010.pt"


def test_the_record_of_a_longer_trial_says_what_it_went_on_from(tmp_path: Path) -> None:
    trials = [trial_of(observe_at_steps=(steps,)) for steps in (4, 6, 10)]
    for trial in trials[:2]:
        assert run_trial(kept(tmp_path, trial), stop=never) == "published"
    # Stopped and taken up again, it still goes on from the second.
    assert run_trial(kept(tmp_path, trials[2]), stop=StopAfter(2)) == "interrupted"
    assert run_trial(kept(tmp_path, trials[2]), stop=never) == "published"
    first, second, third = (record_of(tmp_path, trial) for trial in trials)
    assert "continued" not in first
    assert third["continued"] == {
        "trial_id": trials[1].trial_id,
        "steps": 6,
        "train_time_s": second["trial"]["train_time_s"],
        "eval_time_s": second["trial"]["eval_time_s"],
    }
    assert third["trial"]["train_time_s"] > second["trial"]["train_time_s"]
    heads = [head_of(record) for record in (first, second, third)]
    assert [head.own_steps for head in heads] == [4, 2, 4]
    assert sum(head.train_flops for head in heads) == pytest.approx(third["trial"]["train_flops"])
    spent_s = third["trial"]["train_time_s"] + third["trial"]["eval_time_s"]
    assert sum(head.work_time_s for head in heads) == pytest.approx(spent_s)


def test_a_trial_goes_on_from_no_checkpoint_past_what_it_observes(tmp_path: Path) -> None:
    assert run_trial(kept(tmp_path, trial_of(observe_at_steps=(8,))), stop=never) == "published"
    earlier = trial_of(observe_at_steps=(5, 10))
    asked = StopAfter(100)
    assert run_trial(kept(tmp_path, earlier), stop=asked) == "published"
    assert 100 - asked.left == 10
    assert "continued" not in record_of(tmp_path, earlier)
    assert run_trial(assignment_of(tmp_path / "whole", earlier), stop=never) == "published"
    assert numbers(tmp_path, earlier) == numbers(tmp_path / "whole", earlier)


def test_a_shorter_trial_leaves_the_checkpoint_of_a_longer_one(tmp_path: Path) -> None:
    long, short = trial_of(observe_at_steps=(8,)), trial_of(observe_at_steps=(5,))
    assert run_trial(kept(tmp_path, long), stop=never) == "published"
    assert run_trial(kept(tmp_path, short), stop=never) == "published"
    (checkpoint,) = on_disk(Store((tmp_path / "sweep").resolve()).checkpoints(long)).iterdir()
    assert checkpoint.name == "step-00000008.pt"


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_runs_of_a_schedule_that_knows_its_length_share_no_checkpoints(schedule: Schedule) -> None:
    def trial(n_steps: int) -> Trial:
        settings = dataclasses.replace(
            trial_of().optimizer, schedule=schedule, schedule_steps=n_steps, cooldown_steps=2
        )
        return trial_of(optimizer=settings, observe_at_steps=(n_steps,))

    store = Store(Path("/results/sweep"))
    assert store.checkpoints(trial(5)) != store.checkpoints(trial(10))


def test_a_diverged_trial_is_a_result(tmp_path: Path) -> None:
    # Rates this large overflow float32 within a few steps.
    settings = Optimizer(8, 1e30, auxiliary_learning_rate=6e-3, warmup_steps=1)
    trial = trial_of(optimizer=settings)
    assert run_trial(assignment_of(tmp_path, trial), stop=never) == "diverged"
    record = read_records([Store((tmp_path / "sweep").resolve()).record(trial.trial_id)])[0]
    assert record["trial"]["status"] == "diverged"
    assert record["trial"]["error_message"]
    assert record["observations"] == []


def test_another_corpus_than_the_planned_one_is_refused(tmp_path: Path) -> None:
    trial = trial_of(data=Data("0123456789ab", 8, SEQ_LEN))
    with pytest.raises(DataError, match="its files changed"):
        run_trial(assignment_of(tmp_path, trial), stop=never)


def test_a_worker_reads_the_corpus_as_it_was_planned(tmp_path: Path) -> None:
    rows = [json.dumps({"body": f"document {i} " * 20}) for i in range(60)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(rows))
    source, reading = f"path:{path}", TextOptions(text_column="body")
    corpus = load_corpus(source, options=reading)
    trial = trial_of()
    data = dataclasses.replace(
        trial.data, fingerprint=corpus.fingerprint, vocab_size=corpus.tokens.vocab_size
    )
    trial = dataclasses.replace(trial, data=data)
    assigned = planned_with(assignment_of(tmp_path, trial), source=source, reading=reading)
    assert run_trial(assigned, stop=never) == "published"
