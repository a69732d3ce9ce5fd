"""A family's options as a trial keeps them: sorted, complete, plain JSON, and back again.

JSON has no infinity, so infinite options are kept as the texts `inf` and `-inf`; sweep files may
write them so too. Whole numbers given for a real option become real, so that `0` and `0.0` are the
same trial.
"""

import dataclasses
import math
import typing
from typing import TYPE_CHECKING, Any

from sweeper.errors import ConfigError
from sweeper.families import load_family
from sweeper.trials.trial import Trial

if TYPE_CHECKING:  # torch is kept out until a family is loaded
    from sweeper.families.base import AbstractFamily

_INFINITIES = {"inf": math.inf, "+inf": math.inf, "-inf": -math.inf}


def encoded_options(family: "AbstractFamily") -> tuple[tuple[str, Any], ...]:
    """All options of a family, defaults included, as sorted (name, JSON value) pairs.

    Raises ConfigError, beginning with the option's name, for a value of the wrong type.
    """
    types = typing.get_type_hints(type(family))
    names = [field.name for field in dataclasses.fields(family) if field.name != "vocab_size"]
    return tuple(
        (name, _encoded(name, getattr(family, name), types[name])) for name in sorted(names)
    )


def decoded_option(value: Any) -> Any:
    """One option as its family takes it."""
    return _INFINITIES.get(value, value) if isinstance(value, str) else value


def family_of(trial: Trial) -> "AbstractFamily":
    """The family a trial trains, with its options."""
    options = {name: decoded_option(value) for name, value in trial.family_options}
    return load_family(trial.family, vocab_size=trial.data.vocab_size, **options)


def _encoded(name: str, value: Any, expected: Any) -> Any:
    if expected is float and isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value) + 0.0  # no −0.0, which would be another text for the same number
        return number if math.isfinite(number) else str(number)
    plain = isinstance(value, str | int) or value is None
    if not plain or (expected in (bool, int, float, str) and type(value) is not expected):
        kind = getattr(expected, "__name__", str(expected))
        raise ConfigError(f"{name}: expected {kind}, not {value!r}")
    return value
