"""A table as it was read, what its columns are called, and which ones a tidy table needs."""

import dataclasses
import difflib
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pandas as pd

from analysis.errors import SettingsError, TableError
from sweeper.errors import did_you_mean

REQUIRED = ("family", "params", "tokens", "flops", "loss")
OPTIONAL = ("budget_flops", "loss_stderr", "seed", "run_id", "batch_tokens", "learning_rate")
OUTLIER_COLUMN = "outlier"
KNOWN = (*REQUIRED, *OPTIONAL, OUTLIER_COLUMN)

# What others call them, the likeliest first.
_OTHER_NAMES = {
    "family": "family families series label method algorithm algo noise architecture arch",
    "params": "params param parameters parameter size",
    "tokens": "tokens token",
    "flops": "flops flop compute",
    "loss": "val_loss valid_loss validation_loss eval_loss test_loss bound nelbo nll loss "
    "cross_entropy ce train_loss value",
}
_LETTERS = {"params": "N", "tokens": "D", "flops": "C"}  # of the papers
_UNITS = {
    1e3: "k kilo thousand thousands",
    1e6: "m mega million millions",
    1e9: "b bn g giga billion billions",
    1e12: "t tera trillion trillions",
    1e15: "p peta",
    1e18: "e exa",
    1e21: "z zetta",
}
_FACTOR_OF = {word: factor for factor, words in _UNITS.items() for word in words.split()}


@dataclass(frozen=True)
class RawTable:
    """Cells as read, before any check."""

    frame: pd.DataFrame
    name: str
    """File name for messages."""
    row_numbers: tuple[int, ...]
    """What the file calls each row."""
    called: Mapping[str, str] = field(default_factory=dict)
    """What the file calls the columns that were renamed."""

    def row(self, index: int) -> str:
        """Place of a row for messages."""
        return f"{self.name}, row {self.row_numbers[index]}"

    def where(self, index: int, column: str) -> str:
        """Place of a cell for messages."""
        return f"{self.row(index)}, column {self.called.get(column, column)!r}"

    def take(self, kept: list[int]) -> "RawTable":
        """Some rows, by position."""
        numbers = tuple(self.row_numbers[index] for index in kept)
        return dataclasses.replace(self, frame=self.frame.iloc[kept], row_numbers=numbers)


def with_names(raw: RawTable, columns: Mapping[str, str]) -> RawTable:
    """The table with columns under our names; `columns` says what the file calls each.

    Raises `SettingsError` for a name that is not ours, or not the file's.
    """
    found = [str(name) for name in raw.frame.columns]
    for ours, theirs in columns.items():
        option = f"--column {ours}={theirs}"
        if ours not in KNOWN:
            hint = did_you_mean(ours, KNOWN)
            raise SettingsError(f"{option}: before = expected one of {', '.join(KNOWN)}{hint}")
        if found.count(theirs) != 1:
            what = f"{raw.name} has no column {theirs!r}"
            if theirs in found:
                what = f"{raw.name} has {found.count(theirs)} columns {theirs!r}"
            hint = did_you_mean(theirs, found)
            raise SettingsError(f"{option}: {what}{hint}; it has {', '.join(found)}")
    # What is renamed stays under its own name too: flops may serve as budget_flops.
    kept = raw.frame.drop(columns=[ours for ours in columns if ours in found])
    named = {ours: raw.frame[theirs] for ours, theirs in columns.items()}
    return dataclasses.replace(raw, frame=kept.assign(**named), called=dict(columns))


def check_columns(raw: RawTable) -> None:
    """Refuse a table without the required columns, with a guess at what they are called."""
    columns = [str(name) for name in raw.frame.columns]
    repeated = sorted(name for name in KNOWN if columns.count(name) > 1)
    if repeated:
        message = f"{raw.name}: column {repeated[0]!r} occurs twice; keep one of them"
        raise TableError(message)
    missing = [name for name in REQUIRED if name not in columns]
    if not missing:
        return
    guessed = guesses(missing, [name for name in columns if name not in KNOWN])
    hints, renames = [], []
    for name in missing:
        if name not in guessed:
            hints.append(f"{name!r}" + (" (the label of each series)" if name == "family" else ""))
            continue
        theirs, factor = guessed[name]
        what = "rename it" if factor == 1 else f"multiply it by {factor:.0e} and rename it"
        hints.append(f"{name!r} (is it {theirs!r}? {what.replace('e+', 'e').replace('e0', 'e')})")
        renames += [shlex.quote(f"{name}={theirs}")] if factor == 1 else []
    option = f"; instead of renaming: --column {' --column '.join(renames)}" if renames else ""
    raise TableError(
        f"{raw.name}: missing column {', '.join(hints)}{option}; "
        f"found {', '.join(map(repr, columns)) or 'none'}; a tidy table has {', '.join(REQUIRED)} "
        f"and may have {', '.join((*OPTIONAL, OUTLIER_COLUMN))}"
    )


def guesses(missing: list[str], columns: list[str]) -> dict[str, tuple[str, float]]:
    """Which column each missing one may be, each once, and the factor that its name says."""
    # The likeliest pairs first.
    pairs = sorted(
        (rank, unlikeness, position, name, column, factor)
        for name in missing
        for position, column in enumerate(columns)
        for rank, unlikeness, factor in _ranks(name, column)
    )
    found: dict[str, tuple[str, float]] = {}
    for *_, name, column, factor in pairs:
        if name not in found and all(column != theirs for theirs, _ in found.values()):
            found[str(name)] = str(column), float(factor)
    return found


def _ranks(name: str, column: str) -> Iterator[tuple[int, float, float]]:
    """How unlikely a column is to be the missing one (nothing where it is out of the question):
    whole name, last, first or any word, edit distance; how unlikely among these; its unit.
    """
    letter = _LETTERS.get(name)
    if letter is not None and column.strip() in (letter, letter.lower()):
        yield 0, 0.0 if column.strip() == letter else 0.5, 1.0
        return
    split = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", column.replace("FLOP", "flop"))
    words = [word.lower() for word in split]
    others = _OTHER_NAMES[name].split()
    factor = 1.0
    if name in _LETTERS:
        words, factor = _without_unit(words, others)
    if {"per", "batch"} & {*words}:  # a cost per token is no cost
        return
    joined = "_".join(words)
    if joined in others:
        yield 0, others.index(joined), factor
    for rank, chosen in enumerate((words[-1:], words[:1], words), 1):
        if found := [others.index(word) for word in chosen if word in others]:
            yield rank, min(found), factor
    likeness = difflib.SequenceMatcher(None, name, column.lower()).ratio()
    if likeness >= 0.6:
        yield 4, 1.0 - likeness, factor


def _without_unit(words: list[str], others: list[str]) -> tuple[list[str], float]:
    """Words of a name without its unit, and the factor: mparams, gflops, params_m, tokens (B)."""
    plain, factor = [], 1.0
    for word in words:
        prefix = next((word.removesuffix(each) for each in others if word.endswith(each)), "")
        if prefix in _FACTOR_OF:
            factor = _FACTOR_OF[prefix]
            plain.append(word.removeprefix(prefix))
        elif word in _FACTOR_OF and len(words) > 1:
            factor = _FACTOR_OF[word]
        elif word != "in":
            plain.append(word)
    return plain, factor
