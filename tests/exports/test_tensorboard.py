"""Event files, read back by TensorBoard itself."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from planted import planned_sweep
from planted_export import SERIES, STARTED, contents, grow, grown_store, runs

from sweeper.exports.destination import Change
from sweeper.exports.folder import file_name
from sweeper.exports.runs import Run
from sweeper.exports.source import published_tables
from sweeper.exports.tensorboard_files import TensorBoardFolder
from sweeper.store.layout import Store
from sweeper.trials.plan import Plan

pytest.importorskip("tensorboard", reason="TensorBoard is not installed")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2


def exported(store: Store, folder: Path) -> dict[Change, int]:
    with published_tables(store) as tables:
        return dict(TensorBoardFolder(folder).write(tables))


def read_back(folder: Path, run: Run) -> EventAccumulator:
    reader = EventAccumulator(str(folder / file_name(run.series) / run.run_id))
    reader.Reload()
    return reader


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return grown_store(tmp_path)


def test_tensorboard_reads_the_numbers_that_were_published(store: Store, tmp_path: Path) -> None:
    exported(store, tmp_path / "out")
    for run in runs(store):
        reader = read_back(tmp_path / "out", run)
        logged = {name for point in run.points for name in point.values}
        for name in logged:
            shown = [(event.step, event.value) for event in reader.Scalars(name)]
            # TensorBoard has numbers of 32 bits.
            assert shown == [
                (point.step, float(np.float32(point.values[name])))
                for point in run.points
                if name in point.values
            ]
        tokens = reader.Scalars("progress/tokens")
        assert [event.value for event in tokens] == [point.tokens for point in run.points]
        if logged:
            losses = [p for p in run.points if "train/loss_nats_per_token" in p.values]
            by_tokens = reader.Scalars("by_tokens/loss_nats_per_token")
            assert [event.step for event in by_tokens] == [point.tokens for point in losses]
            by_flops = reader.Scalars("by_megaflops/loss_nats_per_token")
            assert [event.step for event in by_flops] == [
                round(point.flops / 1e6) for point in losses
            ]


def test_settings_are_those_of_its_table_of_hyperparameters(store: Store, tmp_path: Path) -> None:
    exported(store, tmp_path / "out")
    for run in runs(store):
        reader = read_back(tmp_path / "out", run)
        (content,) = reader.PluginTagToContent("hparams").values()
        start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
        shown = {
            name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()
        }
        assert shown == run.settings
        assert start.group_name == run.run_id


def test_exporting_twice_changes_nothing_and_a_grown_sweep_adds_what_is_new(
    store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert exported(store, out) == {"new": 6}
    before = contents(out)
    assert exported(store, out) == {"same": 6}
    assert contents(out) == before
    grow(store, planned_sweep(SERIES, widths=(8, 16, 32)))
    assert exported(store, out) == {"same": 5, "changed": 1, "new": 3}  # what failed was trained
    assert {name: contents(out)[name] for name in before} != before
    exported(store, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_bytes_are_those_of_any_other_process(store: Store, tmp_path: Path) -> None:
    exported(store, tmp_path / "out")
    command = [sys.executable, "-m", "sweeper", "export", str(store.folder), "--to", "tensorboard"]
    subprocess.run([*command, "-o", str(tmp_path / "other")], check=True, capture_output=True)
    assert contents(tmp_path / "other") == contents(tmp_path / "out")


def test_a_series_of_another_name_takes_its_runs_along(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported(store, out)
    plan = planned_sweep(SERIES, widths=(8, 16))
    renamed = tuple(
        dataclasses.replace(each, series=each.series.replace("masked", "new"))
        for each in plan.trials
    )
    grow(store, Plan("planted", renamed))
    exported(store, out)
    assert not (out / "masked").exists()
    exported(store, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_half_an_event_file_is_never_seen(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported(store, out)
    before = contents(out)
    first = runs(store)[0]
    folder = out / file_name(first.series) / first.run_id
    (folder / ".tmp-events-0123456789ab").write_bytes(b"half")  # as a killed export leaves it
    reader = read_back(out, first)
    assert len(reader.Scalars("train/loss_nats_per_token")) == len(
        [p for p in first.points if p.values]
    )
    assert exported(store, out) == {"same": 6}
    assert contents(out) == before


def test_runs_have_the_times_of_their_trials(store: Store, tmp_path: Path) -> None:
    exported(store, tmp_path / "out")
    first = runs(store)[0]
    assert first.started_at == STARTED
    assert read_back(tmp_path / "out", first).FirstEventTimestamp() == 1735787045.0
