"""Parameters and FLOPs of both studies' networks, against what the studies print."""

import pytest
from sahoo_steps import FORWARD_FLOPS, SAHOO_BATCH_SEQUENCES, sahoo_steps

from sweeper.trials.flops import flops_by_convention, flops_per_token
from sweeper.trials.ladder import (
    Rung,
    parameter_groups,
    params_by_convention,
    rung_of_width,
    trunk_params,
)
from sweeper.trials.published_ladders import SAHOO

CONTEXT = 2048
SAHOO_VOCABULARY = 32_001
"""Its mask is a row of both tables."""

SAHOO_MILLIONS = {
    "sahoo-6M": (22.45, 14.26, 6.07),
    "sahoo-19M": (41.31, 29.02, 16.74),
    "sahoo-34M": (61.35, 44.96, 28.58),
    "sahoo-48M": (76.98, 58.54, 40.11),
    "sahoo-66M": (95.36, 74.88, 54.40),
    "sahoo-85M": (111.60, 91.12, 70.64),
    "sahoo-75M": (127.85, 107.37, 86.89),
    "sahoo-113M": (141.57, 116.99, 92.41),
    "sahoo-142M": (164.60, 140.02, 115.45),
    "sahoo-170M": (187.63, 163.06, 138.48),
    "sahoo-180M": (202.33, 173.66, 144.98),
    "sahoo-206M": (223.00, 194.32, 165.65),
    "sahoo-231M": (243.66, 214.99, 186.32),
    "sahoo-268M": (280.01, 247.24, 214.47),
    "sahoo-302M": (306.77, 274.00, 241.23),
    "sahoo-336M": (333.54, 300.77, 268.00),
    "sahoo-472M": (454.22, 413.26, 372.30),
    "sahoo-551M": (516.21, 475.24, 434.28),
    "sahoo-571M": (538.57, 493.51, 448.45),
    "sahoo-629M": (578.19, 537.23, 496.26),
    "sahoo-666M": (613.23, 568.18, 523.12),
    "sahoo-761M": (687.90, 642.84, 597.79),
    "sahoo-831M": (748.03, 698.88, 649.72),
    "sahoo-944M": (836.57, 787.41, 738.26),
    "sahoo-1233M": (1073.70, 1016.35, 958.98),
    "sahoo-1476M": (1274.20, 1208.66, 1143.10),
    "sahoo-1678M": (1430.00, 1364.46, 1298.89),
    "sahoo-2121M": (1778.50, 1708.87, 1639.18),
}
"""Total, all but the input table (the size axis of its figures) and less the head's table too."""

GIDD = [
    (Rung(8, 512, 8), 25_223_680, 2.5201e8, 4.027e8, 2.60),
    (Rung(10, 640, 10), 49_242_240, 4.5274e8, 5.033e8, 2.11),
    (Rung(12, 768, 12), 85_064_448, 7.3688e8, 6.040e8, 1.82),
    (Rung(16, 1024, 16), 201_556_992, 1.61200e9, 8.053e8, 1.50),
    (Rung(20, 1536, 12), 566_662_656, 4.15495e9, 1.20796e9, 1.29),
]
"""Sizes of arXiv 2512.10858: reported parameters, L (12 d² + 14 d) + d; FLOPs per token of its
method 1 and of the head; and their sum over method 1."""


@pytest.mark.parametrize(
    ("name", "total"), [("sahoo-6M", 22_450_433), ("sahoo-2121M", 1_778_450_049)]
)
def test_totals_of_the_first_study_are_exact(name: str, total: int) -> None:
    assert parameter_groups(SAHOO[name], SAHOO_VOCABULARY, 0, "dit").total == total


@pytest.mark.parametrize("name", SAHOO)
def test_parameters_of_the_first_study_are_those_it_prints(name: str) -> None:
    rung = SAHOO[name]
    groups = parameter_groups(rung, SAHOO_VOCABULARY, 0, "dit")
    no_embedding = params_by_convention(groups, "total-embedding")
    found = (groups.total, no_embedding, no_embedding - SAHOO_VOCABULARY * rung.width)
    # Printed to 0.01 million, or in billions with five digits, less a rounded embedding.
    printed = [1e6 * n for n in SAHOO_MILLIONS[name]]
    assert found == pytest.approx(printed, abs=0.01e6 if groups.total < 1e9 else 0.055e6)


@pytest.mark.parametrize("name", SAHOO)
def test_steps_at_each_budget_are_those_of_the_first_study(name: str) -> None:
    """Its counter saw no attention: `no-attention` gives its forward FLOPs within 0.3 %."""
    rung = SAHOO[name]
    params = parameter_groups(rung, SAHOO_VOCABULARY, 0, "dit").trunk
    flops = flops_per_token(rung, CONTEXT, SAHOO_VOCABULARY, backbone="dit")
    per_token = flops_by_convention(flops, params, "no-attention")
    products = 12 * rung.width**2 * rung.n_layers + SAHOO_VOCABULARY * rung.width
    assert per_token == pytest.approx(6 * products, rel=1e-4)  # conditioning, once per sequence
    assert per_token / 3 * CONTEXT == pytest.approx(FORWARD_FLOPS[name], rel=3e-3)
    for budget in (6e18, 1e19, 3e19, 6e19, 1e20):
        steps = budget / (per_token * CONTEXT * SAHOO_BATCH_SEQUENCES)
        assert steps == pytest.approx(sahoo_steps(name, budget), rel=3e-3)


@pytest.mark.parametrize(("rung", "reported", "method_1", "head", "ratio"), GIDD, ids=str)
def test_conventions_of_the_second_study_are_those_it_prints(
    rung: Rung, reported: int, method_1: float, head: float, ratio: float
) -> None:
    assert rung_of_width(rung.width) == rung
    # The study counts MLP biases (5 d a layer) twice and leaves out sinks (2 d): 3 d too many.
    assert trunk_params(rung) == reported - 3 * rung.width * rung.n_layers
    flops = flops_per_token(rung, CONTEXT, 2**17)
    found = flops_by_convention(flops, reported, "6N+attention")
    assert flops_by_convention(flops, reported, "6N") == 6 * reported
    # Printed to four to six digits.
    assert found == pytest.approx(method_1, rel=2e-4)
    assert flops.head == pytest.approx(head, rel=2e-4)
    assert (found + flops.head) / found == pytest.approx(ratio, abs=0.005)
    # The count of the real parameters is 0.05 % lower, that of the products alone 0.2 %.
    assert flops_by_convention(flops, trunk_params(rung), "6N+attention") == pytest.approx(
        method_1, rel=6e-4
    )
    assert flops.total == pytest.approx(found + flops.head, rel=2e-3)
