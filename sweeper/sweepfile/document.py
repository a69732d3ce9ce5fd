"""A sweep file: read, overridden from the command line, and explained.

Whatever is wrong later (schema, planning) is reported through `Document.describe`, which turns
paths into `file:line:column` with a snippet. What the keys mean is left to `spec.py`.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from sweeper.errors import ConfigError
from sweeper.sweepfile.marked_yaml import (
    Composer,
    Entry,
    Mark,
    Node,
    Source,
    error_at,
    message_at,
    plain,
    written,
)

KeyPath = tuple[str | int, ...]
"""Keys and list positions that lead from the top of a sweep file to one value."""

MAX_BYTES = 2_000_000
MAX_PROBLEMS_SHOWN = 20


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
        shown = [message_at(mark, self._sentence(p)) for mark, p in placed[:MAX_PROBLEMS_SHOWN]]
        if len(placed) > MAX_PROBLEMS_SHOWN:
            shown.append(f"… and {len(placed) - MAX_PROBLEMS_SHOWN} more problems")
        return "\n".join(shown)

    def _mark(self, problem: Problem) -> Mark:
        entry = self._deepest(problem.path)
        is_left_out = entry.value.content is None and not entry.value.text
        return entry.key.mark if problem.at_key or is_left_out else entry.value.mark

    def _sentence(self, problem: Problem) -> str:
        if problem.found or not self._holds(problem.path):  # a default is not in the file
            return str(problem)
        return str(replace(problem, found=written(self._deepest(problem.path).value)))

    def _holds(self, path: KeyPath) -> bool:
        return not path or self._deepest(path).value is not self._deepest(path[:-1]).value

    def _deepest(self, path: KeyPath) -> Entry:
        """The entry at a path, or the last one that exists on the way to it."""
        entry = Entry(self.root, self.root)
        for part in path:
            content = entry.value.content
            if isinstance(content, dict) and part in content:
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
    root = Composer(source).compose(text)
    if not isinstance(root.content, dict):
        found = "an empty file" if root.content is None else written(root)
        raise error_at(
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
            raise error_at(Mark(source, 0, 0), f"found {override!r} — expected dotted.key=value")
        node = Composer(source, first_column=len(key) + 1).compose(value)
        root = _with_value(root, [part.strip() for part in parts], node, Mark(source, 0, 0))
    return replace(document, root=root, overrides=document.overrides + tuple(overrides))


def dotted(path: KeyPath) -> str:
    """A path as people write it: `design.isoflop.budgets.0`."""
    return ".".join(str(part) for part in path) or "the whole file"


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """The known words, and a question about the closest one."""
    names = [*known]
    close = closest(found, names)
    hint = f"; did you mean {close!r}?" if close else ""
    return f"expected {'one of ' if len(names) > 1 else ''}{', '.join(names)}{hint}"


def closest(found: str, known: Sequence[str]) -> str:
    """The known word that a misspelt one resembles most; empty if it resembles none."""
    return next(iter(difflib.get_close_matches(found, known, n=1, cutoff=0.65)), "")


def _with_value(node: Node, parts: list[str], value: Node, key: Mark) -> Node:
    """The tree with the value at `parts` replaced; missing mappings on the way are made."""
    if not parts:
        return value
    part, rest = parts[0], parts[1:]
    content: Any = {} if node.content is None else node.content
    if isinstance(content, dict):
        here = Entry(Node(key, part, part), Node(key, None))
        old = content.get(part, here)
        entry = Entry(old.key if rest else here.key, _with_value(old.value, rest, value, key))
        return replace(node, content={**content, part: entry})
    if isinstance(content, tuple) and part.isdecimal() and int(part) < len(content):
        items = [*content]
        items[int(part)] = _with_value(items[int(part)], rest, value, key)
        return replace(node, content=tuple(items))
    kind = f"a list of {len(content)}" if isinstance(content, tuple) else written(node)
    raise error_at(key, f"cannot set {part!r} in {kind} — expected a key or a list position")


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
