"""The verb that runs a driver on a cluster: `submit`."""

import contextlib
import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeper.errors import ExitCode, MissingPackage, SweeperError, UnavailableData
from sweeper.store.storage import place
from sweeper.verbs.options import json_option, sweep_arguments, takeover_option
from sweeper.verbs.output import print_json, say
from sweeper.verbs.plan import planned_sweep

if TYPE_CHECKING:
    from sweeper.launch.keep_alive import JobWatch
    from sweeper.launch.ray_jobs import JobRequest

LOG_LINES_SHOWN = 20


@click.command()
@sweep_arguments
@click.option(
    "--address",
    required=True,
    metavar="URL",
    help="Dashboard of the Ray cluster, such as http://127.0.0.1:8265.",
)
@click.option(
    "--results",
    required=True,
    metavar="DIR|URL",
    help="Folder that all nodes share, or a bucket; the sweep's own is DIR/<name>.",
)
@takeover_option
@click.option("--keep-alive", "is_kept_alive", is_flag=True, help="Stay, submit again if it dies.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the driver has started.")
@json_option
@click.pass_context
def submit(context: click.Context, /, sweep_file: Path, as_json: bool, **options: Any) -> None:
    """Run a sweep's driver as a job of a Ray cluster, where it takes no slot of a trial.

    Everything that can be checked here is checked before; then it waits until the driver has
    started, or has said why not. Submit again to resume or to extend; a driver that is at work is
    handed the edited file. The cluster needs this package, and gets the sweep file and nothing
    else: no code, and no environment variable.

    With --keep-alive the exit code is that of `sweeper run`; Ctrl-C ends only the watching.

    Example: sweeper submit sweeps/quick.yaml --address http://127.0.0.1:8265 --results /shared
    """
    from sweeper.launch.keep_alive import JobWatch
    from sweeper.launch.ray_jobs import JobServer, commands_for, submission_to_json

    request, notes = _request(sweep_file, options)
    server = JobServer(options["address"])
    for note in notes:
        say(f"note: {note}", err=True)
    job_id = server.submit(request)
    if as_json:
        print_json(submission_to_json(request, server.address, job_id))
    else:
        say(f"submitted job {job_id}")
        for name, command in commands_for(request, server.address, job_id).items():
            say(f"  {name:<7} {command}")
    watch = JobWatch(server, partial(say, err=True), time.sleep, time.monotonic, latest)
    context.exit(_stay(watch, request, job_id, options))


def _request(sweep_file: Path, options: dict[str, Any]) -> "tuple[JobRequest, list[str]]":
    """The job and notes on it, after every check that this machine can make."""
    from sweeper.launch.paths import overrides_for_cluster, results_on_cluster
    from sweeper.launch.ray_jobs import JobRequest
    from sweeper.planning.planner import preview_sweep
    from sweeper.sweepfile.schema import load_sweep

    results, notes = results_on_cluster(options["results"])
    own_overrides, path_notes = overrides_for_cluster(load_sweep(sweep_file, options["overrides"]))
    overrides = (*options["overrides"], *own_overrides)
    loaded = load_sweep(sweep_file, overrides)
    try:
        _, planned = planned_sweep(
            sweep_file, overrides, place(results), preview_sweep, runs_here=False
        )
        notes += [f"{warning.message} [{warning.code}]" for warning in planned.warnings]
    except (UnavailableData, MissingPackage) as error:
        notes.append(f"sizes and tokens are checked on the cluster alone: {error}")
    text = loaded.document.as_submitted()
    request = JobRequest(loaded.sweep.name, text, results, options["takeover"])
    return request, notes + path_notes


def latest(request: "JobRequest") -> "JobRequest":
    """A job with the sweep file as last submitted, if the results can be read from here."""
    with contextlib.suppress(OSError, ValueError, SweeperError):
        folder = place(request.results) / request.sweep
        revisions = (folder / "revisions").glob("*.yaml")
        # If the job's own file was not recorded, sweep.yaml is older than the job.
        if any(revision.read_text("utf-8") == request.text for revision in revisions):
            return dataclasses.replace(request, text=(folder / "sweep.yaml").read_text("utf-8"))
    return request


def _stay(watch: "JobWatch", request: "JobRequest", job_id: str, options: dict[str, Any]) -> int:
    """Wait for the start, or the end, of a job; the exit code."""
    from sweeper.launch import keep_alive

    try:
        if options["is_kept_alive"]:
            job_id, state = keep_alive.keep_alive(watch, request, job_id)
        elif options["no_wait"]:
            return ExitCode.DONE
        else:
            state = keep_alive.watch_start(watch, request, job_id)
    except KeyboardInterrupt:
        say(f"job {job_id} goes on; it is only not watched any more", err=True)
        return ExitCode.INTERRUPTED
    how = f"has ended, {state.status}: {state.message}" if state.has_ended else f"is {state.status}"
    say(f"job {job_id} {how}", err=True)
    log = watch.jobs.log(job_id)
    # Ray and the corpus print before the first line of ours, and matter only if there is none.
    lines = log[max(0, log.find(keep_alive.first_line(request))) :].splitlines()
    for line in lines[-LOG_LINES_SHOWN:]:
        say(f"  {line}", err=True)
    if not state.has_ended:
        return ExitCode.DONE
    code = keep_alive.exit_code(state)
    return ExitCode.INTERRUPTED if code is None else code
