"""How `tune` searches with Optuna: it drives the search's own sweep, and shows what did best."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.errors import ConfigError, ExitCode
from sweeper.store.storage import StoragePath
from sweeper.verbs.driving.drive import Machines, drive
from sweeper.verbs.output import TextTable, plain, print_json, progress_on_stderr, say, show
from sweeper.verbs.plan import has_gpu

if TYPE_CHECKING:
    from sweeper.planning.planner import PlannedSweep
    from sweeper.sweepfile.schema import LoadedSweep
    from sweeper.tuning.search import Tried
    from sweeper.tuning.search_sweep import SearchSweep

SHOWN_TRIALS = 10


def loaded_search(sweep_file: Path, overrides: tuple[str, ...]) -> "LoadedSweep | None":
    """The sweep file, if it asks for a search."""
    from sweeper.sweepfile.document import apply_overrides, read_document
    from sweeper.sweepfile.named_laws import without_laws
    from sweeper.sweepfile.schema import load_sweep, validated

    # Where laws are to be measured first, their files need not exist yet.
    document = without_laws(apply_overrides(read_document(sweep_file), overrides))
    return load_sweep(sweep_file, overrides) if validated(document).sweep.tune.search else None


def search(
    loaded: "LoadedSweep",
    results: StoragePath,
    machines: Machines,
    journal: Path | None,
    *,
    as_json: bool,
) -> ExitCode:
    """Train what is missing of a search and show it, or only write it to a journal."""
    sweep = search_sweep(loaded, results, machines)
    if journal is not None:
        export_search(sweep, loaded.sweep.name, journal)
        return ExitCode.DONE
    with progress_on_stderr(as_json):
        code = run_search(sweep, results, machines)
    result = result_of(sweep)
    if as_json:
        print_json(result_to_json(result))
    else:
        show(result_view(result))
    return code


def search_sweep(loaded: "LoadedSweep", results: StoragePath, machines: Machines) -> "SearchSweep":
    """The search that a sweep file asks for; raises ConfigError for what cannot be searched."""
    from sweeper.data.corpus import cache_beside
    from sweeper.planning.planner import plan_revision, plan_sweep
    from sweeper.planning.recipe import bfloat16_from_width
    from sweeper.store.layout import store_at
    from sweeper.tuning.search_sweep import SearchSweep, search_name, search_of

    width = bfloat16_from_width(has_gpu=has_gpu(loaded, machines.is_on_gpus()))
    cache = cache_beside(results) if loaded.sweep.corpus.is_costly_to_read else None

    # Planning the sweep itself refuses what cannot be searched, with its place in the file.
    base = plan_sweep(loaded, bfloat16_from_width=width, cache_folder=cache)

    def plan(revision: "LoadedSweep") -> "PlannedSweep":
        return plan_revision(revision, base.corpus, bfloat16_from_width=width)

    return SearchSweep(
        loaded=loaded,
        search=search_of(loaded, base.corpus.vocab_size),
        store=store_at(results, search_name(loaded.sweep.name)),
        plan=plan,
    )


def run_search(sweep: "SearchSweep", results: StoragePath, machines: Machines) -> ExitCode:
    """Train what is missing of a search, generation by generation."""
    from sweeper.tuning.search_sweep import check_search, next_revision, open_revision
    from sweeper.tuning.search_sweep import results as results_of

    def next_round(
        _: "LoadedSweep", __: "PlannedSweep", tell: Callable[[str], None]
    ) -> "tuple[LoadedSweep, PlannedSweep] | None":
        if (following := next_revision(sweep)) is None:
            return None
        n_pruned = sum(one is not None and one.is_pruned for one in results_of(sweep, following))
        tell(
            f"{len(following.settings)} of {sweep.search.n_trials} trials are chosen"
            + (f", {n_pruned} of them pruned" if n_pruned else "")
        )
        return following.loaded, following.planned

    check_search(sweep)
    if (now := open_revision(sweep)) is None:
        return ExitCode.DONE
    outcome = drive(now.loaded, now.planned, results, machines, next_round)
    return ExitCode(outcome.exit_code) if outcome else ExitCode.INTERRUPTED


def export_search(sweep: "SearchSweep", name: str, path: Path) -> None:
    """Write the results of a search so far as a journal of Optuna."""
    from sweeper.tuning.export import export_study
    from sweeper.tuning.search_sweep import results, submitted_revision

    revision = submitted_revision(sweep)
    if revision is None:
        message = f"{sweep.store.folder} has no trial of this search; run `sweeper tune` first"
        raise ConfigError(message)
    finished = [tried for tried in results(sweep, revision) if tried]
    export_study(sweep.search, finished, name, path)
    say(f"wrote {len(finished)} trials to {path}; next: optuna-dashboard {path}")


@dataclass(frozen=True)
class SearchResult:
    """What a search has found so far."""

    name: str
    labels: tuple[str, ...]
    n_trials: int
    """Trials that were asked for."""
    tried: "dict[int, Tried]"
    """Finished trials by number."""
    best: tuple[int, ...]
    """Trials that none beats in every series: with one series, the lowest bound."""
    expected: "dict[int, float]"
    """Bound that a Gaussian process over all trials expects; empty for several series, or few."""
    run_sd: float
    """Standard deviation of single runs about it; 0 where there is none."""
    flops: float = 0.0
    """Training FLOPs of all trials that were chosen, as far as they are to come."""
    flops_saved: float = 0.0
    """Of what pruned trials would have been trained on besides."""


def result_of(sweep: "SearchSweep") -> SearchResult:
    """The published results of a search."""
    from sweeper.tuning.search import best
    from sweeper.tuning.search_sweep import flops_saved, results, submitted_revision
    from sweeper.tuning.surrogate import expected_bounds

    revision = submitted_revision(sweep)
    found = results(sweep, revision) if revision else []
    tried = {number: one for number, one in enumerate(found) if one}
    done = {number: one for number, one in tried.items() if one.bounds}
    process = None
    if len(sweep.search.labels) == 1:
        settings = [one.settings for one in done.values()]
        bounds = [one.bounds[0] for one in done.values()]
        process = expected_bounds(sweep.search.space, settings, bounds)
    return SearchResult(
        name=sweep.store.folder.name,
        labels=sweep.search.labels,
        n_trials=sweep.search.n_trials,
        tried=tried,
        best=tuple([*done][i] for i in best([*done.values()])),
        expected=dict(zip(done, process.bound, strict=True)) if process else {},
        run_sd=process.run_sd if process else 0.0,
        flops=revision.planned.totals.train_flops if revision else 0.0,
        flops_saved=flops_saved(sweep, revision) if revision else 0.0,
    )


def result_to_json(result: SearchResult) -> dict[str, Any]:
    """What `sweeper tune --json` prints of a search."""
    return {
        "name": result.name,
        "series": result.labels,
        "n_trials": result.n_trials,
        "n_finished": len(result.tried),
        "best": result.best,
        "best_expected": _best_expected(result),
        "run_sd_nats_per_token": result.run_sd if result.expected else None,
        "train_flops": result.flops,
        "train_flops_saved_by_pruning": result.flops_saved,
        "trials": [
            {
                "trial": number,
                "settings": dict(one.settings),
                "status": _status(one),
                "bound_nats_per_token": dict(zip(result.labels, one.bounds, strict=False)),
                "bound_stderr_nats_per_token": dict(zip(result.labels, one.stderrs, strict=False)),
                "expected_bound_nats_per_token": result.expected.get(number),
            }
            for number, one in result.tried.items()
        ],
    }


def _status(one: "Tried") -> str:
    return "done" if one.bounds else "pruned" if one.is_pruned else "diverged"


def _best_expected(result: SearchResult) -> int | None:
    expected = result.expected
    return min(expected, key=lambda number: expected[number]) if expected else None


def result_view(result: SearchResult) -> Iterator[str | TextTable]:
    """The best trials and what to think of them."""
    done = {number: one for number, one in result.tried.items() if one.bounds}
    counted = Counter(map(_status, result.tried.values()))
    n_diverged, n_pruned = counted["diverged"], counted["pruned"]
    share = result.flops_saved / max(result.flops + result.flops_saved, 1.0)
    yield (
        f"[bold]{plain(result.name)}[/bold]: {len(result.tried)} of {result.n_trials} trials "
        f"finished{f', {n_diverged} of them diverged' if n_diverged else ''}"
        + (f", {n_pruned} of them pruned" if n_pruned else "")
        + (f", which saved {result.flops_saved:.2g} FLOPs ({share:.0%})" if n_pruned else "")
    )
    if not done:
        return
    if len(result.labels) > 1:
        front = sorted(result.best, key=lambda number: done[number].bounds)
        yield _table(result, front)
        yield f"the Pareto front: {len(front)} trials that no other beats in every series"
        return
    value = result.expected or {number: one.bounds[0] for number, one in done.items()}
    yield _table(result, sorted(done, key=lambda number: value[number])[:SHOWN_TRIALS])
    (lowest, *_), likely = result.best, _best_expected(result)
    if likely is None:
        yield (
            f"t{lowest:04d} has the lowest of {len(done)} bounds, each with the luck of its run: "
            "too few trials to say how much that is"
        )
        return
    also = " and" if likely == lowest else f", t{likely:04d}"
    yield (
        f"t{lowest:04d} has the lowest of {len(done)} bounds{also} the lowest that is expected "
        "without the luck of one run; by a Gaussian process over all trials that is "
        f"{result.run_sd:.2g} nats per token"
    )


def _table(result: SearchResult, numbers: Sequence[int]) -> TextTable:
    names = [*result.tried[numbers[0]].settings]
    bounds = [f"bound of {label}" for label in result.labels]
    expected = ["expected"] if result.expected else []
    columns = [*bounds, *expected, *names]
    table = TextTable("trial", *columns, numbers=columns)
    for number in numbers:
        one = result.tried[number]
        table.add(
            f"t{number:04d}",
            *(f"{b:.4f} ± {e:.4f}" for b, e in zip(one.bounds, one.stderrs, strict=True)),
            *([f"{result.expected[number]:.4f}"] if result.expected else []),
            *(plain(str(value)) for value in one.settings.values()),
        )
    return table
