"""Documents in JSONL and Parquet, tokenizers, and what is said of broken ones."""

import csv
import dataclasses
import gzip
import io
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, Whitespace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from sweeper.data import text_files
from sweeper.data import tokenizer as tokenizer_module
from sweeper.data.corpus import Corpus, load_corpus
from sweeper.data.tokenizer import load_tokenizer
from sweeper.errors import DataError, UnavailableData
from sweeper.trials.text_options import TextOptions


def story(seed: int) -> str:
    rng = random.Random(seed)
    words = ["tree", "house", "naïve", "river", "eats", "sings", "the", "a", "blue", "日本"]
    return "\n".join(" ".join(rng.choices(words, k=8)) for _ in range(6))


STORIES = [story(seed) for seed in range(100)]


def write_text(folder: Path) -> Path:
    folder.mkdir()
    for index, text in enumerate(STORIES):
        (folder / f"{index:03}.txt").write_text(text, encoding="utf-8")
    return folder


def write_jsonl(path: Path, texts: list[str] = STORIES, column: str = "text") -> Path:
    lines = "".join(json.dumps({"id": i, column: text}) + "\n" for i, text in enumerate(texts))
    data = lines.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_parquet(path: Path, texts: list[Any] = STORIES, column: str = "text") -> Path:
    pq.write_table(pa.table({"id": range(len(texts)), column: texts}), path)
    return path


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer of 290 ids, with all that a tokenizer file may carry."""
    made = tokenizers.Tokenizer(BPE())
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=290,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(STORIES, trainer)
    made.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    made.enable_truncation(16)
    made.enable_padding(length=64)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return path


def load(path: Path, tokenizer: str = "bytes", text_column: str = "text") -> Corpus:
    return load_corpus(f"path:{path}", options=TextOptions(tokenizer, text_column))


def decoded(path: Path, ids: np.ndarray) -> list[str]:
    made = tokenizers.Tokenizer.from_file(str(path))
    made.decoder = ByteLevelDecoder()
    ends = np.flatnonzero(ids == made.token_to_id("</s>"))
    return [made.decode(part.tolist()[:-1]) for part in np.split(ids, ends + 1) if len(part)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "A.JSONL", "a.jsonl.gz", "a.parquet"])
def test_the_same_documents_are_the_same_corpus_in_every_format(name: str, tmp_path: Path) -> None:
    write = write_parquet if name.endswith(".parquet") else write_jsonl
    corpus = load(write(tmp_path / name))
    assert corpus.fingerprint == load(write_text(tmp_path / "plain")).fingerprint
    assert (corpus.tokens.vocab_size, corpus.tokens.bytes_per_token) == (256, 1.0)


def test_a_folder_of_several_files_is_one_corpus(tmp_path: Path) -> None:
    whole = load(write_jsonl(tmp_path / "whole.jsonl")).fingerprint
    (tmp_path / "parts" / "sub").mkdir(parents=True)
    write_jsonl(tmp_path / "parts" / "b.jsonl", STORIES[50:80])
    write_jsonl(tmp_path / "parts" / "a.jsonl.gz", STORIES[:60])  # ten of them twice
    write_parquet(tmp_path / "parts" / "sub" / "c.parquet", STORIES[80:])
    assert load(tmp_path / "parts").fingerprint == whole


def test_the_column_may_have_another_name(tmp_path: Path) -> None:
    usual = load(write_jsonl(tmp_path / "a.jsonl")).fingerprint
    for path in (
        write_jsonl(tmp_path / "b.jsonl", column="content"),
        write_parquet(tmp_path / "b.parquet", column="content"),
    ):
        assert load(path, text_column="content").fingerprint == usual


def test_nulls_and_blanks_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [*STORIES, None, "", "  \n"]
    usual = load(write_jsonl(tmp_path / "a.jsonl")).fingerprint
    assert load(write_jsonl(tmp_path / "b.jsonl", rows)).fingerprint == usual  # type: ignore[arg-type]
    assert load(write_parquet(tmp_path / "b.parquet", rows)).fingerprint == usual
    categories = pa.table({"text": pa.array(rows).dictionary_encode()})
    pq.write_table(categories, tmp_path / "c.parquet")
    assert load(tmp_path / "c.parquet").fingerprint == usual
    assert caplog.text.count("left out 1 of 101 documents that are null") == 3


def rows_of(column: str = "text", texts: list[str] = STORIES) -> list[dict[str, Any]]:
    return [{"id": i, column: text} for i, text in enumerate(texts)]


def lines_of(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table_of(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", lines_of(rows_of())),
        ("a.txt", lines_of(rows_of())),
        ("a", "\ufeff\n" + lines_of(rows_of())),
        ("a.json", json.dumps(rows_of())),
        ("a.json", json.dumps(rows_of(), indent=1)),
        ("a.csv", table_of(rows_of())),
        ("a.tsv", table_of(rows_of(), "\t")),
        ("a.txt", table_of(rows_of())),
        ("a.csv", "\ufeff" + table_of(rows_of(), "\t")),
        ("a.csv", table_of(rows_of(), ";")),
    ],
)
@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
def test_what_a_file_holds_decides_how_it_is_read(
    name: str, content: str, packed: str, tmp_path: Path
) -> None:
    path = tmp_path / (name + packed)
    pack: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd}
    path.write_bytes(pack[packed](content.encode()))
    assert load(path).fingerprint == load(write_text(tmp_path / "plain")).fingerprint


def zstd(data: bytes) -> bytes:
    packed = pa.compress(data, codec="zstd", asbytes=True)
    assert isinstance(packed, bytes)
    return packed


@pytest.mark.parametrize(
    "content",
    [
        '{"name": "' + "settings" * 40 + '"}\n',
        '{"a": 1}\nfollowed by prose\n',
        "{\n  'a': 1\n}\n",
        "[link](https://example.org), and text\n",
        "text, with commas\nand, more\n",
        "def f():\n    return {}\n",
    ],
)
def test_text_with_braces_and_commas_is_text(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(content)
    corpus = load(tmp_path / "a.txt")
    assert len(corpus.tokens.train) + len(corpus.tokens.validation) == len(content)


def test_a_folder_of_code_is_text_with_its_settings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "main.py").write_text("x = 1\n" * 100)
    (tmp_path / "table.csv").write_text("id,text\n1,a\n")
    (tmp_path / "settings.json").write_text('{"a": 1}\n')
    n_bytes = sum(path.stat().st_size + 1 for path in tmp_path.iterdir())  # and a separator
    corpus = load(tmp_path)
    assert len(corpus.tokens.train) + len(corpus.tokens.validation) == n_bytes
    assert "1 of 3 files hold rows of JSON or CSV and are read as text" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", lines_of(rows_of("body")), "found the keys id, body; expected 'text'"),
        ("a.txt", lines_of(rows_of("body")), "found the keys id, body; expected 'text'"),
        ("a.json", json.dumps(rows_of("body")), "found the keys id, body; expected 'text'"),
        ("a.txt", json.dumps(rows_of("body")), "found the keys id, body; expected 'text'"),
        ("a.csv", table_of(rows_of("body"), ";"), "found the columns id, body; expected 'text'"),
        ("a.csv", table_of(rows_of("body")), "found the columns id, body; expected 'text'"),
        ("a.json", json.dumps({"data": rows_of()}), "is one JSON object; expected rows"),
        ("a.json", json.dumps(rows_of()) + "]", "not JSON"),
        ("a.csv", "id,text\n1,a,b\n", "not readable as CSV"),
    ],
)
def test_rows_without_the_column_or_whole_rows_are_refused(
    name: str, content: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    assert words in refusal(tmp_path / name)


def test_rows_beside_little_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(lines_of(rows_of()))
    (tmp_path / "README.md").write_text("about the data")
    assert "beside 1 others, the first 'README.md'" in refusal(tmp_path)


def test_documents_that_are_not_text_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*STORIES, "zero \0 byte", "half a pair \ud800"])
    assert load(path).fingerprint == load(write_text(tmp_path / "plain")).fingerprint
    assert "left out 2 of 102 documents" in caplog.text


def test_tokens_are_those_of_whole_documents_and_an_end(tmp_path: Path, bpe: Path) -> None:
    corpus = load(write_jsonl(tmp_path / "a.jsonl"), tokenizer=str(bpe))
    by_bytes = load(tmp_path / "a.jsonl")
    for part in ("train", "validation"):
        texts = getattr(by_bytes.tokens, part).tobytes().decode().split("\0")[:-1]
        assert decoded(bpe, getattr(corpus.tokens, part)) == texts
    assert corpus.tokens.vocab_size == 290
    assert corpus.tokens.train.dtype == np.dtype("<u2")
    n_bytes, n_tokens = len(by_bytes.tokens.validation), len(corpus.tokens.validation)
    assert corpus.tokens.bytes_per_token == n_bytes / n_tokens
    assert 2 < corpus.tokens.bytes_per_token < 10


def test_plain_text_may_be_tokenised_and_the_folder_names_the_file(
    tmp_path: Path, bpe: Path
) -> None:
    plain = load(write_text(tmp_path / "plain"), tokenizer=str(bpe.parent))
    rows = load(write_jsonl(tmp_path / "a.jsonl"), tokenizer=str(bpe))
    assert plain.fingerprint == rows.fingerprint


def test_text_that_spells_a_special_token_is_text(bpe: Path) -> None:
    tokens = load_tokenizer("test", str(bpe))
    assert tokens.separator_id == 1
    (ids,) = tokens.encode([b"a </s> b <s>"])
    assert not {0, 1} & set(ids.tolist())


def test_long_texts_are_encoded_in_pieces(bpe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = load_tokenizer("test", str(bpe))
    text = ("\n".join(STORIES) + "é" * 500).encode()
    whole = tokens.encode([text])[0]
    monkeypatch.setattr(tokenizer_module, "PIECE_BYTES", 101)
    pieces = tokens.encode([text])[0]
    assert len(pieces) >= len(whole)
    made = tokenizers.Tokenizer.from_file(str(bpe))
    made.decoder = ByteLevelDecoder()
    assert made.decode(pieces.tolist()).encode() == text


def test_one_text_that_is_cut_within_a_character_is_tokenised(tmp_path: Path, bpe: Path) -> None:
    (tmp_path / "one.txt").write_text("日" * 1000)
    corpus = load(tmp_path / "one.txt", tokenizer=str(bpe))
    # 3000 bytes; the cut at 2850 falls between characters, and no separator ends an open text.
    assert 1 not in corpus.tokens.train
    (tmp_path / "two.txt").write_text("x" + "日" * 1000)
    assert load(tmp_path / "two.txt", tokenizer=str(bpe)).tokens.vocab_size == 290


def test_a_tokenizer_without_an_end_token_separates_nothing(tmp_path: Path) -> None:
    words = {word: i for i, word in enumerate(sorted({w for s in STORIES for w in s.split()}))}
    made = tokenizers.Tokenizer(WordLevel(words, unk_token="tree"))
    made.pre_tokenizer = Whitespace()
    made.save(str(tmp_path / "words.json"))
    corpus = load(write_jsonl(tmp_path / "a.jsonl"), tokenizer=str(tmp_path / "words.json"))
    assert corpus.tokens.vocab_size == len(words)
    assert len(corpus.tokens.train) + len(corpus.tokens.validation) == 100 * 6 * 8


def test_tokens_are_kept_until_the_tokenizer_or_the_column_changes(
    tmp_path: Path, bpe: Path
) -> None:
    own, cache = tmp_path / "tokenizer.json", tmp_path / "cache"
    own.write_bytes(bpe.read_bytes())
    path = write_jsonl(tmp_path / "a.jsonl")
    options = TextOptions(tokenizer=str(own))
    first = load_corpus(f"path:{path}", cache, options)
    assert load_corpus(f"path:{path}", cache, options).fingerprint == first.fingerprint
    assert len([*cache.iterdir()]) == 3
    assert load_corpus(f"path:{path}", cache).tokens.vocab_size == 256
    changed = json.loads(own.read_text())
    changed["added_tokens"].append({**changed["added_tokens"][0], "id": 290, "content": "<new>"})
    own.write_text(json.dumps(changed))
    assert load_corpus(f"path:{path}", cache, options).tokens.vocab_size == 291
    with pytest.raises(DataError, match="found the keys id, text; expected 'body'"):
        load_corpus(f"path:{path}", cache, dataclasses.replace(options, text_column="body"))


def refusal(path: Path, **options: str) -> str:
    with pytest.raises(DataError) as caught:
        load(path, **options)
    message = str(caught.value)
    assert message.startswith(f"corpus {f'path:{path}'!r}: ")
    return message


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def scribble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :: 7] = bytes(len(content[len(content) // 2 :: 7]))
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz"])
@pytest.mark.parametrize("damage", [cut_short, scribble, empty])
def test_a_broken_file_is_refused(
    name: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path = (write_parquet if name == "a.parquet" else write_jsonl)(tmp_path / name)
    damage(path)
    message = refusal(path)
    assert f"{name!r}" in message
    empty_lines = damage is empty and name == "a.jsonl.gz"
    assert ("no text in column 'text'" if empty_lines else "fetch or write it again") in message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"text": "a"', "line 2: not JSON"),
        (b'{"text": "caf\xe9"}', "line 2: not JSON"),
        (b"[" * 100_000, "line 2: not JSON"),
        (b"plain text", "one object in UTF-8 per line"),
        (b'["text"]', "line 2: found no object; expected 'text'"),
        (b'{"Text": "a", "id": 3}', "line 2: found the keys Text, id; expected 'text'"),
        (b'{"text": 7}', "line 2: 'text' holds int; expected text"),
        (b'{"text": ["a"]}', "line 2: 'text' holds list; expected text"),
    ],
)
def test_a_broken_line_is_refused_with_its_number(line: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "fine"}\n' + line + b"\n")
    assert words in refusal(path)


def test_a_parquet_file_without_the_column_or_without_text_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", column="body")
    assert "found the columns id, body; expected 'text': set text_column" in refusal(path)
    assert "'id' holds int64; expected text" in refusal(path, text_column="id")


def test_parquet_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"caf\xe9"], type=pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())  # unchecked, as some writers do
    pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
    assert "not readable as Parquet" in refusal(tmp_path / "a.parquet")


def test_files_without_any_text_are_refused(tmp_path: Path) -> None:
    for path in (
        write_jsonl(tmp_path / "a.jsonl", []),
        write_jsonl(tmp_path / "b.jsonl", ["", " "]),
        write_parquet(tmp_path / "c.parquet", [None, ""]),
    ):
        assert "no text in column 'text' of 1 files" in refusal(path)


def test_a_mixture_of_kinds_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl")
    (tmp_path / "README.md").write_text("about the data")
    assert "first 'a.jsonl', beside 1 others, the first 'README.md'" in refusal(tmp_path)


def test_a_column_of_plain_text_is_refused(tmp_path: Path) -> None:
    path = write_text(tmp_path / "plain")
    assert "has no columns" in refusal(path, text_column="content")


def test_documents_that_unpack_to_more_than_fits_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl.gz")
    monkeypatch.setattr("sweeper.data.documents.MAX_BYTES", text_files.MAX_BYTES // 2**18)
    assert "of text; expected less, as it is split in memory" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.json", "{", "is no Hugging Face tokenizer"),
        ("t.json", '{"version": "1.0"}', "is no Hugging Face tokenizer"),
        ("t.json", "\0\0", "expected a tokenizer.json"),
    ],
)
def test_a_broken_tokenizer_is_refused(name: str, content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    path = write_jsonl(tmp_path / "a.jsonl")
    assert words in refusal(path, tokenizer=str(tmp_path / name))


@pytest.mark.parametrize("ids", [{}, {"a": 0, "b": 2**31}])
def test_a_tokenizer_of_no_or_huge_ids_is_refused(ids: dict[str, int], tmp_path: Path) -> None:
    fields = json.loads(tokenizers.Tokenizer(WordLevel({"a": 0}, unk_token="a")).to_str())
    fields["model"]["vocab"] = ids
    (tmp_path / "t.json").write_text(json.dumps(fields))
    path = write_jsonl(tmp_path / "a.jsonl")
    found = "ids up to 2147483648" if ids else "no ids"
    message = refusal(path, tokenizer=str(tmp_path / "t.json"))
    assert f"has {found}; expected 1 to 10,000,000" in message


@pytest.mark.parametrize("name", ["absent.json", "./no/such/tokenizer", "~/none/x/y"])
def test_a_tokenizer_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl")
    with pytest.raises(UnavailableData, match="cannot read the tokenizer"):
        load(path, tokenizer=name)


def test_a_tokenizer_on_the_hub_needs_a_network(tmp_path: Path) -> None:
    code = (
        "from sweeper.data.tokenizer import load_tokenizer\n"
        "from sweeper.errors import UnavailableData\n"
        "try: load_tokenizer('test', 'no-such-owner/no-such-tokenizer')\n"
        "except UnavailableData as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_HUB_OFFLINE": "1", "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "cannot fetch the tokenizer 'no-such-owner/no-such-tokenizer'" in done.stdout, done


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['tokenizers'] = None\n"
        "from sweeper.data.tokenizer import load_tokenizer\n"
        "from sweeper.errors import MissingPackage\n"
        "try: load_tokenizer('test', 'gpt2')\n"
        "except MissingPackage as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'sweeper[data]'" in done.stdout, done
