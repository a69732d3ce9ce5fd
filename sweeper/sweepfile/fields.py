"""Types of the values a sweep file may hold: what is accepted, and what is said otherwise.

Every refusal states what was expected; what was found and where is added by `spec_errors.py`.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from sweeper.sweepfile.document import did_you_mean
from sweeper.sweepfile.quantities import parse_count, parse_number, parse_seconds
from sweeper.trials import ladder
from sweeper.trials.ladder import Rung
from sweeper.trials.published_ladders import PUBLISHED_RUNGS

AUTO = "auto"
"""Chosen by the planner (`recipe.py`) or the machine."""

NONE = "none"
"""Switched off."""

MAX_SEQ_LEN = 1_000_000
MAX_EXPLICIT_PARAMS = 1e13
MAX_LEARNING_RATE = 1e3
MAX_SEED = 2**31 - 1

_LADDER_PREFIXES = ("sahoo-", "gidd-")

_SLUG = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_YAML_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")


_DEVICES = {"con", "prn", "aux", "nul"} | {
    f"{port}{i}" for port in ("com", "lpt") for i in range(10)
}
"""What Windows, and folders shared with it, take for devices whatever their case."""


def wrong(expected: str, *below: str | int, at_key: bool = False) -> PydanticCustomError:
    """A refusal of the value being validated, or of a part of it at the path `below`."""
    context = {"expected": expected, "below": below, "at_key": at_key}
    return PydanticCustomError("sweep", "{expected}", context)


def _slug(value: object) -> str:
    text = value if isinstance(value, str) else ""
    if text.lower() in _YAML_WORDS:
        raise wrong("expected a name that YAML does not read as a truth value or null")
    if not _SLUG.fullmatch(text):
        raise wrong(
            "expected a name: a letter, then up to 63 letters, digits, hyphens or underscores"
            f"{_slug_like(str(value))}"
        )
    return text


def _folder_name(value: object) -> str:
    text = _slug(value)
    if text.lower() in _DEVICES:
        raise wrong("expected a name that Windows does not keep for a device")
    return text


def _slug_like(text: str) -> str:
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = re.sub(r"[^A-Za-z0-9_-]+", "-", ascii_text).strip("-_")
    return f"; did you mean {words!r}?" if _SLUG.fullmatch(words) else ""


class Part(BaseModel):
    """One mapping of the sweep file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def or_auto(parse: Callable[[object], float]) -> Callable[[object], float | str]:
    """A validator that takes the word `auto`, too."""

    def parse_or_auto(value: object) -> float | str:
        if value == AUTO:
            return AUTO
        try:
            return parse(value)
        except ValueError as error:
            raise wrong(f"{error}, or auto") from error

    return parse_or_auto


def _positive_count(value: object) -> int:
    count = parse_count(value)
    if count < 1:
        raise ValueError("expected at least 1")
    return count


def _positive_rate(value: object) -> float:
    rate = parse_number(value)
    if not 0 < rate <= MAX_LEARNING_RATE:
        raise ValueError(f"expected more than 0 and at most {MAX_LEARNING_RATE:g}")
    return rate


def _whole_or_share(value: object) -> float:
    number = parse_number(value)
    if number < 0 or (number > 1 and number != int(number)):
        raise ValueError("expected a whole number or a share of one, at least 0")
    return number


def _positive_share(value: object) -> float:
    number = _whole_or_share(value)
    if number == 0:
        raise ValueError("expected more than 0")
    return number


def _share(value: object) -> float:
    number = parse_number(value)
    if not 0 <= number < 1:
        raise ValueError("expected a share of at least 0 and less than 1, such as 20%")
    return number


def _share_above_zero(value: object) -> float:
    number = parse_number(value)
    if not 0 < number < 1:
        raise ValueError("expected a share of more than 0 and less than 1, such as 20%")
    return number


def _norm_or_none(value: object) -> float | None:
    if value == NONE:
        return None
    try:
        norm = parse_number(value)
    except ValueError as error:
        raise wrong(f"{error}, or none") from error
    if norm <= 0:
        raise wrong("expected more than 0, or none")
    return norm


def _size(value: object) -> Rung:
    if isinstance(value, Rung):
        return value
    if isinstance(value, Mapping):
        return _explicit_size(value)
    if isinstance(value, str) and value.startswith(_LADDER_PREFIXES):
        return _published_size(value)
    try:
        return _rung_of_size(parse_number(value))
    except ValueError as error:
        raise wrong(f"{error}; or {{layers, width, heads}}") from error


def _published_size(name: str) -> Rung:
    if name not in PUBLISHED_RUNGS:
        prefix = name.partition("-")[0]
        raise wrong(did_you_mean(name, [n for n in PUBLISHED_RUNGS if n.startswith(prefix)]))
    return PUBLISHED_RUNGS[name]


def _explicit_size(value: Mapping[str, object]) -> Rung:
    keys = ("layers", "width", "heads")
    unknown = [key for key in value if key not in keys]
    if unknown:
        raise wrong(did_you_mean(unknown[0], keys), unknown[0], at_key=True)
    counts = {}
    for key in keys:
        if key not in value:
            raise wrong(f"the key {key!r} is missing — expected layers, width and heads")
        try:
            counts[key] = parse_count(value[key])
        except ValueError as error:
            raise wrong(str(error), key) from error
    try:
        rung = Rung(counts["layers"], counts["width"], counts["heads"])
    except ValueError as error:
        raise wrong(str(error)) from error
    if ladder.trunk_params(rung) > MAX_EXPLICIT_PARAMS:
        raise wrong(f"expected at most {MAX_EXPLICIT_PARAMS:g} trunk parameters")
    return rung


