"""All that `sweeper fit` says about a table: each part has a module of its own.

A part that the data cannot support is None, and a warning says why.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from analysis import notation
from analysis.errors import FitWarning, SettingsError
from analysis.fitting.batch_laws import BatchLaws, SettingLaw, fit_batch_laws
from analysis.fitting.envelope import Envelope, fit_envelope
from analysis.fitting.holdout import HoldOut, hold_out
from analysis.fitting.lack_of_fit import lack_of_fit
from analysis.fitting.token_frontier import TokenFrontier, token_frontier
from analysis.isoflop.curves import IsoFlopMethod
from analysis.isoflop.isoflop import IsoFlopFit, Optimum, fit_isoflop
from analysis.isoflop.noise_correlation import noise_correlation
from analysis.stats.bootstrap import Resampler
from analysis.surface.surface import SurfaceFit, fit_surface
from analysis.tables.points import Points, points_by_family
from analysis.tables.published import PublishedLaw
from analysis.tables.tidy import TidyTable
from sweeper.errors import did_you_mean

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
        if self.n_bootstrap < 10:
            message = f"--bootstrap {self.n_bootstrap}: expected 10 or more, say 1000"
            raise SettingsError(message)
        if self.seed < 0:
            raise SettingsError(f"--seed {self.seed}: expected 0 or more")


@dataclass(frozen=True)
class FamilyFit:
    """One series; a part is None where the data do not support it."""

    family: str
    points: Points
    isoflop: IsoFlopFit | None
    """None where the table has no isoFLOP structure."""
    surface: SurfaceFit | None
    envelope: Envelope | None
    token_frontier: TokenFrontier | None
    holdout: HoldOut | None
    batch_laws: BatchLaws | None
    """None where the source varies neither batch nor learning rate, or does not state them."""

    @property
    def optima(self) -> tuple[Optimum, ...]:
        """Optima of all budgets, none where the table has no isoFLOP structure."""
        return () if self.isoflop is None else self.isoflop.optima


@dataclass(frozen=True)
class FitResult:
    """All series of a table, in the order of their labels."""

    families: dict[str, FamilyFit]
    settings: FitSettings
    params_convention: str
    flops_convention: str
    warnings: tuple[FitWarning, ...]
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
    every_setting = points_by_family(table.every_setting)
    resampler = Resampler.create(
        series.values(),
        settings.n_bootstrap,
        settings.seed,
        noise_correlation(tuple(series.values()), settings.isoflop),
    )
    families, warnings, other_warnings = {}, list(table.warnings), []
    for label, points in series.items():
        isoflop = None
        if len(points.budgets_K):
            isoflop = fit_isoflop(points, settings.isoflop, resampler)
            warnings += isoflop.warnings
        surface = fit_surface(points, settings.huber_delta, resampler)
        warnings += [surface] if isinstance(surface, FitWarning) else surface.warnings
        fitted = None if isinstance(surface, FitWarning) else surface
        families[label], others = _series(points, isoflop, fitted, settings.huber_delta, resampler)
        laws = fit_batch_laws(every_setting[label], resampler)
        families[label] = dataclasses.replace(families[label], batch_laws=laws)
        others += () if laws is None else laws.warnings
        other_warnings.append(others)
    families, form_warnings = _with_one_form_of_loss_law(families)
    warnings += [*form_warnings, *_shared(other_warnings)]
    return FitResult(
        families, settings, table.params_convention, table.flops_convention, tuple(warnings)
    )


def fit_curves(table: TidyTable, settings: FitSettings | None = None) -> FitResult:
    """Fit what proposals rest on, and nothing else: the isoFLOP curves of every series, and the
    surface of one that has none.
    """
    settings = settings or FitSettings()
    series = points_by_family(table.frame)
    correlation_FF = noise_correlation(tuple(series.values()), settings.isoflop)
    resampler = Resampler.create(
        series.values(), settings.n_bootstrap, settings.seed, correlation_FF
    )
    families = {}
    for label, points in series.items():
        curves, surface = None, None
        if len(points.budgets_K):
            curves = fit_isoflop(points, settings.isoflop, resampler)
        if curves is None or curves.loss_law is None:
            found = fit_surface(points, settings.huber_delta, resampler)
            surface = None if isinstance(found, FitWarning) else found
        families[label] = FamilyFit(label, points, curves, surface, None, None, None, None)
    return FitResult(families, settings, table.params_convention, table.flops_convention, ())


def _series(
    points: Points,
    isoflop: IsoFlopFit | None,
    surface: SurfaceFit | None,
    huber_delta: float | Literal["auto"],
    resampler: Resampler,
) -> tuple[FamilyFit, list[FitWarning]]:
    """The parts beyond isoFLOP optima and surface, and the warnings on those."""
    envelope = fit_envelope(points, resampler)
    tokens = token_frontier(points, isoflop, surface)
    holdout = hold_out(points, isoflop, huber_delta, resampler)
    warnings = [part for part in (envelope, tokens, holdout) if isinstance(part, FitWarning)]
    if isinstance(tokens, TokenFrontier):
        warnings += tokens.warnings
    if isinstance(holdout, HoldOut):
        warnings += holdout.warnings(points.family)
    if surface is not None and (test := lack_of_fit(points)) is not None:
        warnings += test.warnings(points.family)
    fit = FamilyFit(
        family=points.family,
        points=points,
        isoflop=isoflop,
        surface=surface,
        envelope=None if isinstance(envelope, FitWarning) else envelope,
        token_frontier=None if isinstance(tokens, FitWarning) else tokens,
        holdout=None if isinstance(holdout, FitWarning) else holdout,
        batch_laws=None,
    )
    return fit, warnings


def _shared(by_series: Sequence[Sequence[FitWarning]]) -> list[FitWarning]:
    """The warnings of all series; one that every series has is said once, without a label."""
    unlabelled = [[dataclasses.replace(each, family=None) for each in own] for own in by_series]
    result: list[FitWarning] = []
    for own, plain in zip(by_series, unlabelled, strict=True):
        for labelled, bare in zip(own, plain, strict=True):
            said = bare if all(bare in others for others in unlabelled) else labelled
            if said not in result:
                result.append(said)
    return result


def _with_one_form_of_loss_law(
    families: dict[str, FamilyFit],
) -> tuple[dict[str, FamilyFit], list[FitWarning]]:
    """Loss laws with an offset if every series supports one, else pure laws for all."""
    fits = {label: fit.isoflop for label, fit in families.items()}
    with_law = {label: isoflop for label, isoflop in fits.items() if isoflop and isoflop.loss_law}
    supporting = [label for label, isoflop in with_law.items() if isoflop.offset_law is not None]
    # With an offset the exponent means something else (−0.05 becomes −0.15), so exponents of both
    # forms in one table would invite a comparison that means nothing.
    if len(supporting) < len(with_law):
        message = (
            "the loss law bends towards an offset here, not in every series: all show pure laws"
        )
        return families, [
            FitWarning("offset_in_some_series", message, label) for label in supporting
        ]
    changed = {}
    for label, isoflop in with_law.items():
        bent = dataclasses.replace(isoflop, loss_law=isoflop.offset_law)
        changed[label] = dataclasses.replace(families[label], isoflop=bent)
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
        "warnings": notation.to_json(result.warnings),
    }


def _family_json(fit: FamilyFit) -> Json:
    """`batch_laws` is there only for sources that vary the batch or the learning rate."""
    answer: Json = {
        "n_runs": fit.points.n_runs,
        "isoflop": None if fit.isoflop is None else _isoflop_json(fit.isoflop),
        "surface": None,
        "envelope": None,
        "token_frontier": None,
        "holdout": None if fit.holdout is None else _holdout_json(fit.holdout),
    }
    if (surface := fit.surface) is not None:
        names = ("E", "A", "B", "alpha", "beta")
        ci = {name: surface.ci[name] for name in names}
        shown = notation.to_json(surface, *names) | {"ci": ci, "profile_ci": surface.profile_ci}
        answer["surface"] = notation.to_json(shown)
    if (envelope := fit.envelope) is not None:
        laws = _laws_json(envelope, "params_law", "tokens_law", "loss_law")
        answer["envelope"] = notation.to_json(envelope, "n_points", "n_runs") | laws
    if (tokens := fit.token_frontier) is not None:
        law = _laws_json(tokens, "along_optima")
        answer["token_frontier"] = notation.to_json(tokens, "limit") | law
    if (batch_laws := fit.batch_laws) is not None:
        answer["batch_laws"] = {
            name: _setting_law_json(getattr(batch_laws, name))
            for name in ("batch_by_tokens", "rate_by_batch", "rate_by_tokens")
        }
    return answer


def _setting_law_json(law: SettingLaw | None) -> Json | None:
    if law is None:
        return None
    names = ("coefficient", "exponent", "exponent_ci", "params_exponent", "params_exponent_ci")
    by_size = [
        {"params": params, "coefficient": level} for params, level in law.size_coefficients.items()
    ]
    answer: Json = notation.to_json(law, *names)
    return answer | {"size_coefficients": by_size}


def _laws_json(fit: object, *names: str) -> Json:
    """The named power laws of a part, each without its offset, or null."""
    laws = {name: getattr(fit, name) for name in names}
    shown = ("coefficient", "exponent", "exponent_ci")
    return {name: law and notation.to_json(law, *shown) for name, law in laws.items()}


def _isoflop_json(fit: IsoFlopFit) -> Json:
    names = (
        "budget_flops", "params", "tokens", "loss", "n_points", "bracketed", "reason", "flops",
        "params_ci", "tokens_ci", "loss_ci",
    )  # fmt: skip
    answer: Json = {
        "method": fit.method,
        "optima": [notation.to_json(each, *names) for each in fit.optima],
        **_laws_json(fit, "params_law", "tokens_law", "loss_law"),
    }
    if fit.loss_law is not None:
        answer["loss_law"]["offset"] = fit.loss_law.offset
    return answer


def _holdout_json(holdout: HoldOut) -> Json:
    predictions = [
        {
            **notation.to_json(each, "form", "n_train"),
            "flops": each.target.flops,
            "observed": each.target.loss,
            "predicted": each.loss,
            "ci": each.ci,
        }
        for each in holdout.predictions
    ]
    answer: Json = notation.to_json(holdout, "unit", "best", "scores", "failed")
    return answer | {"predictions": predictions}
