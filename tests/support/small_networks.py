"""Networks of random weights, away from the zeros of initialisation."""

import torch

from sweeper.families.base import AbstractFamily
from sweeper.networks.backbone import Backbone
from sweeper.trials.ladder import BackboneName, Rung


def network(family: AbstractFamily, architecture: BackboneName = "gidd") -> Backbone:
    """Two layers in float64.

    Its logits are scaled to differ by about one between inputs, so that samples depend on them.
    """
    needs, rng = family.needs, torch.Generator().manual_seed(0)
    n_tokens = family.vocab_size
    backbone = Backbone(
        Rung(2, 16, 2), n_tokens, needs.extra_input_ids, needs.attention, architecture
    )
    backbone.initialize(rng)
    with torch.no_grad():
        for parameter in backbone.parameters():
            noise = torch.randn(parameter.shape, generator=rng)
            parameter.add_(noise / parameter.shape[-1] ** 0.5)
        ids_BN = torch.arange(n_tokens).expand(3, n_tokens)
        backbone.head.div_(backbone(ids_BN, torch.zeros(3)).std(dim=1).mean())
    return backbone.double()
