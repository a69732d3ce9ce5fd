"""Tables for a paper: what they say, and that no label is a command."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from small_sweep import SIZES, small_sweep

from analysis.answers.compare import compare
from analysis.fitting.fit import FitResult, FitSettings, fit_table
from analysis.report.latex import comparison_tables, fit_tables
from analysis.report.latex_text import escaped
from analysis.report.published_table import with_published

HOSTILE = r"a_b & 50% \input{x} {"
BEGINS_A_ROW = "[1cm] γ 拡散"
DOCUMENT = r"""\documentclass[twocolumn]{article}
\usepackage{booktabs}
\setlength{\textwidth}{6.75in}
\setlength{\columnsep}{0.25in}
\begin{document}
%s
\end{document}
"""


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    folder = tmp_path_factory.mktemp("sweep")
    table = small_sweep(folder, (BEGINS_A_ROW, HOSTILE), sizes=SIZES[:6])
    return fit_table(table, FitSettings(n_bootstrap=20))


@pytest.fixture(scope="module")
def text(fit: FitResult) -> str:
    compared = compare(with_published(fit, "chinchilla,sahoo-ar"), HOSTILE, BEGINS_A_ROW)
    parts = [
        fit_tables(fit, "my_table%.csv, data 0f"),
        comparison_tables(compared, with_published(fit, "chinchilla,sahoo-ar"), "my_table%.csv"),
    ]
    return "\n".join(parts)


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("masked-ce", "masked-ce"),
        ("a_b & 50% {", r"a\_b \& 50\% \{"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("a--b ''", "a-{}-b '{}'"),
        ("[1cm]*", "{}[1cm]*"),
        ("* x", "{}* x"),
        ("^~#$<>|", r"\textasciicircum{}\textasciitilde{}\#\$\textless{}\textgreater{}\textbar{}"),
        ("naïve Ünï", r"na\"{i}ve \"{U}n\"{i}"),
        ("γ λ \u03bf", r"$\gamma$ $\lambda$ U+03BF"),
        ("a\nb\t\x07", "a b U+0007"),
        ("拡", "U+62E1"),
    ],
)
def test_what_users_type_is_printed_and_does_nothing(typed: str, written: str) -> None:
    assert escaped(typed) == written


def test_tables_are_plain_ascii_and_their_braces_close(text: str) -> None:
    assert text.isascii()
    bare = re.sub(r"\\[{}%&$_#]", "", text)
    assert bare.count("{") == bare.count("}") > 0
    for name in ("table", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}") == 6
    assert r"\input{" not in text


def test_every_row_has_the_cells_of_its_table(text: str) -> None:
    tabulars = re.findall(r"\\begin\{tabular\}\{([^\n]*)\}\n(.*?)\\end", text, flags=re.DOTALL)
    assert len(tabulars) == 6
    for shape, body in tabulars:
        n_columns = len(re.findall(r"[lrp]", re.sub(r"\{.*?\}", "", shape)))
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(rows) >= 2
        for row in rows:
            spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d)\}", row)]
            assert len(re.findall(r"(?<!\\)&", row)) + 1 + sum(spans) == n_columns, row


def test_no_row_is_wider_than_a_column_of_an_article(text: str) -> None:
    # Of what is printed: 3.25 inches hold some 58 characters in the size of an index.
    for body in re.findall(r"\\begin\{tabular\}.*?\n(.*?)\\end", text, flags=re.DOTALL):
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        plain = [
            [re.sub(r"\\[a-z]+|[${}^\\]", "", cell).strip() for cell in row.split("&")]
            for row in rows
            if not row.startswith(r"\multicolumn")
        ]
        assert len(plain) >= 2
        widest = [max(map(len, column)) for column in zip(*plain, strict=True)]
        assert sum(widest) + len(widest) <= 58, body


def test_tables_hold_optima_laws_intervals_and_sources(fit: FitResult, text: str) -> None:
    family = fit.families[HOSTILE]
    assert family.isoflop is not None
    law = family.isoflop.params_law
    assert law is not None
    assert rf"C^{{{law.exponent:.3f}}}" in text
    low, high = law.exponent_ci
    assert f"\n{law.exponent:.3f} & [{low:.3f}, {high:.3f}] &" in text
    assert r"$1.8\times10^{11}$" in text
    assert r"95\,\% intervals of 20 resamples" in text
    assert r"Source: my\_table\%.csv, data 0f." in text
    for published in with_published(fit, "chinchilla,sahoo-ar").published:
        assert escaped(published.source) in text


def test_what_a_fit_lacks_is_a_remark(tmp_path: Path) -> None:
    table = small_sweep(tmp_path, ("a", "b", "c\n%", "uniform"), sizes=SIZES[:4])
    fit = fit_table(table, FitSettings(n_bootstrap=10))
    text = fit_tables(fit, "x")
    remarks = [line for line in text.splitlines() if line.startswith("% ")]
    assert any("uniform: no power laws: " in line for line in remarks)


def test_a_latex_document_with_hostile_labels_compiles(text: str, tmp_path: Path) -> None:
    program = shutil.which("pdflatex") or shutil.which("tectonic")
    if program is None:
        pytest.skip("neither pdflatex nor tectonic is installed")
    (tmp_path / "x.tex").write_text("this file must not be read \\undefined")
    (tmp_path / "paper.tex").write_text(DOCUMENT % text)
    options = [] if program.endswith("tectonic") else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run(
        [program, *options, "paper.tex"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout + done.stderr  # columns are 3.25 inches wide
    assert "(./x.tex" not in done.stdout
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
