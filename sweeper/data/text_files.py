"""Find and read the text files of a source."""

import gzip
import io
import logging
import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from sysconfig import get_path

from sweeper.errors import DataError, UnavailableData
from sweeper.store.files import walk

logger = logging.getLogger(__name__)

MAX_BYTES = 2 * 2**30  # of one corpus: splitting takes about four times as much memory


@dataclass(frozen=True)
class ListedFile:
    """One file, and what the file system says about it: enough to tell whether it has changed."""

    path: Path
    name: str
    """Path relative to the folder that was listed."""
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True)
class FileRule:
    """Which files of a folder belong to a source."""

    suffix: str = ""
    """End of the file name; empty takes every file."""
    excluded_folders: tuple[str, ...] = ()


PYTHON_SOURCES = FileRule(suffix=".py")
STDLIB_SOURCES = FileRule(suffix=".py", excluded_folders=("site-packages", "dist-packages"))
ANY_TEXT = FileRule()

COMPRESSIONS = (".gz", ".zst")
"""Ends of names of files that are unpacked while they are read."""

# Of the running interpreter.
STDLIB_FOLDER, INSTALLED_FOLDER = Path(get_path("stdlib")), Path(get_path("purelib"))


def list_files(source: str, root: Path, rule: FileRule) -> list[ListedFile]:
    """Every file of `root` (a folder or one file) under `rule`, sorted by name."""
    try:
        files = _listed_under(root, rule)
    except OSError as error:
        raise UnavailableData(
            f"corpus {source!r}: cannot list {_quoted(error.filename or root)}: {error.strerror}; "
            "expected a readable text file or folder: check the path and its permissions"
        ) from error
    if not files:
        expected = f"{rule.suffix} file" if rule.suffix else "file"
        raise DataError(
            f"corpus {source!r}: no {expected} at {_quoted(root)}; "
            "expected at least one: name a text file or a folder that holds some"
        )
    for file in files:
        if file.path.name.lower().endswith((".arrow", ".zip", ".xz", ".bz2", ".tar.gz", ".tgz")):
            raise DataError(
                f"corpus {source!r}: {file.name!r} is a {file.path.suffix} file, which is not "
                "read; expected text, JSON lines or CSV, as they are or as .gz or .zst, or "
                ".parquet: unpack or convert it"
            )
    n_bytes = sum(file.size_bytes for file in files)
    if n_bytes > MAX_BYTES:
        raise DataError(
            f"corpus {source!r}: {n_bytes / 2**30:.1f} GiB of files; expected at most "
            f"{MAX_BYTES / 2**30:.0f} GiB, as they are split in memory: name a part of them"
        )
    return files


def plain_name(file: ListedFile) -> str:
    """The name in lower case, without what says that the file is packed."""
    name = file.path.name.lower()
    return name.removesuffix(file.path.suffix.lower()) if name.endswith(COMPRESSIONS) else name


def opened(path: Path) -> io.BufferedIOBase:
    """The contents of a file, unpacked where its name ends in .gz or .zst."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.GzipFile(path)
    if suffix == ".zst":
        # Local, as few corpora need it and it takes half a second.
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def read_texts(source: str, files: list[ListedFile]) -> list[bytes]:
    """The contents of those files that are text: UTF-8 without a zero byte."""
    texts: list[bytes] = []
    not_text: list[str] = []
    n_bytes = 0
    for file in files:
        try:
            with opened(file.path) as stream:
                content = stream.read(MAX_BYTES - n_bytes + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"corpus {source!r}: cannot read {_quoted(file.path)}: "
                f"{getattr(error, 'strerror', None) or error}; expected a readable text file: "
                "mend its permissions, fetch it again or move it out of the folder"
            ) from error
        if (n_bytes := n_bytes + len(content)) > MAX_BYTES:
            raise DataError(
                f"corpus {source!r}: more than {MAX_BYTES / 2**30:.0f} GiB of text once unpacked; "
                "expected less, as it is split in memory: name a part of the files"
            )
        if not content.strip():
            continue
        if is_text(content):
            texts.append(content)
        else:
            not_text.append(file.name)
    if not texts:
        where = _quoted(files[0].path) if len(files) == 1 else f"{len(files)} files"
        raise DataError(
            f"corpus {source!r}: no text in {where} ({len(not_text)} not UTF-8, "
            f"{len(files) - len(not_text)} empty); expected UTF-8 text: convert it "
            "(`iconv -c -f UTF-8 -t UTF-8` drops the bytes that are not), or name another path"
        )
    if not_text:
        # A few are normal among Python's own tests; many mean that data is being lost.
        many = len(not_text) > 0.01 * len(files)
        logger.log(
            logging.WARNING if many else logging.INFO,
            "corpus %s: left out %d of %d files that are not UTF-8 text, the first is %r",
            source,
            len(not_text),
            len(files),
            not_text[0],
        )
    return texts


def _listed_under(root: Path, rule: FileRule) -> list[ListedFile]:
    status = root.stat()
    if stat.S_ISREG(status.st_mode):
        return [_listed(root, root.name, status)]
    if not stat.S_ISDIR(status.st_mode):
        return []

    def enters(name: str) -> bool:
        return not name.startswith(".") and name not in rule.excluded_folders

    def broken(error: OSError) -> None:
        logger.warning("left out the broken link %r", error.filename)

    found = (
        _listed(path, path.relative_to(root).as_posix(), status)
        for path, status in walk(root, enters, broken)
        if path.name.endswith(rule.suffix)
    )
    return sorted(found, key=lambda file: file.name)


def _listed(path: Path, name: str, status: os.stat_result) -> ListedFile:
    return ListedFile(path, name, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def is_text(content: bytes) -> bool:
    """Whether bytes are UTF-8 without a zero byte."""
    if b"\0" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _quoted(path: Path | str) -> str:
    return repr(str(path))  # a name may hold line breaks or bytes that cannot be printed
