"""Text that holds a table is read, whatever wrote it: spreadsheets, numpy, pandas, a log."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from planted_tables import isoflop_rows

from analysis.errors import SourceError
from analysis.tables.load import load

ROWS = isoflop_rows()
CSV = ROWS.to_csv(index=False)
HEADER, _, BODY = CSV.partition("\n")

READABLE: dict[str, bytes] = {
    **{
        f"{orient}.json": ROWS.to_json(orient=orient, double_precision=15).encode()
        for orient in ("records", "columns", "index", "split", "table")
    },
    "rows.jsonl": ROWS.to_json(orient="records", lines=True, double_precision=15).encode(),
    "rows.jsonl.gz": gzip.compress(ROWS.to_json(orient="records", lines=True).encode()),
    "lists.json": json.dumps(ROWS.to_dict("list")).encode(),
    "under_a_name.json": json.dumps({"of": "x", "runs": ROWS.to_dict("records")}).encode(),
    "json_without_suffix": ROWS.to_json(orient="records", double_precision=15).encode(),
    "packed.csv.gz": gzip.compress(CSV.encode()),
    "told.csv": ("sep=;\n" + CSV.replace(",", ";")).encode("utf-8-sig"),
    "told_quoted.csv": ('"sep=|"\r\n' + CSV.replace(",", "|").replace("\n", "\r\n")).encode(),
    "comments.csv": f"# by hand, in May\n#\n{HEADER}\n# masked\n{BODY}".encode(),
    "header_in_comment.csv": f"# numpy.savetxt\n# {CSV}".encode(),
    "mark.csv": CSV.encode("utf-8-sig"),
    "spreadsheet.txt": CSV.replace(",", "\t").encode("utf-16"),
    "old.csv": CSV.replace("\n", "\r").encode(),
}


@pytest.mark.parametrize("name", READABLE)
def test_every_way_to_write_a_table_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(READABLE[name])
    frame = load(tmp_path / name).frame
    for column in ("params", "tokens", "flops", "loss", "budget_flops"):
        np.testing.assert_allclose(frame[column], ROWS[column], rtol=1e-9)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (ROWS.to_json(orient="values").encode(), "JSON, but no table"),
        (b"[]", "JSON, but no table"),
        (b'{"a": 1}\n{"a": 2\n', "row 2: not readable JSON"),
        (b'[{"a": 1},\n {"a": ]\n', "row 2: not readable JSON"),
        (b"# nothing\n", "nothing but comments"),
        (b"sep=;\n", "no header line"),
        (gzip.compress(CSV.encode(), mtime=0)[:60], "not a readable gzip file"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "runs").write_bytes(content)
    with pytest.raises(SourceError, match=said):
        load(tmp_path / "runs")


def test_rows_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    text = f"sep=,\n# a comment\n{HEADER}\n\n{BODY.partition(chr(10))[0]}\na,x,1,1,1,1\n"
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(Exception, match="row 6, column 'params': found 'x'"):
        load(tmp_path / "runs.csv")


@pytest.mark.parametrize("factor", [20.0, 7.0])
def test_perplexities_are_remarked(tmp_path: Path, factor: float) -> None:
    ROWS.assign(loss=factor * ROWS["loss"]).to_csv(tmp_path / "runs.csv", index=False)
    checked = load(tmp_path / "runs.csv")
    said = {warning.code: warning.message for warning in checked.warnings}
    is_high = float(checked.frame["loss"].max()) > 14
    assert ("suspicious_loss" in said) == is_high
    if is_high:
        assert "perplexities" in said["suspicious_loss"]
    np.testing.assert_allclose(checked.frame["loss"], factor * ROWS["loss"])
