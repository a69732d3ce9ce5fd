"""Wall clocks that jump while a sweep runs."""

from pathlib import Path

import pytest
from disturbed import IMPATIENT, SUPPORT, Sweep, Tables

DAY_S = 86_400.0


@pytest.mark.ray
@pytest.mark.slow
def test_clocks_that_jump_by_days_change_nothing(
    sweep: Sweep, undisturbed: Tables, tmp_path: Path
) -> None:
    jump = tmp_path / "jump"
    sweep.add_to_environment(SUPPORT / "jumping_clock", CLOCK_JUMP=str(jump))
    driver = sweep.start(patience=IMPATIENT)
    sweep.wait_for_step(4, n_trials=2)
    jump.write_text(str(3 * DAY_S))
    sweep.wait_until_published(2)
    sweep.wait_for_step(1)
    jump.write_text(str(-5 * DAY_S))
    output = sweep.end(driver)
    assert "stalled" not in output
    assert set(sweep.outcomes().values()) == {("published",)}
    sweep.assert_as(undisturbed)
    off_s = {step.wall_s - step.at_s for steps in sweep.steps().values() for step in steps}
    assert max(off_s) - min(off_s) > 7 * DAY_S  # so the clock of the workers did jump
