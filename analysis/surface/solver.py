"""Minimises the Huber loss of L = E + A/N^alpha + B/D^beta for many resamples at once, and
certifies the minimum.

With U, V the centred logs of N and D and the losses divided by their geometric mean,
theta = (E, log a, log b, alpha, beta) in E + a·e^(−alpha·U) + b·e^(−beta·V) is of order one.

Suffixes: R resamples, P points, G grid cells, 5 the coordinates of theta.
"""

from dataclasses import dataclass

import numpy as np

from analysis.stats.power_law import EXPONENT_RANGE, GRID_SIZE
from analysis.tables.points import BoolArray, FloatArray, IntArray

EXPONENT_LIMITS = (0.005, 5.0)
"""Where Newton stops an exponent that runs away."""
MAX_ITERATIONS = 80
DECREMENT_TOLERANCE = 1e-12
"""Relative fall of the objective still to gain; the references ask for 1e-8."""
NOTHING_FIXED = np.zeros(5, dtype=bool)

# Of theta; an arm whose log is -40 is absent.
_LOWER = np.array([0.0, -40.0, -40.0, *2 * [EXPONENT_LIMITS[0]]])
_UPPER = np.array([np.inf, 20.0, 20.0, *2 * [EXPONENT_LIMITS[1]]])


@dataclass(frozen=True)
class SurfaceProblem:
    """Centred data; losses and weights lead with size R, or 1 where all resamples share them."""

    log_params_P: FloatArray
    log_tokens_P: FloatArray
    log_loss_RP: FloatArray
    weight_RP: FloatArray

    @property
    def n_resamples(self) -> int:
        """R."""
        return max(len(self.log_loss_RP), len(self.weight_RP))

    def rows(self, chosen: IntArray | slice) -> "SurfaceProblem":
        """The same problem for some of the resamples."""
        loss, weight = self.log_loss_RP, self.weight_RP
        return SurfaceProblem(
            self.log_params_P,
            self.log_tokens_P,
            loss if len(loss) == 1 else loss[chosen],
            weight if len(weight) == 1 else weight[chosen],
        )


@dataclass(frozen=True)
class Minimum:
    """Where Newton ended."""

    theta_R5: FloatArray
    objective_R: FloatArray
    is_certified_R: BoolArray


@dataclass(frozen=True)
class Expansion:
    """Objective, gradient and Hessian at theta."""

    value_R: FloatArray
    gradient_R5: FloatArray
    hessian_R55: FloatArray


def expand(problem: SurfaceProblem, theta_R5: FloatArray, delta: float) -> Expansion:
    """Second-order expansion of f(theta) = Σ c · huber(log L − log Lhat), which is eq. 3 of
    arXiv 2203.15556 with weights c.
    """
    u_P, v_P = problem.log_params_P, problem.log_tokens_P
    size_RP, data_RP = arms(problem, theta_R5)
    # A step may clip everything to 0 at once; the floor makes such a trial finite and hopeless.
    loss_RP = np.maximum(theta_R5[:, :1] + size_RP + data_RP, 1e-12)
    residual_RP = problem.log_loss_RP - np.log(loss_RP)
    # `delta` may be infinite (least squares).
    psi_RP = np.clip(residual_RP, -delta, delta)
    # huber(r) = psi · (r − psi / 2): r² / 2 inside delta, delta · (|r| − delta / 2) beyond.
    value_R = np.sum(problem.weight_RP * psi_RP * (residual_RP - 0.5 * psi_RP), axis=1)
    slope_R5P = np.empty((len(loss_RP), 5, loss_RP.shape[1]))
    np.divide(1.0, loss_RP, out=slope_R5P[:, 0])
    np.divide(size_RP, loss_RP, out=slope_R5P[:, 1])
    np.divide(data_RP, loss_RP, out=slope_R5P[:, 2])
    np.multiply(slope_R5P[:, 1], -u_P, out=slope_R5P[:, 3])
    np.multiply(slope_R5P[:, 2], -v_P, out=slope_R5P[:, 4])
    pull_RP = problem.weight_RP * psi_RP
    gradient_R5 = -np.einsum("rjp,rp->rj", slope_R5P, pull_RP)
    # With g = d log Lhat and H = d² Lhat / Lhat, the Hessian is Σ c (h + psi) g gᵀ − Σ c psi H,
    # where psi is the clipped residual and h is 1 inside the quadratic zone.
    bend_RP = pull_RP + problem.weight_RP * (np.abs(residual_RP) <= delta)
    hessian = (slope_R5P * bend_RP[:, None, :]) @ np.swapaxes(slope_R5P, 1, 2)
    # The second derivatives of an arm are its slopes again, and U or V times them.
    for arm, by_exponent, x_P in ((1, 3, u_P), (2, 4, v_P)):
        hessian[:, arm, arm] += gradient_R5[:, arm]
        hessian[:, arm, by_exponent] += gradient_R5[:, by_exponent]
        hessian[:, by_exponent, arm] += gradient_R5[:, by_exponent]
        curved_R = np.einsum("rp,rp,p->r", pull_RP, slope_R5P[:, by_exponent], x_P)
        hessian[:, by_exponent, by_exponent] += curved_R
    return Expansion(value_R, gradient_R5, hessian)


