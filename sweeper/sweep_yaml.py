"""Sweep files as trees that remember where every key and value was written.

Reads a strict subset of YAML: one document of mappings, lists and plain values, no tags, no merge
keys, no duplicate keys, bounded in size and depth. Whatever is wrong later (schema, planning) is
reported through `Document.describe`, which turns paths into `file:line:column` with a snippet.
What the keys mean is left to `spec.py`.
"""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from sweeper.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""Keys and list positions that lead from the top of a sweep file to one value."""

MAX_BYTES = 2_000_000
MAX_DEPTH = 20
MAX_NODES = 200_000
"""Keys and values of a file, aliases expanded: a list of 10,000 trials has some 50,000."""

MAX_PROBLEMS_SHOWN = 20
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
    content: "bool | int | float | str | tuple[Node, ...] | Mapping[str, Entry] | None"
    text: str = ""
    """A plain value as written."""
    size: int = 1
    """Number of keys and values in and below this one."""


@dataclass(frozen=True)
class Entry:
    """One key of a mapping and its value."""

    key: Node
    value: Node


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
        return f"{dotted(self.path)}: {found}{self.expected}"


class InvalidSweep(ConfigError):
    """A sweep that cannot be planned, by paths; `Document.describe` adds where they are."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True)
class Document:
    """A sweep file with its overrides applied."""

    root: Node
    text: str
    """The file as read."""
    overrides: tuple[str, ...] = ()

    @property
    def value(self) -> Any:
        """The document as plain dictionaries, lists and scalars."""
        return plain(self.root)

    def as_submitted(self) -> str:
        """The YAML text that describes this sweep, overrides included."""
        if not self.overrides:
            return self.text
        comments = "".join(f"# --set {line}\n" for o in self.overrides for line in o.splitlines())
        return comments + yaml.safe_dump(self.value, sort_keys=False, allow_unicode=True)

    def describe(self, problems: Iterable[Problem]) -> str:
        """One message: each problem with its place, in the order of the file."""
        placed = [(self._mark(problem), problem) for problem in problems]
        placed.sort(key=lambda pair: (pair[0].source.name, pair[0].line, pair[0].column))
        shown = [_at(mark, self._sentence(p)) for mark, p in placed[:MAX_PROBLEMS_SHOWN]]
        if len(placed) > MAX_PROBLEMS_SHOWN:
            shown.append(f"… and {len(placed) - MAX_PROBLEMS_SHOWN} more problems")
        return "\n".join(shown)

    def _mark(self, problem: Problem) -> Mark:
        entry = self._deepest(problem.path)
        return entry.key.mark if problem.at_key else entry.value.mark

    def _sentence(self, problem: Problem) -> str:
        if problem.found or not self._holds(problem.path):  # a default is not in the file
            return str(problem)
        return str(replace(problem, found=written(self._deepest(problem.path).value)))

    def _holds(self, path: KeyPath) -> bool:
        return not path or self._deepest(path) is not self._deepest(path[:-1])

    def _deepest(self, path: KeyPath) -> Entry:
        """The entry at a path, or the last one that exists on the way to it."""
        entry = Entry(self.root, self.root)
        for part in path:
            content = entry.value.content
            if isinstance(content, Mapping) and part in content:
                entry = content[str(part)]
            elif isinstance(content, tuple) and isinstance(part, int) and part < len(content):
                entry = Entry(content[part], content[part])
            else:
                break
        return entry


def read_document(path: Path) -> Document:
    """The sweep file at `path`; raises ConfigError where it cannot be read as one."""
    text = _read_text(path)
    source = Source(str(path), tuple(text.split("\n")))
    root = _Composer(source).compose(text)
    if not isinstance(root.content, Mapping):
        found = "an empty file" if root.content is None else written(root)
        raise _error(
            root.mark, f"found {found} — expected a mapping that begins with, say, name: my-sweep"
        )
    return Document(root, text)


def apply_overrides(document: Document, overrides: Sequence[str]) -> Document:
    """The document with each `dotted.key=value` set, in order; values are read as YAML."""
    root = document.root
    for override in overrides:
        source = Source("--set", tuple(override.split("\n")))
        key, equals, value = override.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(part.strip() for part in parts):
            raise _error(Mark(source, 0, 0), f"found {override!r} — expected dotted.key=value")
        node = _Composer(source, first_column=len(key) + 1).compose(value)
        root = _with_value(root, [part.strip() for part in parts], node, Mark(source, 0, 0))
    return replace(document, root=root, overrides=document.overrides + tuple(overrides))


def dotted(path: KeyPath) -> str:
    """A path as people write it: `design.isoflop.budgets.0`."""
    return ".".join(str(part) for part in path) or "the whole file"


