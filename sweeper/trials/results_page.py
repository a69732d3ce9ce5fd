"""`python -m sweeper.trials.results_page docs/results.md` writes that page from `records.py`."""

import inspect
import sys
from pathlib import Path

from sweeper.trials.records import ROW_TYPES, TableName, schema

INTRODUCTION = """\
# Results on disk

<!-- Generated from sweeper/trials/records.py by `make docs`. Edit there. -->

`results/<sweep>/` holds

| path | what |
|---|---|
| `sweep.yaml`, `revisions/` | the sweep file as last submitted, and every revision of it |
| `manifest.json` | versions, git commit, hardware |
| `plan.json` | the planned trials; derived from the sweep file |
| `published/<trial_id>.json` | everything a trial yields, written once: the source of truth |
| `records.json` | heads of these records, so that nobody opens them all; derived |
| `attempts/`, `attempts.jsonl` | attempts and progress; those of published trials in one file |
| `checkpoints/` | state of unfinished trials, and of those that longer ones may go on from |
| `models/` | trained weights that stay ([models](models.md)) |
| `sampling/` | measurements of samples, a record each ([samples](samples.md)) |
| `trials/`, `losses/`, `observations/`, `samples/` | four Parquet datasets, derived |

Open a dataset with one call:

```python
pandas.read_parquet("results/quick/observations")
duckdb.sql(
    "select series, budget_flops, min(bound_nats_per_token) "
    "from 'results/quick/observations/*.parquet' group by all order by all"
)
```

Nats are natural logarithms; FLOPs count forward and backward passes, additions and
multiplications, attention and head included, unless a column says otherwise
([conventions](flops.md)).
"""


def results_page() -> str:
    """The whole page as Markdown."""
    return "\n".join([INTRODUCTION, *map(columns_of, ROW_TYPES)])


def columns_of(name: TableName) -> str:
    """What the rows and columns of one table are, as a section in Markdown."""
    lines = [f"## `{name}`", "", inspect.getdoc(ROW_TYPES[name]) or "", ""]
    lines += ["| column | type | meaning |", "|---|---|---|"]
    for field in schema(name):
        null = ", null allowed" if field.nullable else ""
        doc = field.metadata[b"doc"].decode()
        lines.append(f"| `{field.name}` | {field.type}{null} | {doc} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(results_page(), encoding="utf-8")
