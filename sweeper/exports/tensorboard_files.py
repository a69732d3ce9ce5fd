"""Runs as event files of TensorBoard: `<folder>/<series>/<trial id>/events.out.tfevents…`.

Each is a pure function of its run: the same bytes, written whole or not at all.
"""

import datetime
import functools
import io
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.exports.destination import Change, imported, write_runs
from sweeper.exports.folder import claimed, file_name
from sweeper.exports.runs import Point, Run
from sweeper.exports.source import Tables
from sweeper.store import files

EVENTS_FILE = "events.out.tfevents.0.sweeper"  # recognised by its middle

FLOPS_PER_STEP = 1e6
"""Steps are whole numbers of 64 bits, which large runs would overflow in FLOPs."""


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
                files.remove_files(former)
                return "changed" if former and change == "new" else change

            return write_runs(tables, write)


def _encoder() -> Any:
    """A function from a run to the bytes of its event file."""
    imported("tensorboard", "tensorboard")
    # Late, as it is optional.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, summary_v2
    from tensorboard.summary.writer.record_writer import RecordWriter

    def encode(run: Run) -> bytes:
        # The record does not say when each step was taken.
        time_s = _seconds(run.started_at)
        settings = summary_v2.hparams_pb(
            dict(run.settings), trial_id=run.run_id, start_time_secs=time_s
        )
        outcome = api_pb2.Status.Value(
            "STATUS_SUCCESS" if run.summary["status"] == "done" else "STATUS_FAILURE"
        )
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
    for axis, step_of in (
        ("by_tokens", lambda point: point.tokens),
        ("by_megaflops", lambda point: round(point.flops / FLOPS_PER_STEP)),
    ):
        for point in run.points:
            named = {name.partition("/")[2]: value for name, value in point.values.items()}
            yield step_of(point), {f"{axis}/{name}": value for name, value in named.items()}


def _seconds(time: str) -> float:
    """Seconds since the epoch of an ISO 8601 time; 0 for none."""
    return datetime.datetime.fromisoformat(time).timestamp() if time else 0.0
