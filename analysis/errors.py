"""What can go wrong while reading, fitting or drawing a table, and how it is told.

A `FitError` stops the command. A `FitWarning` travels with the result: the command goes on, and the
part that it concerns is null, or a number that needs the remark to be read rightly.
"""

from dataclasses import dataclass


class FitError(Exception):
    """Base of all user-facing errors of `analysis`: shown as one message, never as a traceback."""


class SourceError(FitError):
    """A source that is absent, unreadable or of an unknown kind."""


class TableError(FitError):
    """A cell, row or column that cannot be used."""


class SettingsError(FitError):
    """An option, convention or family label that does not exist."""


class NothingToDraw(FitError):
    """A figure for which the fit has no part; the message says which part and why."""


@dataclass(frozen=True)
class FitWarning:
    """A named remark on a result; the JSON of every command lists them under `warnings`."""

    code: str
    """Stable snake_case name, for scripts."""
    message: str
    """One sentence: what was found and what follows from it."""
    family: str | None = None
    budget_flops: float | None = None

    def to_json(self) -> dict[str, str | float]:
        """The remark as a JSON object, without the fields that do not apply."""
        return {key: value for key, value in vars(self).items() if value is not None}
