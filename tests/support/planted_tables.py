"""Tables whose laws are known, for the tests of `analysis`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.tables.columns import RawTable
from analysis.tables.tidy import TidyTable, tidy

SHARED_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@dataclass(frozen=True)
class Surface:
    """L = E + A/N^alpha + B/D^beta with C = 6·N·D, and the optimum it implies."""

    E: float = 1.2
    A: float = 60.0
    B: float = 400.0
    alpha: float = 0.34
    beta: float = 0.37

    def loss(self, params: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return self.E + self.A * params**-self.alpha + self.B * tokens**-self.beta

    @property
    def params_exponent(self) -> float:
        return self.beta / (self.alpha + self.beta)

    def best_params(self, flops: float) -> float:
        ratio = self.alpha * self.A / (self.beta * self.B)
        return float((ratio * (flops / 6) ** self.beta) ** (1 / (self.alpha + self.beta)))

    def best_loss(self, flops: float) -> float:
        params = self.best_params(flops)
        return float(self.loss(np.array(params), np.array(flops / 6 / params)))


BUDGETS = np.geomspace(1e15, 1e17, 5)


def isoflop_rows(
    family: str = "a",
    surface: Surface | None = None,
    noise: float = 0.0,
    handicap: float = 1.0,
    seed: int = 0,
    budgets: np.ndarray = BUDGETS,
    n_sizes: int = 7,
    half_width: float = 8.0,
) -> pd.DataFrame:
    """One run per size and budget, sizes from 1/w to w times the best one; with a `handicap` h the
    series needs h times the compute.
    """
    surface = surface or Surface()
    rng = np.random.default_rng(seed)
    rows = []
    for budget in budgets:
        centre = surface.best_params(budget / handicap) * np.sqrt(handicap)
        for params in centre * np.geomspace(1 / half_width, half_width, n_sizes):
            tokens = budget / 6 / params
            loss = float(surface.loss(params / np.sqrt(handicap), tokens / np.sqrt(handicap)))
            rows.append((family, params, tokens, budget, loss * np.exp(noise * rng.normal())))
    frame = pd.DataFrame(rows, columns=["family", "params", "tokens", "flops", "loss"])
    return frame.assign(budget_flops=frame["flops"])


def trajectory_rows(
    family: str = "a",
    surface: Surface | None = None,
    run_noise: float = 0.003,
    point_noise: float = 0.002,
    seed: int = 0,
    n_sizes: int = 8,
) -> pd.DataFrame:
    """One run per size, evaluated at every budget that is not far from its optimum."""
    surface = surface or Surface()
    rng = np.random.default_rng(seed)
    low, high = surface.best_params(BUDGETS[0]) / 5, surface.best_params(BUDGETS[-1]) * 5
    rows = []
    for index, params in enumerate(np.geomspace(low, high, n_sizes)):
        luck = run_noise * rng.normal()
        for budget in BUDGETS:
            tokens = budget / 6 / params
            if abs(np.log(params / surface.best_params(budget))) > np.log(16):
                continue
            loss = float(surface.loss(params, tokens)) * np.exp(luck + point_noise * rng.normal())
            rows.append((family, params, tokens, budget, loss, budget, f"{family}-{index}"))
    columns = ["family", "params", "tokens", "flops", "loss", "budget_flops", "run_id"]
    return pd.DataFrame(rows, columns=columns)


def table(*parts: pd.DataFrame) -> TidyTable:
    """A checked table of planted series."""
    frame = pd.concat(parts, ignore_index=True)
    return tidy(RawTable(frame, "planted", tuple(range(1, len(frame) + 1))))
