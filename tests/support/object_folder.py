"""An object store for tests that several processes can see: `bucket:///folder/prefix`.

Objects lie as files below a folder of this machine. As in a real store a PUT is seen whole or not
at all, a conditional PUT creates exclusively, there are no folders, and what a store lacks fails:
renaming, copying, appending and making folders. `lax:///…` takes the condition and ignores it, as
old S3 servers do.
"""

import contextlib
import hashlib
import io
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

_UPLOAD = ".upload-"
"""Start of the names of objects that are not yet there."""


class ObjectFolder(AbstractFileSystem):  # type: ignore[misc]
    """The store; a key is the absolute path of a file."""

    protocol = "bucket"
    root_marker = "/"
    is_exclusive = True

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        target = _target(self._strip_protocol(path))
        upload = target.parent / f"{_UPLOAD}{uuid.uuid4().hex}"
        upload.write_bytes(value)
        _publish(upload, target, is_new=mode == "create" and self.is_exclusive)

    def put_file(self, lpath: str, rpath: str, mode: str = "overwrite", **_: Any) -> None:
        target = _target(self._strip_protocol(rpath))
        upload = target.parent / f"{_UPLOAD}{uuid.uuid4().hex}"
        shutil.copyfile(lpath, upload)
        _publish(upload, target, is_new=mode == "create" and self.is_exclusive)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        return _source(self._strip_protocol(path)).read_bytes()[start:end]

    def get_file(self, rpath: str, lpath: str, **_: Any) -> None:
        shutil.copyfile(_source(self._strip_protocol(rpath)), lpath)

    def rm_file(self, path: str) -> None:
        _source(self._strip_protocol(path)).unlink()

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return _info(Path(self._strip_protocol(path)))

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        folder = Path(self._strip_protocol(path))
        if _info(folder)["type"] == "file":
            found = [_info(folder)]
        else:
            found = []
            for child in filter(_holds_objects, folder.iterdir()):
                # What is deleted meanwhile is not listed; a real store answers from one moment.
                with contextlib.suppress(FileNotFoundError):
                    found.append(_info(child))
        return found if detail else [each["name"] for each in found]

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        if mode != "rb":
            raise NotImplementedError("an object is put whole, not written piece by piece")
        return io.BytesIO(_source(path).read_bytes())

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        raise NotImplementedError("an object store has no folders")

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        raise NotImplementedError("copying is not atomic")

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        raise NotImplementedError("an object store has no renaming")


class LaxObjectFolder(ObjectFolder):
    """The same, replacing objects although asked not to."""

    protocol = "lax"
    is_exclusive = False


class PlainFolder(AbstractFileSystem):  # type: ignore[misc]
    """A file system whose exclusive creation is the fallback of fsspec: look, then write."""

    protocol = "plain"


for each in (ObjectFolder, LaxObjectFolder, PlainFolder):
    fsspec.register_implementation(each.protocol, each, clobber=True)


def _target(key: str) -> Path:
    path = Path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _publish(upload: Path, target: Path, *, is_new: bool) -> None:
    try:
        if is_new:
            os.link(upload, target)
        else:
            upload.replace(target)
    finally:
        upload.unlink(missing_ok=True)


def _source(key: str) -> Path:
    path = Path(key)
    if not path.is_file():
        raise FileNotFoundError(key)
    return path


def _info(path: Path) -> dict[str, Any]:
    if path.is_file():
        tag = hashlib.sha256(path.read_bytes()).hexdigest()
        return {"name": str(path), "size": path.stat().st_size, "type": "file", "ETag": tag}
    if _holds_objects(path):
        return {"name": str(path), "size": 0, "type": "directory"}
    raise FileNotFoundError(path)


def _holds_objects(path: Path) -> bool:
    if path.is_dir():
        return any(_holds_objects(child) for child in path.iterdir())
    return path.is_file() and not path.name.startswith(_UPLOAD)
