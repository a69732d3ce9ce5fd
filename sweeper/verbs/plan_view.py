"""A plan as tables for the terminal. Renders; prints nothing."""

from collections import Counter
from collections.abc import Iterator

from rich.console import RenderableType
from rich.markup import escape

from sweeper.planning.planner import PlannedSweep
from sweeper.trials.plan import PlannedTrial
from sweeper.verbs.plain_text import plain
from sweeper.verbs.progress import count
from sweeper.verbs.text_table import TextTable

GPU_FLOPS_PER_S = 4e14
"""What a well-used H100 sustains in bfloat16: 40 % of its peak of 989 TFLOPs/s."""


def plan_view(sweep: PlannedSweep) -> Iterator[RenderableType]:
    """The trials, what is left out, warnings and totals, to be printed in this order."""
    corpus, totals = sweep.corpus, sweep.totals
    yield (
        f"[bold]{_safe(sweep.plan.name)}[/bold]: {totals.n_trials} trials, {totals.n_cells} "
        f"observations, {totals.train_flops:.3g} training FLOPs on {count(totals.tokens)} tokens; "
        f"evaluation adds {totals.eval_share:.0%}{_gpu_time(totals.train_flops)}"
    )
    yield (
        f"corpus {_safe(corpus.source)}: {count(corpus.train_tokens)} training and "
        f"{count(corpus.validation_tokens)} validation tokens, vocabulary {corpus.vocab_size:,}, "
        + (f"fingerprint {corpus.fingerprint[:12]}" if corpus.fingerprint else "all assumed")
    )
    yield _trials(sweep)
    if sweep.skipped:
        yield _skipped(sweep)
    for warning in sweep.warnings:
        yield f"[yellow]warning[/yellow] {_safe(f'[{warning.code}] {warning.message}')}"


def _safe(text: str) -> str:
    """Text from elsewhere, without control characters and for `rich` to print as it is."""
    return escape(plain(text))


def _gpu_time(train_flops: float) -> str:
    """What a plan beyond a laptop costs in hours of GPUs; empty for others."""
    hours = train_flops / GPU_FLOPS_PER_S / 3600
    if hours < 1:
        return ""
    return f"; about {count(hours)} GPU hours at {GPU_FLOPS_PER_S:.0e} FLOPs/s each"


def _trials(sweep: PlannedSweep) -> TextTable:
    numbers = ("params", "layers × width", "batch", "rate", "steps", "tokens", "FLOPs")
    table = TextTable("trial", "series", *numbers, "observed at", numbers=numbers)
    for planned in sweep.trials:
        trial, last = planned.trial, planned.cells[-1]
        table.add(
            planned.trial_id if sweep.corpus.fingerprint else "–",
            plain(planned.series) + (f" seed {trial.seed}" if trial.seed else ""),
            count(planned.params.trunk),
            f"{trial.rung.n_layers} × {trial.rung.width}",
            count(trial.tokens_per_step),
            f"{trial.optimizer.learning_rate:g}",
            f"{trial.n_steps:,}",
            count(last.tokens),
            f"{last.flops:.3g}",
            _span(planned),
        )
    return table


def _span(planned: PlannedTrial) -> str:
    """The budgets, or else the tokens, at which a trial is observed."""
    cells = planned.cells
    points = [f"{c.budget_flops:.3g}" if c.budget_flops else count(c.tokens) for c in cells]
    return points[0] if len(points) == 1 else f"{points[0]} … {points[-1]} ({len(points)})"


def _skipped(sweep: PlannedSweep) -> str:
    sides = Counter(cell.reason.partition(", ")[2] or cell.reason for cell in sweep.skipped)
    reasons = "; ".join(f"{n} {reason}" for reason, n in sides.most_common())
    return f"left out: {len(sweep.skipped)} cells ({_safe(reasons)}); --json lists them"
