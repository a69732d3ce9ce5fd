"""What is wrong with a sweep, by the path of the value: found and expected."""

from collections.abc import Iterable
from dataclasses import dataclass

from sweeper.errors import ConfigError, did_you_mean

KeyPath = tuple[str | int, ...]
"""Keys and list positions that lead from the top of a sweep file to one value."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with the value at a path: what was found there and what was expected."""

    path: KeyPath
    expected: str
    found: str = ""
    """Empty: the value itself, as written."""
    at_key: bool = False
    """The key is wrong, not its value."""

    def __str__(self) -> str:
        found = f"found {self.found} — " if self.found else ""
        return f"{'.'.join(map(str, self.path)) or 'the whole file'}: {found}{self.expected}"


class InvalidSweep(ConfigError):
    """A sweep that cannot be planned, by paths; `SweepDocument.describe` adds where they are."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def expected_one_of(found: str, known: Iterable[str]) -> str:
    """The known words, and a question about the one that `found` resembles most."""
    names = [*known]
    one_of = "one of " if len(names) > 1 else ""
    return f"expected {one_of}{', '.join(names)}{did_you_mean(found, names)}"
