"""95 % intervals hold what was planted about as often as they say: `make coverage`, in small."""

import numpy as np
import pytest
from simulate_coverage import Cell, NoiseKind, coverage, tally

N_REPLICATES = 60
# Of a share of .95 in 60 replicates the sd is .028: three of them allow for one bad stream in 700.
LOWEST = 0.95 - 3 * 0.028


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["Gaussian", "Student t3"])
@pytest.mark.parametrize("n_points", [16, 35])
def test_intervals_hold_the_truth(n_points: int, noise: NoiseKind) -> None:
    cell = Cell(n_points, noise)
    shares = {name: coverage(values) for name, values in tally([cell], N_REPLICATES)[cell].items()}
    for name in ("N*", "D*", "L*", "multiplier", "alpha", "beta", "a"):
        assert shares[name] >= LOWEST, name
    # Intervals that are too wide hold everything: a dozen of 60 sd .028, related, average to less.
    assert np.mean(list(shares.values())) <= 0.995