def arms(problem: SurfaceProblem, theta_R5: FloatArray) -> tuple[FloatArray, FloatArray]:
    """a·N^(−alpha) and b·D^(−beta) at every point, in units of the mean loss, each (R, P)."""
    # Arms have logs as coordinates: (a, alpha) of a steep arm trade along a curved ridge,
    # (log a, alpha) along a straight one.
    _, log_a, log_b, alpha, beta = (theta_R5[:, [j]] for j in range(5))
    size_RP = np.exp(log_a - alpha * problem.log_params_P)
    return size_RP, np.exp(log_b - beta * problem.log_tokens_P)


def log_residuals(problem: SurfaceProblem, theta_5: FloatArray) -> FloatArray:
    """log L − log Lhat of the first losses, shape (P,)."""
    size_RP, data_RP = arms(problem, theta_5[None])
    result: FloatArray = problem.log_loss_RP[0] - np.log(theta_5[0] + size_RP[0] + data_RP[0])
    return result


def relative_slopes(problem: SurfaceProblem, theta_5: FloatArray) -> FloatArray:
    """Derivatives of log Lhat by theta at every point, shape (P, 5)."""
    u_P, v_P = problem.log_params_P, problem.log_tokens_P
    size_P, data_P = (arm_RP[0] for arm_RP in arms(problem, theta_5[None]))
    columns = [np.ones_like(u_P), size_P, data_P, -u_P * size_P, -v_P * data_P]
    result: FloatArray = np.stack(columns, axis=1) / (theta_5[0] + size_P + data_P)[:, None]
    return result


