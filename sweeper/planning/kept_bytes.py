"""How many bytes the models of a plan take at most, and what fits if those are too many."""

from collections.abc import Iterator, Sequence

from sweeper.sweepfile.choices.resources import KeepChoice
from sweeper.sweepfile.problems import Problem
from sweeper.trials.plan import Observation, PlannedTrial
from sweeper.trials.resources import KeepModels

HEADER_BYTES_PER_LAYER = 3000  # names and places of its tensors, 150 bytes each, and some more
CONFIG_BYTES = 8000


def keep_problems(keep: KeepChoice, trials: Sequence[PlannedTrial]) -> Iterator[Problem]:
    """A plan whose models take more than `keep.at_most`."""
    needed = kept_bytes(trials, keep.models)
    if needed <= keep.at_most:
        return
    optimal = kept_bytes(trials, "optimal")
    if optimal <= keep.at_most:
        fits = f"`models: optimal` fits and takes {bytes_text(optimal)}"
    else:
        # The models of the cheapest budgets, each with all its series.
        levels = sorted({_level(cell) for planned in trials for cell in planned.cells})
        fitting = [
            level for level in levels if kept_bytes(trials, "optimal", until=level) <= keep.at_most
        ]
        fits = "not even those of the least budget fit"
        if fitting:
            fits = f"optimal models of budgets (or tokens) up to {fitting[-1]:.4g} fit"
    yield Problem(
        ("keep", "at_most"),
        f"the models of this plan take up to {bytes_text(needed)}: raise it, keep fewer or plan "
        f"smaller models; {fits}",
    )


def kept_bytes(
    trials: Sequence[PlannedTrial], keep: KeepModels, *, until: float = float("inf")
) -> int:
    """Most bytes of the models that stay, of cells up to a budget or a number of tokens."""
    cells = [
        (planned.series, _level(cell), _model_bytes(planned))
        for planned in trials
        for cell in planned.cells
        if _level(cell) <= until
    ]
    match keep:
        case "none":
            return 0
        case "all":
            return sum(n_bytes for *_, n_bytes in cells)
        case "optimal":  # whichever model it is that wins
            largest: dict[tuple[str, float], int] = {}
            for series, level, n_bytes in cells:
                largest[series, level] = max(n_bytes, largest.get((series, level), 0))
            return sum(largest.values())


def bytes_text(n_bytes: float) -> str:
    """For people: `1.2 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def _level(cell: Observation) -> float:
    return cell.tokens if cell.budget_flops is None else cell.budget_flops


def _model_bytes(planned: PlannedTrial) -> int:
    """float32 weights with their header and config; a tokenizer's file is not counted."""
    header = HEADER_BYTES_PER_LAYER * (planned.trial.rung.n_layers + 1)
    return 4 * planned.params.total + header + CONFIG_BYTES
