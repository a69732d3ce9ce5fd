"""The four Parquet datasets, derived from the published records.

Each is a folder with one file, replaced as a whole, so that a reader never sees a torn file, a
duplicate or half of a refresh of one table. The same store gives the same bytes.
"""

import functools
import hashlib
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweeper.store import files
from sweeper.store.assignment import Assignment
from sweeper.store.attempts import archive_attempts, attempts, begun_trials, read_progress
from sweeper.store.layout import Store
from sweeper.store.measurements import measurement_stamps, sample_rows
from sweeper.store.pending import DonePoints, pending_trials
from sweeper.store.results import (
    LOSS_COLUMNS,
    Published,
    RecordIndex,
    head_of,
    read_index,
    read_records,
    record_paths,
    record_stamps,
    write_index,
)
from sweeper.store.rows import Ending, trial_row
from sweeper.store.storage import StoragePath
from sweeper.trials.plan import Labels, Plan
from sweeper.trials.records import ROW_TYPES, TABLE_FILE, TableName, TrialRow, schema

# Columns of `trials` by which all tables are sorted.
ORDER = ("series", "params_trunk", "seed", "tokens", "trial_id")
# What the records of trials give rows of.
OF_TRIALS: tuple[TableName, ...] = ("trials", "observations", "losses")

Row = dict[str, Any]
Tables = dict[TableName, pa.Table]


def refresh_tables(store: Store, plan: Plan) -> None:
    """Bring all tables and the index up to date; raises StoreError for a torn record."""
    index, stamps = read_index(store), record_stamps(store)
    # Only records that have changed are read: at ten thousand, reading all takes several seconds.
    known = index.unchanged(stamps)
    records = read_records([store.record(each) for each in stamps if each not in known])
    heads = known | {head.trial_id: head for head in map(head_of, records)}
    labels, failed = Labels.of(plan), _failed_rows(store, plan, heads.values())
    measured = measurement_stamps(store)
    basis = _basis(store, labels, failed, measured)
    if index.basis == basis and index.stamps == stamps:
        return
    kept: Tables = {}
    observed = {
        (head.trajectory_id, step, head.trial_id)
        for head in (*index.heads.values(), *heads.values())
        for step in head.observed_steps
    }
    # Where two trials observed one point, `observations` has the row of one of them. Which one that
    # is may change with either, so the tables that are there do not tell.
    share_points = len({point[:2] for point in observed}) < len(observed)
    if index.basis == basis and not share_points:
        ids = pa.array(known, pa.string())
        for name in OF_TRIALS:
            table = read_table(store, name)
            kept[name] = table.filter(pc.is_in(table["trial_id"], value_set=ids))
    else:
        records += read_records([store.record(each) for each in known])
    samples = sample_rows(store, labels.series)
    for name, table in _tables_of(records, labels, failed, samples, kept).items():
        _write(store, name, table)
    write_index(store, RecordIndex(stamps, heads, _basis(store, labels, failed, measured)))


def refresh_samples(store: Store, plan: Plan) -> None:
    """Bring `samples` alone up to date, whoever is the sweep's driver meanwhile."""
    records = read_records(record_paths(store))
    samples = sample_rows(store, Labels.of(plan).series)
    _write(store, "samples", _tables_of(records, Labels.of(plan), (), samples, {})["samples"])


def build_tables(store: Store, plan: Plan) -> Tables:
    """The four tables as they should be; raises StoreError for a torn record."""
    records = read_records(record_paths(store))
    failed = _failed_rows(store, plan, map(head_of, records))
    labels = Labels.of(plan)
    return _tables_of(records, labels, failed, sample_rows(store, labels.series), kept={})


def read_table(store: Store, name: TableName) -> pa.Table:
    """One table as it is on disk."""
    with files.local_file(store.table(name) / TABLE_FILE) as file:
        columns = pq.read_table(file).columns
    # A schema that was read carries notes of the reader, which would show in the bytes.
    return pa.Table.from_arrays(columns, schema=schema(name))


def tidy(
    store: Store,
    plan: Plan,
    published: Iterable[Published],
    *,
    before_s: float,
    is_complete: bool = True,
) -> None:
    """Remove temporary files and checkpoints of no more use; archive attempts at published trials.

    `before_s` is when the driver that asks started, in seconds since the epoch; `is_complete` says
    that it has nothing to add to the plan.
    """
    records = tuple(published)
    # Nobody is left who would finish an older file; an orphan that tries publishes nothing.
    files.remove_temporaries(store.folder, before_s)
    for folder in needless_checkpoints(store, plan, records, is_complete=is_complete):
        files.remove_folder(folder)
    archive_attempts(store, {record.trial_id for record in records})


def _write(store: Store, name: TableName, table: pa.Table) -> None:
    write = functools.partial(pq.write_table, table, compression="zstd")
    files.replace_with(store.table(name) / TABLE_FILE, write)


