"""The tutorial works as written: its files are written, its commands run, its output is theirs."""

import importlib
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

import sweeper.families
from sweeper.cli import cli

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/tutorial.md"
FENCED = re.compile(r"(<!-- not run: [^\n]* -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow  # it trains


@dataclass(frozen=True)
class Block:
    """A fenced block that is to be followed."""

    language: str
    text: str


def blocks() -> list[Block]:
    """Those of the page in order, without what it says is not run."""
    found = FENCED.findall(PAGE.read_text("utf-8"))
    return [Block(language, text) for skipped, language, text in found if not skipped]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the root of a clone, whose families are families."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    own_families = tmp_path / "sweeper/families"
    own_families.mkdir(parents=True)
    search_path = [*sweeper.families.__path__, str(own_families)]
    monkeypatch.setattr(sweeper.families, "__path__", search_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_step_does_what_it_says(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = ""
    for block in blocks():
        if block.language == "sh":
            output = "".join(run(line) for line in block.text.splitlines())
        elif block.language == "text":
            assert_shows(output, block.text)
        else:
            name = block.text.partition("\n")[0].removeprefix("# ")
            (workplace / name).write_text(block.text, "utf-8")
            if block.language == "python":  # and forgotten at the end
                module = ".".join(Path(name).with_suffix("").parts)
                importlib.invalidate_caches()
                monkeypatch.setitem(sys.modules, module, importlib.import_module(module))
    assert (workplace / "report.html").stat().st_size > 0


def run(line: str) -> str:
    """What a command prints, on either stream."""
    program, *arguments = line.split()
    if program != "sweeper":
        return subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
    return result.output


def assert_shows(output: str, shown: str) -> None:
    """Every shown line is one of the output, in order; … stands for any text within a line."""
    lines = iter(output.splitlines())
    for expected in shown.splitlines():
        pattern = ".*".join(re.escape(part) for part in expected.split("…"))
        assert any(re.fullmatch(pattern, line) for line in lines), f"{expected!r} in\n{output}"
