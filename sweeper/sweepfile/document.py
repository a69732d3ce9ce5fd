"""A sweep file: read as strict YAML, overridden from the command line, and explained.

Whatever is found wrong later is reported through `SweepDocument.describe`, which turns paths into
`file:line:column` with the line. What the keys mean is left to `schema.py`.
"""

import contextlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from sweeper.errors import ConfigError, did_you_mean

KeyPath = tuple[str | int, ...]
"""Keys and list positions that lead from the top of a sweep file to one value."""

MAX_BYTES = 2_000_000
MAX_DEPTH = 20
MAX_NODES = 200_000  # keys and values, aliases expanded; a list of 10,000 trials has some 50,000
MAX_PROBLEMS_SHOWN = 20
MAX_SNIPPET_WIDTH = 96

# libyaml reads a file some ten times faster; both give the same events.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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


@dataclass(frozen=True)
class SweepDocument:
    """A sweep file with its overrides and revisions applied."""

    root: Value
    text: str
    """The file as read."""
    overrides: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    """Why it was revised since: one sentence for each revision."""
    added_key: str = ""
    """A key of `root` that the file does not have: what was read from files that it names."""

    @property
    def source(self) -> str:
        """Name of the file."""
        return self.root.at.source

    @property
    def value(self) -> Any:
        """The document as plain dictionaries, lists and scalars."""
        return self.root.plain()

    def as_submitted(self) -> str:
        """The YAML text that describes this sweep: overrides, and files that it names, included."""
        if not self.overrides and not self.remarks:
            if not self.added_key:
                return self.text
            added = dump({self.added_key: self.value[self.added_key]})
            text = f"{self.text.rstrip()}\n\n{added}"
            with contextlib.suppress(ConfigError):  # a file that is one {…} cannot be appended to
                if _Composer("", text).compose().plain() == self.value:
                    return text
        notes = [f"--set {line}" for override in self.overrides for line in override.splitlines()]
        comments = "".join(f"# {note}\n" for note in (*notes, *self.remarks))
        return comments + dump(self.value)

    def describe(self, problems: Iterable[Problem]) -> str:
        """One message: each problem with its position, in the order of the file."""
        located = []
        for problem in problems:
            value, is_written = self._deepest(problem.path)
            is_left_out = value.content is None and not value.text
            at = value.key_at if problem.at_key or is_left_out else value.at
            if is_written and not problem.found:  # a default is not in the file
                problem = replace(problem, found=value.as_written())
            located.append((at, str(problem)))
        located.sort(key=lambda pair: (pair[0].source, pair[0].line, pair[0].column))
        shown = [at.message(sentence) for at, sentence in located[:MAX_PROBLEMS_SHOWN]]
        if len(located) > MAX_PROBLEMS_SHOWN:
            shown.append(f"… and {len(located) - MAX_PROBLEMS_SHOWN} more problems")
        return "\n".join(shown)

    def _deepest(self, path: KeyPath) -> tuple[Value, bool]:
        """The value at a path, or the last one that exists on the way; and whether it is there."""
        value = self.root
        for part in path:
            content = value.content
            if isinstance(content, dict) and part in content:
                value = content[str(part)]
            elif isinstance(content, tuple) and isinstance(part, int) and part < len(content):
                value = content[part]
            else:
                return value, False
        return value, True


def dump(value: Any) -> str:
    """YAML text of plain dictionaries, lists and scalars, which reads as the same values."""
    return yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,  # innermost lists and mappings in a line
        width=MAX_SNIPPET_WIDTH,
    )


def read_document(
    path: Path, kind: str = "sweep file", example: str = "name: my-sweep"
) -> SweepDocument:
    """The sweep file, or other `kind`, at `path`; ConfigError where it cannot be read as one."""
    return document_of(_read_text(path, kind), str(path), example)


def document_of(text: str, source: str, example: str = "name: my-sweep") -> SweepDocument:
    """The document with this text; `source` is its name in messages."""
    root = _Composer(source, text).compose()
    if not isinstance(root.content, dict):
        found = "an empty file" if root.content is None else root.as_written()
        expected = f"expected a mapping that begins with, say, {example}"
        raise root.at.error(f"found {found} — {expected}")
    return SweepDocument(root, text)


