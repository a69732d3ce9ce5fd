"""Imports point one way; what should start fast imports little."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FLOORS = {
    "sweeper": """
        errors
        trials
        families store
        sweepfile networks data executors
        models
        planning launch evaluation orchestration
        sampling
        training tuning pareto watching benchmarks exports
        verbs
        cli
        __main__""",
    "analysis": """
        errors notation
        tables
        stats
        isoflop surface
        fitting
        answers pareto
        sensitivity
        figures
        report
        notebook""",
}
"""From the ground up: a package imports itself and lower floors, never its neighbours."""

MAX_MODULES = 13

SHARED = {"errors", "trials", "store.storage", "store.files"}
"""What `analysis` may import of `sweeper`."""


def modules(package: str) -> dict[str, set[str]]:
    """Dotted names of all modules, each with what it imports, type-checking imports included."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        found[".".join(path.relative_to(ROOT).with_suffix("").parts)] = names
    return found


@pytest.mark.parametrize("top", FLOORS)
def test_imports_between_packages_point_down_and_modules_form_no_circle(top: str) -> None:
    floor = {name: n for n, line in enumerate(FLOORS[top].split("\n")) for name in line.split()}
    graph: dict[str, set[str]] = {}
    for module, names in modules(top).items():
        graph[module] = {other for name in names for other in _prefixes(name)} - {module}
        for name in names:
            if name.startswith(f"{top}.") and (own := module.split(".")[1]) != "__init__":
                other = name.split(".")[1]
                assert other in (own, "__version__") or floor[other] < floor[own], (module, name)
            if top == "analysis" and name.startswith("sweeper."):
                assert any(f"{name}.".startswith(f"sweeper.{each}.") for each in SHARED), module
            if name.startswith("analysis.") and top == "sweeper":
                assert module.startswith(("sweeper.verbs.", "sweeper.cli")), (module, name)
    TopologicalSorter(graph).prepare()  # raises CycleError


def _prefixes(name: str) -> list[str]:
    """`a.b.c` may be the module a.b.c or a name of a.b; what is no module has no imports."""
    return [name, name.rpartition(".")[0]]


@pytest.mark.parametrize("top", FLOORS)
def test_a_package_shows_its_parts_at_a_glance(top: str) -> None:
    for folder in {path.parent for path in (ROOT / top).rglob("*.py")}:
        assert len(list(folder.glob("*.py"))) <= 1 + MAX_MODULES, folder


ALONE = {
    "torch": {
        "benchmarks",
        "data",
        "evaluation",
        "executors",
        "families",
        "models",
        "networks",
        "pareto",
        "sampling",
        "training",
        "trials",
        "verbs",
    },
    "ray": {"executors", "launch"},
    "optuna": {"tuning"},
    "click": {"cli", "verbs"},
}
"""The packages of `sweeper` that import something heavy or, click, print; none of `analysis`."""


@pytest.mark.parametrize("library", ALONE)
def test_what_is_heavy_has_its_packages(library: str) -> None:
    for module, names in (modules("sweeper") | modules("analysis")).items():
        if any(name.split(".")[0] == library for name in names):
            assert module.split(".")[:2] in [["sweeper", name] for name in ALONE[library]], module


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import sweeper.cli", ("torch", "ray", "numpy", "pandas", "pyarrow", "scipy", "pydantic")),
        (
            "import sweeper.sweepfile.schema, sweeper.planning.planner",
            ("torch", "ray", "pandas", "scipy"),
        ),
        ("import sweeper.orchestration.verify, sweeper.orchestration.driver", ("torch", "ray")),
        (
            "import sweeper.orchestration.status, sweeper.verbs.status, sweeper.verbs.progress",
            ("torch", "ray", "numpy", "pyarrow"),
        ),
        (
            "import analysis.fitting.fit, analysis.answers.compare, analysis.report.html",
            ("torch", "ray", "optuna"),
        ),
        ("import sweeper.training.worker", ("ray", "pandas", "scipy", "matplotlib")),
    ],
)
def test_what_starts_fast_imports_little(statement: str, absent: tuple[str, ...]) -> None:
    check = f"import sys; {statement}; sys.exit(repr([m for m in {absent} if m in sys.modules]))"
    result = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=False
    )
    assert result.stderr.strip() == "[]"
