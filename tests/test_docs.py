"""The documentation tells the truth about files, columns and commands."""

import re
from pathlib import Path

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
def test_verbs_and_modules_that_pages_name_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for verb in re.findall(r"(?:`|/bin/|^)sweeper ([a-z]+)", text, flags=re.MULTILINE):
        assert verb in cli.commands, f"{page.name} names `sweeper {verb}`"
    if page.name == "log.md":  # history names what was there
        return
    for path in re.findall(r"\b(?:sweeper|analysis|tests)/[\w/]+\.py\b", text):
        assert (ROOT / path).exists(), f"{page.name} names {path}"
