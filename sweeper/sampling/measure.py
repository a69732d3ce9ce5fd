"""One row of `samples`: sequences made, timed and judged.

Shapes: N sequences, L tokens.
"""

import dataclasses
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sweeper.errors import ConfigError
from sweeper.sampling import distances, entropy
from sweeper.sampling.judge import AsText, Judge, Judged, require_another
from sweeper.sampling.protocol import NO_JUDGE, Measurement, Protocol
from sweeper.sampling.sources import Generated, Source, generate
from sweeper.sampling.throughput import TimingPlan, best_batch, synchronize, timing
from sweeper.sampling.truth import Truth
from sweeper.trials.seeds import generator

N_BOOTSTRAP = 200
_DISTANCES = 0xD157  # separates the stream of the bootstrap from other uses of the same seed
DEFAULT_TIMING = TimingPlan()


@dataclass(frozen=True)
class Measuring:
    """What all measurements of a table have in common."""

    reference_NL: Tensor
    """Real sequences in own tokens, which prefixes come from and distances are measured to."""
    vocab_size: int
    as_text: AsText
    judge: Judge | None = None
    corpus_source: str = ""
    """A `synthetic:` source is known exactly."""
    timing: TimingPlan | None = DEFAULT_TIMING
    """None: speed is not measured."""
    n_bootstrap: int = N_BOOTSTRAP
    after_batch: Callable[[int], object] = lambda _: None
    """Told how many sequences there are, to show that the process is alive."""
    _of_real: dict[int, Judged] = field(default_factory=dict, compare=False, repr=False)

    def real(self, judge: Judge, n_prefix: int) -> Judged:
        """What the judge says of the real sequences; asked once."""
        if n_prefix not in self._of_real:
            self._of_real[n_prefix] = judge.judge(self.reference_NL, n_prefix)
        return self._of_real[n_prefix]


def protocol_of(
    measuring: Measuring, device: torch.device, *, sampler: str, n_steps: int, n_sequences: int
) -> Protocol:
    """A protocol at temperature 1, of whole sequences without prefixes."""
    judge, length = measuring.judge, measuring.reference_NL.shape[1]
    return Protocol(
        sampler=sampler,
        n_steps=n_steps,
        block_tokens=length,
        context_tokens=length,
        n_sequences=n_sequences,
        judge=judge.name if judge else NO_JUDGE,
        judge_revision=judge.revision if judge else "",
        reference=fingerprint(measuring.reference_NL),
        device=device_name(device),
    )


def measure(source: Source, protocol: Protocol, measuring: Measuring, seed: int) -> Measurement:
    """Generate, time and judge; all but times is a function of weights and arguments.

    Raises ConfigError for a model that would judge itself, a prefix that its family cannot have,
    or a protocol that is not that of `measuring`.
    """
    judge = measuring.judge
    if judge is not None:
        require_another(judge, source.identity)
    _require_protocol(protocol, measuring)
    start_s = time.perf_counter()
    made = generate(source, protocol, measuring.reference_NL, seed, measuring.after_batch)
    wall_time_s = time.perf_counter() - start_s
    new_NL = made.new_NL.numpy()
    numbers: dict[str, float | int | None] = {
        **_speed(source, protocol, measuring),
        **_own_entropy(made),
        **_judged(made, measuring, seed),
        **_truth(made, measuring),
        "unigram_entropy_nats": entropy.unigram_entropy(new_NL),
        "ngram_entropy_nats_per_token": entropy.ngram_entropy(new_NL, measuring.vocab_size),
        "distinct_2": entropy.distinct(new_NL, 2),
        "distinct_4": entropy.distinct(new_NL, 4),
    }
    cross_entropy = numbers["cross_entropy_nats_per_token"]
    own = numbers["ngram_entropy_nats_per_token"]
    return Measurement(
        sampling_seed=seed,
        network_evaluations=made.network_evaluations,
        tokens_generated=new_NL.size,
        wall_time_s=wall_time_s,
        judge_divergence_nats_per_token=(
            None if cross_entropy is None or own is None else cross_entropy - own
        ),
        first_sample=measuring.as_text(made.ids_NL[0].numpy()),
        **numbers,  # type: ignore[arg-type]
    )


def fingerprint(ids_NL: Tensor) -> str:
    """A hash of sequences."""
    content = repr(tuple(ids_NL.shape)).encode() + ids_NL.numpy().astype("<i8").tobytes()
    return hashlib.blake2b(content, digest_size=6).hexdigest()


