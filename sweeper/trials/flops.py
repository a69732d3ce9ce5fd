"""Training FLOPs per token, exactly, and every convention for quoting them."""

from dataclasses import dataclass

from sweeper.trials.ladder import DIT_CONDITION_WIDTH, DIT_LEVEL_FEATURES, BackboneName, Rung

# Forward plus backward, in units of the forward: backward multiplies twice for each product.
BACKWARD_FACTOR = 3


@dataclass(frozen=True)
class FlopsPerToken:
    """Training FLOPs (forward + backward) per token of data, by group."""

    trunk: float
    """Projections and MLPs of all layers, and conditioning on the noise level."""
    attention: float
    """Query–key and weight–value products of all layers."""
    head: float
    """Output logits."""

    @property
    def total(self) -> float:
        """Every matrix product: the convention `full`."""
        return self.trunk + self.attention + self.head


def flops_per_token(
    rung: Rung,
    context_tokens: int,
    vocab_size: int,
    doubled_share: float = 0.0,
    backbone: BackboneName = "gidd",
) -> FlopsPerToken:
    """Training FLOPs per token of data for one rung.

    `doubled_share` is what a family declares: the share of training sequences that the network
    reads at twice their length, which costs trunk and head twice and attention four times.
    """
    d, n_layers = rung.width, rung.n_layers
    twice, four_times = 1 + doubled_share, 1 + 3 * doubled_share
    conditioning = 0.0
    if backbone == "dit":
        # From the noise level of a sequence to the modulations, once per sequence: training gives
        # each one level (or the constant 0).
        c = DIT_CONDITION_WIDTH
        rest = c * c + c * (6 * d * n_layers + 2 * d)
        # The features of the level need no gradient: the first product has one in its backward.
        first = (BACKWARD_FACTOR - 1) * DIT_LEVEL_FEATURES * c
        conditioning = 2 * (first + BACKWARD_FACTOR * rest) / context_tokens
    return FlopsPerToken(
        # 12 d² weights per layer, two FLOPs each: a FLOP is one addition or multiplication, so a
        # matrix product of (m, k) and (k, n) has 2·m·k·n.
        trunk=BACKWARD_FACTOR * twice * 24 * d**2 * n_layers + conditioning,
        # In full for causal and bidirectional patterns alike, as `torch.utils.flop_counter` counts;
        # a causal kernel may skip half of it.
        attention=BACKWARD_FACTOR * four_times * 4 * context_tokens * d * n_layers,
        head=BACKWARD_FACTOR * twice * 2 * d * vocab_size,
    )


FLOPS_CONVENTIONS = ("full", "6N", "6N+attention", "no-attention")


def flops_by_convention(groups: FlopsPerToken, params_trunk: float, convention: str) -> float:
    """Training FLOPs per token under one of FLOPS_CONVENTIONS; raises ValueError for others."""
    counts = {
        "full": groups.total,
        # Methods 2 and 1 of arXiv 2512.10858.
        "6N": 6 * params_trunk,
        "6N+attention": 6 * params_trunk + groups.attention,
        # As arXiv 2602.15014 counts.
        "no-attention": groups.trunk + groups.head,
    }
    if convention not in counts:
        raise ValueError(f"unknown FLOPs convention {convention!r}, expected one of {[*counts]}")
    return counts[convention]
