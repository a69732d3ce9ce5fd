"""Pydantic's errors as problems of a sweep file: a path, what was expected, what was meant."""

import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any

import pydantic
from pydantic_core import ErrorDetails

from sweeper.errors import did_you_mean
from sweeper.sweepfile.problems import KeyPath, Problem, expected_one_of

Model = type[pydantic.BaseModel]


def problems(error: pydantic.ValidationError, schema: Model) -> list[Problem]:
    """Every problem that validating a file against a schema found."""
    details = error.errors(include_url=False, include_input=False)
    unknown = [detail["loc"] for detail in details if detail["type"] in _UNKNOWN_KEY]
    found = []
    for detail in details:
        *folder, missing = detail["loc"] or ("",)
        siblings = [str(loc[-1]) for loc in unknown if [*loc[:-1]] == folder]
        # A key that is missing because it is misspelt is one mistake, not two.
        is_missing = detail["type"] == "missing"
        if not (is_missing and any(did_you_mean(key, [str(missing)]) for key in siblings)):
            found.append(_problem(detail, schema))
    return found


def _problem(detail: ErrorDetails, schema: Model) -> Problem:
    kind, context = detail["type"], detail.get("ctx", {})
    path = tuple(part for part in detail["loc"] if part != "[key]")
    is_key = "[key]" in detail["loc"]
    if kind == "sweep":
        path = (*path, *context["below"])
        is_key = is_key or context["at_key"]
        found = f"the key {path[-1]!r}" if is_key else ""
        return Problem(path, context["expected"], found, at_key=is_key)
    if kind == "extra_forbidden":
        expected = expected_one_of(str(path[-1]), _keys(schema, path[:-1]))
        return Problem(path, expected, found=f"unknown key {path[-1]!r}", at_key=True)
    if kind == "missing":
        return Problem(path[:-1], f"expected the key {path[-1]!r}", found=f"no {path[-1]!r}")
    expected = _expected(kind, context, _keys(schema, path)) or detail["msg"]
    return Problem(path, expected, at_key=is_key)


def _expected(kind: str, context: Mapping[str, Any], keys: list[str]) -> str:
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"expected {context['expected']}"
    if kind in _BOUNDS:
        word, name = _BOUNDS[kind]
        return f"expected {word} {context[name]:,}"
    if kind in ("model_type", "dict_type", "model_attributes_type", "dataclass_type"):
        return f"expected a mapping{' with the keys ' if keys else ''}{', '.join(keys)}"
    return _KINDS.get(kind, "")


_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")  # of a model, of a dataclass
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_KINDS = {
    "string_type": "expected text; put it in quotes if it is meant",
    "string_too_short": "expected some text",
}


def _keys(annotation: Any, path: KeyPath) -> list[str]:
    """Keys that the mapping at a path below an annotation may have, as far as it knows them."""
    # Models and dataclasses alike keep their fields here.
    if fields := getattr(annotation, "__pydantic_fields__", {}):
        named = {field.alias or name: field for name, field in fields.items()}
        if not path:
            return [*named]
        return _keys(named[str(path[0])].annotation, path[1:]) if path[0] in named else []
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Annotated, typing.Union, types.UnionType):
        return _keys(next(kind for kind in arguments if kind is not types.NoneType), path)
    if origin in (dict, tuple) and path:
        return _keys(arguments[1] if origin is dict else arguments[0], path[1:])
    return []
