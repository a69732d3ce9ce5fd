"""Checks a raw table of text or numbers and turns it into the tidy table that every fit reads.

A cell that cannot be used is an error that names its row; nothing is skipped in silence. Rows are
counted as in the file: in a CSV they are line numbers, in Parquet the first row is row 1.
"""

import dataclasses
import difflib
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analysis.errors import FitWarning, TableError
from analysis.tables.conventions import ConventionCounts, counts_by_convention
from analysis.tables.points import SAME_SIZE, BoolArray, FloatArray, levels
from analysis.tables.units import check_units, unit_warnings, without_uneven_budgets

REQUIRED = ("family", "params", "tokens", "flops", "loss")
OPTIONAL = ("budget_flops", "loss_stderr", "seed", "run_id", "batch_tokens", "learning_rate")
POSITIVE = ("params", "tokens", "flops", "loss", "budget_flops", "batch_tokens", "learning_rate")
OUTLIER_COLUMN = "outlier"
SAME_BUDGET = 0.005
"""Budgets that differ by less, in log, are one that was rounded."""


@dataclass(frozen=True)
class RawTable:
    """Cells as read, before any check."""

    frame: pd.DataFrame
    name: str
    """File name for messages."""
    row_numbers: tuple[int, ...]
    """What the file calls each row."""

    def where(self, index: int, column: str) -> str:
        """Place of a cell for messages."""
        return f"{self.name}, row {self.row_numbers[index]}, column {column!r}"


@dataclass(frozen=True)
class TidyTable:
    """Checked rows with exactly the tidy columns, and the remarks made on the way.

    Of the optional columns `run_id` is always set; the others are NaN where the source has none.
    The index is the position of the row in the raw table.
    """

    frame: pd.DataFrame
    warnings: tuple[FitWarning, ...]
    params_convention: str = "as given"
    flops_convention: str = "as given"
    counts: ConventionCounts = field(default_factory=ConventionCounts, repr=False)
    """Sizes and FLOPs of the rows, in their order, under other conventions."""


def tidy(raw: RawTable) -> TidyTable:
    """Check every cell and the units of a table; raises `TableError` naming the first bad one."""
    table = tidy_counted(raw)
    _check_runs(raw, table.frame)
    check_units(table.frame, lambda index: f"{raw.name}, row {raw.row_numbers[index]}")
    kept = raw.frame.iloc[table.frame.index.to_numpy()]
    frame, uneven = without_uneven_budgets(table.frame)
    return dataclasses.replace(
        table,
        frame=frame,
        warnings=(*table.warnings, *unit_warnings(table.frame), *uneven),
        counts=counts_by_convention(kept, table.frame["tokens"].to_numpy()),
    )


def tidy_counted(raw: RawTable) -> TidyTable:
    """Check every cell of a table whose params and FLOPs were counted by us, in units we know."""
    # In a small model with a large vocabulary the head alone outweighs 6·params·tokens by hundreds,
    # which from elsewhere would look like mixed units.
    _check_columns(raw)
    if raw.frame.empty:
        message = f"{raw.name}: no rows, expected one per observation with {', '.join(REQUIRED)}"
        raise TableError(message)
    frame = pd.DataFrame({"family": _labels(raw)})
    for column in ("params", "tokens", "flops", "loss"):
        frame[column] = _numbers(raw, column)
    frame["budget_flops"], of_budgets = _budgets(raw)
    frame["loss_stderr"], of_errors = _optional_numbers(raw, "loss_stderr")
    frame["seed"], of_seeds = _optional_numbers(raw, "seed")
    frame["run_id"], of_runs = _run_ids(raw)
    frame["batch_tokens"], of_batches = _optional_numbers(raw, "batch_tokens")
    frame["learning_rate"], of_rates = _optional_numbers(raw, "learning_rate")
    warnings = [*of_batches, *of_rates, *of_budgets, *of_errors, *of_seeds, *of_runs]
    kept, of_outliers = _without_outliers(raw)
    frame, of_duplicates = _without_duplicates(raw, frame[kept])
    frame, inferred = _with_budgets(frame)
    return TidyTable(frame, (*warnings, *of_outliers, *of_duplicates, *inferred))


