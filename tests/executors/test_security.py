"""What users type steers neither paths nor terminals nor pages, and secrets stay secret."""

import dataclasses
import html
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import planted
import pytest
from click.testing import CliRunner, Result
from planted import on_disk, planned_sweep, submitted_store
from rich.console import Console

from analysis.report.page import bundle
from sweeper.cli import cli, main
from sweeper.data.corpus import load_corpus
from sweeper.errors import ConfigError, DataError, StoreError
from sweeper.executors.inline import InlineExecutor
from sweeper.executors.stop import StopSignal
from sweeper.orchestration.driver import SweepRun, run_sweep
from sweeper.store import files, submission
from sweeper.store.assignment import Assignment, Outcome, RunTrial, StopRequested
from sweeper.store.layout import Store, store_at
from sweeper.sweepfile.schema import load_sweep
from sweeper.trials.plan import Plan
from sweeper.verbs.output import plain, plain_lines
from sweeper.verbs.progress import shown

SWEEP = """\
name: NAME
description: "DESCRIPTION"
corpus: {source: "SOURCE", seq_len: 16}
series: {masked: {family: masked}}
design: {grid: {sizes: [1.7K], tokens: [20K]}}
train: {batch_tokens: 128, learning_rate: 0.05}
evaluation: {sequences: 16}
"""
SOURCE = "synthetic:markov?vocab=16&tokens=20000"

ESCAPING_NAMES = [
    "../x", "..", ".", "", "/etc/passwd", "a/b", "a/../../b", ".hidden", "x\0y", "x\ny", "~",
    "~root", "x\\\\..\\\\y", "caf\u00e9", "\u202egnp.exe", "a\u2215b", "\uff0e\uff0e/x", "x ", " x",
    "-rf", "$HOME", "`id`", "x;id", "con", "NUL", "Com1", "lpt9", "x" * 65,
]  # fmt: skip
"""Names that would leave the folder of results, hide in it, or mean something to a system."""

STEERING = [
    "\x1b[31mred", "\x1b]0;title\x07", "a\rb", "a\bb", "\x9b31m", "\u202eright to left",
    "[red]x[/red]", "[link=http://x]y[/link]", "[/]", "\x1b]8;;http://x\x07y",
]  # fmt: skip
"""Texts that would steer a terminal, or `rich`."""

_MAIN = "from sweeper.cli import main; main()"

EVIL_LABELS = ["<script>alert(1)</script>", "[red]a[/red]", "$\\frac{1}{", "a&b"]

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "secret-of-aws",
    "HF_TOKEN": "secret-of-hf",
    "WANDB_API_KEY": "secret-of-wandb",
    "RAY_AUTH_TOKEN": "secret-of-ray-and-long-enough",
}


def _sweep(folder: Path, name: str = "tiny", source: str = SOURCE, description: str = "") -> Path:
    text = SWEEP.replace("DESCRIPTION", description).replace("SOURCE", source)
    file = folder / "sweep.yaml"
    file.write_text(text.replace("NAME", json.dumps(name)), encoding="utf-8")
    return file


def _invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def _files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


# Names and paths


@pytest.mark.parametrize("name", ESCAPING_NAMES, ids=ascii)
def test_a_sweep_cannot_have_a_name_that_is_no_plain_folder(tmp_path: Path, name: str) -> None:
    file = _sweep(tmp_path, name)
    before = _files(tmp_path)
    with pytest.raises(ConfigError, match=r"sweep\.yaml:1:7  name"):
        load_sweep(file)
    with pytest.raises(ConfigError, match="name"):
        load_sweep(_sweep(tmp_path), [f"name={json.dumps(name)}"])
    assert _files(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["../x", "..", ".", "", "/etc", "a/b", ".hidden", "x\0y", "x\ny", "x\x1b[1m"], ids=ascii
)
def test_a_store_is_one_folder_below_its_results(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="does not name one folder"):
        store_at(tmp_path / "results", name)


def test_results_may_lie_behind_a_link_and_stay_there(tmp_path: Path) -> None:
    disk, results = tmp_path / "disk", tmp_path / "results"
    disk.mkdir()
    results.symlink_to(disk)
    store = store_at(results, "planted")
    assert store.folder == disk / "planted"
    plan = planned_sweep(widths=(8,))
    _run(submitted_store(results / "planted", plan), plan)
    assert {path.name for path in disk.iterdir()} == {"planted"}


