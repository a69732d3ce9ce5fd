"""Where results lie: a folder of a file system, or a prefix in an object store.

A local or NFS folder is a plain `Path`. A URL such as `s3://bucket/prefix` is an `ObjectPath`,
which reads like a `Path` and offers only what object stores do: put a whole object, create one that
must not exist yet, get, list and delete.
"""

import contextlib
import errno
import fnmatch
import logging
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from sweeper.errors import MissingPackage, StoreError

logger = logging.getLogger(__name__)

TEMPORARY_PREFIX = ".tmp-"  # Parquet readers skip names that start with a dot

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.:-]+)://(.*)", re.DOTALL)

# How long a request waits for a store that has answered before and does not now.
PATIENCE_S = 300.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0

# Errors that may pass.
_PASSING = (ConnectionError, TimeoutError, socket.gaierror)
_PASSING_NUMBERS = {
    # What s3fs makes of HTTP 500, of 503, and of the 409 of conditional PUTs that meet.
    *(errno.EIO, getattr(errno, "EREMOTEIO", errno.EIO), errno.EBUSY, errno.EAGAIN),
    *(errno.ETIMEDOUT, errno.ECONNREFUSED, errno.ECONNRESET),
    *(errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH),
}

# Buckets that have answered this process. Before, an error is one of names or credentials.
_has_answered: set[str] = set()

