"""How verbs show what they found: lines and tables for people, JSON for scripts."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from sweeper.verbs.plain_text import plain_lines

if TYPE_CHECKING:
    from rich.console import RenderableType

PIPE_WIDTH = 140
"""Columns of tables that go to a file or a pipe."""


def say(text: str, *, err: bool = False) -> None:
    """Print lines, without anything that would steer the terminal."""
    click.echo(plain_lines(text), err=err)


def show(parts: "Iterable[RenderableType]") -> None:
    """Print tables and lines; a pipe gets them at a fixed width."""
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    for part in parts:
        console.print(part)


def print_json(value: Any) -> None:
    """Print an answer for scripts; a number that is not finite is an error."""
    click.echo(json.dumps(value, indent=1, allow_nan=False))
