"""Completion as shells ask for it: by variables in the environment, answered by click."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.cli import cli
from sweeper.exports.targets import TARGETS

SHELLS = ("bash", "zsh", "fish")


def asked(shell: str, words: list[str], *, cwd: Path) -> list[tuple[str, str]]:
    """Kind and value of what is offered for the last word."""
    line = " ".join(["sweeper", *words])
    environment = {
        "_SWEEPER_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from sweeper.cli import main; main()"],
        env={**os.environ, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr == ""
    if shell == "zsh":  # kind, value and help, a line each
        lines = done.stdout.splitlines()
        return list(zip(lines[::3], lines[1::3], strict=True))
    pairs = [line.partition(",") for line in done.stdout.splitlines()]
    return [(kind, value.partition("\t")[0]) for kind, _, value in pairs]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_is_offered_all_verbs(shell: str, tmp_path: Path) -> None:
    offered = asked(shell, [""], cwd=tmp_path)
    assert sorted(value for _, value in offered) == sorted(cli.commands)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["st"], ["status"]),
        (["pr"], ["predict", "propose"]),
        (["export", "x", "--t"], ["--trial", "--to"]),
        (["export", "x", "--to", ""], [*TARGETS]),
        (["export", "x", "--to", "t"], ["tensorboard", "trackio"]),
        (["run", "--executor", "in"], ["inline"]),
        (["fit", "x", "--isoflop", "p"], ["pair", "parabola"]),
        (["fit", "x", "--params", "trunk"], ["trunk", "trunk+head"]),
        (["propose", "x", "--interval", "lo"], ["loss"]),
    ],
)
def test_what_is_begun_is_completed(words: list[str], expected: list[str], tmp_path: Path) -> None:
    assert [value for _, value in asked("bash", words, cwd=tmp_path)] == expected


@pytest.mark.parametrize("verb", ["fit", "status", "export", "cancel", "run"])
def test_places_on_the_disk_are_left_to_the_shell(verb: str, tmp_path: Path) -> None:
    assert asked("bash", [verb, "resu"], cwd=tmp_path) == [("file", "resu")]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script_that_asks_sweeper(shell: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from sweeper.cli import main; main()"],
        env={**os.environ, "_SWEEPER_COMPLETE": f"{shell}_source"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    # click looks for bash and its version, and says so on a machine without.
    assert f"_SWEEPER_COMPLETE={shell}_complete" in done.stdout
