"""Arguments and options that verbs share."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from sweeper.store.storage import StoragePath, place

Command = Callable[..., Any]


class _Place(click.ParamType[StoragePath]):
    """A folder, a file or a URL; shells complete what is on the disk."""

    name = "place"

    def convert(
        self, value: str | StoragePath, _param: click.Parameter | None, _ctx: click.Context | None
    ) -> StoragePath:
        """Raises StoreError for a URL with a secret in it."""
        return place(value)

    def shell_complete(
        self, _ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Leave it to the shell, which knows its files."""
        return [CompletionItem(incomplete, type="file")]


PLACE = _Place()

source_argument = click.argument("source", type=PLACE)


def completed(*words: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What shells complete an option with whose values are checked, and explained, later."""
    return lambda _context, _option, incomplete: [w for w in words if w.startswith(incomplete)]


results_option = click.option(
    "--results",
    default=Path("results"),
    show_default=True,
    type=PLACE,
    metavar="DIR",
    help="Folder of all results, or s3://bucket/prefix; the sweep's own is DIR/<name>.",
)
takeover_option = click.option(
    "--takeover", is_flag=True, help="Take over from a driver at work on this sweep."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def format_options(command: Command) -> Command:
    """How to print an answer: `form` is text, json or latex."""

    @functools.wraps(command)
    def with_form(*args: Any, as_json: bool, form: str, **options: Any) -> Any:
        if as_json and form == "latex":
            raise click.UsageError("--json and --format latex: choose one")
        return command(*args, form="json" if as_json else form, **options)

    choice = click.option(
        "--format",
        "form",
        default="text",
        show_default=True,
        type=click.Choice(["text", "json", "latex"]),
        help="latex prints booktabs tables for a paper.",
    )
    return choice(json_option(with_form))


remarks_option = click.option(
    "--remarks", "all_remarks", is_flag=True, help="Show every warning, not one of each kind."
)
published_option = click.option(
    "--published",
    is_flag=False,
    flag_value="main",
    metavar="[NAMES]",
    help="Show published laws too: gidd-*,chinchilla for instance, or all; alone, a few.",
)


def sweep_arguments(command: Command) -> Command:
    """A sweep file and its overrides."""
    command = click.argument("sweep_file", type=click.Path(path_type=Path))(command)
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a value of the sweep file, for instance train.seeds=[0,1].",
    )(command)


def fit_options(command: Command, *flops_option: str) -> Command:
    """A source and how to fit it."""
    options = [
        source_argument,
        click.option(
            "--params",
            metavar="CONVENTION",
            help="trunk, trunk+head or total.",
            shell_complete=completed("trunk", "trunk+head", "total"),
        ),
        click.option(
            *(flops_option or ("--flops", "--flops-convention")),
            "flops_convention",
            metavar="CONVENTION",
            help="full, 6N, 6N+attention or no-attention.",
            shell_complete=completed("full", "6N", "6N+attention", "no-attention"),
        ),
        click.option(
            "--column",
            "columns",
            multiple=True,
            metavar="NAME=THEIRS",
            help="Read a column under our name, for instance loss=val/nll; repeatable.",
        ),
        click.option(
            "--runs",
            default="auto",
            show_default=True,
            help="What rows without run_id are: auto|rows|curves.",
            shell_complete=completed("auto", "rows", "curves"),
        ),
        click.option(
            "--all-settings",
            is_flag=True,
            help="Count runs of every learning rate and batch, not the best per size and tokens.",
        ),
        click.option(
            "--isoflop",
            default="pair",
            show_default=True,
            help="pair|parabola|akima.",
            shell_complete=completed("pair", "parabola", "akima"),
        ),
        click.option(
            "--huber-delta",
            default="auto",
            show_default=True,
            help="Of the surface: auto or a number.",
        ),
        click.option("--bootstrap", default=1000, show_default=True, metavar="N"),
        click.option("--seed", default=0, show_default=True),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def fit_options_with_budget(command: Command) -> Command:
    """The same for a verb whose `--flops` is a budget."""
    return fit_options(command, "--flops-convention")
