"""The words of the report: answers, tables and remarks, as plain text that the template escapes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from analysis import notation
from analysis.answers.compare import Comparison
from analysis.answers.forms import FORM_NAMES
from analysis.errors import FitWarning
from analysis.fitting.batch_laws import SettingLaw
from analysis.fitting.fit import FamilyFit, FitResult
from analysis.isoflop.isoflop import REASONS, Optimum
from analysis.sensitivity.conclusions import SYMBOLS
from analysis.stats.power_law import PowerLaw


@dataclass(frozen=True)
class Table:
    """A table as text, also for HTML; the first `n_text` columns are words, the others numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_text: int = 1

    def lines(self, gap: str = "  ", least: int = 0) -> list[str]:
        """Words to the left, numbers to the right in columns of `least` characters or more."""
        grid = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        return [
            "  "
            + gap.join(
                f"{cell:{width}}" if rank < self.n_text else f"{cell:>{max(width, least)}}"
                for rank, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in grid
        ]


def answers(fit: FitResult) -> dict[str, str]:
    """One sentence per series: size, tokens and loss at its largest bracketed budget."""
    return {label: _answer(family, fit) for label, family in fit.families.items()}


def _answer(family: FamilyFit, fit: FitResult) -> str:
    bracketed = [optimum for optimum in family.optima if optimum.bracketed]
    if not bracketed:
        return f"No compute-optimal point: {_why_no_laws(family.family, fit)}."
    best = bracketed[-1]
    size, tokens, loss = _numbers(best)
    text = (
        f"At {notation.flops(best.budget_flops)} FLOPs, N* = {size} "
        f"{notation.params_unit(fit.params_convention)} trained on D* = {tokens} tokens "
        f"reach L* = {loss} {notation.LOSS_UNIT}."
    )
    later = [optimum for optimum in family.optima if optimum.budget_flops > best.budget_flops]
    if not later:
        return text
    largest = later[-1]
    more = f" and {len(later) - 1} more" if len(later) > 1 else ""
    return (
        f"{text} Its largest budget, {notation.flops(largest.budget_flops)} FLOPs,{more} "
        f"{'are' if more else 'is'} not bracketed: {_reason(largest)}."
    )


_with_interval = partial(notation.with_interval, without=notation.NO_INTERVAL)


def _numbers(optimum: Optimum) -> tuple[str, str, str]:
    return (
        _with_interval(optimum.params, optimum.params_ci, notation.count),
        _with_interval(optimum.tokens, optimum.tokens_ci, notation.count),
        _with_interval(optimum.loss, optimum.loss_ci, notation.loss),
    )


def _reason(optimum: Optimum) -> str:
    if optimum.reason is None:
        return "the data do not say where its minimum is"
    return REASONS[optimum.reason]


def missing(fit: FitResult) -> list[tuple[str, str, str]]:
    """(series, part, why) of every part of the fit that is null."""
    rows = []
    for label, family in fit.families.items():
        if family.isoflop is None or family.isoflop.loss_law is None:
            rows.append((label, "power laws", _why_no_laws(label, fit)))
        if family.surface is None:
            why = _why(label, fit, lambda warning: "surface" in warning.message)
            rows.append((label, "surface", why))
    return rows


def _why_no_laws(label: str, fit: FitResult) -> str:
    codes = ("single_budget", "too_few_bracketed_budgets", "no_budgets")
    return _why(label, fit, lambda warning: warning.code in codes)


def _why(label: str, fit: FitResult, is_reason: Callable[[FitWarning], bool]) -> str:
    """The remarks that are reasons, else all that concern the series as a whole."""
    # A remark without a family concerns every series, one with a budget not the whole of any.
    about = [c for c in fit.warnings if c.family in (None, label) and c.budget_flops is None]
    chosen = [c for c in about if is_reason(c)] or about
    return "; ".join(c.message for c in chosen) or "the table has no isoFLOP budgets"


def optima_table(fit: FitResult) -> Table:
    """The compute-optimal point of every bracketed budget."""
    rows = [
        (family.family, notation.flops(o.budget_flops), *_numbers(o), str(o.n_points))
        for family in fit.families.values()
        for o in family.optima
        if o.bracketed
    ]
    size = f"N* ({notation.params_unit(fit.params_convention)})"
    budget = f"budget ({notation.flops_unit(fit.flops_convention)})"
    loss = f"L* ({notation.LOSS_UNIT})"
    return Table(("series", budget, size, "D* (tokens)", loss, "points"), tuple(rows))


def left_out_table(fit: FitResult) -> Table:
    """The budgets that enter no law, with the reason."""
    rows = [
        (family.family, notation.flops(optimum.budget_flops), _reason(optimum))
        for family in fit.families.values()
        for optimum in family.optima
        if not optimum.bracketed
    ]
    return Table(("series", "budget (FLOPs)", "why it is left out"), tuple(rows), n_text=3)


def laws_table(fit: FitResult) -> Table:
    """Exponents with intervals, and each law's value at the largest bracketed budget of all."""
    optima = [optimum for family in fit.families.values() for optimum in family.optima]
    reference = max((o.budget_flops for o in optima if o.bracketed), default=None)
    rows: list[tuple[str, ...]] = []
    for family in fit.families.values():
        if family.isoflop is None or reference is None:
            continue
        for symbol, law, write in (
            ("N*", family.isoflop.params_law, notation.count),
            ("D*", family.isoflop.tokens_law, notation.count),
            ("L*", family.isoflop.loss_law, notation.loss),
        ):
            if law is None:
                continue
            # L* = E + k · C^-c where the loss law has an offset E.
            offset = "" if law.offset is None else f"{notation.significant(law.offset)} + "
            factor = f"{offset}{notation.significant(law.coefficient)}"
            cells = (
                f"{symbol} = {factor} · C^{law.exponent:.3f}".replace("^-", "^−"),
                _with_interval(law.exponent, law.exponent_ci, notation.exponent),
                _with_interval(law(reference), law.interval(reference), write),
                f"{100 * law.scatter:.2g} %",
                str(law.n_budgets),
            )
            rows.append((family.family, *cells))
    at = "" if reference is None else f"value at {notation.flops(reference)} FLOPs"
    columns = ("series", "law", "exponent [95 %]", f"{at} [95 %]", "scatter", "budgets")
    return Table(columns, tuple(rows), n_text=2)


def surfaces_table(fit: FitResult) -> Table:
    """Coefficients of L(N, D) = E + A/N^alpha + B/D^beta, or why there are none."""
    rows = [
        (
            family.family,
            *(
                _with_interval(getattr(surface, name), surface.ci[name], notation.significant)
                for name in ("E", "A", "B", "alpha", "beta")
            ),
            str(surface.n_points),
        )
        for family in fit.families.values()
        if (surface := family.surface) is not None
    ]
    return Table(("series", "E (nats)", "A", "B", "α", "β", "points"), tuple(rows))


def holdout_table(fit: FitResult) -> Table:
    """What each form misses when the smaller budgets predict the larger ones."""
    rows = [
        (
            family.family,
            FORM_NAMES[form] + (" (best)" if form == holdout.best else ""),
            f"{100 * score.mean_abs_error:.2g} %",
            f"{100 * score.worst_abs_error:.2g} %",
            f"{100 * score.coverage:.0f} %",
            f"{score.n} {holdout.unit}",
        )
        for family in fit.families.values()
        if (holdout := family.holdout) is not None
        for form, score in holdout.scores.items()
    ]
    columns = ("series", "form", "mean error", "worst error", "in its 95 %", "predicted")
    return Table(columns, tuple(rows), n_text=2)


def further_table(fit: FitResult) -> Table:
    """Laws along envelopes, in tokens, and of the best batch and rate."""
    rows: list[tuple[str, ...]] = []
    for family in fit.families.values():
        envelope, tokens = family.envelope, family.token_frontier
        batch = family.batch_laws
        named: list[tuple[str, PowerLaw | SettingLaw | None]] = [
            ("N*(C) on the envelope", envelope.params_law if envelope else None),
            ("D*(C) on the envelope", envelope.tokens_law if envelope else None),
            ("L*(C) on the envelope", envelope.loss_law if envelope else None),
            ("L* over D* of the optima", tokens.along_optima if tokens else None),
            ("best batch B*(D)", batch.batch_by_tokens if batch else None),
            ("best rate η*(B)", batch.rate_by_batch if batch else None),
            ("best rate η*(D), at one size", batch.rate_by_tokens if batch else None),
        ]
        rows += [
            (family.family, name, _with_interval(law.exponent, law.exponent_ci, notation.exponent),
             f"{law.n_budgets}")
            for name, law in named
            if law is not None
        ]  # fmt: skip
    return Table(("series", "law", "exponent [95 %]", "points"), tuple(rows), n_text=2)


def multipliers_table(comparisons: Sequence[Comparison]) -> Table:
    """The multiplier at every budget of every comparison."""
    rows = [
        (
            f"{comparison.against} vs {comparison.baseline}",
            notation.flops(point.flops),
            notation.loss(point.loss),
            "not reached" if point.multiplier is None else notation.ratio(point.multiplier),
            notation.interval(point.ci, notation.ratio),
            f"extrapolated by the {FORM_NAMES[point.form]}" if point.form else "both observed it",
        )
        for comparison in comparisons
        for point in comparison.points
    ]
    budget, loss = "budget (FLOPs)", "L* of the baseline"
    return Table(("series", budget, loss, "multiplier", "95 %", "that loss is"), tuple(rows))


def exponents_table(comparisons: Sequence[Comparison]) -> Table:
    """Differences of exponents by paired draws."""
    rows = [
        (
            f"{comparison.against} vs {comparison.baseline}",
            SYMBOLS[name],
            notation.exponent(law.against),
            notation.exponent(law.baseline),
            notation.exponent(law.difference),
            notation.interval(law.difference_ci, notation.exponent),
            "no" if law.difference_ci[0] <= 0 <= law.difference_ci[1] else "yes",
        )
        for comparison in comparisons
        for name, law in comparison.exponents.items()
        if law is not None
    ]
    columns = ("series", "law", "exponent", "baseline", "difference", "95 %", "differs from 0")
    return Table(columns, tuple(rows), n_text=2)


def remarks(warnings: Sequence[FitWarning]) -> dict[str, list[str]]:
    """Messages of the warnings by the title of their code, each said once."""
    grouped: dict[str, list[str]] = {}
    for warning in warnings:
        is_named = warning.family is None or warning.message.startswith(warning.family)
        about = "" if is_named else f"{warning.family}: "
        messages = grouped.setdefault(warning.code.replace("_", " ").capitalize(), [])
        if (text := about + warning.message) not in messages:
            messages.append(text)
    return grouped
