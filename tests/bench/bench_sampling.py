"""What caches save, whether timing adds up, and how near trained models come to a known source.

    PYTHONPATH=.:tests/support python tests/bench/bench_sampling.py [cache|timing|trained]

Every table is Markdown, as docs/samples.md has it.
"""

import math
import statistics
import sys
import time
from typing import Any

import torch
from bench_lines import say, say_machine
from trained import CPU, trained

from sweeper.data.corpus import load_corpus, validation_sequences
from sweeper.evaluation.bound import evaluate_bound, validation_set
from sweeper.families import load_family
from sweeper.families.base import AbstractFamily, SamplingPlan
from sweeper.networks.backbone import Backbone, BackboneDenoiser
from sweeper.sampling import measure, throughput
from sweeper.sampling.controls import controls_for, ranks_controls_last
from sweeper.sampling.judge import NetworkJudge
from sweeper.sampling.protocol import sample_row
from sweeper.sampling.sources import ModelSource
from sweeper.sampling.throughput import Generate, TimingPlan, best_batch
from sweeper.sampling.truth import Truth
from sweeper.trials.ladder import Rung
from sweeper.trials.records import SampleRow
from sweeper.trials.sampling_task import CONTROL_FAMILY

LENGTHS = (64, 128, 256, 512)
SOURCE = "synthetic:markov?vocab=16&order=1&concentration=0.3&tokens=4000000"
SEQ_LEN, RUNG = 32, Rung(2, 64, 2)
N_SEQUENCES = 512
N_TURNS = 15
MODELS: tuple[tuple[str, str, dict[str, Any], tuple[str, ...]], ...] = (
    ("ar", "ar", {}, ("ancestral",)),
    ("masked", "masked", {}, ("ancestral", "confidence")),
    ("uniform", "uniform", {"objective": "unweighted"}, ("ancestral", "greedy_tail")),
    (
        "balanced",
        "hybrid",
        {"shift": 0.0, "objective": "unweighted"},
        ("ancestral", "greedy_tail", "adaptive"),
    ),
    ("esolm", "esolm", {"alpha_0": 0.5}, ("ancestral",)),
    ("esolm-1", "esolm", {}, ("ancestral", "block")),
)
METRICS = (
    "source_divergence_nats_per_token",
    "source_js_nats",
    "mmd",
    "mauve",
    "judge_divergence_nats_per_token",
    "cross_entropy_nats_per_token",
    "unigram_entropy_nats",
    "distinct_4",
)


def untrained(family: AbstractFamily) -> BackboneDenoiser:
    backbone = Backbone(Rung(4, 64, 4), 256, 1, family.needs.attention)
    rng = torch.Generator().manual_seed(0)
    backbone.initialize(rng)
    with torch.no_grad():
        backbone.head.normal_(generator=rng)
    return BackboneDenoiser(backbone.eval(), "float32")


def cache() -> None:
    """Cached against uncached, four sequences, a step for each token; the same tokens."""
    say("| family | length | cached, s | uncached, s | factor | same tokens |")
    say("|---|---|---|---|---|---|")
    for name in ("ar", "esolm"):
        family = load_family(name, vocab_size=256)
        denoiser = untrained(family)
        for length in LENGTHS:
            took, ids = [], []
            for keeps_cache in (True, False):
                plan = SamplingPlan(4, length, length, keeps_cache=keeps_cache)
                times = []
                for _ in range(3):
                    start_s = time.perf_counter()
                    samples = family.sample(denoiser, plan, torch.Generator().manual_seed(0))
                    times.append(time.perf_counter() - start_s)
                took.append(min(times))
                ids.append(samples.ids_BL)
            same = "yes" if torch.equal(*ids) else "NO"
            factor = took[1] / took[0]
            say(f"| {name} | {length} | {took[0]:.3f} | {took[1]:.3f} | {factor:.2f} | {same} |")


def timing() -> None:
    """Whether throughput × time of a later generation is what it made.

    Measurement and generation take turns, as the speed of a shared machine changes within seconds.
    """
    say("| family | best batch | tokens/s | spread | made / (tokens/s × s) |")
    say("|---|---|---|---|---|")
    for name in ("ar", "masked", "uniform", "esolm"):
        family = load_family(name, vocab_size=256)
        denoiser, rng = untrained(family), torch.Generator().manual_seed(0)

        def made(n: int, family: AbstractFamily = family, network: Any = denoiser) -> int:
            ids_BL = family.sample(network, SamplingPlan(n, 64, 16), rng).ids_BL  # noqa: B023
            return ids_BL.numel()

        found = best_batch(made, TimingPlan(max_batch_sequences=64, min_time_s=1.0))
        ratios = [later_over_foretold(made, found.batch_sequences) for _ in range(N_TURNS)]
        say(
            f"| {name} | {found.batch_sequences} | {found.tokens_per_s:,.0f} | {found.spread:.1%} "
            f"| {statistics.median(ratios):.3f} |"
        )


