"""The front door: a few verbs around a sweep file and a source of results.

Only this module and its verbs (`sweeper/verbs/`) print, and only they may import both `sweeper` and
`analysis`. Imports are local to each verb, so that `--help` is instant and the verbs that read
results never load torch or ray.
"""

import atexit
import gc
import os
import signal
import sys

import click

from analysis.errors import FitError
from sweeper.errors import ExitCode, SweeperError
from sweeper.store.files import is_disk_full
from sweeper.verbs import cancel, draw, fit, plan, run, status, submit
from sweeper.verbs.output import say

GARBAGE_THRESHOLD = 50_000
"""New objects between two looks for unreachable cycles; Python's own default is 700."""

VERBS = [
    plan.init,
    plan.plan,
    run.run,
    submit.submit,
    cancel.cancel,
    status.status,
    status.verify,
    fit.fit,
    fit.compare,
    fit.predict,
    fit.propose,
    draw.plot,
    draw.report,
]


def main() -> None:
    """Run the command line; every user error is one message and exit code 2."""
    # Plans and records are a million objects that stay; to look them through again and again for
    # cycles would take half of the time.
    gc.set_threshold(GARBAGE_THRESHOLD)
    try:
        sys.exit(cli.main(prog_name="sweeper", standalone_mode=False))  # verbs return None or exit
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; run the same command again to go on", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    except (SweeperError, FitError) as error:
        say(f"error: {error}", err=True)
        sys.exit(ExitCode.BAD_INPUT)
    except BrokenPipeError:  # the reader of our output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        if is_disk_full(error):
            say(f"error: {where}the disk is full; free some space, then go on", err=True)
            sys.exit(ExitCode.INTERRUPTED)
        say(f"error: {where}{error.strerror}; check path, permissions and disk", err=True)
        sys.exit(ExitCode.BAD_INPUT)
    finally:
        # All is said and done, and the interpreter takes a while to end: Ctrl-C in the meantime
        # would change nothing but the exit code.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sweeper")
def cli() -> None:
    """Scaling-law sweeps of discrete diffusion language models.

    \b
    sweeper run sweeps/quick.yaml         train what is missing of a sweep
    sweeper fit results/quick             fitted laws of every series
    sweeper compare results/quick --baseline masked --against uniform
    sweeper report results/quick -o report.html
    """


for verb in VERBS:
    cli.add_command(verb)
