"""The registry of families: each module of this folder is one, and its file name is its name.

Listing names needs no torch; loading a family does.
"""

import dataclasses
import importlib
import math
import pkgutil
import typing
from typing import TYPE_CHECKING, Any, SupportsFloat

from sweeper.errors import ConfigError, did_you_mean
from sweeper.trials.trial import Trial

if TYPE_CHECKING:  # would load torch
    from sweeper.families.base import AbstractFamily

_INFINITIES = {"inf": math.inf, "+inf": math.inf, "-inf": -math.inf}
"""JSON has no infinity: trials keep infinite options as these texts, and sweep files may too."""


def family_names() -> list[str]:
    """Names of all families, sorted."""
    modules = pkgutil.iter_modules(__path__)
    return sorted(m.name for m in modules if m.name != "base" and not m.name.startswith("_"))


def load_family(name: str, *, vocab_size: int, **options: Any) -> "AbstractFamily":
    """The family `name` over token ids 0 … vocab_size − 1, with its options.

    Raises ConfigError for an unknown family, an unknown option or a value the family refuses.
    """
    if name not in family_names():
        raise ConfigError(f"unknown family {name!r}{_suggest(name, family_names())}")
    family_type: type[AbstractFamily] = importlib.import_module(f"{__name__}.{name}").Family
    types = _option_types(family_type)
    for option, value in options.items():
        if option not in types:
            raise ConfigError(f"family {name} has no option {option!r}{_suggest(option, [*types])}")
        is_number = isinstance(value, SupportsFloat) and not isinstance(value, bool)
        if types[option] is float and not is_number:
            raise ConfigError(f"family {name}: {option} {value!r}: expected a number")
    try:
        return family_type(vocab_size=vocab_size, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"family {name}: {error}") from error


def family_of(trial: Trial) -> "AbstractFamily":
    """The family a trial trains, with its options."""
    options = {name: decoded_option(value) for name, value in trial.family_options}
    return load_family(trial.family, vocab_size=trial.data.vocab_size, **options)


def encoded_options(family: "AbstractFamily") -> tuple[tuple[str, Any], ...]:
    """The options that identify a trial, defaults included, as sorted (name, JSON value) pairs.

    Whole numbers given for a real option become real, so that `0` and `0.0` are the same trial.
    Raises ConfigError, beginning with the option's name, for a value of the wrong type.
    """
    types = _option_types(type(family))
    later = {f.name: f.default for f in dataclasses.fields(family) if "is_later" in f.metadata}
    values = {name: getattr(family, name) for name in sorted(types)}
    return tuple(
        (name, _encoded(name, value, types[name]))
        for name, value in values.items()
        if name not in later or value != later[name]
    )


def decoded_option(value: Any) -> Any:
    """One option as its family takes it."""
    return _INFINITIES.get(value, value) if isinstance(value, str) else value


def _option_types(family_type: "type[AbstractFamily]") -> dict[str, Any]:
    types = typing.get_type_hints(family_type)
    names = [field.name for field in dataclasses.fields(family_type)]
    return {name: types[name] for name in names if name != "vocab_size"}


def _encoded(name: str, value: Any, expected: Any) -> Any:
    if expected is float and isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value) + 0.0  # no −0.0, which would be another text for the same number
        return number if math.isfinite(number) else str(number)
    plain = isinstance(value, str | int) or value is None
    if not plain or (expected in (bool, int, float, str) and type(value) is not expected):
        kind = getattr(expected, "__name__", str(expected))
        raise ConfigError(f"{name}: expected {kind}, not {value!r}")
    return value


def _suggest(found: str, known: list[str]) -> str:
    hint = did_you_mean(found, known)
    return f"{hint} (expected {'one of ' + ', '.join(known) if known else 'no options'})"
