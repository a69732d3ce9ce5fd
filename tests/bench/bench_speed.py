"""How fast networks train and are evaluated: `make bench-train`, `make bench-eval`.

Every line is one family at one size: tokens per second, the share of the peak of matrix products
measured in the same run, and the peak of live tensors, beside the same network in plain operations.
Both take turns in one process on one thread, and times are medians of what that thread used, as
other work on the machine would be measured too otherwise.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from bench_lines import processor, say, say_machine
from live_bytes import LiveBytes
from plain_gidd import use_plain_layers

from sweeper.data.corpus import Corpus, load_corpus
from sweeper.evaluation.bound import ValidationSet, evaluate_bound, validation_set
from sweeper.families import encoded_options, family_names, load_family
from sweeper.planning.recipe import bfloat16_from_width
from sweeper.training.trainer import Trainer
from sweeper.trials.flops import flops_per_token
from sweeper.trials.ladder import ladder, trunk_params
from sweeper.trials.trial import Data, Evaluation, Optimizer, Precision, Trial

CPU = torch.device("cpu")
SOURCE = "synthetic:markov?vocab=256&tokens=400000"
SIZES = {"20K": 2e4, "100K": 1e5, "1M": 1e6, "5M": 5e6}
LARGE = 5e5
"""Trunk parameters from which sequences have 128 tokens, not 64, and steps 4,096, not 1,024."""
N_SEQUENCES = 128
"""Of an evaluation; fixed, so that all are alike."""
MIN_RUNS, MAX_RUNS = 3, 41


@dataclass(frozen=True)
class Speed:
    """One family at one size; `plain` is the same network in plain operations."""

    family: str
    size: str
    precision: str
    tokens_per_s: float
    plain_tokens_per_s: float
    peak_share: float
    """Of the matrix products' peak in this precision, measured in this run."""
    peak_mib: float
    plain_peak_mib: float
    """Most bytes of live tensors, weights and moments left out."""

    def __str__(self) -> str:
        return (
            f"{self.family:8} {self.size:>5} {self.precision:>9} {self.tokens_per_s:10,.0f} "
            f"{self.plain_tokens_per_s:10,.0f} {self.tokens_per_s / self.plain_tokens_per_s:6.2f} "
            f"{100 * self.peak_share:6.0f} % {self.peak_mib:9.1f} {self.plain_peak_mib:9.1f}"
        )


TITLE = (
    f"{'family':8} {'size':>5} {'precision':>9} {'tokens/s':>10} {'plain':>10} {'ratio':>6} "
    f"{'of peak':>8} {'MiB':>9} {'plain':>9}"
)


def trainer_of(name: str, n_params: float, corpus: Corpus) -> Trainer:
    rung = min(ladder(), key=lambda rung: abs(trunk_params(rung) - n_params))
    seq_len, step_tokens = (128, 4096) if n_params >= LARGE else (64, 1024)
    family = load_family(name, vocab_size=corpus.tokens.vocab_size)
    is_wide = rung.width >= bfloat16_from_width(has_gpu=False)
    trial = Trial(
        family=name,
        family_options=encoded_options(family),
        rung=rung,
        data=Data(corpus.fingerprint, corpus.tokens.vocab_size, seq_len),
        optimizer=Optimizer(
            step_tokens // seq_len,
            0.02,
            auxiliary_learning_rate=6e-3,
            warmup_steps=10,
            ema_decay=0.999,
        ),
        evaluation=Evaluation(N_SEQUENCES),
        observe_at_steps=(1000,),
        seed=0,
        precision="bfloat16" if is_wide else "float32",
    )
    return Trainer(trial, family, corpus, CPU)


def seconds_in_turn(runs: list[Callable[[], object]], budget_s: float) -> list[float]:
    """Median seconds of this thread in each, taken in turn for about `budget_s` in all."""
    times: list[list[float]] = [[] for _ in runs]
    started = time.perf_counter()
    for run in runs:
        run()  # warms caches
    while len(times[0]) < MIN_RUNS or (
        len(times[0]) < MAX_RUNS and time.perf_counter() - started < budget_s
    ):
        for run, own in zip(runs, times, strict=True):
            before = time.thread_time()
            run()
            own.append(time.thread_time() - before)
    return [statistics.median(own) for own in times]


def peak_flops_per_s(precision: Precision) -> float:
    """The best of some square matrix products."""
    best = 0.0
    for n in (256, 512, 1024):
        a = torch.ones(n, n, dtype=getattr(torch, precision))
        seconds = seconds_in_turn([lambda a=a: a @ a], 0.5)[0]  # type: ignore[misc]
        best = max(best, 2 * n**3 / seconds)
    return best


def peak_mib(run: Callable[[], object]) -> float:
    live = LiveBytes()
    with live:
        run()
    return live.peak / 2**20


def training(trainer: Trainer, _validation: ValidationSet) -> tuple[Callable[[], object], int, int]:
    """A step, its tokens, and how much of forward and backward passes it does."""
    return trainer.advance, trainer.trial.tokens_per_step, 3


def evaluation(
    trainer: Trainer, validation: ValidationSet
) -> tuple[Callable[[], object], int, int]:
    """One bound."""

    def evaluate() -> object:
        return evaluate_bound(trainer.family, trainer.denoise, validation, 0)

    return evaluate, validation.sequences_NL.numel(), 1


def speed(
    name: str, size: str, corpus: Corpus, work: str, peaks: dict[Precision, float], budget_s: float
) -> Speed:
    runs: list[Callable[[], object]] = []
    for is_plain in (False, True):
        trainer = trainer_of(name, SIZES[size], corpus)
        if is_plain:
            use_plain_layers(trainer.backbone)
        data = trainer.trial.data
        validation = validation_set(corpus, seq_len=data.seq_len, n_sequences=N_SEQUENCES)
        run, n_tokens, passes = {"train": training, "eval": evaluation}[work](trainer, validation)
        runs.append(run)
    seconds, plain_seconds = seconds_in_turn(runs, budget_s)
    trial = trainer.trial
    per_token = flops_per_token(trial.rung, data.seq_len, data.vocab_size).total * passes / 3
    if trial.precision not in peaks:
        peaks[trial.precision] = peak_flops_per_s(trial.precision)
    return Speed(
        name,
        size,
        trial.precision,
        n_tokens / seconds,
        n_tokens / plain_seconds,
        per_token * n_tokens / seconds / peaks[trial.precision],
        *(peak_mib(run) for run in runs),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=["train", "eval"])
    parser.add_argument("--families", nargs="+", default=family_names(), choices=family_names())
    parser.add_argument("--sizes", nargs="+", default=[*SIZES], choices=[*SIZES])
    parser.add_argument("--seconds", type=float, default=6.0, help="for each line")
    parser.add_argument("--json", type=Path, help="also write what was measured here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as workers do
    say_machine(f"torch {torch.__version__}")
    say(TITLE)
    corpus, peaks, lines = load_corpus(SOURCE), dict[Precision, float](), []
    for size in args.sizes:
        for name in args.families:
            lines.append(speed(name, size, corpus, args.work, peaks, args.seconds))
            say(str(lines[-1]))
    for precision, peak in peaks.items():
        say(f"peak of {precision} matrix products: {peak / 1e9:.0f} GFLOP/s")
    if args.json:
        machine = {"processor": processor(), "python": platform.python_version()}
        found = {
            "work": args.work,
            "machine": machine | {"torch": torch.__version__, "threads": 1},
            "peak_flops_per_s": peaks,
            "lines": [asdict(line) for line in lines],
        }
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
