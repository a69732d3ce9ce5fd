"""One verb, two exports: which options belong together, and what is said where they do not."""

import importlib
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from planted import on_disk
from planted_export import contents, grown_store

from sweeper.errors import SweeperError
from sweeper.verbs.exporting.export import export


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return on_disk(grown_store(tmp_path_factory.mktemp("store")).folder)


def said(*arguments: str | Path) -> str:
    result = CliRunner().invoke(export, [*map(str, arguments)])
    if isinstance(result.exception, SweeperError):
        return f"error: {result.exception}"
    return result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected --trial or --to; `--trial ID -o DIR` writes the weights of one trial"),
        (["--step", "3"], "expected --trial or --to, found --step alone"),
        (["--online"], "expected --trial or --to, found --online alone"),
        (["--trial", "ab", "--to", "csv"], "--trial and --to belong to two different exports"),
        (["--to", "csv", "--budget", "1e9"], "--budget and --to belong to two different exports"),
        (["--trial", "ab", "--project", "p"], "--trial and --project belong to two different"),
        (["--to", "csv"], "export --to csv: needs a folder to write to: -o DIR"),
        (["--trial", "ab"], "export --trial: needs a folder to write the model to: -o DIR"),
        (["--to", "csv", "-o", "out", "--project", "p"], "belongs to --to trackio or wandb"),
        (
            ["--to", "trackio", "--online"],
            "export --online: belongs to --to wandb, found --to trac",
        ),
        (["--to", "mlflow", "-o", "out"], "'mlflow' is not one of 'csv', 'parquet', 'hf'"),
    ],
)
def test_options_that_do_not_belong_together_are_told(
    options: list[str], message: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in said(source, *options)
    assert [*tmp_path.iterdir()] == []


def test_what_was_done_and_what_to_do_next_is_said(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = said(source, "--to", "csv", "-o", out)
    assert f"wrote {out}: 5 new files, 0 changed, 0 as they were; next: pandas.read_csv(" in first
    assert "0 new files, 0 changed, 5 as they were" in said(source, "--to", "csv", "-o", out)
    assert "trials.csv" in contents(out)


@pytest.mark.parametrize("client", ["tensorboard", "trackio", "wandb"])
def test_a_client_that_is_missing_is_named_with_its_extra(
    client: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == client]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, client, None)  # as Python has what cannot be imported
    for name in ("TRACKIO_DIR", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "")
    with pytest.raises(ImportError):
        importlib.import_module(client)
    message = said(source, "--to", client, "-o", tmp_path / "out")
    assert f"needs the package {client}, which cannot be imported here" in message
    assert f"pip install 'sweeper[{client}]'" in message
    assert not (tmp_path / "out").exists()


def test_a_folder_with_the_name_of_a_client_is_no_client(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()  # as wandb leaves it where it logs
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "")
    message = said(source, "--to", "wandb", "-o", tmp_path / "out")
    monkeypatch.delitem(sys.modules, "wandb")
    assert "needs the package wandb, which cannot be imported here (there is only a fold" in message


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    assert "is not a results folder" in said(tmp_path, "--to", "csv", "-o", tmp_path / "out")
    assert "does not exist" in said(tmp_path / "no", "--to", "csv", "-o", tmp_path / "out")
