"""How `export --trial` writes a kept model."""

from pathlib import Path

from sweeper.store.storage import StoragePath
from sweeper.verbs.output import say


def write_model(
    source: StoragePath, trial_id: str, step: int | None, budget: float | None, folder: Path
) -> None:
    """Write the one model that is meant to a folder, and say how to load it."""
    from sweeper.models.export import choose, export_model
    from sweeper.models.kept import kept_models
    from sweeper.store.layout import open_store

    store = open_store(source)
    model = choose(kept_models(store), store, trial_id, step, budget)
    export_model(store, model, folder)
    say(
        f"wrote {folder}: {model.label}, step {model.step:,}, bound "
        f"{model.bound_nats_per_token:.4f} nats per token; next: "
        f"python -c \"import sweeper; network, family = sweeper.load_model('{folder}')\""
    )
