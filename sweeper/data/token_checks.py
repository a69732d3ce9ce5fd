"""What gives away that token files are not what their `meta.json` says, from evenly spread blocks.

Neither needs more than these blocks, whatever the size of the files.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sweeper.data.tokens import BLOCK_TOKENS, N_BLOCKS, spread_blocks

NUMPY_MAGIC = b"\x93NUMPY"
MIN_TOKENS = 64
"""Fewer say nothing of how ids are stored."""
PADDING_SHARE = 0.99
"""Share of 0 and 1 among the upper parts of wider ids; text has far fewer of any two ids."""
WINDOW, N_PASSAGES = 256, 64
"""Tokens of a passage, and how many passages are looked for."""


def storage_problem(path: Path, tokens: np.ndarray, vocab_size: int) -> str:
    """How ids are stored, if not as `tokens` reads them; empty if all seem right."""
    with path.open("rb") as file:
        if file.read(len(NUMPY_MAGIC)) == NUMPY_MAGIC:
            return "is a NumPy file; expected the ids alone: write numpy.load(FILE).tofile(…)"
    for start, block in spread_blocks(tokens):
        if block.max() >= vocab_size:
            at = int((block >= vocab_size).argmax())
            cause = "meta.json belongs to other files, or names another dtype"
            if other := _fitting_type(tokens, vocab_size):
                cause = f"read as {other} all ids are less, so its dtype is wrong"
            return (
                f"holds the id {block[at]} at token {start + at}; expected less than vocab_size "
                f"{vocab_size}: {cause}"
            )
    return _padding_problem(tokens)


def _padding_problem(tokens: np.ndarray) -> str:
    """Ids of 2 or 4 times the bytes have almost only zeros in their upper parts."""
    item_bytes = tokens.dtype.itemsize
    for factor in (4, 2):
        whole = [block[: len(block) // factor * factor] for _, block in _aligned(tokens, factor)]
        parts = np.concatenate(whole).reshape(-1, factor) if whole else np.empty((0, factor))
        if len(parts) < MIN_TOKENS:
            continue
        share_of_small = (parts <= 1).mean(axis=0)
        if share_of_small[0] < 0.5 and (share_of_small[1:] > PADDING_SHARE).all():
            wide = np.dtype(f"<u{min(8, factor * item_bytes)}")
            ids = np.ascontiguousarray(parts[:3]).view(wide).ravel().tolist()
            return (
                f"has 0 or 1 at {share_of_small[1:].min():.0%} of the places between every "
                f"{'second' if factor == 2 else 'fourth'} id: it holds ids of "
                f"{factor * item_bytes} bytes, the first {ids}; expected ids of {item_bytes} "
                "bytes: mend dtype in meta.json, or write them as it says"
            )
    return ""


def _aligned(tokens: np.ndarray, factor: int) -> Iterator[tuple[int, np.ndarray]]:
    """Spread blocks that start at a multiple of `factor`."""
    for start, block in spread_blocks(tokens):
        skipped = -start % factor
        yield start + skipped, block[skipped:]


def _fitting_type(tokens: np.ndarray, vocab_size: int) -> str:
    """Another type by which all ids that are looked at are in the vocabulary; empty if none is."""
    names = {
        "<u1": "uint8",
        "<u2": "uint16",
        "<u4": "uint32",
        ">u2": "big-endian uint16",
        ">u4": "big-endian uint32",
        "<i8": "int64",
    }
    blocks = [np.ascontiguousarray(block) for _, block in _aligned(tokens, 8)]
    for code, name in names.items():
        kind = np.dtype(code)
        if kind == tokens.dtype or vocab_size - 1 > np.iinfo(kind).max:
            continue
        whole = [block.view("u1") for block in blocks]
        views = [part[: len(part) // kind.itemsize * kind.itemsize].view(kind) for part in whole]
        if all(view.size and 0 <= view.min() <= view.max() < vocab_size for view in views):
            return name
    return ""


def overlap_problem(train: np.ndarray, validation: np.ndarray) -> str:
    """How validation repeats training data; empty where nothing shows it.

    Finds validation that is train, its beginning or its end, or holds train so; and, of files short
    enough to be read whole, validation from anywhere in train.
    """
    shorter, longer = sorted((train, validation), key=len)
    n = len(shorter)
    if all(block.min() == block.max() for _, block in spread_blocks(shorter)):
        return ""  # no content that could tell
    names = ("train.bin", "validation.bin")
    inner, outer = names if shorter is train else names[::-1]
    places = {0: "the first", len(longer) - n: "the last"}
    for offset, where in places.items():
        same = (
            np.array_equal(block, longer[offset + start : offset + start + len(block)])
            for start, block in spread_blocks(shorter)
        )
        if all(same):
            if len(longer) == n:
                return f"both hold the same {n:,} ids"
            return f"the {n:,} ids of {inner} are {where} of the {len(longer):,} of {outer}"
    return _shared_passages(shorter, longer, (inner, outer))


def _shared_passages(shorter: np.ndarray, longer: np.ndarray, names: tuple[str, str]) -> str:
    """Whether passages spread over the shorter part stand anywhere in the longer one."""
    window = min(WINDOW, len(shorter))
    if len(longer) > N_BLOCKS * BLOCK_TOKENS or window < MIN_TOKENS:
        return ""
    text = np.ascontiguousarray(longer).tobytes()
    starts = np.unique(np.linspace(0, len(shorter) - window, N_PASSAGES, dtype=np.int64))
    passages = [shorter[start : start + window] for start in starts]
    telling = [passage for passage in passages if passage.min() < passage.max()]
    n_found = sum(np.ascontiguousarray(passage).tobytes() in text for passage in telling)
    if 2 * n_found < len(passages):
        return ""
    return (
        f"{n_found} of {len(passages)} passages of {window} ids, spread over {names[0]}, are in "
        f"{names[1]}, too"
    )
