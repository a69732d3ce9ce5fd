"""One rung of one series as runs: batch, learning rates and schedule, and where each is observed.

What is `auto` is resolved from the rung and the design alone, never from the series: the runs of
two series on one rung see the same batches in the same order at the same learning rate. What is
`tuned` follows the series' own law and observations.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sweeper.planning import recipe
from sweeper.planning.design import TargetPoint
from sweeper.planning.series import ResolvedSeries
from sweeper.planning.tuned import FoundLaw, TunedPoint, TunedRun, tuned_keys
from sweeper.sweepfile.choices.training import Train
from sweeper.sweepfile.fields import WarmupShare
from sweeper.sweepfile.problems import Problem
from sweeper.trials.flops import FlopsPerToken, flops_per_token
from sweeper.trials.ladder import BackboneName, Rung, parameter_groups, trunk_params
from sweeper.trials.plan import Observation
from sweeper.trials.trial import ENDLESS_SCHEDULES, Optimizer

# Fewest steps of an observation: rounding to whole steps then moves its tokens by at most 1 %, and
# warmup (a tenth of them) and AdamW's averages have time to settle.
MIN_STEPS = 50
MAX_TOKENS = 1e18  # more is a typing error, and would not fit the 64-bit counts of the tables


@dataclass(frozen=True)
class SkippedCell:
    """An observation of the design that the plan leaves out."""

    series: str
    rung: Rung
    budget_flops: float | None
    tokens: float
    reason: str


@dataclass(frozen=True)
class Setting:
    """What all runs of a sweep share."""

    seq_len: int
    vocab_size: int
    tokens_per_param: tuple[float, float] = (0.0, math.inf)
    """Window of the cells to keep, ends included."""
    backbone: BackboneName = "gidd"

    def flops_per_token(self, rung: Rung, doubled_share: float = 0.0) -> FlopsPerToken:
        """Training FLOPs per token of data of a rung."""
        return flops_per_token(rung, self.seq_len, self.vocab_size, doubled_share, self.backbone)

    def params(self, rung: Rung) -> int:
        """Trunk parameters of a rung in the sweep's network, by which laws are measured."""
        return parameter_groups(rung, 0, 0, self.backbone).trunk

    def why_outside(self, rung: Rung, tokens: float) -> str:
        """Why a cell is not kept; empty if it is."""
        low, high = self.tokens_per_param
        ratio = tokens / trunk_params(rung)
        if low <= ratio <= high:
            return ""
        side, end = ("below", low) if ratio < low else ("above", high)
        return f"{ratio:.4g} tokens per parameter, {side} the window's {end:g}"


@dataclass(frozen=True)
class Run:
    """One rung of one series, or one observation of it: what all its seeds share."""

    series: ResolvedSeries
    rung: Rung
    optimizer: Optimizer
    flops_per_token: FlopsPerToken
    cells: tuple[Observation, ...]
    skipped: tuple[SkippedCell, ...]
    problems: tuple[Problem, ...]
    why: str = ""
    """What it is for, where nobody listed it."""
    law: FoundLaw | None = None
    tuned: TunedRun | None = None
    """What `law` gave, and expects of it."""


def plan_runs(
    series: ResolvedSeries,
    rung: Rung,
    targets: Sequence[TargetPoint],
    shared_targets: Sequence[TargetPoint],
    setting: Setting,
    law: FoundLaw | None = None,
) -> list[Run]:
    """The runs of a series that reach its targets of a rung; `shared_targets`: of all series.

    `law` says what is tuned.
    """
    if series.train.schedule in ENDLESS_SCHEDULES:

        def run_of(part: Sequence[TargetPoint], own: Sequence[TargetPoint]) -> Run:
            # `auto` is resolved by the targets of every series, `tuned` by those of the part.
            point = _tuned_point(series, rung, part, setting, law)
            optimizer = optimizer_for(series.train, rung, shared_targets, setting, point)
            return _run(series, rung, own, optimizer, setting, point)

        if targets[0].is_added:  # trains as the runs that it stands beside
            parts = _parts(series.train, shared_targets, lambda part: run_of(part, part))
            beside = [_nearest(target, parts, series, rung, setting) for target in targets]
            return [
                run_of(part, [t for t, i in zip(targets, beside, strict=True) if i == n])
                for n, part in enumerate(parts)
                if n in beside
            ]
        parts = _parts(series.train, targets, lambda part: run_of(part, part))
        return [run_of(part, part) for part in parts]
    # The points that a run passes are not the ends of shorter ones: one run for each target, with
    # `auto` and `tuned` resolved by that one.
    runs: list[Run] = []
    for target in targets:
        point = _tuned_point(series, rung, [target], setting, law)
        optimizer = optimizer_for(series.train, rung, [target], setting, point)
        run = _run(series, rung, [target], optimizer, setting, point)
        if run.cells and any(run.optimizer == other.optimizer for other in runs if other.cells):
            problem = Problem(target.path, _repeated(run.cells[0].step, rung))
            run = dataclasses.replace(run, problems=(*run.problems, problem))
        runs.append(run)
    return runs


