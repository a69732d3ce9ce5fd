"""Texts that come one after another: their split, their cap, and Hugging Face datasets."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sweeper.data.corpus import Corpus, load_corpus
from sweeper.data.hub import HubDataset, parse_hub, validates, write_texts
from sweeper.data.tokenizer import ByteTokenizer
from sweeper.errors import DataError

TEXTS = [f"document {i}\nof two lines" for i in range(400)]


def written(folder: Path, texts: list[str], max_tokens: int = 10**9) -> Corpus:
    assert write_texts("test", folder, iter(texts), ByteTokenizer(), max_tokens)
    return load_corpus(f"tokens:{folder}")


def texts_in(tokens: np.ndarray) -> list[str]:
    return tokens.tobytes().decode().split("\0")[:-1]


def test_every_text_is_whole_on_one_side_in_the_order_it_came(tmp_path: Path) -> None:
    corpus = written(tmp_path / "t", TEXTS)
    train, validation = texts_in(corpus.tokens.train), texts_in(corpus.tokens.validation)
    assert train == [text for text in TEXTS if not validates(text.encode())]
    assert validation == [text for text in TEXTS if validates(text.encode())]
    # 400 texts at 5 %: 20 with a standard deviation of 4.4.
    assert 7 <= len(validation) <= 33
    assert (corpus.tokens.vocab_size, corpus.tokens.bytes_per_token) == (256, 1.0)


def test_the_side_of_a_text_depends_on_its_content_alone(tmp_path: Path) -> None:
    once = written(tmp_path / "a", TEXTS)
    copies = [text.replace("\n", "  \r\n") + "\n" for text in TEXTS]
    twice = written(tmp_path / "b", [*reversed(copies), *TEXTS])
    held_out = {text.replace("  \r", "").rstrip() for text in texts_in(twice.tokens.validation)}
    assert held_out == {*texts_in(once.tokens.validation)}


def test_reading_stops_at_the_cap(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    taken = []

    def endless() -> Iterator[str]:
        for i in itertools.count():
            taken.append(i)
            yield f"{i % 1000:03} " * 5000  # 20 kB

    assert write_texts("test", tmp_path / "t", endless(), ByteTokenizer(), 3_000_000)
    corpus = load_corpus(f"tokens:{tmp_path / 't'}")
    assert len(corpus.tokens.train) + len(corpus.tokens.validation) == 149 * 20_001
    assert len(taken) < 500  # batches of 4 MiB
    assert "read no further than max_tokens, 3000000 tokens" in caplog.text


def test_what_is_not_text_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    usual = written(tmp_path / "a", TEXTS).fingerprint
    others = ["", " \n", "zero \0 byte", "half a pair \ud800"]
    assert written(tmp_path / "b", [*others, *TEXTS]).fingerprint == usual
    assert f"left out 2 of {len(TEXTS) + 2} documents" in caplog.text


def test_too_few_texts_for_two_sides_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test: no tokens for validation.bin, from \d+ in all"):
        written(tmp_path / "t", [text for text in TEXTS if not validates(text.encode())])
    with pytest.raises(DataError, match=r"test: no tokens for train.bin, from 0 in all.*max_tok"):
        written(tmp_path / "t", TEXTS, max_tokens=3)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("source", "dataset"),
    [
        ("hf:gpt2-data", HubDataset("gpt2-data", "", "train")),
        ("hf:owner/name", HubDataset("owner/name", "", "train")),
        ("hf:owner/name:test", HubDataset("owner/name", "", "test")),
        ("hf:owner/name/en:test", HubDataset("owner/name", "en", "test")),
        ("hf:/a/b/c/d:test", HubDataset("/a/b/c/d", "", "test")),
    ],
)
def test_a_name_says_dataset_configuration_and_split(source: str, dataset: HubDataset) -> None:
    assert parse_hub(source) == dataset


def test_a_local_dataset_may_be_named_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_hub("hf:./data:test") == HubDataset(f"{tmp_path}/data", "", "test")


SWEEP = """\
name: far
corpus: {{source: "{source}", seq_len: 16{keys}}}
series: {{ar: {{family: ar}}}}
design: {{grid: {{sizes: [5K], tokens: [100K]}}}}
train: {{batch_tokens: 256}}
evaluation: {{sequences: 16}}
resources: {{gpus: 0}}
"""


def plan(folder: Path, source: str, keys: str = "", before: str = "") -> tuple[int, str]:
    """Exit code and answer of `sweeper plan --json`, away from any network and any cache."""
    (folder / "far.yaml").write_text(SWEEP.format(source=source, keys=keys))
    code = f"import sys; {before}\nfrom sweeper.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, "plan", "far.yaml", "--json"],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout or done.stderr


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local dataset with two splits."""
    folder = tmp_path_factory.mktemp("dataset")
    for split, texts in (("train", TEXTS), ("test", TEXTS[:100])):
        rows = [json.dumps({"id": i, "text": text}) for i, text in enumerate(texts)]
        (folder / f"{split}-00000.jsonl").write_text("\n".join(rows))
    return folder


