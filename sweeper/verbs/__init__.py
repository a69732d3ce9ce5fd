"""Verbs of the command line; `sweeper/cli.py` gathers them."""

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path

# Load the package `analysis` that lies next to `sweeper`; here, as only verbs import it. The name
# is a common one: a user's `analysis.py` may come first on the import path.
_spec = PathFinder.find_spec("analysis", [str(Path(__file__).parents[2])])
if "analysis" not in sys.modules and _spec is not None and _spec.loader is not None:
    sys.modules["analysis"] = _module = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_module)
