"""Whether a results folder is sound: reads everything, changes nothing, says what to do."""

import dataclasses
import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from sweeper.errors import StoreError
from sweeper.models.checks import model_flaws
from sweeper.orchestration.lease import driver_at_work
from sweeper.store import files
from sweeper.store.attempts import torn_attempts, torn_lines
from sweeper.store.layout import Store, open_store
from sweeper.store.measurements import sampling_store
from sweeper.store.pending import pending_trials
from sweeper.store.results import (
    flaws,
    head_of,
    published,
    read_index,
    read_without_losses,
    record_paths,
    record_stamps,
)
from sweeper.store.storage import TEMPORARY_PREFIX, StoragePath
from sweeper.store.submission import read_plan
from sweeper.store.tables import build_tables, needless_checkpoints
from sweeper.trials.plan import Plan
from sweeper.trials.records import ROW_TYPES, TABLE_FILE, TableName, schema
from sweeper.trials.sampling_task import SamplingTask

_MEASURE_AGAIN = "delete it and run `sweeper pareto` again to measure these samples anew"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    code: str
    """What kind of thing, for scripts: `torn-record`, `orphan-temporary`, …"""
    file: StoragePath
    message: str
    """What was found and what to do."""


def verify(folder: StoragePath) -> list[Finding]:
    """All findings in a results folder, none when it is sound. Raises StoreError for no store."""
    store = open_store(folder)
    try:
        plan = read_plan(store)
    except StoreError as error:
        return [Finding("torn-plan", store.plan, str(error))]
    findings = [*_check_files(store), *_check_records(store), *_check_measurements(store)]
    # What follows from damaged records would only repeat their findings.
    damaged = (store.published, sampling_store(store).published)
    if not any(finding.file.parent in damaged for finding in findings):
        findings += _check_missing(store, plan)
        findings += _check_checkpoints(store, plan)
        expected = build_tables(store, plan)
        records = read_without_losses(record_paths(store))
        is_at_rest = driver_at_work(store) is None
        for flaw in model_flaws(store, plan, records, is_at_rest=is_at_rest):
            findings.append(Finding(*flaw))
        for name in ROW_TYPES:
            findings += _check_table(store.table(name), name, expected[name])
    return findings


def _check_files(store: Store) -> Iterator[Finding]:
    """What is not a record: temporary files, the manifest and attempts."""
    if not driver_at_work(store):  # which owns them
        for path in _sorted(store.folder.rglob(f"{TEMPORARY_PREFIX}*")):
            yield Finding("orphan-temporary", path, "left behind by a killed process; delete it")
    for path in _sorted(store.folder.glob("*.parquet")):
        message = "not written by the store, which keeps tables in folders; delete it"
        yield Finding("foreign-file", path, message)
    try:
        files.read_json(store.manifest)
    except (OSError, ValueError) as error:
        message = f"not readable ({error}); run the sweep again"
        yield Finding("torn-manifest", store.manifest, message)
    for folder in _sorted((store.folder / "attempts").glob("*")):
        for path, reason in torn_attempts(store, folder.name):
            message = f"not complete JSON ({reason}): how it ended is lost; delete it"
            yield Finding("torn-attempt", path, message)
    if torn := torn_lines(store):
        yield Finding(
            "torn-archive",
            store.attempt_archive,
            f"line {torn[0]} is not complete: the history of a published trial; delete the line",
        )


def _check_records(store: Store) -> Iterator[Finding]:
    points: dict[tuple[str, int], tuple[StoragePath, str]] = {}
    indexed = read_index(store).unchanged(record_stamps(store))
    for path in record_paths(store):
        try:
            record = files.read_json(path)
            yield from (Finding(code, path, text) for code, text in flaws(path, record))
            observed = [(row["trajectory_id"], row["step"]) for row in record["observations"]]
            head = head_of(record)
        except (ValueError, KeyError, TypeError) as error:
            yield Finding(
                "torn-record",
                path,
                f"not a complete record ({type(error).__name__}: {error}); delete it and run the "
                "sweep again to train this trial anew",
            )
            continue
        if indexed.get(path.stem, head) != head:
            yield Finding(
                "wrong-index", store.record_index, f"says other things than {path}; delete it"
            )
        for point in observed:
            other, other_sweep = points.setdefault(point, (path, head.sweep))
            # A record that was taken over for one of its points may bring others along.
            if other != path and other_sweep == head.sweep:
                yield Finding(
                    "duplicate-observation",
                    path,
                    f"step {point[1]} of trajectory {point[0]} is also in {other.name}; "
                    "harmless, tables show it once; delete one of them to be rid of it",
                )


