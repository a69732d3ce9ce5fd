"""A cached corpus is the corpus, whatever happens to the cache."""

import logging
import os
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from sweeper.data.corpus import Corpus, load_corpus


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "text").mkdir()
    for index in range(30):
        (tmp_path / "text" / f"{index}.txt").write_text(f"{index} " * 100)
    return f"path:{tmp_path / 'text'}"


def assert_same(one: Corpus, other: Corpus) -> None:
    assert one.fingerprint == other.fingerprint
    assert np.array_equal(one.tokens.train, other.tokens.train)
    assert np.array_equal(one.tokens.validation, other.tokens.validation)
    assert (one.source, one.tokens.vocab_size, one.tokens.bytes_per_token) == (
        other.source,
        other.tokens.vocab_size,
        other.tokens.bytes_per_token,
    )


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("name", ["text", "synthetic:markov?tokens=5000"])
def test_a_cached_corpus_equals_the_source(tmp_path: Path, source: str, name: str) -> None:
    name = source if name == "text" else name
    cache = tmp_path / "made" / "cache"
    direct, first = load_corpus(name), load_corpus(name, cache)
    written = stamps(cache)
    second = load_corpus(name, cache)
    assert_same(direct, first)
    assert_same(direct, second)
    assert isinstance(second.tokens.train, np.memmap)
    assert not second.tokens.train.flags.writeable
    assert stamps(cache) == written
    assert len(written) == 3


def test_an_edit_that_keeps_size_and_time_is_noticed(tmp_path: Path, source: str) -> None:
    cache, file = tmp_path / "cache", tmp_path / "text" / "7.txt"
    before, status = load_corpus(source, cache), file.stat()
    file.write_text("8 " * 100 if file.read_text().startswith("7") else "7 " * 100)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = load_corpus(source, cache)
    assert after.fingerprint != before.fingerprint
    assert_same(after, load_corpus(source))


def test_added_and_removed_files_are_noticed(tmp_path: Path, source: str) -> None:
    cache = tmp_path / "cache"
    load_corpus(source, cache)
    (tmp_path / "text" / "new.txt").write_text("new " * 50)
    assert_same(load_corpus(source, cache), load_corpus(source))
    (tmp_path / "text" / "3.txt").unlink()
    assert_same(load_corpus(source, cache), load_corpus(source))


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def fill_with_text(path: Path) -> None:
    path.write_text("[1, 2]")


@pytest.mark.parametrize("suffix", ["train.npy", "validation.npy", "json"])
@pytest.mark.parametrize("damage", [flip_a_byte, truncate, empty, fill_with_text, Path.unlink])
def test_a_damaged_entry_is_built_again(
    tmp_path: Path,
    source: str,
    suffix: str,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = tmp_path / "cache"
    load_corpus(source, cache)
    damage(next(cache.glob(f"*.{suffix}")))
    with caplog.at_level(logging.WARNING):
        assert_same(load_corpus(source, cache), load_corpus(source))
    if damage is not Path.unlink or suffix != "json":
        assert "is damaged and will be rebuilt" in caplog.text
    caplog.clear()
    load_corpus(source, cache)
    assert not caplog.text


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert_same(load_corpus(source, tmp_path / "file"), load_corpus(source))
    assert "cannot keep the corpus in" in caplog.text


def test_workers_may_fill_the_cache_at_the_same_time(tmp_path: Path, source: str) -> None:
    cache = tmp_path / "cache"
    with get_context("spawn").Pool(2) as pool:
        digests = pool.starmap(fingerprint_of, [(source, cache)] * 6, chunksize=1)
    assert set(digests) == {load_corpus(source).fingerprint}
    assert len(stamps(cache)) == 3


def fingerprint_of(source: str, cache: Path) -> str:
    return load_corpus(source, cache).fingerprint
