"""Resampling that respects runs: cluster wild draws for few runs, whole-run counts for many.

Points of one trajectory share their run's luck, so the unit is the run, never the point.

Suffixes: R resamples, P points, S slots, F series.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtr

from analysis.tables.points import BoolArray, FloatArray, IntArray, Points

COEFFICIENTS_ALONG_SIZES = 3
"""Of a curve, and of the part of a surface that only sizes can tell: E, A and alpha."""
PRIOR_DOF = 4.0
"""Points that the pooled noise counts for beside a budget's own."""
MAD_TO_SIGMA = 1.4826
"""Standard deviation over median absolute deviation, of normal noise."""
HUBER_SIGMAS = 1.345
"""Bend of the Huber loss in standard deviations: 95 % efficiency on normal noise."""
MAX_LEVERAGE = 0.9
"""Above this, 1 / sqrt(1 − leverage) amplifies rounding rather than noise."""

# Webb's six values (2014): with 5 runs two signs would give 32 distinct draws, six give 7776.
_WEBB = np.sqrt([0.5, 1.0, 1.5, 0.5, 1.0, 1.5]) * np.repeat([-1.0, 1.0], 3)


@dataclass(frozen=True)
class Noise:
    """How far points scatter about a fitted curve."""

    residual_P: FloatArray = field(repr=False)
    """Residuals, in units in which their variance is equal (relative loss, say)."""
    basis_Pc: FloatArray = field(repr=False)
    """Orthonormal columns that span what the fit can absorb: the hat matrix is basis · basisᵀ."""
    run_P: IntArray = field(repr=False)
    weight_P: FloatArray | None = field(default=None, repr=False)
    """How far a robust fit let each point count, at most 1; None where all count alike."""
    huber_delta: float = np.inf
    """Bend of the loss that was minimised, where there are no such weights."""

    @property
    def dof(self) -> int:
        """Degrees of freedom of the noise: points beyond coefficients, or runs beyond three."""
        n_runs = len(np.unique(self.run_P))
        if n_runs == len(self.run_P):
            return self.own_dof
        # Points of a run may share all their luck. Then only runs count, and against them the three
        # coefficients of a curve along the axis of sizes.
        return max(1, min(self.own_dof, n_runs - COEFFICIENTS_ALONG_SIZES))

    @property
    def own_dof(self) -> int:
        """Points beyond coefficients, 1 or more."""
        n_points, n_coefficients = self.basis_Pc.shape
        return max(1, int(n_points - n_coefficients))

    @cached_property
    def leverage_P(self) -> FloatArray:
        """Diagonal of the hat matrix."""
        leverage_P: FloatArray = np.sum(self.basis_Pc**2, axis=1)
        return leverage_P

    @cached_property
    def sigma(self) -> float:
        """Unbiased standard deviation of the points about the curve."""
        return float(np.sqrt(np.sum(self.residual_P**2) / self.own_dof))

    @property
    def pooled(self) -> float:
        """The deviation that, given to all points, scatters the fit as weighted residuals do."""
        if self.weight_P is None:
            return self._huber_sigma
        # Where heavy tails are weighted down, the plain one counts them in full.
        weighted = float(np.sum((self.weight_P * self.residual_P) ** 2))
        dof_share = self.own_dof / len(self.residual_P)
        return float(np.sqrt(weighted / float(np.sum(self.weight_P**2)) / dof_share))

    @property
    def _huber_sigma(self) -> float:
        """Deviation of normal noise under which a Huber fit scatters as it does under this one."""
        # Huber (1973): the variance of the coefficients is K² ·
        # Σ psi² / (n − p) / share² in units of (XᵀX)⁻¹, psi the clipped residuals, `share` that of
        # the others; K corrects for p coefficients. Without clipping it is the plain deviation.
        n_points, n_coefficients = self.basis_Pc.shape
        is_inside_P = np.abs(self.residual_P) <= self.huber_delta
        share = max(float(np.mean(is_inside_P)), 1.0 / n_points)
        correction = 1.0 + n_coefficients / n_points * (1.0 - share) / share
        psi_P = np.clip(self.residual_P, -self.huber_delta, self.huber_delta)
        deviation: float = correction * float(np.sqrt(np.sum(psi_P**2) / self.own_dof)) / share
        # On normal noise the bend costs 5 % of variance; what else exceeds the plain deviation is
        # an accident of a `share` of few points.
        return min(deviation, self.sigma / float(np.sqrt(0.95)))

    @cached_property
    def robust_sigma(self) -> float:
        """By the median absolute leverage-scaled residual: not moved by a few bad runs."""
        return float(MAD_TO_SIGMA * np.median(np.abs(self.scaled_residual_P)))

    def sigma_of(self, chosen_P: BoolArray) -> float:
        """Standard deviation of the chosen points, drawn towards the robust one of all."""
        # Noise often falls with the budget, but a handful of points cannot tell by themselves
        # (Smyth 2004).
        own_dof = max(0.0, float(np.sum(1.0 - self.leverage_P[chosen_P])))
        own = float(np.sum(self.residual_P[chosen_P] ** 2))
        pooled = PRIOR_DOF * min(self.robust_sigma, self.sigma) ** 2
        return float(np.sqrt((own + pooled) / (own_dof + PRIOR_DOF)))

    @cached_property
    def scaled_residual_P(self) -> FloatArray:
        """Residuals with what the fit absorbed given back (CR2 of Bell and McCaffrey 2002)."""
        # (I − H_g)^(−1/2) · residuals of each run g, H_g its block of the hat matrix.
        runs = np.unique(self.run_P)
        if len(runs) == len(self.run_P):  # blocks of one point
            return self.residual_P / np.sqrt(1.0 - np.clip(self.leverage_P, 0.0, MAX_LEVERAGE))
        scaled_P = np.empty_like(self.residual_P)
        for run in runs:
            mine = self.run_P == run
            hat = self.basis_Pc[mine] @ self.basis_Pc[mine].T
            share, direction = np.linalg.eigh(hat)
            shrink = np.sqrt(1.0 - np.clip(share, 0.0, MAX_LEVERAGE))
            scaled_P[mine] = direction @ ((direction.T @ self.residual_P[mine]) / shrink)
        return scaled_P


