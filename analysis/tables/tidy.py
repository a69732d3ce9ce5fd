"""Checks a raw table of text or numbers and turns it into the tidy table that every fit reads.

A cell that cannot be used is an error that names its row; nothing is skipped in silence. Rows are
counted as in the file: in a CSV they are line numbers, in Parquet the first row is row 1.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analysis.errors import FitWarning, TableError
from analysis.tables.columns import OUTLIER_COLUMN, REQUIRED, RawTable, check_columns, with_names
from analysis.tables.conventions import ConventionCounts, counts_by_convention
from analysis.tables.points import BoolArray, FloatArray, levels
from analysis.tables.runs import (
    RunsOption,
    check_runs,
    check_runs_option,
    thinned,
    with_curves,
    with_one_loss_per_step,
)
from analysis.tables.settings import one_row_per_cell
from analysis.tables.stray import without_stray_losses
from analysis.tables.units import check_units, unit_warnings, without_uneven_budgets

POSITIVE = ("params", "tokens", "flops", "loss", "budget_flops", "batch_tokens", "learning_rate")
MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"}
"""What stands in a cell without a value, in lower case."""
SAME_BUDGET = 0.005
"""Budgets that differ by less, in log, are one that was rounded."""


@dataclass(frozen=True)
class Reading:
    """How a user wants a table read."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our names of columns that the table calls otherwise, with its names."""
    runs: RunsOption = "auto"
    """What rows without run_id are."""
    all_settings: bool = False
    """Whether each row counts where runs of one size and number of tokens differ in learning rate
    or batch; else the best setting does."""

    def __post_init__(self) -> None:
        check_runs_option(self.runs)


AS_GIVEN = "as given"
"""Convention of a table that is not a results folder: its own, whatever that is."""


@dataclass(frozen=True)
class TidyTable:
    """Checked rows with exactly the tidy columns, and the remarks made on the way.

    Of the optional columns `run_id` is always set; the others are NaN where the source has none.
    The index is the position of the row in the raw table.
    """

    frame: pd.DataFrame
    warnings: tuple[FitWarning, ...]
    params_convention: str = AS_GIVEN
    flops_convention: str = AS_GIVEN
    counts: ConventionCounts = field(default_factory=ConventionCounts, repr=False)
    """Sizes and FLOPs of the rows, in their order, under other conventions."""
    swept: pd.DataFrame | None = field(default=None, repr=False)
    """The rows of every learning rate and batch, where `frame` has the best ones alone."""
    stray: pd.DataFrame | None = field(default=None, repr=False)
    """Rows of losses of no law, which `frame` leaves out; None where none was."""

    @property
    def every_setting(self) -> pd.DataFrame:
        """The rows that laws of the best rate and batch rest on."""
        return self.frame if self.swept is None else self.swept


def tidy(raw: RawTable, reading: Reading | None = None) -> TidyTable:
    """Check every cell and the units of a table; raises `TableError` naming the first bad one."""
    reading = reading or Reading()
    raw = with_names(raw, reading.columns)
    check_columns(raw)
    raw, of_outliers = _without_outliers(raw)
    table = tidy_counted(raw)
    check_runs(raw, table.frame)
    is_named = _is_named(raw)[table.frame.index.to_numpy()]
    frame, of_curves = with_curves(table.frame, is_named, reading.runs)
    frame, of_steps = with_one_loss_per_step(raw, frame)
    frame, of_thinning = thinned(frame)
    check_units(frame, raw.row)
    frame, uneven = without_uneven_budgets(frame)
    said = (*table.warnings, *of_outliers, *of_curves, *of_steps, *of_thinning)
    table = rows_to_fit(raw, dataclasses.replace(table, frame=frame, warnings=said), reading)
    kept = raw.frame.iloc[table.frame.index.to_numpy()]
    return dataclasses.replace(
        table,
        warnings=(*table.warnings, *unit_warnings(table.frame), *uneven),
        counts=counts_by_convention(kept, table.frame["tokens"].to_numpy()),
    )


def rows_to_fit(raw: RawTable, table: TidyTable, reading: Reading) -> TidyTable:
    """The table with the best setting of each size and number of tokens, without stray losses."""
    frame, warnings, swept, stray = table.frame, list(table.warnings), None, None
    if not reading.all_settings:
        frame, of_settings = one_row_per_cell(frame)
        swept = table.frame if of_settings else None
        warnings += of_settings
    # A user who marked outliers has looked at every row.
    if OUTLIER_COLUMN not in raw.frame.columns:
        kept, of_losses = without_stray_losses(raw, frame)
        stray = frame.drop(index=kept.index) if of_losses else None
        frame, warnings = kept, [*warnings, *of_losses]
    return dataclasses.replace(
        table, frame=frame, warnings=tuple(warnings), swept=swept, stray=stray
    )


def tidy_counted(raw: RawTable) -> TidyTable:
    """Check every cell of a table whose params and FLOPs were counted by us, in units we know."""
    # In a small model with a large vocabulary the head alone outweighs 6·params·tokens by hundreds,
    # which from elsewhere would look like mixed units.
    check_columns(raw)
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
    frame, of_duplicates = _without_duplicates(raw, frame)
    frame, inferred = _with_budgets(frame)
    return TidyTable(frame, (*warnings, *of_duplicates, *inferred))


