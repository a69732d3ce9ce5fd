"""What is wrong with a plan: problems that refuse it, and warnings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sweeper.planning.design import n_targets
from sweeper.planning.runs import Run, name_of
from sweeper.planning.tuned import FAR, TunedRun, difference_text
from sweeper.sweepfile.fields import AUTO
from sweeper.sweepfile.problems import Problem
from sweeper.sweepfile.schema import Sweep
from sweeper.trials.ladder import Rung, trunk_params
from sweeper.trials.trial import EMBEDDING_LEARNING_RATE_RATIO

MAX_CELLS = 1_000_000  # of all series and seeds; a plan of more would fill the memory
MIN_SIZES_PER_BUDGET = 5  # fewer leave a parabola through the points with hardly a residual
MAX_EPOCHS = 4  # beyond, repeated data are worth visibly less than fresh ones (arXiv 2305.16264)
MAX_ASSUMPTION_ERROR = 0.05  # of assumed counts, relative; more is another corpus


@dataclass(frozen=True)
class CorpusFacts:
    """What a plan knows about its corpus."""

    source: str
    fingerprint: str | None
    """None where the facts are assumed, as the corpus is not available."""
    vocab_size: int
    seq_len: int
    train_tokens: int
    validation_tokens: int
    bytes_per_token: float | None


@dataclass(frozen=True)
class PlanWarning:
    """Something that a plan may have and its owner should know."""

    code: str
    message: str


def size_problems(sweep: Sweep) -> Iterator[Problem]:
    """A design of so many cells that it must be a mistake."""
    n_runs = sum(len(sweep.train.overridden_by(one.train).seeds) for one in sweep.series.values())
    n_cells = n_targets(sweep.design) * n_runs
    if n_cells > MAX_CELLS:
        expected = f"a design of {n_cells:,} cells; expected at most {MAX_CELLS:,}"
        yield Problem(("design",), expected)


def corpus_problems(sweep: Sweep, facts: CorpusFacts) -> Iterator[Problem]:
    """A corpus too small for its sequences or for the evaluation."""
    if facts.train_tokens < facts.seq_len:
        expected = f"expected at most the {facts.train_tokens:,} training tokens of the corpus"
        yield Problem(("corpus", "seq_len"), expected)
        return
    available, asked = facts.validation_tokens // facts.seq_len, sweep.evaluation.sequences
    if available < asked:
        expected = (
            f"{asked:,} sequences of {facts.seq_len} tokens, but the validation set holds "
            f"{available:,} — expected at most that: set evaluation.sequences, shorten seq_len or "
            "take a larger corpus"
        )
        yield Problem(("evaluation", "sequences"), expected)


def assumption_problems(sweep: Sweep, facts: CorpusFacts) -> Iterator[Problem]:
    """Assumed facts that the corpus, now available, contradicts."""
    assumed = sweep.corpus.assume
    if assumed is None:
        return
    if assumed.vocab_size != facts.vocab_size:
        expected = f"the corpus {facts.source!r} has a vocabulary of {facts.vocab_size:,}"
        yield Problem(("corpus", "assume", "vocab_size"), f"{expected}: expected the same")
    for name in ("train_tokens", "validation_tokens", "bytes_per_token"):
        told, found = getattr(assumed, name), getattr(facts, name)
        if told is None or (found and abs(told - found) <= MAX_ASSUMPTION_ERROR * found):
            continue
        expected = (
            f"the corpus {facts.source!r} has {found or 'no'} {name}: expected the same "
            f"within {MAX_ASSUMPTION_ERROR:.0%}"
        )
        yield Problem(("corpus", "assume", name), expected)


def run_problems(sweep: Sweep, runs: Sequence[Run]) -> Iterator[Problem]:
    """Cells that cannot be trained, schedules that do not fit their run, or no cell at all."""
    for run in runs:
        yield from run.problems
        yield from _key_problems(sweep, run)
        if run.cells and not run.problems:
            yield from _schedule_problems(sweep, run)
    if not any(run.cells or run.problems for run in runs):
        ratios = [cell.tokens / trunk_params(cell.rung) for run in runs for cell in run.skipped]
        expected = (
            "a window that leaves no cell — expected it to overlap the design's own "
            f"{min(ratios):.3g} to {max(ratios):.3g} tokens per parameter"
        )
        yield Problem(("design", "isoflop", "tokens_per_param"), expected)


def _key_problems(sweep: Sweep, run: Run) -> Iterator[Problem]:
    """Keys for another schedule than the run's, another backbone or another kind of family."""
    series, train = run.series, run.series.train
    # Keys of the parameter groups that only the backbone gidd has, with their defaults.
    group_keys = {
        "auxiliary_learning_rate": AUTO,
        "embedding_learning_rate_ratio": EMBEDDING_LEARNING_RATE_RATIO,
    }
    for key, default in group_keys.items():
        if sweep.backbone != "gidd" and getattr(train, key) != default:
            expected = (
                f"for the backbone {sweep.backbone} — expected no {key}: it trains all tensors at "
                "train.learning_rate"
            )
            yield Problem(series.train_path(sweep, key), expected)
    for key, schedule in (("cooldown", "wsd"), ("min_learning_rate_ratio", "cosine")):
        if getattr(train, key) != AUTO and train.schedule != schedule:
            expected = (
                f"for series {series.label!r} of schedule {train.schedule} — expected auto or "
                f"nothing there: only {schedule} has a {key}"
            )
            yield Problem(series.train_path(sweep, key), expected)
    if train.optimizer == "muon" and sweep.resources.of(run.rung, sweep.corpus.seq_len).sharded:
        expected = (
            f"whole matrices, but {name_of(run.rung)} is spread over ranks in shards — expected "
            "adamw or laprop, or resources without shard"
        )
        yield Problem(series.train_path(sweep, "optimizer"), expected)
    if train.prefix_share and series.needs.attention != "bidirectional":
        expected = (
            f"series {series.label!r} ({series.family}) predicts each token from those before it "
            "anyway: expected 0, which it may have under a train of its own"
        )
        yield Problem(series.train_path(sweep, "prefix_share"), expected)


