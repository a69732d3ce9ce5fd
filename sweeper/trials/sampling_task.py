"""A sampling task: one row of `samples` that is to be measured, and its identity."""

import functools
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

CONTROL_FAMILY = "control"
"""Family of samplers that no metric may prefer to a trained model."""

# What says where things lie and what they are called; everything else can change the numbers.
_PLACES = (
    "series", "family", "trial_id", "trajectory_id", "model_folder", "judge", "judge_folder",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SamplingTask:
    """A model or a control, how it generates, and who judges."""

    series: str
    """Label of the series, or name of the control."""
    family: str
    trial_id: str
    """Trial whose weights generate; empty for a control."""
    trajectory_id: str
    """Its run, by which the plan names the series; empty for a control."""
    source: str
    """Hash of the weights, or `control:` and a name."""
    model_folder: str
    """Below the sweep's folder; of a control, that of a model whose tokenizer it shares."""
    sampler: str
    n_steps: int
    temperature: float
    top_p: float
    n_sequences: int
    context_tokens: int
    data_fingerprint: str
    """Of the corpus, whose validation text samples are set beside."""
    judge: str
    """Name of the judge; empty without one."""
    judge_revision: str
    """Hash of the judge's weights."""
    judge_folder: str
    """Below the sweep's folder, or absolute; empty without a judge."""
    seed: int
    device: Literal["cpu", "cuda"]
    """`cpu` or `cuda`: speeds of one say nothing of the other."""
    sampling_version: int

    @functools.cached_property
    def task_id(self) -> str:
        """First 12 hex digits of the hash of all that can change the numbers."""
        fields = {name: value for name, value in self.to_json().items() if name not in _PLACES}
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: getattr(self, name) for name in SamplingTask.__dataclass_fields__}