def _tuned_point(
    series: ResolvedSeries,
    rung: Rung,
    targets: Sequence[TargetPoint],
    setting: Setting,
    law: FoundLaw | None,
) -> TunedPoint | None:
    """Where a law is asked for a run through all targets."""
    if law is None:
        return None
    per_token = setting.flops_per_token(rung, series.needs.doubled_share).total
    tokens = _middle(_kept_tokens(series.train, rung, targets, setting, per_token))
    return TunedPoint(law, setting.params(rung), tokens)


def _run(
    series: ResolvedSeries,
    rung: Rung,
    targets: Sequence[TargetPoint],
    optimizer: Optimizer,
    setting: Setting,
    point: TunedPoint | None,
) -> Run:
    """The run through all targets, with what a law expects of it."""
    run = plan_run(series, rung, targets, optimizer, setting)
    if point is None or not run.cells:
        return run
    law, params = point.found.law, point.params
    rate, batch = optimizer.learning_rate, optimizer.batch_sequences * setting.seq_len
    first, last = (
        law.excess(params, cell.tokens, rate, batch) for cell in (run.cells[0], run.cells[-1])
    )
    tuned = TunedRun(
        series=series.label,
        params=params,
        tokens=point.tokens,
        keys=tuned_keys(series.train),
        learning_rate=rate,
        batch_tokens=batch,
        law=point.found.label,
        file=point.found.file,
        extrapolation=law.extrapolation(params, point.tokens),
        first_excess=first,
        last_excess=last,
    )
    return dataclasses.replace(run, law=point.found, tuned=tuned)


def _parts(
    train: Train, targets: Sequence[TargetPoint], run_of: Callable[[Sequence[TargetPoint]], Run]
) -> list[Sequence[TargetPoint]]:
    """Targets in as few parts as keep the bias of each part's run within what its owner allows."""
    if math.isinf(train.max_horizon_bias):
        return [targets]
    parts: list[Sequence[TargetPoint]] = []
    end = len(targets)
    while end:
        # From the largest down: what the longest run can serve costs nothing more.
        start = end - 1
        while start:
            run = run_of(targets[start - 1 : end])
            if run.tuned and run.tuned.bias > train.max_horizon_bias:
                break
            start -= 1
        parts.insert(0, targets[start:end])
        end = start
    return parts


def _nearest(
    target: TargetPoint,
    parts: Sequence[Sequence[TargetPoint]],
    series: ResolvedSeries,
    rung: Rung,
    setting: Setting,
) -> int:
    """Index of the part whose tokens are nearest to those of a target, in log."""
    per_token = setting.flops_per_token(rung, series.needs.doubled_share).total
    least = recipe.MIN_BATCH_SEQUENCES * setting.seq_len

    def distance(part: Sequence[TargetPoint]) -> float:
        own = target.tokens(per_token, least)
        return min(abs(math.log(each.tokens(per_token, least) / own)) for each in part)

    return min(range(len(parts)), key=lambda i: distance(parts[i]))


def plan_run(
    series: ResolvedSeries,
    rung: Rung,
    targets: Sequence[TargetPoint],
    optimizer: Optimizer,
    setting: Setting,
) -> Run:
    """The run that passes all targets of a rung which lie in the window."""
    flops = setting.flops_per_token(rung, series.needs.doubled_share)
    tokens_per_step = optimizer.batch_sequences * setting.seq_len
    cells: dict[int, Observation] = {}
    skipped: list[SkippedCell] = []
    problems: list[Problem] = []
    for target in targets:
        tokens = target.tokens(flops.total, tokens_per_step)
        budget = target.budget_flops
        reason = "" if target.is_added else setting.why_outside(rung, tokens)
        if reason:
            skipped.append(SkippedCell(series.label, rung, budget, tokens, reason))
            continue
        step = max(1, round(tokens / tokens_per_step))  # MIN_STEPS bounds what rounding moves
        if target.unit == "steps" and isinstance(series.train.batch_tokens, str):
            expected = "expected train.batch_tokens as a number: it says how many tokens a step has"
        else:
            expected = _objection(target, rung, tokens, tokens_per_step)
        if not expected and step in cells:
            expected = _repeated(step, rung)
        if expected and target.is_optional:
            skipped.append(SkippedCell(series.label, rung, budget, tokens, expected))
            continue
        if expected:
            problems.append(Problem(target.path, expected))
        n_tokens = step * tokens_per_step
        cells[step] = Observation(budget, step, n_tokens, n_tokens * flops.total)
    optimizer = _over_its_length(optimizer, series.train, max(cells, default=0))
    return Run(series, rung, optimizer, flops, (*cells.values(),), (*skipped,), (*problems,))