def test_nothing_behind_a_link_inside_a_store_is_changed_or_removed(tmp_path: Path) -> None:
    plan = planned_sweep(widths=(8,))
    store = submitted_store(tmp_path / "results" / "planted", plan)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    folder = on_disk(store.folder)
    (folder / "checkpoints").mkdir()
    for planned in plan.trials:
        Path(str(store.checkpoints(planned.trial))).symlink_to(outside)
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").symlink_to(outside / "kept")
    _run(submitted_store(tmp_path / "results" / "planted", plan), plan)
    assert (outside / "kept").read_text() == "kept"


@pytest.mark.parametrize("source", ["path:../outside", "path:a/../../outside"])
def test_the_name_of_a_corpus_does_not_lead_out_of_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "text").write_text("some words\n" * 500)
    work = tmp_path / "work"
    (work / "a").mkdir(parents=True)
    monkeypatch.chdir(work)
    outside = _files(tmp_path / "outside")
    load_corpus(source, work / "cache")
    assert _files(tmp_path / "outside") == outside
    assert {path.parent for path in _files(work) if path.is_file()} == {work / "cache"}


def test_a_corpus_with_a_zero_byte_in_its_path_is_refused() -> None:
    with pytest.raises(DataError, match="zero byte"):
        load_corpus("path:/etc/passwd\0.txt")


@pytest.mark.parametrize("name", ["../../etc/x", "a/b", "..", "\x1b[31m"])
def test_a_figure_that_is_none_names_no_file(tmp_path: Path, name: str) -> None:
    _tidy_table(tmp_path / "t.csv", "a")
    before = _files(tmp_path)
    arguments = ["plot", tmp_path / "t.csv", "-o", tmp_path / "out", "--figure", name]
    assert _invoke(*map(str, [*arguments, "--bootstrap", "10"])).exit_code != 0
    assert _files(tmp_path) == before


@pytest.mark.slow
def test_labels_of_series_name_no_files(tmp_path: Path) -> None:
    _tidy_table(tmp_path / "t.csv", "../../a/b")
    done = _invoke(
        "plot", str(tmp_path / "t.csv"), "-o", str(tmp_path / "out"), "--bootstrap", "10"
    )
    assert done.exit_code == 0, done.output
    assert {path.parent for path in _files(tmp_path)} == {tmp_path, tmp_path / "out"}


# Terminals and pages


@pytest.mark.parametrize("text", STEERING, ids=ascii)
def test_plain_text_steers_no_terminal(text: str) -> None:
    assert plain(text).isprintable()
    assert plain_lines(f"first\n{text}\tlast").count("\n") == 1
    assert not {"\x1b", "\r", "\b", "\x07", "\x9b"} & set(plain_lines(text))


def _assert_harmless(output: str, text: str) -> None:
    assert not {"\x1b", "\r", "\b", "\x07", "\x9b", "\u202e"} & set(output), ascii(output)
    if text.startswith("["):
        assert text in output  # shown as it is, not taken for markup


def _tidy_table(file: Path, label: str) -> None:
    rows = [
        {"family": label, "params": n, "tokens": c / 6 / n, "flops": c, "loss": 2 + 3e3 / c**0.2}
        for c in (1e12, 1e13)
        for n in (3e4, 1e5, 3e5, 1e6, 3e6)
    ]
    pd.DataFrame(rows).to_csv(file, index=False)


def _sweep_with(label: str) -> Plan:
    (trial,) = planned_sweep(("masked",), widths=(8,)).trials
    return Plan("planted", (dataclasses.replace(trial, series=label),))


def _run(store: Store, plan: Plan, run_trial: RunTrial = planted.run_planted) -> str:
    """Run a planted sweep here; what it printed."""
    stop, output = StopSignal(), io.StringIO()
    executor = InlineExecutor(run_trial, stop.is_requested)
    with shown(Console(file=output, width=300), store) as on_event:
        run_sweep(SweepRun(store=store, plan=plan, executor=executor, stop=stop, on_event=on_event))
    return output.getvalue()


