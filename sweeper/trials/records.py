"""The rows of the four Parquet tables, each column documented once, as `docs/results.md` has it."""

import dataclasses
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow as pa

TableName = Literal["trials", "losses", "observations", "samples"]
TABLE_FILE = "part-0.parquet"
"""The one file of each table's folder; whatever else lies there is not ours."""


def column(doc: str) -> Any:
    """A field whose meaning, unit included, is `doc`."""
    return dataclasses.field(metadata={"doc": doc})


def condition(doc: str) -> Any:
    """A column in which rows must agree to be compared at all."""
    return dataclasses.field(metadata={"doc": doc, "is_condition": True})


@dataclass(frozen=True, kw_only=True)
class _Point:
    """What trials and observations share: who they are, and the ingredients of conventions."""

    trial_id: str = column("Identity: hash of everything that can change the trial's numbers.")
    trajectory_id: str = column(
        "Identity of the run without its observed steps; points of one run are correlated."
    )
    sweep: str = column(
        "Name of the sweep that trained it: another one's where its result was taken over."
    )
    series: str = column("Label of the series in the sweep file.")
    family: str = column("Diffusion family.")
    seed: int = column("Seed of the trial; all its random streams derive from it.")
    n_layers: int = column("Transformer blocks.")
    width: int = column("Channels of the residual stream.")
    context_tokens: int = column("Tokens per sequence.")
    vocab_size: int = column("Real tokens; a mask or start token is not counted.")
    params_trunk: int = column(
        "Parameters of blocks and final norm, without conditioning (non-embedding)."
    )
    params_embedding: int = column("Parameters of the input table.")
    params_head: int = column("Parameters of the output table and its bias.")
    params_conditioning: int = column("Parameters of time conditioning.")
    flops_per_token_trunk: float = column(
        "Training FLOPs per token in projections, MLPs and time conditioning."
    )
    flops_per_token_attention: float = column("Training FLOPs per token in attention products.")
    flops_per_token_head: float = column("Training FLOPs per token in the output logits.")
    status: str = column(
        "`done`, `diverged` (a result, never fitted) or, in `trials` only, `failed`."
    )
    tokens: int = column("Tokens trained on.")


@dataclass(frozen=True, kw_only=True)
class TrialRow(_Point):
    """One row per trial: its configuration, ingredients, outcome and cost."""

    train_flops: float = column("Training FLOPs from the first step on, convention `full`.")
    steps: int = column("Optimiser steps taken.")
    error_class: str | None = column("Class of the failure or divergence; null when done.")
    error_message: str | None = column("One line on the failure or divergence; null when done.")
    family_options: str = column("Options of the family, as JSON.")
    backbone: str = column("Published network: `gidd` or `dit`.")
    n_heads: int = column("Attention heads.")
    batch_tokens: int = column("Tokens per optimiser step.")
    learning_rate: float = column(
        "Peak learning rate: of all tensors for `dit`; the base rate for `gidd`, where matrices "
        "train at it / width."
    )
    optimizer: str = column("Optimiser and schedule, as JSON.")
    precision: str = column("Arithmetic of the network: `float32` or `bfloat16` (autocast).")
    data_source: str = column("Corpus as named in the sweep file.")
    data_fingerprint: str = column("Hash of the train and validation tokens.")
    eval_sequences: int = column("Sequences of the fixed validation set.")
    trainer_version: int = column("Version of the numbers the trainer produces.")
    n_attempts: int = column("Attempts started, this one included.")
    train_time_s: float = column(
        "Seconds spent in training steps from the first one on, over all attempts; of a run that "
        "goes on from a shorter trial, that one's included."
    )
    eval_time_s: float = column("Seconds spent in evaluation, counted as `train_time_s`.")
    started_at: str = column("Start of the first attempt, ISO 8601, UTC.")
    finished_at: str = column("Publication, ISO 8601, UTC.")
    device: str = column("Device that trained it.")
    n_threads: int = column("CPU threads per worker.")
    torch_version: str = column("Version of PyTorch.")


