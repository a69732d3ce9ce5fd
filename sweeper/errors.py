"""Everything a user can get wrong, as one tree of exceptions, and the exit codes of `sweeper`.

    SweeperError                 shown as one message, never as a traceback
    ├── ConfigError              a sweep file, a --set override or a command-line argument
    │   └── MissingPackage       an optional package that is not installed here
    ├── DataError                a corpus that is missing, too small or unreadable
    │   └── UnavailableData      a corpus that is not here, but may be elsewhere
    ├── StoreError               a results folder that is missing, foreign or damaged
    └── OutputError              a file that cannot be written where the user wants it

A message says where, what was found, what was expected and what to do.
"""

import difflib
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """How a command of `sweeper` ended."""

    DONE = 0
    SOME_FAILED = 1
    BAD_INPUT = 2
    INTERRUPTED = 3
    """Running the same command again resumes."""
    LIMIT_REACHED = 4
    """Of the sweep file, or of the time to wait."""


class SweeperError(Exception):
    """Base of all user-facing errors of `sweeper`."""


class ConfigError(SweeperError):
    """A sweep file, an override or an argument that cannot be planned."""


class MissingPackage(ConfigError):
    """A sweep that needs an optional package which is not installed on this machine."""


class DataError(SweeperError):
    """A corpus that cannot be read or does not suffice."""


class UnavailableData(DataError):
    """A corpus that cannot be reached from this machine; another one may have it."""


class StoreError(SweeperError):
    """A results folder that cannot be used as asked."""


class OutputError(SweeperError):
    """A figure or report that cannot be written where it should go."""


def one_per_kind(warnings: Iterable[tuple[str, str]]) -> list[str]:
    """Lines on (code, message) pairs: the first message of every code, with how many follow it."""
    messages: dict[str, list[str]] = {}
    for code, message in warnings:
        messages.setdefault(code, []).append(message)
    return [
        f"{first} [{code}{f', and {len(others)} more of this kind' if others else ''}]"
        for code, (first, *others) in messages.items()
    ]


IN_BRACKETS = " (did you mean {!r}?)"


def did_you_mean(word: str, known: Iterable[str], hint: str = "; did you mean {!r}?") -> str:
    """A question about the known word that a misspelt one resembles most; empty if none does."""
    close = difflib.get_close_matches(word, [*known], n=1, cutoff=0.65)
    return hint.format(close[0]) if close else ""
