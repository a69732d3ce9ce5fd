"""Tables of text for the terminal, as quick for ten thousand rows as for ten.

`rich.table.Table` measures, wraps and crops every cell, half a millisecond per row. Here every
column is as wide as its widest cell, and a line that is too long is the terminal's to wrap.
"""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment

GAP = "  "
"""Between two columns."""


class TextTable:
    """Rows of text under a bold head. Print it with `soft_wrap`."""

    def __init__(self, *columns: str, numbers: Sequence[str] = ()) -> None:
        """The columns named in `numbers` are aligned to the right."""
        self._are_numbers = [name in numbers for name in columns]
        self._rows: list[tuple[str | None, Sequence[str]]] = [("bold", columns)]

    def add(self, *cells: str, style: str | None = None) -> None:
        """Add a row: one cell per column, without markup or control characters."""
        self._rows.append((style, cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines, each padded and styled as a whole."""
        columns = zip(*(cells for _, cells in self._rows), strict=True)
        widths = [max(map(cell_len, cells)) for cells in columns]
        for style, cells in self._rows:
            line = GAP.join(map(_padded, cells, widths, self._are_numbers))
            yield Segment(line.rstrip(), console.get_style(style) if style else None)
            yield Segment.line()


def _padded(cell: str, width: int, is_number: bool) -> str:
    padding = " " * (width - cell_len(cell))
    return padding + cell if is_number else cell + padding
