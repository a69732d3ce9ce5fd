"""The look that all figures share: how wide they are, the settings under which they are drawn, one
colour and marker per series.

Every colour of the house keeps a contrast of 3 : 1 with its page.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.errors import SettingsError
from sweeper.errors import did_you_mean

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = (0.0, (3.5, 2.5))
"""Whatever lies outside the data."""
HOUSE_FILE = Path(__file__).with_name("house.mplstyle")
FONT = "DejaVu Sans"
"""Always at hand, as matplotlib brings it along; it writes what the fonts of a style lack."""
MAX_LABEL = 22
"""Characters of a series label that a figure has room for."""
TALLEST_INCHES = 9.0
"""Of a figure that is to stand on a page, its key included."""
HOUSE_INCHES, HOUSE_POINTS = 9.0, 9.0
"""The width that the house style is made for, and its type."""
SMALLEST_POINTS = 7.2
"""Of ordinary type, however narrow the figure; the smallest texts are 0.84 of that, 6 points."""
WIDTHS = {"column": 3.25, "page": 6.75}
"""Of a column and of a page of two columns, in inches, as most journals have them."""
NARROWEST_INCHES, WIDEST_INCHES = 3.0, 30.0
LEFT_OUT = (
    "backend", "date", "docstring", "figure.autolayout", "figure.constrained_layout",
    "figure.figsize", "figure.hooks", "figure.max_open_warning", "figure.raise_window",
    "figure.subplot", "interactive", "keymap", "macosx", "savefig.bbox", "savefig.directory",
    "savefig.format", "savefig.pad_inches", "svg.hashsalt", "svg.id", "text.usetex", "timezone",
    "tk", "toolbar", "webagg",
)  # fmt: skip
"""Settings of a style that are not taken, by their first words: sizes, which the width decides;
LaTeX, which would read labels as commands; windows."""


@dataclass(frozen=True)
class SeriesStyle:
    """How one series is drawn everywhere."""

    color: str
    marker: str
    label: str
    """Its label as far as the font and the room go."""


@dataclass(frozen=True)
class Look:
    """How wide figures are, and what lies over the house style."""

    width_inches: float = HOUSE_INCHES
    own: Mapping[str, Any] = field(default_factory=dict)
    """Settings of matplotlib that win over those of the house."""
    left_out: tuple[str, ...] = ()
    """Settings of the user's file that are not taken."""
    labels: tuple[str, ...] = ()
    """Series that colours and markers are dealt to, drawn or not; empty: those that are drawn."""

    @classmethod
    def of(cls, width: float | str, style: Path | None = None) -> "Look":
        """A width in inches or by name, and a .mplstyle file; raises `SettingsError`."""
        own, left_out = ({}, ()) if style is None else read_style(style)
        look = cls(_inches(width), own, left_out)
        with look.settings():
            for name in own.get("font.family", ()):
                try:
                    findfont(FontProperties(family=[name]), fallback_to_default=False)
                except ValueError:
                    raise SettingsError(
                        f"{style}: font.family: no font {name!r} on this machine; install it, or "
                        "name one that is there"
                    ) from None
        return look

    @property
    def type_points(self) -> float:
        """Ordinary type: smaller in narrow figures, in none larger."""
        return min(HOUSE_POINTS, max(SMALLEST_POINTS, self.width_inches))

    @property
    def is_narrow(self) -> bool:
        """Whether there is room for one panel beside its labels, as in a column of a journal."""
        return self.columns(2) == 1

    def settings(self) -> AbstractContextManager[None]:
        """The settings under which figures are made and rendered, whatever the user's own are."""
        house, _ = read_style(HOUSE_FILE)
        rc = {**house, "font.size": self.type_points, **self.own}
        rc["font.family"] = [*rc["font.family"], FONT]
        return matplotlib.style.context(["default", rc])

    def styles(self, drawn: Iterable[str]) -> "dict[str, SeriesStyle]":
        """Colour and marker of every series."""
        return series_styles(self.labels or drawn)

    def columns(self, n: int) -> int:
        """How many of n panels stand side by side: three of 3 inches in 9-point type."""
        most = int(self.width_inches / (2.75 * self.type_points / HOUSE_POINTS))
        return 2 if n == 4 and most > 1 else max(1, min(n, most, 3))

    def figure(self, height_inches: float) -> Figure:
        """A blank figure that lays itself out."""
        pad = 0.04 if self.is_narrow else 0.08
        layout = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad)
        return Figure(figsize=(self.width_inches, height_inches), layout=layout)

    def panels(self, n: int, height_inches: float, n_columns: int) -> tuple[Figure, list[Axes]]:
        """A figure of n small multiples; lower ones where they would not fit on a page."""
        n_rows = -(-n // n_columns)
        figure = self.figure(0.5 + self.panel_inches(height_inches, n_rows) * n_rows)
        grid = list(figure.subplots(n_rows, n_columns, squeeze=False).ravel())
        for axes in grid[n:]:
            axes.remove()
        return figure, grid[:n]

    def panel_inches(self, height_inches: float, n_rows: int = 1) -> float:
        """The height of a panel that is so high in the house's width."""
        if self.width_inches >= HOUSE_INCHES:
            return height_inches
        shrunk = height_inches * self.type_points / HOUSE_POINTS
        if self.is_narrow:
            shrunk = min(shrunk, 0.64 * self.width_inches)
        return min(shrunk, (TALLEST_INCHES - 1.5) / n_rows)


HOUSE = Look()


def _inches(width: float | str) -> float:
    try:
        inches = WIDTHS[width] if isinstance(width, str) and width in WIDTHS else float(width)
    except ValueError:
        inches = 0.0
    if not NARROWEST_INCHES <= inches <= WIDEST_INCHES:
        names = ", ".join(f"{name} ({value:g} in)" for name, value in WIDTHS.items())
        raise SettingsError(
            f"--width {width}: expected {names}, or inches from {NARROWEST_INCHES:g} to "
            f"{WIDEST_INCHES:g}{did_you_mean(str(width), WIDTHS)}"
        )
    return inches


def read_style(file: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings of a .mplstyle file, and the names of those that are left out.

    Raises `SettingsError` for what matplotlib would pass over: unknown names, lines without a
    colon, values of another kind.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        message = f"{file}: cannot be read: {why}; expected a file of lines like `font.size: 8`"
        raise SettingsError(message) from error
    settings: dict[str, Any] = {}
    for number, line in enumerate(lines, start=1):
        # A # outside double quotes starts a comment.
        text = re.sub(r'^((?:[^#"]|"[^"]*")*)#.*', r"\1", line).strip()
        if text:
            name, value = _setting(text, f"{file}:{number}")
            settings[name] = value
    groups = tuple(f"{name}." for name in LEFT_OUT)
    left_out = tuple(name for name in settings if f"{name}.".startswith(groups))
    return {name: settings[name] for name in settings if name not in left_out}, left_out


def _setting(text: str, where: str) -> tuple[str, Any]:
    """Name and checked value of one line."""
    name, colon, value = (part.strip() for part in text.partition(":"))
    if not colon:
        raise SettingsError(f"{where}: expected `name: value`, found {text!r}")
    try:
        # One setting by itself is checked as all of them are.
        checked = mpl.RcParams({name: value.removeprefix('"').removesuffix('"')})
        return name, next(iter(checked.values()))
    except KeyError:
        hint = did_you_mean(name, mpl.rcParams)
        message = f"{where}: matplotlib has no setting {name!r}{hint}"
        raise SettingsError(message) from None
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None


def sized(points: float) -> float:
    """A length beside 9-point type, in points of the type in force: of texts, marks and lines."""
    return points * float(mpl.rcParams["font.size"]) / HOUSE_POINTS


def ink() -> str:
    """The colour of text and of what belongs to no series."""
    return str(mpl.rcParams["text.color"])


def muted() -> str:
    """The colour of what is left out or stands back."""
    return str(mpl.rcParams["xtick.color"])


def paper() -> str:
    """The background."""
    return str(mpl.rcParams["axes.facecolor"])


def series_styles(labels: Iterable[str]) -> dict[str, SeriesStyle]:
    """Colour and marker of every series by its rank among the sorted labels."""
    palette = series_colors()
    styles = {}
    for rank, label in enumerate(sorted(labels)):
        lap = rank // len(palette)
        marker = MARKERS[(rank + lap) % len(MARKERS)]
        styles[label] = SeriesStyle(palette[rank % len(palette)], marker, drawn_label(label))
    return styles


def series_colors() -> Sequence[str]:
    """Colours of series in the order in which they are given away."""
    cycle = mpl.rcParams["axes.prop_cycle"].by_key()
    return [str(color) for color in cycle.get("color", [ink()])]


def drawn_label(label: str) -> str:
    """A label cut to the room in its middle, with `?` for what the font lacks."""
    families = mpl.rcParams["font.family"]
    fonts = [get_font(findfont(FontProperties(family=[name]))) for name in families]
    glyphs = {glyph for font in fonts for glyph in font.get_charmap()}
    shown = "".join(char if ord(char) in glyphs else "?" for char in " ".join(label.split()))
    half = MAX_LABEL // 2
    return shown if len(shown) <= MAX_LABEL else f"{shown[:half]}…{shown[1 - half :]}"


def name_once(look: Look, panels: Sequence[Axes]) -> None:
    """In narrow figures, where panels stand below each other, name their horizontal axis once."""
    for axes in panels[:-1] if look.is_narrow else ():
        axes.set_xlabel("")


def add_key(figure: Figure, entries: Sequence[Artist]) -> None:
    """The key below all panels, in as few rows as the width allows; the figure grows by it."""
    inches, points = figure.get_figwidth(), float(mpl.rcParams["font.size"])
    for entry in entries:
        # 0.56 of the type is a mean width of a character, half an inch the sample and its margins.
        room = int((inches - 0.5) * 72.0 / (0.56 * points))
        entry.set_label(fill(str(entry.get_label()), room))
    for n_rows in range(1, len(entries) + 1):
        n_columns = -(-len(entries) // n_rows)
        key = figure.legend(handles=list(entries), loc="outside lower center", ncols=n_columns)
        box = key.get_window_extent()
        if box.width <= 0.98 * figure.dpi * inches or n_columns == 1:
            figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)
            return
        key.remove()