@cache  # a list of trials names the same few sizes thousands of times
def _rung_of_size(size: float) -> Rung:
    """The rung nearest to a size; raises ValueError, naming the rungs on both sides."""
    if size <= 0:
        raise ValueError("expected a number of trunk parameters above 0")
    try:
        return ladder.nearest_rung(size)
    except ValueError as error:
        reachable = sorted(ladder.trunk_params(rung) for rung in ladder.ladder())
        below = [n for n in reachable if n < size][-1:]
        above = [n for n in reachable if n > size][:1]
        names = " or ".join(f"{n:,}" for n in (*below, *above))
        raise ValueError(
            f"no model of the ladder is within {ladder.LARGEST_SIZE_MISMATCH:.0%} of "
            f"{size:,.0f} trunk parameters; expected a neighbour, {names}"
        ) from error


@dataclass(frozen=True)
class WarmupShare:
    """A warmup that follows the length of the run."""

    share: float
    """Of the run's steps."""
    at_least: int
    """Steps."""

    def steps(self, n_steps: int) -> int:
        """Of a run of `n_steps`."""
        return max(self.at_least, round(self.share * n_steps))


def _warmup(value: object) -> object:
    if isinstance(value, WarmupShare):
        return value
    if not isinstance(value, Mapping):
        return or_auto(_positive_count)(value)
    parsers: dict[str, Callable[[object], float]] = {
        "share": _share_above_zero,
        "at_least": _positive_count,
    }
    unknown = [key for key in value if key not in parsers]
    if unknown:
        raise wrong(did_you_mean(unknown[0], [*parsers]), unknown[0], at_key=True)
    found = {}
    for key, parse in parsers.items():
        if key not in value:
            raise wrong(f"the key {key!r} is missing — expected share and at_least")
        try:
            found[key] = parse(value[key])
        except ValueError as error:
            raise wrong(str(error), key) from error
    return WarmupShare(found["share"], int(found["at_least"]))


def _share_or_all(value: object) -> float:
    number = parse_number(value)
    if not 0 <= number <= 1:
        raise wrong("expected a share from 0 to 1, such as 20%")
    return number


def _pair(value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise wrong("expected a list of two numbers")
    return value


def _several(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise wrong("expected a list, such as [first, second]")
    if not value:
        raise wrong("expected at least one entry")
    return value


def _one_or_several(value: object) -> object:
    return _several(value) if isinstance(value, list | tuple) else (value,)


def _steps_by_size(value: object) -> tuple[tuple[str, Rung, int], ...]:
    if not isinstance(value, Mapping) or not value:
        raise wrong("expected a mapping from sizes to optimiser steps, such as {20K: 1000}")
    entries = []
    for key, steps in value.items():
        try:
            rung = _size(key)
        except PydanticCustomError as error:
            expected = (error.context or {})["expected"]
            raise wrong(expected, key, at_key=True) from error
        try:
            entries.append((key, rung, _positive_count(steps)))
        except ValueError as error:
            raise wrong(str(error), key) from error
    first: dict[Rung, str] = {}
    for key, rung, _ in entries:
        if first.setdefault(rung, key) != key:
            raise wrong(f"the same model as {first[rung]}; expected distinct sizes", key)
    return tuple(entries)


def refuse_duplicates(values: Sequence[object], key: str) -> None:
    """Refuse a value that occurs twice under a key of the mapping being validated."""
    first: dict[object, int] = {}
    for i, value in enumerate(values):
        if value in first:
            same = "the same model as" if isinstance(value, Rung) else "the same as"
            raise wrong(f"{same} entry {first[value]}; expected distinct entries", key, i)
        first[value] = i


Slug = Annotated[str, BeforeValidator(_slug)]
FolderName = Annotated[str, BeforeValidator(_folder_name)]
Number = Annotated[float, BeforeValidator(parse_number)]
Count = Annotated[int, BeforeValidator(parse_count)]
Tokens = Annotated[Count, Field(ge=1)]
Budget = Annotated[Number, Field(ge=1)]
Seed = Annotated[Count, Field(ge=0, le=MAX_SEED)]
Size = Annotated[Rung, BeforeValidator(_size)]
Seconds = Annotated[float, BeforeValidator(parse_seconds)]
Share = Annotated[Number, Field(ge=0, lt=1)]
Pair = BeforeValidator(_pair)
ShareOrAll = Annotated[float, BeforeValidator(_share_or_all)]
Warmup = Annotated[int | Literal["auto"] | WarmupShare, BeforeValidator(_warmup)]
Several = BeforeValidator(_several)
OneOrSeveral = BeforeValidator(_one_or_several)
StepsBySize = Annotated[tuple[tuple[str, Rung, int], ...], BeforeValidator(_steps_by_size)]
AutoCount = Annotated[int | Literal["auto"], BeforeValidator(or_auto(_positive_count))]
AutoRate = Annotated[float | Literal["auto"], BeforeValidator(or_auto(_positive_rate))]
AutoShare = Annotated[float | Literal["auto"], BeforeValidator(or_auto(_whole_or_share))]
AutoPositiveShare = Annotated[float | Literal["auto"], BeforeValidator(or_auto(_positive_share))]
AutoMinimumShare = Annotated[float | Literal["auto"], BeforeValidator(or_auto(_share))]
AutoLengthShare = Annotated[float | Literal["auto"], BeforeValidator(or_auto(_share_above_zero))]
NormOrNone = Annotated[float | None, BeforeValidator(_norm_or_none)]
