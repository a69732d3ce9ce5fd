"""Results that show themselves, and the example notebook."""

import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient
from planted_observations import observations, stored
from small_sweep import SIZES, small_sweep

from analysis.errors import NothingToDraw, SettingsError
from analysis.fitting.fit import FitSettings
from analysis.notebook import Fit, read_fit

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"
HOSTILE = "<script>x</script> |*_`$y$\\"
SETTINGS = FitSettings(n_bootstrap=20)


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    folder = tmp_path_factory.mktemp("sweep")
    small_sweep(folder, (HOSTILE, "masked"), sizes=SIZES[:6])
    return read_fit(folder / "small.csv", SETTINGS)


class Texts(HTMLParser):
    """Tags and texts of a fragment."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_fit_shows_its_answers_first_and_whatever_was_typed_as_text(fit: Fit) -> None:
    shown = Texts(fit._repr_html_())
    assert HOSTILE in shown.texts
    allowed = ("div", "p", "b", "table", "caption", "tr", "th", "td", "details", "summary")
    assert set(shown.tags) <= {*allowed, "ul", "li"}
    joined = "".join(shown.texts)
    assert joined.index("N* = ") < joined.index("Compute-optimal points") < joined.index("Laws")
    law = fit.result.families["masked"].isoflop
    assert law is not None
    assert law.params_law is not None
    assert f"C^{law.params_law.exponent:.3f}" in joined


def test_markdown_leaves_no_mark_of_a_label_in_force(fit: Fit) -> None:
    text = fit._repr_markdown_()
    first = text.splitlines()[0]
    assert first.startswith(r"**\<script\>x\<\/script\> \|\*\_\`\$y\$\\**: At ")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 2  # of two tables
    assert repr(fit).startswith(HOSTILE)


def test_a_comparison_says_its_verdict_first(fit: Fit) -> None:
    compared = fit.compare("masked", HOSTILE)
    verdict = compared.comparison.verdict
    assert Texts(compared._repr_html_()).texts[1] == verdict
    assert repr(compared)[:10] == verdict[:10]
    assert compared._repr_markdown_().startswith("At ")
    with pytest.raises(SettingsError, match="no series 'maskd'"):
        fit.compare("maskd", HOSTILE)


def test_figures_are_objects_of_matplotlib_and_are_saved(fit: Fit, tmp_path: Path) -> None:
    figure = fit.figure("multiplier", width="column")
    assert isinstance(figure, Figure)
    assert figure.get_figwidth() == 3.25
    fit.save(figure, tmp_path / "a.pdf")
    assert b"/Type3" not in (tmp_path / "a.pdf").read_bytes()
    with pytest.raises(SettingsError, match="did you mean 'frontier'"):
        fit.figure("frontiers")
    with pytest.raises(NothingToDraw, match="no samples"):
        fit.figure("pareto")


def test_the_example_notebook_runs_on_a_results_folder(tmp_path: Path) -> None:
    notebook = nbformat.reads(NOTEBOOK.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    source = re.fullmatch(r'source = "(.*)"\nn_bootstrap = 200', cells[0].source)
    assert source is not None
    assert (NOTEBOOK.parent / source[1]).exists()
    (tmp_path / "made-up").mkdir()
    stored(tmp_path / "made-up", pd.concat([observations("masked"), observations("uniform", 1.5)]))
    cells[0].source = 'source = "made-up"\nn_bootstrap = 20'
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    shown = [cell.outputs[0].data for cell in cells if cell.outputs]
    assert "masked" in shown[0]["text/html"]
    assert "uniform needs" in shown[1]["text/html"]
    assert "image/png" in shown[-1]
    assert (tmp_path / "frontier.pdf").read_bytes().startswith(b"%PDF")
