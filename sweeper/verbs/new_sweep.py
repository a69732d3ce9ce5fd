"""Verbs for whoever writes a sweep file: `init` and `schema`."""

import contextlib
import importlib.resources
import json
import re
from pathlib import Path

import click

from sweeper.errors import ConfigError
from sweeper.store.files import write_output
from sweeper.verbs.output import say

SCHEMA_FILE = "sweep.schema.json"
TEMPLATES = ("example", "quick", "gpu", "cluster", "tune", "study")
"""Files in `sweeper/sweepfile/templates`."""


@click.command()
@click.argument("sweep_file", type=click.Path(path_type=Path))
@click.option(
    "--template",
    type=click.Choice(TEMPLATES),
    default="example",
    show_default=True,
    help="What to start from: every key, explained (example); masked against uniform on a laptop "
    "(quick); one machine with GPUs; a Ray cluster; tuned rates; noise types as in the study.",
)
def init(sweep_file: Path, template: str) -> None:
    """Write a commented sweep file to start from; the sweep is called what the file is.

    Its first line tells editors with yaml-language-server (VS Code, Neovim and others) where every
    key is described: in sweep.schema.json, which is written beside it.

    Example: sweeper init my-sweep.yaml --template quick
    """
    folder = importlib.resources.files("sweeper.sweepfile").joinpath("templates")
    text = _named(folder.joinpath(f"{template}.yaml").read_text("utf-8"), sweep_file.stem)
    if sweep_file.exists():
        raise ConfigError(f"{sweep_file} exists already; choose another name or remove it")
    write_output(sweep_file, f"# yaml-language-server: $schema={SCHEMA_FILE}\n{text}".encode())
    write_output(sweep_file.parent / SCHEMA_FILE, _schema_text().encode())
    say(f"wrote {sweep_file} and {SCHEMA_FILE}; next: sweeper plan {sweep_file}")


@click.command()
def schema() -> None:
    """Print the JSON Schema of sweep files, with a description of every key.

    Editors complete keys with it: put `# yaml-language-server: $schema=FILE` on the first line.

    Example: sweeper schema > sweep.schema.json
    """
    click.echo(_schema_text(), nl=False)


def _named(template: str, name: str) -> str:
    """A template that is called so, where a sweep can be."""
    from pydantic import TypeAdapter, ValidationError

    from sweeper.sweepfile.fields import FolderName

    with contextlib.suppress(ValidationError):
        name = TypeAdapter(FolderName).validate_python(name)
        return re.sub(r"^name: \S+", f"name: {name}", template, count=1, flags=re.MULTILINE)
    return template


def _schema_text() -> str:
    from sweeper.sweepfile.json_schema import sweep_json_schema  # pydantic takes its time

    return json.dumps(sweep_json_schema(), indent=1, ensure_ascii=False) + "\n"
