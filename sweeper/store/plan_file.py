"""`plan.json`: what a driver, `status` and `verify` work from.

They read it instead of planning again, so none of them imports families, corpora or torch.
"""

import json
from typing import Any

from sweeper.errors import StoreError
from sweeper.store import files
from sweeper.store.layout import Store
from sweeper.trials.plan import Plan, PlannedTrial

PLAN_VERSION = 1
"""Version of the layout of `plan.json`."""


def write_plan(store: Store, plan: Plan) -> None:
    """Replace `plan.json`."""
    head = f'"version": {PLAN_VERSION},\n"name": {json.dumps(plan.name)}'
    # One trial per line: indented, ten thousand of them take two seconds to write.
    lines = ",\n".join(json.dumps(planned.to_json(), allow_nan=False) for planned in plan.trials)
    files.replace(store.plan, f'{{\n{head},\n"trials": [\n{lines}\n]\n}}\n'.encode())


def read_plan(store: Store) -> Plan:
    """The plan in the store; raises StoreError when it is absent, torn or of another version."""
    try:
        fields: dict[str, Any] = files.read_json(store.plan)
        version = fields["version"]
        if version == PLAN_VERSION:
            return Plan(fields["name"], tuple(map(PlannedTrial.from_json, fields["trials"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{store.plan} cannot be read ({type(error).__name__}: {error}); run the sweep again "
            "to rewrite it"
        ) from error
    raise StoreError(
        f"{store.plan} has layout version {version}, this sweeper reads {PLAN_VERSION}; run the "
        "sweep again with this version to rewrite it"
    )
