"""The verb `bench`: benchmarks of a trained model."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeper.errors import MissingPackage
from sweeper.verbs.options import json_option
from sweeper.verbs.output import TextTable, print_json, progress_on_stderr, say, show
from sweeper.verbs.samples.one_model import (
    device_option,
    loaded_to,
    model_argument,
    progress,
)

if TYPE_CHECKING:  # would load torch
    from sweeper.benchmarks.run import Benchmarks, Outcome
    from sweeper.models.config import ModelConfig


@click.command()
@model_argument
@click.option("--tasks", metavar="NAMES", help="With commas between; default: the local ones.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Documents of each task.")
@click.option("--seed", default=0, show_default=True, help="Of noise and of few-shot examples.")
@device_option
@json_option
def bench(
    model: Path,
    tasks: str | None,
    limit: int | None,
    seed: int,
    device: str | None,
    *,
    as_json: bool,
) -> None:
    """Run benchmarks of lm-eval on a trained model: a folder that a sweep kept or `export` wrote.

    ar is scored exactly, diffusion by its bound. Two small tasks need no network; others of lm-eval
    are taken by name.

    Example: sweeper bench my-model --tasks sweeper_completions,lambada_openai --limit 100
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingPackage(
            "bench: needs the package lm-eval, which is not installed: pip install 'sweeper[bench]'"
        )
    from sweeper.benchmarks.run import LOCAL_TASKS, run_benchmarks

    names = LOCAL_TASKS if tasks is None else [name.strip() for name in tasks.split(",")]
    loaded = loaded_to(device, model)
    # lm-eval and datasets print; how many questions there are nobody says beforehand.
    with progress_on_stderr(is_so=True), progress("questions", None) as after:
        found = run_benchmarks(loaded, model, names, limit=limit, seed=seed, after=after)
    if as_json:
        print_json(_answer(loaded.config, found, seed, limit))
        return
    show([_table(found.outcomes)])
    for line in _remarks(found, loaded.config):
        say(line)


def _table(outcomes: "list[Outcome]") -> TextTable:
    numbers = (
        "value",
        "stderr",
        "documents",
        "tokens",
        "draws per text",
        "draw error",
        "undecided",
    )
    table = TextTable("task", "metric", *numbers, numbers=numbers)
    for outcome in outcomes:
        tally = outcome.tally
        table.add(
            outcome.task,
            outcome.metric,
            f"{outcome.value:.4f}",
            "" if outcome.stderr is None else f"{outcome.stderr:.4f}",
            f"{outcome.n_documents:,}",
            f"{tally.tokens:,}",
            f"{tally.draws / max(1, tally.texts):.1f}",
            f"{tally.variance**0.5 / abs(tally.nats):.2%}" if tally.variance else "",
            f"{tally.undecided:,}",
        )
    return table


def _remarks(found: "Benchmarks", config: "ModelConfig") -> list[str]:
    """What the numbers are."""
    lines = [f"{config.label} {config.trial_id}: {_SCORED[found.scores]}"]
    if n_cut := sum({o.task: o.tally.cut for o in found.outcomes}.values()):
        lines.append(
            f"{n_cut:,} texts lost the beginning of their context: the model reads "
            f"{config.seq_len} tokens"
        )
    return lines


_SCORED = {
    "exact": "exact log-likelihoods",
    "bound": "minus the bound on −log p(option | context)",
    "joint bound": "minus the bound on −log p(context and option), as this family reads no clean "
    "context unless trained with prefix_share: acc is comparable, acc_norm is not",
}


def _answer(
    config: "ModelConfig", found: "Benchmarks", seed: int, limit: int | None
) -> dict[str, Any]:
    return {
        "trial_id": config.trial_id,
        "series": config.label,
        "family": config.family,
        "scores": found.scores,
        "seed": seed,
        "limit": limit,
        "results": [
            {
                "task": outcome.task,
                "metric": outcome.metric,
                "value": outcome.value,
                "stderr": outcome.stderr,
                "documents": outcome.n_documents,
                "texts": outcome.tally.texts,
                "tokens": outcome.tally.tokens,
                "draws": outcome.tally.draws,
                "undecided_questions": outcome.tally.undecided,
                "cut_contexts": outcome.tally.cut,
                "nats": outcome.tally.nats,
                "nats_stderr_of_draws": outcome.tally.variance**0.5,
            }
            for outcome in found.outcomes
        ],
    }
