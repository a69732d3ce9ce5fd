"""What the samples say, as tables and terminal text."""

import base64
from collections.abc import Callable
from dataclasses import dataclass

from analysis import notation
from analysis.errors import NothingToDraw
from analysis.pareto.answer import MetricAnswer, ParetoAnswer, SpeedRatio, Winner
from analysis.report.tables import Table

PUBLISHED = "published for uniform against masked: 2.7–4.0× (arXiv 2602.15014, figure 1)"


@dataclass(frozen=True)
class SamplesSection:
    """What the page says of samples; its template is `samples.html`."""

    answer: str
    about: str
    figure: str
    """An image as a `data:` URL; empty where there is none."""
    why_no_figure: str
    shown: tuple[tuple[str, Table], ...]
    """Captions and tables of the headline metric."""
    folded: tuple[tuple[str, Table], ...]
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, found: ParetoAnswer) -> "SamplesSection":
        """The headline metric, and everything that was measured."""
        # Late: the one figure that matplotlib draws, which takes a second to load.
        from analysis.figures.pareto import pareto
        from analysis.figures.render import figure_bytes

        figure, why = "", ""
        try:
            image = base64.b64encode(figure_bytes(pareto(found), ".svg", found.fingerprint))
            figure = f"data:image/svg+xml;base64,{image.decode()}"
        except NothingToDraw as reason:
            why = str(reason)
        best = found.headline
        shown: list[tuple[str, Table]] = []
        folded = [("Everything measured, negative controls included", settings_table(found))]
        if best is not None:
            shown = [
                ("Which series is best at which speed", winners_table(best)),
                ("Speed at equal quality", ratios_table(best)),
            ]
            folded.insert(
                0, (f"Every sampler at the common entropy, by {best.title}", fronts_table(best))
            )
        return cls(
            answer_sentence(found),
            about(found),
            figure,
            why,
            tuple((caption, table) for caption, table in shown if table.rows),
            tuple(folded),
            tuple(warning.message for warning in found.warnings),
        )


def pareto_text(found: ParetoAnswer) -> str:
    """The headline metric in full, the others in a line each."""
    lines = [about(found)]
    for each in found.metrics:
        lines += ["", each.title]
        if each is found.headline:
            tables = (fronts_table(each), winners_table(each), ratios_table(each))
            for table in tables:
                lines += ["", *table.lines()] if table.rows else []
            if any((r.baseline, r.against) == ("masked", "uniform") for r in each.speed_ratios):
                lines.append(f"  {PUBLISHED}")
        else:
            lines += [f"  {sentence(ratio)}" for ratio in each.speed_ratios]
    if found.headline is None:
        lines += ["", "no metric ranks the controls last: nothing here says which series is better"]
    lines += ["", "all settings", *settings_table(found).lines()]
    lines += [f"warning: {warning.message} [{warning.code}]" for warning in found.warnings]
    return "\n".join(lines)


def about(found: ParetoAnswer) -> str:
    """Where samplers are compared, and under which protocol."""
    conditions = ", ".join(f"{name} {value}" for name, value in found.protocol.items())
    of = {"unigram": "histogram", "ngram": "n-gram"}[found.entropy.of]
    return (
        f"samples of {found.source} at a {of} entropy of {found.entropy.nats:.3f} nats per token, "
        f"interpolated between temperatures ({conditions})"
    )


def answer_sentence(found: ParetoAnswer) -> str:
    """Who wins where, and how much faster: one sentence, of the headline metric."""
    best = found.headline
    if best is None:
        return "No metric of the samples ranks the negative controls last."
    parts = [
        f"{_range(each)} {best.speed_unit}: {each.series} ({each.probability:.0%})"
        for each in best.winners
    ]
    ratios = [sentence(ratio) for ratio in best.speed_ratios]
    return f"By {best.metric.title}. " + "; ".join([*parts, *ratios]) + "."


def sentence(ratio: SpeedRatio) -> str:
    """How much faster one series is at equal quality."""
    who = f"{ratio.against} against {ratio.baseline}"
    if ratio.ratio is None:
        return f"{who}: {ratio.remark}"
    shown = notation.with_interval(ratio.ratio, ratio.ci, notation.ratio, notation.NO_INTERVAL)
    sure = (
        ""
        if ratio.probability_faster is None
        else (f", faster with probability {ratio.probability_faster:.0%}")
    )
    return f"{who}: {shown} the speed at equal quality{sure}"


def fronts_table(metric: MetricAnswer) -> Table:
    """Every sampler at the common entropy; those on their series' front are marked."""
    rows = [
        (
            point.series,
            point.sampler,
            "front" if point.is_on_front else "",
            f"{point.n_steps}",
            _between(point.temperatures),
            notation.with_interval(point.speed, point.speed_ci, notation.count),
            notation.with_interval(point.quality, point.quality_ci, _three),
        )
        for point in sorted(metric.points, key=lambda each: (each.series, -each.speed))
    ]
    columns = (
        "series",
        "sampler",
        "",
        "steps",
        "temperature",
        f"{metric.speed_unit} [95 %]",
        "[95 %]",
    )
    return Table(columns, tuple(rows), n_text=3)


def winners_table(metric: MetricAnswer) -> Table:
    """Which series is best in which range of speed."""
    rows = [
        (each.series, _range(each), f"{each.probability:.0%}", f"{each.least_probability:.0%}")
        for each in metric.winners
    ]
    columns = ("best series", metric.speed_unit, "probability", "at least")
    return Table(columns, tuple(rows), n_text=2)


def ratios_table(metric: MetricAnswer) -> Table:
    """How much faster each series is than the baseline at equal quality."""
    rows = [
        (
            f"{ratio.against} vs {ratio.baseline}",
            ratio.remark,
            notation.with_interval(ratio.ratio, ratio.ci, notation.ratio, notation.NO_INTERVAL),
            "—" if ratio.probability_faster is None else f"{ratio.probability_faster:.0%}",
            _levels(ratio),
        )
        for ratio in metric.speed_ratios
    ]
    columns = ("series", "", "speed at equal quality [95 %]", "faster", "over qualities")
    return Table(columns, tuple(rows), n_text=2)


def settings_table(found: ParetoAnswer) -> Table:
    """Everything measured, controls included."""
    names = [each.metric.name for each in found.metrics]
    rows = [
        (
            f"{each.series} (control)" if each.is_control else each.series,
            each.sampler,
            f"{each.n_steps}",
            f"{each.temperature:g}",
            f"{each.top_p:g}",
            "—" if each.speed is None else notation.count(each.speed.value),
            *(f"{each.entropies[name]:.3f}" for name in each.entropies),
            *(
                _estimate(each.qualities[name].value, each.qualities[name].stderr)
                if name in each.qualities
                else "—"
                for name in names
            ),
        )
        for each in found.settings
    ]
    entropies = ("entropy", "n-gram entropy")
    columns = ("series", "sampler", "steps", "temperature", "top-p", "speed", *entropies, *names)
    return Table(columns, tuple(rows), n_text=2)


def _estimate(value: float, stderr: float) -> str:
    return f"{_three(value)} ± {stderr:.2g}"


def _range(winner: Winner) -> str:
    low, high = winner.speeds
    return f"{notation.count(low)} to {notation.count(high)}"


def _levels(ratio: SpeedRatio) -> str:
    if not ratio.by_quality:
        return "—"
    found = [value for _, value in ratio.by_quality]
    return f"{notation.ratio(min(found))} to {notation.ratio(max(found))}"


def _between(temperatures: tuple[float, float]) -> str:
    low, high = sorted(temperatures)
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"


_three: Callable[[float], str] = notation.exponent
