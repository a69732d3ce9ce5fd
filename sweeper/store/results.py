"""Published results: one write-once record for each trial, and an index of their heads.

The record is the commit point: before it exists nothing of the trial counts, from then on nothing
of it changes.
"""

import dataclasses
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeper.errors import StoreError
from sweeper.store import attempts, files
from sweeper.store.assignment import Assignment
from sweeper.store.layout import Store
from sweeper.store.rows import Continued
from sweeper.store.storage import StoragePath, read_many
from sweeper.trials.records import LossRow, ObservationRow, SampleRow, TrialRow
from sweeper.trials.trial import canonical, from_canonical

INDEX_VERSION = 5  # of the layout of `records.json`, and of what the fields of a head mean
# Columns of `losses` that a record stores; the others are the same in every row.
LOSS_COLUMNS = tuple(
    field.name for field in dataclasses.fields(LossRow) if field.name not in ("trial_id", "series")
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """Everything a trial yields, ready to publish."""

    trial: TrialRow
    observations: tuple[ObservationRow, ...]
    losses: tuple[LossRow, ...]
    samples: tuple[SampleRow, ...] = ()
    continued: Continued | None = None


@dataclass(frozen=True, kw_only=True)
class Published:
    """The head of a record: what resuming and `status` need to know."""

    trial_id: str
    trajectory_id: str
    sweep: str
    """Name of the sweep that trained it."""
    attempt: int
    is_diverged: bool
    steps: int
    continued_steps: int = 0
    """Of these, steps of the published, shorter trial from which it went on; 0: none."""
    observed_steps: tuple[int, ...]
    train_flops: float
    """Of its own steps; so are the times below."""
    last_bound_nats_per_token: float | None
    """Bound of the last observation; null when it diverged before the first."""
    work_time_s: float
    """Seconds in training and evaluation, over all attempts."""
    eval_time_s: float
    """Of these, in evaluation."""
    startup_s: float | None
    """What its one attempt took beside them, to a second; null after several."""
    device: str
    finished_at: str
    """ISO 8601, UTC."""

    @property
    def own_steps(self) -> int:
        """Steps that were taken for this trial."""
        return self.steps - self.continued_steps

    @property
    def span_s(self) -> tuple[float, float] | None:
        """Start and end of its one attempt, to a second; None after several."""
        if self.startup_s is None:
            return None
        end_s = datetime.datetime.fromisoformat(self.finished_at).timestamp()
        return end_s - self.work_time_s - self.startup_s, end_s


@dataclass(frozen=True)
class RecordIndex:
    """What the driver last noted of the records, so that nobody opens them all."""

    stamps: Mapping[str, str] = field(default_factory=dict)
    """Size and time of change of each record then, by trial."""
    heads: Mapping[str, Published] = field(default_factory=dict)
    basis: str = ""
    """Digest of everything else that the tables show or consist of (`tables.py`)."""

    def unchanged(self, stamps: Mapping[str, str]) -> dict[str, Published]:
        """Heads of the records that are as they were, by trial."""
        return {
            trial_id: head
            for trial_id, head in self.heads.items()
            if stamps.get(trial_id) == self.stamps[trial_id]
        }


def publish(assignment: Assignment, result: Result) -> bool:
    """Publish a result and drop the trial's checkpoints, unless a longer trial may need them.

    Returns False, changing nothing, when the trial is published already or a later attempt has
    started. Raises ValueError for a result that is not the assignment's, is incomplete, or holds
    a number that is not finite.
    """
    _check(assignment, result)
    store, trial = Store(assignment.store_folder), assignment.trial
    record = store.record(trial.trial_id)
    is_superseded = attempts.latest_number(store, trial.trial_id) > assignment.attempt.number
    # A second publisher loses nothing: the numbers are a pure function of the trial.
    is_first = not is_superseded and files.create_exclusively(record, _encode(assignment, result))
    is_kept = assignment.planned.keeps_checkpoint and result.trial.status == "done"
    # While a later attempt is at work, it resumes from them.
    if not is_kept and (not is_superseded or record.exists()):
        files.remove_folder(store.checkpoints(trial))
    return is_first


def read_records(paths: Sequence[StoragePath]) -> list[dict[str, Any]]:
    """Whole records as plain JSON values; raises StoreError when one is torn."""
    records = []
    for path, data in zip(paths, read_many(paths), strict=True):
        try:
            records.append(json.loads(data))
        except ValueError as error:
            raise _torn(path, error) from error
    return records


def read_without_losses(paths: Sequence[StoragePath]) -> list[dict[str, Any]]:
    """Records less the curves of their losses; raises StoreError when one is torn."""
    return [_without_losses(path, data) for path, data in zip(paths, read_many(paths), strict=True)]


def read_head(path: StoragePath) -> Published:
    """The head of a record; raises StoreError when it is torn."""
    return _parsed_head(path, path.read_bytes())


def head_of(record: dict[str, Any]) -> Published:
    """The head of a record given as plain JSON values."""
    row, observations = record["trial"], record["observations"]
    before = Continued(**record["continued"]) if "continued" in record else None
    steps_before = before.steps if before else 0
    eval_time_s = row["eval_time_s"] - (before.eval_time_s if before else 0.0)
    train_time_s = row["train_time_s"] - (before.train_time_s if before else 0.0)
    return Published(
        trial_id=row["trial_id"],
        trajectory_id=row["trajectory_id"],
        sweep=row["sweep"],
        attempt=record["attempt"],
        is_diverged=row["status"] == "diverged",
        steps=row["steps"],
        continued_steps=steps_before,
        observed_steps=tuple(observation["step"] for observation in observations),
        train_flops=row["train_flops"] * (1 - steps_before / max(row["steps"], 1)),
        last_bound_nats_per_token=(
            observations[-1]["bound_nats_per_token"] if observations else None
        ),
        work_time_s=train_time_s + eval_time_s,
        eval_time_s=eval_time_s,
        startup_s=_startup_s(row, train_time_s + eval_time_s) if row["n_attempts"] == 1 else None,
        device=row["device"],
        finished_at=row["finished_at"],
    )


def _startup_s(row: dict[str, Any], work_time_s: float) -> float | None:
    try:
        started, finished = (
            datetime.datetime.fromisoformat(row[name]) for name in ("started_at", "finished_at")
        )
    except ValueError:
        return None
    return (finished - started).total_seconds() - work_time_s


def record_stamps(store: Store) -> dict[str, str]:
    """Size and time of change of every published record, by trial id and in their order."""
    stamps = files.stamps(store.published)
    return {
        name.removesuffix(".json"): stamps[name]
        for name in sorted(stamps)
        if name.endswith(".json") and name[0] not in "._"
    }


def record_paths(store: Store) -> list[StoragePath]:
    """Paths of all published records, in the order of `record_stamps`."""
    return [store.record(trial_id) for trial_id in record_stamps(store)]


def published(store: Store) -> tuple[Published, ...]:
    """Heads of all published records, sorted by trial id; raises StoreError for a torn record."""
    stamps = record_stamps(store)
    heads = read_index(store).unchanged(stamps)
    others = [store.record(trial_id) for trial_id in stamps if trial_id not in heads]
    for path, data in zip(others, read_many(others), strict=True):
        heads[path.stem] = _parsed_head(path, data)
    return tuple(heads[trial_id] for trial_id in stamps)


def read_index(store: Store) -> RecordIndex:
    """The index; empty where there is none that this version can read."""
    try:
        fields: dict[str, Any] = files.read_json(store.record_index)
        if fields["version"] != INDEX_VERSION:
            return RecordIndex()
        heads = {
            trial_id: Published(**{**head, "observed_steps": tuple(head["observed_steps"])})
            for trial_id, head in fields["heads"].items()
        }
        stamps = {trial_id: str(fields["stamps"][trial_id]) for trial_id in heads}
        return RecordIndex(stamps, heads, str(fields["basis"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return RecordIndex()


def write_index(store: Store, index: RecordIndex) -> None:
    """Replace the index. Only the driver does."""
    heads = {trial_id: vars(head) for trial_id, head in index.heads.items()}
    fields = {"version": INDEX_VERSION, **vars(index), "heads": heads}
    files.replace(store.record_index, json.dumps(fields, allow_nan=False).encode())


def _parsed_head(path: StoragePath, data: bytes) -> Published:
    try:
        return head_of(_without_losses(path, data))
    except (KeyError, TypeError) as error:
        raise _torn(path, error) from error


def _without_losses(path: StoragePath, data: bytes) -> dict[str, Any]:
    # One top-level key per line and the long `losses` last: its curves need not be parsed.
    head, has_losses, _ = data.partition(b',\n"losses":')
    try:
        return dict(json.loads(head + b"}" if has_losses else data))
    except (ValueError, TypeError) as error:
        raise _torn(path, error) from error


def _encode(assignment: Assignment, result: Result) -> bytes:
    # Rows hold plain values only, which dataclasses.asdict would copy one by one.
    parts: dict[str, Any] = {
        "attempt": assignment.attempt.number,
        "identity": canonical(assignment.trial),
        "trial": vars(result.trial),
        "observations": [vars(row) for row in result.observations],
        "samples": [vars(row) for row in result.samples],
        **({"continued": vars(result.continued)} if result.continued else {}),
        "losses": {name: [getattr(row, name) for row in result.losses] for name in LOSS_COLUMNS},
    }
    try:
        lines = [f'"{key}": {json.dumps(part, allow_nan=False)}' for key, part in parts.items()]
    except ValueError as error:
        raise ValueError(
            f"trial {assignment.trial.trial_id} yields a number that is not finite; a run that "
            "leaves the finite numbers ends before that row, with status 'diverged'"
        ) from error
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _check(assignment: Assignment, result: Result) -> None:
    trial, row = assignment.trial, result.trial
    rows: tuple[TrialRow | ObservationRow | LossRow | SampleRow, ...]
    rows = (row, *result.observations, *result.losses, *result.samples)
    if {each.trial_id for each in rows} != {trial.trial_id}:
        raise ValueError(f"result of another trial than {trial.trial_id}")
    if row.status not in ("done", "diverged"):
        raise ValueError(f"trial {trial.trial_id} cannot be published as {row.status!r}")
    observed = tuple(observation.step for observation in result.observations)
    if observed != trial.observe_at_steps[: len(observed)]:
        raise ValueError(
            f"trial {trial.trial_id} observed steps {observed}, planned {trial.observe_at_steps}"
        )
    is_complete = observed == trial.observe_at_steps and row.steps == trial.n_steps
    if row.status == "done" and not is_complete:
        raise ValueError(
            f"trial {trial.trial_id} is not done: {row.steps} of {trial.n_steps} steps, observed "
            f"{observed} of {trial.observe_at_steps}"
        )


def _torn(path: StoragePath, error: Exception) -> StoreError:
    return StoreError(
        f"{path} is not a complete record ({type(error).__name__}: {error}); delete it and run "
        "the sweep again to train this trial anew"
    )


def flaws(path: StoragePath, record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Code and message of each flaw of a record; may raise ValueError, KeyError or TypeError."""
    trial, named = from_canonical(record["identity"]), record["trial"]
    is_own = path.stem == named["trial_id"] == trial.trial_id
    if not is_own or named["trajectory_id"] != trial.trajectory_id:
        yield (
            "foreign-record",
            f"holds trial {trial.trial_id}: renamed or edited; delete it and run the sweep again",
        )
    absent = {f"trial.{name}" for name in _names(TrialRow) - set(named)}
    absent |= {f"losses.{name}" for name in set(LOSS_COLUMNS) - set(record["losses"])}
    for row in record["observations"]:
        absent |= {f"observations.{name}" for name in _names(ObservationRow) - set(row)}
    if absent:
        yield (
            "missing-column",
            f"lacks {', '.join(sorted(absent))}: written by an older version; delete it and run "
            "the sweep again to train this trial anew",
        )
    try:
        json.dumps(record, allow_nan=False)
    except ValueError:
        yield (
            "not-finite",
            "holds NaN or infinity, which no trial publishes; delete it and run the sweep again",
        )


def _names(row_type: type[TrialRow | ObservationRow]) -> set[str]:
    return {field.name for field in dataclasses.fields(row_type)}
