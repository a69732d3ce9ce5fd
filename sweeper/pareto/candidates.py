"""The trained models of a results folder, as the grid chooses among them."""

from pathlib import Path

import torch

from sweeper.families import family_of
from sweeper.models.config import read_config
from sweeper.models.kept import kept_models
from sweeper.pareto.grid import Candidate, JudgeChoice
from sweeper.sampling.judge import load_hugging_face_judge
from sweeper.store.layout import Store


def candidates(store: Store) -> tuple[Candidate, ...]:
    """Every model that is kept."""
    found = []
    for kept in kept_models(store):
        config = read_config(kept.path)
        family = family_of(config.trial)
        found.append(
            Candidate(
                series=kept.label,
                family=kept.family,
                trial_id=kept.trial_id,
                trajectory_id=config.trial.trajectory_id,
                weights=config.weights_sha256[:12],
                folder="/".join(str(kept.path).split("/")[-3:]),
                budget_flops=kept.budget_flops,
                bound_nats_per_token=kept.bound_nats_per_token,
                samplers=tuple(family.samplers),
                is_exact=family.is_exact,
            )
        )
    return tuple(found)


def named_judge(folder: Path) -> JudgeChoice:
    """A judge from a Hugging Face model folder, which is loaded once to see that it can be."""
    loaded = load_hugging_face_judge(folder, str, torch.device("cpu"))
    return JudgeChoice(name=loaded.name, revision=loaded.revision, folder=str(folder.resolve()))
