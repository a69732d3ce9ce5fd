"""What the places that runs are exported to have in common."""

import importlib
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Literal, Protocol

from sweeper.errors import MissingPackage
from sweeper.exports.runs import Run, runs_of
from sweeper.exports.source import Tables

Change = Literal["new", "changed", "same"]
"""What an export did to one run, or file."""


class Destination(Protocol):
    """Where an export goes; exporting the same tables again changes nothing there."""

    @property
    def what(self) -> str:
        """What is counted: `runs` or `files`."""

    @property
    def next_step(self) -> str:
        """What to do with it: a command, or a line of Python."""

    def write(self, tables: Tables) -> Counter[Change]:
        """Bring the place up to date with the tables; how many of its parts changed, and how.

        Raises OutputError for a place that cannot be written, or is somebody else's, and
        MissingPackage.
        """


def write_runs(tables: Tables, write: Callable[[Run], Change]) -> Counter[Change]:
    """Write one run after another."""
    return Counter(write(run) for run in runs_of(tables))


def imported(name: str, extra: str) -> ModuleType:
    """A module of a client that not everybody has; raises MissingPackage, which names the extra."""
    package = name.partition(".")[0]
    try:
        # A folder of that name, as wandb makes them, would be imported as a package of nothing.
        if importlib.import_module(package).__file__ is None:
            raise ImportError(f"there is only a folder named {package}")
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPackage(
            f"export --to {extra}: needs the package {package}, which cannot be imported here "
            f"({error}): pip install 'sweeper[{extra}]'"
        ) from error
