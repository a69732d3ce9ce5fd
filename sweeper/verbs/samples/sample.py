"""The verb `sample`: text from a model folder."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeper.errors import ConfigError
from sweeper.verbs.options import json_option
from sweeper.verbs.output import print_json, say
from sweeper.verbs.samples.one_model import (
    device_option,
    loaded_to,
    model_argument,
    progress,
)

if TYPE_CHECKING:  # would load torch
    from sweeper.families.base import SamplingPlan
    from sweeper.models.load import Model


@click.command()
@model_argument
@click.option("--prompt", default="", metavar="TEXT", help="What the text begins with.")
@click.option("--sampler", default="ancestral", show_default=True, metavar="NAME")
@click.option("--steps", type=int, metavar="N", help="Denoising steps; default: one per token.")
@click.option("--temperature", default=1.0, show_default=True, help="0: the likeliest token.")
@click.option("--top-p", default=1.0, show_default=True, help="Mass of the likeliest tokens kept.")
@click.option("--n", "n_sequences", default=1, show_default=True, metavar="N", help="Texts.")
@click.option("--length", type=int, metavar="N", help="Tokens, prompt included; default: all.")
@click.option("--seed", default=0, show_default=True)
@device_option
@json_option
def sample(model: Path, prompt: str, **options: Any) -> None:
    """Write text with a trained model: the folder that a sweep kept or `export` wrote.

    Families with tokens as noise take a prompt only if they were trained with prefix_share.

    Example: sweeper sample model --prompt "def main" --steps 32 --top-p 0.9
    """
    loaded = loaded_to(options["device"], model)
    prompt_ids = _prompt_ids(loaded, prompt)
    plan = _plan(loaded, len(prompt_ids), options)
    ids_NL, n_calls, time_s = _sampled(loaded, prompt_ids, plan, options["seed"])
    texts = [loaded.tokenizer.decode(ids) for ids in ids_NL]
    tokens = plan.n_sequences * plan.seq_len
    if options["as_json"]:
        print_json(
            {
                "trial_id": loaded.config.trial_id,
                "series": loaded.config.label,
                "family": loaded.config.family,
                "sampler": plan.sampler,
                "n_steps": plan.n_steps,
                "temperature": plan.temperature,
                "top_p": plan.top_p,
                "seed": options["seed"],
                "prefix_tokens": len(prompt_ids),
                "network_evaluations": n_calls,
                "time_s": time_s,
                "samples": [{"text": t, "ids": i} for t, i in zip(texts, ids_NL, strict=True)],
            }
        )
        return
    for i, text in enumerate(texts):
        if len(texts) > 1:
            say(f"--- {i + 1} of {len(texts)}")
        say(text)
    say(
        f"{tokens:,} tokens of {loaded.config.label} {loaded.config.trial_id}: {n_calls:,} network "
        f"evaluations, {time_s:.2f} s, {tokens / time_s:,.0f} tokens/s",
        err=True,
    )


def _prompt_ids(loaded: "Model", prompt: str) -> list[int]:
    ids = loaded.tokenizer.encode(prompt) if prompt else []
    unknown = [id_ for id_ in ids if not 0 <= id_ < loaded.config.vocab_size]
    if unknown:
        raise ConfigError(
            f"--prompt: token {unknown[0]} is not of this model, whose ids are 0 to "
            f"{loaded.config.vocab_size - 1}: change the prompt"
        )
    return ids


def _plan(loaded: "Model", n_prompt: int, options: dict[str, Any]) -> "SamplingPlan":
    from sweeper.families.base import SamplingPlan

    longest = loaded.config.seq_len
    length = longest if options["length"] is None else options["length"]
    if not n_prompt < length <= longest:
        raise ConfigError(
            f"--length {length} with a prompt of {n_prompt} tokens: expected at least one more "
            f"than the prompt, and at most {longest}, which the model was trained on"
        )
    n_new = length - n_prompt
    return SamplingPlan(
        n_sequences=options["n_sequences"],
        seq_len=n_new,
        n_steps=n_new if options["steps"] is None else options["steps"],
        sampler=options["sampler"],
        temperature=options["temperature"],
        top_p=options["top_p"],
    )


def _sampled(
    loaded: "Model", prompt_ids: list[int], plan: "SamplingPlan", seed: int
) -> tuple[list[list[int]], int, float]:
    """All sequences with their prompt, calls of the network, and seconds."""
    import dataclasses

    import torch

    from sweeper.sampling.sources import BATCH_SEQUENCES, model_source
    from sweeper.trials.seeds import generator

    source, ids_NL, n_calls = model_source(loaded), [], 0
    n_batches = -(-plan.n_sequences // BATCH_SEQUENCES)
    start_s = time.perf_counter()
    with progress("sampling", n_batches * max(plan.n_steps, plan.seq_len)) as advance:
        hook = loaded.network.backbone.register_forward_hook(lambda *_: advance(1))
        for batch in range(n_batches):
            n = min(BATCH_SEQUENCES, plan.n_sequences - batch * BATCH_SEQUENCES)
            prefix_BP = torch.tensor(prompt_ids, dtype=torch.int64).expand(n, -1)
            part = dataclasses.replace(plan, n_sequences=n)
            samples = source.sample(part, prefix_BP, generator(seed, "samples", batch))
            ids_NL += [[*prompt_ids, *ids] for ids in samples.ids_BL.tolist()]
            n_calls += samples.network_evaluations
        hook.remove()
    return ids_NL, n_calls, time.perf_counter() - start_s
