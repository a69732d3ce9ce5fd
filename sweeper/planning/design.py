"""What a design asks for: runs, and the points at which each is observed."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from sweeper.sweepfile.document import KeyPath
from sweeper.sweepfile.schema import Design, IsoFlop, ListedRuns
from sweeper.trials.ladder import Rung


@dataclass(frozen=True)
class Target:
    """One observation asked for."""

    path: KeyPath
    """The value of the sweep file that asks for it."""
    amount: float
    unit: Literal["flops", "tokens", "steps"]
    budget_flops: float | None = None
    """Budget that the observation stands for."""

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
    """Where the sweep file sets them."""


def targets_by_variant(design: Design, label: str | None = None) -> dict[Variant, list[Target]]:
    """Targets of each variant, smallest first; of one series, or of all for None."""
    targets: dict[Variant, list[Target]] = {}
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


def _targets(design: Design, label: str | None) -> Iterator[tuple[Variant, Target]]:
    if design.isoflop:
        yield from _isoflop(design.isoflop)
    elif design.grid:
        for rung in design.grid.sizes:
            for i, tokens in enumerate(design.grid.tokens):
                yield Variant(rung), Target(("design", "grid", "tokens", i), tokens, "tokens")
    elif design.zipped:
        pairs = zip(design.zipped.sizes, design.zipped.tokens, strict=True)
        for i, (rung, tokens) in enumerate(pairs):
            yield Variant(rung), Target(("design", "zip", "tokens", i), tokens, "tokens")
    for i, entry in enumerate(design.listed or ()):
        if label is None or not entry.series or label in entry.series:
            yield from _listed(entry, ("design", "list", i))


def _isoflop(isoflop: IsoFlop) -> Iterator[tuple[Variant, Target]]:
    for rung in isoflop.sizes:
        for i, budget in enumerate(isoflop.budgets):
            path = ("design", "isoflop", "budgets", i)
            yield Variant(rung), Target(path, budget, "flops", budget)


def _listed(entry: ListedRuns, path: KeyPath) -> Iterator[tuple[Variant, Target]]:
    train, train_path = entry.train.named, (*path, "train")
    for name, rung, steps in entry.steps_by_size or ():
        at = (*path, "steps_by_size", name)
        yield Variant(rung, train, train_path), Target(at, steps, "steps", entry.budget)
    for rung in entry.all_sizes:
        for i, tokens in enumerate(entry.tokens or ()):
            target = Target(_item(path, "tokens", entry.tokens, i), tokens, "tokens", entry.budget)
            yield Variant(rung, train, train_path), target
        for i, steps in enumerate(entry.steps or ()):
            target = Target(_item(path, "steps", entry.steps, i), steps, "steps", entry.budget)
            yield Variant(rung, train, train_path), target


def _item(path: KeyPath, key: str, values: tuple[int, ...] | None, i: int) -> KeyPath:
    """The path of one of several values; a single one may be written without its list."""
    return (*path, key, i) if len(values or ()) > 1 else (*path, key)