Answer = TypeVar("Answer")


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object, or the prefix of several, in an object store that fsspec reaches.

    Nothing is cached: what another process has just written is seen. Methods raise OSError, as
    those of `Path` do, and StoreError where the store cannot be used.
    """

    url: str
    """Without a slash at its end."""

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """What follows the last slash."""
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The last suffix of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "ObjectPath":
        """What precedes the last slash."""
        return ObjectPath(self.url.rpartition("/")[0])

    def exists(self) -> bool:
        """Whether there is such an object, or any below this prefix."""
        return self._kind() is not None

    def is_file(self) -> bool:
        """Whether there is such an object."""
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Whether there are objects below this prefix."""
        return self._kind() == "directory"

    def iterdir(self) -> Iterator["ObjectPath"]:
        """Objects and prefixes directly below; raises FileNotFoundError when there is nothing."""
        key, listed = self._ask(lambda store, key: (key, store.ls(key, detail=False)))
        # Some tools mark a "folder" by an empty object of its name.
        names = {PurePosixPath(each).name for each in listed if each.strip("/") != key.strip("/")}
        return (self / name for name in sorted(names))

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """What is directly below and has a name like `pattern`."""
        with contextlib.suppress(FileNotFoundError):
            yield from (each for each in self.iterdir() if fnmatch.fnmatch(each.name, pattern))

    def rglob(self, pattern: str) -> Iterator["ObjectPath"]:
        """Objects at any depth below whose own name is like `pattern`."""
        key, found = self._ask(lambda store, key: (key, sorted(store.find(key))))
        for each in found:
            below = each.strip("/").removeprefix(key.strip("/")).strip("/")
            if below and fnmatch.fnmatch(PurePosixPath(below).name, pattern):
                yield self / below

    def stamps(self) -> dict[str, str]:
        """What changes when an object does, for each name directly below: size and entity tag."""
        try:
            listed = self._ask(lambda store, key: store.ls(key, detail=True))
        except FileNotFoundError:
            return {}
        names = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created")
        found = {}
        for each in listed:
            if each["type"] == "file":
                # Where a listing says nothing of the contents, two listings always differ.
                tag = next((each[name] for name in names if each.get(name)), uuid.uuid4().hex)
                found[PurePosixPath(each["name"]).name] = f"{each['size']}-{tag}"
        return found

    def read_bytes(self) -> bytes:
        """The whole object."""
        return bytes(self._ask(lambda store, key: store.cat_file(key)))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole object as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes, *, patience_s: float = PATIENCE_S) -> None:
        """Put the object: readers see the old one or all of this one."""
        self._ask(lambda store, key: store.pipe_file(key, data), patience_s=patience_s)

    def create(self, data: bytes) -> bool:
        """Put the object unless there is one; of several that try, at most one gets True."""
        # The store decides, by a conditional PUT. When the reply to a PUT that succeeded is lost,
        # the repeated one is refused: then nobody gets True, and the object is there.
        try:
            self._ask(lambda store, key: store.pipe_file(key, data, mode="create"))
        except FileExistsError:
            return False
        except OSError as error:
            # What s3fs makes of the HTTP 412 of servers that do not repeat the condition.
            if error.errno != errno.EINVAL or not self.is_file():
                raise
            return False
        return True

    def upload(self, file: Path) -> None:
        """Put the contents of a local file, in parts if it is large; seen when all are there."""
        self._ask(lambda store, key: store.put_file(str(file), key))

    def download(self, file: Path) -> None:
        """Write the object to a local file, without holding it in memory."""
        self._ask(lambda store, key: store.get_file(key, str(file)))

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Delete the object. Some stores do not tell whether there was one."""
        try:
            self._ask(lambda store, key: store.rm_file(key))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def _kind(self) -> str | None:
        with contextlib.suppress(FileNotFoundError):
            return str(self._ask(lambda store, key: store.info(key)["type"]))
        return None

    def _ask(
        self, request: Callable[[Any, str], Answer], *, patience_s: float = PATIENCE_S
    ) -> Answer:
        """What the store answers to a request, which is repeated while the store is away."""
        bucket = "/".join(self.url.split("/")[:3])
        give_up_s = time.monotonic() + (patience_s if bucket in _has_answered else 0.0)
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                answer = self._ask_once(request)
            except OSError as error:
                if isinstance(error, FileNotFoundError | FileExistsError):
                    _has_answered.add(bucket)
                may_pass = isinstance(error, _PASSING) or error.errno in _PASSING_NUMBERS
                if not may_pass or time.monotonic() + pause_s > give_up_s:
                    raise
                logger.warning("%s is away, waiting: %s", bucket, error)
            else:
                _has_answered.add(bucket)
                return answer
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _ask_once(self, request: Callable[[Any, str], Answer]) -> Answer:
        store, key = _reached(self.url)
        try:
            return request(store, key)
        except (OSError, StoreError):
            raise
        except Exception as error:
            # Clients have classes of their own for what goes wrong on the way, as botocore has.
            is_own = type(error).__module__ != "builtins"
            message = f"{type(error).__name__}: {error}"
            raise OSError(errno.EIO if is_own else errno.EINVAL, message, self.url) from error


StoragePath = Path | ObjectPath


def place(text: str | StoragePath) -> StoragePath:
    """The folder or prefix that a user names; raises StoreError for a URL with a secret in it."""
    if not isinstance(text, str):
        return text
    url = _URL.fullmatch(text)
    if url is None:
        return Path(text)
    protocol, rest = url[1].lower(), url[2]
    if protocol in ("file", "local"):
        return Path(rest)
    # A password may contain slashes and "@", so only what precedes the first colon is repeated.
    if ":" in rest.partition("/")[0] or "?" in rest:
        raise StoreError(
            f"{protocol}://…: a URL with a port, password or query in it; results are named by "
            f"{protocol}://bucket/prefix alone, and credentials and endpoints come from the "
            "environment, as the store's own tools read them"
        )
    if "::" in text or not rest.strip("/"):
        raise StoreError(f"{text}: expected one store, a bucket and a prefix: s3://bucket/prefix")
    return ObjectPath(f"{protocol}://{rest.rstrip('/')}")


def is_of_one_process(folder: StoragePath) -> bool:
    """Whether nobody but this process sees what lies there."""
    return isinstance(folder, ObjectPath) and folder.url.startswith("memory:")


def read_many(paths: Sequence[StoragePath]) -> list[bytes]:
    """The contents of several files of one store, those of an object store fetched side by side."""
    if not paths or isinstance(paths[0], Path):
        return [path.read_bytes() for path in paths]

    def fetch(store: Any, _key: str) -> list[bytes]:
        keys = [store._strip_protocol(str(path)) for path in paths]
        return list(store.cat_ranges(keys, None, None, on_error="raise"))

    return paths[0]._ask(fetch)


def remove_many(paths: Sequence[ObjectPath]) -> None:
    """Delete several objects of one store, by as few requests as it takes."""
    if paths:
        paths[0]._ask(lambda store, _: store.rm([store._strip_protocol(p.url) for p in paths]))


def require_exclusive_creation(folder: StoragePath) -> None:
    """Raise StoreError unless the store of `folder` shows that it creates exclusively."""
    # Write-once records, attempts and the driver's lease rest on it.
    if isinstance(folder, Path):
        return  # file systems do, by hard links
    from fsspec.spec import AbstractFileSystem  # late, as in `_reached`

    store, _ = _reached(folder.url)
    # The fallback that clients inherit looks first and writes then, which loses races.
    if getattr(store.pipe_file, "__func__", None) is AbstractFileSystem.pipe_file:
        raise StoreError(
            f"{folder}: {type(store).__name__} of fsspec has no conditional PUT, so two processes "
            "could publish the same trial; use s3, gs, abfs or a folder that all machines mount"
        )
    # Some stores, and old clients of those that can, take the condition and ignore it.
    probe = folder / f"{TEMPORARY_PREFIX}probe-{uuid.uuid4().hex[:12]}"
    try:
        is_exclusive = probe.create(b"first") and not probe.create(b"second")
        is_exclusive = is_exclusive and probe.read_bytes() == b"first"
        probe.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(
            f"{folder}: cannot be written ({reason}); check the name of the bucket and the "
            "credentials in the environment"
        ) from error
    if not is_exclusive:
        raise StoreError(
            f"{folder}: this store replaces an object although asked not to (If-None-Match), so "
            "two processes could publish the same trial; update it and its fsspec client, or use "
            "another store"
        )


def _reached(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the key in it."""
    import fsspec.core  # late: it takes 70 ms, and nothing that stays on local disks needs it

    try:
        store, key = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        message = f"{url}: {error}; install it beside sweeper on every machine"
        raise MissingPackage(message) from error
    except ValueError as error:
        raise StoreError(
            f"{url}: {error}; expected a folder, or a URL such as s3://bucket/prefix"
        ) from error
    return store, key