def newton(
    problem: SurfaceProblem, start_R5: FloatArray, delta: float, fixed_5: BoolArray = NOTHING_FIXED
) -> Minimum:
    """Projected Newton (Bertsekas 1982) from `start_R5`, all resamples at once; coordinates in
    `fixed_5` stay where they start. E stays at or above 0: a fit may end on the face E = 0.
    """
    theta_R5 = np.clip(start_R5, _LOWER, _UPPER)
    n = len(theta_R5)
    value_R, certified_R = np.empty(n), np.zeros(n, dtype=bool)
    fraction_R = np.ones(n)
    # Losses are float64, so residuals below 1e-13 are rounding.
    floor_R = 1e-26 * np.broadcast_to(problem.weight_RP.sum(axis=1), (n,))
    active = np.arange(n)
    here = expand(problem, theta_R5, delta)
    for _ in range(MAX_ITERATIONS):
        value_R[active] = here.value_R
        step_R5, decrement_R = _newton_step(here, theta_R5[active], fixed_5)
        # Certified: no more than a rounding error is left to gain over the free coordinates.
        done = decrement_R <= DECREMENT_TOLERANCE * here.value_R + floor_R[active]
        certified_R[active[done]] = True
        active, step_R5 = active[~done], step_R5[~done]
        here = Expansion(*(value[~done] for value in vars(here).values()))
        if not len(active):
            break
        # Shortened as a whole rather than damped: the ridges are a million times flatter along than
        # across, and any damping that tames one direction stops the other.
        step_R5 *= fraction_R[active, None]
        trial_R5 = np.clip(theta_R5[active] + step_R5, _LOWER, _UPPER)
        there = expand(problem.rows(active), trial_R5, delta)
        better_R = there.value_R < here.value_R
        theta_R5[active[better_R]] = trial_R5[better_R]
        for name, value in vars(here).items():
            value[better_R] = getattr(there, name)[better_R]
        fraction_R[active] = np.where(
            better_R, np.minimum(1.0, 4 * fraction_R[active]), 0.25 * fraction_R[active]
        )
    return Minimum(theta_R5, value_R, certified_R)


def minimise(problem: SurfaceProblem, delta: float) -> Minimum:
    """Global search: projection grid, then Newton down a sequence of Huber deltas."""
    theta_R5 = projection_start(problem)
    for width in continuation(delta):
        theta_R5 = newton(problem, theta_R5, width).theta_R5
    return newton(problem, theta_R5, delta)


def continuation(delta: float) -> list[float]:
    """Huber deltas above the one asked for, wide and smooth first; none for least squares."""
    widths = []
    width = 0.1
    while width > delta:
        widths.append(width)
        width /= 5.0
    return widths


def projection_start(problem: SurfaceProblem) -> FloatArray:
    """Theta at the best cell of an (alpha, beta) grid under weighted least squares, (R, 5)."""
    axis = np.geomspace(*EXPONENT_RANGE, GRID_SIZE)
    size_GP = np.exp(-axis[:, None] * problem.log_params_P)
    data_GP = np.exp(-axis[:, None] * problem.log_tokens_P)
    loss_RP = np.exp(problem.log_loss_RP)
    weight_RP = problem.weight_RP / loss_RP**2  # makes residuals relative
    target_RP = weight_RP * loss_RP
    full = np.repeat(np.arange(GRID_SIZE), GRID_SIZE), np.tile(np.arange(GRID_SIZE), GRID_SIZE)
    # All moments are matrix products of weights and grid columns, so resamples cost almost nothing.
    # Weighted sums over points of the columns 1, x, z and the target y, each (R, G) or (R, 1).
    one, y = weight_RP.sum(axis=1)[:, None], target_RP.sum(axis=1)[:, None]
    x, z = (weight_RP @ size_GP.T)[:, full[0]], (weight_RP @ data_GP.T)[:, full[1]]
    xx, zz = (weight_RP @ (size_GP**2).T)[:, full[0]], (weight_RP @ (data_GP**2).T)[:, full[1]]
    if len(weight_RP) == 1:
        xz = ((weight_RP * size_GP) @ data_GP.T).reshape(1, -1)
    else:  # one large product in place of many small ones
        cross_GP = (size_GP[:, None, :] * data_GP[None, :, :]).reshape(-1, size_GP.shape[1])
        xz = weight_RP @ cross_GP.T
    xy, zy = (target_RP @ size_GP.T)[:, full[0]], (target_RP @ data_GP.T)[:, full[1]]
    centred = _solve2(
        xx - x**2 / one, zz - z**2 / one, xz - x * z / one, xy - x * y / one, zy - z * y / one
    )
    nothing = np.zeros(xz.shape)
    size_level, size_arm = _solve2(one, xx, x, y, xy)
    data_level, data_arm = _solve2(one, zz, z, y, zy)
    # E, a, b in closed form on the inside and on the faces E = 0, a = 0 and b = 0; the feasible
    # candidate with the least error wins.
    gain_RG, linear_RG3 = np.full(xz.shape, -np.inf), np.zeros((*xz.shape, 3))
    for candidate in (
        ((y - centred[0] * x - centred[1] * z) / one, *centred),
        (nothing, *_solve2(xx, zz, xz, xy, zy)),
        (data_level, nothing, data_arm),
        (size_level, size_arm, nothing),
    ):
        gain = candidate[0] * y + candidate[1] * xy + candidate[2] * zy
        better = np.all([part >= 0 for part in candidate], axis=0) & (gain > gain_RG)
        gain_RG = np.where(better, gain, gain_RG)
        linear_RG3 = np.where(better[..., None], np.stack(candidate, axis=2), linear_RG3)
    best_R = np.argmax(gain_RG, axis=1)
    linear_R3 = linear_RG3[np.arange(len(best_R)), best_R]
    exponents_R2 = np.stack([axis[full[0][best_R]], axis[full[1][best_R]]], axis=1)
    # An arm that the grid finds absent starts above 0, so that Newton can revive it.
    log_arms_R2 = np.log(np.maximum(linear_R3[:, 1:], 1e-4))
    return np.hstack([linear_R3[:, :1], log_arms_R2, exponents_R2])


