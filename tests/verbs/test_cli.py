"""The front door, as a user meets it: separate processes, exit codes, messages, files."""

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from command_line import sweeper

from sweeper.trials.records import ROW_TYPES, schema
from sweeper.verbs.new_sweep import TEMPLATES

pytestmark = pytest.mark.slow  # one process after another

VERBS = [
    "init", "plan", "tune", "run", "submit", "cancel", "status", "fit", "compare", "predict",
    "propose", "plot", "report", "serve", "verify", "schema", "export", "sample", "pareto", "bench",
]  # fmt: skip

SWEEP = """\
name: pilot
corpus: {source: "synthetic:markov?vocab=16&tokens=100000", seq_len: 16}
series:
  ar: {family: ar}
  masked: {family: masked}
design:
  isoflop: {budgets: [3e8, 6e8], sizes: [1.7K, 2.6K, 3.7K, 5K]}
train: {batch_tokens: 128, learning_rate: 0.05}
evaluation: {sequences: 64}
"""


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a sweep that has been run in this process's way."""
    folder = tmp_path_factory.mktemp("pilot")
    (folder / "pilot.yaml").write_text(SWEEP)
    done = sweeper("run", "pilot.yaml", "--executor", "inline", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(verb: str, tmp_path: Path) -> None:
    shown = sweeper(verb, "--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert f"Example: sweeper {verb} " in " ".join(shown.stdout.split())


def test_help_names_exactly_the_verbs_that_work(tmp_path: Path) -> None:
    shown = sweeper("--help", cwd=tmp_path).stdout
    commands = shown.split("Commands:")[1].split("\n")
    assert sorted(line.split()[0] for line in commands if line.strip()) == sorted(VERBS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "broken.yaml"], "broken.yaml:3:22  series.a.family"),
        (["plan", "broken.yaml"], "did you mean 'masked'"),
        (["run", "absent.yaml"], "no such sweep file"),
        (["run", "broken.yaml", "--set", "name=../../etc"], "--set:1:6"),
        (["fit", "absent"], "no such file or folder"),
        (["fit", "table.csv"], "column"),
        (["fit", "good.csv", "--isoflop", "parabel"], "did you mean 'parabola'"),
        (["fit", "good.csv", "--flops", "6N"], "no ingredients"),
        (["compare", "good.csv", "--baseline", "a", "--against", "b"], "no series 'b'"),
        (["predict", "good.csv", "--family", "b", "--flops", "1e12"], "no series 'b'"),
        (["predict", "good.csv", "--family", "a", "--flops", "0"], "expected a budget"),
        (["predict", "good.csv", "--family", "a", "--flops", "many"], "--flops"),
        (["propose", "good.csv", "--family", "b"], "no series 'b'"),
        (["plot", "good.csv", "-o", "figures", "--published", "gid-*"], "--published gid-*"),
        (["propose", "good.csv", "--interval", "parms"], "did you mean 'params'"),
        (["status", "."], "not a results folder"),
        (["verify", "."], "not a results folder"),
        (["status", "s3://key:secret@bucket/x"], "credentials and endpoints come from"),
        (["fit", "dropbox://x/y"], "install it"),
        (["report", "good.csv", "-o", "good.csv/report.html"], "report.html"),
        (["serve", "absent"], "does not exist"),
        (["serve", "."], "holds no sweep yet"),
        (["frobnicate"], "No such command"),
    ],
)
def test_mistakes_end_in_code_2_with_a_message_and_no_files(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    (tmp_path / "broken.yaml").write_text(
        "name: x\ncorpus: {source: stdlib, seq_len: 8}\nseries: {a: {family: maskd}}\n"
        "design: {grid: {sizes: [5K], tokens: [1M]}}\n"
    )
    (tmp_path / "table.csv").write_text("family,params,tokens,loss\na,1,2,3\n")
    rows = [f"a,{n},{c / 6 / n},{c},{2 + (n / 1e4 - 1) ** 2}" for c in (1e9,) for n in (5e3, 2e4)]
    (tmp_path / "good.csv").write_text("family,params,tokens,flops,loss\n" + "\n".join(rows))
    before = sorted(tmp_path.rglob("*"))
    result = sweeper(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stdout
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


READING = [
    ["status", "results/pilot"],
    ["fit", "results/pilot", "--bootstrap", "20"],
    ["compare", "results/pilot", "--baseline", "ar", "--against", "masked", "--bootstrap", "20"],
    ["predict", "results/pilot", "--family", "ar", "--flops", "1e10", "--bootstrap", "20"],
    ["propose", "results/pilot", "--bootstrap", "20"],
    ["report", "results/pilot", "-o", "report.html", "--bootstrap", "20"],
]


def test_reading_verbs_load_neither_torch_nor_ray(pilot: Path) -> None:
    check = f"""
import sys
from sweeper.cli import main
for words in {READING}:
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
    assert not {{"torch", "ray", "optuna"}} & set(sys.modules), words
"""
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=pilot, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_ctrl_c_while_python_ends_does_not_change_the_exit_code() -> None:
    # The first thing to be registered is the last to be called.
    interrupt_late = "import atexit, os, signal; atexit.register(os.kill, os.getpid(), 2)"
    command = f"{interrupt_late}; from sweeper.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "status", "absent"], capture_output=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert b"Traceback" not in done.stderr


def test_tables_open_in_pandas_and_duckdb_and_match_the_plan(pilot: Path) -> None:
    plan = json.loads(sweeper("plan", "pilot.yaml", "--json", cwd=pilot).stdout)
    n_cells = sum(len(trial["cells"]) for trial in plan["trials"])
    for name in ROW_TYPES:
        frame = pd.read_parquet(pilot / "results/pilot" / name)
        relation = duckdb.sql(f"select * from '{pilot}/results/pilot/{name}/*.parquet'")
        assert relation is not None
        rows = relation.fetchall()
        assert list(frame.columns) == schema(name).names
        assert len(rows) == len(frame)
        if name in ("trials", "observations"):
            assert len(frame) == {"trials": len(plan["trials"]), "observations": n_cells}[name]
    steps = pd.read_parquet(pilot / "results/pilot/observations")["step"]
    assert sorted(steps) == sorted(c["step"] for t in plan["trials"] for c in t["cells"])


def test_a_second_run_trains_nothing_and_a_new_budget_only_its_cells(pilot: Path) -> None:
    published = pilot / "results/pilot/published"
    before = {path.name: path.stat().st_mtime_ns for path in published.iterdir()}
    again = sweeper("run", "pilot.yaml", "--executor", "inline", cwd=pilot)
    assert again.returncode == 0
    assert {path.name: path.stat().st_mtime_ns for path in published.iterdir()} == before
    assert sweeper("verify", "results/pilot", cwd=pilot).stdout.strip().endswith("sound")
    status = json.loads(sweeper("status", "results/pilot", "--json", cwd=pilot).stdout)
    assert status["counts"]["done"] == len(before)


def test_json_answers_hold_finite_numbers_or_null(pilot: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for arguments in (
        ["fit", "results/pilot"],
        ["compare", "results/pilot", "--baseline", "ar", "--against", "masked"],
        ["predict", "results/pilot", "--family", "ar", "--flops", "1e10"],
        ["propose", "results/pilot"],
    ):
        shown = sweeper(*arguments, "--json", "--bootstrap", "20", cwd=pilot).stdout
        answer = json.loads(shown, parse_constant=refuse)
        assert answer["warnings"] is not None


def test_compare_says_what_survives_and_the_full_table_on_demand(tmp_path: Path) -> None:
    lines = ["family,params,tokens,flops,loss,budget_flops"]
    for family, factor in (("a", 1.0), ("b", 1.05)):
        for budget in (1e15, 1e16, 1e17):
            for size in range(5):
                params = 3e6 * (budget / 1e15) ** 0.5 * 2.5**size
                tokens = budget / 6 / params
                loss = factor * (1.5 + 60 * params**-0.34 + 400 * tokens**-0.37)
                lines.append(f"{family},{params},{tokens},{budget},{loss},{budget}")
    (tmp_path / "planted.csv").write_text("\n".join(lines))
    arguments = ["compare", "planted.csv", "--baseline", "a", "--against", "b", "--bootstrap", "20"]
    brief = sweeper(*arguments, cwd=tmp_path)
    assert brief.returncode == 0, brief.stderr
    assert brief.stdout.count("sensitivity: ") == 4
    assert "functional form" not in brief.stdout
    whole = sweeper(*arguments, "--sensitivity", cwd=tmp_path).stdout
    assert whole.startswith(brief.stdout)
    assert "functional form parabola" in whole
    answer = json.loads(sweeper(*arguments, "--json", cwd=tmp_path).stdout)
    assert len(answer["sensitivity"]["conclusions"]) == 10


def test_plot_and_report_write_what_they_say(pilot: Path) -> None:
    drawn = sweeper("plot", "results/pilot", "-o", "figures", "--bootstrap", "20", cwd=pilot)
    assert drawn.returncode == 0, drawn.stderr
    assert list((pilot / "figures").glob("*.png"))
    for named, page in ((("-o", "r.html"), "r.html"), ((), "results/pilot/report.html")):
        written = sweeper("report", "results/pilot", *named, "--bootstrap", "20", cwd=pilot)
        assert written.returncode == 0, written.stderr
        assert f"wrote {page}" in written.stdout
        assert (pilot / page).read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("template", TEMPLATES)
def test_init_writes_a_sweep_that_can_be_planned(template: str, tmp_path: Path) -> None:
    words = ("init", "mine.yaml", "--template", template)
    assert sweeper(*words, cwd=tmp_path).returncode == 0
    assert sweeper(*words, cwd=tmp_path).returncode == 2
    first_line = (tmp_path / "mine.yaml").read_text().split("\n")[0]
    named = first_line.removeprefix("# yaml-language-server: $schema=")
    assert (tmp_path / named).read_text() == sweeper("schema", cwd=tmp_path).stdout
    planned = sweeper("plan", "mine.yaml", "--json", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert plan["name"] == "mine"
    assert {each["code"] for each in plan["warnings"]} <= {"assumed_corpus", "repeated_data"}


def test_init_keeps_the_name_of_a_template_where_the_file_has_none_for_a_sweep(
    tmp_path: Path,
) -> None:
    assert sweeper("init", "my sweep.yaml", "--template", "quick", cwd=tmp_path).returncode == 0
    assert "\nname: quick\n" in (tmp_path / "my sweep.yaml").read_text()


def test_a_sweep_is_planned_and_not_run_where_its_corpus_is_not(tmp_path: Path) -> None:
    assumed = "assume: {vocab_size: 16, train_tokens: 95K, validation_tokens: 5K}"
    text = SWEEP.replace('"synthetic:markov?vocab=16&tokens=100000"', f"tokens:/no/such, {assumed}")
    (tmp_path / "far.yaml").write_text(text)
    planned = sweeper("plan", "far.yaml", "--json", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    fields = json.loads(planned.stdout)
    assert {trial["trial_id"] for trial in fields["trials"]} == {None}
    assert fields["warnings"][0]["code"] == "assumed_corpus"
    ran = sweeper("run", "far.yaml", "--executor", "inline", cwd=tmp_path)
    assert ran.returncode == 2
    assert "far.yaml:2:18  corpus.source" in ran.stderr
    assert "No such file or directory" in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["far.yaml"]
