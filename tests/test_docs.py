"""The documentation tells the truth about files, columns and commands."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sweeper.cli import cli
from sweeper.trials.results_page import results_page

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_results_page_is_generated_from_the_records() -> None:
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert page == results_page(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_make_targets_and_sweeps_that_pages_name_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    rules = re.findall(r"^([a-z -]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    targets = " ".join(rules).split()
    for name in re.findall(r"`make ([a-z-]+)", text):
        assert name in targets, f"{page.name} names `make {name}`"
    for name in re.findall(r"sweeps/([a-z_]+\.yaml)", text):
        assert (ROOT / "sweeps" / name).exists(), f"{page.name} names sweeps/{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_that_pages_name_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if page.name == "log.md":  # history names what was there
        return
    text = re.sub(r"^```python\n# .*$", "", text, flags=re.MULTILINE)  # a file the reader writes
    for path in re.findall(r"\b(?:sweeper|analysis|tests)/[\w/]+\.py\b", text):
        assert (ROOT / path).exists(), f"{page.name} names {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_that_pages_name_are_taken_by_the_command_line(page: Path) -> None:
    for command, is_mention in commands_on(page.read_text(encoding="utf-8")):
        verb, *arguments = words_of(command)
        assert verb in cli.commands, f"{page.name} names `sweeper {verb}`"
        if arguments == ["--help"]:  # which would end the test
            continue
        try:  # as the command line does before it calls the verb
            cli.commands[verb].make_context(verb, arguments)
        except click.ClickException as error:
            # What is missing click looks for last, so all that is there is right.
            if not (is_mention and isinstance(error, click.MissingParameter)):
                pytest.fail(f"{page.name}: sweeper {command}: {error.format_message()}")


def commands_on(text: str) -> Iterator[tuple[str, bool]]:
    """Commands of a page, without `sweeper`, and whether text mentions them, perhaps in part."""
    program = r"(?:\S*/bin/|python -m )?sweeper "
    text = text.replace("\\\n", " ")
    fence = re.compile(r"^```.*?^```", flags=re.MULTILINE | re.DOTALL)
    for block in fence.findall(text):
        for command in re.findall(rf"^\s*(?:\$ )?{program}(.*)$", block, flags=re.MULTILINE):
            yield command, False
    for mention in re.findall(rf"`{program}([^`]+)`", fence.sub("", text)):
        yield mention, True


def words_of(command: str) -> list[str]:
    """The words that reach the command line: no comment, nothing behind a pipe or a redirection."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|>&;")
    lexer.whitespace_split = True
    return list(itertools.takewhile(lambda word: word[0] not in "|>&;", lexer))


@pytest.mark.parametrize(
    ("page", "is_mention", "command"),
    [
        ("```\n$ sweeper fit x --json | head -3\n```\n", False, ["fit", "x", "--json"]),
        ("```sh\n.venv/bin/sweeper plan x   # cost\n```\n", False, ["plan", "x"]),
        ("As `sweeper schema > FILE` does.", True, ["schema"]),
    ],
)
def test_commands_are_found_as_pages_write_them(
    page: str, is_mention: bool, command: list[str]
) -> None:
    assert [(m, words_of(c)) for c, m in commands_on(page)] == [(is_mention, command)]
