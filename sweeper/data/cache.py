"""Keep the tokens of a source on disk, as memory maps that workers of one machine share."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from sweeper.data.tokens import SplitTokens, fingerprint
from sweeper.store import files

logger = logging.getLogger(__name__)

# What numpy and the JSON reader raise at files that are missing, torn or foreign.
_DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError)


def cached(
    folder: Path | None, key: str, build: Callable[[], SplitTokens]
) -> tuple[SplitTokens, str]:
    """The tokens kept under `key`, or else those that `build` makes, and their fingerprint."""
    if folder is None:  # nothing is kept
        tokens = build()
        return tokens, fingerprint(tokens)
    # Entries of files that have changed since stay until someone deletes the folder: that is safe.
    entry = folder / f"{key}.json"
    if entry.exists():
        try:
            return _load(folder, key)
        except _DAMAGE as error:
            logger.warning("cache entry %s is damaged and will be rebuilt: %s", entry, error)
    tokens = build()
    digest = fingerprint(tokens)
    try:
        _store(folder, key, tokens, digest)
        return _load(folder, key)  # so that this process shares pages, too
    except _DAMAGE as error:
        logger.warning("cannot keep the corpus in %s, reading it each time: %s", folder, error)
        return tokens, digest


def _load(folder: Path, key: str) -> tuple[SplitTokens, str]:
    facts = files.read_json(folder / f"{key}.json")
    tokens = SplitTokens(
        train=np.load(folder / f"{key}.train.npy", mmap_mode="r"),
        validation=np.load(folder / f"{key}.validation.npy", mmap_mode="r"),
        vocab_size=facts["vocab_size"],
        bytes_per_token=facts["bytes_per_token"],
    )
    digest = fingerprint(tokens)
    if digest != facts["fingerprint"]:
        raise ValueError(f"its tokens have fingerprint {digest}, not {facts['fingerprint']}")
    return tokens, digest


def _store(folder: Path, key: str, tokens: SplitTokens, digest: str) -> None:
    facts = {
        "fingerprint": digest,
        "vocab_size": tokens.vocab_size,
        "bytes_per_token": tokens.bytes_per_token,
    }
    files.replace_with(folder / f"{key}.train.npy", partial(_save, tokens.train))
    files.replace_with(folder / f"{key}.validation.npy", partial(_save, tokens.validation))
    files.replace(folder / f"{key}.json", files.to_json(facts))  # last: with it the entry exists


def _save(part: np.ndarray, path: Path) -> None:
    with path.open("xb") as file:  # given a path, numpy would append another suffix
        np.save(file, part)