def needless_checkpoints(
    store: Store, plan: Plan, records: Collection[Published], *, is_complete: bool
) -> list[StoragePath]:
    """Folders of checkpoints that no trial of a plan needs, nor any that may lengthen one."""
    pending = {each.trajectory_id for each in pending_trials(plan.trials, records)}
    wanted = ("always",) if is_complete else ("always", "complete")
    diverged = DonePoints.of(records).diverged_at
    kept = {
        each.trajectory_id
        for each in plan.trials
        if each.checkpoint_kept_until in wanted and each.trajectory_id not in diverged
    }
    settled = {record.trajectory_id for record in records} - pending - kept
    folders: list[StoragePath] = sorted(store.all_checkpoints.glob("*"), key=str)
    return [folder for folder in folders if folder.name in settled]


def _basis(
    store: Store, labels: Labels, failed: Sequence[TrialRow], measured: Mapping[str, str]
) -> str:
    """Digest of what the tables show besides the records, of their columns and their files."""
    stamps = [files.stamp(store.table(name) / TABLE_FILE) for name in ROW_TYPES]
    columns = [str(schema(name)) for name in ROW_TYPES]
    return hashlib.sha256(repr((labels, failed, measured, stamps, columns)).encode()).hexdigest()


def _failed_rows(store: Store, plan: Plan, published: Iterable[Published]) -> list[TrialRow]:
    """One row per planned trial without a result whose latest attempt failed."""
    rows, begun = [], begun_trials(store)
    for planned in pending_trials(plan.trials, published):
        history = attempts(store, planned.trial_id) if planned.trial_id in begun else ()
        if not history or not history[-1].has_failed:
            continue
        last, reported = history[-1], read_progress(store, planned.trial_id)
        ending = Ending(
            status="failed",
            steps=reported.progress.step if reported else 0,
            train_time_s=reported.progress.train_time_s if reported else 0.0,
            eval_time_s=reported.progress.eval_time_s if reported else 0.0,
            started_at=history[0].started_at,
            finished_at=last.ended_at or last.started_at,
            torch_version=str(files.read_json(store.manifest)["packages"]["torch"]),
            error_class=last.error_class,
            error_message=last.error_message,
        )
        rows.append(trial_row(Assignment(store.folder, plan.name, planned, last), ending))
    return rows


def _tables_of(
    records: Iterable[dict[str, Any]],
    labels: Labels,
    failed: Sequence[TrialRow],
    samples: list[Row],
    kept: Tables,
) -> Tables:
    """Rows of some records, of failed trials and of samples, and rows that are kept, in order."""
    labelled = []
    for record in records:
        row = record["trial"]
        series = labels.series.get(row["trajectory_id"], row["series"])
        labelled.append({**record, "trial": {**row, "series": series}})
    # Of two rows for one point, that of the first trial in the order of the tables is taken.
    labelled.sort(key=lambda record: tuple(record["trial"][name] for name in ORDER))
    rows: dict[TableName, list[Row]] = {
        "trials": [*(record["trial"] for record in labelled), *map(vars, failed)],
        "observations": _observations(labelled, labels),
        "samples": samples,
    }
    tables = {name: pa.Table.from_pylist(rows[name], schema(name)) for name in rows}
    tables["losses"] = _losses(labelled)
    for name, table in kept.items():
        # One chunk: how many parts a table came from must not show in its bytes.
        tables[name] = pa.concat_tables([table, tables[name]]).combine_chunks()
    ordered = tables["trials"].sort_by([(name, "ascending") for name in ORDER])["trial_id"]
    for name, table in tables.items():
        # A stable sort: rows of one trial keep their order.
        ranks = pc.index_in(table["trial_id"], value_set=ordered.combine_chunks())
        tables[name] = table.take(pc.array_sort_indices(ranks.combine_chunks()))
    return tables


def _observations(records: Iterable[dict[str, Any]], labels: Labels) -> list[Row]:
    """One row per trajectory and step, although two trials may have observed the same one."""
    rows: dict[tuple[str, int], Row] = {}
    for record in records:
        for row in record["observations"]:
            point = (row["trajectory_id"], row["step"])
            # What another sweep observed and this one does not plan is left to its own tables.
            if row["sweep"] != labels.sweep and point not in labels.budget_flops:
                continue
            budget = labels.budget_flops.get(point, row["budget_flops"])
            labelled = {"series": record["trial"]["series"], "budget_flops": budget}
            rows.setdefault(point, {**row, **labelled})
    return list(rows.values())


def _losses(records: Sequence[dict[str, Any]]) -> pa.Table:
    columns: dict[str, list[Any]] = {
        name: list(itertools.chain.from_iterable(each["losses"][name] for each in records))
        for name in LOSS_COLUMNS
    }
    for name in ("trial_id", "series"):
        columns[name] = [
            record["trial"][name] for record in records for _ in record["losses"]["step"]
        ]
    return pa.Table.from_pydict(columns, schema("losses"))
