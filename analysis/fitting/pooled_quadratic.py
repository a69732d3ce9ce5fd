"""The best learning rate and batch of one series from tuning runs at several sizes and tokens.

In each cell, one size trained on one number of tokens, the log loss is a level plus a quadratic
form of the log rate and the log batch about the best of both:

    ln L = level(N, D) + 1/2 (k_rate x² + 2 c x y + k_batch y²),
    x = ln eta − ln eta*(N, D),  y = ln B − ln B*(N, D)

with one curvature for all cells, and ln eta*, ln B* linear in ln N and ln D. So every run of every
cell helps to find both laws, and no cell needs a bracketed vertex. Levels are free; all else has a
wide prior, which decides what the runs cannot. The posterior is in `quadratic_posterior`.

Suffixes: P points, C cells, R draws.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import Delaunay, QhullError
from scipy.stats import norm, t

from analysis.errors import FitWarning, TableError
from analysis.fitting.quadratic_posterior import (
    RUN_TAIL_DOF,
    LawPriors,
    QuadraticDraws,
    QuadraticModel,
    cells_of,
)
from analysis.stats.power_law import percentile_interval
from analysis.stats.tempering import posterior_draws
from analysis.tables.points import BoolArray, FloatArray, IntArray
from sweeper.trials.tuned_laws import LawKey, SizeTokensLaw, TunedLaw

N_DRAWS = 3000
N_FIRST_DRAWS = 500
"""Of a first posterior, which tells how far points lie from the best of their cell."""
PUBLISHED_PRIORS = LawPriors()


@dataclass(frozen=True)
class TuningRuns:
    """What was tried, P points; points of one run share its luck."""

    params_P: FloatArray
    tokens_P: FloatArray
    """Trained on so far; points within 2 % of each other in size and tokens are of one cell."""
    learning_rate_P: FloatArray
    batch_tokens_P: FloatArray
    loss_P: FloatArray
    """Nats per token; not finite where the run diverged."""
    run_P: IntArray

    def __post_init__(self) -> None:
        lengths = {name[:-2]: len(column) for name, column in vars(self).items()}
        if len(set(lengths.values())) > 1:
            raise TableError(f"tuning runs: expected columns of one length, found {lengths}")
        for name in ("params", "tokens", "learning_rate", "batch_tokens"):
            column_P = getattr(self, f"{name}_P")
            wrong_P = column_P[~(np.isfinite(column_P) & (column_P > 0))]
            if len(wrong_P):
                raise TableError(f"tuning runs: {name} must be positive, found {wrong_P[0]}")

    def take(self, chosen: BoolArray | IntArray) -> "TuningRuns":
        """The chosen points."""
        return TuningRuns(**{name: column[chosen] for name, column in vars(self).items()})


@dataclass(frozen=True)
class TunedCell:
    """One size, trained on one number of tokens."""

    params: float
    tokens: float
    n_points: int
    bracketed: bool
    """Whether the best rate and batch lie within the convex hull of what was tried."""


@dataclass(frozen=True)
class TunedFit:
    """The laws of one series, and how well its runs tell them."""

    law: TunedLaw
    """Posterior means, with intervals."""
    noise_sd: float
    """Standard deviation of an ordinary run's log loss about the quadratic."""
    run_correlation: float
    """Of two points of one run; that of its prior where no run has two."""
    cells: tuple[TunedCell, ...]
    """By size, then tokens."""
    warnings: tuple[FitWarning, ...]
    draws: Mapping[str, FloatArray] = field(repr=False, compare=False)
    """Posterior draws of the law's numbers by dotted name, (R,) each."""

    def rate_interval(self, params: float, tokens: float) -> tuple[float, float]:
        """95 % interval of the best learning rate, at the best batch."""
        return self._interval("learning_rate", params, tokens)

    def batch_interval(self, params: float, tokens: float) -> tuple[float, float]:
        """95 % interval of the best tokens per step."""
        return self._interval("batch_tokens", params, tokens)

    def _interval(self, law: str, params: float, tokens: float) -> tuple[float, float]:
        log_R = (
            self.draws[f"{law}.log_coefficient"]
            + self.draws[f"{law}.params_exponent"] * np.log(params)
            + self.draws[f"{law}.tokens_exponent"] * np.log(tokens)
        )
        return percentile_interval(np.exp(log_R))


