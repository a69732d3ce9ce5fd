"""Training and validation share no content, and the split follows content alone."""

import logging
import random
from pathlib import Path

import numpy as np
import pytest

from sweeper.data.corpus import Corpus, load_corpus
from sweeper.data.near_duplicates import PASSAGE_BYTES, group_texts, passages
from sweeper.data.split import SEPARATOR


def text_of(seed: int, n_lines: int = 60) -> str:
    rng = random.Random(seed)
    letters = "abcdefghij klmnop"
    return "".join("".join(rng.choices(letters, k=30)) + "x\n" for _ in range(n_lines))


def write_texts(folder: Path, texts: list[str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for index, text in enumerate(texts):
        (folder / f"{index:03}.txt").write_bytes(text.encode())
    return f"path:{folder}"


def parts(corpus: Corpus) -> tuple[bytes, bytes]:
    return corpus.tokens.train.tobytes(), corpus.tokens.validation.tobytes()


def texts_in(tokens: bytes) -> list[bytes]:
    return tokens.split(SEPARATOR)[:-1]


def lines_of(tokens: bytes) -> set[bytes]:
    return {line for text in texts_in(tokens) for line in text.splitlines()}


def test_every_text_is_whole_on_exactly_one_side(tmp_path: Path) -> None:
    texts = [text_of(seed) for seed in range(100)]
    train, validation = parts(load_corpus(write_texts(tmp_path, texts)))
    assert sorted(texts_in(train) + texts_in(validation)) == sorted(t.encode() for t in texts)
    assert len(texts_in(validation)) == 5


def test_copies_are_dropped_whatever_their_name_and_white_space(tmp_path: Path) -> None:
    texts = [text_of(seed) for seed in range(40)]
    copies = [
        texts[0],
        texts[1].replace("\n", "\r\n"),
        texts[2].replace("\n", "  \t\n"),
        texts[3] + "\n\n\n",
        texts[4].rstrip("\n"),
        texts[5].replace("\n", "\f\n"),
    ]
    train, validation = parts(load_corpus(write_texts(tmp_path, texts + copies)))
    kept = [" ".join(text.decode().split()) for text in texts_in(train) + texts_in(validation)]
    assert sorted(kept) == sorted(" ".join(text.split()) for text in texts)


def test_near_copies_stay_on_the_side_of_their_origin(tmp_path: Path) -> None:
    originals = [text_of(seed) for seed in range(60)]
    near = [f"# header {i}\n" + text.replace("j", "J", 1) for i, text in enumerate(originals)]
    embedded = [text_of(1000 + i) + text for i, text in enumerate(originals)]
    train, validation = parts(load_corpus(write_texts(tmp_path, originals + near + embedded)))
    assert len(texts_in(validation)) == 9
    assert not lines_of(train) & lines_of(validation)


def test_the_standard_library_shares_no_passage_between_its_sides() -> None:
    train, validation = parts(load_corpus("stdlib"))
    assert len(validation) / len(train) == pytest.approx(0.05 / 0.95, rel=0.01)
    starts = np.linspace(0, len(validation) - PASSAGE_BYTES, 150).astype(int).tolist()
    assert not any(validation[start : start + PASSAGE_BYTES] in train for start in starts)


def test_texts_that_share_a_passage_form_one_group() -> None:
    passage = text_of(0, n_lines=12)
    texts = [text_of(1), text_of(2) + passage, text_of(3), passage + text_of(4), "short\n"]
    found = group_texts([passages(text.encode()) for text in texts])
    assert found == [[0], [1, 3], [2], [4]]


def test_the_hash_of_a_passage_depends_on_every_byte() -> None:
    text = bytearray(text_of(0).encode()[:PASSAGE_BYTES])
    hashes = {int(passages(bytes(text))[0])}
    for index in range(PASSAGE_BYTES):
        changed = text.copy()
        changed[index] = ord("Z")
        hashes.add(int(passages(bytes(changed))[0]))
    assert len(hashes) == 1 + PASSAGE_BYTES


def test_the_fingerprint_ignores_names_folders_and_times(tmp_path: Path) -> None:
    texts = [text_of(seed) for seed in range(30)]
    here = load_corpus(write_texts(tmp_path / "here", texts))
    random.Random(0).shuffle(texts)
    there = load_corpus(write_texts(tmp_path / "elsewhere" / "deep", texts))
    assert here.fingerprint == there.fingerprint
    assert parts(here) == parts(there)


def test_the_fingerprint_follows_content(tmp_path: Path) -> None:
    texts = [text_of(seed) for seed in range(30)]
    before = load_corpus(write_texts(tmp_path, texts)).fingerprint
    (tmp_path / "007.txt").write_text(texts[7].replace("x", "y", 1))
    assert load_corpus(f"path:{tmp_path}").fingerprint != before


def test_the_fingerprint_tells_train_from_validation_tokens(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("ab" * 500)
    (tmp_path / "other.txt").write_text("ab" * 501)
    one, other = (load_corpus(f"path:{tmp_path / name}") for name in ("one.txt", "other.txt"))
    assert one.fingerprint != other.fingerprint


def test_of_a_single_text_the_end_validates(tmp_path: Path) -> None:
    text = text_of(0, n_lines=1000).encode()
    (tmp_path / "book.txt").write_bytes(text)
    train, validation = parts(load_corpus(f"path:{tmp_path / 'book.txt'}"))
    assert train + validation == text
    assert len(validation) == round(0.05 * len(text))


def test_of_few_long_texts_the_end_of_the_longest_validates(tmp_path: Path) -> None:
    texts = [text_of(seed, n_lines=100 + seed) for seed in range(3)]
    train, validation = parts(load_corpus(write_texts(tmp_path, texts)))
    assert texts[2].encode().endswith(validation)
    assert len(validation) == round(0.05 * sum(len(text) for text in texts))
    assert len(train) + len(validation) == sum(len(text) for text in texts) + 2


def test_a_text_that_repeats_itself_is_cut_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "book.txt").write_text(text_of(0, n_lines=50) * 20)
    with caplog.at_level(logging.WARNING):
        load_corpus(f"path:{tmp_path}")
    assert "100.0 % of the validation passages" in caplog.text


def test_text_that_repeats_everywhere_is_split_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    licence = text_of(0, n_lines=12)
    texts = [licence + text_of(1 + seed) for seed in range(40)]
    with caplog.at_level(logging.WARNING):
        corpus = load_corpus(write_texts(tmp_path, texts))
    assert len(texts_in(corpus.tokens.validation.tobytes())) == 2
    assert "% of the validation passages of 256 bytes also occur in training" in caplog.text
