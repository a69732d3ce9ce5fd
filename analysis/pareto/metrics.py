"""What samples are judged by, the number that can be fooled least first.

The only place of `analysis`, with `samples.py`, that knows the columns of `samples`; they are
documented in `sweeper/trials/records.py`. Here lower is better.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Numbers = Mapping[str, float]
"""Numeric columns of one row that have a value."""


@dataclass(frozen=True)
class Estimate:
    """A measured number and its standard error."""

    value: float
    stderr: float = 0.0


@dataclass(frozen=True)
class Metric:
    """One number of a set of samples; the lower, the better."""

    name: str
    title: str
    """With its unit, for people."""
    needs: tuple[str, ...]
    """Columns without which a row has no number of it."""
    of: Callable[[Numbers], Estimate]
    needs_judge: bool = True

    def estimate(self, row: Numbers) -> Estimate | None:
        """The number of a row, None where it was not measured."""
        return self.of(row) if all(column in row for column in self.needs) else None


SIGMAS_OF_INTERVAL = 3.92
"""Width of a 95 % interval in standard errors."""


METRICS = (
    Metric(
        "source_divergence",
        "divergence from the source (nats per token)",
        ("source_divergence_nats_per_token", "source_cross_entropy_stderr_nats_per_token"),
        lambda row: Estimate(
            row["source_divergence_nats_per_token"],
            row["source_cross_entropy_stderr_nats_per_token"],
        ),
        needs_judge=False,
    ),
    Metric(
        "judge_divergence",
        "cross-entropy under the judge less own entropy (nats per token)",
        ("judge_divergence_nats_per_token", "cross_entropy_stderr_nats_per_token"),
        lambda row: Estimate(
            row["judge_divergence_nats_per_token"], row["cross_entropy_stderr_nats_per_token"]
        ),
    ),
    Metric(
        "mmd",
        "squared distance of the judge's features to real text",
        ("mmd", "mmd_low", "mmd_high"),
        lambda row: Estimate(row["mmd"], (row["mmd_high"] - row["mmd_low"]) / SIGMAS_OF_INTERVAL),
    ),
    Metric(
        "mauve",
        "1 − MAUVE on the judge's features",
        ("mauve", "mauve_low", "mauve_high"),
        lambda row: Estimate(
            1 - row["mauve"], (row["mauve_high"] - row["mauve_low"]) / SIGMAS_OF_INTERVAL
        ),
    ),
    Metric(
        "cross_entropy",
        "cross-entropy under the judge (nats per token)",
        ("cross_entropy_nats_per_token", "cross_entropy_stderr_nats_per_token"),
        lambda row: Estimate(
            row["cross_entropy_nats_per_token"], row["cross_entropy_stderr_nats_per_token"]
        ),
    ),
)
