"""How often 95 % intervals of tuned laws hold the truth in simulated tuning runs.

A replicate is what a quick sweep tunes with: hexagons at two sizes, three numbers of tokens read
off each run, noise of .3 to 1 % that points of one run share in part. Valleys, laws and the guess
that was tuned around are drawn anew in each.
"""

from collections import defaultdict

import numpy as np
from bench_lines import Line
from planted_tuning import KEY, SIZES, TOKENS, PlantedValley, planted_runs

from analysis.fitting.pooled_quadratic import fit_tuned_law
from sweeper.trials.tuned_laws import Curvature, SizeTokensLaw

N_REPLICATES = 200
NOISE_RANGE = (0.003, 0.01)
CORRELATION_RANGE = (0.5, 0.8)
MISSED_SD = 0.7
"""Of the logs of the factors by which the guess misses: a factor 2."""
PLACES = {
    "middle": (float(np.sqrt(SIZES[0] * SIZES[1])), TOKENS[1]),
    "largest tuned": (SIZES[1], TOKENS[2]),
    "8× the size, 4× the tokens": (8 * SIZES[1], 4 * TOKENS[2]),
}


def drawn_valley(rng: np.random.Generator) -> PlantedValley:
    """A valley within what is plausible, narrower than the priors of the fit."""
    rate, batch = np.array([0.02, 0.015]) * np.exp(rng.normal(0.0, 0.4, 2))
    cross = np.tanh(rng.normal(-0.3, 0.2)) * np.sqrt(rate * batch)
    rate_powers = rng.normal([-0.15, 0.1], 0.2)
    batch_powers = rng.normal([0.0, 0.55], [0.1, 0.2])
    log_place_2 = np.log(PLACES["middle"])
    return PlantedValley(
        SizeTokensLaw(np.log(0.05) - float(rate_powers @ log_place_2), *rate_powers.tolist()),
        SizeTokensLaw(np.log(2000.0) - float(batch_powers @ log_place_2), *batch_powers.tolist()),
        Curvature(float(rate), float(batch), float(cross)),
    )


def replicate(seed: int) -> dict[str, bool]:
    """Whether each interval holds."""
    rng = np.random.default_rng(seed)
    valley = drawn_valley(rng)
    noise = float(np.exp(rng.uniform(*np.log(NOISE_RANGE))))
    missed_by = tuple(np.exp(rng.normal(0.0, MISSED_SD, 2)).tolist())
    runs = planted_runs(valley, noise, rng, float(rng.uniform(*CORRELATION_RANGE)), missed_by)
    fit = fit_tuned_law(runs, KEY, "simulated")
    held = {}
    for name, place in PLACES.items():
        low, high = np.log(fit.rate_interval(*place))
        held[f"eta*, {name}"] = bool(low <= valley.learning_rate.log(*place) <= high)
        low, high = np.log(fit.batch_interval(*place))
        held[f"B*, {name}"] = bool(low <= valley.batch_tokens.log(*place) <= high)
    for law in ("learning_rate", "batch_tokens"):
        for part in ("params_exponent", "tokens_exponent"):
            low, high = fit.law.intervals[f"{law}.{part}"]
            held[f"{law}.{part}"] = low <= getattr(getattr(valley, law), part) <= high
    for part in ("rate", "batch"):
        low, high = fit.law.intervals[f"curvature.{part}"]
        held[f"curvature.{part}"] = low <= getattr(valley.curvature, part) <= high
    return held


def tuning_coverage(n_replicates: int = N_REPLICATES) -> list[Line]:
    """Shares of intervals that hold; 92 to 98 % is the target, 1.5 % a share's standard error."""
    counts: dict[str, int] = defaultdict(int)
    for seed in range(n_replicates):
        for name, is_held in replicate(seed).items():
            counts[name] += is_held
    lines = []
    for name, count in counts.items():
        share = 100.0 * count / n_replicates
        remark = "" if 92.0 <= share <= 98.0 else "outside 92–98 %"
        lines.append(Line(f"intervals that hold, {name}", share, None, "%", remark))
    return lines
