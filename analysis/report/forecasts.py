"""Forecasts beside what came of them, as text and as a table."""

from collections.abc import Sequence

from analysis import notation
from analysis.answers.forecast import SAME, Observed, Outcome, Verdict
from analysis.notation import LOSS_UNIT, count, with_interval
from analysis.report.tables import Table

WORDS: dict[Verdict, str] = {
    "hit": "hit",
    "miss": "miss",
    "known": "table already held it",
    "not_observed": "not yet observed",
}


def forecast_text(outcome: Outcome) -> str:
    """What was promised, then a line for each run that tells."""
    forecast = outcome.forecast
    unit = notation.params_unit(forecast.params_convention)
    lines = [
        f"{outcome.name}: {forecast.family} at {forecast.flops:.3g} FLOPs, registered "
        f"{forecast.registered_at} from {forecast.source}, "
        f"{forecast.extrapolation_decades:.1f} decades outside its budgets",
        f"  promised N* = {count(forecast.params.value)} {unit}, D* = "
        f"{count(forecast.tokens.value)} tokens, L* = {_loss(outcome)} {LOSS_UNIT}, one run",
    ]
    lines += [f"  {WORDS[one.verdict]}: {_run(one)}" for one in outcome.observed]
    if not outcome.observed:
        where = f"no run within {SAME:.0%} of that compute, size and tokens"
        lines.append(f"  {WORDS['not_observed']}: {where}")
    return "\n".join(lines)


def forecasts_table(outcomes: Sequence[Outcome]) -> Table:
    """A row for each run that tells, or for a forecast without any."""
    columns = ("forecast", "series", "registered", "from", "outcome")
    numbers = ("FLOPs", "promised loss", "observed loss", "at params", "on tokens")
    rows = []
    for outcome in outcomes:
        forecast = outcome.forecast
        told = (
            *(outcome.name, forecast.family, forecast.registered_at),
            f"{forecast.source}, sha256:{forecast.table_sha256[:16]}",
        )
        promised = notation.flops(forecast.flops), _loss(outcome)
        for one in outcome.observed:
            found = f"{one.loss:.4g}", count(one.params), count(one.tokens)
            rows.append((*told, WORDS[one.verdict], *promised, *found))
        if not outcome.observed:
            near = count(forecast.params.value), count(forecast.tokens.value)
            rows.append((*told, WORDS["not_observed"], *promised, "—", *near))
    return Table((*columns, *numbers), tuple(rows), n_text=len(columns))


def _loss(outcome: Outcome) -> str:
    loss = outcome.forecast.loss
    return with_interval(loss.value, loss.ci, lambda value: f"{value:.4g}")


def _run(one: Observed) -> str:
    return f"{one.loss:.4g} at {count(one.params)} parameters on {count(one.tokens)} tokens"