def later_over_foretold(made: Generate, batch_sequences: int) -> float:
    """Tokens of half a second over those that the throughput measured just before foretells."""
    measured = throughput.timing(made, batch_sequences, TimingPlan(n_repeats=1, min_time_s=0.5))
    start_s, tokens = time.perf_counter(), 0
    while time.perf_counter() - start_s < 0.5:
        tokens += made(batch_sequences)
    return tokens / (measured.tokens_per_s * (time.perf_counter() - start_s))


def trained_models() -> None:
    """Bounds and samples of trained models, beside controls, on a source that is known."""
    corpus, truth = load_corpus(SOURCE), Truth.of(SOURCE)
    reference_NL = torch.from_numpy(
        validation_sequences(corpus, seq_len=SEQ_LEN, n_sequences=N_SEQUENCES)
    )
    of_judge = trained("ar", SOURCE, seq_len=SEQ_LEN, n_steps=1000, rung=RUNG, seed=1)
    assert isinstance(of_judge.denoiser, BackboneDenoiser)
    judge = NetworkJudge("ar, seed 1", of_judge.identity, of_judge.family, of_judge.denoiser, CPU)
    measuring = measure.Measuring(
        reference_NL, 16, lambda ids: " ".join(map(str, ids)), judge, SOURCE, timing=None
    )
    validation = validation_set(corpus, seq_len=SEQ_LEN, n_sequences=N_SEQUENCES)
    n, freedom = N_SEQUENCES * (SEQ_LEN - 1), 16 * 15
    real = truth.run_divergence(reference_NL.numpy())
    say(
        f"{SOURCE}, entropy {truth.entropy(SEQ_LEN):.4f} nats/token; divergence of real sequences "
        f"{real:.4f}, its standard deviation {math.sqrt(2 * freedom) / (2 * n):.4f}\n"
    )
    columns = "bound − entropy | cross-entropy − entropy | KL | MMD | MAUVE"
    say(f"| series | sampler | steps | {columns} |\n|---|---|---|---|---|---|---|---|")
    rows: list[SampleRow] = []
    for label, name, options, samplers in MODELS:
        source = trained(name, SOURCE, seq_len=SEQ_LEN, n_steps=1000, rung=RUNG, **options)
        bound = evaluate_bound(source.family, source.denoiser, validation, seed=0)
        gap = f"{bound.nats_per_token - truth.entropy(SEQ_LEN):.4f} ± {bound.stderr:.4f}"
        for sampler in samplers:
            for n_steps in (128,) if source.family.is_exact else (4, 128):
                rows.append(row_of(source, label, sampler, n_steps, measuring))
                say(line_of(rows[-1], gap, truth))
    for control in controls_for(corpus):
        rows.append(row_of(control, control.name, control.name, 1, measuring))
        say(line_of(rows[-1], "", truth))
    say("\n| metric | ranks all controls behind the best row of every series |\n|---|---|")
    for metric in METRICS:
        say(f"| `{metric}` | {'yes' if ranks_controls_last(rows, metric) else 'NO'} |")


def row_of(
    source: Any, label: str, sampler: str, n_steps: int, measuring: measure.Measuring
) -> SampleRow:
    protocol = measure.protocol_of(
        measuring, CPU, sampler=sampler, n_steps=n_steps, n_sequences=N_SEQUENCES
    )
    family = "model" if isinstance(source, ModelSource) else CONTROL_FAMILY
    return sample_row("", label, family, protocol, measure.measure(source, protocol, measuring, 0))


def line_of(row: SampleRow, gap: str, truth: Truth) -> str:
    over = (row.source_cross_entropy_nats_per_token or 0.0) - truth.entropy(SEQ_LEN)
    stderr = row.source_cross_entropy_stderr_nats_per_token
    return (
        f"| {row.series} | {row.sampler} | {row.n_steps} | {gap} | {over:.4f} ± {stderr:.4f} | "
        f"{row.source_divergence_nats_per_token:.4f} | {row.mmd:.4f} | {row.mauve:.3f} |"
    )


PARTS = {"cache": cache, "timing": timing, "trained": trained_models}


def main() -> None:
    torch.set_num_threads(1)
    say_machine(f"torch {torch.__version__}, one thread")
    for part in sys.argv[1:] or PARTS:
        say(f"\n## {part}: {(PARTS[part].__doc__ or '').splitlines()[0]}\n")
        started_s = time.perf_counter()
        PARTS[part]()
        say(f"\n({time.perf_counter() - started_s:.0f} s)")


if __name__ == "__main__":
    main()
