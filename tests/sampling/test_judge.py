"""What a judge says of sequences, and of whose."""

import pytest
import torch

from sweeper.errors import ConfigError
from sweeper.families import load_family
from sweeper.networks.backbone import Backbone, BackboneDenoiser
from sweeper.sampling.judge import NetworkJudge, hidden_states, require_another
from sweeper.trials.ladder import Rung

V, CPU = 5, torch.device("cpu")


def judge_of(name: str = "ar") -> NetworkJudge:
    family = load_family(name, vocab_size=V)
    backbone = Backbone(Rung(1, 8, 1), V, 1, family.needs.attention)
    rng = torch.Generator().manual_seed(0)
    backbone.initialize(rng)
    with torch.no_grad():
        backbone.head.normal_(generator=rng)
    return NetworkJudge("the judge", "f00", family, BackboneDenoiser(backbone, "float32"), CPU)


def test_nats_are_those_of_the_family_and_features_those_of_the_head() -> None:
    judge = judge_of()
    ids_NL = torch.randint(V, (70, 6), generator=torch.Generator().manual_seed(1))
    found = judge.judge(ids_NL, 2)
    with torch.no_grad(), hidden_states(judge.denoiser.backbone) as hidden:
        batch = judge.family.noisy_batch(ids_NL, torch.Generator())
        nll_NL = judge.family.loss(judge.denoiser, batch)
    torch.testing.assert_close(
        torch.from_numpy(found.nats_N), nll_NL[:, 2:].double().sum(1), rtol=1e-5, atol=1e-5
    )
    assert found.tokens == 70 * 4
    torch.testing.assert_close(
        torch.from_numpy(found.features_ND), hidden[0][:, 2:].double().mean(1), rtol=1e-5, atol=1e-6
    )


def test_a_judge_never_judges_itself() -> None:
    judge = judge_of()
    with pytest.raises(ConfigError, match="the judge would judge its own samples"):
        require_another(judge, "f00")
    require_another(judge, "f01")


def test_only_a_likelihood_judges() -> None:
    with pytest.raises(ConfigError, match="gives a bound, not a likelihood"):
        judge_of("masked")
