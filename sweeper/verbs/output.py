"""How verbs show what they found: lines and tables for people, JSON for scripts."""

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # at run time where it is used: most verbs print plain lines
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult


def plain(text: str) -> str:
    """One line of text without control characters."""
    # Labels, paths and messages may hold whatever somebody typed, or planted in a results folder:
    # it could recolour, move or rewrite a terminal.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def plain_lines(text: str) -> str:
    """Several lines of text without control characters."""
    return "\n".join(plain(line) for line in text.replace("\t", "    ").split("\n"))


def say(text: str, *, err: bool = False) -> None:
    """Print lines of plain text."""
    click.echo(plain_lines(text), err=err)


@contextlib.contextmanager
def progress_on_stderr(is_so: bool) -> Iterator[None]:
    """Leave standard output to an answer for scripts."""
    with contextlib.redirect_stdout(sys.stderr) if is_so else contextlib.nullcontext():
        yield


def show(parts: "Iterable[RenderableType]") -> None:
    """Print tables and lines."""
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:  # a file or a pipe, of which rich would take 80 columns
        console.width = 140
    for part in parts:
        console.print(part)


def print_json(value: Any) -> None:
    """Print an answer for scripts; a number that is not finite is an error."""
    click.echo(json.dumps(value, indent=1, allow_nan=False))


class TextTable:
    """Rows of text under a bold head, to be printed with `soft_wrap`."""

    # rich.table.Table measures, wraps and crops every cell: half a millisecond per row, 5 s for a
    # plan of ten thousand trials.

    def __init__(self, *columns: str, numbers: Sequence[str] = ()) -> None:
        """The columns named in `numbers` are aligned to the right."""
        self._are_numbers = [name in numbers for name in columns]
        self._rows: list[tuple[str | None, Sequence[str]]] = [("bold", columns)]

    def add(self, *cells: str, style: str | None = None) -> None:
        """Add a row: one cell per column, without markup or control characters."""
        self._rows.append((style, cells))

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.cells import cell_len
        from rich.segment import Segment

        columns = zip(*(cells for _, cells in self._rows), strict=True)
        widths = [max(map(cell_len, cells)) for cells in columns]
        for style, cells in self._rows:
            padded = []
            for cell, width, is_number in zip(cells, widths, self._are_numbers, strict=True):
                padding = " " * (width - cell_len(cell))
                padded.append(padding + cell if is_number else cell + padding)
            yield Segment("  ".join(padded).rstrip(), console.get_style(style) if style else None)
            yield Segment.line()
