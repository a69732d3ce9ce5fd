"""YAML as a tree that remembers where every key and value was written.

Reads a strict subset: one document of mappings, lists and plain values, no tags, no merge keys, no
duplicate keys, bounded in depth and size. Errors are ConfigErrors with `file:line:column` and the
line they are about.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import yaml

from sweeper.errors import ConfigError

MAX_DEPTH = 20
MAX_NODES = 200_000
"""Keys and values of a file, aliases expanded: a list of 10,000 trials has some 50,000."""

MAX_SNIPPET_WIDTH = 96

# libyaml reads a file some ten times faster; both give the same events.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Source:
    """A text that values come from: the file, or one `--set` override."""

    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Mark:
    """A place in a source; line and column are counted from 0."""

    source: Source
    line: int
    column: int


@dataclass(frozen=True)
class Node:
    """One value and where it was written."""

    mark: Mark
    content: "bool | int | float | str | tuple[Node, ...] | dict[str, Entry] | None"
    text: str = ""
    """A plain value as written."""
    size: int = 1
    """Number of keys and values in and below this one."""


@dataclass(frozen=True)
class Entry:
    """One key of a mapping and its value."""

    key: Node
    value: Node


def written(node: Node) -> str:
    """A value as it was written, shortened, or its kind where it has parts."""
    if isinstance(node.content, dict):
        return "a mapping" if node.content else "an empty mapping"
    if isinstance(node.content, tuple):
        return "a list" if node.content else "an empty list"
    if node.content is None:
        return "nothing"
    text = node.text if len(node.text) <= 60 else f"{node.text[:57]}…"
    return repr(text) if text == "" or text != text.strip() or "\n" in text else text


def plain(node: Node) -> Any:
    """A node as plain dictionaries, lists and scalars."""
    if isinstance(node.content, dict):
        return {key: plain(entry.value) for key, entry in node.content.items()}
    if isinstance(node.content, tuple):
        return [plain(item) for item in node.content]
    return node.content


class Composer:
    """Builds nodes from YAML events: one class because anchors outlive the node they mark."""

    def __init__(self, source: Source, first_column: int = 0) -> None:
        self._source = source
        self._first_column = first_column
        self._anchors: dict[str, Node | None] = {}
        self._events: Iterator[Any] = iter(())
        self._n_nodes = 0

    def compose(self, text: str) -> Node:
        """The one document of a text, or a null node where the text holds none."""
        self._events = yaml.parse(text, Loader=_Loader)
        try:
            root = Node(Mark(self._source, 0, self._first_column), None)
            next(self._events)  # start of the stream
            event = next(self._events)
            if isinstance(event, yaml.DocumentStartEvent):
                root = self._node(next(self._events), depth=0)
                next(self._events)  # end of the document
                event = next(self._events)
            if not isinstance(event, yaml.StreamEndEvent):
                raise self._error(event, "found a second document (---) — expected one per file")
            return root
        except yaml.YAMLError as error:
            raise self._syntax_error(error) from error

    def _node(self, event: Any, depth: int) -> Node:
        self._n_nodes += 1
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.tag is not None:
            raise self._error(event, f"found the tag {event.tag} — expected a value without a tag")
        if event.anchor is not None:
            self._anchors[event.anchor] = None  # until it is complete
        if isinstance(event, yaml.ScalarEvent):
            content = _scalar(event.value) if event.implicit[0] else event.value
            node = Node(self._mark(event), content, event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(event, depth)
        else:
            node = self._mapping(event, depth)
        if self._n_nodes > MAX_NODES:
            raise self._error(event, f"found more than {MAX_NODES:,} keys and values")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _list(self, start: Any, depth: int) -> Node:
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return Node(self._mark(start), tuple(items), size=1 + sum(item.size for item in items))

    def _mapping(self, start: Any, depth: int) -> Node:
        entries: dict[str, Entry] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._error(event, "found a key with parts — expected key: value")
            key = self._node(event, depth + 1)
            if key.text in entries:
                first = entries[key.text].key.mark
                raise self._error(
                    event, f"duplicate key {key.text!r}; it was first given in {place(first)}"
                )
            if key.text == "<<" and event.implicit[0]:
                raise self._error(event, "merge keys (<<) are not read — write the keys out")
            entries[key.text] = Entry(key, self._node(next(self._events), depth + 1))
        size = 1 + sum(1 + entry.value.size for entry in entries.values())
        return Node(self._mark(start), entries, size=size)

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self._anchors:
            raise self._error(event, f"found *{event.anchor} — no anchor &{event.anchor} above")
        node = self._anchors[event.anchor]
        if node is None:
            raise self._error(event, f"*{event.anchor} lies inside the value it stands for")
        self._n_nodes += node.size
        return node

    def _mark(self, event: Any) -> Mark:
        return self._mark_at(event.start_mark.line, event.start_mark.column)

    def _mark_at(self, line: int, column: int) -> Mark:
        return Mark(self._source, line, column + (self._first_column if line == 0 else 0))

    def _error(self, event: Any, message: str) -> ConfigError:
        return error_at(self._mark(event), message)

    def _syntax_error(self, error: yaml.YAMLError) -> ConfigError:
        start = getattr(error, "context_mark", None)
        where = getattr(error, "problem_mark", None) or start
        mark = self._mark_at(where.line, where.column) if where else self._mark_at(0, 0)
        lines = self._source.lines
        mark = replace(mark, line=min(mark.line, len(lines) - 1))
        parts = [getattr(error, "context", None), getattr(error, "problem", None)]
        message = ", ".join(part for part in parts if part) or str(error)
        if start and where and (start.line, start.column) != (where.line, where.column):
            message += f"; it began in {place(self._mark_at(start.line, start.column))}"
        if "\t" in lines[mark.line][: mark.column + 1]:
            message += "; indent with spaces, not tabs"
        return ConfigError(message_at(mark, f"not valid YAML: {message}"))


_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})", re.ASCII)
_FLOAT = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", "+.inf", ".Inf", ".INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}


def _scalar(text: str) -> bool | int | float | str | None:
    """An unquoted value as YAML 1.2 means it: `3e-4` is a number; `010`, `12:30`, `on` are text."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def place(mark: Mark) -> str:
    """`file:line:column`, counted from 1 as editors do."""
    return f"{mark.source.name}:{mark.line + 1}:{mark.column + 1}"


def message_at(mark: Mark, message: str) -> str:
    """A message with its place, and the line with a caret under the column."""
    line = mark.source.lines[mark.line] if mark.line < len(mark.source.lines) else ""
    start = max(0, mark.column - MAX_SNIPPET_WIDTH // 2) if len(line) > MAX_SNIPPET_WIDTH else 0
    snippet = line[start : start + MAX_SNIPPET_WIDTH].replace("\t", " ")
    number = f"{mark.line + 1:>5}"
    caret = " " * (mark.column - start) + "^"
    return f"{place(mark)}  {message}\n{number} | {snippet}\n{' ' * len(number)} | {caret}"


def error_at(mark: Mark, message: str) -> ConfigError:
    """An error at one place."""
    return ConfigError(message_at(mark, message))
