"""The model card: what a model is, where it comes from, and what it is not."""

from typing import Any

from sweeper.models.config import ModelConfig

_CARD = """\
# {label}, {params:,} parameters, {tokens:,} tokens

A {family} language model{options}, trained by `sweeper` as one point of a scaling-law sweep.

```python
import sweeper
network, family = sweeper.load_model("{folder}")
```

Loading needs torch and nothing else. `family.sample(network, SamplingPlan(…), generator)` generates
(`sweeper/families/base.py`); `sweeper sample` does so on the command line.

## Numbers

| | |
|---|---|
| bound on the negative log-likelihood | {bound:.6f} ± {stderr:.6f} nats per token{bits} |
| parameters | {params:,} in all; {trunk:,} in blocks and final norm |
| network | {backbone}, {layers} layers, width {width}, {heads} heads |
| vocabulary, sequence length | {vocab:,} tokens ({tokenizer}), {seq_len:,} |
| trained on | {tokens:,} tokens in {step:,} steps |
| training FLOPs | {flops:.4g}, forward and backward, attention and head included |
| weights | {weights} |

The bound is of {eval_tokens:,} fixed validation tokens; for `ar` it is the likelihood itself. It is
reproduced to the last bit on a CPU of the kind that evaluated it, with {threads} thread(s) and
denormal numbers flushed, if that was a CPU ({device}).

## Provenance

| | |
|---|---|
| trial | `{trial_id}`, step {step:,}, seed {seed} |
| sweep | `{sweep}` |
| corpus | `{source}`, fingerprint `{fingerprint}` |
| published | {finished_at}, attempt {attempts} |
| versions | torch {torch}; trainer {trainer}; {versions} |
| commit | {commit} |
| sha-256 of the weights | `{sha256}` |

## Limits

A small research model for comparing families. It was neither filtered nor aligned, it repeats what
its corpus says, and its text is not to be relied on. Its licence follows from the corpus.
"""


def model_card(config: ModelConfig, record: dict[str, Any], manifest: dict[str, Any]) -> str:
    """Markdown from the config, the record of the trial, and the manifest of the sweep."""
    row, trial = record["trial"], config.trial
    (observed,) = (each for each in record["observations"] if each["step"] == config.step)
    groups = ("params_trunk", "params_embedding", "params_head", "params_conditioning")
    packages = {name: v for name, v in dict(manifest.get("packages") or {}).items() if v}
    git = manifest.get("git") or {}
    bits = config.bound_bits_per_byte
    options = ", ".join(f"{name} {value}" for name, value in trial.family_options)
    decay = trial.optimizer.ema_decay
    return _CARD.format(
        folder="DIR",
        label=config.label,
        family=trial.family,
        options=f" ({options})" if options else "",
        bound=config.bound_nats_per_token,
        stderr=config.bound_stderr_nats_per_token,
        bits=f", {bits:.4f} bits per byte" if bits is not None else "",
        params=sum(row[name] for name in groups),
        trunk=row["params_trunk"],
        backbone=trial.backbone,
        layers=trial.rung.n_layers,
        width=trial.rung.width,
        heads=trial.rung.n_heads,
        vocab=config.vocab_size,
        seq_len=config.seq_len,
        tokenizer=config.tokenizer_name if config.tokenizer != "ids" else "ids without a text",
        tokens=config.tokens,
        step=config.step,
        flops=config.flops,
        weights=f"float32, averaged with decay {decay:g}" if decay else "float32, of the last step",
        eval_tokens=observed["eval_tokens"],
        threads=row["n_threads"],
        device=row["device"],
        trial_id=config.trial_id,
        seed=trial.seed,
        sweep=row["sweep"],
        source=config.source,
        fingerprint=trial.data.fingerprint,
        finished_at=row["finished_at"],
        attempts=row["n_attempts"],
        torch=row["torch_version"],
        trainer=trial.trainer_version,
        versions=", ".join(f"{name} {v}" for name, v in packages.items()) or "not recorded",
        commit=_commit(git),
        sha256=config.weights_sha256,
    )


def _commit(git: dict[str, Any]) -> str:
    if not git.get("commit"):
        return "not recorded"
    return f"`{git['commit']}`" + (", with changes" if git.get("has_uncommitted_changes") else "")