def _check_measurements(store: Store) -> Iterator[Finding]:
    for path in record_paths(sampling_store(store)):
        try:
            record = files.read_json(path)
            lacking = set(schema("samples").names) - set(record["sample"])
            is_own = SamplingTask(**record["identity"]).task_id == path.stem
        except (ValueError, KeyError, TypeError) as error:
            found = f"not a complete record ({type(error).__name__}: {error})"
            yield Finding("torn-record", path, f"{found}; {_MEASURE_AGAIN}")
            continue
        if lacking:
            found = f"lacks {', '.join(sorted(lacking))}: written by an older version"
            yield Finding("missing-column", path, f"{found}; {_MEASURE_AGAIN}")
        if not is_own:
            found = "holds another measurement: renamed or edited"
            yield Finding("foreign-record", path, f"{found}; {_MEASURE_AGAIN}")


def _check_missing(store: Store, plan: Plan) -> Iterator[Finding]:
    for planned in pending_trials(plan.trials, published(store)):
        steps = ", ".join(str(cell.step) for cell in planned.cells)
        yield Finding(
            "missing-trial",
            store.record(planned.trial_id),
            f"{planned.series}, {planned.params.trunk:,} parameters: planned "
            f"and not published at step {steps}; run the sweep again",
        )


def _check_checkpoints(store: Store, plan: Plan) -> Iterator[Finding]:
    """Checkpoints that are of no use, and damaged ones; a driver at work owns them."""
    if driver_at_work(store):
        return
    needless = needless_checkpoints(store, plan, published(store), is_complete=False)
    for folder in needless:
        message = "checkpoints of a run that is done and is not to be lengthened; delete them"
        yield Finding("needless-checkpoint", folder, message)
    for path in _sorted(store.all_checkpoints.glob("*/step-*.pt")):
        if path.parent in needless:
            continue
        try:
            with files.local_file(path) as file, zipfile.ZipFile(file) as archive:
                is_sound = archive.testzip() is None
        except (OSError, zipfile.BadZipFile):
            is_sound = False
        if not is_sound:
            message = "damaged: a run that goes on takes an older one or starts anew; delete it"
            yield Finding("torn-checkpoint", path, message)


def _check_table(folder: StoragePath, name: TableName, expected: pa.Table) -> Iterator[Finding]:
    path, remedy = folder / TABLE_FILE, "run the sweep again to rebuild it"
    for other in _sorted(folder.glob("*")):
        if other != path and not other.name.startswith(TEMPORARY_PREFIX):
            yield Finding(
                "foreign-file",
                other,
                f"{name} is one file, {TABLE_FILE}, and `sweeper fit` reads no other, but tools "
                "that open the folder may read this, too; delete it",
            )
    try:
        with files.local_file(path) as file:
            table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        yield Finding("torn-table", path, f"not readable ({error}); {remedy}")
        return
    lacking = [field.name for field in schema(name) if field.name not in table.column_names]
    if lacking:
        yield Finding("missing-column", path, f"lacks {', '.join(lacking)}; {remedy}")
    elif not table.equals(expected):
        yield Finding(
            "stale-table",
            path,
            f"differs from the published records ({table.num_rows} rows, {expected.num_rows} "
            f"expected); {remedy}",
        )


def _sorted(paths: Iterable[StoragePath]) -> list[StoragePath]:
    return sorted(paths, key=str)


def to_json(findings: list[Finding]) -> str:
    """Findings as JSON text."""
    fields = [{**dataclasses.asdict(finding), "file": str(finding.file)} for finding in findings]
    return json.dumps(fields, indent=1)