def fit_tuned_law(
    runs: TuningRuns,
    key: LawKey,
    label: str,
    priors: LawPriors = PUBLISHED_PRIORS,
    seed: int = 0,
) -> TunedFit:
    """The laws that a series' tuning runs support.

    `label` is the series' in messages. A run with a loss that is not finite is left out, and a
    warning names it; raises `TableError` where no run is left. The order of points does not
    matter, and equal points and seeds give equal laws.
    """
    is_finite_P = np.isfinite(runs.loss_P) & (runs.loss_P > 0)
    diverged = np.unique(runs.run_P[~is_finite_P])
    kept = runs.take(~np.isin(runs.run_P, diverged))
    if not len(kept.run_P):
        n_runs = len(np.unique(runs.run_P))
        raise TableError(
            f"{label}: no law of the best rate: expected tuning runs with finite losses, found "
            f"{n_runs}, all diverged; tune around a lower learning rate"
        )
    warnings = []
    if len(diverged):
        which = ", ".join(map(str, diverged))
        message = f"{len(diverged)} of the tuning runs diverged and are left out: {which}"
        warnings.append(FitWarning("diverged_runs", message, label))
    # In one order, since sums of floats depend on it.
    kept = kept.take(np.lexsort(tuple(vars(kept).values())))
    places_P4 = np.log(
        np.column_stack([kept.params_P, kept.tokens_P, kept.learning_rate_P, kept.batch_tokens_P])
    )
    cell_P = cells_of(kept.params_P, kept.tokens_P)
    run_P = np.unique(kept.run_P, return_inverse=True)[1]
    model = QuadraticModel(places_P4, np.log(kept.loss_P), cell_P, run_P, priors)
    rng = np.random.default_rng(seed)
    first_RH = posterior_draws(model.log_likelihood, model.n_coordinates, N_FIRST_DRAWS, rng)
    model.expect_lack_of_fit(first_RH)
    x_RH = posterior_draws(model.log_likelihood, model.n_coordinates, N_DRAWS, rng)
    found = model.complete(x_RH, rng)
    draws = _by_name(found, model.middle_2)
    law = TunedLaw(
        key=key,
        learning_rate=_mean_law(draws, "learning_rate"),
        batch_tokens=_mean_law(draws, "batch_tokens"),
        curvature=found.curvature,
        params_range=(float(kept.params_P.min()), float(kept.params_P.max())),
        tokens_range=(float(kept.tokens_P.min()), float(kept.tokens_P.max())),
        intervals={name: percentile_interval(draw_R) for name, draw_R in draws.items()},
    )
    # Of the normal with the quartiles of the runs' Student t.
    scale = float(t.ppf(0.75, RUN_TAIL_DOF) / norm.ppf(0.75))
    return TunedFit(
        law=law,
        noise_sd=scale * float(np.median(found.noise_sd_R)),
        run_correlation=float(np.median(found.correlation_R)),
        cells=_cells(kept, cell_P, law),
        warnings=tuple(warnings),
        draws=draws,
    )


def _by_name(found: QuadraticDraws, middle_2: FloatArray) -> dict[str, FloatArray]:
    named = {}
    for law, name in enumerate(("learning_rate", "batch_tokens")):
        centre_R, by_params_R, by_tokens_R = found.law_RL[:, 3 * law : 3 * law + 3].T
        moved_R = by_params_R * middle_2[0] + by_tokens_R * middle_2[1]
        named[f"{name}.log_coefficient"] = centre_R - moved_R
        named[f"{name}.params_exponent"] = by_params_R
        named[f"{name}.tokens_exponent"] = by_tokens_R
    parts = ("rate", "batch", "cross")
    return named | {f"curvature.{part}": found.curvature_R3[:, at] for at, part in enumerate(parts)}


def _mean_law(draws: Mapping[str, FloatArray], name: str) -> SizeTokensLaw:
    parts = ("log_coefficient", "params_exponent", "tokens_exponent")
    return SizeTokensLaw(*(float(draws[f"{name}.{part}"].mean()) for part in parts))


def _cells(runs: TuningRuns, cell_P: IntArray, law: TunedLaw) -> tuple[TunedCell, ...]:
    cells = []
    for cell in range(int(cell_P.max()) + 1):
        mine = runs.take(cell_P == cell)
        params, tokens = float(mine.params_P.mean()), float(mine.tokens_P.mean())
        tried_P2 = np.log(np.column_stack([mine.learning_rate_P, mine.batch_tokens_P]))
        vertex = law.learning_rate.log(params, tokens), law.batch_tokens.log(params, tokens)
        cells.append(TunedCell(params, tokens, len(tried_P2), _is_inside(vertex, tried_P2)))
    return tuple(cells)


def _is_inside(point: tuple[float, float], tried_P2: FloatArray) -> bool:
    try:
        return bool(Delaunay(tried_P2).find_simplex(np.array(point)) >= 0)
    except (QhullError, ValueError):
        return False  # fewer than three points, or all on one line: they have no inside
