"""Everything a user can get wrong, as one tree of exceptions.

    SweeperError                 shown as one message, never as a traceback
    ├── ConfigError              a sweep file, a --set override or a command-line argument
    ├── DataError                a corpus that is missing, too small or unreadable
    └── StoreError               a results folder that is missing, foreign or damaged

A message says where, what was found, what was expected and what to do.
"""


class SweeperError(Exception):
    """Base of all user-facing errors of `sweeper`."""


class ConfigError(SweeperError):
    """A sweep file, an override or an argument that cannot be planned."""


class DataError(SweeperError):
    """A corpus that cannot be read or does not suffice."""


class StoreError(SweeperError):
    """A results folder that cannot be used as asked."""