def _check_columns(raw: RawTable) -> None:
    columns = [str(name) for name in raw.frame.columns]
    known = {*REQUIRED, *OPTIONAL, OUTLIER_COLUMN}
    repeated = sorted(name for name in known if columns.count(name) > 1)
    if repeated:
        message = f"{raw.name}: column {repeated[0]!r} occurs twice; keep one of them"
        raise TableError(message)
    missing = [name for name in REQUIRED if name not in columns]
    if not missing:
        return
    spare = [name for name in columns if name not in known]
    hints = []
    for name in missing:
        close = difflib.get_close_matches(name, [each.lower() for each in spare], n=1)
        found = next((each for each in spare if [each.lower()] == close), None)
        hints.append(f"{name!r}" + (f" (is it {found!r}? rename it)" if found else ""))
    raise TableError(
        f"{raw.name}: missing column {', '.join(hints)}; found {', '.join(columns) or 'none'}; "
        f"a tidy table has {', '.join(REQUIRED)} and may have {', '.join(OPTIONAL)}"
    )


def _labels(raw: RawTable) -> list[str]:
    labels = []
    for index, cell in enumerate(raw.frame["family"]):
        label = "" if _is_blank(cell) else " ".join(str(cell).split())
        where = raw.where(index, "family")
        if not label:
            raise TableError(f"{where}: empty, expected the label of a series")
        if not label.isprintable():
            message = f"{where}: found {label!r}, expected a label without control characters"
            raise TableError(message)
        labels.append(label)
    return labels


def _is_blank(cell: object) -> bool:
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or bool(pd.isna(cell))  # type: ignore[call-overload]


def _number(raw: RawTable, index: int, column: str, cell: object) -> float:
    """One cell as a finite float of the right sign."""
    expected = "a positive number" if column in POSITIVE else "a number"
    if column == "loss_stderr":
        expected = "a number ≥ 0"
    if _is_blank(cell):
        found = "NaN" if isinstance(cell, float) else "an empty cell"
        message = f"{raw.where(index, column)}: found {found}, expected {expected}; "
        raise TableError(message + "fill it in or delete the row")
    try:
        if isinstance(cell, bool | np.bool_):
            raise TypeError("a truth value")
        value = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        hint = "write plain numbers such as 125000000 or 1.25e8, without units"
        if "," in str(cell):
            hint = "write numbers without thousands separators and with a decimal point"
        message = f"{raw.where(index, column)}: found {cell!r}, expected {expected}; {hint}"
        raise TableError(message) from error
    if not np.isfinite(value):
        message = f"{raw.where(index, column)}: found {cell!s}, expected {expected}; a run that "
        raise TableError(message + "diverged has no place in a fit: delete the row")
    if (column in POSITIVE and value <= 0) or (column == "loss_stderr" and value < 0):
        raise TableError(f"{raw.where(index, column)}: found {cell!s}, expected {expected}")
    # Products and squares of what lies within these magnitudes are numbers too.
    if column in POSITIVE and not 1e-60 <= value <= 1e60:
        message = f"{raw.where(index, column)}: found {cell!s}, no magnitude of anything trained"
        raise TableError(f"{message}; check the exponent")
    return value


def _numbers(raw: RawTable, column: str) -> FloatArray:
    # Cells become float64 before any product: params · tokens overflows int64 above 9.2e18.
    cells = [_number(raw, i, column, cell) for i, cell in enumerate(raw.frame[column])]
    return np.array(cells, dtype=np.float64)


def _optional_numbers(raw: RawTable, column: str) -> tuple[FloatArray, list[FitWarning]]:
    """The column, or NaN throughout where it is absent or has gaps; gaps are remarked."""
    nothing = np.full(len(raw.frame), np.nan)
    if column not in raw.frame.columns:
        return nothing, []
    blank = [_is_blank(cell) for cell in raw.frame[column]]
    if all(blank):
        return nothing, []
    if any(blank):
        message = (
            f"{raw.where(blank.index(True), column)} and {sum(blank) - 1} more cells are empty: "
            "the whole column is left unused"
        )
        return nothing, [FitWarning(f"incomplete_{column}", message)]
    return _numbers(raw, column), []


def _budgets(raw: RawTable) -> tuple[FloatArray, list[FitWarning]]:
    """Nominal budgets; a row without one is outside the isoFLOP curves, and NaN."""
    budget = np.full(len(raw.frame), np.nan)
    if "budget_flops" not in raw.frame.columns:
        return budget, []
    for index, cell in enumerate(raw.frame["budget_flops"]):
        if not _is_blank(cell):
            budget[index] = _number(raw, index, "budget_flops", cell)
    # Those nearly equal, which were rounded or stored in another precision, carry the name of the
    # least of them.
    level_P = levels(np.log(budget), SAME_BUDGET)
    least = pd.Series(budget).groupby(level_P).transform("min").to_numpy()
    budget = np.where(np.isnan(budget), np.nan, least)
    n_blank = int(np.isnan(budget).sum())
    if n_blank in (0, len(budget)):
        return budget, []
    message = f"{n_blank} rows without budget_flops are in the surface but in no isoFLOP curve"
    return budget, [FitWarning("rows_without_budget", message)]


