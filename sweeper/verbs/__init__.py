"""Verbs of the command line; `sweeper/cli.py` gathers them."""

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path


def _load_own_analysis() -> None:
    """Load the package `analysis` that lies next to `sweeper`.

    The name is a common one: a user's `analysis.py` may come first on the import path.
    """
    spec = PathFinder.find_spec("analysis", [str(Path(__file__).parents[2])])
    if "analysis" in sys.modules or spec is None or spec.loader is None:
        return
    sys.modules["analysis"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


_load_own_analysis()  # here, as only verbs import it
