"""What verbs about one model share: its folder, the device it is loaded to, a progress bar."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeper.errors import ConfigError

if TYPE_CHECKING:  # would load torch
    from sweeper.models.load import Model

model_argument = click.argument("model", type=click.Path(path_type=Path))
device_option = click.option(
    "--device", help="For instance cpu or cuda:1; default: a GPU, if there is one."
)


def loaded_to(device: str | None, folder: Path) -> "Model":
    """The model in a folder, on a device; raises ConfigError for a device that is not there."""
    import torch

    from sweeper.models.load import load_model

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return load_model(folder, torch.device(device))
    except RuntimeError as error:
        raise ConfigError(
            f"device {device!r} cannot be used ({str(error).splitlines()[0]}); expected one of "
            "this machine, such as cpu"
        ) from error


@contextlib.contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], object]]:
    """A function to call with how much more is done; draws on a terminal's standard error."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda n: bar.advance(task, n)
