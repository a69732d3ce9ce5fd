"""Runs as event files of TensorBoard: `<folder>/<series>/<trial id>/events.out.tfevents…`.

Each is a pure function of its run: the same bytes, written whole or not at all.
"""

import contextlib
import datetime
import functools
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sweeper.exports.destination import Change, imported, write_runs
from sweeper.exports.folder import claimed, file_name
from sweeper.exports.runs import Run
from sweeper.exports.source import Tables
from sweeper.store import files

EVENTS_FILE = "events.out.tfevents.0.sweeper"  # recognised by its middle

FLOPS_PER_STEP = 1e6
"""Steps are whole numbers of 64 bits, which large runs would overflow in FLOPs."""
BY_OTHER_AXES = ("loss_nats_per_token", "bound_nats_per_token")
"""What is there by tokens and by FLOPs, too."""


@dataclass(frozen=True)
class TensorBoardFolder:
    """A log directory."""

    folder: Path
    what = "runs"

    @property
    def next_step(self) -> str:
        """How it is shown."""
        return f"tensorboard --logdir {self.folder}"

    def write(self, tables: Tables) -> Counter[Change]:
        """Write the event files of runs that are new or have changed."""
        encode = _encoder()
        with claimed(self.folder, "tensorboard", tables.sweep):
            places = defaultdict(list)
            for path in self.folder.glob(f"*/*/{EVENTS_FILE}"):
                places[path.parent.name].append(path)

            def write(run: Run) -> Change:
                path = self.folder / file_name(run.series) / run.run_id / EVENTS_FILE
                write_events = functools.partial(Path.write_bytes, data=encode(run))
                change = files.replace_if_changed(path, write_events, staged_as="events")
                # A series that has another name by now would show its runs twice.
                former = [each for each in places[run.run_id] if each != path]
                for each in former:
                    files.remove_folder(each.parent)
                    with contextlib.suppress(OSError):  # of other runs of the series
                        each.parent.parent.rmdir()
                return "changed" if former and change == "new" else change

            return write_runs(tables, write)


def _encoder() -> Callable[[Run], bytes]:
    """What makes a run the bytes of its event file."""
    imported("tensorboard", "tensorboard")
    # Late, as it is optional.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import summary_v2
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from tensorboard.summary.writer.record_writer import RecordWriter

    def encode(run: Run) -> bytes:
        # The record does not say when each step was taken.
        time_s = _seconds(run.started_at)
        settings = summary_v2.hparams_pb(
            dict(run.settings), trial_id=run.run_id, start_time_secs=time_s
        )
        plugin = settings.value[0].metadata.plugin_data
        # The order in a map of settings is not that of every process.
        content = HParamsPluginData.FromString(plugin.content)
        plugin.content = content.SerializeToString(deterministic=True)
        buffer = io.BytesIO()
        writer = RecordWriter(buffer)
        writer.write(Event(wall_time=time_s, file_version="brain.Event:2").SerializeToString())
        writer.write(Event(wall_time=time_s, summary=settings).SerializeToString())
        for step, values in _scalars(run):
            summary = Summary(
                value=[Summary.Value(tag=tag, simple_value=each) for tag, each in values.items()]
            )
            event = Event(wall_time=time_s, step=step, summary=summary)
            writer.write(event.SerializeToString(deterministic=True))
        return buffer.getvalue()

    return encode


def _scalars(run: Run) -> Iterator[tuple[int, dict[str, float]]]:
    """Everything that is logged, by step, then the losses by tokens and by FLOPs."""
    for point in run.points:
        yield (
            point.step,
            {
                **point.values,
                "progress/tokens": float(point.tokens),
                "progress/flops": point.flops,
            },
        )
    for axis, steps in (
        ("by_tokens", [point.tokens for point in run.points]),
        ("by_megaflops", [round(point.flops / FLOPS_PER_STEP) for point in run.points]),
    ):
        for step, point in zip(steps, run.points, strict=True):
            named = {name.partition("/")[2]: value for name, value in point.values.items()}
            shown = {f"{axis}/{name}": named[name] for name in BY_OTHER_AXES if name in named}
            if shown:
                yield step, shown


def _seconds(time: str) -> float:
    """Seconds since the epoch of an ISO 8601 time; 0 for none."""
    return datetime.datetime.fromisoformat(time).timestamp() if time else 0.0
