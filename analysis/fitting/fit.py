"""All that `sweeper fit` says about a table: isoFLOP optima, laws and a surface per series."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from analysis.errors import Caution, SettingsError
from analysis.fitting.further import Further, further_json, law_json, read_further, shared_cautions
from analysis.isoflop.curves import IsoFlopMethod
from analysis.isoflop.isoflop import IsoFlopFit, Optimum, fit_isoflop
from analysis.isoflop.noise_correlation import noise_correlation
from analysis.stats.bootstrap import Resampler
from analysis.surface.surface import Refusal, SurfaceFit, fit_surface
from analysis.tables.points import Points, points_by_family
from analysis.tables.published import PublishedLaw
from analysis.tables.tidy import TidyTable
from sweeper.errors import did_you_mean

MIN_BOOTSTRAP = 10

Json = dict[str, Any]


@dataclass(frozen=True)
class FitSettings:
    """How to fit; conventions for params and FLOPs belong to the table."""

    huber_delta: float | Literal["auto"] = "auto"
    """Of the surface, in log-loss units; `inf` is least squares."""
    isoflop: IsoFlopMethod = "pair"
    n_bootstrap: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.huber_delta != "auto" and not self.huber_delta > 0:
            raise SettingsError(
                f"--huber-delta {self.huber_delta}: expected 'auto' or a number above 0 (inf is "
                "least squares)"
            )
        methods = get_args(IsoFlopMethod)
        if self.isoflop not in methods:
            hint = did_you_mean(self.isoflop, methods)
            message = f"--isoflop {self.isoflop}: expected one of {', '.join(methods)}{hint}"
            raise SettingsError(message)
        if self.n_bootstrap < MIN_BOOTSTRAP:
            message = f"--bootstrap {self.n_bootstrap}: expected {MIN_BOOTSTRAP} or more, say 1000"
            raise SettingsError(message)
        if self.seed < 0:
            raise SettingsError(f"--seed {self.seed}: expected 0 or more")


@dataclass(frozen=True)
class FamilyFit:
    """One series."""

    family: str
    points: Points
    isoflop: IsoFlopFit | None
    """None where the table has no isoFLOP structure."""
    surface: SurfaceFit | None
    """None where the data cannot pin it down; a caution says why."""
    further: Further
    """Envelope, token-bound frontier and what else the series supports."""


@dataclass(frozen=True)
class FitResult:
    """All series of a table, in the order of their labels."""

    families: dict[str, FamilyFit]
    settings: FitSettings
    params_convention: str
    flops_convention: str
    cautions: tuple[Caution, ...]
    published: tuple[PublishedLaw, ...] = ()
    """Laws of others to show beside these; nothing is fitted to them."""

    def family(self, label: str) -> FamilyFit:
        """The fit of one series; raises `SettingsError` for an unknown label."""
        if label not in self.families:
            hint = did_you_mean(label, self.families)
            message = f"no series {label!r}; the table has {', '.join(self.families)}{hint}"
            raise SettingsError(message)
        return self.families[label]


def fit_table(table: TidyTable, settings: FitSettings | None = None) -> FitResult:
    """Fit every series; all intervals come from one set of random numbers, so series are paired."""
    settings = settings or FitSettings()
    series = points_by_family(table.frame)
    resampler = Resampler.create(
        series.values(),
        settings.n_bootstrap,
        settings.seed,
        noise_correlation(tuple(series.values()), settings.isoflop),
    )
    families, cautions = {}, list(table.cautions)
    for label, points in series.items():
        isoflop = None
        if len(points.budgets_K):
            isoflop = fit_isoflop(points, settings.isoflop, resampler)
            cautions += isoflop.cautions
        found = fit_surface(points, settings.huber_delta, resampler)
        cautions += [found.caution] if isinstance(found, Refusal) else found.cautions
        surface = None if isinstance(found, Refusal) else found
        further = read_further(points, isoflop, surface, settings.huber_delta, resampler)
        families[label] = FamilyFit(label, points, isoflop, surface, further)
    families, form_cautions = _with_one_form_of_loss_law(families)
    cautions += [*form_cautions, *shared_cautions([fit.further for fit in families.values()])]
    return FitResult(
        families, settings, table.params_convention, table.flops_convention, tuple(cautions)
    )


def _with_one_form_of_loss_law(
    families: dict[str, FamilyFit],
) -> tuple[dict[str, FamilyFit], list[Caution]]:
    """Loss laws with an offset if every series supports one, else pure laws for all.

    With an offset the exponent means something else (−0.05 becomes −0.15), so exponents of both
    forms in one table would invite a comparison that means nothing.
    """
    fits = {label: fit.isoflop for label, fit in families.items() if fit.isoflop is not None}
    with_law = {label: isoflop for label, isoflop in fits.items() if isoflop.loss_law is not None}
    supporting = [label for label, isoflop in with_law.items() if isoflop.offset_law is not None]
    if len(supporting) < len(with_law):
        message = (
            "the loss law bends towards an offset here, not in every series: all show pure laws"
        )
        return families, [Caution("offset_in_some_series", message, label) for label in supporting]
    changed = {
        label: dataclasses.replace(
            families[label],
            isoflop=dataclasses.replace(isoflop, loss_law=isoflop.offset_law),
        )
        for label, isoflop in with_law.items()
    }
    return families | changed, []


def to_json(result: FitResult) -> Json:
    """The answer of `sweeper fit --json`: numbers are finite or null."""
    settings = result.settings
    is_named = settings.huber_delta == "auto" or math.isinf(settings.huber_delta)
    return {
        "families": {label: _family_json(fit) for label, fit in result.families.items()},
        "settings": {
            "huber_delta": str(settings.huber_delta) if is_named else settings.huber_delta,
            "isoflop": settings.isoflop,
            "bootstrap": settings.n_bootstrap,
            "seed": settings.seed,
            "params": result.params_convention,
            "flops": result.flops_convention,
        },
        "warnings": [caution.to_json() for caution in result.cautions],
    }


def _family_json(fit: FamilyFit) -> Json:
    return {
        "n_runs": fit.points.n_runs,
        "isoflop": None if fit.isoflop is None else _isoflop_json(fit.isoflop),
        "surface": None if fit.surface is None else _surface_json(fit.surface),
        **further_json(fit.further),
    }


def _isoflop_json(fit: IsoFlopFit) -> Json:
    loss_law = law_json(fit.loss_law)
    if loss_law is not None and fit.loss_law is not None:
        loss_law["offset"] = fit.loss_law.offset
    return {
        "method": fit.method,
        "optima": [_optimum_json(optimum) for optimum in fit.optima],
        "params_law": law_json(fit.params_law),
        "tokens_law": law_json(fit.tokens_law),
        "loss_law": loss_law,
    }


def _optimum_json(optimum: Optimum) -> Json:
    names = ("budget_flops", "params", "tokens", "loss", "n_points", "bracketed", "reason", "flops")
    intervals = ("params_ci", "tokens_ci", "loss_ci")
    return {name: getattr(optimum, name) for name in names} | {
        name: None if (interval := getattr(optimum, name)) is None else list(interval)
        for name in intervals
    }


def _surface_json(fit: SurfaceFit) -> Json:
    names = ("E", "A", "B", "alpha", "beta")
    return {name: getattr(fit, name) for name in names} | {
        "ci": {name: list(fit.ci[name]) for name in names},
        "profile_ci": {
            name: None if interval is None else list(interval)
            for name, interval in fit.profile_ci.items()
        },
    }
