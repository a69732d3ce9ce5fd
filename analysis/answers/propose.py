"""Which runs to add: those that bracket open budgets, then those that tell most of an interval.

Suffixes: K budgets, c coefficients.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from analysis.answers.candidates import (
    CandidateRun,
    Proposal,
    bracketing,
    candidates,
    nearest_rung,
    three_digits,
)
from analysis.answers.information import LinearisedCurves, linearised
from analysis.answers.predict import BUDGETS
from analysis.errors import FitWarning, SettingsError
from analysis.fitting.fit import FamilyFit, FitResult
from analysis.isoflop.frontier import frontier
from analysis.isoflop.isoflop import IsoFlopFit
from analysis.stats.power_law import LawName, PowerLaw, weighted_line
from analysis.tables.points import FloatArray
from sweeper.errors import did_you_mean

Interval = Literal["params", "tokens", "loss", "multiplier"]
Json = dict[str, Any]

TINY = 1e-12
"""Relative variance that stands for none."""


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    families: tuple[str, ...]
    """Series to add runs to; of `multiplier`, the baseline and the series against it."""
    interval: Interval
    """Of N*, D* or L* at a budget, or of the multiplier between two series there."""
    flops: float | None
    """Budget at which the interval should shrink; None is the largest bracketed one."""
    n_runs: int

    def __post_init__(self) -> None:
        if self.interval not in (known := get_args(Interval)):
            hint = did_you_mean(self.interval, known)
            message = f"--interval {self.interval}: expected one of {', '.join(known)}{hint}"
            raise SettingsError(message)
        if self.flops is not None and not BUDGETS[0] <= self.flops <= BUDGETS[1]:
            message = f"--at {self.flops:g}: expected a budget of {BUDGETS[0]:g} to {BUDGETS[1]:g}"
            raise SettingsError(f"{message} FLOPs, say 1e21")
        if self.n_runs < 1:
            raise SettingsError(f"--number {self.n_runs}: expected 1 or more")
        if self.interval == "multiplier" and len(set(self.families)) != 2:
            raise SettingsError(
                "--interval multiplier: expected two series, one as --baseline and one as --family"
            )


@dataclass(frozen=True)
class Proposals:
    """What `sweeper propose` says, best first."""

    request: Request
    target_flops: float | None
    """Budget of the interval; None where there is no interval to shrink."""
    proposals: tuple[Proposal, ...]
    n_more: int
    """Bracketing runs beyond the number asked for."""
    warnings: tuple[FitWarning, ...]


class _Share:
    """One series' share of the variance: a gradient, and the covariance as runs are added."""

    def __init__(
        self, curves: LinearisedCurves, gradient_c: FloatArray, fixed: float, scale: float
    ) -> None:
        self.curves, self.gradient_c = curves, gradient_c
        self.fixed, self.scale = fixed, scale
        self.covariance_cc = curves.covariance()

    @property
    def variance(self) -> float:
        """What is left."""
        # gᵀVg falls as runs are added; the scatter of whole budgets about their law stays.
        spread = float(self.gradient_c @ self.covariance_cc @ self.gradient_c)
        return self.scale * (spread + self.fixed)

    def fall(self, run: CandidateRun) -> float:
        """By how much a run would lower it."""
        # (gᵀVx)² / (sigma² + xᵀVx)
        shift_c, noise = self._shift(run)
        return self.scale * float(self.gradient_c @ shift_c) ** 2 / noise

    def add(self, run: CandidateRun) -> None:
        """Count a run as observed."""
        shift_c, noise = self._shift(run)
        self.covariance_cc = self.covariance_cc - np.outer(shift_c, shift_c) / noise

    def _shift(self, run: CandidateRun) -> tuple[FloatArray, float]:
        # V x and sigma² + xᵀVx.
        # One set of coefficients that serves all budgets has NaN for its budget: index 0.
        index = int(np.argmin(np.abs(self.curves.log_flops_K - math.log(run.flops))))
        row_c = self.curves.slopes(np.array([index]), np.log([run.params]), np.log([run.tokens]))[0]
        shift_c = self.covariance_cc @ row_c
        return shift_c, self.curves.sigma**2 + float(row_c @ shift_c)

    def observes(self, run: CandidateRun) -> bool:
        """Whether the linearised curves include the run's budget."""
        distance_K = np.abs(self.curves.log_flops_K - math.log(run.flops))
        return bool(np.isnan(distance_K).any() or distance_K.min() < TINY)


