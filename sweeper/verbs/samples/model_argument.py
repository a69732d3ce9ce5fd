"""What verbs about one model share: its folder, and the device that it is loaded to."""

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
