"""Replays sequential designs on the 404 runs of Farseer (arXiv 2506.10972).

A replay begins with 15 random runs of the cheaper 30 % and adds one after another by V-optimal
design for the 7 held-out larger runs, whose sizes and tokens it knows and whose losses it does not.
At 1, 5 and 10 % of the pool's FLOPs (6·N·D) the fitted form predicts the 7; R² is over them.

Suffixes: P runs, T held-out runs, c coefficients.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from bench_lines import Line
from optimal_design import best_run, falls
from planted_tables import SHARED_DATA
from scipy.optimize import least_squares

from analysis.tables.points import FloatArray

SHARES = (0.01, 0.05, 0.10)
TARGETS = (0.67, 0.87, 0.92)
"""R² of V-optimal design in arXiv 2604.22753, with Farseer's own form of nine coefficients."""
N_FIRST, CHEAP_SHARE = 15, 0.3
FIRST_NOISE, NOISE_DOF = 0.003, 4.0
"""Relative noise of a run before there are residuals, and the points that it counts for."""


@dataclass(frozen=True)
class Runs:
    """Logs about 1e9 parameters and 3e10 tokens, and log losses."""

    log_params_P: FloatArray
    log_tokens_P: FloatArray
    log_loss_P: FloatArray
    cost_P: FloatArray
    """Over the FLOPs of the whole pool."""

    def take(self, chosen: list[int]) -> "Runs":
        return Runs(*(values[chosen] for values in vars(self).values()))


@dataclass(frozen=True)
class Form:
    """log L(N, D; theta), with a normal prior wide enough for what others published."""

    log_loss: Callable[[FloatArray, Runs], FloatArray]
    mean_c: FloatArray
    deviation_c: FloatArray

    def fit(self, runs: Runs, noise: float, start_c: FloatArray) -> FloatArray:
        def residuals(theta_c: FloatArray) -> FloatArray:
            misfit_P = (self.log_loss(theta_c, runs) - runs.log_loss_P) / noise
            return np.concatenate([misfit_P, (theta_c - self.mean_c) / self.deviation_c])

        found: FloatArray = least_squares(residuals, start_c, method="lm").x
        return found

    def slopes(self, theta_c: FloatArray, runs: Runs) -> FloatArray:
        """By central differences, (P, c)."""
        step = 1e-5
        ends = [
            [self.log_loss(theta_c + sign * step * unit_c, runs) for sign in (1, -1)]
            for unit_c in np.eye(len(theta_c))
        ]
        slope_Pc: FloatArray = np.stack([(up - down) / (2 * step) for up, down in ends], axis=1)
        return slope_Pc

    def information(self, slope_Pc: FloatArray, noise: float) -> FloatArray:
        """Of runs and prior, (c, c)."""
        result: FloatArray = slope_Pc.T @ slope_Pc / noise**2 + np.diag(self.deviation_c**-2.0)
        return result


def additive(theta_c: FloatArray, runs: Runs) -> FloatArray:
    """E + A/N^alpha + B/D^beta."""
    floor, size, alpha, data, beta = theta_c
    u, v = runs.log_params_P, runs.log_tokens_P
    arms = np.exp(size - np.exp(alpha) * u) + np.exp(data - np.exp(beta) * v)
    return np.log(np.exp(floor) + arms)  # type: ignore[no-any-return]


def interacting(theta_c: FloatArray, runs: Runs) -> FloatArray:
    """E + A/N^alpha + B·N^gamma/D^(beta·N^delta), the last with a bend in log N."""
    floor, size, alpha, data, beta, gamma, delta, bend = theta_c
    u, v = runs.log_params_P, runs.log_tokens_P
    data_arm = np.exp(data + gamma * u + bend * u**2 - np.exp(beta + delta * u) * v)
    return np.log(np.exp(floor) + np.exp(size - np.exp(alpha) * u) + data_arm)  # type: ignore[no-any-return]


def interacting_without_floor(theta_c: FloatArray, runs: Runs) -> FloatArray:
    """A/N^alpha + B·N^gamma/D^(beta·N^delta): sizes up to 25 billion show no floor yet."""
    size, alpha, data, beta, gamma, delta = theta_c
    u, v = runs.log_params_P, runs.log_tokens_P
    data_arm = np.exp(data + gamma * u - np.exp(beta + delta * u) * v)
    return np.log(np.exp(size - alpha * u) + data_arm)  # type: ignore[no-any-return]


_EXPONENT = float(np.log(0.35))
FORMS = {
    "additive": Form(
        additive,
        np.array([-1.1, -2.0, _EXPONENT, -2.5, _EXPONENT]),
        np.array([0.5, 1.0, 0.5, 1.0, 0.5]),
    ),
    "interacting": Form(
        interacting,
        np.array([-1.1, -2.0, _EXPONENT, -2.5, _EXPONENT, 0.0, 0.0, 0.0]),
        np.array([0.5, 1.0, 0.5, 1.0, 0.5, 0.2, 0.1, 0.05]),
    ),
    "interacting, no floor": Form(
        interacting_without_floor,
        np.array([-0.8, 0.1, -2.5, _EXPONENT, 0.0, 0.0]),
        np.array([0.5, 0.1, 1.0, 0.5, 0.2, 0.1]),
    ),
}


