"""Speeds of training steps that were probed on a machine, kept in `.probes.json` (`layout.py`).

A cache: what is lost or torn is probed again. Speeds of one machine are never read on another.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sweeper.store import files
from sweeper.store.layout import Store, local_caches
from sweeper.store.storage import StoragePath
from sweeper.store.submission import machine, version
from sweeper.trials.plan import PlannedTrial

PROBES_FILE = ".probes.json"
_FACTS = ("cpu", "cpu_cores", "gpus")


def probe_key(planned: PlannedTrial, device: str) -> str:
    """What decides the speed of a trial's steps on a machine, apart from how many there are."""
    trial = planned.trial
    parts = (
        *(trial.family, trial.family_options, str(trial.rung), trial.backbone, trial.precision),
        *(trial.data.vocab_size, trial.data.seq_len, trial.optimizer.batch_sequences, device),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def probes_here(results: StoragePath) -> dict[str, float]:
    """Seconds per training token by key, as probed on this machine."""
    return _of_machine(_read(results), _name(machine(), version("torch")))


def probes_of(store: Store) -> dict[str, float]:
    """The same of the machine that last ran a sweep."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        manifest: dict[str, Any] = files.read_json(store.manifest)
        return _of_machine(
            _read(store.folder.parent), _name(manifest, manifest["packages"]["torch"])
        )
    return {}


def keep_probes(results: StoragePath, seconds_per_token: Mapping[str, float]) -> None:
    """Add what was probed on this machine."""
    facts, torch = machine(), version("torch")
    known, name = _read(results), _name(facts, torch)
    shown = {**{fact: facts[fact] for fact in _FACTS}, "torch": torch}
    speeds = {**_of_machine(known, name), **seconds_per_token}
    known[name] = {"machine": shown, "seconds_per_token": speeds}
    folder = local_caches(results)
    folder.mkdir(parents=True, exist_ok=True)
    files.replace(folder / PROBES_FILE, files.to_json(known))


def _read(results: StoragePath) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return dict(files.read_json(local_caches(results) / PROBES_FILE))
    return {}


def _of_machine(known: Mapping[str, Any], name: str) -> dict[str, float]:
    try:
        speeds = {key: float(each) for key, each in known[name]["seconds_per_token"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {key: each for key, each in speeds.items() if each > 0}


def _name(facts: Mapping[str, Any], torch: str | None) -> str:
    """A digest of what tells machines apart."""
    told = json.dumps([*(facts[fact] for fact in _FACTS), torch])
    return hashlib.sha256(told.encode()).hexdigest()[:16]
