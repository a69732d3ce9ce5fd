"""The command `sweeper`: its verbs, and what becomes of their errors.

Only this module and the verbs (`sweeper/verbs/`) print. Verbs import what they need when they are
called, so that `--help` is fast and the verbs that read results never load torch or ray.
"""

import atexit
import gc
import os
import signal
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import click

from sweeper.errors import ExitCode, SweeperError
from sweeper.store.files import is_disk_full
from sweeper.verbs import cancel, fit, new_sweep, plan, run, status, submit
from sweeper.verbs.exporting import export
from sweeper.verbs.output import say
from sweeper.verbs.samples import bench, pareto, sample
from sweeper.verbs.showing import plot, report
from sweeper.verbs.tuning import tune
from sweeper.verbs.watching import serve


def main() -> None:
    """Run the command line; every user error is one message and exit code 2."""
    from analysis.errors import FitError  # after sweeper.verbs, which makes sure that it is ours

    # Plans and records are a million objects that stay: Python would spend half of the time on
    # searching them for cycles, at its default of every 700 new objects.
    gc.set_threshold(50_000)
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
    except (ImportError, AttributeError) as error:
        if (file := _stand_in(error)) is None:
            raise
        say(
            f"error: {error}; {file} was imported in place of a library: rename that file, or "
            "remove its folder from the import path (PYTHONPATH)",
            err=True,
        )
        sys.exit(ExitCode.BAD_INPUT)
    finally:
        # The work is done, but the interpreter takes a while to end: Ctrl-C in the meantime would
        # change nothing but the exit code.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _stand_in(error: ImportError | AttributeError) -> str | None:
    """A user's file that has the name of a library, if that is why something is missing."""
    if isinstance(error, AttributeError):
        module = error.obj
    else:
        module = sys.modules.get((error.name or "").partition(".")[0])
    file = module.__file__ if isinstance(module, ModuleType) else None
    if file is None or hasattr(module, "__path__"):
        return None
    # Of what is installed, and of our own modules, a traceback says more.
    folders = [Path(__file__).parents[1], *map(Path, sysconfig.get_paths().values())]
    return None if any(Path(file).is_relative_to(folder) for folder in folders) else file


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


for verb in (  # those that make results, and those that read a fit
    *(
        new_sweep.init,
        new_sweep.schema,
        plan.plan,
        tune.tune,
        run.run,
        submit.submit,
        cancel.cancel,
    ),
    *(status.status, serve.serve, status.verify),
    *(export.export, sample.sample, pareto.pareto, bench.bench),
    *(fit.fit, fit.compare, fit.predict, fit.propose, plot.plot, report.report),
):
    cli.add_command(verb)
