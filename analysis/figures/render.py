"""All figures by name; to PNG, SVG and PDF files.

Same input, same bytes: no dates, ids hashed with a fixed salt.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from analysis.errors import NothingToDraw, SettingsError
from analysis.figures.exponents import exponents
from analysis.figures.frontier import frontier
from analysis.figures.isoflop import isoflop
from analysis.figures.multiplier import multiplier
from analysis.figures.pareto import pareto
from analysis.figures.sensitivity import sensitivity
from analysis.figures.style import HOUSE, Look
from analysis.figures.trajectories import trajectories
from analysis.sensitivity.study import Study, fingerprint
from sweeper.errors import did_you_mean
from sweeper.store.files import write_output

SUFFIXES = (".png", ".svg", ".pdf")

FIGURES: dict[str, Callable[[Study, Look], Figure]] = {
    "frontier": lambda study, look: frontier(study.fit, look),
    "isoflop": lambda study, look: isoflop(study.fit, look),
    "multiplier": lambda study, look: multiplier(study.comparisons, study.fit, look),
    "trajectories": lambda study, look: trajectories(study.fit, look),
    "exponents": lambda study, look: exponents(study.fit, look),
    "sensitivity": lambda study, look: sensitivity(study.sensitivities, study.fit, look),
    "pareto": lambda study, look: pareto(study.samples, look),
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
    suffixes: Sequence[str] = SUFFIXES,
    look: Look = HOUSE,
) -> SavedFigures:
    """Write figures into a folder, or one figure into a file named *.png, *.svg or *.pdf.

    A file gets the first of `names` that can be drawn. Raises `SettingsError` for a name that does
    not exist or another suffix, `OutputError` for a path that cannot be written.
    """
    check_names(names)
    drawn = {name: partial(FIGURES[name], study) for name in names}
    return save_drawn(drawn, fingerprint(study.table), out, suffixes, look)


def check_names(names: Sequence[str]) -> None:
    """Raise `SettingsError` for a figure that does not exist."""
    for name in names:
        if name not in FIGURES:
            hint = did_you_mean(name, FIGURES)
            raise SettingsError(f"figure {name!r}: expected one of {', '.join(FIGURES)}{hint}")


def save_drawn(
    drawn: Mapping[str, Callable[[Look], Figure]],
    source: str,
    out: Path,
    suffixes: Sequence[str] = SUFFIXES,
    look: Look = HOUSE,
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
            figure = draw(look)
        except NothingToDraw as reason:
            skipped.append((name, str(reason)))
            continue
        targets = [out] if is_file else [out / f"{name}{suffix}" for suffix in suffixes]
        for path in targets:
            write_output(path, figure_bytes(figure, path.suffix.lower(), source, look))
            paths.append(path)
        if is_file:
            break
    return SavedFigures(tuple(paths), tuple(skipped))


def figure_bytes(figure: Figure, suffix: str, source: str, look: Look = HOUSE) -> bytes:
    """A rendered figure with the fingerprint of its data in its metadata."""
    described = f"data {source}"
    metadata = {
        ".png": {"Software": None, "Description": described},
        ".svg": {"Date": None, "Creator": None, "Description": described},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None, "Subject": described},
    }[suffix]
    buffer = io.BytesIO()
    with look.settings(), matplotlib.rc_context({"svg.hashsalt": source}):
        figure.savefig(buffer, format=suffix.removeprefix("."), metadata=metadata)
    return buffer.getvalue()