def propose(result: FitResult, request: Request) -> Proposals:
    """Rank the runs to add; raises `SettingsError` for an unknown series."""
    fits = [result.family(label) for label in request.families]
    nearest = nearest_rung if result.params_convention == "trunk" else three_digits
    first = [proposal for fit in fits for proposal in bracketing(fit, nearest)]
    first = sorted(first, key=lambda proposal: proposal.run.flops)
    # The largest bracketed budget, else the most compute that a surface was fitted to.
    bracketed = [o.flops for fit in fits if fit.isoflop for o in fit.isoflop.bracketed]
    with_surface = [float(fit.points.flops_P.max()) for fit in fits if fit.surface is not None]
    target_flops = request.flops or max(bracketed or with_surface, default=None)
    shares = [] if target_flops is None else _shares(fits, request, target_flops)
    # While there is an interval to shrink, open budgets get at most half of the runs.
    shown = first[: math.ceil((0.5 if shares else 1.0) * request.n_runs)]
    ranked = list(shown)
    if shares:
        # At budgets that exist: a new one is a decision about range rather than about precision.
        taken = [proposal.run for proposal in shown]
        for run in taken:
            for part in _about(shares, run):
                part.add(run)
        runs = [r for fit in fits for r in candidates(fit, nearest) if r not in taken]
        ranked += _greedy(shares, runs, request.n_runs - len(ranked))
    return Proposals(
        request=request,
        target_flops=target_flops if shares else None,
        proposals=tuple(ranked),
        n_more=len(first) - len(shown),
        warnings=tuple(_warnings(result, fits, has_interval=bool(shares))),
    )


def to_json(found: Proposals) -> Json:
    """The answer of `sweeper propose --json`: numbers are finite or null."""
    return {
        "interval": found.request.interval,
        "families": list(found.request.families),
        "target_flops": found.target_flops,
        "proposals": [
            {
                "rank": rank,
                **vars(proposal.run),
                "purpose": proposal.purpose,
                "why": proposal.why,
                "interval_width": proposal.width,
            }
            for rank, proposal in enumerate(found.proposals, start=1)
        ],
        "n_more": found.n_more,
        "warnings": [warning.to_json() for warning in found.warnings],
    }


def _greedy(shares: Sequence[_Share], runs: Sequence[CandidateRun], n_runs: int) -> list[Proposal]:
    """Runs by variance removed per FLOP, each given those before it."""
    chosen = list[Proposal]()
    left = now = sum(part.variance for part in shares)
    while len(chosen) < n_runs:
        # Without a least share the cheapest budget would get ever more runs that tell next to
        # nothing.
        least = 0.02 * left
        falls = {run: sum(part.fall(run) for part in _about(shares, run)) for run in runs}
        worthwhile = [run for run in runs if falls[run] > least]
        if not worthwhile:
            break
        best = max(worthwhile, key=lambda run: falls[run] / run.flops)
        why = f"removes {falls[best] / left:.0%} of the variance that is left"
        for part in _about(shares, best):
            part.add(best)
        left = sum(part.variance for part in shares)
        runs = [run for run in runs if run != best]
        chosen.append(Proposal(best, "precision", why, math.sqrt(left / now)))
    return chosen


def _about(shares: Sequence[_Share], run: CandidateRun) -> list[_Share]:
    return [p for p in shares if p.curves.points.family == run.family and p.observes(run)]