def _check_runs(raw: RawTable, frame: pd.DataFrame) -> None:
    """Refuse a run of several sizes: its points would count as if they shared their noise."""
    params = frame.groupby(["family", "run_id"])["params"]
    odd = (np.log(frame["params"]) - np.log(params.transform("first"))).abs() > SAME_SIZE
    if not odd.any():
        return
    index = frame.index[odd][0]
    raise TableError(
        f"{raw.name}, row {raw.row_numbers[int(index)]}: run_id {frame.loc[index, 'run_id']!r} has "
        "another size in an earlier row; a run trains one model, so name every run, or leave "
        "run_id out"
    )


def _run_ids(raw: RawTable) -> tuple[list[str], list[FitWarning]]:
    """Run of each row; a row without one is a run of its own."""
    own = [f"row {number}" for number in raw.row_numbers]
    if "run_id" not in raw.frame.columns:
        return own, []
    cells = list(raw.frame["run_id"])
    blank = [_is_blank(cell) for cell in cells]
    ids = [
        name if empty else str(cell) for name, cell, empty in zip(own, cells, blank, strict=True)
    ]
    if not any(blank) or all(blank):
        return ids, []
    message = f"{sum(blank)} rows have no run_id: each counts as a run of its own"
    return ids, [FitWarning("incomplete_run_id", message)]


def _without_outliers(raw: RawTable) -> tuple[BoolArray, list[FitWarning]]:
    """Rows to keep: all but those marked in a column `outlier`."""
    keep = np.ones(len(raw.frame), dtype=bool)
    if OUTLIER_COLUMN not in raw.frame.columns:
        return keep, []
    for index, cell in enumerate(raw.frame[OUTLIER_COLUMN]):
        text = "" if _is_blank(cell) else str(cell).strip().lower()
        if text not in _TRUTH:
            message = f"{raw.where(index, OUTLIER_COLUMN)}: found {cell!r}, expected 0 or 1"
            raise TableError(message)
        keep[index] = not _TRUTH[text]
    n_marked = int((~keep).sum())
    if not n_marked:
        return keep, []
    if n_marked == len(keep):
        raise TableError(f"{raw.name}: every row is marked in column 'outlier'; unmark some")
    message = f"{n_marked} rows marked in column 'outlier' are left out"
    return keep, [FitWarning("outliers_left_out", message)]


_TRUTH = {"": False, "0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


def _without_duplicates(
    raw: RawTable, frame: pd.DataFrame
) -> tuple[pd.DataFrame, list[FitWarning]]:
    """One of each set of rows that are equal in every column; a repeated row is no new evidence."""
    compared = list(frame.columns)
    if "run_id" not in raw.frame.columns:
        compared.remove("run_id")
    repeated = frame.duplicated(subset=compared, keep="first")
    if not repeated.any():
        return frame, []
    row = raw.row_numbers[int(frame.index[repeated][0])]
    message = f"{int(repeated.sum())} rows repeat an earlier row (first: row {row}) and count once"
    return frame[~repeated], [FitWarning("duplicate_rows", message)]


def _with_budgets(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[FitWarning]]:
    """Fill `budget_flops` from the gaps in log flops where the source has none."""
    if frame["budget_flops"].notna().any():
        return frame, []
    budgets = inferred_budgets(frame["flops"].to_numpy())
    if budgets is None:
        message = "no column budget_flops, and flops do not gather in budgets: no isoFLOP curves"
        return frame, [FitWarning("no_budgets", message)]
    n_budgets = len(np.unique(budgets))
    message = f"no column budget_flops: {n_budgets} budgets inferred from gaps in flops"
    return frame.assign(budget_flops=budgets), [FitWarning("budgets_inferred", message)]


def inferred_budgets(flops_P: FloatArray) -> FloatArray | None:
    """Budget of each point, or None when the FLOPs do not gather."""
    # Sorted log FLOPs are cut at gaps wider than 10 %. Every group must then be narrower than 25 %
    # and hold three points on average; its budget is its geometric mean, rounded to three digits.
    log_flops = np.log(flops_P)
    order = np.argsort(log_flops, kind="stable")
    group = np.empty(len(flops_P), dtype=np.int64)
    group[order] = np.cumsum(np.diff(log_flops[order], prepend=log_flops[order[0]]) > 0.10)
    n_groups = int(group.max()) + 1
    spread = [np.ptp(log_flops[group == g]) for g in range(n_groups)]
    if max(spread) > 0.25 or len(flops_P) < 3 * n_groups:
        return None
    means = np.exp(np.bincount(group, log_flops) / np.bincount(group))
    rounded: FloatArray = np.array([float(f"{mean:.3g}") for mean in means])
    return rounded[group]
