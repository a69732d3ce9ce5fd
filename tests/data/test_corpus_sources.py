"""What each source reads, and what it says when it cannot."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from unprivileged import folder_of_anyone, unprivileged

from sweeper.data import sources, text_files
from sweeper.data.corpus import load_corpus, train_batch, validation_sequences
from sweeper.data.text_files import ANY_TEXT, FileRule, list_files
from sweeper.errors import DataError
from sweeper.trials.text_options import AS_BYTES


def names(folder: Path, rule: FileRule = ANY_TEXT) -> list[str]:
    return [file.name for file in list_files("test", folder, rule)]


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"text of {name}\n")


def assert_refused(source: str, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        load_corpus(source)
    message = str(caught.value)
    assert message.startswith(f"corpus {source!r}: ")
    for part in parts:
        assert part in message, message


def test_stdlib_is_all_python_sources_without_installed_packages() -> None:
    listed = names(text_files.STDLIB_FOLDER, text_files.STDLIB_SOURCES)
    assert {"json/decoder.py", "argparse.py"} <= set(listed)
    assert not [name for name in listed if "-packages" in name or not name.endswith(".py")]


def test_installed_lies_beside_the_interpreter() -> None:
    assert (text_files.INSTALLED_FOLDER / "numpy" / "__init__.py").exists()


def test_installed_is_all_python_sources_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a/b.py", "a/c.so", "d.py", "dist-packages/e.py")
    assert names(tmp_path, text_files.PYTHON_SOURCES) == ["a/b.py", "d.py", "dist-packages/e.py"]
    keys: list[str] = []
    monkeypatch.setattr(sources, "cached", lambda _folder, key, _read: keys.append(key))
    for source in ("installed", "stdlib"):
        sources.load_tokens(source, tmp_path, AS_BYTES)
    assert keys[0] != keys[1]


def test_a_text_corpus_has_one_byte_per_token(tmp_path: Path) -> None:
    write(tmp_path, "a.txt")
    corpus = load_corpus(f"path:{tmp_path}")
    assert corpus.source == f"path:{tmp_path}"
    assert corpus.tokens.bytes_per_token == 1.0


def test_a_relative_path_starts_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "books/a.txt")
    monkeypatch.chdir(tmp_path)
    assert load_corpus("path:books").fingerprint == load_corpus("path:books/a.txt").fingerprint


def test_hidden_files_are_left_out_and_links_followed(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.txt", ".hidden.txt", ".git/config", "sub/b.txt")
    write(tmp_path / "out", "c.txt")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "out")
    assert names(tmp_path / "in") == ["a.txt", "linked/c.txt", "sub/b.txt"]


def test_a_loop_of_links_is_entered_once(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "sub/b.txt")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "sub" / "self").symlink_to(tmp_path / "sub")
    assert names(tmp_path) == ["a.txt", "sub/b.txt"]


def test_broken_links_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "a.txt")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    assert names(tmp_path) == ["a.txt"]
    assert "gone.txt" in caplog.text
    assert "loop.txt" in caplog.text


def test_files_that_are_not_text_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "a.txt")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\x00")
    (tmp_path / "c.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "d.txt").write_bytes("text".encode("utf-16"))
    with caplog.at_level(logging.WARNING):
        corpus = load_corpus(f"path:{tmp_path}")
    assert len(corpus.tokens.train) + len(corpus.tokens.validation) == len("text of a.txt\n")
    assert "left out 3 of 4 files that are not UTF-8 text, the first is 'b.png'" in caplog.text


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("stdlb", ["unknown source", "did you mean 'stdlib'?", "expected stdlib, installed"]),
        ("", ["unknown source", "expected stdlib, installed"]),
        ("instaled", ["did you mean 'installed'?"]),
        ("synthetic", ["unknown source", "did you mean 'synthetic:iid'?"]),
        ("paths:x", ["unknown source"]),
        ("hf:", ["no dataset", "expected hf:OWNER/NAME"]),
        ("hf:owner/name:", ["no dataset", "each with :SPLIT behind it or without"]),
        ("hf:a/b/c/d", ["no dataset", "hf:OWNER/NAME/CONFIG"]),
        ("hf:owner//x", ["no dataset", "hf:/FOLDER"]),
        ("tokens:", ["no path", "such as tokens:data/books"]),
        ("tokens:/no/such/place", ["meta.json", "No such file", "train.bin and validation.bin"]),
        ("path:", ["no path", "such as path:data/books"]),
        ("path:/no/such/place", ["'/no/such/place'", "No such file", "check the path"]),
        ("path:/dev/null", ["no file at '/dev/null'", "name a text file or a folder"]),
        ("path:a\0b", ["zero byte"]),
        ("path:~no-such-user/x", ["write the whole path"]),
    ],
)
def test_a_source_that_is_not_there_is_refused(source: str, parts: list[str]) -> None:
    assert_refused(source, *parts)


def test_a_path_without_its_prefix_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "books/a.txt")
    monkeypatch.chdir(tmp_path)
    assert_refused("books/a.txt", "did you mean 'path:books/a.txt'?")


@pytest.mark.parametrize("name", ["a.arrow", "b.jsonl.xz", "c.tar.gz", "D.ZIP", "e.txt.bz2"])
def test_packed_text_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, "plain.txt", f"sub/{name}")
    for path in (tmp_path, tmp_path / "sub" / name):
        assert_refused(f"path:{path}", name, "not read", "unpack or convert")


def test_a_tiny_corpus_loads_and_is_refused_when_sequences_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    corpus = load_corpus(f"path:{tmp_path}")
    with pytest.raises(DataError, match="0 validation tokens hold 0 sequences"):
        validation_sequences(corpus, seq_len=8, n_sequences=1)
    with pytest.raises(DataError, match="seq_len 8 exceeds its 1 training tokens"):
        train_batch(corpus, seq_len=8, n_sequences=1, seed=0, step=0)


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    assert_refused(f"path:{tmp_path}", "no file at", "expected at least one")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.txt").write_text(" \n\n")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\x00")
    assert_refused(f"path:{tmp_path}", "no text in 3 files (1 not UTF-8, 2 empty)", "convert it")


def test_a_single_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(range(256)))
    assert_refused(f"path:{tmp_path / 'data.bin'}", "data.bin", "1 not UTF-8", "convert it")


def test_a_path_that_links_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert_refused(f"path:{tmp_path / 'loop'}", "symbolic links", "check the path")


def test_more_text_than_fits_into_memory_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "sparse.txt").open("wb") as file:
        file.truncate(5 * 2**30)
    assert_refused(f"path:{tmp_path}", "5.0 GiB", "at most 2 GiB", "name a part")


def test_unreadable_files_and_folders_are_refused() -> None:
    with folder_of_anyone() as folder:
        write(folder, "open.txt", "closed.txt")
        with unprivileged(folder / "closed.txt"):
            assert_refused(f"path:{folder}", "cannot read", "closed.txt", "mend its permissions")
        write(folder, "shut/a.txt")
        with unprivileged(folder / "shut"):
            assert_refused(f"path:{folder}", "cannot list", "shut", "path and its permissions")


def test_a_file_that_vanishes_before_it_is_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.txt")
    files = list_files("path:x", tmp_path, ANY_TEXT)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match=re.escape("corpus 'path:x': cannot read ")):
        text_files.read_texts("path:x", files)


def test_reading_a_corpus_does_not_import_torch() -> None:
    code = "import sys, sweeper.data.corpus; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
