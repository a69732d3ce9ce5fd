"""Split texts into train and validation so that no validation text occurs in training.

Copies beyond the first are dropped. Texts that share a passage of 256 bytes stay together: whole
groups fall on one side, in the order of their digests, whatever the files are called. Shorter
passages (an import block, an idiom) do occur on both sides.
"""

import hashlib
import logging
from dataclasses import dataclass

import numpy as np

from sweeper.data.near_duplicates import PASSAGE_BYTES, group_texts, passages
from sweeper.data.tokens import VALIDATION_SHARE

logger = logging.getLogger(__name__)

LEAST_VALIDATION_SHARE = 0.01
SEPARATOR = b"\0"  # ends every text at byte level: text itself holds no zero byte


@dataclass(frozen=True)
class SplitTexts:
    """Train and validation texts."""

    train: list[bytes]
    validation: list[bytes]
    is_cut: bool = False
    """The last texts of both are one text that was cut, perhaps within a character."""


def split_texts(source: str, texts: list[bytes]) -> SplitTexts:
    """Texts without copies, about 5 % of the bytes, in whole texts, in validation."""
    kept: dict[bytes, bytes] = {}
    for text in texts:
        digest = hashlib.blake2b(normalised(text), digest_size=16).digest()
        # Of copies that differ in white space keep the least, whichever was read first.
        kept[digest] = min(kept.get(digest, text), text)
    unique = [kept[digest] for digest in sorted(kept)]
    groups = [[0]]
    if len(unique) > 1:  # a single one is often large, and there is nothing to compare it with
        groups = group_texts([passages(normalised(text)) for text in unique])
    logger.info(
        "corpus %s: %d texts in %d groups that share no passage; dropped %d copies",
        source,
        len(unique),
        len(groups),
        len(texts) - len(unique),
    )
    sizes = [len(text) for text in unique]
    held_out = _held_out(sizes, groups)
    if held_out:
        return _by_text(unique, held_out)
    # Nearly all texts share passages (one licence header suffices): split them as if they did not.
    held_out = _held_out(sizes, [[index] for index in range(len(unique))])
    split = _by_text(unique, held_out) if held_out else _by_cut(source, unique)
    why = "most of the texts share some" if len(unique) > 1 else "this one text was cut in two"
    _warn_of_shared_passages(source, split, why)
    return split


def normalised(text: bytes) -> bytes:
    """A text with plain line ends and without white space at the end of lines."""
    tokens = np.frombuffer(text, dtype=np.uint8)
    last_of_lines = tokens[:-1][tokens[1:] == ord("\n")]
    if b"\r" not in text and not any((last_of_lines == blank).any() for blank in b" \t\v\f"):
        return text.rstrip()  # the same, without a list of all lines
    return b"\n".join([line.rstrip() for line in text.splitlines()]).rstrip()


def _held_out(sizes: list[int], groups: list[list[int]]) -> set[int]:
    """Those groups, in order, that fit into the validation share; empty if they are too little."""
    n_left = VALIDATION_SHARE * sum(sizes)
    held_out: set[int] = set()
    for group in groups:
        size = sum(sizes[index] for index in group)
        if size <= n_left:
            held_out.update(group)
            n_left -= size
    share = sum(sizes[index] for index in held_out) / sum(sizes)
    return held_out if share >= LEAST_VALIDATION_SHARE else set()


def _by_text(texts: list[bytes], held_out: set[int]) -> SplitTexts:
    train = [text for index, text in enumerate(texts) if index not in held_out]
    return SplitTexts(train, [texts[index] for index in sorted(held_out)])


def _by_cut(source: str, texts: list[bytes]) -> SplitTexts:
    longest = max(texts, key=len)
    n_validation = min(len(longest) // 2, round(VALIDATION_SHARE * sum(map(len, texts))))
    cut = len(longest) - n_validation
    logger.info(
        "corpus %s: too few files to hold some out; the last %d of the %d bytes of the longest "
        "file validate",
        source,
        n_validation,
        len(longest),
    )
    others = [text for text in texts if text is not longest]
    return SplitTexts([*others, longest[:cut]], [longest[cut:]], is_cut=True)


def _warn_of_shared_passages(source: str, split: SplitTexts, why: str) -> None:
    train, validation = (SEPARATOR.join(texts) for texts in (split.train, split.validation))
    hashes = passages(normalised(validation))
    is_shared = np.isin(hashes, passages(normalised(train)))
    if is_shared.any():
        percent = 100 * is_shared.mean()
        logger.warning(
            "corpus %s: %s %% of the validation passages of %d bytes also occur in training, "
            "because %s: remove what repeats, or expect low losses",
            source,
            f"{percent:.1f}" if percent >= 0.05 else "less than 0.1",
            PASSAGE_BYTES,
            why,
        )