def _solve2(
    xx: FloatArray, zz: FloatArray, xz: FloatArray, xy: FloatArray, zy: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Solution of [[xx, xz], [xz, zz]] · (p, q) = (xy, zy)."""
    determinant = xx * zz - xz**2
    determinant = np.where(determinant > 0, determinant, np.inf)
    return (zz * xy - xz * zy) / determinant, (xx * zy - xz * xy) / determinant


def _newton_step(
    here: Expansion, theta_R5: FloatArray, fixed_5: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Full step, and the fall of the objective that it would bring were there no bounds."""
    # Coordinates at a bound whose gradient points outward are held.
    held_R5 = ((theta_R5 <= _LOWER) & (here.gradient_R5 > 0)) | (
        (theta_R5 >= _UPPER) & (here.gradient_R5 < 0)
    )
    held_R5 |= fixed_5
    step_R5, decrement_R = _descent(here.gradient_R5, here.hessian_R55, held_R5)
    # A step that would take E below 0 goes to the face E = 0, and the others follow from there.
    crosses_R = theta_R5[:, 0] + step_R5[:, 0] < 0
    if crosses_R.any():
        hessian, to_face = here.hessian_R55[crosses_R], -theta_R5[crosses_R, :1]
        gradient = here.gradient_R5[crosses_R] + hessian[:, :, 0] * to_face
        held = held_R5[crosses_R]
        held[:, 0] = True
        step_R5[crosses_R] = _descent(gradient, hessian, held)[0]
        step_R5[crosses_R, :1] = to_face
    return step_R5, decrement_R


def _descent(
    gradient_R5: FloatArray, hessian_R55: FloatArray, held_R5: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Newton step over the coordinates that are not held, and the fall it predicts."""
    gradient_R5 = np.where(held_R5, 0.0, gradient_R5)
    free_R55 = ~(held_R5[:, :, None] | held_R5[:, None, :])
    hessian = np.where(free_R55, hessian_R55, np.eye(5))
    eigenvalue_R5, basis_R55 = np.linalg.eigh(hessian)
    # Magnitudes: the step descends also where the objective is not convex.
    magnitude_R5 = np.abs(eigenvalue_R5)
    largest_R1 = np.maximum(magnitude_R5.max(axis=1, keepdims=True), np.finfo(float).tiny)
    magnitude_R5 = np.maximum(magnitude_R5, 1e-14 * largest_R1)
    along_R5 = np.einsum("rij,ri->rj", basis_R55, gradient_R5)
    decrement_R = 0.5 * np.sum(along_R5**2 / magnitude_R5, axis=1)
    return -np.einsum("rij,rj->ri", basis_R55, along_R5 / magnitude_R5), decrement_R
