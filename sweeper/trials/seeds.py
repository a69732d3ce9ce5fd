"""Random streams by purpose: resuming needs no state, and no draw shifts another."""

import hashlib

import torch


def generator(seed: int, purpose: str, *indices: int) -> torch.Generator:
    """A CPU generator for one purpose, for instance ("corruption", step)."""
    text = "/".join([str(seed), purpose, *map(str, indices)])
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
