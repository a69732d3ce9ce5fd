"""Verbs that look at a results folder: `status` and `verify`. They need no running driver."""

import click

from sweeper.store.storage import StorePath, place
from sweeper.verbs.cancel import how_to_go_on
from sweeper.verbs.options import json_option
from sweeper.verbs.output import print_json, say, show


@click.command()
@click.argument("folder", type=place)
@json_option
def status(folder: StorePath, as_json: bool) -> None:
    """What of a sweep is done, running, failed and waiting. Needs no running driver.

    Example: sweeper status results/quick
    """
    from sweeper.orchestration.status import status as status_of
    from sweeper.orchestration.status import to_json
    from sweeper.store.layout import open_store
    from sweeper.verbs.status_view import status_view

    found = status_of(open_store(folder))
    if as_json:
        print_json(to_json(found))
        return
    show(status_view(found))
    if not found.is_driver_alive and found.flops_done < found.flops_planned:
        say(how_to_go_on(folder))


@click.command()
@click.argument("folder", type=place)
@json_option
@click.pass_context
def verify(context: click.Context, /, folder: StorePath, as_json: bool) -> None:
    """Check a results folder: what is torn, orphaned, duplicated or inconsistent is named.

    Exit code 1 when something is found.

    Example: sweeper verify results/quick
    """
    from sweeper.orchestration.verify import to_json
    from sweeper.orchestration.verify import verify as verify_folder

    findings = verify_folder(folder)
    if as_json:
        say(to_json(findings))
    else:
        for finding in findings:
            say(f"{finding.file}: {finding.message} [{finding.code}]")
        noun = "finding" if len(findings) == 1 else "findings"
        say(f"{folder}: {len(findings)} {noun}" if findings else f"{folder}: sound")
    context.exit(1 if findings else 0)
