"""The JSON Schema of sweep files accepts what the loader accepts, and marks common mistakes."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sweeper.sweepfile.document import read_document
from sweeper.sweepfile.json_schema import sweep_json_schema

ROOT = Path(__file__).parents[2]
SHIPPED = [*ROOT.glob("sweeps/*.yaml"), *ROOT.glob("sweeper/sweepfile/templates/*.yaml")]


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = sweep_json_schema()
    json.dumps(schema, allow_nan=False)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_shipped_sweep_passes(validator: Any, path: Path) -> None:
    validator.validate(read_document(path).value)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("desing",), {}),
        (("series", "ar", "family"), "masked2"),
        (("design", "isoflop", "sizes"), ["20 K"]),
        (("design", "isoflop", "sizes"), "20K"),
        (("train",), {"optimizer": "sgd"}),
        (("train",), {"ema": 1.5}),
        (("train",), {"learning_rate": "fast"}),
        (("limits",), {"wall": "2 hours"}),
        (("train",), {"seeds": [-1]}),
    ],
)
def test_a_mistake_is_marked_where_it_is(validator: Any, keys: tuple[str, ...], value: Any) -> None:
    sweep = copy.deepcopy(read_document(ROOT / "sweeper/sweepfile/templates/example.yaml").value)
    part = sweep
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    errors = [*validator.iter_errors(sweep)]
    assert errors
    assert all([*error.absolute_path][: len(keys) - 1] == [*keys[:-1]] for error in errors)


def test_every_key_that_people_write_is_described() -> None:
    schema = sweep_json_schema()
    written, parts, seen = [], [schema], {"LawFile"}  # laws are what `sweeper tune` writes
    while parts:
        for key, about in parts.pop().get("properties", {}).items():
            written.append((key, about))
            named = set(re.findall(r"#/\$defs/(\w+)", json.dumps(about))) - seen
            seen |= named  # a pruner may hold another
            parts += [schema["$defs"][name] for name in sorted(named)]
    assert len(written) > 100
    is_described = {
        key: "description" in about or "$ref" in json.dumps(about) for key, about in written
    }
    assert all(is_described.values()), is_described
