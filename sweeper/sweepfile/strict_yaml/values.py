"""Values of a file and where they were written."""

from dataclasses import dataclass
from typing import Any

from sweeper.errors import ConfigError

MAX_SNIPPET_WIDTH = 96


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a sweep file or an override; line and column are counted from 0."""

    source: str
    """Name of the file, or `--set`."""
    text: str
    """All of the file or the override."""
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line + 1}:{self.column + 1}"

    @property
    def line_text(self) -> str:
        """The line at this position; empty behind the last one."""
        return "".join(self.text.split("\n")[self.line : self.line + 1])

    def message(self, message: str) -> str:
        """A message with its position, and the line with a caret under the column."""
        line = self.line_text
        start = max(0, self.column - MAX_SNIPPET_WIDTH // 2)
        start = start if len(line) > MAX_SNIPPET_WIDTH else 0
        snippet = line[start : start + MAX_SNIPPET_WIDTH].replace("\t", " ")
        number = f"{self.line + 1:>5}"
        caret = " " * (self.column - start) + "^"
        return f"{self}  {message}\n{number} | {snippet}\n{' ' * len(number)} | {caret}"

    def error(self, message: str) -> ConfigError:
        """An error at this position."""
        return ConfigError(self.message(message))


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a sweep file, and where it was written."""

    content: "bool | int | float | str | tuple[Value, ...] | dict[str, Value] | None"
    at: Position
    key_at: Position
    """Position of its key; of the value itself where it has none."""
    text: str = ""
    """A single value as written."""

    def plain(self) -> Any:
        """The value as plain dictionaries, lists and scalars."""
        if isinstance(self.content, dict):
            return {key: value.plain() for key, value in self.content.items()}
        if isinstance(self.content, tuple):
            return [item.plain() for item in self.content]
        return self.content

    def as_written(self) -> str:
        """The value as it was written, shortened, or its kind where it has parts."""
        if isinstance(self.content, dict):
            return "a mapping" if self.content else "an empty mapping"
        if isinstance(self.content, tuple):
            return "a list" if self.content else "an empty list"
        if self.content is None:
            return "nothing"
        text = self.text if len(self.text) <= 60 else f"{self.text[:57]}…"
        return repr(text) if text == "" or text != text.strip() or "\n" in text else text
