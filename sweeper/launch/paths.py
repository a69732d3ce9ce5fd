"""Paths of a sweep on a cluster, assumed to share folders under the same absolute paths."""

import json
from collections.abc import Iterator
from pathlib import Path

from sweeper.errors import ConfigError
from sweeper.store.storage import is_of_one_process, place
from sweeper.sweepfile.choices.corpus import CorpusChoice
from sweeper.sweepfile.problems import KeyPath, Problem
from sweeper.sweepfile.schema import LoadedSweep
from sweeper.trials.text_options import BYTES

FILE_SOURCES = ("path", "tokens")  # kinds of corpora that name a file or folder


def results_on_cluster(text: str) -> tuple[str, list[str]]:
    """Where a cluster keeps results, absolute; and what to tell the user about it."""
    # StoreError for a URL with a password, which everybody who sees the job would read.
    results = place(text)
    if isinstance(results, Path):
        path = results.expanduser().absolute()
        return str(path), [f"results in {path}: every node of the cluster must share this folder"]
    if is_of_one_process(results):
        raise ConfigError(
            f"--results {text}: this lives in the memory of one process; expected a bucket, such "
            "as s3://bucket/sweeps, or a folder that all nodes share"
        )
    return str(results), []


def overrides_for_cluster(loaded: LoadedSweep) -> tuple[list[str], list[str]]:
    """`--set` overrides that make paths absolute, and notes on paths; raises ConfigError."""
    overrides, notes, problems = [], [], []
    for key, prefix, written in _paths(loaded.sweep.corpus):
        path = written.expanduser()
        is_here = path.exists()
        if not path.is_absolute() and not is_here:
            problems.append(
                Problem(
                    key,
                    "a relative path to what is not on this machine; expected the absolute path "
                    "by which the cluster's nodes see it",
                )
            )
            continue
        if path != written or not path.is_absolute():
            value = json.dumps(f"{prefix}{path.absolute()}")  # JSON is YAML
            overrides.append(f"{'.'.join(map(str, key))}={value}")
        where = "shared" if is_here else "not on this machine"
        notes.append(f"{path.absolute()} ({where}): every node of the cluster must see it there")
    if problems:
        raise ConfigError(loaded.document.describe(problems))
    return overrides, notes


def _paths(corpus: CorpusChoice) -> Iterator[tuple[KeyPath, str, Path]]:
    """Key of each path that a sweep file names, what precedes it in the value, and the path."""
    kind, colon, rest = corpus.source.partition(":")
    if kind in FILE_SOURCES and rest:
        yield ("corpus", "source"), kind + colon, Path(rest)
    tokenizer = Path(corpus.tokenizer).expanduser()
    if corpus.tokenizer == BYTES:
        return
    if tokenizer.suffix == ".json" or tokenizer.is_absolute() or tokenizer.exists():
        yield ("corpus", "tokenizer"), "", Path(corpus.tokenizer)
