import io

import pytest
from rich.console import Console

from sweeper.verbs.output import TextTable


def _printed(table: TextTable) -> list[str]:
    console = Console(file=io.StringIO(), soft_wrap=True, width=20)
    console.print(table)
    return console.file.getvalue().split("\n")  # type: ignore[attr-defined, no-any-return]


def test_texts_are_aligned_to_the_left_and_numbers_to_the_right() -> None:
    table = TextTable("series", "params", "state", numbers=("params",))
    table.add("a", "5", "done")
    table.add("long-label", "1,234,567", "", style="red")
    assert _printed(table) == [
        "series         params  state",
        "a                   5  done",
        "long-label  1,234,567",
        "",
    ]


def test_a_wide_character_takes_two_columns() -> None:
    table = TextTable("x", "y")
    table.add("漢", "1")
    assert _printed(table)[:2] == ["x   y", "漢  1"]


def test_markup_in_a_cell_is_text() -> None:
    table = TextTable("error")
    table.add("[red]no[/red]")
    assert _printed(table)[1] == "[red]no[/red]"


def test_a_row_of_other_length_is_refused() -> None:
    table = TextTable("a", "b")
    table.add("1")
    with pytest.raises(ValueError, match="shorter"):
        _printed(table)
