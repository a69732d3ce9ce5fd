"""What `fit`, `compare`, `predict` and `propose` print."""

import textwrap
from collections.abc import Sequence

from analysis import notation
from analysis.answers.compare import Comparison
from analysis.answers.forms import FORM_NAMES
from analysis.answers.predict import Prediction
from analysis.answers.propose import Proposals
from analysis.errors import FitWarning
from analysis.fitting.batch_laws import SettingLaw
from analysis.fitting.fit import FamilyFit, FitResult
from analysis.isoflop.crossover import SEARCHED_DECADES, Crossover
from analysis.isoflop.isoflop import REASONS, Optimum
from analysis.notation import LOSS_UNIT, count, significant, with_interval
from analysis.report import tables
from analysis.sensitivity.conclusions import SYMBOLS, Quantity, Sensitivity
from analysis.stats.power_law import LawName, PowerLaw
from sweeper.errors import one_per_kind

_four_digits = "{:.4f}".format
_POWERS = ("alpha", "beta")
COLUMNS = 80
"""Of a line; tables are made to fit, sentences are folded."""


def summary(result: FitResult, *, in_full: bool = False) -> str:
    """The answer of every series, then optima and laws, one block each, then the warnings.

    `in_full`: every warning, not one of each kind.
    """
    answers = tables.answers(result)
    blocks = ["\n".join(f"{label}: {answer}" for label, answer in answers.items())]
    blocks += [_family_summary(fit) for fit in result.families.values()]
    if result.warnings:
        blocks.append("\n".join(_warning_lines(result.warnings, in_full=in_full)))
    return folded("\n\n".join(blocks))


def comparison_text(
    comparison: Comparison, sensitivity: Sensitivity | None = None, *, in_full: bool = False
) -> str:
    """Verdict, multipliers and exponents, each with its sensitivity; then the warnings.

    `in_full`: every warning, not one of each kind.
    """

    def tried(quantity: Quantity) -> list[str]:
        return [f"    sensitivity: {sensitivity.of(quantity).verdict}"] if sensitivity else []

    lines = [comparison.verdict, *tried("multiplier")]
    if comparison.points:
        lines += ["", f"  {'budget':>9}  {'loss':>7}  compute of {comparison.against} over it"]
        for point in comparison.points:
            value = "unreachable"
            if point.multiplier is not None:
                value = with_interval(point.multiplier, point.ci, notation.ratio)
            remark = f"  extrapolated by the {FORM_NAMES[point.form]}" if point.form else ""
            budget, loss = notation.flops(point.flops), notation.loss(point.loss)
            lines.append(f"  {budget:>9}  {loss:>7}  {value}{remark}")
        lines += ["", _crossing_line(comparison.crossover)]
    lines.append("")
    for name in comparison.exponents:
        lines.append(_exponent_line(comparison, name))
        lines += tried(name)
    if comparison.warnings:
        lines += ["", *_warning_lines(comparison.warnings, in_full=in_full)]
    return folded("\n".join(lines))


def folded(text: str) -> str:
    """Lines of at most COLUMNS characters, as far as words allow; what follows is indented."""
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        lines += (
            textwrap.wrap(
                line,
                COLUMNS,
                subsequent_indent=indent,
                drop_whitespace=True,
                break_long_words=False,
                break_on_hyphens=False,
            )
            if len(line) > COLUMNS
            else [line]
        )
    return "\n".join(lines)


def _crossing_line(crossing: Crossover | None) -> str:
    if crossing is None:
        return f"  the frontiers do not meet within {SEARCHED_DECADES:g} decades of their budgets"
    interval = f"(in {crossing.share:.0%} of the resamples: no interval)"
    if crossing.ci is not None:
        interval = notation.interval(crossing.ci, notation.flops)
    remark = "  extrapolated" if crossing.extrapolated else ""
    return f"  the frontiers meet at {notation.flops(crossing.flops)} FLOPs {interval}{remark}"


def prediction_text(prediction: Prediction) -> str:
    """Size, tokens, loss and training settings at a budget, then the warnings."""
    source = {"isoflop": "its isoFLOP laws", "surface": "its surface", None: "nothing"}
    far = f", {prediction.extrapolation_decades:.1f} decades outside its budgets"
    where = far if prediction.extrapolation_decades else ""
    lines = [
        f"{prediction.family} at {prediction.flops:.3g} FLOPs by {source[prediction.source]}{where}"
    ]
    params, tokens, loss = prediction.params, prediction.tokens, prediction.loss
    if params and tokens and loss:
        unit = notation.params_unit(prediction.params_convention)
        lines += [
            f"  N* = {with_interval(params.value, params.ci, count)} {unit}, "
            f"D* = {with_interval(tokens.value, tokens.ci, count)} tokens",
            f"  L* = {with_interval(loss.value, loss.ci, _four_digits)} {LOSS_UNIT}, one run",
        ]
    if (batch := prediction.batch_tokens) is not None:
        lines.append(f"  batch {count(batch.value)} tokens ({batch.source})")
    if (rate := prediction.learning_rate) is not None:
        lines.append(f"  learning rate {rate.value:.3g} ({rate.source})")
    lines += [_warning_line(warning) for warning in prediction.warnings]
    if n := len(prediction.fit_warnings):
        lines.append(f"({n} more {'warning' if n == 1 else 'warnings'} on the fit: sweeper fit)")
    return "\n".join(lines)


