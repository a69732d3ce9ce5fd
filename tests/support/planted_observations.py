"""A results folder of planted observations, as readers see it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from planted_tables import Surface

from sweeper.trials.flops import flops_per_token
from sweeper.trials.ladder import nearest_rung, parameter_groups
from sweeper.trials.records import schema

BUDGETS = [1e10, 3e10, 1e11, 3e11]
CONTEXT, VOCABULARY = 64, 256


def observations(series: str = "masked", handicap: float = 1.0) -> pd.DataFrame:
    """One trajectory per rung, observed at every budget, with the columns of `records.py`."""
    surface = Surface(E=1.0, A=10.0, B=120.0, alpha=0.3, beta=0.35)
    rows = []
    for size in (3e3, 6e3, 12e3, 25e3, 50e3, 100e3, 200e3):
        rung = nearest_rung(size)
        groups = parameter_groups(rung, VOCABULARY, extra_input_ids=1)
        cost = flops_per_token(rung, CONTEXT, VOCABULARY)
        for budget in BUDGETS:
            step = round(budget / cost.total / 1024)
            tokens = 1024 * step
            loss = surface.loss(np.array(groups.trunk / handicap), np.array(tokens / handicap))
            rows.append(
                {
                    "trial_id": f"{series}{size:.0f}",
                    "trajectory_id": f"{series}-{size:.0f}",
                    "sweep": "test",
                    "series": series,
                    "family": "masked",
                    "seed": 0,
                    "budget_flops": budget,
                    "step": step,
                    "tokens": tokens,
                    "flops": cost.total * tokens,
                    "bound_nats_per_token": float(loss),
                    "bound_stderr_nats_per_token": 0.004,
                    "bound_bits_per_byte": None,
                    "bound_given_prefix_nats_per_token": None,
                    "bound_given_prefix_stderr_nats_per_token": None,
                    "eval_tokens": 65536,
                    "train_loss_nats_per_token": float(loss),
                    "n_layers": rung.n_layers,
                    "width": rung.width,
                    "context_tokens": CONTEXT,
                    "vocab_size": VOCABULARY,
                    "params_trunk": groups.trunk,
                    "params_embedding": groups.embedding,
                    "params_head": groups.head,
                    "params_conditioning": groups.conditioning,
                    "flops_per_token_trunk": cost.trunk,
                    "flops_per_token_attention": cost.attention,
                    "flops_per_token_head": cost.head,
                    "status": "done",
                }
            )
    return pd.DataFrame(rows)


def stored(folder: Path, frame: pd.DataFrame, *, parts: int = 1) -> Path:
    target = folder / "observations.parquet"
    if parts == 1:
        pq.write_table(_arrow(frame), target)
        return folder
    target.mkdir()
    for index, part in enumerate(np.array_split(np.arange(len(frame)), parts)):
        pq.write_table(_arrow(frame.iloc[part]), target / f"part-{index}.parquet")
    return folder


def _arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, schema=schema("observations"), preserve_index=False)
