"""What a design asks for: runs, and the points at which each is observed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

from sweeper.sweepfile.choices.design import Design, ListedRuns
from sweeper.sweepfile.choices.question import AddedRuns
from sweeper.sweepfile.problems import KeyPath
from sweeper.trials.ladder import Rung


@dataclass(frozen=True)
class TargetPoint:
    """One observation asked for."""

    path: KeyPath
    """The value of the sweep file that asks for it."""
    amount: float
    unit: Literal["flops", "tokens", "steps"]
    budget_flops: float | None = None
    is_added: bool = False
    """Whether it was added to a design, whose window it need not keep to."""
    is_optional: bool = False
    """Whether it is left out, rather than refused, where it cannot be trained."""

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
    why: str = field(default="", compare=False)
    """What it is for, where it was added to a design."""


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
            is_optional = design.auto is not None
            target = TargetPoint(path, budget, "flops", budget, is_optional=is_optional)
            yield Variant(rung), target
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


def added_runs(design: Design, label: str) -> Iterator[tuple[Variant, list[TargetPoint]]]:
    """What was added to a design for a series, entry by entry, targets smallest first."""
    for i, entry in enumerate(design.added):
        if label in entry.series:
            path = ("design", "added", i)
            why = f"round {entry.round}: {entry.why}" if entry.round else entry.why or "added"
            variant = Variant(entry.size, (("seeds", entry.seeds),), path, why)
            yield variant, _added(entry, path)


def resolving_targets(
    design: Design, shared_targets: Mapping[Variant, list[TargetPoint]]
) -> dict[Rung, list[TargetPoint]]:
    """The targets by which `auto` is resolved for the added runs of each size."""
    # Those of the design, else of the first entry that names the size: what later entries say then
    # does not change the trials of earlier ones.
    of_design = {
        variant.rung: asked for variant, asked in shared_targets.items() if not variant.train
    }
    first: dict[Rung, list[TargetPoint]] = {}
    for i, entry in enumerate(design.added):
        first.setdefault(entry.size, _added(entry, ("design", "added", i)))
    return first | of_design


def _added(entry: AddedRuns, path: KeyPath) -> list[TargetPoint]:
    budgets = [
        TargetPoint(
            (*path, "budgets", i),
            budget,
            "flops",
            budget,
            is_added=True,
            is_optional=entry.optional,
        )
        for i, budget in enumerate(entry.budgets)
    ]
    tokens = [
        TargetPoint((*path, "tokens", i), amount, "tokens", is_added=True)
        for i, amount in enumerate(entry.tokens)
    ]
    return sorted([*budgets, *tokens], key=lambda target: target.amount)


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
