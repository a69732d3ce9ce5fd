"""Folders and prefixes of object stores: how they are named, reached and refused."""

import errno
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import object_folder
import pytest

from sweeper.data.corpus import cache_beside
from sweeper.errors import MissingPackage, StoreError
from sweeper.store import files, storage
from sweeper.store.layout import open_store, store_at
from sweeper.store.storage import ObjectPath, place, read_many, require_exclusive_creation


@pytest.fixture
def prefix(tmp_path: Path) -> ObjectPath:
    return ObjectPath(f"bucket://{tmp_path}/results")


class TestNames:
    @pytest.mark.parametrize("text", ["results", "/tmp/x", "C:\\x", "a:b", "file:///tmp/x"])
    def test_what_is_no_url_is_a_plain_path(self, text: str) -> None:
        assert place(text) == Path(text.removeprefix("file://"))

    @pytest.mark.parametrize(
        "url", ["s3://bucket", "gs://b/p/q", "abfs://box@account.dfs.core.windows.net/p"]
    )
    def test_url_of_a_bucket_is_a_prefix_that_reads_like_a_path(self, url: str) -> None:
        path = place(f"{url}/") / "a" / "x.y.json"
        assert isinstance(path, ObjectPath)
        assert str(path) == f"{url}/a/x.y.json"
        assert (path.name, path.stem, path.suffix) == ("x.y.json", "x.y", ".json")
        assert path.parent.parent == place(url)
        assert pickle.loads(pickle.dumps(path)) == path

    @pytest.mark.parametrize(
        "url",
        [
            "s3://AKIA:hunter2@bucket/x",
            "s3://AKIA:hunt/hunter2@bucket/x",
            "abfs://box/x?sig=hunter2",
            "sftp://me:hunter2@host/x",
        ],
    )
    def test_url_with_a_secret_is_refused_and_not_repeated(self, url: str) -> None:
        with pytest.raises(StoreError, match="credentials") as refusal:
            place(url)
        assert "hunter2" not in str(refusal.value)

    @pytest.mark.parametrize("url", ["s3://", "s3:///", "zip://a::s3://b", "simplecache::s3://b/x"])
    def test_url_that_names_no_bucket_is_refused(self, url: str) -> None:
        with pytest.raises(StoreError, match="bucket/prefix"):
            place(url)


