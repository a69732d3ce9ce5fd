"""Tuning runs whose laws are known: hexagons in log rate and log batch at a few sizes."""

from dataclasses import dataclass

import numpy as np

from analysis.fitting.pooled_quadratic import TuningRuns
from sweeper.trials.tuned_laws import Curvature, LawKey, SizeTokensLaw

KEY = LawKey("masked", (), "gidd", "adamw", "constant", (0.9, 0.99), 0.0, 0.999)
SIZES = (5e3, 4e4)
TOKENS = (1.5e5, 6e5, 2.4e6)
RADIUS = np.log(4.0)


RATE_LAW = SizeTokensLaw(float(np.log(0.05)), -0.1, 0.1)
BATCH_LAW = SizeTokensLaw(float(np.log(0.8)), 0.05, 0.55)
CURVATURE = Curvature(0.02, 0.015, -0.005)


@dataclass(frozen=True)
class PlantedValley:
    """One valley for all cells, whose lowest point moves with size and tokens."""

    learning_rate: SizeTokensLaw = RATE_LAW
    batch_tokens: SizeTokensLaw = BATCH_LAW
    curvature: Curvature = CURVATURE

    def log_loss(
        self, params: np.ndarray, tokens: np.ndarray, log_rate: np.ndarray, log_batch: np.ndarray
    ) -> np.ndarray:
        x = log_rate - log_value(self.learning_rate, params, tokens)
        y = log_batch - log_value(self.batch_tokens, params, tokens)
        level: np.ndarray = 2.2 - 0.05 * np.log(params) - 0.08 * np.log(tokens)
        return np.asarray(level + np.vectorize(self.curvature.excess)(x, y))


def log_value(law: SizeTokensLaw, params: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    value: np.ndarray = np.vectorize(law.log)(params, tokens)
    return value


def hexagon() -> np.ndarray:
    """A centre and six points about it in log rate and log batch, (7, 2)."""
    angle = np.arange(6) * np.pi / 3
    return np.vstack([np.zeros(2), RADIUS * np.column_stack([np.cos(angle), np.sin(angle)])])


def planted_runs(
    valley: PlantedValley,
    noise: float,
    rng: np.random.Generator,
    correlation: float = 0.7,
    missed_by: tuple[float, float] = (2.0, 0.5),
    sizes: tuple[float, ...] = SIZES,
) -> TuningRuns:
    """Seven runs at each size, all tokens read off each, about a guess that misses the best rate
    and batch of the middle by factors."""
    middle = np.exp(np.log(SIZES).mean()), np.exp(np.log(TOKENS).mean())
    laws = valley.learning_rate, valley.batch_tokens
    guess = np.log(missed_by) + np.array([law.log(*middle) for law in laws])
    n_runs = 7 * len(sizes)
    place_G2 = guess + np.tile(hexagon(), (len(sizes), 1))
    params_GT, tokens_GT = np.meshgrid(np.repeat(sizes, 7), TOKENS, indexing="ij")
    rate_GT, batch_GT = (np.repeat(column[:, None], len(TOKENS), 1) for column in place_G2.T)
    luck_GT = np.sqrt(correlation) * rng.normal(size=(n_runs, 1))
    luck_GT = luck_GT + np.sqrt(1.0 - correlation) * rng.normal(size=(n_runs, len(TOKENS)))
    log_loss_GT = valley.log_loss(params_GT, tokens_GT, rate_GT, batch_GT) + noise * luck_GT
    return TuningRuns(
        params_P=params_GT.ravel(),
        tokens_P=tokens_GT.ravel(),
        learning_rate_P=np.exp(rate_GT).ravel(),
        batch_tokens_P=np.exp(batch_GT).ravel(),
        loss_P=np.exp(log_loss_GT).ravel(),
        run_P=np.repeat(np.arange(n_runs), len(TOKENS)),
    )
