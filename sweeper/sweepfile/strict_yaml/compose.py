"""Text of strict YAML as a tree of values: no tags, merge keys or duplicate keys, one document."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import yaml

from sweeper.errors import ConfigError
from sweeper.sweepfile.strict_yaml.scalars import scalar
from sweeper.sweepfile.strict_yaml.values import Position, Value

MAX_DEPTH = 20
MAX_NODES = 200_000  # keys and values, aliases expanded; a list of 10,000 trials has some 50,000

# libyaml reads a file some ten times faster; both give the same events.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def compose(source: str, text: str, first_column: int = 0) -> Value:
    """The one document of a text from its `first_column` on, or a null value where it holds none;
    `source` is its name in messages. Raises ConfigError."""
    return _Composer(source, text, first_column).compose()


class _Composer:
    """Reads a strict subset of YAML: one document without tags, merge keys or duplicate keys."""

    def __init__(self, source: str, text: str, first_column: int = 0) -> None:
        self._source, self._text, self._first_column = source, text, first_column
        # Events, as `yaml.compose` would overflow the stack on a file of brackets, forget where an
        # alias stands, and take twice the time for a list of 10,000 trials.
        self._events: Iterator[Any] = yaml.parse(text[first_column:], Loader=_LOADER)
        self._anchors: dict[str, tuple[Value, int] | None] = {}
        """Values and their numbers of nodes; None until a value is complete."""
        self._n_nodes = 0

    def compose(self) -> Value:
        """The one document of the text, or a null value where the text holds none."""
        start = self._position(None)
        root = Value(None, start, start)
        try:
            next(self._events)  # start of the stream
            event = next(self._events)
            if isinstance(event, yaml.DocumentStartEvent):
                root = self._value(next(self._events))
                next(self._events)  # end of the document
                event = next(self._events)
        except yaml.YAMLError as error:
            raise self._syntax_error(error) from error
        if not isinstance(event, yaml.StreamEndEvent):
            at = self._position(event.start_mark)
            raise at.error("found a second document (---) — expected one per file")
        return root

    def _value(self, event: Any, depth: int = 0, key_at: Position | None = None) -> Value:
        at = self._position(event.start_mark)
        if depth > MAX_DEPTH:
            raise at.error(f"nested deeper than {MAX_DEPTH} levels")
        n_nodes_before = self._n_nodes
        self._n_nodes += 1
        if isinstance(event, yaml.AliasEvent):
            value = self._alias(str(event.anchor), at)
            return replace(value, key_at=key_at or value.at)
        if event.tag is not None:
            raise at.error(f"found the tag {event.tag} — expected a value without a tag")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            content = scalar(event.value) if event.implicit[0] else event.value
            value = Value(content, at, key_at or at, event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
                items.append(self._value(item, depth + 1))
            value = Value((*items,), at, key_at or at)
        else:
            value = Value(self._entries(depth + 1), at, key_at or at)
        if self._n_nodes > MAX_NODES:
            raise at.error(f"found more than {MAX_NODES:,} keys and values")
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._n_nodes - n_nodes_before
        return value

    def _entries(self, depth: int) -> "dict[str, Value]":
        entries: dict[str, Value] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                at = self._position(event.start_mark)
                raise at.error("found a key with parts — expected key: value")
            key = self._value(event, depth)
            if key.text in entries:
                first = entries[key.text].key_at
                raise key.at.error(f"duplicate key {key.text!r}; it was first given in {first}")
            if key.text == "<<" and event.implicit[0]:
                raise key.at.error("merge keys (<<) are not read — write the keys out")
            entries[key.text] = self._value(next(self._events), depth, key.at)
        return entries

    def _alias(self, name: str, at: Position) -> Value:
        if name not in self._anchors:
            raise at.error(f"found *{name} — no anchor &{name} above")
        anchored = self._anchors[name]
        if anchored is None:
            raise at.error(f"*{name} lies inside the value it stands for")
        value, n_nodes = anchored
        self._n_nodes += n_nodes
        return value

    def _position(self, mark: Any) -> Position:
        """Where a mark of PyYAML is; where the YAML begins for None."""
        line, column = (mark.line, mark.column) if mark else (0, 0)
        column += self._first_column if line == 0 else 0
        return Position(self._source, self._text, line, column)

    def _syntax_error(self, error: yaml.YAMLError) -> ConfigError:
        start = getattr(error, "context_mark", None)
        at = self._position(getattr(error, "problem_mark", None) or start)
        parts = [getattr(error, "context", None), getattr(error, "problem", None)]
        message = ", ".join(part for part in parts if part) or str(error)
        if start and self._position(start) != at:
            message += f"; it began in {self._position(start)}"
        at = replace(at, line=min(at.line, self._text.count("\n")))  # PyYAML may count one more
        if "\t" in at.line_text[: at.column + 1]:
            message += "; indent with spaces, not tabs"
        return at.error(f"not valid YAML: {message}")