@dataclass(frozen=True)
class Resampler:
    """All random numbers of one analysis, from one seed; arrays are drawn when asked for."""

    n_resamples: int
    n_slots: int
    families: tuple[str, ...]
    """Labels, in the order of the matrix below."""
    mixing_FF: FloatArray = field(repr=False)
    """Symmetric root of the correlation between the noise of the series; rows of length one."""
    seed: int

    @classmethod
    def create(
        cls,
        series: Iterable[Points],
        n_resamples: int,
        seed: int,
        correlation_FF: FloatArray | None = None,
    ) -> "Resampler":
        """Random numbers for all slots that occur in `series`, whose noise correlates as given."""
        every = tuple(series)
        correlation_FF = np.eye(len(every)) if correlation_FF is None else correlation_FF
        # The symmetric root; what makes the matrix indefinite is cut off.
        eigenvalue_F, basis_FF = np.linalg.eigh(correlation_FF)
        root_FF = (basis_FF * np.sqrt(np.maximum(eigenvalue_F, 0.0))) @ basis_FF.T
        return cls(
            n_resamples=n_resamples,
            n_slots=1 + max(int(points.slot_P.max()) for points in every),
            families=tuple(points.family for points in every),
            mixing_FF=root_FF / np.linalg.norm(root_FF, axis=1, keepdims=True),
            seed=seed,
        )

    def first(self, n_resamples: int) -> "Resampler":
        """For parts that need few resamples."""
        return replace(self, n_resamples=min(n_resamples, self.n_resamples))

    def wild_noise(self, points: Points, noise: Noise) -> FloatArray:
        """Noise to add to the fitted curve, shape (R, P): y* = fitted + w_g · residual, w_g of
        run g with mean 0 and variance 1 (Wu 1986; by cluster: Cameron, Gelbach and Miller 2008).

        An isoFLOP curve has 5–8 runs: drawing them with replacement leaves most resamples without a
        bracket, while here every resample keeps all of them.
        """
        # Averaged with the pooled noise: three coefficients through five points leave single
        # residuals tiny by accident.
        magnitude_P = np.sqrt(0.5 * noise.scaled_residual_P**2 + 0.5 * noise.pooled**2)
        _, index_P = np.unique(noise.run_P, return_inverse=True)
        total_P = np.bincount(index_P, noise.residual_P)[index_P]
        # Signs within a run are kept; the sign of a whole run is that of its multiplier, so that
        # multipliers alone say how series move together.
        oriented_P = np.where(noise.residual_P * total_P < 0, -magnitude_P, magnitude_P)
        noise_RP = self._multipliers(points)
        noise_RP *= oriented_P
        noise_RP *= _scale_draws(self._normals_of(points.family), noise.dof)[:, None]
        return noise_RP

    def group_noise(self, noise: Noise, purpose: int) -> FloatArray:
        """Wild noise for values that are no points of a table, shape (R, P): one stream per
        purpose, one multiplier per run of `noise`.
        """
        rng = np.random.default_rng([self.seed, 1, purpose])
        groups, index_P = np.unique(noise.run_P, return_inverse=True)
        multiplier_RG = rng.choice(_WEBB, size=(self.n_resamples, len(groups)))
        scale_R1 = _scale_draws(rng.standard_normal(self.n_resamples), noise.dof)[:, None]
        return multiplier_RG[:, index_P] * noise.scaled_residual_P * scale_R1

    def normals(self, purpose: int, n_columns: int) -> FloatArray:
        """Standard normal draws, shape (R, n_columns), one stream per purpose."""
        rng = np.random.default_rng([self.seed, 1, purpose])
        return rng.standard_normal((self.n_resamples, n_columns))

    def run_counts(self, points: Points) -> FloatArray:
        """How often each point's run was drawn, shape (R, P): as many draws as runs."""
        rng = np.random.default_rng([self.seed, 2])
        runs, run_index_P = np.unique(points.run_P, return_inverse=True)
        share = np.full(len(runs), 1.0 / len(runs))
        counts = rng.multinomial(len(runs), share, size=self.n_resamples).astype(np.float64)
        return counts[:, run_index_P]

    # Every series owns a stream, and mixes those of the series that its noise correlates with:
    # noise that they share cancels in differences. Equal multipliers for all would rest on single
    # products of residuals, which do not average out in a curve of five runs: in simulated sweeps
    # that shared nothing 80 % of the intervals of a multiplier then held the truth.

    def _shares(self, family: str) -> list[tuple[int, float]]:
        """The streams that a series mixes, and how much of each."""
        mixing_F = self.mixing_FF[self.families.index(family)].tolist()
        return [(stream, share) for stream, share in enumerate(mixing_F) if share]

    def _multipliers(self, points: Points) -> FloatArray:
        """Of the run of every point, (R, P)."""
        multiplier_RP = np.zeros((self.n_resamples, len(points.slot_P)))
        for stream, share in self._shares(points.family):
            drawn_RS = self._drawn(stream)
            for rows in _chunks(self.n_resamples, multiplier_RP.shape[1]):
                multiplier_RP[rows] += share * _WEBB[drawn_RS[rows][:, points.slot_P]]
        return multiplier_RP

    def _normals_of(self, family: str) -> FloatArray:
        """The normals behind the scales of a series, (R,)."""
        normal_R = np.zeros(self.n_resamples)
        for stream, share in self._shares(family):
            rng = np.random.default_rng([self.seed, 3, stream])
            normal_R += share * rng.standard_normal(self.n_resamples)
        return normal_R

    def _drawn(self, stream: int) -> NDArray[np.int8]:
        """Which of Webb's values every slot has in a stream, (R, S); drawn once."""
        if stream not in self._drawn_by_stream:
            rng = np.random.default_rng([self.seed, 0, stream])
            drawn_RS = np.empty((self.n_resamples, self.n_slots), dtype=np.int8)
            for rows in _chunks(self.n_resamples, self.n_slots):
                shape = drawn_RS[rows].shape
                drawn_RS[rows] = rng.integers(0, len(_WEBB), size=shape)
            self._drawn_by_stream[stream] = drawn_RS
        return self._drawn_by_stream[stream]

    @cached_property
    def _drawn_by_stream(self) -> dict[int, NDArray[np.int8]]:
        return {}


def _chunks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Rows of about 2^18 numbers at a time."""
    step = max(1, 2**18 // max(1, n_columns))
    return (slice(first, first + step) for first in range(0, n_rows, step))


def _scale_draws(normal_R: FloatArray, dof: int) -> FloatArray:
    """sqrt(dof / chi²_dof), (R,): each normal becomes the chi² of the same tail probability."""
    # The noise level is itself estimated from few degrees of freedom: normal tails become the t
    # tails of exact small-sample intervals.
    chi_squared_over_dof_R = chdtri(dof, ndtr(-normal_R)) / dof
    # The floor: below three degrees of freedom draws would have no variance to weigh by.
    return 1.0 / np.sqrt(np.maximum(chi_squared_over_dof_R, 0.008))


def many_runs(points: Points) -> bool:
    """Whether there are enough runs to draw them with replacement, as published surface fits do."""
    # With fewer than ten per budget, or 20 in all, that degenerates: use the wild bootstrap.
    if points.has_shared_runs or not len(points.budgets_K):
        return points.n_runs >= 20
    _, per_budget = np.unique(points.budget_P, return_counts=True)
    return bool(np.median(per_budget) >= 10)