def device_name(device: torch.device) -> str:
    """What speed depends on: the accelerator, or the number of CPU threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _require_protocol(protocol: Protocol, measuring: Measuring) -> None:
    judge = measuring.judge
    expected = dataclasses.replace(
        protocol,
        judge=judge.name if judge else NO_JUDGE,
        judge_revision=judge.revision if judge else "",
        reference=fingerprint(measuring.reference_NL),
    )
    if protocol != expected:
        raise ConfigError(
            f"the protocol names judge {protocol.judge} {protocol.judge_revision} and real text "
            f"{protocol.reference}, but there are {expected.judge} {expected.judge_revision} and "
            f"{expected.reference}: make the protocol with `protocol_of`"
        )
    if protocol.context_tokens != measuring.reference_NL.shape[1]:
        raise ConfigError(
            f"sequences of {protocol.context_tokens} tokens cannot be set beside real ones of "
            f"{measuring.reference_NL.shape[1]}: use one length"
        )


def _speed(
    source: Source, protocol: Protocol, measuring: Measuring
) -> dict[str, float | int | None]:
    names = ("tokens_per_s", "tokens_per_s_spread", "best_batch_sequences")
    latency_names = ("latency_s", "latency_s_spread")
    if measuring.timing is None or not source.is_timed:
        return dict.fromkeys((*names, *latency_names))
    prefix_N, rng = measuring.reference_NL[:, : protocol.prefix_tokens], generator(0, "timing")

    def made(n_sequences: int) -> int:
        rows = torch.arange(n_sequences) % len(prefix_N)
        ids_BN = source.generate(protocol, prefix_N[rows], rng).ids_BL
        synchronize(ids_BN.device)
        measuring.after_batch(0)
        return ids_BN.numel()

    alone = timing(made, 1, measuring.timing)
    best = best_batch(made, measuring.timing)
    of_best = (best.tokens_per_s, best.spread, best.batch_sequences)
    of_alone = (alone.time_s, alone.spread)
    return dict(zip((*names, *latency_names), (*of_best, *of_alone), strict=True))


def _own_entropy(made: Generated) -> dict[str, float | int | None]:
    names = ("own_entropy_nats_per_token", "own_entropy_stderr_nats_per_token")
    if made.own_nll_NL is None:
        return dict.fromkeys(names)
    return dict(zip(names, _mean(made.own_nll_NL.mean(dim=1).numpy()), strict=True))


def _judged(made: Generated, measuring: Measuring, seed: int) -> dict[str, float | int | None]:
    scores = ("cross_entropy_nats_per_token", "cross_entropy_stderr_nats_per_token")
    of_mauve, of_mmd = ("mauve", "mauve_low", "mauve_high"), ("mmd", "mmd_low", "mmd_high")
    judge = measuring.judge
    if judge is None:
        return dict.fromkeys(("tokens_judged", *scores, *of_mauve, *of_mmd))
    judged = judge.judge(made.ids_NL, made.n_prefix)
    real = measuring.real(judge, made.n_prefix)
    nats_N = judged.nats_N / made.new_NL.shape[1]
    found: dict[str, float | int | None] = {"tokens_judged": judged.tokens}
    found |= zip(scores, _mean(nats_N), strict=True)
    # Mean hidden states of a small judge are little more than histograms of tokens, by which
    # shuffled text is real. How surprised the judge is, in either direction, tells them apart, and
    # is a coordinate of its own, so that no larger variance hides it.
    features = distances.joined(
        distances.whitened(judged.features_ND, real.features_ND),
        distances.whitened(judged.nats_N[:, None], real.nats_N[:, None]),
    )
    rng, n = np.random.default_rng([seed, _DISTANCES]), measuring.n_bootstrap
    for names, distance_of in ((of_mauve, distances.mauve), (of_mmd, distances.mmd)):
        found |= zip(names, dataclasses.astuple(distance_of(features, rng, n)), strict=True)
    return found


def _truth(made: Generated, measuring: Measuring) -> dict[str, float | int | None]:
    names = (
        "source_cross_entropy_nats_per_token",
        "source_cross_entropy_stderr_nats_per_token",
        "source_divergence_nats_per_token",
        "source_divergence_exact_nats_per_token",
        "source_js_nats",
    )
    if not measuring.corpus_source.startswith("synthetic:"):
        return dict.fromkeys(names)
    truth, ids_NL = Truth.of(measuring.corpus_source), made.ids_NL.numpy()
    nats_N = truth.nats(ids_NL, made.n_prefix) / made.new_NL.shape[1]
    exact = None
    if made.own_nll_NL is not None:
        exact = float((nats_N - made.own_nll_NL.mean(dim=1).numpy()).mean())
    ending_NL = ids_NL[:, max(0, made.n_prefix - truth.order) :]  # runs that end in new tokens
    of_runs = truth.run_divergence(ending_NL), exact, truth.run_js(ending_NL)
    return dict(zip(names, (*_mean(nats_N), *of_runs), strict=True))


def _mean(nats_N: np.ndarray) -> tuple[float, float]:
    """Mean and standard error over sequences."""
    n = len(nats_N)
    return float(nats_N.mean()), float(nats_N.std(ddof=1) / n**0.5) if n > 1 else 0.0
