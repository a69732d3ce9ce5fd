"""Everything a user can get wrong, as one tree of exceptions.

    SweeperError                 shown as one message, never as a traceback
    ├── ConfigError              a sweep file, a --set override or a command-line argument
    │   └── MissingPackage       an optional package that is not installed here
    ├── DataError                a corpus that is missing, too small or unreadable
    │   └── UnavailableData      a corpus that is not here, but may be elsewhere
    └── StoreError               a results folder that is missing, foreign or damaged

A message says where, what was found, what was expected and what to do.
"""

import difflib
from collections.abc import Iterable


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


IN_BRACKETS = " (did you mean {!r}?)"


def did_you_mean(word: str, known: Iterable[str], hint: str = "; did you mean {!r}?") -> str:
    """A question about the known word that a misspelt one resembles most; empty if none does."""
    close = difflib.get_close_matches(word, [*known], n=1, cutoff=0.65)
    return hint.format(close[0]) if close else ""
