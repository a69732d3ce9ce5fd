"""A file of YAML read as text, or refused."""

import re
from pathlib import Path

from sweeper.errors import ConfigError
from sweeper.sweepfile.problems import expected_one_of
from sweeper.sweepfile.strict_yaml.values import Position

MAX_BYTES = 2_000_000


def read_text(path: Path, kind: str) -> str:
    """The text of a file, lines ended by line feeds; ConfigError, which calls it a `kind`, where
    it is no file, too large, or no text in UTF-8."""
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
