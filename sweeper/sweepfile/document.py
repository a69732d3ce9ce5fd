"""A sweep file: read as strict YAML, overridden from the command line, and explained.

Whatever is found wrong later is reported through `SweepDocument.describe`, which turns paths into
`file:line:column` with the line. What the keys mean is left to `schema.py`.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweeper.errors import ConfigError
from sweeper.sweepfile.problems import KeyPath, Problem
from sweeper.sweepfile.strict_yaml.compose import compose
from sweeper.sweepfile.strict_yaml.dump import dump
from sweeper.sweepfile.strict_yaml.text_file import read_text
from sweeper.sweepfile.strict_yaml.values import Position, Value

MAX_PROBLEMS_SHOWN = 20


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
                if compose("", text).plain() == self.value:
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


def read_document(
    path: Path, kind: str = "sweep file", example: str = "name: my-sweep"
) -> SweepDocument:
    """The sweep file, or other `kind`, at `path`; ConfigError where it cannot be read as one."""
    return document_of(read_text(path, kind), str(path), example)


def document_of(text: str, source: str, example: str = "name: my-sweep") -> SweepDocument:
    """The document with this text; `source` is its name in messages."""
    root = compose(source, text)
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
        value = compose("--set", override, first_column=len(key) + 1)
        root = _with_value(root, parts, value, at)
    return replace(document, root=root, overrides=document.overrides + tuple(overrides))


def revised(document: SweepDocument, key: str, value: Any, remark: str) -> SweepDocument:
    """The document with the value at a dotted key replaced, and one sentence on why."""
    composed = compose(key, dump(value))
    root = _with_value(document.root, key.split("."), composed, Position(key, remark, 0, 0))
    return replace(document, root=root, remarks=(*document.remarks, remark))


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