@pytest.mark.parametrize("text", STEERING, ids=ascii)
def test_labels_and_errors_of_trials_are_shown_as_text(tmp_path: Path, text: str) -> None:
    def fail(assignment: Assignment, *, stop: StopRequested) -> Outcome:
        raise ValueError(text)

    plan = _sweep_with(text)
    store = submitted_store(tmp_path / "results" / "planted", plan)
    _assert_harmless(_run(store, plan, fail), text)
    shown_status = _invoke("status", str(store.folder))
    assert shown_status.exit_code == 0, shown_status.output
    _assert_harmless(shown_status.output, text)


@pytest.mark.parametrize("text", STEERING, ids=ascii)
def test_errors_name_paths_and_values_as_text(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = text.replace("/", "")
    for arguments in (
        ["status", str(tmp_path / folder)],
        ["fit", str(tmp_path / f"{folder}.csv")],
        ["cancel", str(tmp_path / folder)],
        ["verify", str(tmp_path / folder)],
    ):
        monkeypatch.setattr(sys, "argv", ["sweeper", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        printed = capsys.readouterr()
        _assert_harmless(printed.out + printed.err, folder)


def test_descriptions_and_sources_are_planned_as_text(tmp_path: Path) -> None:
    folder = tmp_path / "[red]x[blink]"
    folder.mkdir()
    (folder / "text").write_text("some words of a text\n" * 2000)
    file = _sweep(tmp_path, source=f"path:{folder}", description="\\e[31m[red]")
    planned = _invoke("plan", str(file), "--results", str(tmp_path / "out"))
    assert planned.exit_code == 0, planned.output
    _assert_harmless(planned.output.replace("\n", ""), "[red]x[blink]")


@pytest.mark.slow
@pytest.mark.parametrize("label", EVIL_LABELS)
def test_reports_and_fits_show_labels_as_text(tmp_path: Path, label: str) -> None:
    _tidy_table(tmp_path / "t.csv", label)
    fitted = _invoke("fit", str(tmp_path / "t.csv"), "--bootstrap", "10")
    assert fitted.exit_code == 0, fitted.output
    assert label in fitted.output
    page = tmp_path / "page.html"
    made = _invoke("report", str(tmp_path / "t.csv"), "-o", str(page), "--bootstrap", "10")
    assert made.exit_code == 0, made.output
    text = page.read_text(encoding="utf-8")
    n_own = len(bundle.scripts())
    assert len(re.findall("<script>", text)) == n_own  # data stand in scripts of another type
    assert label == html.escape(label) or label not in text


# Secrets


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def _assert_without_secrets(folder: Path, *more: str) -> None:
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert found
    for secret in (*SECRETS.values(), *more):
        for path in found:
            assert secret.encode() not in path.read_bytes(), path


@pytest.mark.slow
@pytest.mark.usefixtures("secrets")
def test_no_secret_of_the_environment_reaches_the_results(tmp_path: Path) -> None:
    file, results = _sweep(tmp_path), tmp_path / "results"
    done = subprocess.run(
        [sys.executable, "-c", _MAIN, "run", file, "--executor", "inline", "--results", results],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert (results / "tiny" / "manifest.json").exists()
    _assert_without_secrets(results)
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS.values())


@pytest.mark.usefixtures("secrets")
def test_no_secret_of_the_environment_reaches_attempts_that_fail(tmp_path: Path) -> None:
    plan = planned_sweep(("broken",), widths=(8,))
    _run(submitted_store(tmp_path / "planted", plan), plan, planted.run_or_raise)
    _assert_without_secrets(tmp_path)


def test_the_manifest_holds_no_credentials_of_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=hush-name", "-c", "user.email=hush@mail"]
    for command in (
        ["init", "--quiet"],
        ["remote", "add", "origin", "https://me:hush-password@host/repository.git"],
        ["commit", "--quiet", "--allow-empty", "-m", "hush-message"],
    ):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(submission, "__file__", str(tmp_path / "submission.py"))
    text = files.to_json(submission.manifest()).decode()
    assert json.loads(text)["git"]["commit"]
    assert "hush" not in text
    assert str(tmp_path) not in text
