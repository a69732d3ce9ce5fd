"""The four Parquet datasets, derived from the published records.

Each is a folder with one file, replaced as a whole, so that a reader never sees a torn file, a
duplicate or half of a refresh of one table. The same store gives the same bytes. Rebuilding
everything is simple and costs little beside training; the driver spaces its refreshes by what
they cost.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sweeper import durable
from sweeper.failures import failed_rows
from sweeper.places import StorePath
from sweeper.plan_file import StoredPlan, read_plan
from sweeper.publication import LOSS_COLUMNS, head_of, read_record, record_paths
from sweeper.records import TableName, schema
from sweeper.store import Store

FILE_NAME = "part-0.parquet"
"""The only file of each dataset."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Labels:
    """What the current plan calls each trajectory and each of its points.

    Labels and budgets are not part of a trial's identity: renaming a series relabels its results.
    """

    series: dict[str, str]
    """By trajectory."""
    budget_flops: dict[tuple[str, int], float | None]
    """By trajectory and step."""

    @classmethod
    def of(cls, plan: StoredPlan) -> "Labels":
        """The labels of a plan; where two series share a trajectory, the first one's."""
        series: dict[str, str] = {}
        budgets: dict[tuple[str, int], float | None] = {}
        for planned in plan.trials:
            trajectory_id = planned.trajectory_id
            series.setdefault(trajectory_id, planned.series)
            for cell in planned.cells:
                budgets.setdefault((trajectory_id, cell.step), cell.budget_flops)
        return cls(series, budgets)


def refresh_tables(store: Store) -> None:
    """Rebuild all four tables from the plan, the published records and the failed attempts."""
    for name, table in build_tables(store).items():
        _write(table, store.table(name) / FILE_NAME)


def build_tables(store: Store) -> dict[TableName, pa.Table]:
    """The four tables as they should be. Raises StoreError for a torn record."""
    plan = read_plan(store)
    labels = Labels.of(plan)
    records = sorted(
        (_labelled(read_record(path), labels) for path in record_paths(store)), key=_order
    )
    heads = [head_of(record) for record in records]
    failed = [dataclasses.asdict(row) for row in failed_rows(store, plan, heads)]
    trials = [record["trial"] for record in records] + failed
    samples = [
        {**row, "series": record["trial"]["series"]}
        for record in records
        for row in record["samples"]
    ]
    return {
        "trials": pa.Table.from_pylist(sorted(trials, key=_trial_order), schema("trials")),
        "observations": pa.Table.from_pylist(
            _observations(records, labels), schema("observations")
        ),
        "samples": pa.Table.from_pylist(samples, schema("samples")),
        "losses": _losses(records),
    }


def read_table(store: Store, name: TableName) -> pa.Table:
    """One table as it is on disk."""
    with durable.local_file(store.table(name) / FILE_NAME) as file:
        return pq.read_table(file)


def _labelled(record: dict[str, Any], labels: Labels) -> dict[str, Any]:
    row = record["trial"]
    series = labels.series.get(row["trajectory_id"], row["series"])
    return {**record, "trial": {**row, "series": series}}


def _observations(records: Iterable[dict[str, Any]], labels: Labels) -> list[Row]:
    """One row per trajectory and step, although two trials may have observed the same one."""
    rows: dict[tuple[str, int], Row] = {}
    for record in records:
        for row in record["observations"]:
            point = (row["trajectory_id"], row["step"])
            budget = labels.budget_flops.get(point, row["budget_flops"])
            labelled = {"series": record["trial"]["series"], "budget_flops": budget}
            rows.setdefault(point, {**row, **labelled})
    return list(rows.values())


def _losses(records: Iterable[dict[str, Any]]) -> pa.Table:
    fields = schema("losses")
    tables = []
    for record in records:
        n_rows = len(record["losses"]["step"])
        columns = {name: record["losses"][name] for name in LOSS_COLUMNS}
        columns["trial_id"] = [record["trial"]["trial_id"]] * n_rows
        columns["series"] = [record["trial"]["series"]] * n_rows
        tables.append(pa.Table.from_pydict(columns, fields))
    return pa.concat_tables([fields.empty_table(), *tables])


def _write(table: pa.Table, path: StorePath) -> None:
    # One chunk: how many records a table came from must not show in its bytes.
    whole = table.combine_chunks()
    durable.replace_with(
        path, lambda temporary: pq.write_table(whole, temporary, compression="zstd")
    )


def _order(record: dict[str, Any]) -> tuple[Any, ...]:
    return _trial_order(record["trial"])


def _trial_order(row: Row) -> tuple[Any, ...]:
    return row["series"], row["params_trunk"], row["seed"], row["tokens"], row["trial_id"]
