"""Writes the weights of an observation, for the case that they stay (`models/kept.py`)."""

import functools
import logging

from sweeper.data.tokenizer import HuggingFaceTokenizer, load_tokenizer
from sweeper.errors import DataError, MissingPackage
from sweeper.models.config import ModelConfig, TokenizerKind
from sweeper.models.model_file import write_model
from sweeper.store.assignment import Assignment
from sweeper.store.layout import Store
from sweeper.store.rows import Measurement, observation_row
from sweeper.training.trainer import Trainer
from sweeper.trials.text_options import BYTES, KEYS

logger = logging.getLogger(__name__)


def keep_model(assignment: Assignment, trainer: Trainer, measurement: Measurement) -> None:
    """Write the model that was just measured; all ranks take part, the first one writes."""
    with trainer.evaluation_weights():
        weights = trainer.evaluated_weights()
        if not trainer.ranks.is_first:
            return
        planned, trial = assignment.planned, assignment.trial
        row = observation_row(assignment, measurement, "done")
        kind, tokenizer_json = _tokenizer(planned.source, planned.reading.tokenizer)
        config = ModelConfig(
            label=row.series,
            trial_id=trial.trial_id,
            trial=trial,
            step=row.step,
            tokens=row.tokens,
            flops=row.flops,
            budget_flops=row.budget_flops,
            bound_nats_per_token=row.bound_nats_per_token,
            bound_stderr_nats_per_token=row.bound_stderr_nats_per_token,
            bound_bits_per_byte=row.bound_bits_per_byte,
            source=planned.source,
            tokenizer=kind,
            tokenizer_name=planned.reading.tokenizer,
        )
        folder = Store(assignment.store_folder).models / trial.trajectory_id
        write_model(folder, config, weights, tokenizer_json)


@functools.lru_cache(maxsize=1)
def _tokenizer(source: str, name: str) -> tuple[TokenizerKind, bytes | None]:
    """What the ids of a corpus mean, and the tokenizer's file where there is one."""
    kind = source.partition(":")[0]
    if kind in ("synthetic", "tokens"):
        return "ids", None
    if "tokenizer" not in KEYS[kind] or name == BYTES:
        return "bytes", None
    try:
        tokenizer = load_tokenizer(source, name)
    except (DataError, MissingPackage) as error:
        # The tokens may come from a cache. A trial must not fail for what it does not need.
        logger.warning("models are kept without their tokenizer: %s", error)
        return "ids", None
    assert isinstance(tokenizer, HuggingFaceTokenizer)
    return "file", tokenizer.tokenizer.to_str().encode()
