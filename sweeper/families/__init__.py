"""The registry of families: each module of this folder is one, and its file name is its name.

Listing names needs no torch; loading a family does.
"""

import dataclasses
import importlib
import pkgutil
import typing
from typing import TYPE_CHECKING, Any, SupportsFloat

from sweeper.errors import ConfigError, did_you_mean

if TYPE_CHECKING:  # torch is kept out of whoever only lists names
    from sweeper.families.base import AbstractFamily


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
    known = [f.name for f in dataclasses.fields(family_type) if f.name != "vocab_size"]
    types = typing.get_type_hints(family_type)
    for option, value in options.items():
        if option not in known:
            raise ConfigError(f"family {name} has no option {option!r}{_suggest(option, known)}")
        is_number = isinstance(value, SupportsFloat) and not isinstance(value, bool)
        if types[option] is float and not is_number:
            raise ConfigError(f"family {name}: {option} {value!r}: expected a number")
    try:
        return family_type(vocab_size=vocab_size, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"family {name}: {error}") from error


def _suggest(found: str, known: list[str]) -> str:
    hint = did_you_mean(found, known)
    return f"{hint} (expected {'one of ' + ', '.join(known) if known else 'no options'})"
