"""Sizes and FLOPs of the same runs under every convention that a source has the ingredients for.

Besides the tidy columns a table may bring params_<group or name>, flops_per_token_<group or name>
and the shape of its transformers, which gives what is missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.tables.points import BoolArray, FloatArray

GIDD_VOCAB_SIZE = 131_072
"""Of every run of arXiv 2512.10858, its section 4."""
_PARAMS, _FLOPS = "params_", "flops_per_token_"
# Methods of arXiv 2512.10858.
_PUBLISHED_METHODS = {"m1": "6N+attention", "m2": "6N"}
_GROUPS = {
    _PARAMS: ("trunk", "head", "embedding", "conditioning"),
    _FLOPS: ("trunk", "attention", "head"),
}
_SHAPE = {
    "layers": ("n_layers", "num_layers"),
    "width": ("d_model", "width", "hidden_size"),
    "context": ("context_tokens", "seq_len"),
    "vocab": ("vocab_size",),
}


@dataclass(frozen=True)
class ConventionCounts:
    """Convention → one number per row of the tidy table; empty where there are no ingredients."""

    params: Mapping[str, FloatArray] = field(default_factory=dict)
    flops: Mapping[str, FloatArray] = field(default_factory=dict)
    """Training FLOPs of the row."""

    def take(self, chosen: BoolArray) -> "ConventionCounts":
        """The recounts of some rows."""
        return ConventionCounts(
            params={name: values[chosen] for name, values in self.params.items()},
            flops={name: values[chosen] for name, values in self.flops.items()},
        )


def counts_by_convention(raw: pd.DataFrame, tokens: FloatArray) -> ConventionCounts:
    """Every convention that the columns of a foreign table support; `tokens` per row."""
    # A column with a cell that is empty, not a number or not above 0 counts as absent.
    found = _Columns(raw)
    params = {name: each for name, each in found.params.items() if each is not None}
    flops = {name: tokens * each for name, each in found.flops.items() if each is not None}
    return ConventionCounts(params, flops)


@dataclass(frozen=True)
class _Columns:
    """The ingredients of a foreign table; each property is None where something is missing."""

    raw: pd.DataFrame

    @cached_property
    def params(self) -> dict[str, FloatArray | None]:
        """Parameters by convention."""
        matrix = _product(1.0, self._shape("width"), self._vocab)
        head = _first(self._column("params_head"), matrix)
        table = _first(self._column("params_embedding"), matrix)
        total = self._column("params_total")
        if total is None:
            total = _sum(self._trunk, head, table)
            conditioning = self._column("params_conditioning")
            total = total if conditioning is None else _sum(total, conditioning)
        derived = {"trunk": self._trunk, "trunk+head": _sum(self._trunk, head), "total": total}
        return derived | self._own(_PARAMS)

    @cached_property
    def flops(self) -> dict[str, FloatArray | None]:
        """Training FLOPs per token by convention."""
        six_n = _product(6.0, self._trunk)
        stated_attention = self._column("flops_per_token_attention")
        # QKᵀ and its product with V: 4·L·d·T FLOPs forward, twice that backward.
        shape = [self._shape(name) for name in ("layers", "width", "context")]
        attention = _first(stated_attention, _product(12.0, *shape))
        with_attention = _first(self._column("flops_per_token_m1"), _sum(six_n, attention))
        # The output logits: 2·d·V forward, twice that backward.
        head = _product(6.0, self._shape("width"), self._vocab)
        head = _first(self._column("flops_per_token_head"), head)
        trunk = self._column("flops_per_token_trunk")
        derived = {
            "full": _sum(trunk, stated_attention, head),
            "6N": six_n,
            "6N+attention": with_attention,
            "6N+attention+head": None if trunk is not None else _sum(with_attention, head),
            "no-attention": _sum(trunk, head),
        }
        return derived | self._own(_FLOPS)

    @cached_property
    def _trunk(self) -> FloatArray | None:
        """Trunk parameters, as a column or as a sixth of method 2."""
        method_2 = self._column("flops_per_token_m2")
        sixth = None if method_2 is None else method_2 / 6.0
        return _first(self._column("params_trunk"), sixth)

    @cached_property
    def _vocab(self) -> FloatArray | None:
        is_gidd = all(_FLOPS + method in self.raw.columns for method in _PUBLISHED_METHODS)
        theirs = np.full(len(self.raw), float(GIDD_VOCAB_SIZE)) if is_gidd else None
        return _first(self._shape("vocab"), theirs)

    def _shape(self, name: str) -> FloatArray | None:
        return _first(*(self._column(column) for column in _SHAPE[name]))

    def _own(self, prefix: str) -> dict[str, FloatArray | None]:
        """Counts that are no group and no published method, by the table's own names."""
        known = {*_GROUPS[prefix], *_PUBLISHED_METHODS}
        names = [str(c).removeprefix(prefix) for c in self.raw if str(c).startswith(prefix)]
        return {name: self._column(prefix + name) for name in names if name not in known}

    def _column(self, name: str) -> FloatArray | None:
        if list(self.raw.columns).count(name) != 1:
            return None
        values = pd.to_numeric(self.raw[name], errors="coerce").to_numpy(dtype=np.float64)
        usable = np.isfinite(values) & (values > 0)
        return values if usable.all() else None


def _first(*choices: FloatArray | None) -> FloatArray | None:
    return next((values for values in choices if values is not None), None)


def _sum(*parts: FloatArray | None) -> FloatArray | None:
    """None where a part is missing."""
    known = [part for part in parts if part is not None]
    return np.sum(known, axis=0) if len(known) == len(parts) else None


def _product(factor: float, *parts: FloatArray | None) -> FloatArray | None:
    """None where a part is missing."""
    known = [part for part in parts if part is not None]
    return factor * np.prod(known, axis=0) if len(known) == len(parts) else None
