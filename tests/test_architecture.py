"""Data flows one way and imports the other; what should start fast imports little."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LAYERS = [
    {"errors", "quantities", "ladder", "records", "resources", "marked_yaml", "places"}
    | {"plain_text", "text_table"},
    {"flops", "published_ladders", "results_page", "trial"},
    {"corpora", "families", "precision", "recipe", "seeds", "durable", "stop_signal", "sweep_yaml"}
    | {"laprop", "presets", "schedules", "ranks", "weight_average"},
    {"corpus", "family_options", "backbone", "prefixes", "spec_fields", "spec_errors"},
    {"spec_resources"},
    {"spec", "denoiser", "optimizer", "difficulty", "evaluation", "shared_network"},
    {"design", "trainer", "cluster_paths", "submit_job"},
    {"series", "keep_alive"},
    {"runs", "plan_checks"},
    {"plan"},
    {"plan_file", "store"},
    {"assignment", "manifest", "submission", "checkpoints", "record_index", "placement"}
    | {"attempt_archive"},
    {"attempts", "rows"},
    {"lease"},
    {"handover"},
    {"publication"},
    {"remaining", "failures", "tables", "housekeeping", "worker", "worker_entry"},
    {"executors"},
    {"scheduler", "outcome", "policy", "watch"},
    {"backlog", "events", "status", "verify"},
    {"sharing"},
    {"wanted"},
    {"driver", "progress"},
    {"example", "plan_view", "status_view"},
    {"verbs"},
    {"cli"},
]
"""Modules of `sweeper`, from the ground up; each imports from its own layer or below."""

FRONT_DOOR = {"cli", "verbs"}
"""What a user meets: it alone prints, and it alone imports both packages."""

GROUND_FLOOR = {"errors", "records", "ladder", "flops", "places"}
"""What `analysis` may import from `sweeper`."""


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports, type-checking imports included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(ROOT / "sweeper").parts[0].removesuffix(".py")


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


@pytest.mark.parametrize("path", modules("sweeper"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_of_sweeper_point_down(path: Path) -> None:
    if path.name == "__init__.py" and path.parent.name == "sweeper":
        return
    own = room(path)
    assert any(own in names for names in LAYERS), f"{own} has no layer: give it one in LAYERS"
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "sweeper" and rest:
            other = rest.split(".")[0]
            assert layer(other) <= layer(own), f"{own} (below) imports {other} (above)"
        if top == "analysis":
            assert own in FRONT_DOOR, f"only the front door imports analysis; {own} does"


@pytest.mark.parametrize("path", modules("analysis"), ids=lambda p: str(p.relative_to(ROOT)))
def test_analysis_imports_no_training_code(path: Path) -> None:
    for name in imports(path):
        top, _, rest = name.partition(".")
        assert top not in {"torch", "ray", "optuna"}
        if top == "sweeper":
            assert rest.split(".")[0] in GROUND_FLOOR, f"{path.name} imports {name}"


@pytest.mark.parametrize("package", ["sweeper", "analysis"])
def test_no_module_is_a_drawer(package: str) -> None:
    assert not {p.stem for p in modules(package)} & {"utils", "common", "helpers", "misc"}


def test_ray_is_imported_where_trials_run_and_where_jobs_are_submitted() -> None:
    importers = [
        path.name
        for path in modules("sweeper")
        if any(name.split(".")[0] == "ray" for name in imports(path))
    ]
    assert importers == ["ray_gang.py", "ray_ranks.py", "ray_session.py", "submit_job.py"]


def test_only_the_front_door_prints() -> None:
    for path in [*modules("sweeper"), *modules("analysis")]:
        if path.is_relative_to(ROOT / "sweeper") and room(path) in FRONT_DOOR:
            continue
        assert not imports(path) & {"click"}, f"{path.name} imports click"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", f"{path.name} prints"


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import sweeper.cli", ("torch", "ray", "numpy", "pandas", "pyarrow", "scipy", "pydantic")),
        ("import sweeper.spec, sweeper.plan", ("torch", "ray", "pandas", "scipy")),
        ("import sweeper.verify, sweeper.driver", ("torch", "ray")),
        ("import sweeper.status, sweeper.status_view", ("torch", "ray", "numpy", "pyarrow")),
        ("import analysis.fit, analysis.compare, analysis.report", ("torch", "ray", "optuna")),
        ("import sweeper.worker", ("ray", "pandas", "scipy", "matplotlib")),
    ],
)
def test_what_starts_fast_imports_little(statement: str, absent: tuple[str, ...]) -> None:
    check = f"import sys; {statement}; sys.exit(repr([m for m in {absent} if m in sys.modules]))"
    result = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=False
    )
    assert result.stderr.strip() == "[]"