def read_runs() -> tuple[Runs, Runs]:
    """The pool and the held-out runs."""
    frame = pd.read_csv(SHARED_DATA / "farseer.csv")
    total = float((6 * frame.params * frame.tokens)[frame.split == "train"].sum())
    parts = []
    for split in ("train", "test"):
        params, tokens, loss = (
            frame.loc[frame.split == split, name].to_numpy()
            for name in ("params", "tokens", "loss")
        )
        logs = np.log(params / 1e9), np.log(tokens / 3e10), np.log(loss)
        parts.append(Runs(*logs, 6 * params * tokens / total))
    return parts[0], parts[1]


def r_squared(form: Form, theta_c: FloatArray, held_out: Runs) -> float:
    """Of the losses of the held-out runs."""
    loss_T, said_T = np.exp(held_out.log_loss_P), np.exp(form.log_loss(theta_c, held_out))
    squares = float(np.sum((loss_T - loss_T.mean()) ** 2))
    return 1.0 - float(np.sum((loss_T - said_T) ** 2)) / squares


class Replay:
    """One sequential design; the form is the one that explains the runs bought so far best."""

    def __init__(self, seed: int, forms: tuple[str, ...], cost_exponent: float) -> None:
        self.pool, self.held_out = read_runs()
        self.cost_exponent = cost_exponent
        rng = np.random.default_rng(seed)
        cheap = np.argsort(self.pool.cost_P)[: int(CHEAP_SHARE * len(self.pool.cost_P))]
        self.chosen: list[int] = rng.choice(cheap, N_FIRST, replace=False).tolist()
        self.theta = {name: FORMS[name].mean_c for name in forms}
        self.noise = dict.fromkeys(forms, FIRST_NOISE)

    def fit(self) -> str:
        """Fit every form to the runs bought, and name the best by Akaike's criterion."""
        bought = self.pool.take(self.chosen)
        n, criterion = len(self.chosen), {}
        for name, start_c in self.theta.items():
            form = FORMS[name]
            self.theta[name] = form.fit(bought, self.noise[name], start_c)
            residual_P = form.log_loss(self.theta[name], bought) - bought.log_loss_P
            squares, k = float(residual_P @ residual_P), len(start_c) + 1
            dof = max(1, n - len(start_c)) + NOISE_DOF
            self.noise[name] = np.sqrt((squares + NOISE_DOF * FIRST_NOISE**2) / dof)
            penalty = 2 * k + 2 * k * (k + 1) / max(n - k - 1, 1)
            criterion[name] = n * np.log(squares / n) + penalty
        return min(criterion, key=criterion.__getitem__)

    def run(self) -> list[tuple[float, str]]:
        """R² at every share of the pool's FLOPs, and the form that says it."""
        found: list[tuple[float, str]] = []
        name, cost_P = self.fit(), self.pool.cost_P
        while len(found) < len(SHARES):
            form, theta_c, noise = FORMS[name], self.theta[name], self.noise[name]
            is_open_P = cost_P <= SHARES[len(found)] - cost_P[self.chosen].sum()
            is_open_P[self.chosen] = False
            if not is_open_P.any():
                found.append((r_squared(form, theta_c, self.held_out), name))
                continue
            slope_Pc = form.slopes(theta_c, self.pool)
            information_cc = form.information(slope_Pc[self.chosen], noise)
            fall_P = falls(
                information_cc[None],
                slope_Pc[None, :, None] / noise,
                form.slopes(theta_c, self.held_out)[None],
            )
            number = best_run(fall_P, cost_P, is_open_P, self.cost_exponent)
            assert number is not None
            self.chosen.append(number)
            name = self.fit()
        return found


def farseer_lines(n_replays: int = 100) -> list[Line]:
    """Share of the variance of the held-out losses that is missed, mean over replays."""
    if not (SHARED_DATA / "farseer.csv").exists():
        return []
    ways = {
        "form chosen by the runs bought": (tuple(FORMS), 0.3),
        "the same, by variance per FLOP": (tuple(FORMS), 1.0),
        "interacting, no floor": (("interacting, no floor",), 0.3),
        "additive": (("additive",), 0.3),
    }
    lines = []
    for what, (forms, cost_exponent) in ways.items():
        replays = [Replay(seed, forms, cost_exponent).run() for seed in range(n_replays)]
        for index, (share, target) in enumerate(zip(SHARES, TARGETS, strict=True)):
            scores = np.array([replay[index][0] for replay in replays])
            low, median = np.quantile(scores, (0.1, 0.5))
            lines.append(
                Line(
                    f"farseer, {share:.0%} of the FLOPs, {what}: 1 - R²",
                    1.0 - float(scores.mean()),
                    1.0 - target if what == "form chosen by the runs bought" else None,
                    "",
                    f"{n_replays} replays; R² median {median:.3f}, tenth percentile {low:.3f}",
                )
            )
    return lines
