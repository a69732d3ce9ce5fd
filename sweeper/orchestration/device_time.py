"""Device time of a sweep's own trials: seconds of GPUs, or of cores where there are none."""

from collections.abc import Iterable

from sweeper.store.results import Published
from sweeper.trials.plan import Plan
from sweeper.trials.resources import BY_DEFAULT


def recorded_device_s(plan: Plan, records: Iterable[Published]) -> dict[str, float]:
    """Of published trials that this sweep trained, training and evaluation over all attempts.

    Trials that the plan no longer has count as one device each.
    """
    resources = {planned.trial_id: planned.resources for planned in plan.trials}
    return {
        record.trial_id: record.work_time_s
        * resources.get(record.trial_id, BY_DEFAULT).n_devices(record.device)
        for record in records
        if record.sweep == plan.name
    }


class DeviceTime:
    """What trials have taken so far, as recorded; of running ones, since they were started."""

    def __init__(self, recorded_s: dict[str, float]) -> None:
        self._recorded_s = recorded_s
        self._running: dict[str, tuple[float, float]] = {}

    def begin(self, trial_id: str, n_devices: float, now_s: float) -> None:
        """A trial starts, or goes on."""
        self._running[trial_id] = n_devices, now_s

    def end(self, trial_id: str, now_s: float, recorded_s: float | None = None) -> None:
        """An attempt has ended; `recorded_s`: what its published trial took over all attempts."""
        n_devices, began_s = self._running.pop(trial_id)
        before_s = self._recorded_s.get(trial_id, 0.0)
        self._recorded_s[trial_id] = (
            before_s + n_devices * (now_s - began_s) if recorded_s is None else recorded_s
        )

    def spent_s(self, now_s: float) -> float:
        """Of all trials until now."""
        running_s = (n * (now_s - began_s) for n, began_s in self._running.values())
        return sum(self._recorded_s.values()) + sum(running_s)