def _exponent_line(comparison: Comparison, name: LawName) -> str:
    difference = comparison.exponents[name]
    symbol = SYMBOLS[name]
    if difference is None:
        return f"  exponent of {symbol}: no law in one of the series"
    apart = with_interval(difference.difference, difference.difference_ci, _signed)
    return (
        f"  exponent of {symbol}: {comparison.baseline} {significant(difference.baseline)}, "
        f"{comparison.against} {significant(difference.against)}: {apart}"
    )


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else ''}{significant(value)}"


def _family_summary(fit: FamilyFit) -> str:
    n_points = len(fit.points.loss_P)
    lines = [f"{fit.family}: {n_points} points of {fit.points.n_runs} runs"]
    if fit.isoflop is None:
        lines.append("  no isoFLOP budgets")
    else:
        lines.append(f"  {'budget':>9}  {'L* nats/token':21}  {'N* params':21}  D* tokens")
        # Bracketed optima first; of more than five the ends and three evenly between them.
        optima = [optimum for optimum in fit.optima if optimum.bracketed] or list(fit.optima)
        if len(optima) > 5:
            optima = [optima[round(i * (len(optima) - 1) / 4)] for i in range(5)]
        lines += [_optimum_line(optimum) for optimum in optima]
        laws = (
            ("L*", fit.isoflop.loss_law),
            ("N*", fit.isoflop.params_law),
            ("D*", fit.isoflop.tokens_law),
        )
        lines += [f"  {_law_text(name, law)}" for name, law in laws]
    if (surface := fit.surface) is None:
        lines.append("  L(N, D): no surface")
    else:
        alpha, beta = (notation.interval(surface.ci[name], significant) for name in _POWERS)
        lines.append(
            f"  L(N, D) = {surface.E:.4g} + {surface.A:.3g} / N^{significant(surface.alpha)} + "
            f"{surface.B:.3g} / D^{significant(surface.beta)}, alpha {alpha}, beta {beta}"
        )
    lines += [f"  {line}" for line in _further_lines(fit)]
    return "\n".join(lines)


def _law_text(name: str, law: PowerLaw | None, by: str = "C", points: str = "budgets") -> str:
    if law is None:
        return f"{name}({by}): no law"
    offset = "" if law.offset is None else f"{law.offset:.4g} + "
    formula = f"{offset}{significant(law.coefficient)} · {by}^{significant(law.exponent)}"
    interval = notation.interval(law.exponent_ci, significant)
    return f"{name}({by}) = {formula}, exponent {interval}, {law.n_budgets} {points}"


def _setting_law_text(name: str, by: str, law: SettingLaw) -> str:
    exponent = with_interval(law.exponent, law.exponent_ci, significant)
    if law.coefficient is None:
        form = f"{by}^{significant(law.exponent)}, each size with a level of its own"
    else:
        size = f" · N^{significant(law.params_exponent)}" if law.params_exponent is not None else ""
        form = f"{significant(law.coefficient)}{size} · {by}^{significant(law.exponent)}"
    of = f"N, {by}" if len(law.size_coefficients) > 1 else by
    if law.params_exponent is not None and law.params_exponent_ci is not None:
        of_size = with_interval(law.params_exponent, law.params_exponent_ci, significant)
        exponent += f" of {by}, {of_size} of N"
    return f"{name}({of}) = {form}, exponent {exponent}, {law.n_budgets} vertices"


