"""Everything that figures and a report are made from, and what they are asked."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.answers.compare import Comparison
from analysis.fitting.fit import FitResult
from analysis.isoflop.frontier import frontier
from analysis.pareto.answer import ParetoAnswer
from analysis.sensitivity.conclusions import Sensitivity
from analysis.sensitivity.recounted import Recount
from analysis.tables.tidy import TidyTable


@dataclass(frozen=True)
class Question:
    """What the page answers first; pairs are (baseline, against)."""

    pairs: tuple[tuple[str, str], ...]
    compared: tuple[tuple[str, str], ...]
    """Those, and every other series against the same baseline."""
    flops: float | None
    """Budget of the asked pair; None: the largest at which both were observed."""


@dataclass(frozen=True)
class Study:
    """A table, its fit, and what was made of that."""

    table: TidyTable
    fit: FitResult
    comparisons: Sequence[Comparison] = ()
    sensitivities: Sequence[Sensitivity] = ()
    recounts: Sequence[Recount] = ()
    """The same under other conventions."""
    shows_published: bool = False
    """Whether laws of others, where the fit has some, are drawn from the first."""
    question: Question | None = None
    """None: of all comparisons, each at its largest budget."""
    samples: ParetoAnswer | None = None
    """None where the source has none."""

    def sensitivity_of(self, comparison: Comparison) -> Sensitivity | None:
        """What was tried of one comparison, None where nothing could be."""
        pair = (comparison.baseline, comparison.against)
        return next((s for s in self.sensitivities if (s.baseline, s.against) == pair), None)


def question_of(fit: FitResult, asked: tuple[str, str] | None, flops: float | None) -> Question:
    """The asked pair, else every series against the best at the largest budget."""
    ranked = sorted(fit.families, key=lambda label: _loss_at_largest(fit, label))
    if asked is None or not set(asked) <= set(ranked):
        pairs = tuple((ranked[0], other) for other in ranked[1:])
        return Question(pairs, pairs, None)
    others = [(asked[0], label) for label in ranked if label not in asked]
    return Question((asked,), (asked, *others), flops)


def _loss_at_largest(fit: FitResult, label: str) -> float:
    budgets = [flops for each in fit.families.values() for flops in each.points.budgets_K]
    found = frontier(fit.families[label].isoflop)
    return math.inf if found is None else float(found.log_loss(math.log(max(budgets)))[0])


def fingerprint(table: TidyTable) -> str:
    """First 16 hex digits of the SHA-256 of the tidy rows."""
    text = table.frame.to_csv(index=False, float_format="%.12g", lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:16]
