"""How `export --to` writes all runs of a sweep."""

from sweeper.errors import ConfigError
from sweeper.exports.targets import WITH_OWN_FOLDER, WITH_PROJECT, Place, destination
from sweeper.store.storage import StoragePath
from sweeper.verbs.output import say


def write_runs(source: StoragePath, place: Place) -> None:
    """Bring a place up to date with a sweep, and say what has changed there."""
    _check(place)
    # Late: pyarrow takes a while to load.
    from sweeper.exports.source import published_tables
    from sweeper.store.layout import open_store

    with published_tables(open_store(source)) as tables:
        target = destination(place, tables.sweep)
        changes = target.write(tables)
    where = place.folder or f"the project {place.project or tables.sweep} of {place.target}"
    say(
        f"wrote {where}: {changes['new']} new {target.what}, {changes['changed']} changed, "
        f"{changes['same']} as they were; next: {target.next_step}"
    )
    if target.what == "runs" and (n := len(tables.without_losses)):
        say(
            f"warning: {n} runs are left out: their losses are not in the tables yet; export again "
            "when the sweep has gone on",
            err=True,
        )


def _check(place: Place) -> None:
    if place.project is not None and place.target not in WITH_PROJECT:
        raise ConfigError(
            f"export --project: belongs to --to {' or '.join(WITH_PROJECT)}, found --to "
            f"{place.target}, which has no projects; leave it out"
        )
    if place.is_online and place.target != "wandb":
        raise ConfigError(
            f"export --online: belongs to --to wandb, found --to {place.target}, which sends "
            "nothing; leave it out"
        )
    if place.folder is None and place.target not in WITH_OWN_FOLDER:
        raise ConfigError(f"export --to {place.target}: needs a folder to write to: -o DIR")
