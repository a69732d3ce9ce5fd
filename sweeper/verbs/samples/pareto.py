"""The verb `pareto`: how good samples are against how fast they come."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeper.errors import ExitCode
from sweeper.store.storage import StoragePath
from sweeper.verbs.driving.drive import Machines, executor_of, machine_options
from sweeper.verbs.options import json_option, source_argument
from sweeper.verbs.output import print_json, progress_on_stderr, say

if TYPE_CHECKING:
    from sweeper.pareto.driver import MeasuringOutcome
    from sweeper.pareto.grid import Grid, JudgeChoice


class Listed(click.ParamType[Any]):
    """Values with commas between them."""

    name = "LIST"

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """The values; fails for a part that is none."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self._parse(part.strip()) for part in str(value).split(","))
        except ValueError:
            self.fail(f"expected values with commas between them, not {value!r}", param, ctx)


@click.command()
@source_argument
@click.option("--models", "series", default=(), type=Listed(str), help="Series; default: all.")
@click.option("--budget", type=float, metavar="C", help="Models of this budget, in FLOPs.")
@click.option("--samplers", default=("ancestral",), type=Listed(str), show_default="ancestral")
@click.option("--steps", default=(), type=Listed(int), help="Default: powers of two up to all.")
@click.option(
    "--temperatures",
    default=(0.7, 0.85, 1.0, 1.15),
    type=Listed(float),
    show_default="0.7,0.85,1,1.15",
)
@click.option("--top-p", default=(1.0,), type=Listed(float), show_default="1")
@click.option("--sequences", "n_sequences", default=256, show_default=True, metavar="N")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--judge",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Hugging Face model that judges; default: the best ar model of the sweep.",
)
@machine_options
@click.option("--baseline", metavar="LABEL", help="Series whose speed others are compared with.")
@click.option(
    "--entropy-of",
    default="unigram",
    show_default=True,
    type=click.Choice(["unigram", "ngram"]),
    help="Which entropy is held equal.",
)
@click.option("--entropy", type=float, metavar="NATS", help="Default: the one most settings reach.")
@click.option(
    "--speed",
    "speed_of",
    default="time",
    show_default=True,
    type=click.Choice(["time", "calls"]),
    help="Tokens per second, or of a sequence per call of its network.",
)
@click.option(
    "--only", multiple=True, metavar="NAME=VALUE", help="Read rows of this protocol; repeatable."
)
@click.option("--bootstrap", "n_resamples", default=1000, show_default=True, metavar="N")
@json_option
@click.pass_context
def pareto(context: click.Context, /, source: StoragePath, as_json: bool, **options: Any) -> None:
    """Quality of samples against their speed: measure what is missing, then compare.

    SOURCE is a results folder, whose kept models generate at every number of steps and temperature,
    each a trial of its own; run it again to resume. Or it is a table of samples, which is read.

    Qualities are compared at equal entropy. Negative controls, samplers of nonsense, are measured
    too; a metric that prefers one of them says so.

    Example: sweeper pareto results/samples --steps 1,4,16,64 --sequences 128
    """
    from analysis.pareto.answer import Asked, answer
    from analysis.pareto.samples import load_samples
    from analysis.report.samples import pareto_text

    chosen = dict(_pair(text) for text in options["only"])
    exit_code = ExitCode.DONE
    if (source / "plan.json").is_file():
        with progress_on_stderr(as_json):
            outcome, conditions = _measure(source, options)
        exit_code, chosen = _exit_code(outcome), conditions | chosen
    asked = Asked(
        baseline=options["baseline"],
        entropy_of=options["entropy_of"],
        entropy_nats=options["entropy"],
        n_resamples=options["n_resamples"],
    )
    if exit_code in (ExitCode.DONE, ExitCode.SOME_FAILED):
        found = answer(load_samples(source, chosen, options["speed_of"]), asked)
        if as_json:
            print_json(found.to_json())
        else:
            say(pareto_text(found))
    context.exit(exit_code)


def _measure(
    source: StoragePath, options: dict[str, Any]
) -> "tuple[MeasuringOutcome, dict[str, str]]":
    """Measure what is missing; what came of it, and the conditions of these measurements."""
    from sweeper.executors.stop import StopSignal
    from sweeper.orchestration.lease import held
    from sweeper.pareto.driver import MeasuringRun, run_measurements
    from sweeper.pareto.planned import planned_measurements
    from sweeper.store.layout import open_store
    from sweeper.store.measurements import sampling_store
    from sweeper.store.submission import read_plan
    from sweeper.store.tables import refresh_samples
    from sweeper.verbs.worker_entry import run_measurement

    machines, store = Machines.of(options), open_store(source)
    machines.check(source.parent)
    plan = read_plan(store)
    grid, judge = _grid(options), _judge(options)
    wanted = planned_measurements(store, plan, grid, judge, is_on_gpus=_is_on_gpus(machines))
    own, stop = sampling_store(store), StopSignal()
    with held(own, takeover=machines.takeover) as lease:

        def is_stopped() -> bool:
            if request := lease.stop_request():
                stop.request(request)
            return stop.is_requested()

        with _refreshed(lambda: refresh_samples(store, plan)):
            outcome = run_measurements(
                MeasuringRun(
                    store=own,
                    sweep=plan.name,
                    wanted=wanted,
                    executor=executor_of(
                        machines, run_measurement, is_stopped, wanted[0].task.device
                    ),
                    stop=stop,
                    tell=say,
                    stop_request=lease.stop_request,
                )
            )
    if outcome.n_left:
        say(f"{outcome.n_left} measurements are left; run the same command again to go on")
    if outcome.n_failed:
        say(f"{outcome.n_failed} measurements failed, see above; the same command tries them again")
    task = wanted[0].task
    conditions = {
        "judge_revision": max(each.task.judge_revision for each in wanted),  # its own rows: none
        "n_sequences": str(task.n_sequences),
        "context_tokens": str(task.context_tokens),
        "sampling_version": str(task.sampling_version),
    }
    return outcome, {name: value for name, value in conditions.items() if value}


@contextlib.contextmanager
def _refreshed(refresh: Callable[[], None]) -> Iterator[None]:
    """Write the table however the measuring ended: what is published is not lost to readers."""
    try:
        yield
    finally:
        refresh()


def _grid(options: dict[str, Any]) -> "Grid":
    from sweeper.pareto.grid import Grid

    names = ("series", "samplers", "steps", "temperatures", "top_p", "n_sequences", "seed")
    return Grid(budget_flops=options["budget"], **{name: options[name] for name in names})


def _judge(options: dict[str, Any]) -> "JudgeChoice | None":
    if options["judge"] is None:
        return None
    from sweeper.pareto.candidates import named_judge

    return named_judge(options["judge"])


def _is_on_gpus(machines: Machines) -> bool:
    import torch

    is_on_gpus = machines.is_on_gpus()
    return torch.cuda.is_available() if is_on_gpus is None else is_on_gpus


def _exit_code(outcome: "MeasuringOutcome") -> ExitCode:
    if outcome.n_left:
        return ExitCode.INTERRUPTED
    return ExitCode.SOME_FAILED if outcome.n_failed else ExitCode.DONE


def _pair(text: str) -> tuple[str, str]:
    name, is_pair, value = text.partition("=")
    if not is_pair:
        message = f"expected NAME=VALUE, for instance n_sequences=256, not {text!r}"
        raise click.BadParameter(message, param_hint="--only")
    return name.strip(), value.strip()
