"""The named sizes against the numbers the studies print."""

import pytest
from sahoo_steps import FORWARD_FLOPS, sahoo_steps

from sweeper.trials.ladder import ladder, nearest_rung, rung_of_width, trunk_params
from sweeper.trials.published_ladders import GIDD, PUBLISHED_RUNGS, SAHOO

SAHOO_BUDGETS = (6e18, 1e19, 3e19, 6e19, 1e20)
SAHOO_STEPS = {
    "sahoo-6M": (147_333, 245_555, 736_666, 1_473_333, 2_455_556),
    "sahoo-19M": (71_938, 119_897, 359_691, 719_383, 1_198_971),
    "sahoo-34M": (45_802, 76_337, 229_011, 458_023, 763_371),
    "sahoo-48M": (35_073, 58_455, 175_367, 350_734, 584_557),
    "sahoo-66M": (27_334, 45_557, 136_673, 273_347, 455_579),
    "sahoo-85M": (22_554, 37_590, 112_772, 225_545, 375_909),
    "sahoo-75M": (19_203, 32_006, 96_018, 192_037, 320_062),
    "sahoo-113M": (17_383, 28_973, 86_919, 173_839, 289_731),
    "sahoo-142M": (14_559, 24_265, 72_796, 145_593, 242_656),
    "sahoo-170M": (12_524, 20_874, 62_622, 125_244, 208_741),
    "sahoo-180M": (11_642, 19_403, 58_211, 116_423, 194_039),
    "sahoo-206M": (10_414, 17_358, 52_074, 104_149, 173_581),
    "sahoo-231M": (9_421, 15_702, 47_108, 94_216, 157_026),
    "sahoo-268M": (8_134, 13_558, 40_674, 81_349, 135_581),
    "sahoo-302M": (7_345, 12_242, 36_726, 73_453, 122_422),
    "sahoo-336M": (6_695, 11_158, 33_475, 66_950, 111_584),
    "sahoo-472M": (4_826, 8_044, 24_132, 48_264, 80_440),
    "sahoo-551M": (4_199, 6_998, 20_995, 41_991, 69_985),
    "sahoo-571M": (4_027, 6_711, 20_135, 40_270, 67_117),
    "sahoo-629M": (3_716, 6_193, 18_580, 37_161, 61_936),
    "sahoo-666M": (3_499, 5_832, 17_496, 34_992, 58_321),
    "sahoo-761M": (3_093, 5_156, 15_469, 30_938, 51_563),
    "sahoo-831M": (2_836, 4_727, 14_181, 28_362, 47_271),
    "sahoo-944M": (2_517, 4_196, 12_589, 25_179, 41_966),
    "sahoo-1233M": (1_940, 3_234, 9_703, 19_407, 32_345),
    "sahoo-1476M": (1_625, 2_708, 8_126, 16_253, 27_089),
    "sahoo-1678M": (1_439, 2_399, 7_199, 14_399, 23_999),
    "sahoo-2121M": (1_147, 1_913, 5_739, 11_479, 19_133),
}
"""Steps of arXiv 2602.15014 at each budget, as its repository computes them."""

GIDD_PARAMS = {
    "gidd-25M": 25_223_680,
    "gidd-50M": 49_242_240,
    "gidd-85M": 85_064_448,
    "gidd-200M": 201_556_992,
    "gidd-570M": 566_662_656,
}
"""Non-embedding parameters as arXiv 2512.10858 reports them."""


@pytest.mark.parametrize("name", SAHOO)
def test_steps_are_those_of_the_study(name: str) -> None:
    assert tuple(sahoo_steps(name, budget) for budget in SAHOO_BUDGETS) == SAHOO_STEPS[name]


def test_all_published_sizes_are_there() -> None:
    assert SAHOO_STEPS.keys() == SAHOO.keys()
    assert len(SAHOO) == 28
    assert len(PUBLISHED_RUNGS) == 28 + 8


@pytest.mark.parametrize("name", SAHOO)
def test_forward_flops_are_those_of_the_products_but_attention(name: str) -> None:
    rung, n_tokens, vocab_size = SAHOO[name], 2048, 32_001
    products = 12 * rung.width**2 * rung.n_layers + vocab_size * rung.width
    # The study's counter also counts norms, activations and softmax: 0.05 to 0.27 %.
    ratio = FORWARD_FLOPS[name] / (2 * n_tokens * products)
    assert 1.0004 < ratio < 1.0028


@pytest.mark.parametrize("name", GIDD_PARAMS)
def test_gidd_sizes_have_the_parameters_of_the_study(name: str) -> None:
    rung = GIDD[name]
    # It counts MLP biases twice (5 d a layer) and leaves out the sinks (2 d a layer).
    assert trunk_params(rung) == GIDD_PARAMS[name] - 3 * rung.width * rung.n_layers


def test_scaled_up_sizes_have_the_parameters_of_the_study() -> None:
    published = {"gidd-3B-masked": 2.039e9, "gidd-3B-uniform": 2.152e9, "gidd-10B": 8.666e9}
    for name, params in published.items():
        assert trunk_params(GIDD[name]) == pytest.approx(params, rel=5e-4)  # printed to 4 digits


def test_every_size_from_5_thousand_to_10_billion_has_a_rung() -> None:
    for tenth in range(37, 101):
        for digit in (1.0, 1.1, 1.2, 1.5, 1.8):
            size = digit * 10 ** (tenth / 10)
            if size <= 1e10:
                assert trunk_params(nearest_rung(size)) == pytest.approx(size, rel=0.15)


def test_round_sizes_of_the_gidd_study_are_its_own_rungs() -> None:
    for name, size in {"gidd-25M": 25.2e6, "gidd-85M": 85e6, "gidd-200M": 200e6}.items():
        assert nearest_rung(size) == GIDD[name]
    # Each size that has the ladder's proportions is in it.
    assert {rung_of_width(GIDD[name].width) for name in GIDD_PARAMS} <= set(ladder())
