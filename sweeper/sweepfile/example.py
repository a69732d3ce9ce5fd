"""The commented sweep file that `sweeper init` writes."""

import importlib.resources
from pathlib import Path

from sweeper.errors import ConfigError


def write_example(path: Path) -> None:
    """Write the example to a new file; raises ConfigError where that cannot be done."""
    example = importlib.resources.files("sweeper.sweepfile").joinpath("example_sweep.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(example.read_text("utf-8"))
    except FileExistsError as error:
        raise ConfigError(f"{path} exists already; choose another name or remove it") from error
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror}); choose a folder that exists and is yours"
        ) from error
