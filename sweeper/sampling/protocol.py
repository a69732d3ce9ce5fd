"""What makes measurements of samples comparable, and what one measurement says. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.errors import ConfigError
from sweeper.trials.records import CONDITIONS, SampleRow

SAMPLING_VERSION = 2
"""Bumped by hand whenever the same protocol, weights and seed would give other numbers."""

NO_JUDGE = "none"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How samples were made and judged: columns of `samples`, where their meaning is told.

    Its first five fields are settings, which a frontier compares; the others are conditions.
    """

    sampler: str
    n_steps: int
    temperature: float = 1.0
    top_p: float = 1.0
    block_tokens: int
    context_tokens: int
    prefix_tokens: int = 0
    n_sequences: int
    draw_dtype: str = "float64"  # `draw` of families/_sampling.py
    judge: str = NO_JUDGE
    judge_revision: str = ""
    reference: str
    sampling_version: int = SAMPLING_VERSION
    device: str

    @property
    def new_tokens(self) -> int:
        """Tokens that each sequence gets beyond its prefix."""
        return self.context_tokens - self.prefix_tokens


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The numbers of one row of `samples`, where their meaning is told."""

    sampling_seed: int
    network_evaluations: int
    tokens_generated: int
    tokens_judged: int | None
    wall_time_s: float
    tokens_per_s: float | None
    tokens_per_s_spread: float | None
    best_batch_sequences: int | None
    latency_s: float | None
    latency_s_spread: float | None
    cross_entropy_nats_per_token: float | None
    cross_entropy_stderr_nats_per_token: float | None
    unigram_entropy_nats: float
    ngram_entropy_nats_per_token: float
    own_entropy_nats_per_token: float | None
    own_entropy_stderr_nats_per_token: float | None
    judge_divergence_nats_per_token: float | None
    mauve: float | None
    mauve_low: float | None
    mauve_high: float | None
    mmd: float | None
    mmd_low: float | None
    mmd_high: float | None
    distinct_2: float
    distinct_4: float
    source_cross_entropy_nats_per_token: float | None
    source_cross_entropy_stderr_nats_per_token: float | None
    source_divergence_nats_per_token: float | None
    source_divergence_exact_nats_per_token: float | None
    source_js_nats: float | None
    first_sample: str


def sample_row(
    trial_id: str, series: str, family: str, protocol: Protocol, measurement: Measurement
) -> SampleRow:
    """The row of a measurement in `samples`."""
    return SampleRow(
        trial_id=trial_id, series=series, family=family, **vars(protocol), **vars(measurement)
    )


def differences(rows: Sequence[Protocol | SampleRow]) -> tuple[str, ...]:
    """One text for each condition in which rows differ, with its values; none: comparable."""
    found = []
    for name in CONDITIONS:
        values = sorted({str(getattr(row, name)) for row in rows})
        if len(values) > 1:
            found.append(f"{name} ({', '.join(values)})")
    return tuple(found)


def require_comparable(rows: Sequence[Protocol | SampleRow]) -> None:
    """Raise ConfigError if rows differ in more than settings."""
    if found := differences(rows):
        raise ConfigError(
            f"samples of different protocols: they differ in {'; '.join(found)}; expected the same "
            "for all: measure them again in one way, or compare them apart"
        )
