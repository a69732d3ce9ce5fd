"""The names of all places that runs can be exported to."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # each is imported when it is asked for
    from sweeper.exports.destination import Destination

Target = Literal["csv", "parquet", "hf", "tensorboard", "trackio", "wandb"]
TARGETS: tuple[Target, ...] = ("csv", "parquet", "hf", "tensorboard", "trackio", "wandb")

WITH_PROJECT: tuple[Target, ...] = ("trackio", "wandb")
"""Where runs are part of a project."""
WITH_OWN_FOLDER: tuple[Target, ...] = ("trackio",)
"""Where the client knows where to write."""


@dataclass(frozen=True)
class Place:
    """Where a user wants an export."""

    target: Target
    folder: Path | None
    project: str | None
    """None for one with the name of the sweep."""
    is_online: bool


def destination(place: Place, sweep: str) -> "Destination":
    """What writes a sweep to a place; imports no client yet."""
    project = place.project or sweep
    if place.target == "trackio":
        from sweeper.exports.trackio_project import TrackioProject

        return TrackioProject(place.folder, project)
    assert place.folder is not None  # of the others, the verb asks for one
    if place.target == "wandb":
        from sweeper.exports.wandb_folder import WandbFolder

        return WandbFolder(place.folder, project, place.is_online)
    if place.target == "tensorboard":
        from sweeper.exports.tensorboard_files import TensorBoardFolder

        return TensorBoardFolder(place.folder)
    if place.target == "hf":
        from sweeper.exports.hugging_face import HuggingFaceDataset

        return HuggingFaceDataset(place.folder)
    from sweeper.exports.plain_tables import PlainTables

    return PlainTables(place.folder, place.target)