def _schedule_problems(sweep: Sweep, run: Run) -> Iterator[Problem]:
    """A warmup that is not over by the first observation, or that leaves no room for a cooldown."""
    first, warmup = run.cells[0].step, run.optimizer.warmup_steps
    cooldown = run.optimizer.cooldown_steps
    before = f"the {first:,} before {name_of(run.rung)} is first observed"
    if warmup >= first:
        path = run.series.train_path(sweep, "warmup")
        yield Problem(path, f"expected fewer steps than {before}")
    elif warmup + cooldown > first:
        expected = (
            f"{cooldown:,} steps of cooldown after {warmup:,} of warmup — expected no more than "
            f"{before}"
        )
        yield Problem(run.series.train_path(sweep, "cooldown"), expected)


def warnings(sweep: Sweep, facts: CorpusFacts, runs: Sequence[Run]) -> Iterator[PlanWarning]:
    """All warnings of a plan but that of an assumed corpus."""
    for budget in sorted(sweep.design.isoflop.budgets if sweep.design.isoflop else ()):
        n_sizes = dict.fromkeys(sweep.series, 0)
        for run in runs:
            n_sizes[run.series.label] += any(cell.budget_flops == budget for cell in run.cells)
        fewest = min(n_sizes.values())
        if fewest < MIN_SIZES_PER_BUDGET:
            labels = ", ".join(label for label, n in n_sizes.items() if n == fewest)
            yield PlanWarning(
                "few_sizes",
                f"budget {budget:g} keeps {fewest} sizes for {labels}; a parabola wants at least "
                f"{MIN_SIZES_PER_BUDGET}: add sizes or widen tokens_per_param",
            )
    yield from _idle_sizes(runs)
    yield from _repeated_data(facts, runs)
    yield from _foreign_laws(runs)
    yield from _far_laws(runs)


def _idle_sizes(runs: Sequence[Run]) -> Iterator[PlanWarning]:
    trained = {(run.series.label, run.rung) for run in runs if run.cells}
    idle: dict[int, dict[str, None]] = {}  # labels in order, each once
    for run in runs:
        if (run.series.label, run.rung) not in trained:
            idle.setdefault(trunk_params(run.rung), {})[run.series.label] = None
    for params, labels in idle.items():
        yield PlanWarning(
            "idle_size",
            f"the {params:,}-parameter model is not trained for {', '.join(labels)}: none of its "
            "budgets lies in tokens_per_param",
        )


def _repeated_data(facts: CorpusFacts, runs: Sequence[Run]) -> Iterator[PlanWarning]:
    epochs: dict[Rung, float] = {}
    for run in runs:
        if run.cells:
            longest = run.cells[-1].tokens / facts.train_tokens
            epochs[run.rung] = max(longest, epochs.get(run.rung, 0.0))
    many = {rung: n for rung, n in epochs.items() if n > MAX_EPOCHS}
    if many:
        rung, most = max(many.items(), key=lambda item: item[1])
        yield PlanWarning(
            "repeated_data",
            f"{len(many)} of {len(epochs)} sizes read the {facts.train_tokens:,} training tokens "
            f"more than {MAX_EPOCHS} times, the {trunk_params(rung):,}-parameter model {most:.1f} "
            "times: repeated data are worth less than fresh ones",
        )


def _foreign_laws(runs: Sequence[Run]) -> Iterator[PlanWarning]:
    """Laws that were measured with other betas, weight decay or averaging; each once."""
    told = set()
    for run in runs:
        if run.law is None or not run.law.differences:
            continue
        message = (
            f"series {run.series.label!r} is tuned by the law {run.law.label!r} of {run.law.file}, "
            f"which was measured at {difference_text(run.law, run.series.train)}: the best "
            "rate and batch may be others; `sweeper tune` measures them"
        )
        if message not in told:
            told.add(message)
            yield PlanWarning("foreign_law", message)


def _far_laws(runs: Sequence[Run]) -> Iterator[PlanWarning]:
    """For each series the run for which its law reaches the farthest, if that is far."""
    farthest: dict[str, TunedRun] = {}
    for run in runs:
        tuned = run.tuned
        if tuned and tuned.extrapolation > FAR:
            known = farthest.setdefault(tuned.series, tuned)
            if tuned.extrapolation > known.extrapolation:
                farthest[tuned.series] = tuned
    for tuned in farthest.values():
        yield PlanWarning(
            "far_law",
            f"the law {tuned.law!r} of {tuned.file} tunes the {tuned.params:,}-parameter model of "
            f"{tuned.series!r} for {tuned.tokens:.3g} tokens, a factor {tuned.extrapolation:.3g} "
            "outside the sizes and tokens it was measured at",
        )
