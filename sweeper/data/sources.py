"""What a corpus source means: which text or synthetic tokens, and what tells when they change."""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sweeper.data.cache import cached
from sweeper.data.documents import holds_documents, read_documents
from sweeper.data.hub import HubDataset, parse_hub, stream_texts, write_texts
from sweeper.data.split import split_texts
from sweeper.data.synthetic import generate, parse_synthetic
from sweeper.data.text_files import (
    ANY_TEXT,
    PYTHON_SOURCES,
    STDLIB_SOURCES,
    FileRule,
    ListedFile,
    installed_folder,
    list_files,
    read_texts,
    stdlib_folder,
)
from sweeper.data.token_files import read_token_folder
from sweeper.data.tokenizer import encode_split, load_tokenizer, tokenizer_identity
from sweeper.data.tokens import SplitTokens, fingerprint, sampled_fingerprint
from sweeper.errors import IN_BRACKETS, DataError, did_you_mean
from sweeper.trials.text_options import AS_BYTES, TextOptions

logger = logging.getLogger(__name__)

FORMAT = 1
"""Bumped by hand whenever the same source would give other tokens: it ends old caches."""

SOURCES = "stdlib, installed, path:FILE_OR_FOLDER, tokens:FOLDER, synthetic:markov or synthetic:iid"
_KNOWN = ("stdlib", "installed", "path:", "tokens:", "synthetic:markov", "synthetic:iid")


@dataclass(frozen=True)
class FoundSource:
    """A source that exists, not yet read."""

    key: str
    """Changes whenever loading would give other tokens; may also change when it would not."""
    load: Callable[[Path | None], tuple[SplitTokens, str]]
    """The tokens and their fingerprint, kept in a cache folder where one is given."""


def find_source(source: str, options: TextOptions = AS_BYTES) -> FoundSource:
    """Look up what a source names; raises DataError where there is no such thing."""
    kind, _, rest = source.partition(":")
    if source == "stdlib":
        return _text(source, stdlib_folder(), STDLIB_SOURCES, AS_BYTES)
    if source == "installed":
        return _text(source, installed_folder(), PYTHON_SOURCES, AS_BYTES)
    if kind == "path":
        return _text(source, _path(source, rest, "a text file or folder"), ANY_TEXT, options)
    if kind == "tokens":
        folder = _path(source, rest, "a folder of tokens")
        return FoundSource(_key(str(folder.resolve())), lambda _cache: _mapped(source, folder))
    if source.startswith("synthetic:"):
        synthetic = parse_synthetic(source)
        return _in_memory(_key(repr(synthetic)), partial(generate, synthetic))
    if kind == "hf":
        return _streamed(source, parse_hub(source), options)
    hint = did_you_mean(source, _KNOWN, IN_BRACKETS)
    if ("/" in source or "." in source) and Path(source).exists():
        hint = f" (did you mean 'path:{source}'?)"
    raise DataError(f"corpus {source!r}: unknown source{hint}; expected {SOURCES}")


def _text(source: str, root: Path, rule: FileRule, options: TextOptions) -> FoundSource:
    files = list_files(source, root, rule)
    others = [file.name for file in files if not holds_documents(file)]
    if others and len(others) < len(files):
        raise DataError(
            f"corpus {source!r}: {len(files) - len(others)} JSONL or Parquet files beside "
            f"{len(others)} others, the first {others[0]!r}; expected one kind: name the file or "
            "folder that holds the data alone"
        )
    if options.text_column != AS_BYTES.text_column and not holds_documents(files[0]):
        raise DataError(
            f"corpus {source!r}: text_column is {options.text_column!r}, but {files[0].name!r} has "
            "no columns; expected .jsonl, .jsonl.gz or .parquet files: leave text_column out"
        )
    how: tuple[str, ...] = ()
    if options != AS_BYTES:
        how = (tokenizer_identity(source, options.tokenizer), options.text_column)
    stamps = [f"{file.name} {file.size_bytes} {file.mtime_ns} {file.ctime_ns}" for file in files]
    key = _key(str(root.resolve()), *stamps, *how)
    return _in_memory(key, partial(_read, source, files, options))


def _streamed(source: str, dataset: HubDataset, options: TextOptions) -> FoundSource:
    identity = tokenizer_identity(source, options.tokenizer)
    key = _key(repr(dataset), identity, options.text_column, f"{options.max_tokens} tokens")

    def load(cache_folder: Path | None) -> tuple[SplitTokens, str]:
        if cache_folder is None:
            # The maps outlive the names of their files.
            with tempfile.TemporaryDirectory() as temporary:
                return load(Path(temporary))
        folder = cache_folder / f"{key}.tokens"
        if folder.exists():
            try:
                return _mapped(source, folder)
            except DataError as error:
                logger.warning("cache entry %s is damaged and will be rebuilt: %s", folder, error)
                shutil.rmtree(folder)
        tokenizer = load_tokenizer(source, options.tokenizer)
        texts = stream_texts(source, dataset, options.text_column)
        write_texts(f"corpus {source!r}", folder, texts, tokenizer, options.max_tokens)
        return _mapped(source, folder)

    return FoundSource(key, load)


def _mapped(source: str, folder: Path) -> tuple[SplitTokens, str]:
    tokens = read_token_folder(source, folder)
    return tokens, sampled_fingerprint(tokens)


def _in_memory(key: str, read: Callable[[], SplitTokens]) -> FoundSource:
    def load(cache_folder: Path | None) -> tuple[SplitTokens, str]:
        if cache_folder is not None:
            return cached(cache_folder, key, read)
        tokens = read()
        return tokens, fingerprint(tokens)

    return FoundSource(key, load)


def _read(source: str, files: list[ListedFile], options: TextOptions) -> SplitTokens:
    tokenizer = load_tokenizer(source, options.tokenizer)
    if holds_documents(files[0]):
        texts = read_documents(source, files, options.text_column)
    else:
        texts = read_texts(source, files)
    return encode_split(split_texts(source, texts), tokenizer)


def _key(*parts: str) -> str:
    text = "\0".join([f"format {FORMAT}", *parts])
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=10).hexdigest()


def _path(source: str, text: str, expected: str) -> Path:
    if not text:
        kind = source.partition(":")[0]
        raise DataError(
            f"corpus {source!r}: no path; expected {expected}, such as {kind}:data/books"
        )
    if "\0" in text:
        raise DataError(f"corpus {source!r}: a path cannot hold a zero byte: remove it")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise DataError(
            f"corpus {source!r}: {error}; expected a user after '~': write the whole path"
        ) from error