def _further_lines(fit: FamilyFit) -> list[str]:
    lines = []
    if fit.envelope is not None:
        names = {"N": fit.envelope.params_law, "D": fit.envelope.tokens_law}
        exponents = ", ".join(
            f"{name}* exponent {with_interval(law.exponent, law.exponent_ci, significant)}"
            for name, law in names.items()
        )
        lines.append(f"envelope of training curves: {exponents}")
    tokens = fit.token_frontier
    if tokens is not None and tokens.limit is not None:
        last = tokens.limit[-1]
        loss = with_interval(last.loss, last.ci, notation.loss)
        lines.append(f"token-bound: L* → {loss} on {count(last.tokens)} tokens as N grows")
    if (laws := fit.batch_laws) is not None:
        named = (
            ("B*", "D", laws.batch_by_tokens),
            ("eta*", "B", laws.rate_by_batch),
            ("eta*", "D", laws.rate_by_tokens),
        )
        lines += [_setting_law_text(name, by, law) for name, by, law in named if law]
    if (holdout := fit.holdout) is not None:
        # What each form misses when it predicts what cost more from what cost less.
        n = max(score.n for score in holdout.scores.values())
        errors = ", ".join(
            f"{form} {score.mean_abs_error:.2%}{' (best)' if form == holdout.best else ''}"
            for form, score in holdout.scores.items()
        )
        failed = f"; failed: {', '.join(holdout.failed)}" if holdout.failed else ""
        lines.append(
            f"hold-out: larger {holdout.unit} are missed by, on average of {n}: {errors}{failed}"
        )
    return lines


def _warning_lines(warnings: Sequence[FitWarning], *, in_full: bool) -> list[str]:
    """One line for each, or for each kind."""
    if in_full:
        return [_warning_line(warning) for warning in warnings]
    kinds = one_per_kind((each.code, _with_family(each)) for each in warnings)
    lines = [f"warning: {text}" for text in kinds]
    if len(kinds) < len(warnings):
        lines.append(f"--remarks shows all {len(warnings)} warnings")
    return lines


def _warning_line(warning: FitWarning) -> str:
    return f"warning: {_with_family(warning)} [{warning.code}]"


def _with_family(warning: FitWarning) -> str:
    return f"{warning.family}: {warning.message}" if warning.family else warning.message


def _optimum_line(optimum: Optimum) -> str:
    budget = f"{notation.flops(optimum.budget_flops):>9}"
    if optimum.loss is None or optimum.params is None or optimum.tokens is None:
        why = REASONS[optimum.reason] if optimum.reason else "not bracketed"
        return f"  {budget}  not bracketed: {why}"
    cells = (
        with_interval(optimum.loss, optimum.loss_ci, notation.loss),
        with_interval(optimum.params, optimum.params_ci, count),
        with_interval(optimum.tokens, optimum.tokens_ci, count),
    )
    return f"  {budget}  " + "  ".join(f"{cell:21}" for cell in cells).rstrip()


def proposals_text(found: Proposals) -> str:
    """Ranked table, what it costs, a fragment of YAML, then the warnings."""
    lines = [_proposals_headline(found)]
    if found.proposals:
        lines.append(
            f"  {'':>2}  {'series':12} {'size':>7} {'seed':>4} {'tokens':>7} {'FLOPs':>9}  "
            f"{'interval':8}  why"
        )
    for rank, each in enumerate(found.proposals, start=1):
        run, width = each.run, "" if each.width is None else f"×{each.width:.2f}"
        lines.append(
            f"  {rank:>2}  {run.family:12} {count(run.params):>7} {run.seed:>4} "
            f"{count(run.tokens):>7} {run.flops_added:9.3g}  {width:8}  {each.why}"
        )
    if found.n_more:
        lines.append(f"  and {found.n_more} more that would bracket a budget (--number)")
    if found.proposals:
        cost = f"  together {found.flops:.3g} FLOPs"
        if found.ratio_now is not None and found.ratio_after is not None:
            cost += (
                f"; upper over lower end of the 95 % interval, expected: {found.ratio_now:.3g} "
                f"now, {found.ratio_after:.3g} then"
            )
        lines += [cost, "", fragment(found).rstrip(), ""]
    return "\n".join([*lines, *(_warning_line(warning) for warning in found.warnings)])


def fragment(found: Proposals) -> str:
    """A `design` with the proposed runs: what was trained before stays in the results."""
    runs = []
    for proposal in found.proposals:
        run = proposal.run
        # In full, as some rungs differ by 0.2 %.
        what = f"series: {run.family}, size: {run.params:.0f}"
        # Always said: the sweep's own seeds may be several.
        seed = f"train: {{seeds: [{run.seed}]}}"
        for place in run.points:
            budget = "" if place.budget_flops is None else f", budget: {place.budget_flops:g}"
            runs.append(f"    - {{{what}, tokens: {count(place.tokens)}{budget}, {seed}}}")
    return "\n".join(["design:", "  list:", *runs]) + "\n"


def _proposals_headline(found: Proposals) -> str:
    families = ", ".join(found.request.families)
    if not found.proposals:
        return f"{families}: no run to propose"
    if found.target_flops is None:
        return f"runs that would bracket open budgets of {families}:"
    interval = found.request.interval
    if interval == "multiplier":
        baseline, against = found.request.families
        quantity = f"the multiplier of {against} over {baseline}"
    else:
        quantity = f"{SYMBOLS[interval]} of {families}"
    return f"runs to shrink the interval of {quantity} at {found.target_flops:.3g} FLOPs:"
