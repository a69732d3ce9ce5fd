"""Paths of a sweep mean the same on the cluster, or the sweep is refused with the place."""

from pathlib import Path

import pytest

from sweeper.errors import ConfigError, SweeperError
from sweeper.launch.paths import overrides_for_cluster, results_on_cluster
from sweeper.sweepfile.schema import LoadedSweep, load_sweep

SWEEP = """\
name: far
corpus:
  source: {source}
  seq_len: 16{tokenizer}
series: {{ar: {{family: ar}}}}
design: {{grid: {{sizes: [5K], tokens: [1M]}}}}
"""


def _loaded(source: str, tokenizer: str = "") -> LoadedSweep:
    line = f"\n  tokenizer: {tokenizer}" if tokenizer else ""
    Path("far.yaml").write_text(SWEEP.format(source=source, tokenizer=line))
    return load_sweep(Path("far.yaml"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def test_a_relative_results_folder_is_one_of_this_machine_and_said_to_be(here: Path) -> None:
    results, (note,) = results_on_cluster("out")
    assert results == str(here / "out")
    assert "must share this folder" in note
    assert results_on_cluster("~/out")[0] == str(here / "home" / "out")


@pytest.mark.parametrize("url", ["s3://bucket/sweeps", "abfs://box@account.dfs.net/sweeps"])
def test_a_bucket_is_taken_as_it_is(url: str) -> None:
    assert results_on_cluster(url) == (url, [])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://key:secret@bucket/x", "password"),
        ("memory://x", "lives in the memory of one process"),
    ],
)
def test_what_the_cluster_cannot_or_should_not_see_is_refused(url: str, expected: str) -> None:
    with pytest.raises(SweeperError, match=expected) as raised:
        results_on_cluster(url)
    assert "secret" not in str(raised.value)


def test_relative_corpora_become_absolute_in_what_is_submitted(here: Path) -> None:
    (here / "my books").mkdir()
    (here / "tok.json").write_text("{}")
    loaded = _loaded("'path:my books'", "tok.json")
    overrides, notes = overrides_for_cluster(loaded)
    sent = load_sweep(Path("far.yaml"), overrides)
    assert sent.sweep.corpus.source == f"path:{here}/my books"
    assert sent.sweep.corpus.tokenizer == f"{here}/tok.json"
    assert [note.partition(" (")[0] for note in notes] == [f"{here}/my books", f"{here}/tok.json"]


def test_a_relative_path_to_nothing_is_refused_at_its_place() -> None:
    with pytest.raises(ConfigError, match=r"far\.yaml:3:11  corpus\.source: found path:nowhere"):
        overrides_for_cluster(_loaded("path:nowhere"))


def test_an_absolute_path_may_be_the_clusters_alone() -> None:
    overrides, (note,) = overrides_for_cluster(_loaded("tokens:/no/such/folder"))
    assert overrides == []
    assert note.startswith("/no/such/folder (not on this machine)")


@pytest.mark.parametrize("source", ["stdlib", "synthetic:markov?vocab=16", "hf:org/name"])
def test_sources_without_a_path_stay_as_they_are(source: str) -> None:
    tokenizer = "gpt2" if source.startswith("hf") else ""
    assert overrides_for_cluster(_loaded(source, tokenizer)) == ([], [])