class TestObjects:
    def test_objects_are_put_listed_and_deleted(self, prefix: ObjectPath) -> None:
        assert not prefix.exists()
        for name in ("b.json", "a.json", "deep/er/c.json"):
            files.replace(prefix / name, name.encode())
        assert [each.name for each in prefix.glob("*.json")] == ["a.json", "b.json"]
        assert [each.name for each in prefix.iterdir()] == ["a.json", "b.json", "deep"]
        assert list(prefix.rglob("c*")) == [prefix / "deep" / "er" / "c.json"]
        assert (prefix.is_dir(), (prefix / "a.json").is_file()) == (True, True)
        assert read_many([prefix / "b.json", prefix / "a.json"]) == [b"b.json", b"a.json"]
        assert (prefix / "a.json").read_text() == "a.json"
        (prefix / "a.json").unlink()
        (prefix / "a.json").unlink(missing_ok=True)
        with pytest.raises(FileNotFoundError):
            (prefix / "a.json").read_bytes()
        files.remove_folder(prefix)
        assert not prefix.exists()
        assert list(prefix.glob("*")) == []
        assert read_many([]) == []

    def test_object_is_created_once(self, prefix: ObjectPath) -> None:
        assert files.create_exclusively(prefix / "x", b"first")
        assert not files.create_exclusively(prefix / "x", b"second")
        assert (prefix / "x").read_bytes() == b"first"

    def test_what_a_function_writes_to_a_local_file_becomes_an_object(
        self, prefix: ObjectPath
    ) -> None:
        files.replace_with(prefix / "table", lambda file: file.write_bytes(b"rows"))
        with files.local_file(prefix / "table") as file:
            assert file.read_bytes() == b"rows"
        assert not file.exists()

    def test_full_disk_in_the_middle_leaves_the_old_object_and_its_errno(
        self, prefix: ObjectPath
    ) -> None:
        def fail(file: Path) -> None:
            file.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        files.replace(prefix / "table", b"old")
        with pytest.raises(OSError, match="No space") as raised:
            files.replace_with(prefix / "table", fail)
        assert raised.value.errno == errno.ENOSPC
        assert (prefix / "table").read_bytes() == b"old"
        assert list(prefix.rglob("*")) == [prefix / "table"]

    def test_error_of_a_client_becomes_an_oserror(
        self, prefix: ObjectPath, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> bytes:
            raise LookupError("no credentials")

        monkeypatch.setattr(object_folder.ObjectFolder, "cat_file", fail)
        with pytest.raises(OSError, match="LookupError: no credentials"):
            (prefix / "x").read_bytes()

    def test_conditional_puts_that_meet_are_tried_again(
        self, prefix: ObjectPath, outage: Callable[..., None]
    ) -> None:
        assert not prefix.exists()
        outage("pipe_file", errno.EBUSY, errno.EIO)
        assert files.create_exclusively(prefix / "x", b"first")


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the next requests of one kind fail with these error numbers, one after another."""
    monkeypatch.setattr(storage, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(storage, "_has_answered", set())

    def begin(method: str, *numbers: int) -> None:
        answer, left = getattr(object_folder.ObjectFolder, method), list(numbers)

        def fail(*arguments: object, **options: object) -> object:
            if left:
                raise OSError(left.pop(0), "away")
            return answer(*arguments, **options)

        monkeypatch.setattr(object_folder.ObjectFolder, method, fail)

    return begin


class TestOutages:
    def test_store_that_has_answered_before_is_waited_for(
        self, prefix: ObjectPath, outage: Callable[..., None], caplog: pytest.LogCaptureFixture
    ) -> None:
        files.replace(prefix / "x", b"data")
        outage("cat_file", errno.EBUSY, errno.ECONNREFUSED, errno.EIO)
        assert (prefix / "x").read_bytes() == b"data"
        assert caplog.text.count("is away, waiting") == 3

    def test_store_that_never_answered_is_not_waited_for(
        self, prefix: ObjectPath, outage: Callable[..., None]
    ) -> None:
        outage("cat_file", errno.EBUSY)
        with pytest.raises(OSError, match="away"):
            (prefix / "x").read_bytes()

    @pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EINVAL])
    def test_refusal_is_not_repeated(
        self, prefix: ObjectPath, outage: Callable[..., None], number: int
    ) -> None:
        assert not prefix.exists()
        outage("pipe_file", number)
        with pytest.raises(OSError, match="away") as raised:
            files.replace(prefix / "x", b"data")
        assert raised.value.errno == number

    def test_what_is_worth_nothing_later_waits_for_nothing(
        self, prefix: ObjectPath, outage: Callable[..., None]
    ) -> None:
        assert not prefix.exists()
        outage("pipe_file", errno.EBUSY)
        with pytest.raises(OSError, match="away"):
            files.replace_lightly(prefix / "x", b"data")


class TestRefusals:
    def test_store_that_ignores_the_condition_is_refused_at_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="two processes could publish"):
            store_at(place(f"lax://{tmp_path}"), "planted")
        assert list(tmp_path.rglob("*.json")) == []

    def test_store_that_only_looks_before_it_writes_is_refused(self) -> None:
        with pytest.raises(StoreError, match="PlainFolder of fsspec has no conditional PUT"):
            store_at(place("plain://x"), "planted")

    def test_asking_leaves_nothing_behind(self, prefix: ObjectPath) -> None:
        require_exclusive_creation(prefix)
        assert not prefix.exists()

    def test_unknown_protocol_says_what_is_expected(self) -> None:
        with pytest.raises(StoreError, match="s3://bucket/prefix"):
            store_at(place("s33://bucket"), "planted")

    def test_missing_client_says_what_to_install(self) -> None:
        with pytest.raises(MissingPackage, match="install it"):
            store_at(place("dropbox://x"), "planted")

    def test_prefix_without_a_sweep_is_no_store(self, prefix: ObjectPath) -> None:
        with pytest.raises(StoreError, match="does not exist"):
            open_store(prefix)
        files.replace(prefix / "x", b"")
        with pytest.raises(StoreError, match=r"no plan\.json"):
            open_store(prefix)


def test_corpora_of_a_remote_sweep_are_kept_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_beside(place("s3://bucket/results")) == tmp_path / "sweeper" / "corpora"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_beside(place("s3://bucket/results")).is_relative_to(Path.home())


def test_naming_a_place_imports_no_client() -> None:
    statement = "import sweeper.store.storage as s; s.place('s3://b/x')"
    code = f"import sys; {statement}; sys.exit('fsspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
