"""What a design asks for: runs, and the points at which each is observed."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

from sweeper.sweepfile.document import KeyPath
from sweeper.sweepfile.schema import Design, ListedRuns
from sweeper.trials.ladder import Rung


@dataclass(frozen=True)
class TargetPoint:
    """One observation asked for."""

    path: KeyPath
    """The value of the sweep file that asks for it."""
    amount: float
    unit: Literal["flops", "tokens", "steps"]
    budget_flops: float | None = None

    def tokens(self, flops_per_token: float, tokens_per_step: int) -> float:
        """Training tokens, not yet a whole number of steps."""
        return {
            "flops": self.amount / flops_per_token,
            "tokens": self.amount,
            "steps": self.amount * tokens_per_step,
        }[self.unit]


@dataclass(frozen=True)
class Variant:
    """A size, and the training settings that set it apart from others of the same size."""

    rung: Rung
    train: tuple[tuple[str, Any], ...] = ()
    """Sorted (key, value) pairs that override those of the series."""
    train_path: KeyPath = field(default=(), compare=False)


def targets_by_variant(
    design: Design, label: str | None = None
) -> dict[Variant, list[TargetPoint]]:
    """Targets of each variant, smallest first; of one series, or of all for None."""
    targets: dict[Variant, list[TargetPoint]] = {}
    for variant, target in _targets(design, label):
        targets.setdefault(variant, []).append(target)
    return {variant: sorted(asked, key=lambda t: t.amount) for variant, asked in targets.items()}


def n_targets(design: Design) -> int:
    """Number of targets of a series that takes part in all of the design."""
    if design.isoflop:
        return len(design.isoflop.sizes) * len(design.isoflop.budgets)
    if design.grid:
        return len(design.grid.sizes) * len(design.grid.tokens)
    if design.zipped:
        return len(design.zipped.sizes)
    return sum(
        len(entry.steps_by_size or ())
        + len(entry.all_sizes) * len(entry.tokens or entry.steps or ())
        for entry in design.listed or ()
    )


def _targets(design: Design, label: str | None) -> Iterator[tuple[Variant, TargetPoint]]:
    if design.isoflop:
        for rung, (i, budget) in product(design.isoflop.sizes, enumerate(design.isoflop.budgets)):
            path = ("design", "isoflop", "budgets", i)
            yield Variant(rung), TargetPoint(path, budget, "flops", budget)
    elif design.grid:
        for rung, (i, tokens) in product(design.grid.sizes, enumerate(design.grid.tokens)):
            yield Variant(rung), TargetPoint(("design", "grid", "tokens", i), tokens, "tokens")
    elif design.zipped:
        pairs = zip(design.zipped.sizes, design.zipped.tokens, strict=True)
        for i, (rung, tokens) in enumerate(pairs):
            yield Variant(rung), TargetPoint(("design", "zip", "tokens", i), tokens, "tokens")
    for i, entry in enumerate(design.listed or ()):
        if label is None or not entry.series or label in entry.series:
            yield from _listed(entry, ("design", "list", i))


def _listed(entry: ListedRuns, path: KeyPath) -> Iterator[tuple[Variant, TargetPoint]]:
    train, train_path = entry.train.named, (*path, "train")
    for name, rung, steps in entry.steps_by_size or ():
        at = (*path, "steps_by_size", name)
        yield Variant(rung, train, train_path), TargetPoint(at, steps, "steps", entry.budget)
    units: tuple[tuple[Literal["tokens", "steps"], tuple[int, ...]], ...] = (
        ("tokens", entry.tokens or ()),
        ("steps", entry.steps or ()),
    )
    for rung in entry.all_sizes:
        for unit, amounts in units:
            for i, amount in enumerate(amounts):
                # A single amount may be written without its list.
                at = (*path, unit, i) if len(amounts) > 1 else (*path, unit)
                yield Variant(rung, train, train_path), TargetPoint(at, amount, unit, entry.budget)
