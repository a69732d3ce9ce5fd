"""The four Parquet datasets, derived from the published records.

Each is a folder with one file, replaced as a whole, so that a reader never sees a torn file, a
duplicate or half of a refresh of one table. The same store gives the same bytes. A refresh keeps
the rows of records that are as they were, reads the others, and notes in the index what it saw; it
ends in the same bytes as building everything anew, which is what it does when in doubt.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweeper.store import files
from sweeper.store.failures import failed_rows
from sweeper.store.layout import Store
from sweeper.store.plan_file import read_plan
from sweeper.store.record_index import RecordIndex, read_index, record_stamps, write_index
from sweeper.store.results import LOSS_COLUMNS, Published, head_of, read_records
from sweeper.store.storage import StorePath
from sweeper.trials.plan import Plan
from sweeper.trials.records import ROW_TYPES, TableName, TrialRow, schema

FILE_NAME = "part-0.parquet"
"""The only file of each dataset."""

ORDER = ("series", "params_trunk", "seed", "tokens", "trial_id")
"""Columns of `trials` by which all tables are sorted."""

Row = dict[str, Any]
Tables = Mapping[TableName, pa.Table]


@dataclass(frozen=True)
class Labels:
    """What the current plan calls each trajectory and each of its points.

    Labels and budgets are not part of a trial's identity: renaming a series relabels its results.
    """

    sweep: str
    series: dict[str, str]
    """By trajectory."""
    budget_flops: dict[tuple[str, int], float | None]
    """By trajectory and step."""

    @classmethod
    def of(cls, plan: Plan) -> "Labels":
        """The labels of a plan; where two series share a trajectory, the first one's."""
        series: dict[str, str] = {}
        budgets: dict[tuple[str, int], float | None] = {}
        for planned in plan.trials:
            trajectory_id = planned.trajectory_id
            series.setdefault(trajectory_id, planned.series)
            for cell in planned.cells:
                budgets.setdefault((trajectory_id, cell.step), cell.budget_flops)
        return cls(plan.name, series, budgets)


def refresh_tables(store: Store) -> None:
    """Bring tables and index up to date with the plan in the store; see `refresh_for`."""
    refresh_for(store, read_plan(store))


def refresh_for(store: Store, plan: Plan) -> None:
    """Bring all four tables, and the index, up to date with plan, records and failed attempts.

    Raises StoreError for a torn record.
    """
    index, stamps, labels = read_index(store), record_stamps(store), Labels.of(plan)
    known = index.unchanged(stamps)
    records = _read_others(store, stamps, known)
    heads = known | {head.trial_id: head for head in map(head_of, records)}
    failed = failed_rows(store, plan, heads.values())
    digests = _digest(labels), _digest(failed)
    if RecordIndex(stamps, heads, _table_stamps(store), *digests) == index:
        return
    present = _present_tables(store, index) if index.labels == digests[0] else None
    if present is None:
        kept_ids: set[str] = set()
    else:
        contested = _contested([*index.heads.values(), *heads.values()])
        kept_ids = known.keys() - contested
    records += _read_others(store, known, kept_ids)
    tables = _merged(_kept_rows(present, kept_ids), _tables_of(records, labels), failed)
    for name, table in tables.items():
        if present is None or not table.equals(present[name]):
            _write(table, store.table(name) / FILE_NAME)
    write_index(store, RecordIndex(stamps, heads, _table_stamps(store), *digests))


def build_tables(store: Store) -> dict[TableName, pa.Table]:
    """The four tables as they should be, from the records alone.

    Raises StoreError for a torn record.
    """
    plan = read_plan(store)
    records = _read_others(store, record_stamps(store), ())
    failed = failed_rows(store, plan, map(head_of, records))
    return _merged(_kept_rows(None, ()), _tables_of(records, Labels.of(plan)), failed)


def read_table(store: Store, name: TableName) -> pa.Table:
    """One table as it is on disk."""
    with files.local_file(store.table(name) / FILE_NAME) as file:
        return pq.read_table(file)


def _read_others(
    store: Store, trial_ids: Iterable[str], known: Container[str]
) -> list[dict[str, Any]]:
    """The records of trials that are not known."""
    return read_records([store.record(each) for each in trial_ids if each not in known])


