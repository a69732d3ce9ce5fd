"""Probed speeds belong to a machine, and losing them costs nothing."""

import json
from pathlib import Path

import pytest
from planted import KINDS, kind_of_store, planned_sweep, planned_trial, submitted_store

from sweeper.store import files
from sweeper.store.probes import keep_probes, probe_key, probes_here, probes_of


@pytest.mark.parametrize("kind", KINDS)
def test_probes_of_this_machine_are_kept_beside_the_sweeps_or_in_the_users_cache(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    results = kind_of_store(kind, tmp_path / "results")
    store = submitted_store(results / "planted", planned_sweep(("masked",)))
    assert probes_here(results) == {}
    keep_probes(results, {"a": 1e-6})
    keep_probes(results, {"b": 2e-6})
    assert probes_here(results) == probes_of(store) == {"a": 1e-6, "b": 2e-6}
    folder = "results" if kind == "folder" else "cache/sweeper"
    assert [*tmp_path.rglob(".probes.json")] == [tmp_path / folder / ".probes.json"]


def test_another_machine_has_other_probes(tmp_path: Path) -> None:
    store = submitted_store(tmp_path / "planted", planned_sweep(("masked",)))
    keep_probes(tmp_path, {"a": 1e-6})
    facts = json.loads(store.manifest.read_text(encoding="utf-8"))
    files.replace(store.manifest, files.to_json({**facts, "cpu_cores": 99}))
    assert probes_of(store) == {}


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"x": 3}'])
def test_torn_probes_are_none_and_are_replaced(damage: str, tmp_path: Path) -> None:
    (tmp_path / ".probes.json").write_text(damage)
    assert probes_here(tmp_path) == {}
    keep_probes(tmp_path, {"a": 1e-6})
    assert probes_here(tmp_path) == {"a": 1e-6}


def test_trials_of_one_speed_share_a_key() -> None:
    key = probe_key(planned_trial(), "cpu")
    assert key == probe_key(planned_trial(seed=3, steps=(70,)), "cpu")
    others = planned_trial(width=32), planned_trial("uniform")
    assert (
        len({key, probe_key(planned_trial(), "cuda"), *(probe_key(p, "cpu") for p in others)}) == 4
    )
