"""A small sweep of planted laws, shaped like the quick sweep: four series, one run per size."""

from pathlib import Path

import numpy as np

from analysis.tables.load import load
from analysis.tables.tidy import TidyTable

SIZES = (2_000, 6_000, 16_000, 40_000, 99_000, 210_000, 400_000)
BUDGETS = (1e11, 1.8e11, 3.2e11, 5.6e11, 1e12)
LAWS = {
    "ar": (0.9, 22.0, 120.0),
    "masked": (1.45, 20.0, 130.0),
    "masked-ce": (1.42, 20.0, 128.0),
    "uniform": (1.7, 21.0, 110.0),
}
"""E, A and B of L = E + A/N^0.42 + B/D^0.36."""


def small_sweep(
    folder: Path,
    labels: tuple[str, ...] = tuple(LAWS),
    budgets: tuple[float, ...] = BUDGETS,
    sizes: tuple[int, ...] = SIZES,
) -> TidyTable:
    """A table whose cheap budgets lack large sizes and whose dear ones lack small sizes."""
    rng = np.random.default_rng(7)
    rows = ["family,params,tokens,flops,loss,budget_flops,loss_stderr,run_id"]
    for rank, label in enumerate(labels):
        level, size_arm, data_arm = list(LAWS.values())[rank % len(LAWS)]
        for size in sizes[2 * (label == "uniform") :]:  # its cheap budgets are not bracketed
            luck = 1 + 0.003 * rng.standard_normal()
            for budget in budgets:
                tokens = budget / (6 * size * (1 + 9000 / size))
                if not 0.8 < tokens / size < 6000:
                    continue
                loss = level + size_arm / size**0.42 + data_arm / tokens**0.36
                loss *= luck * (1 + 0.001 * rng.standard_normal())
                quoted = '"' + label.replace('"', '""') + '"'
                rows.append(
                    f"{quoted},{size},{tokens:.0f},{budget},{loss:.5f},{budget},0.006,"
                    f"run-{rank}-{size}"
                )
    path = folder / "small.csv"
    path.write_text("\n".join(rows) + "\n")
    return load(path)