def _contested(heads: Iterable[Published]) -> set[str]:
    """Trials that share an observed point with another: `observations` has the row of one of them.

    Which one it is may change with any of the others.
    """
    trials: dict[tuple[str, int], set[str]] = {}
    for head in heads:
        for step in head.observed_steps:
            trials.setdefault((head.trajectory_id, step), set()).add(head.trial_id)
    return {each for sharing in trials.values() if len(sharing) > 1 for each in sharing}


def _digest(value: object) -> str:
    """What changes when a value does that shows all of itself."""
    return hashlib.sha256(repr(value).encode()).hexdigest()


def _table_stamps(store: Store) -> dict[str, str]:
    """Size and time of change of the file of each table."""
    return {name: files.stamp(store.table(name) / FILE_NAME) or "" for name in ROW_TYPES}


def _present_tables(store: Store, index: RecordIndex) -> Tables | None:
    """The tables on disk, if they are as the index knows them."""
    if _table_stamps(store) != index.tables:
        return None
    try:
        # A schema that was read carries notes of the reader, which would show in the bytes.
        return {
            name: pa.Table.from_arrays(read_table(store, name).columns, schema=schema(name))
            for name in ROW_TYPES
        }
    except (OSError, ValueError, pa.ArrowException):
        return None


def _kept_rows(present: Tables | None, trial_ids: Collection[str]) -> Tables:
    """Rows of some published trials in the present tables."""
    if present is None:
        return {name: schema(name).empty_table() for name in ROW_TYPES}
    wanted = pa.array(trial_ids, pa.string())
    return {
        name: table.filter(pc.is_in(table["trial_id"], value_set=wanted))
        for name, table in present.items()
    }


def _tables_of(records: Iterable[dict[str, Any]], labels: Labels) -> Tables:
    """The rows of some records, in the order of the tables."""
    ordered = sorted((_labelled(record, labels) for record in records), key=_order)
    samples = [
        {**row, "series": record["trial"]["series"]}
        for record in ordered
        for row in record["samples"]
    ]
    rows: dict[TableName, list[Row]] = {
        "trials": [record["trial"] for record in ordered],
        "observations": _observations(ordered, labels),
        "samples": samples,
    }
    tables = {name: pa.Table.from_pylist(rows[name], schema(name)) for name in rows}
    return {**tables, "losses": _losses(ordered)}


def _merged(kept: Tables, fresh: Tables, failed: Iterable[TrialRow]) -> dict[TableName, pa.Table]:
    """Rows of published and failed trials in the order of the tables."""
    failed_rows = [dataclasses.asdict(row) for row in failed]
    added = {**fresh, "trials": _with_rows(fresh["trials"], failed_rows)}
    merged = {name: pa.concat_tables([kept[name], added[name]]) for name in ROW_TYPES}
    keys = zip(*(merged["trials"][name].to_pylist() for name in ORDER), strict=True)
    trial_ids = pa.array([key[-1] for key in sorted(keys)], pa.string())
    return {name: _sorted_by(trial_ids, table) for name, table in merged.items()}


def _with_rows(table: pa.Table, rows: list[Row]) -> pa.Table:
    return pa.concat_tables([table, pa.Table.from_pylist(rows, table.schema)])


def _sorted_by(trial_ids: pa.Array, table: pa.Table) -> pa.Table:
    """A table in the order of these trials; rows of one trial keep theirs."""
    places = pc.index_in(table["trial_id"], value_set=trial_ids).combine_chunks()
    # One chunk: how many parts a table came from must not show in its bytes.
    return table.combine_chunks().take(pc.array_sort_indices(places))


def _labelled(record: dict[str, Any], labels: Labels) -> dict[str, Any]:
    row = record["trial"]
    series = labels.series.get(row["trajectory_id"], row["series"])
    return {**record, "trial": {**row, "series": series}}


def _order(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record["trial"][name] for name in ORDER)


def _observations(records: Iterable[dict[str, Any]], labels: Labels) -> list[Row]:
    """One row per trajectory and step, although two trials may have observed the same one.

    What another sweep observed beside the points that this one plans is left to its own tables.
    """
    rows: dict[tuple[str, int], Row] = {}
    for record in records:
        for row in record["observations"]:
            point = (row["trajectory_id"], row["step"])
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


def _write(table: pa.Table, path: StorePath) -> None:
    files.replace_with(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))