def apply_overrides(document: SweepDocument, overrides: Sequence[str]) -> SweepDocument:
    """The document with each `dotted.key=value` set, in order; values are read as YAML."""
    root = document.root
    for override in overrides:
        at = Position("--set", override, 0, 0)
        key, equals, _ = override.partition("=")
        parts = [part.strip() for part in key.split(".")]
        if not equals or not all(parts):
            raise at.error(f"found {override!r} — expected dotted.key=value")
        value = _Composer("--set", override, first_column=len(key) + 1).compose()
        root = _with_value(root, parts, value, at)
    return replace(document, root=root, overrides=document.overrides + tuple(overrides))


def revised(document: SweepDocument, key: str, value: Any, remark: str) -> SweepDocument:
    """The document with the value at a dotted key replaced, and one sentence on why."""
    composed = _Composer(key, dump(value)).compose()
    root = _with_value(document.root, key.split("."), composed, Position(key, remark, 0, 0))
    return replace(document, root=root, remarks=(*document.remarks, remark))


def expected_one_of(found: str, known: Iterable[str]) -> str:
    """The known words, and a question about the one that `found` resembles most."""
    names = [*known]
    one_of = "one of " if len(names) > 1 else ""
    return f"expected {one_of}{', '.join(names)}{did_you_mean(found, names)}"


def _with_value(tree: Value, parts: list[str], value: Value, at: Position) -> Value:
    """The tree with the value at `parts` replaced; missing mappings on the way are made."""
    if not parts:
        return value
    part, *rest = parts
    content: Any = {} if tree.content is None else tree.content
    if isinstance(content, dict):
        new = _with_value(content.get(part, Value(None, at, at)), rest, value, at)
        new = new if rest else replace(new, key_at=at)
        return replace(tree, content={**content, part: new})
    if isinstance(content, tuple) and part.isdecimal() and int(part) < len(content):
        items = [*content]
        items[int(part)] = _with_value(items[int(part)], rest, value, at)
        return replace(tree, content=tuple(items))
    kind = f"a list of {len(content)}" if isinstance(content, tuple) else tree.as_written()
    raise at.error(f"cannot set {part!r} in {kind} — expected a key or a list position")


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
            content = _scalar(event.value) if event.implicit[0] else event.value
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


class _Dumper(yaml.SafeDumper):
    """Writes what `_scalar` would take for something else in quotes, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 -- the name is PyYAML's
        return True


def _represented(dumper: _Dumper, text: str) -> Any:
    is_plain = _scalar(text) == text  # YAML 1.1 takes 12e3456 for text
    style = None if is_plain else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represented)


def _read_text(path: Path, kind: str) -> str:
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: found a folder — expected a {kind}, such as x.yaml")
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: expected a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        hint = f"; its folder {path.parent} does not exist either"
        if path.parent.is_dir():
            names = sorted(p.name for p in path.parent.glob("*.y*ml"))
            hint = f"; {expected_one_of(path.name, names)}" if names else ""
        raise ConfigError(f"{path}: no such {kind}{hint}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes — expected a {kind}")
    return _decoded(path, data)


def _decoded(path: Path, data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{path}:1:1  found UTF-16 — expected UTF-8: save the file as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        raise ConfigError(
            f"{_position_at(str(path), before, len(before))}  found the byte "
            f"0x{error.object[error.start]:02x}, which is not UTF-8 — expected a text file"
        ) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    bad = re.search(r"[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    if bad:
        raise ConfigError(
            f"{_position_at(str(path), text, bad.start())}  found the character "
            f"U+{ord(bad[0]):04X}, which no text has — expected a YAML text file"
        )
    return text


def _position_at(source: str, text: str, index: int) -> Position:
    line = text.count("\n", 0, index)
    return Position(source, text, line, index - (text.rfind("\n", 0, index) + 1))
