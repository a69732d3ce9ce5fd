"""What a corpus source means: which text or synthetic tokens, and what tells when they change."""

import hashlib
import logging
import shutil
import tempfile
from functools import partial
from pathlib import Path

from sweeper.data.cache import cached
from sweeper.data.documents import holds_rows, read_documents
from sweeper.data.hub import parse_hub, stream_texts, write_texts
from sweeper.data.split import split_texts
from sweeper.data.synthetic import generate, parse_synthetic
from sweeper.data.text_files import (
    ANY_TEXT,
    INSTALLED_FOLDER,
    PYTHON_SOURCES,
    STDLIB_FOLDER,
    STDLIB_SOURCES,
    FileRule,
    list_files,
    read_texts,
)
from sweeper.data.token_files import read_token_folder
from sweeper.data.tokenizer import encode_split, load_tokenizer, tokenizer_identity
from sweeper.data.tokens import SplitTokens, sampled_fingerprint
from sweeper.errors import IN_BRACKETS, DataError, did_you_mean
from sweeper.trials.text_options import AS_BYTES, TextOptions

logger = logging.getLogger(__name__)

FORMAT = 2  # bumped by hand whenever the same source would give other tokens: it ends old caches

NO_COLUMNS = (
    "has no columns; expected rows of JSON, CSV or Parquet that have it: leave text_column out"
)

SOURCES = "stdlib, installed, path:FILE_OR_FOLDER, tokens:FOLDER, synthetic:markov or synthetic:iid"
_KNOWN = ("stdlib", "installed", "path:", "tokens:", "synthetic:markov", "synthetic:iid")


def load_tokens(
    source: str, cache_folder: Path | None, options: TextOptions
) -> tuple[SplitTokens, str]:
    """The tokens a source names and their fingerprint; raises DataError where there are none."""
    kind, _, rest = source.partition(":")
    if source == "stdlib":
        return _text(source, STDLIB_FOLDER, STDLIB_SOURCES, AS_BYTES, cache_folder)
    if source == "installed":
        return _text(source, INSTALLED_FOLDER, PYTHON_SOURCES, AS_BYTES, cache_folder)
    if kind == "path":
        path = _path(source, rest, "a text file or folder")
        return _text(source, path, ANY_TEXT, options, cache_folder)
    if kind == "tokens":
        return _mapped(source, _path(source, rest, "a folder of tokens"))
    if source.startswith("synthetic:"):
        synthetic = parse_synthetic(source)
        return cached(cache_folder, _key(repr(synthetic)), partial(generate, synthetic))
    if kind == "hf":
        if cache_folder is not None:
            return _streamed(source, options, cache_folder)
        with tempfile.TemporaryDirectory() as temporary:  # the maps outlive the names of files
            return _streamed(source, options, Path(temporary))
    hint = did_you_mean(source, _KNOWN, IN_BRACKETS)
    if ("/" in source or "." in source) and Path(source).exists():
        hint = f" (did you mean 'path:{source}'?)"
    raise DataError(f"corpus {source!r}: unknown source{hint}; expected {SOURCES}")


def reads_rows(source: str, options: TextOptions) -> bool:
    """Whether `text_column` has a meaning for a source; raises DataError as `load_tokens` does."""
    kind, _, rest = source.partition(":")
    if kind != "path":
        return kind == "hf"
    files = list_files(source, _path(source, rest, "a text file or folder"), ANY_TEXT)
    return holds_rows(source, files, options.text_column)


def _text(
    source: str, root: Path, rule: FileRule, options: TextOptions, cache_folder: Path | None
) -> tuple[SplitTokens, str]:
    files = list_files(source, root, rule)
    how: tuple[str, ...] = ()
    if options != AS_BYTES:
        how = (tokenizer_identity(source, options.tokenizer), options.text_column)
    stamps = [f"{file.name} {file.size_bytes} {file.mtime_ns} {file.ctime_ns}" for file in files]

    def read() -> SplitTokens:
        tokenizer = load_tokenizer(source, options.tokenizer)
        if rule == ANY_TEXT and holds_rows(source, files, options.text_column):
            texts = read_documents(source, files, options.text_column)
        elif options.text_column != AS_BYTES.text_column:
            raise DataError(
                f"corpus {source!r}: text_column is {options.text_column!r}, but "
                f"{files[0].name!r} {NO_COLUMNS}"
            )
        else:
            texts = read_texts(source, files)
        return encode_split(split_texts(source, texts), tokenizer)

    return cached(cache_folder, _key(str(root.resolve()), *stamps, *how), read)


def _streamed(source: str, options: TextOptions, cache_folder: Path) -> tuple[SplitTokens, str]:
    dataset = parse_hub(source)
    identity = tokenizer_identity(source, options.tokenizer)
    key = _key(repr(dataset), identity, options.text_column, f"{options.max_tokens} tokens")
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


def _mapped(source: str, folder: Path) -> tuple[SplitTokens, str]:
    tokens = read_token_folder(source, folder)
    return tokens, sampled_fingerprint(tokens)


def _key(*parts: str) -> str:
    """Changes whenever loading would give other tokens; may also change when it would not."""
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