def optimizer_for(
    train: Train,
    rung: Rung,
    targets: Sequence[TargetPoint],
    setting: Setting,
    tuned: TunedPoint | None = None,
) -> Optimizer:
    """Optimiser settings of a run, `auto` and `tuned` resolved, except what its length decides.

    `targets` resolve `auto`; `tuned` is needed where something is.
    """
    # Of a network that reads each token once, so that all series share the batch.
    per_token = setting.flops_per_token(rung).total
    kept = _kept_tokens(train, rung, targets, setting, per_token)
    if train.batch_tokens == "auto":
        # The batch suits the geometric middle of the first and last observation.
        batch = recipe.batch_sequences(_middle(kept), setting.seq_len)
    elif train.batch_tokens == "tuned":
        assert tuned is not None
        batch = tuned.batch_sequences(setting.seq_len)
    else:
        batch = max(1, round(train.batch_tokens / setting.seq_len))
    tokens_per_step = batch * setting.seq_len
    rate, auxiliary_rate, warmup = train.learning_rate, train.auxiliary_learning_rate, train.warmup
    if rate == "auto":
        rate = recipe.learning_rate(tokens_per_step, setting.backbone)
    elif rate == "tuned":
        assert tuned is not None
        rate = tuned.learning_rate(tokens_per_step)
    if auxiliary_rate == "auto":
        auxiliary_rate = recipe.AUXILIARY_LEARNING_RATE
    if warmup == "auto":
        warmup = recipe.warmup_steps(round(kept[0] / tokens_per_step))
    elif isinstance(warmup, WarmupShare):
        warmup = warmup.at_least
    return Optimizer(
        batch_sequences=batch,
        learning_rate=rate,
        auxiliary_learning_rate=auxiliary_rate,
        warmup_steps=warmup,
        embedding_learning_rate_ratio=train.embedding_learning_rate_ratio,
        schedule=train.schedule,
        name=train.optimizer,
        betas=train.betas,
        weight_decay=train.weight_decay,
        clip_norm=train.clip_norm,
        ema_decay=train.ema,
    )


def _kept_tokens(
    train: Train, rung: Rung, targets: Sequence[TargetPoint], setting: Setting, per_token: float
) -> list[float]:
    """Tokens of the targets in the window, or of all if none is, increasing."""
    given = train.batch_tokens
    if isinstance(given, str):
        given = recipe.MIN_BATCH_SEQUENCES * setting.seq_len
    asked = sorted(target.tokens(per_token, given) for target in targets)
    return [tokens for tokens in asked if not setting.why_outside(rung, tokens)] or asked


def _middle(tokens: Sequence[float]) -> float:
    """Geometric middle of the first and the last."""
    return math.sqrt(tokens[0]) * math.sqrt(tokens[-1])  # not of the product, which may overflow


def _over_its_length(optimizer: Optimizer, train: Train, n_steps: int) -> Optimizer:
    """The settings with whatever depends on the length of the run fitted to it."""
    if isinstance(train.warmup, WarmupShare):
        optimizer = dataclasses.replace(optimizer, warmup_steps=train.warmup.steps(n_steps))
    if train.schedule == "constant":
        return optimizer
    optimizer = dataclasses.replace(optimizer, schedule_steps=n_steps)
    if train.schedule == "cosine":
        lowest = train.min_learning_rate_ratio
        lowest = recipe.MIN_LEARNING_RATE_RATIO if lowest == "auto" else lowest
        return dataclasses.replace(optimizer, min_learning_rate_ratio=lowest)
    share = recipe.COOLDOWN_SHARE if train.cooldown == "auto" else train.cooldown
    return dataclasses.replace(optimizer, cooldown_steps=max(1, round(share * n_steps)))


def _objection(target: TargetPoint, rung: Rung, tokens: float, tokens_per_step: int) -> str:
    """Why a cell cannot be trained; empty if it can."""
    if tokens > MAX_TOKENS:
        return f"{tokens:.3g} tokens for {name_of(rung)} — expected at most {MAX_TOKENS:g}"
    n_steps = round(tokens / tokens_per_step)
    if n_steps >= MIN_STEPS:
        return ""
    if target.unit == "steps":
        return f"{n_steps} steps for {name_of(rung)} — expected at least {MIN_STEPS}"
    least = target.amount / tokens * MIN_STEPS * tokens_per_step
    other = "narrow tokens_per_param to leave it out" if target.unit == "flops" else "leave it out"
    return (
        f"{n_steps} steps of {tokens_per_step:,} tokens for {name_of(rung)} — expected at least "
        f"{MIN_STEPS}: raise it to {least:.3g}, lower train.batch_tokens or {other}"
    )


def _repeated(n_steps: int, rung: Rung) -> str:
    return f"the same {n_steps:,} steps as another for {name_of(rung)}; leave one out"


def name_of(rung: Rung) -> str:
    """A model, as messages call it."""
    return f"the {trunk_params(rung):,}-parameter model"