def written(node: Node) -> str:
    """A value as it was written, shortened, or its kind where it has parts."""
    if isinstance(node.content, Mapping):
        return "a mapping" if node.content else "an empty mapping"
    if isinstance(node.content, tuple):
        return "a list" if node.content else "an empty list"
    if node.content is None:
        return "nothing"
    text = node.text if len(node.text) <= 60 else f"{node.text[:57]}…"
    return repr(text) if text == "" or text != text.strip() or "\n" in text else text


def plain(node: Node) -> Any:
    """A node as plain dictionaries, lists and scalars."""
    if isinstance(node.content, Mapping):
        return {key: plain(entry.value) for key, entry in node.content.items()}
    if isinstance(node.content, tuple):
        return [plain(item) for item in node.content]
    return node.content


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """The known words, the closest one first asked about."""
    names = [*known]
    close = difflib.get_close_matches(found, names, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"expected {'one of ' if len(names) > 1 else ''}{', '.join(names)}{hint}"


class _Composer:
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
                    event, f"duplicate key {key.text!r}; it was first given in {_where(first)}"
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
        return _error(self._mark(event), message)

    def _syntax_error(self, error: yaml.YAMLError) -> ConfigError:
        place = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        mark = self._mark_at(place.line, place.column) if place else self._mark_at(0, 0)
        lines = self._source.lines
        mark = replace(mark, line=min(mark.line, len(lines) - 1))
        parts = [getattr(error, "context", None), getattr(error, "problem", None)]
        message = ", ".join(part for part in parts if part) or str(error)
        if "\t" in lines[mark.line][: mark.column + 1]:
            message += "; indent with spaces, not tabs"
        return ConfigError(_at(mark, f"not valid YAML: {message}"))


_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_FLOAT = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?")
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
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def _with_value(node: Node, parts: list[str], value: Node, key: Mark) -> Node:
    """The tree with the value at `parts` replaced; missing mappings on the way are made."""
    if not parts:
        return value
    part, rest = parts[0], parts[1:]
    content: Any = {} if node.content is None else node.content
    if isinstance(content, Mapping):
        here = Entry(Node(key, part, part), Node(key, None))
        old = content.get(part, here)
        entry = Entry(old.key if rest else here.key, _with_value(old.value, rest, value, key))
        return replace(node, content={**content, part: entry})
    if isinstance(content, tuple) and part.isdecimal() and int(part) < len(content):
        items = [*content]
        items[int(part)] = _with_value(items[int(part)], rest, value, key)
        return replace(node, content=tuple(items))
    kind = f"a list of {len(content)}" if isinstance(content, tuple) else written(node)
    raise _error(key, f"cannot set {part!r} in {kind} — expected a key or a list position")


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: found a folder — expected a sweep file, such as x.yaml")
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: expected a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        hint = _nearby(path)
        raise ConfigError(f"{path}: no such sweep file{hint}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes — expected a sweep file")
    return _decoded(path, data)


def _decoded(path: Path, data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{path}:1:1  found UTF-16 — expected UTF-8: save the file as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start)
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1)
        raise ConfigError(
            f"{path}:{line + 1}:{column + 1}  found the byte 0x{data[error.start]:02x}, which is "
            "not UTF-8 — expected a text file"
        ) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    bad = re.search(r"[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    if bad:
        line = text.count("\n", 0, bad.start())
        column = bad.start() - (text.rfind("\n", 0, bad.start()) + 1)
        raise ConfigError(
            f"{path}:{line + 1}:{column + 1}  found the character U+{ord(bad[0]):04X}, which no "
            "text has — expected a YAML text file"
        )
    return text


def _nearby(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; its folder {path.parent} does not exist either"
    names = sorted(p.name for p in path.parent.glob("*.y*ml"))
    return f"; {did_you_mean(path.name, names)}" if names else ""


def _where(mark: Mark) -> str:
    return f"{mark.source.name}:{mark.line + 1}:{mark.column + 1}"


def _at(mark: Mark, message: str) -> str:
    """A message with its place, and the line with a caret under the column."""
    line = mark.source.lines[mark.line] if mark.line < len(mark.source.lines) else ""
    start = max(0, mark.column - MAX_SNIPPET_WIDTH // 2) if len(line) > MAX_SNIPPET_WIDTH else 0
    snippet = line[start : start + MAX_SNIPPET_WIDTH].replace("\t", " ")
    number = f"{mark.line + 1:>5}"
    caret = " " * (mark.column - start) + "^"
    return f"{_where(mark)}  {message}\n{number} | {snippet}\n{' ' * len(number)} | {caret}"


def _error(mark: Mark, message: str) -> ConfigError:
    return ConfigError(_at(mark, message))
