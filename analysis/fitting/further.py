"""What a fit says of a series beyond isoFLOP optima and the surface: one place to read and to name
it.

Each part has a module of its own. A part that the data cannot support is None, and a caution says
why; where that reason is the same for every series, it is said once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from analysis.errors import Caution
from analysis.fitting.batch_laws import BatchLaws, fit_batch_laws
from analysis.fitting.envelope import Envelope, fit_envelope
from analysis.fitting.holdout import HoldOut, Prediction, hold_out
from analysis.fitting.lack_of_fit import lack_of_fit
from analysis.fitting.token_frontier import TokenFrontier, token_frontier
from analysis.isoflop.isoflop import IsoFlopFit
from analysis.stats.bootstrap import Resampler
from analysis.stats.power_law import PowerLaw
from analysis.surface.surface import SurfaceFit
from analysis.tables.points import Points

Json = dict[str, Any]


@dataclass(frozen=True)
class Further:
    """The further parts of one series."""

    envelope: Envelope | None
    token_frontier: TokenFrontier | None
    holdout: HoldOut | None
    batch_laws: BatchLaws | None
    """None where the source varies neither batch nor learning rate, or does not state them."""
    cautions: tuple[Caution, ...] = ()


def read_further(
    points: Points,
    isoflop: IsoFlopFit | None,
    surface: SurfaceFit | None,
    huber_delta: float | Literal["auto"],
    resampler: Resampler,
) -> Further:
    """Every further part of one series."""
    envelope = fit_envelope(points, resampler)
    tokens = token_frontier(points, isoflop, surface)
    holdout = hold_out(points, isoflop, huber_delta, resampler)
    cautions = [part for part in (envelope, tokens, holdout) if isinstance(part, Caution)]
    if isinstance(tokens, TokenFrontier):
        cautions += tokens.cautions
    if isinstance(holdout, HoldOut):
        cautions += holdout.cautions(points.family)
    if surface is not None and (test := lack_of_fit(points)) is not None:
        cautions += test.cautions(points.family)
    batch_laws = fit_batch_laws(points, resampler)
    cautions += () if batch_laws is None else batch_laws.cautions
    return Further(
        envelope=None if isinstance(envelope, Caution) else envelope,
        token_frontier=None if isinstance(tokens, Caution) else tokens,
        holdout=None if isinstance(holdout, Caution) else holdout,
        batch_laws=batch_laws,
        cautions=tuple(cautions),
    )


def shared_cautions(further: Sequence[Further]) -> list[Caution]:
    """The cautions of all series, without a label where every series has the same."""
    by_series = [[replace(caution, family=None) for caution in each.cautions] for each in further]
    result: list[Caution] = []
    for each, unlabelled in zip(further, by_series, strict=True):
        for caution, plain in zip(each.cautions, unlabelled, strict=True):
            said = plain if all(plain in others for others in by_series) else caution
            if said not in result:
                result.append(said)
    return result


def further_json(further: Further) -> Json:
    """Keys of a series in the answer of `sweeper fit --json`.

    `batch_laws` is there only for sources that vary the batch or the learning rate.
    """
    envelope, tokens = further.envelope, further.token_frontier
    holdout = further.holdout
    answer: Json = {
        "envelope": None if envelope is None else _envelope_json(envelope),
        "token_frontier": None if tokens is None else _token_frontier_json(tokens),
        "holdout": None if holdout is None else _holdout_json(holdout),
    }
    if (laws := further.batch_laws) is not None:
        answer["batch_laws"] = {
            "batch_by_tokens": law_json(laws.batch_by_tokens),
            "rate_by_batch": law_json(laws.rate_by_batch),
            "rate_by_tokens": law_json(laws.rate_by_tokens),
        }
    return answer


def law_json(law: PowerLaw | None) -> Json | None:
    """A pure law, or null."""
    if law is None:
        return None
    return {
        "coefficient": law.coefficient,
        "exponent": law.exponent,
        "exponent_ci": list(law.exponent_ci),
    }


def _envelope_json(envelope: Envelope) -> Json:
    return {
        "n_points": len(envelope.flops_H),
        "n_runs": envelope.n_runs,
        "params_law": law_json(envelope.params_law),
        "tokens_law": law_json(envelope.tokens_law),
        "loss_law": law_json(envelope.loss_law),
    }


def _token_frontier_json(tokens: TokenFrontier) -> Json:
    limit = None
    if tokens.limit is not None:
        limit = [
            {
                "tokens": point.tokens,
                "loss": point.loss,
                "ci": list(point.ci),
                "loss_at_largest_size": point.loss_at_largest_size,
            }
            for point in tokens.limit
        ]
    return {"limit": limit, "along_optima": law_json(tokens.along_optima)}


def _holdout_json(holdout: HoldOut) -> Json:
    return {
        "unit": holdout.unit,
        "best": holdout.best,
        "scores": {form: dict(vars(score)) for form, score in holdout.scores.items()},
        "predictions": [_prediction_json(prediction) for prediction in holdout.predictions],
    }


def _prediction_json(prediction: Prediction) -> Json:
    return {
        "form": prediction.form,
        "n_train": prediction.n_train,
        "flops": prediction.target.flops,
        "observed": prediction.target.loss,
        "predicted": prediction.loss,
        "ci": list(prediction.ci),
    }
