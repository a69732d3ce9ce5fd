"""The JSON Schema of sweep files, by which editors complete keys and mark mistakes."""

import json
from typing import Any

from sweeper.families import family_names
from sweeper.sweepfile.schema import Sweep

_KEYWORDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
}
"""Bounds that pydantic names its own way where a number may be written as text, too."""


def sweep_json_schema() -> dict[str, Any]:
    """As JSON Schema 2020-12. It knows less than the loader: no rule that joins several keys."""
    schema: dict[str, Any] = _standard(Sweep.model_json_schema(by_alias=True))
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$defs"]["Series"]["properties"]["family"]["enum"] = [*family_names()]
    return schema


def _standard(node: Any) -> Any:
    """With the keywords of the standard, and without defaults that JSON cannot write."""
    if isinstance(node, list):
        return [_standard(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        _KEYWORDS.get(key, key): _standard(value)
        for key, value in node.items()
        if not (key == "default" and "Infinity" in json.dumps(value))
    }
