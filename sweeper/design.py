"""What a design asks of each rung: the budgets or token counts at which it is observed."""

from collections.abc import Iterator
from dataclasses import dataclass

from sweeper.ladder import Rung
from sweeper.spec import Design, IsoFlop
from sweeper.sweep_yaml import KeyPath


@dataclass(frozen=True)
class Target:
    """One observation asked for: a budget or a number of tokens."""

    path: KeyPath
    """The value of the sweep file that asks for it."""
    amount: float
    """Training FLOPs if `is_budget`, else training tokens."""
    is_budget: bool

    def tokens(self, flops_per_token: float) -> float:
        """Training tokens, not yet a whole number of steps."""
        return self.amount / flops_per_token if self.is_budget else self.amount


def targets_by_rung(design: Design, label: str | None = None) -> dict[Rung, list[Target]]:
    """Targets of each rung, smallest first; of one series, or of all for None."""
    targets: dict[Rung, list[Target]] = {}
    for rung, target in _targets(design, label):
        targets.setdefault(rung, []).append(target)
    return {rung: sorted(asked, key=lambda t: t.amount) for rung, asked in targets.items()}


def n_targets(design: Design) -> int:
    """Number of targets of a series that takes part in all of the design."""
    if design.isoflop:
        return len(design.isoflop.sizes) * len(design.isoflop.budgets)
    if design.grid:
        return len(design.grid.sizes) * len(design.grid.tokens)
    return len(design.zipped.sizes if design.zipped else design.listed or ())


def _targets(design: Design, label: str | None) -> Iterator[tuple[Rung, Target]]:
    if design.isoflop:
        yield from _isoflop(design.isoflop)
    elif design.grid:
        for rung in design.grid.sizes:
            for i, tokens in enumerate(design.grid.tokens):
                yield rung, Target(("design", "grid", "tokens", i), tokens, is_budget=False)
    elif design.zipped:
        pairs = zip(design.zipped.sizes, design.zipped.tokens, strict=True)
        for i, (rung, tokens) in enumerate(pairs):
            yield rung, Target(("design", "zip", "tokens", i), tokens, is_budget=False)
    for i, entry in enumerate(design.listed or ()):
        if label is None or entry.series in (None, label):
            path = ("design", "list", i, "tokens")
            yield entry.size, Target(path, entry.tokens, is_budget=False)


def _isoflop(isoflop: IsoFlop) -> Iterator[tuple[Rung, Target]]:
    for rung in isoflop.sizes:
        for i, budget in enumerate(isoflop.budgets):
            yield rung, Target(("design", "isoflop", "budgets", i), budget, is_budget=True)