@dataclass(frozen=True, kw_only=True)
class ObservationRow(_Point):
    """One row per evaluated point of a trial; what every fit reads."""

    flops: float = column("Training FLOPs spent, convention `full`.")
    budget_flops: float | None = column("Budget this point stands for; null outside isoFLOP plans.")
    step: int = column("Optimiser steps taken.")
    bound_nats_per_token: float = column(
        "Upper bound on the validation negative log-likelihood (exact for `ar`)."
    )
    bound_stderr_nats_per_token: float = column(
        "Standard error of the bound: validation data, noise levels and noise."
    )
    bound_bits_per_byte: float | None = column("The bound per byte of text; null without bytes.")
    bound_given_prefix_nats_per_token: float | None = column(
        "Bound on what follows a clean prefix, per token of that; null if not trained for it."
    )
    bound_given_prefix_stderr_nats_per_token: float | None = column("Its standard error.")
    eval_tokens: int = column("Validation tokens scored.")
    train_loss_nats_per_token: float = column("Mean training loss since the previous log row.")


@dataclass(frozen=True, kw_only=True)
class LossRow:
    """One row per logged training step."""

    trial_id: str = column("Trial.")
    series: str = column("Label of the series in the sweep file.")
    step: int = column("Optimiser step, counted from 1.")
    tokens: int = column("Tokens trained on so far.")
    flops: float = column("Training FLOPs so far, convention `full`.")
    loss_nats_per_token: float = column(
        "Training loss, mean over the steps since the previous row. Not a bound; not comparable "
        "across families."
    )
    learning_rate: float = column("The trial's learning rate at this step.")
    grad_norm: float = column("Global gradient norm before clipping, at this step.")


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """One row per sampling measurement: a model or a control, and the whole protocol.

    Sampler, steps, temperature and nucleus are what rows are compared over. Rows that differ in a
    column marked *condition* are not compared.
    """

    trial_id: str = column("Trial whose final weights generated; empty for a control.")
    series: str = column("Label of the series in the sweep file, or name of the control.")
    family: str = column("Diffusion family; `control` for a control.")
    sampler: str = column("Sampler.")
    n_steps: int = column("Steps asked for.")
    temperature: float = column("Divides the logits.")
    top_p: float = column("Mass of the most probable tokens that are kept.")
    block_tokens: int = column("Tokens denoised together: all, where there are no blocks.")
    context_tokens: int = condition("Condition: tokens per sequence, prefix included.")
    prefix_tokens: int = condition("Condition: of these, given from real text, and not scored.")
    n_sequences: int = condition(
        "Condition: sequences generated; distances and entropies depend on how many there are."
    )
    draw_dtype: str = condition("Condition: arithmetic of the categorical draws.")
    judge: str = condition("Condition: the model that scores samples; `none` without one.")
    judge_revision: str = condition("Condition: hash or revision of the judge's weights.")
    reference: str = condition("Condition: hash of the real sequences that samples are set beside.")
    sampling_version: int = condition("Condition: version of the numbers that measuring produces.")
    device: str = condition("Condition: device that generated, with its CPU threads.")
    sampling_seed: int = column("Seed of the samples.")
    network_evaluations: int = column("Forward passes made for a batch.")
    tokens_generated: int = column("Tokens generated and scored, in the model's own tokens.")
    tokens_judged: int | None = column("The same text in the judge's tokens; null without a judge.")
    wall_time_s: float = column("Seconds of generating these sequences, 64 at a time, cold.")
    tokens_per_s: float | None = column(
        "Throughput: new tokens per second at the best batch, warm; null for a control."
    )
    tokens_per_s_spread: float | None = column(
        "(largest − smallest) / median of repeated throughputs."
    )
    best_batch_sequences: int | None = column("Batch of that throughput.")
    latency_s: float | None = column("Seconds for one sequence alone, warm; null for a control.")
    latency_s_spread: float | None = column("(largest − smallest) / median of repeated latencies.")
    cross_entropy_nats_per_token: float | None = column(
        "−log p of the samples under the judge, per own token. Low for likely nonsense: no "
        "measure of quality alone."
    )
    cross_entropy_stderr_nats_per_token: float | None = column("Its standard error.")
    unigram_entropy_nats: float = column(
        "Mean entropy of a sample's own token histogram, as published; biased down by about "
        "(distinct tokens − 1) / (2 tokens)."
    )
    ngram_entropy_nats_per_token: float = column(
        "Estimate of the samples' entropy: cross-entropy of each half under n-grams of the other; "
        "biased up, the more so the fewer tokens there are."
    )
    own_entropy_nats_per_token: float | None = column(
        "−log q of the samples under the sampler itself, an unbiased estimate of its entropy; null "
        "where it has no exact likelihood."
    )
    own_entropy_stderr_nats_per_token: float | None = column("Its standard error.")
    judge_divergence_nats_per_token: float | None = column(
        "cross_entropy − ngram_entropy, an estimate from below of KL(samples || judge)."
    )
    mauve: float | None = column(
        "Area under the divergence frontier of samples and real text on the judge's features, "
        "0 to 1, 1 where they agree; its level depends on judge and number of sequences."
    )
    mauve_low: float | None = column("Lower end of its 95 % bootstrap interval.")
    mauve_high: float | None = column("Upper end.")
    mmd: float | None = column(
        "Squared maximum mean discrepancy of the same features, Gaussian kernel, unbiased: 0 on "
        "average where samples are real text."
    )
    mmd_low: float | None = column("Lower end of its 95 % bootstrap interval.")
    mmd_high: float | None = column("Upper end.")
    distinct_2: float = column("Share of distinct ones among all pairs of neighbouring tokens.")
    distinct_4: float = column("Share of distinct ones among all runs of four tokens.")
    source_cross_entropy_nats_per_token: float | None = column(
        "−log p of the samples under their `synthetic:` source, exact; null for other corpora."
    )
    source_cross_entropy_stderr_nats_per_token: float | None = column("Its standard error.")
    source_divergence_nats_per_token: float | None = column(
        "KL rate from samples to source, of runs of order + 1 tokens, corrected for their number; "
        "dependence over longer runs could only add to it."
    )
    source_divergence_exact_nats_per_token: float | None = column(
        "KL rate from samples to source: source_cross_entropy − own_entropy; null where the "
        "sampler has no exact likelihood."
    )
    source_js_nats: float | None = column(
        "Jensen–Shannon divergence of runs of order + 1 tokens, samples and source: at most log 2."
    )
    first_sample: str = column("First sequence as text, undecodable bytes replaced.")


CONDITIONS = tuple(
    field.name for field in dataclasses.fields(SampleRow) if "is_condition" in field.metadata
)
"""Columns of `samples` in which rows must agree to be compared."""

ROW_TYPES: dict[TableName, type] = {
    "trials": TrialRow,
    "losses": LossRow,
    "observations": ObservationRow,
    "samples": SampleRow,
}


def schema(table: TableName) -> "pa.Schema":
    """Arrow schema of a table; each field carries its documentation as metadata."""
    # Here, because `status` and all that only names columns must not wait a tenth of a second.
    import pyarrow as pa

    arrow_types = {
        str: (pa.string(), False),
        int: (pa.int64(), False),
        float: (pa.float64(), False),
        str | None: (pa.string(), True),
        int | None: (pa.int64(), True),
        float | None: (pa.float64(), True),
    }
    row_type = ROW_TYPES[table]
    annotations = typing.get_type_hints(row_type)
    return pa.schema(
        pa.field(field.name, *arrow_types[annotations[field.name]], {"doc": field.metadata["doc"]})
        for field in dataclasses.fields(row_type)
    )
