"""Why a chart shows nothing, or not every series, under the conventions that are chosen.

FLOPs that are counted otherwise make other budgets: a series whose runs cannot be regrouped by
them has no isoFLOP curve, and so no frontier and no multiplier.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.answers.compare import Comparison
from analysis.fitting.fit import FitResult
from analysis.isoflop.isoflop import REASONS
from analysis.report.page.charts.figure import Figure, Panel
from analysis.report.page.frames import Frames

Json = dict[str, Any]

LEAST_BUDGETS = 2
"""Bracketed ones that a law is fitted to."""


def lacking_json(
    fit: FitResult, comparisons: Sequence[Comparison], frames: Frames, figures: Sequence[Figure]
) -> Json:
    """Of one view: `empty`, what stands in the place of each chart without a mark, by the chart's
    name; `lacking`, by figure, which series or pairs have no part in it, and why."""
    empty, lacking = {}, {}
    for figure, reasons in (
        ("frontiers", [*_without_law(fit).values()]),
        ("multiplier", _without_multiplier(fit, comparisons)),
    ):
        if not reasons:
            continue
        lacking[figure] = f"{'; '.join(reasons)}."
        panels = next(each.panels for each in figures if each.name == figure)
        for number, panel in enumerate(panels):
            if not _has_marks(panel, frames):
                empty[f"{figure}-{number}"] = f"Nothing to draw: {lacking[figure]}"
    return {"empty": empty, "lacking": lacking}


def _without_law(fit: FitResult) -> dict[str, str]:
    """Series that no law can be fitted to: a sentence on each."""
    found = {}
    for label, family in fit.families.items():
        n_bracketed = sum(optimum.bracketed for optimum in family.optima)
        if not family.optima:
            found[label] = f"{label} has no budgets: by this count no sizes spent equal FLOPs"
        elif n_bracketed < LEAST_BUDGETS:
            reasons = Counter(REASONS[each.reason] for each in family.optima if each.reason)
            found[label] = (
                f"{label} has {n_bracketed} of {len(family.optima)} budgets bracketed, where a law "
                f"needs {LEAST_BUDGETS}: {reasons.most_common(1)[0][0]}"
            )
    return found


def _without_multiplier(fit: FitResult, comparisons: Sequence[Comparison]) -> list[str]:
    """Sentences on why pairs have no multiplier at any budget."""
    lawless = _without_law(fit)
    found = []
    for each in comparisons:
        if not each.points:
            found += [lawless[label] for label in (each.baseline, each.against) if label in lawless]
        elif all(point.multiplier is None for point in each.points):
            found.append(f"{each.against} reaches the losses of {each.baseline} at no compute")
    return [*dict.fromkeys(found)]


def _has_marks(panel: Panel, frames: Frames) -> bool:
    """Whether a view has rows for any layer of a chart but published laws, which are of others."""
    return any(
        _has_rows(layer, frames)
        for layer in panel.spec["layer"]
        if layer["data"].get("name") not in (None, "published")
    )


def _has_rows(layer: Mapping[str, Any], frames: Frames) -> bool:
    frame, height = frames[layer["data"]["name"]], layer["encoding"]["y"]["field"]
    kept = {
        test["field"]: test["equal"]
        for transform in layer.get("transform", ())
        for test in transform["filter"]["and"]
    }
    rows = (dict(zip(frame.columns, row, strict=True)) for row in frame.rows)
    return any(
        row[height] is not None and all(row[name] == value for name, value in kept.items())
        for row in rows
    )
