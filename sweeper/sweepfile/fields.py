"""Types of the values a sweep file may hold; `messages.py` adds to a refusal what was found."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_before_validator_function

from sweeper.sweepfile.problems import expected_one_of
from sweeper.sweepfile.quantities import parse_count, parse_number, parse_seconds
from sweeper.trials import ladder
from sweeper.trials.ladder import Rung
from sweeper.trials.published_ladders import PUBLISHED_RUNGS

AUTO = "auto"  # chosen by the planner (`recipe.py`) or the machine
TUNED = "tuned"  # by a law of the file that `train.laws` names

MAX_SEQ_LEN = 1_000_000
MAX_EXPLICIT_PARAMS = 1e13
MAX_SEED = 2**31 - 1

_SLUG = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
# What Windows, and folders shared with it, take for devices whatever their case.
_DEVICES = {"con", "prn", "aux", "nul"} | {
    f"{port}{i}" for port in ("com", "lpt") for i in range(10)
}

_N = TypeVar("_N", int, float)
_Values = TypeVar("_Values", bound=Sequence[object])


class Part(BaseModel):
    """One mapping of the sweep file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def wrong(expected: str, *below: str | int, at_key: bool = False) -> PydanticCustomError:
    """A refusal of the value being validated, or of a part of it at the path `below`."""
    context = {"expected": expected, "below": below, "at_key": at_key}
    return PydanticCustomError("sweep", "{expected}", context)


def distinct(values: _Values, *below: str) -> _Values:
    """Values none of which occurs twice; a repeated one is refused, at its path under `below`."""
    first: dict[object, int] = {}
    for i, value in enumerate(values):
        if value in first:
            same = "the same model as" if isinstance(value, Rung) else "the same as"
            raise wrong(f"{same} entry {first[value]}; expected distinct entries", *below, i)
        first[value] = i
    return values


def quantity(
    parse: Callable[[object], _N], is_allowed: Callable[[_N], bool], expected: str
) -> Callable[[object], _N]:
    """A parser that refuses numbers which are not allowed."""

    def parse_allowed(value: object) -> _N:
        number = parse(value)
        if not is_allowed(number):
            raise ValueError(f"expected {expected}")
        return number

    return parse_allowed


def or_word(
    parse: Callable[[object], float], word: str = AUTO, meaning: str | None = AUTO
) -> Callable[[object], float | str | None]:
    """A parser that takes a word, too."""

    def parse_or_word(value: object) -> float | str | None:
        if value == word:
            return meaning
        try:
            return parse(value)
        except ValueError as error:
            raise wrong(f"{error}, or {word}") from error

    return parse_or_word


_positive_count = quantity(parse_count, lambda n: n >= 1, "at least 1")
_rate = quantity(parse_number, lambda rate: 0 < rate <= 1e3, "more than 0 and at most 1000")
_norm = quantity(parse_number, lambda norm: norm > 0, "more than 0")
_whole_or_share = quantity(
    parse_number,
    lambda n: 0 <= n <= 1 or (n > 1 and n == int(n)),
    "a whole number or a share of one, at least 0",
)
_positive_share = quantity(_whole_or_share, lambda n: n > 0, "more than 0")
_share_below_one = quantity(
    parse_number,
    lambda share: 0 <= share < 1,
    "a share of at least 0 and less than 1, such as 20%",
)
_length_share = quantity(
    parse_number,
    lambda share: 0 < share < 1,
    "a share of more than 0 and less than 1, such as 20%",
)
_share_or_all = quantity(
    parse_number, lambda share: 0 <= share <= 1, "a share from 0 to 1, such as 20%"
)


def _slug(value: object) -> str:
    text = value if isinstance(value, str) else ""
    if text.lower() in ("y", "n", "yes", "no", "on", "off", "true", "false", "null"):
        raise wrong("expected a name that YAML does not read as a truth value or null")
    if not _SLUG.fullmatch(text):
        ascii_text = unicodedata.normalize("NFKD", str(value)).encode("ascii", "ignore").decode()
        like = re.sub(r"[^A-Za-z0-9_-]+", "-", ascii_text).strip("-_")
        raise wrong(
            "expected a name: a letter, then up to 63 letters, digits, hyphens or underscores"
            f"{f'; did you mean {like!r}?' if _SLUG.fullmatch(like) else ''}"
        )
    return text


def _folder_name(value: object) -> str:
    text = _slug(value)
    if text.lower() in _DEVICES:
        raise wrong("expected a name that Windows does not keep for a device")
    return text


def _parsed_parts(
    value: Mapping[str, object], parsers: Mapping[str, Callable[[object], float]]
) -> list[float]:
    """The parts of a mapping that stands where a number might, in the order of `parsers`."""
    for key in value:
        if key not in parsers:
            raise wrong(expected_one_of(key, parsers), key, at_key=True)
    numbers = []
    for key, parse in parsers.items():
        if key not in value:
            *keys, last = parsers
            expected = f"expected {', '.join(keys)} and {last}"
            raise wrong(f"the key {key!r} is missing — {expected}")
        try:
            numbers.append(parse(value[key]))
        except ValueError as error:
            raise wrong(str(error), key) from error
    return numbers


def _size(value: object) -> Rung:
    if isinstance(value, Mapping):
        return _explicit_size(value)
    if isinstance(value, str) and value.startswith(("sahoo-", "gidd-")):
        if value not in PUBLISHED_RUNGS:
            prefix = value.partition("-")[0]
            known = [name for name in PUBLISHED_RUNGS if name.startswith(prefix)]
            raise wrong(expected_one_of(value, known))
        return PUBLISHED_RUNGS[value]
    try:
        return _rung_of_size(parse_number(value))
    except ValueError as error:
        raise wrong(f"{error}; or {{layers, width, heads}}") from error


