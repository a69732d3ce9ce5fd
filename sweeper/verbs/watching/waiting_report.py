"""The verb `report` for `serve`: it loads what it needs, then waits for its arguments.

`python -m sweeper.verbs.watching.waiting_report` reads them as a JSON list from one line; it ends
without a word where its input does.
"""

import json
import os
import sys

import click

from sweeper.errors import ExitCode, SweeperError
from sweeper.verbs.output import say
from sweeper.verbs.showing.report import report


def wait_and_report() -> None:
    """Load, wait, and run the command; the last line of what fails says why."""
    # As the verb does, before numpy is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import analysis.report.html
    import analysis.sensitivity.recounted
    import analysis.sensitivity.sensitivity
    import analysis.tables.load  # noqa: F401
    from analysis.errors import FitError

    line = sys.stdin.readline()
    if not line:
        return
    try:
        report.main(json.loads(line), prog_name="sweeper report", standalone_mode=False)
    except (click.ClickException, SweeperError, FitError, OSError) as error:
        say(f"error: {error}", err=True)
        sys.exit(ExitCode.BAD_INPUT)


if __name__ == "__main__":
    wait_and_report()
