"""All figures by name; to PNG, SVG and PDF files, and to SVG that can stand inside a page.

Same input, same bytes: no dates, ids hashed with a fixed salt.
"""

import hashlib
import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from analysis.answers.compare import Comparison
from analysis.errors import NothingToDraw, SettingsError
from analysis.figures.exponents import exponents
from analysis.figures.frontier import frontier
from analysis.figures.isoflop import isoflop
from analysis.figures.layout import house_style
from analysis.figures.multiplier import multiplier
from analysis.figures.pareto import pareto
from analysis.figures.sensitivity import sensitivity
from analysis.figures.style import GRID, INK, MUTED, PALETTE, PAPER
from analysis.figures.trajectories import trajectories
from analysis.fitting.fit import FitResult
from analysis.pareto.answer import ParetoAnswer
from analysis.sensitivity.conclusions import Sensitivity
from analysis.tables.tidy import TidyTable
from sweeper.errors import did_you_mean
from sweeper.store.files import write_output

SUFFIXES = (".png", ".svg", ".pdf")
THEME = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"} | {
    color: f"var(--series-{index})" for index, color in enumerate(PALETTE)
}
"""Colours that follow the theme of the page a figure stands in."""


@dataclass(frozen=True)
class Study:
    """Everything that figures and a report are made from."""

    table: TidyTable
    fit: FitResult
    comparisons: Sequence[Comparison] = ()
    sensitivities: Sequence[Sensitivity] = ()
    samples: ParetoAnswer | None = None
    """None where the source has none."""

    def sensitivity_of(self, comparison: Comparison) -> Sensitivity | None:
        """What was tried of one comparison, None where nothing could be."""
        pair = (comparison.baseline, comparison.against)
        return next((s for s in self.sensitivities if (s.baseline, s.against) == pair), None)


FIGURES: dict[str, Callable[[Study], Figure]] = {
    "frontier": lambda study: frontier(study.fit),
    "isoflop": lambda study: isoflop(study.fit),
    "multiplier": lambda study: multiplier(study.comparisons, study.fit),
    "trajectories": lambda study: trajectories(study.fit),
    "exponents": lambda study: exponents(study.fit),
    "sensitivity": lambda study: sensitivity(study.sensitivities, study.fit),
    "pareto": lambda study: pareto(study.samples),
}
"""All figures by name, in the order in which they answer questions."""


@dataclass(frozen=True)
class SavedFigures:
    """What `save_figures` did."""

    paths: tuple[Path, ...]
    skipped: tuple[tuple[str, str], ...]
    """Figures for which the fit has no part, with the reason."""


def save_figures(
    study: Study,
    out: Path,
    names: Sequence[str] = tuple(FIGURES),
    suffixes: Sequence[str] = (".png", ".svg"),
) -> SavedFigures:
    """Write figures into a folder, or one figure into a file named *.png, *.svg or *.pdf.

    A file gets the first of `names` that can be drawn. Raises `SettingsError` for a name that does
    not exist or another suffix, `OutputError` for a path that cannot be written.
    """
    check_names(names)
    drawn = {name: partial(FIGURES[name], study) for name in names}
    return save_drawn(drawn, fingerprint(study.table), out, suffixes)


def check_names(names: Sequence[str]) -> None:
    """Raise `SettingsError` for a figure that does not exist."""
    for name in names:
        if name not in FIGURES:
            hint = did_you_mean(name, FIGURES)
            raise SettingsError(f"figure {name!r}: expected one of {', '.join(FIGURES)}{hint}")


def save_drawn(
    drawn: Mapping[str, Callable[[], Figure]],
    source: str,
    out: Path,
    suffixes: Sequence[str] = (".png", ".svg"),
) -> SavedFigures:
    """Write figures by name, from data of that fingerprint; raises as `save_figures` does."""
    is_file = out.suffix != "" and not out.is_dir()
    for suffix in [out.suffix] if is_file else suffixes:
        if suffix.lower() not in SUFFIXES:
            raise SettingsError(
                f"{out}: cannot draw {suffix} files; expected {', '.join(SUFFIXES)}, or a folder"
            )
    paths: list[Path] = []
    skipped = []
    for name, draw in drawn.items():
        try:
            figure = draw()
        except NothingToDraw as reason:
            skipped.append((name, str(reason)))
            continue
        targets = [out] if is_file else [out / f"{name}{suffix}" for suffix in suffixes]
        for path in targets:
            write_output(path, figure_bytes(figure, path.suffix.lower(), source))
            paths.append(path)
        if is_file:
            break
    return SavedFigures(tuple(paths), tuple(skipped))


def fingerprint(table: TidyTable) -> str:
    """First 16 hex digits of the SHA-256 of the tidy rows."""
    text = table.frame.to_csv(index=False, float_format="%.12g", lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def figure_bytes(figure: Figure, suffix: str, source: str) -> bytes:
    """A rendered figure with the fingerprint of its data in its metadata."""
    described = f"data {source}"
    metadata = {
        ".png": {"Software": None, "Description": described},
        ".svg": {"Date": None, "Creator": None, "Description": described},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None, "Subject": described},
    }[suffix]
    buffer = io.BytesIO()
    with house_style(), matplotlib.rc_context({"svg.hashsalt": source}):
        figure.savefig(buffer, format=suffix.removeprefix("."), metadata=metadata)
    return buffer.getvalue()


def inline_svg(figure: Figure, prefix: str, title: str) -> str:
    """An `<svg>` element to stand in a page: themed colours, ids that no other figure has."""
    # It carries no comments (they repeat labels), no metadata and nothing from outside.
    text = figure_bytes(figure, ".svg", prefix).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", text)
    # A page holds many figures: ids, and what refers to them, carry the name of theirs.
    text = re.sub(r'\b(?:xlink:)?href="#', f'href="#{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace(' id="', f' id="{prefix}-')
    text = re.sub(r"(\d\.\d{3})\d+", r"\1", text)  # a thousandth of a point is plenty
    for color, variable in THEME.items():
        text = text.replace(color, variable)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    label = html.escape(title, quote=True)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()
