"""The published tables as a data set that the library `datasets` loads from its folder."""

import functools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

from sweeper.exports.destination import Change
from sweeper.exports.folder import claimed
from sweeper.exports.plain_tables import README, described_columns, write_parquet, write_text
from sweeper.exports.source import Tables
from sweeper.store import files
from sweeper.trials.records import ROW_TYPES

DEFAULT = "observations"
"""The configuration that is loaded where none is named: what every fit reads."""


@dataclass(frozen=True)
class HuggingFaceDataset:
    """A folder with a data-set card and one configuration for each table."""

    folder: Path
    what = "files"

    @property
    def next_step(self) -> str:
        """How `datasets` reads it."""
        return f"datasets.load_dataset('{self.folder}', 'trials', split='train')"

    def write(self, tables: Tables) -> Counter[Change]:
        """Write the files that have changed, the card last."""
        with claimed(self.folder, "hf", tables.sweep):
            changes = [
                files.replace_if_changed(
                    self.folder / _data_file(name), functools.partial(write_parquet, tables, name)
                )
                for name in ROW_TYPES
            ]
            changes.append(write_text(self.folder / README, _card(tables)))
        return Counter(changes)


def _data_file(name: str) -> str:
    return f"data/{name}.parquet"


def _card(tables: Tables) -> str:
    # `datasets` raises an error for a configuration without rows.
    shown = [name for name in ROW_TYPES if tables.n_rows(name)]
    head = {
        "pretty_name": f"Results of the sweep {tables.sweep}",
        "tags": ["scaling-laws", "diffusion-language-models"],
        "configs": [
            {"config_name": name, "data_files": [{"split": "train", "path": _data_file(name)}]}
            | ({"default": True} if name == DEFAULT else {})
            for name in shown
        ],
    }
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n"
        f"# Results of the sweep {tables.sweep}\n\n"
        "Training runs of discrete diffusion language models, written by `sweeper export --to hf`: "
        f"one configuration for each table that has rows, `{DEFAULT}` by default. Rows belong "
        "together by `trial_id`. There is one split, `train`, as data sets need one.\n\n"
        + described_columns()
    )
