"""Replays of tuning on published runs: how far from the best rate and batch a few runs lead.

Smooth surfaces through published losses stand for training: any rate and batch can be "run" in any
cell, noise is added, and the regret of what was found is known. Surfaces beyond the published
rates and batches continue as straight lines in logs.

Suffixes: P points, J cells, G grid.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import optuna
import pandas as pd
from bench_lines import Line
from planted_tables import SHARED_DATA
from planted_tuning import KEY, hexagon
from scipy.interpolate import RBFInterpolator

from analysis.fitting.pooled_quadratic import PUBLISHED_PRIORS, TuningRuns, fit_tuned_law
from analysis.fitting.quadratic_posterior import TRANSFERRING_RATES, LawPriors
from analysis.tables.points import FloatArray
from sweeper.trials.tuned_laws import TunedLaw

N_REPLAYS = 100
N_TUNED_CELLS = 6
MIN_DENSE = 80
"""Runs of a cell in which hexagons around a bad guess stay among the published ones."""
SEQUENCE = 2048
"""Tokens of a sequence in both studies."""
SMOOTHING = 0.3
"""Of thin plates: leaves .1 to .3 % between them and the published losses."""
GIDD_TOKENS = (8e8, 1.4e10)
"""Where the GIDD study tried three batches or more for the same tokens."""
TARGET = 0.25
"""Percent."""
RADII = {"Step Law": 4.0, "GIDD": 2.5}
"""Of hexagons; GIDD varied rates by less, and its valleys are twice as curved."""
GUESSED = {
    "Step Law": np.array([[0.0, 0.28], [0.0, 0.82]]),
    "GIDD": np.array([[-0.71, 0.31], [0.0, 0.57]]),
}
"""Powers of size and tokens in the guess of rate and batch: those that the other study found."""
N_STARTUP = 4
"""Random trials before a sampler models; its default of 10 would leave none to model for."""

SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "TPE": lambda seed: optuna.samplers.TPESampler(n_startup_trials=N_STARTUP, seed=seed),
    "GP": lambda seed: optuna.samplers.GPSampler(n_startup_trials=N_STARTUP, seed=seed),
}


Surface = Callable[[FloatArray], FloatArray]
"""Log loss at logs of rate and batch (G, 2), or of these and tokens (G, 3)."""


@dataclass(frozen=True)
class Cell:
    """One size and number of tokens, with the log loss at any log rate and log batch."""

    params: float
    tokens: float
    is_tunable: bool
    n_runs: int
    """Published ones."""
    log_loss: Surface
    grid_G2: FloatArray
    """Over the published rates and batches."""

    @classmethod
    def create(
        cls,
        place: tuple[float, float],
        tried_P2: FloatArray,
        log_loss: Surface,
        is_tunable: bool,
    ) -> "Cell":
        axes = np.linspace(tried_P2.min(axis=0), tried_P2.max(axis=0), 41).T
        grid_G2 = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        return cls(*place, is_tunable, len(tried_P2), log_loss, grid_G2)

    @property
    def place_2(self) -> FloatArray:
        """Log size and log tokens."""
        return np.log([self.params, self.tokens])

    @property
    def is_dense(self) -> bool:
        """Whether it has as many published runs as the cells to tune in."""
        return self.n_runs >= MIN_DENSE

    @cached_property
    def best_2(self) -> FloatArray:
        """Its best log rate and log batch."""
        best_2: FloatArray = self.grid_G2[self.log_loss(self.grid_G2).argmin()]
        return best_2

    def regret_percent(self, place_2: FloatArray) -> float:
        """Loss at a place above the least one."""
        loss, least = self.log_loss(np.stack([place_2, self.best_2])).tolist()
        return 100.0 * max(0.0, float(loss - least))


Study = Sequence[Cell]
"""Cells of one study, or of one of its series."""


def step_law_cells() -> list[Study]:
    """Step Law: every size and number of tokens has a grid of rates and batches."""
    runs = pd.read_csv(SHARED_DATA / "lr_batch_runs.csv")
    cells = []
    for _, own in runs.groupby(["params", "tokens"]):
        params, tokens = own[["params", "tokens"]].iloc[0]
        tried_P2 = np.log(own[["learning_rate", "batch_sequences"]].to_numpy())
        tried_P2[:, 1] += np.log(SEQUENCE)
        is_tunable = len(own) >= MIN_DENSE and params < runs["params"].max()
        surface = smooth(tried_P2, np.log(own["loss"].to_numpy()))
        cells.append(Cell.create((params, tokens), tried_P2, surface, is_tunable))
    return [cells]


def gidd_cells() -> list[Study]:
    """GIDD, by noise: constant rates, so that tokens are read off runs and join the surfaces."""
    runs = pd.read_csv(SHARED_DATA / "gidd_lr_sweep.csv").dropna(subset="non_emb_params_assigned")
    largest = runs["non_emb_params_assigned"].max()
    studies: list[Study] = []
    for _, series in runs.groupby("noise"):
        cells = []
        for _, own in series.groupby("non_emb_params_assigned"):
            params = float(own["non_emb_params_assigned"].iloc[0])
            columns = own[["lr_base", "batch_size_tokens", "tokens"]]
            tried_P3 = np.log(columns.to_numpy(dtype=np.float64))
            surface = smooth(tried_P3, np.log(own["loss_fitted_curve_elbo_nats"].to_numpy()))
            for tokens in np.unique(own["tokens"]):
                if GIDD_TOKENS[0] < tokens < GIDD_TOKENS[1]:
                    here_P2 = tried_P3[own["tokens"] == tokens, :2]
                    log_loss = partial(at_tokens, surface, float(np.log(tokens)))
                    is_tunable = params < largest
                    cells.append(Cell.create((params, tokens), here_P2, log_loss, is_tunable))
        studies.append(cells)
    return studies


def at_tokens(surface: Surface, log_tokens: float, place_G2: FloatArray) -> FloatArray:
    """A surface over rate, batch and tokens at one number of tokens."""
    return surface(np.insert(place_G2, 2, log_tokens, axis=1))


def smooth(tried_Pk: FloatArray, log_loss_P: FloatArray) -> Surface:
    """A thin plate through log losses."""
    return RBFInterpolator(
        tried_Pk, log_loss_P, kernel="thin_plate_spline", smoothing=SMOOTHING, degree=1
    )


@dataclass(frozen=True)
class Replay:
    """One replay: cells to tune in, and a guess of the best rate and batch, bad on purpose."""

    study: str
    cells: Study
    tuned: Study
    middle_2: FloatArray
    """Log size and log tokens in the middle of what can be tuned."""
    guess_2: FloatArray
    """Log rate and log batch there."""
    noise: float
    seed: int

    @classmethod
    def draw(cls, study: str, series: Sequence[Study], noise: float, seed: int) -> "Replay":
        rng = np.random.default_rng([seed, 0])
        cells = series[int(rng.integers(len(series)))]
        tunable = [cell for cell in cells if cell.is_tunable]
        chosen = rng.choice(len(tunable), N_TUNED_CELLS, replace=False)
        best_J2 = np.array([cell.best_2 for cell in tunable])
        middle_2 = np.mean([cell.place_2 for cell in tunable], axis=0)
        # Off by a factor 2 either way in the middle, and by wrong powers elsewhere.
        guess_2 = best_J2.mean(axis=0) + rng.choice([-1.0, 1.0], 2) * np.log(2.0)
        tuned = [tunable[each] for each in chosen]
        return cls(study, cells, tuned, middle_2, guess_2, noise, seed)

    @property
    def log_radius(self) -> float:
        return float(np.log(RADII[self.study]))

    def guess(self, cell: Cell) -> FloatArray:
        """Log rate and log batch to tune around."""
        place_2: FloatArray = self.guess_2 + GUESSED[self.study] @ (cell.place_2 - self.middle_2)
        return place_2

    def law(self, priors: LawPriors) -> TunedLaw:
        """Of seven runs in each of the cells."""
        rng = np.random.default_rng([self.seed, 1])
        offset_72 = hexagon() * self.log_radius / np.log(4.0)
        places = [self.guess(cell) + offset_72 for cell in self.tuned]
        place_P2 = np.concatenate(places)
        log_loss_P = np.concatenate(
            [cell.log_loss(place_72) for cell, place_72 in zip(self.tuned, places, strict=True)]
        )
        log_loss_P = log_loss_P + self.noise * rng.standard_normal(len(log_loss_P))
        runs = TuningRuns(
            params_P=np.repeat([cell.params for cell in self.tuned], len(offset_72)),
            tokens_P=np.repeat([cell.tokens for cell in self.tuned], len(offset_72)),
            learning_rate_P=np.exp(place_P2[:, 0]),
            batch_tokens_P=np.exp(place_P2[:, 1]),
            loss_P=np.exp(log_loss_P),
            run_P=np.arange(len(log_loss_P)),
        )
        return fit_tuned_law(runs, KEY, "replay", priors).law

    def searched(self, sampler: str) -> list[FloatArray]:
        """The best place that a search of seven trials found in each of the tuned cells."""
        rng = np.random.default_rng([self.seed, 2])
        found = []
        for number, cell in enumerate(self.tuned):
            study = optuna.create_study(sampler=SAMPLERS[sampler](100 * self.seed + number))
            for _ in range(len(hexagon())):
                trial = study.ask()
                offsets = [
                    trial.suggest_float(name, -self.log_radius, self.log_radius)
                    for name in ("log_rate", "log_batch")
                ]
                log_loss = float(cell.log_loss((self.guess(cell) + offsets)[None])[0])
                study.tell(trial, log_loss + self.noise * rng.standard_normal())
            found.append(self.guess(cell) + list(study.best_params.values()))
        return found


Places = Callable[[Cell], FloatArray]
"""What a method would run in a cell: log rate and log batch."""


@dataclass(frozen=True)
class Regrets:
    """Mean regrets of one replay in percent."""

    every: float
    """Of all cells."""
    dense: float
    """Of cells with many published runs."""
    largest: float
    """Of cells of the size that was never tuned."""
    tuned: float

    @classmethod
    def of(cls, replay: Replay, places: Places) -> "Regrets":
        regret_J = np.array([cell.regret_percent(places(cell)) for cell in replay.cells])
        params_J = np.array([cell.params for cell in replay.cells])
        is_dense_J = np.array([cell.is_dense for cell in replay.cells])
        dense = float(regret_J[is_dense_J].mean()) if is_dense_J.any() else np.nan
        largest = float(regret_J[params_J == params_J.max()].mean())
        tuned = np.mean([cell.regret_percent(places(cell)) for cell in replay.tuned])
        return cls(float(regret_J.mean()), dense, largest, float(tuned))


def guess_places(replay: Replay) -> Places:
    """What tuning starts from."""
    return replay.guess


def law_places(replay: Replay) -> Places:
    """The best rate and batch of a law through all runs."""
    law = replay.law(TRANSFERRING_RATES if replay.study == "GIDD" else PUBLISHED_PRIORS)
    laws = law.learning_rate, law.batch_tokens
    return lambda cell: np.array([each.log(cell.params, cell.tokens) for each in laws])


def searched_places(sampler: str, replay: Replay) -> Places:
    """What was found in the tuned cell that is nearest in log size and log tokens."""
    found = replay.searched(sampler)
    at_J2 = np.array([cell.place_2 for cell in replay.tuned])
    return lambda cell: found[int(((at_J2 - cell.place_2) ** 2).sum(axis=1).argmin())]


METHODS: dict[str, Callable[[Replay], Places]] = {
    "guess": guess_places,
    "pooled quadratic": law_places,
    **{f"Optuna {sampler}": partial(searched_places, sampler) for sampler in SAMPLERS},
}


def tuning_replay(n_replays: int = N_REPLAYS) -> Iterator[Line]:
    """Regrets of laws, and of searches cell by cell with as many runs."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    studies = {"Step Law": step_law_cells(), "GIDD": gidd_cells()}
    for name, noise in (("Step Law", 0.002), ("Step Law", 0.008), ("GIDD", 0.008)):
        replays = [Replay.draw(name, studies[name], noise, seed) for seed in range(n_replays)]
        for method, places in METHODS.items():
            if method == "Optuna GP" and (name, noise) != ("Step Law", 0.008):
                continue  # two seconds a replay
            found = [Regrets.of(replay, places(replay)) for replay in replays]
            mean = {part: np.mean([vars(each)[part] for each in found]) for part in vars(found[0])}
            p90 = np.percentile([each.every for each in found], 90)
            dense = "" if np.isnan(mean["dense"]) else f", cells of many runs {mean['dense']:.2f}"
            remark = f"p90 {p90:.2f}{dense}, never tuned largest size {mean['largest']:.2f}"
            remark += f", tuned cells {mean['tuned']:.2f}"
            target = TARGET if method == "pooled quadratic" else None
            what = f"regret, {name}, noise {100 * noise:g} %, {method}"
            yield Line(what, float(mean["every"]), target, "%", remark)