def _explicit_size(value: Mapping[str, object]) -> Rung:
    counts = _parsed_parts(value, dict.fromkeys(("layers", "width", "heads"), parse_count))
    try:
        rung = Rung(*map(int, counts))
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
    """A warmup that takes a share of the run's steps, but at least so many."""

    share: float
    at_least: int

    def steps(self, n_steps: int) -> int:
        """Of a run of `n_steps`."""
        return max(self.at_least, round(self.share * n_steps))


def _warmup(value: object) -> object:
    if not isinstance(value, Mapping):
        return or_word(_positive_count)(value)
    parsers = {"share": _length_share, "at_least": _positive_count}
    share, at_least = _parsed_parts(value, parsers)
    return WarmupShare(share, int(at_least))


def _steps_by_size(value: object) -> tuple[tuple[str, Rung, int], ...]:
    if not isinstance(value, Mapping) or not value:
        raise wrong("expected a mapping from sizes to optimiser steps, such as {20K: 1000}")
    entries: dict[Rung, tuple[str, Rung, int]] = {}
    for name, steps in value.items():
        try:
            rung = _size(name)
        except PydanticCustomError as error:
            raise wrong((error.context or {})["expected"], name, at_key=True) from error
        if rung in entries:
            raise wrong(f"the same model as {entries[rung][0]}; expected distinct sizes", name)
        try:
            entries[rung] = (name, rung, _positive_count(steps))
        except ValueError as error:
            raise wrong(str(error), name) from error
    return (*entries.values(),)


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


class _OneOrSeveral:
    """A list, or one entry that stands for a list of one."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return no_info_before_validator_function(
            lambda value: _several(value) if isinstance(value, list | tuple) else (value,),
            handler(source),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        several = handler(schema)
        return {"anyOf": [several["items"], several]}


# What the JSON Schema tells an editor: how a value may be written. The parsers above decide.
WrittenNumber = float | Annotated[str, Field(pattern=r"^[+-]?[\d_.]+([eE][+-]?\d+)?[KkMBGT%]?$")]
WrittenCount = int | Annotated[str, Field(pattern=r"^\+?[\d_.]+([eE]\+?\d+)?[KkMBGT]?$")]
WrittenSeconds = Annotated[str, Field(pattern=r"^([\d.]+[smhd])+$")]
WrittenBytes = Annotated[str, Field(pattern=r"^[\d_.]+ ?([kKMGT]i?)?B$")]
WrittenSize = (
    WrittenNumber
    | Annotated[str, Field(pattern="^(sahoo|gidd)-")]
    | dict[Literal["layers", "width", "heads"], WrittenCount]
)
_WrittenWarmup = WrittenCount | Literal["auto"] | dict[Literal["share", "at_least"], WrittenNumber]


def written(parse: Callable[[object], object], as_what: object) -> BeforeValidator:
    """A parser, and how what it reads is written."""
    return BeforeValidator(parse, json_schema_input_type=as_what)


Slug = Annotated[str, BeforeValidator(_slug)]
FolderName = Annotated[str, BeforeValidator(_folder_name)]
Number = Annotated[float, written(parse_number, WrittenNumber)]
Count = Annotated[int, written(parse_count, WrittenCount)]
Tokens = Annotated[Count, Field(ge=1)]
Budget = Annotated[Number, Field(ge=1)]
Seed = Annotated[Count, Field(ge=0, le=MAX_SEED)]
Seconds = Annotated[float, written(parse_seconds, WrittenSeconds)]
Share = Annotated[Number, Field(ge=0, lt=1)]
ShareOrAll = Annotated[float, written(_share_or_all, WrittenNumber)]
NormOrNone = Annotated[
    float | None, written(or_word(_norm, "none", None), WrittenNumber | Literal["none"])
]

_NumberOrAuto = WrittenNumber | Literal["auto"]
_CountOrAuto = WrittenCount | Literal["auto"]
AutoCount = Annotated[int | Literal["auto"], written(or_word(_positive_count), _CountOrAuto)]
AutoRate = Annotated[float | Literal["auto"], written(or_word(_rate), _NumberOrAuto)]
AutoShare = Annotated[float | Literal["auto"], written(or_word(_whole_or_share), _NumberOrAuto)]
AutoPositiveShare = Annotated[
    float | Literal["auto"], written(or_word(_positive_share), _NumberOrAuto)
]
AutoMinimumShare = Annotated[
    float | Literal["auto"], written(or_word(_share_below_one), _NumberOrAuto)
]
AutoLengthShare = Annotated[float | Literal["auto"], written(or_word(_length_share), _NumberOrAuto)]

TunedCount = Annotated[
    int | Literal["auto", "tuned"],
    written(or_word(or_word(_positive_count), TUNED, TUNED), _CountOrAuto | Literal["tuned"]),
]
TunedRate = Annotated[
    float | Literal["auto", "tuned"],
    written(or_word(or_word(_rate), TUNED, TUNED), _NumberOrAuto | Literal["tuned"]),
]

Pair = BeforeValidator(_pair)
Several = BeforeValidator(_several)
OneOrSeveral = _OneOrSeveral()
Distinct = AfterValidator(distinct)

Size = Annotated[Rung, written(_size, WrittenSize)]
Sizes = Annotated[tuple[Size, ...], Several, Distinct]
Warmup = Annotated[int | Literal["auto"] | WarmupShare, written(_warmup, _WrittenWarmup)]
StepsBySize = Annotated[
    tuple[tuple[str, Rung, int], ...], written(_steps_by_size, dict[str, WrittenCount])
]
