"""What the charts draw under each convention for parameters and FLOPs."""

from collections.abc import Sequence
from typing import Any

from analysis import notation
from analysis.answers.compare import Comparison
from analysis.fitting.fit import FitResult
from analysis.report.page.charts.figure import Figure
from analysis.report.page.frames import Shown, bracketed, frames
from analysis.report.page.lacking import lacking_json
from analysis.sensitivity.study import Study

Json = dict[str, Any]


def views_json(study: Study, shown: Shown, figures: Sequence[Figure]) -> list[Json]:
    """The fit's own view, then the others by what differs from it."""
    own = _view(study.fit, study.comparisons, shown, figures)
    found = [own]
    for each in study.recounts:
        other = _view(each.fit, each.comparisons, shown, figures)
        other["frames"] = {
            name: _differing(own["frames"][name], columns)
            for name, columns in other["frames"].items()
            if columns != own["frames"][name]
        }
        found.append(other)
    return found


def _view(
    fit: FitResult, comparisons: Sequence[Comparison], shown: Shown, figures: Sequence[Figure]
) -> Json:
    drawn = frames(fit, comparisons, shown)
    return {
        "params": fit.params_convention,
        "flops": fit.flops_convention,
        "titles": {
            "{params}": notation.params_unit(fit.params_convention),
            "{flops}": notation.flops_unit(fit.flops_convention),
        },
        "bracketed": [bracketed(family.optima) for family in fit.families.values()],
        "frames": {name: each.to_json() for name, each in drawn.items()},
        **lacking_json(fit, comparisons, drawn, figures),
    }


def _differing(own: Json, other: Json) -> Json:
    """The columns that differ, all where there are other rows."""
    lengths = [len(next(iter(columns.values()))) for columns in (own, other)]
    if lengths[0] != lengths[1]:
        return other
    return {name: column for name, column in other.items() if column != own[name]}
