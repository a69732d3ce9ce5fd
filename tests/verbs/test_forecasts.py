"""Forecasts from the command line: registered once, checked against a run, shown on the page."""

import json
from pathlib import Path

import pytest
from command_line import sweeper
from small_sweep import small_sweep

FEW = ("--bootstrap", "20")
REGISTER = ("predict", "small.csv", *FEW, "--family", "masked", "--flops", "2e12", "--register")


@pytest.mark.slow
def test_a_forecast_is_registered_once_and_a_later_run_decides(tmp_path: Path) -> None:
    small_sweep(tmp_path, ("masked",))
    assert sweeper(*REGISTER, "f.json", cwd=tmp_path).returncode == 0
    again = sweeper(*REGISTER, "f.json", cwd=tmp_path)
    assert (again.returncode, "never replaced" in again.stderr) == (2, True)
    check = ("predict", "small.csv", "--check", "f.json")
    assert "not yet observed" in sweeper(*check, cwd=tmp_path).stdout

    promised = json.loads((tmp_path / "f.json").read_text())
    params, tokens = promised["params"]["value"], promised["tokens"]["value"]
    loss = promised["loss"]["ci"][1] + 0.01
    with (tmp_path / "small.csv").open("a") as table:
        table.write(f"masked,{params:.0f},{tokens:.0f},2e12,{loss},2e12,0.006,new\n")
    outcome = json.loads(sweeper(*check, "--json", cwd=tmp_path).stdout)
    assert outcome["verdict"] == "miss"
    done = sweeper(
        "report", "small.csv", *FEW, "-o", "r.html", "--forecast", "f.json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "<td>miss</td>" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--family", "masked"), "Missing option '--flops'"),
        (("--check", "absent.json"), "absent.json: cannot be read"),
        (("--check", "small.csv"), "no forecast; expected a file of"),
        (("--check", "f.json", "--family", "masked"), "leave out the others"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    small_sweep(tmp_path, ("masked",))
    result = sweeper("predict", "small.csv", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