def _labels(raw: RawTable) -> list[str]:
    labels, known = list[str](), dict[str, str]()
    for index, cell in enumerate(raw.frame["family"]):
        if isinstance(cell, str) and cell in known:
            labels.append(known[cell])
            continue
        # A series may be called none, or NA.
        label = " ".join(cell.split() if isinstance(cell, str) else [])
        label = label or ("" if _is_blank(cell) else str(cell))
        where = raw.where(index, "family")
        if not label:
            raise TableError(f"{where}: empty, expected the label of a series")
        if not label.isprintable():
            message = f"{where}: found {label!r}, expected a label without control characters"
            raise TableError(message)
        labels.append(label)
        known[str(cell)] = label
    return labels


def _is_blank(cell: object) -> bool:
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING
    return cell is None or bool(pd.isna(cell))  # type: ignore[call-overload]


_DIVERGED = (
    "a run that diverged has no place in a fit: delete the row, or mark it 1 in a column outlier"
)


def _number(raw: RawTable, index: int, column: str, cell: object) -> float:
    """One cell as a finite float of the right sign."""
    expected = "a positive number" if column in POSITIVE else "a number"
    if column == "loss_stderr":
        expected = "a number ≥ 0"
    if _is_blank(cell):
        found = "NaN" if isinstance(cell, float) else str(cell or "").strip() or "an empty cell"
        message = f"{raw.where(index, column)}: found {found}, expected {expected}; "
        if found.lower() == "nan":
            raise TableError(f"{message}{_DIVERGED}")
        raise TableError(f"{message}fill it in or delete the row")
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
        message = f"{raw.where(index, column)}: found {cell!s}, expected {expected}; {_DIVERGED}"
        raise TableError(message)
    if (column in POSITIVE and value <= 0) or (column == "loss_stderr" and value < 0):
        raise TableError(f"{raw.where(index, column)}: found {cell!s}, expected {expected}")
    # Products and squares of what lies within these magnitudes are numbers too.
    if column in POSITIVE and not 1e-60 <= value <= 1e60:
        message = f"{raw.where(index, column)}: found {cell!s}, no magnitude of anything trained"
        raise TableError(f"{message}; check the exponent")
    return value


def _numbers(raw: RawTable, column: str) -> FloatArray:
    # Cells become float64 before any product: params · tokens overflows int64 above 9.2e18.
    plain = _plain_numbers(raw, column)
    if plain is not None:
        return plain
    cells = [_number(raw, i, column, cell) for i, cell in enumerate(raw.frame[column])]
    return np.array(cells, dtype=np.float64)


def _plain_numbers(raw: RawTable, column: str) -> FloatArray | None:
    """The column where `_number` has nothing to say of any cell; else None, and cells are looked
    at one by one for the first that is wrong.
    """
    cells = raw.frame[column].tolist()
    if {bool, np.bool_} & set(map(type, cells)):
        return None
    try:
        values = np.array([float(cell) for cell in cells])
    except (TypeError, ValueError):
        return None
    if not np.isfinite(values).all() or (column == "loss_stderr" and values.min() < 0):
        return None
    if column in POSITIVE and not np.all((values >= 1e-60) & (values <= 1e60)):
        return None
    return values


def _optional_numbers(raw: RawTable, column: str) -> tuple[FloatArray, list[FitWarning]]:
    """The column, or NaN throughout where it is absent or has gaps; gaps are remarked."""
    nothing = np.full(len(raw.frame), np.nan)
    if column not in raw.frame.columns:
        return nothing, []
    plain = _plain_numbers(raw, column)
    if plain is not None:
        return plain, []
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
    plain = _plain_numbers(raw, "budget_flops")
    if plain is not None:
        budget = plain
    for index, cell in enumerate(raw.frame["budget_flops"] if plain is None else ()):
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


def _run_ids(raw: RawTable) -> tuple[list[str], list[FitWarning]]:
    """Run of each row; a row without one is a run of its own."""
    own = [f"row {number}" for number in raw.row_numbers]
    named = _is_named(raw)
    if not named.any():
        return own, []
    cells = zip(own, raw.frame["run_id"], named, strict=True)
    ids = [str(cell) if is_named else name for name, cell, is_named in cells]
    if named.all():
        return ids, []
    message = f"{int(np.sum(~named))} rows have no run_id: each counts as a run of its own"
    return ids, [FitWarning("incomplete_run_id", message)]


def _is_named(raw: RawTable) -> BoolArray:
    """Which rows say what run they are of."""
    if "run_id" not in raw.frame.columns:
        return np.zeros(len(raw.frame), dtype=bool)
    return np.array([not _is_blank(cell) for cell in raw.frame["run_id"]], dtype=bool)


def _without_outliers(raw: RawTable) -> tuple[RawTable, list[FitWarning]]:
    """The table without the rows that are marked in a column `outlier`, whatever else they hold."""
    if OUTLIER_COLUMN not in raw.frame.columns:
        return raw, []
    keep = np.ones(len(raw.frame), dtype=bool)
    for index, cell in enumerate(raw.frame[OUTLIER_COLUMN]):
        text = "" if _is_blank(cell) else str(cell).strip().lower()
        if text not in _TRUTH:
            message = f"{raw.where(index, OUTLIER_COLUMN)}: found {cell!r}, expected 0 or 1"
            raise TableError(message)
        keep[index] = not _TRUTH[text]
    n_marked = int((~keep).sum())
    if not n_marked:
        return raw, []
    if n_marked == len(keep):
        raise TableError(f"{raw.name}: every row is marked in column 'outlier'; unmark some")
    message = f"{n_marked} rows marked in column 'outlier' are left out"
    return raw.take(np.flatnonzero(keep).tolist()), [FitWarning("outliers_left_out", message)]


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
