"""Token folders: read without being loaded, refused when damaged, written whole or not at all."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper.data.corpus import load_corpus, train_batch, validation_sequences
from sweeper.data.token_files import EncodedDocument, write_token_folder
from sweeper.data.tokenizer import ByteTokenizer
from sweeper.data.tokens import BLOCK_TOKENS, N_BLOCKS, SplitTokens, fingerprint
from sweeper.errors import DataError

TOKENIZER = ByteTokenizer("test", vocab_size=300, separator_id=299)
META = {"vocab_size": 300, "dtype": "uint16", "tokenizer": "test", "bytes_per_token": 3.5}


def write_folder(folder: Path, train: np.ndarray, validation: np.ndarray, **changes: Any) -> str:
    folder.mkdir(exist_ok=True)
    meta = {**META, **changes}
    train.astype(meta["dtype"]).tofile(folder / "train.bin")
    validation.astype(meta["dtype"]).tofile(folder / "validation.bin")
    (folder / "meta.json").write_text(json.dumps(meta))
    return f"tokens:{folder}"


def ids(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 300, n)


def documents(n: int = 40) -> list[EncodedDocument]:
    return [EncodedDocument(ids(50, seed), 120, seed % 10 == 0) for seed in range(n)]


def test_a_folder_is_read_as_it_lies(tmp_path: Path) -> None:
    train, validation = ids(1000), ids(100, seed=1)
    corpus = load_corpus(write_folder(tmp_path / "t", train, validation), tmp_path / "cache")
    assert np.array_equal(corpus.tokens.train, train)
    assert np.array_equal(corpus.tokens.validation, validation)
    assert isinstance(corpus.tokens.train, np.memmap)
    assert not corpus.tokens.train.flags.writeable
    assert (corpus.tokens.vocab_size, corpus.tokens.bytes_per_token) == (300, 3.5)
    assert not (tmp_path / "cache").exists()


def test_the_fingerprint_is_of_the_tokens_and_not_of_their_type_or_place(tmp_path: Path) -> None:
    train, validation = ids(1000), ids(100, seed=1)
    narrow = load_corpus(write_folder(tmp_path / "a", train, validation))
    wide = load_corpus(
        write_folder(tmp_path / "b", train, validation, dtype="uint32", tokenizer="other")
    )
    assert narrow.fingerprint == wide.fingerprint
    in_memory = SplitTokens(train, validation, 300, 3.5)
    assert narrow.fingerprint == fingerprint(in_memory)
    other = load_corpus(write_folder(tmp_path / "c", train, validation, vocab_size=301))
    assert other.fingerprint != narrow.fingerprint


def test_the_fingerprint_of_a_long_part_sees_lengths_and_long_edits(tmp_path: Path) -> None:
    n_train = 3 * N_BLOCKS * BLOCK_TOKENS
    train, validation = np.zeros(n_train, dtype="<u2"), ids(100)
    digest = load_corpus(write_folder(tmp_path / "a", train, validation)).fingerprint
    assert load_corpus(write_folder(tmp_path / "b", train, validation)).fingerprint == digest
    longer = load_corpus(write_folder(tmp_path / "c", np.append(train, 0), validation))
    assert longer.fingerprint != digest
    stretch = n_train // N_BLOCKS + 1
    for start in (0, 1_000_003, n_train // 2, n_train - stretch):
        edited = train.copy()
        edited[start : start + stretch] = 7
        assert load_corpus(write_folder(tmp_path / "d", edited, validation)).fingerprint != digest


def test_terabytes_are_opened_without_being_read(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "t", ids(10), ids(1000))
    with (tmp_path / "t" / "train.bin").open("r+b") as file:
        file.truncate(10**12)  # takes no room: the file system keeps no zeros
    start_s = time.perf_counter()
    corpus = load_corpus(source)
    assert len(corpus.tokens.train) == 5 * 10**11
    batch = train_batch(corpus, seq_len=2048, n_sequences=16, seed=0, step=10**6)
    assert batch.shape == (16, 2048)
    # Reading 1 TB at 10 GB/s takes 100 s; the sample is 8 MB.
    assert time.perf_counter() - start_s < 10


def test_batches_are_cut_from_the_files(tmp_path: Path) -> None:
    counting = np.arange(200)
    corpus = load_corpus(write_folder(tmp_path / "t", counting + 1, counting))
    batch = train_batch(corpus, seq_len=10, n_sequences=4, seed=0, step=0)
    assert batch.dtype == np.int64
    assert set(np.unique(np.diff(batch) % 200).tolist()) == {1}
    rows = validation_sequences(corpus, seq_len=10, n_sequences=20)
    assert rows.ravel().tolist() == counting.tolist()


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def resize(name: str, n_bytes: int) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.truncate(n_bytes)

    return apply


def meta(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "meta.json").write_text(text)


def changed(**changes: Any) -> Callable[[Path], object]:
    fields = {key: value for key, value in {**META, **changes}.items() if value != "absent"}
    return meta(json.dumps(fields))


def put_id(at: int, value: int) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        tokens = np.fromfile(folder / "train.bin", dtype="<u2")
        tokens[at] = value
        tokens.tofile(folder / "train.bin")

    return apply


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (remove("meta.json"), ["meta.json", "No such file", "train.bin and validation.bin"]),
        (remove("train.bin"), ["train.bin", "No such file"]),
        (remove("validation.bin"), ["validation.bin", "No such file"]),
        (resize("train.bin", 1001), ["train.bin", "1001 bytes", "of 2 bytes", "cut short"]),
        (resize("validation.bin", 0), ["validation.bin", "0 bytes", "at least one"]),
        (put_id(0, 300), ["train.bin", "id 300 at token 0", "less than vocab_size 300"]),
        (put_id(999, 65535), ["train.bin", "id 65535 at token 999"]),
        (meta(""), ["meta.json", "the whole file", "EOF"]),
        (meta("[]"), ["meta.json", "with the keys vocab_size, dtype"]),
        (meta("\0\xff"), ["meta.json", "the whole file"]),
        (changed(vocab_sise=300), ["vocab_sise", "with the keys vocab_size"]),
        (changed(vocab_size="absent"), ["vocab_size", "Field required"]),
        (changed(tokenizer="absent"), ["tokenizer", "Field required"]),
        (changed(vocab_size="300"), ["vocab_size", "valid integer"]),
        (changed(vocab_size=True), ["vocab_size", "valid integer"]),
        (changed(vocab_size=1), ["vocab_size", "greater than or equal to 2"]),
        (changed(vocab_size=10**12), ["vocab_size", "less than or equal to 10000000"]),
        (changed(vocab_size=65537), ["65537 does not fit into uint16"]),
        (changed(dtype="int64"), ["dtype", "'uint8', 'uint16' or 'uint32'"]),
        (changed(separator_id=300), ["separator_id is 300", "less than vocab_size 300"]),
        (changed(bytes_per_token=0), ["bytes_per_token", "greater than 0"]),
        (meta(json.dumps({**META, "bytes_per_token": float("nan")})), ["bytes_per_token"]),
    ],
)  # fmt: skip
def test_every_defect_is_refused(
    damage: Callable[[Path], object], parts: list[str], tmp_path: Path
) -> None:
    source = write_folder(tmp_path / "t", ids(1000), ids(100))
    damage(tmp_path / "t")
    with pytest.raises(DataError) as caught:
        load_corpus(source)
    message = str(caught.value)
    assert message.startswith(f"corpus {source!r}: ")
    for part in parts:
        assert part in message, message


def as_type(dtype: str) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        tokens = np.fromfile(folder / "train.bin", dtype="<u2")
        tokens.astype(dtype).tofile(folder / "train.bin")

    return apply


def as_npy(folder: Path) -> None:
    tokens = np.fromfile(folder / "train.bin", dtype="<u2")
    with (folder / "train.bin").open("wb") as file:
        np.save(file, tokens)


@pytest.mark.parametrize(
    ("meta_dtype", "damage", "parts"),
    [
        (
            "uint16",
            as_type("<u4"),
            ["holds ids of 4 bytes", "every second id", "expected ids of 2"],
        ),
        ("uint16", as_type("<i8"), ["holds ids of 8 bytes", "every fourth id"]),
        ("uint16", as_type(">u2"), ["less than vocab_size 300", "read as big-endian uint16 all"]),
        ("uint16", as_type("<f4"), ["less than vocab_size 300", "names another dtype"]),
        ("uint16", as_npy, ["is a NumPy file", "write numpy.load(FILE).tofile"]),
        ("uint32", as_type("<u2"), ["less than vocab_size 300", "read as uint16 all ids are less"]),
        ("uint32", as_type("<i8"), ["holds ids of 8 bytes", "every second id"]),
    ],
)
def test_ids_stored_otherwise_are_refused_with_how(
    meta_dtype: str, damage: Callable[[Path], object], parts: list[str], tmp_path: Path
) -> None:
    source = write_folder(tmp_path / "t", ids(1000), ids(100, seed=1))
    damage(tmp_path / "t")
    validation = ids(100, seed=1).astype(meta_dtype)
    validation.tofile(tmp_path / "t" / "validation.bin")
    changed(dtype=meta_dtype)(tmp_path / "t")
    with pytest.raises(DataError) as caught:
        load_corpus(source)
    for part in ["train.bin", *parts]:
        assert part in str(caught.value)


def link(make: Callable[[Path, Path], None]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        (folder / "validation.bin").unlink()
        make(folder / "validation.bin", folder / "train.bin")

    return apply


def put_validation(cut: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        cut(np.fromfile(folder / "train.bin", dtype="<u2")).tofile(folder / "validation.bin")

    return apply


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (link(Path.symlink_to), "both are one file"),
        (link(Path.hardlink_to), "both are one file"),
        (put_validation(lambda train: train), "both hold the same 100,000 ids"),
        (put_validation(lambda train: train[:777]), "the 777 ids of validation.bin are the first"),
        (put_validation(lambda train: train[-777:]), "validation.bin are the last of the 100,000"),
        (
            put_validation(lambda train: np.append(train, train[:9])),
            "train.bin are the first of the",
        ),
        (put_validation(lambda train: train[5001:25001]), "64 of 64 passages of 256 ids"),
        (put_validation(lambda train: train[5001:5201]), "1 of 1 passages of 200 ids"),
        (
            put_validation(lambda train: np.concatenate([train[:99], train, train[:9]])),
            "spread over train.bin, are in validation.bin",
        ),
    ],
)
def test_validation_on_what_is_trained_on_is_refused(
    damage: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    source = write_folder(tmp_path / "t", ids(100_000), ids(1000, seed=1))
    load_corpus(source)
    damage(tmp_path / "t")
    with pytest.raises(DataError, match="expected text to validate on") as caught:
        load_corpus(source)
    assert words in str(caught.value)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert write_token_folder(tmp_path / "made" / "t", documents(), TOKENIZER)
    corpus = load_corpus(f"tokens:{tmp_path / 'made' / 't'}")
    kept = [np.append(one.tokens, 299) for one in documents() if not one.validates]
    held_out = [np.append(one.tokens, 299) for one in documents() if one.validates]
    assert np.array_equal(corpus.tokens.train, np.concatenate(kept))
    assert np.array_equal(corpus.tokens.validation, np.concatenate(held_out))
    assert corpus.tokens.vocab_size == 300
    assert corpus.tokens.bytes_per_token == pytest.approx(120 / 51, rel=1e-12)


def test_a_folder_that_exists_is_kept(tmp_path: Path) -> None:
    assert write_token_folder(tmp_path / "t", documents(20), TOKENIZER)
    before = load_corpus(f"tokens:{tmp_path / 't'}").fingerprint
    assert not write_token_folder(tmp_path / "t", documents(30), TOKENIZER)
    assert load_corpus(f"tokens:{tmp_path / 't'}").fingerprint == before


def test_the_later_of_two_writers_gives_way(tmp_path: Path) -> None:
    def overtaken() -> Iterator[EncodedDocument]:
        assert write_token_folder(tmp_path / "t", documents(20), TOKENIZER)
        yield from documents(30)

    assert not write_token_folder(tmp_path / "t", overtaken(), TOKENIZER)
    assert len(load_corpus(f"tokens:{tmp_path / 't'}").tokens.train) == 18 * 51
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[EncodedDocument]:
        yield from documents(20)
        raise RuntimeError("the network is gone")

    with pytest.raises(RuntimeError, match="the network is gone"):
        write_token_folder(tmp_path / "t", failing(), TOKENIZER)
    outside = EncodedDocument(np.array([5, 300]), 2, True)
    with pytest.raises(DataError, match=r"ids from 5 to 300; expected 0 to 299"):
        write_token_folder(tmp_path / "t", [outside], TOKENIZER)
    with pytest.raises(DataError, match=r"no tokens for validation.bin, from 51 in all"):
        write_token_folder(tmp_path / "t", [EncodedDocument(ids(50), 2, False)], TOKENIZER)
    assert [*tmp_path.iterdir()] == []


def test_documents_without_text_have_no_bytes_per_token(tmp_path: Path) -> None:
    drawn = [EncodedDocument(ids(50, seed), 0, seed == 0) for seed in range(3)]
    write_token_folder(tmp_path / "t", drawn, ByteTokenizer("counts", 300, None))
    corpus = load_corpus(f"tokens:{tmp_path / 't'}")
    assert corpus.tokens.bytes_per_token is None
    assert len(corpus.tokens.train) == 100
