"""Model sizes: rungs, the ladder that finds one for any size, and exact parameter counts."""

import functools
import math
from dataclasses import dataclass, replace
from typing import Literal

BackboneName = Literal["gidd", "dit"]
"""Published network: that of arXiv 2512.10858, or of arXiv 2602.15014."""

# A size asked for may differ from its nearest rung by this share of itself, not more.
LARGEST_SIZE_MISMATCH = 0.15


@dataclass(frozen=True)
class Rung:
    """One model size of the ladder."""

    n_layers: int
    width: int
    n_heads: int

    def __post_init__(self) -> None:
        if min(self.n_layers, self.width, self.n_heads) < 1:
            raise ValueError(f"layers, width and heads must be at least 1, got {self}")
        if self.width % (2 * self.n_heads):
            raise ValueError(
                f"width {self.width} must be an even multiple of heads {self.n_heads}: "
                "rotary embeddings turn pairs of channels"
            )

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.width // self.n_heads


@dataclass(frozen=True)
class ParameterGroups:
    """Numbers of parameters by role. Every convention for "model size" is a sum of these."""

    trunk: int
    """Blocks and final norm, without conditioning: what most call non-embedding parameters."""
    embedding: int
    """Input table, one row per token id and per extra input id."""
    head: int
    """Output table, and its bias where there is one."""
    conditioning: int = 0
    """What turns a noise level into shifts, scales and gates; zero for a network without it."""

    @property
    def total(self) -> int:
        """All parameters."""
        return self.trunk + self.embedding + self.head + self.conditioning


PARAMS_CONVENTIONS = ("trunk", "trunk+head", "total-embedding", "total")


def params_by_convention(groups: ParameterGroups, convention: str) -> int:
    """Model size under one of PARAMS_CONVENTIONS; raises ValueError for an unknown name."""
    sizes = {
        "trunk": groups.trunk,
        "trunk+head": groups.trunk + groups.head,
        # The size axis of the figures of arXiv 2602.15014.
        "total-embedding": groups.total - groups.embedding,
        "total": groups.total,
    }
    if convention not in sizes:
        raise ValueError(f"unknown parameter convention {convention!r}, expected one of {[*sizes]}")
    return sizes[convention]


DIT_LEVEL_FEATURES = 256  # cosines and sines of the noise level that the `dit` network is given
DIT_CONDITION_WIDTH = 128  # channels from which its layers compute shifts, scales and gates


def parameter_groups(
    rung: Rung, vocab_size: int, extra_input_ids: int, backbone: BackboneName = "gidd"
) -> ParameterGroups:
    """Exact counts for a published network; for `gidd` the "real" ones of arXiv 2512.10858."""
    d, c = rung.width, DIT_CONDITION_WIDTH
    embedding, head = (vocab_size + extra_input_ids) * d, vocab_size * d
    # `backbone.py` builds what is counted here; a test holds the two together.
    # Per layer 12 d² in projections and MLP; one final norm.
    if backbone == "gidd":
        # 11 d: two norms, query and key norms, MLP biases (4d + d), key and value of the sink.
        return ParameterGroups(rung.n_layers * (12 * d**2 + 11 * d) + d, embedding, head)
    # 7 d: two norms and MLP biases. From c there are linear maps to the 6 d shifts, scales and
    # gates of each layer and the 2 d of the final norm. (The "non-embedding" count of arXiv
    # 2602.15014 leaves out V d more.)
    level_mlp = (DIT_LEVEL_FEATURES + 1) * c + (c + 1) * c
    return ParameterGroups(
        trunk=rung.n_layers * (12 * d**2 + 7 * d) + d,
        embedding=embedding,
        head=head + vocab_size,
        conditioning=level_mlp + (c + 1) * (6 * d * rung.n_layers + 2 * d),
    )


def rung_of_width(width: int) -> Rung:
    """The ladder's best-proportioned rung of a given even width."""
    # Layers follow the five sizes of arXiv 2512.10858 (8 × 512 … 16 × 1024, 20 × 1536).
    if width <= 1024:
        n_layers = max(2, round(width / 64))
    else:
        n_layers = 16 + round((width - 1024) / 128)
    # At width 32 two heads of 16 ended 0.024 nats per token below one of 32 (one seed).
    head_width = 16 if width < 128 else 32 if width < 256 else 64 if width <= 1024 else 128
    divisors = [n for n in range(1, width // 2 + 1) if width % (2 * n) == 0]
    n_heads = min(divisors, key=lambda n: abs(math.log(width / n / head_width)))
    return Rung(n_layers=n_layers, width=width, n_heads=n_heads)


@functools.cache
def ladder() -> tuple[Rung, ...]:
    """All rungs of the formula ladder, from about 2 thousand to 11 billion trunk parameters."""
    steps = [(8, 64, 2), (64, 128, 8), (128, 256, 16), (256, 512, 32), (512, 1024, 64)]
    steps.append((1024, 4609, 128))
    best = [rung_of_width(width) for step in steps for width in range(*step)]
    # Widths alone would leave steps of up to a factor of two.
    others = [
        replace(rung, n_layers=rung.n_layers + more)
        for rung in best
        for more in (-1, 1)
        if rung.width >= 128 and rung.n_layers + more >= 2
    ]
    return tuple(sorted([*best, *others], key=trunk_params))


def trunk_params(rung: Rung) -> int:
    """Trunk parameters of a rung in the `gidd` network; the size that sweep files speak of."""
    return parameter_groups(rung, vocab_size=0, extra_input_ids=0).trunk


def nearest_rung(size: float) -> Rung:
    """The rung whose trunk is nearest, in log, to `size` parameters; raises ValueError if far."""
    rungs = ladder()
    best = min(rungs, key=lambda rung: abs(math.log(trunk_params(rung) / size)))
    if abs(trunk_params(best) / size - 1) > LARGEST_SIZE_MISMATCH:
        smallest, largest = trunk_params(rungs[0]), trunk_params(rungs[-1])
        raise ValueError(
            f"no rung within {LARGEST_SIZE_MISMATCH:.0%} of {size:,.0f} trunk parameters; the "
            f"nearest has {trunk_params(best):,} and the ladder spans {smallest:,} to {largest:,}"
        )
    return best