def _shares(fits: Sequence[FamilyFit], request: Request, flops: float) -> list[_Share]:
    """The variance asked for, a part for each series; empty where a series has no curves."""
    if request.interval == "multiplier":
        return _multiplier_shares(fits[0], fits[1], flops)
    shares = [_share_of(fit, request.interval, flops, 1.0) for fit in fits]
    return [part for part in shares if part is not None]


def _multiplier_shares(baseline: FamilyFit, against: FamilyFit, flops: float) -> list[_Share]:
    own, other = frontier(baseline.isoflop), frontier(against.isoflop)
    if own is None or other is None:
        return []
    log_loss_R = own.log_loss(math.log(flops))
    reached = float(other.log_flops_reaching(log_loss_R)[0])
    if not math.isfinite(reached):
        return []
    # log multiplier = log C' − log C where L*'(C') = L*(C): both losses over the slope at C'.
    step = 0.05
    slope = float((other.log_loss(reached + step) - other.log_loss(reached - step))[0]) / (2 * step)
    scale = 1.0 / max(slope**2, TINY)
    ours = _share_of(baseline, "loss", flops, scale)
    theirs = _share_of(against, "loss", math.exp(reached), scale)
    return [] if ours is None or theirs is None else [ours, theirs]


def _share_of(fit: FamilyFit, quantity: LawName, flops: float, scale: float) -> _Share | None:
    linear = linearised(fit)
    if linear is None:
        return None
    if np.isnan(linear.log_flops_K).all() or fit.isoflop is None:
        return _Share(linear, linear.gradient(quantity, 0, math.log(flops)), 0.0, scale)
    weight_K, scatter = _weights(fit.isoflop, quantity, math.log(flops))
    gradient_c = np.zeros(linear.coefficient_3K.size + 2)
    for weight, at in zip(weight_K, np.log(fit.isoflop.values("flops")).tolist(), strict=True):
        index = int(np.argmin(np.abs(linear.log_flops_K - at)))
        gradient_c += weight * linear.gradient(quantity, index, at)
    return _Share(linear, gradient_c, scatter**2 * float(weight_K @ weight_K), scale)


def _weights(fit: IsoFlopFit, quantity: LawName, log_flops: float) -> tuple[FloatArray, float]:
    """Weight of every bracketed budget in a prediction (K,), and their scatter about the law."""
    law: PowerLaw | None = getattr(fit, f"{quantity}_law")
    draws_RK: FloatArray = getattr(fit, f"log_{quantity}_RK")
    assert law is not None, "curves without laws are refused before"
    log_flops_K = np.log(fit.values("flops"))
    identity_KK = np.eye(len(log_flops_K))
    # Size and tokens are read off their laws, and the loss beyond the budgets; among them the
    # frontier passes through its optima.
    if quantity == "loss" and log_flops_K[0] <= log_flops <= log_flops_K[-1]:
        between = [np.interp(log_flops, log_flops_K, row_K) for row_K in identity_KK]
        return np.array(between), 0.0
    variance_K = np.maximum(draws_RK.var(axis=0) + law.scatter**2, TINY)
    slope_K, intercept_K = weighted_line(log_flops_K, identity_KK, 1.0 / variance_K)
    return intercept_K + slope_K * log_flops, law.scatter


def _warnings(
    result: FitResult, fits: Sequence[FamilyFit], *, has_interval: bool
) -> list[FitWarning]:
    warnings = []
    if not has_interval:
        message = (
            "there is no interval to shrink yet: no law or surface is identified, so only what "
            "brackets a budget can be proposed; a law needs two bracketed budgets"
        )
        warnings.append(FitWarning("no_interval", message))
    if result.params_convention != "trunk":
        message = (
            f"sizes count {result.params_convention} parameters, and are not rounded to rungs: "
            "sweep files speak of trunk parameters"
        )
        warnings.append(FitWarning("sizes_are_not_rungs", message))
    for fit in fits:
        if fit.points.has_shared_runs:
            message = (
                "points of one run count as independent here, so a new run may shrink the "
                "interval more than stated"
            )
            warnings.append(FitWarning("points_taken_as_independent", message, fit.family))
    return warnings