@pytest.mark.slow
def test_a_dataset_is_streamed_once_and_kept(dataset: Path, tmp_path: Path) -> None:
    code, answer = plan(tmp_path, f"hf:{dataset}")
    assert code == 0, answer
    corpus = json.loads(answer)["corpus"]
    assert corpus["fingerprint"] == written(tmp_path / "t", TEXTS).fingerprint
    assert [path.suffix for path in (tmp_path / "results" / ".corpora").iterdir()] == [".tokens"]
    # Kept, so that neither the package nor the network is needed any more.
    missing = "sys.modules['datasets'] = None"
    assert plan(tmp_path, f"hf:{dataset}", before=missing) == (code, answer)
    (damaged,) = (tmp_path / "results" / ".corpora").glob("*/train.bin")
    damaged.write_bytes(b"")
    code, again = plan(tmp_path, f"hf:{dataset}")
    assert (code, json.loads(again)["corpus"]) == (0, corpus)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "keys", "words"),
    [
        (":validation", "", "expected a dataset with the split 'validation'"),
        ("", ", text_column: body", "found the columns id, text; expected 'body'"),
        ("", ", text_column: id", "'id' holds int; expected text"),
        ("/none", "", "check name, network and access"),
        ("", ", max_tokens: 20", "no tokens for train.bin, from 0 in all"),
    ],
)
def test_a_dataset_that_is_not_as_named_is_refused(
    suffix: str, keys: str, words: str, dataset: Path, tmp_path: Path
) -> None:
    code, answer = plan(tmp_path, f"hf:{dataset}{suffix}", keys)
    assert code == 2
    assert "far.yaml:2:18  corpus.source" in answer
    assert words in answer
    kept = tmp_path / "results" / ".corpora"
    assert not kept.exists() or [*kept.iterdir()] == []


@pytest.mark.slow
def test_a_missing_package_is_named_or_its_corpus_assumed(tmp_path: Path) -> None:
    missing = "sys.modules['datasets'] = None"
    code, answer = plan(tmp_path, "hf:owner/name", before=missing)
    assert code == 2
    assert (
        "needs the package datasets, which is not installed: pip install 'sweeper[data]'" in answer
    )
    assumed = ", assume: {vocab_size: 32000, train_tokens: 600G, validation_tokens: 1G}"
    code, answer = plan(tmp_path, "hf:owner/name", assumed, before=missing)
    assert code == 0
    assert json.loads(answer)["warnings"][0]["code"] == "assumed_corpus"


@pytest.mark.slow
def test_a_dataset_out_of_reach_may_be_assumed(tmp_path: Path) -> None:
    code, answer = plan(tmp_path, "hf:owner/name")
    assert code == 2
    assert "Couldn't reach 'owner/name' on the Hub" in answer
    assumed = ", assume: {vocab_size: 32000, train_tokens: 600G, validation_tokens: 1G}"
    code, answer = plan(tmp_path, "hf:owner/name", assumed)
    assert code == 0
    assert json.loads(answer)["trials"][0]["trial_id"] is None
