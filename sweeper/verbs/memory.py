"""How verbs learn what memory the trials of a plan take, and refuse a plan that takes too much."""

import shutil
from typing import TYPE_CHECKING

from sweeper.errors import ConfigError

if TYPE_CHECKING:
    from sweeper.planning.planner import PlannedSweep
    from sweeper.sweepfile.schema import LoadedSweep
    from sweeper.trials.plan import PlannedTrial
    from sweeper.trials.resources import Resources
    from sweeper.trials.trial import Trial


def peak_bytes(trial: "Trial", resources: "Resources") -> int:
    """Peak of a trial on the device of one rank; the first takes the time to load torch."""
    from sweeper.training.memory import planned_memory

    return planned_memory(trial, resources).peak


def peaks_of(planned: "PlannedSweep") -> list[int]:
    """Peaks of all trials in their order; trials of one shape are traced once."""
    from sweeper.planning.memory import kind_of, size_of

    of_shape: dict[object, int] = {}
    peaks = []
    for each in planned.trials:
        shape = kind_of(each), size_of(each)
        if shape not in of_shape:
            of_shape[shape] = peak_bytes(each.trial, each.resources)
        peaks.append(of_shape[shape])
    return peaks


def refuse_misfits(
    loaded: "LoadedSweep", planned: "PlannedSweep", gpu_bytes_here: float | None
) -> None:
    """Raise ConfigError if a trial takes more than its GPUs have, as far as that is known."""
    from sweeper.planning.memory import memory_problems

    resources = loaded.sweep.resources

    def gpu_bytes_of(each: "PlannedTrial") -> float | None:
        if each.resources.gpus == 0:
            return None
        return resources.gpu_memory_of(each.trial.rung) or gpu_bytes_here

    if problems := [*memory_problems(planned.trials, gpu_bytes_of, peak_bytes)]:
        raise ConfigError(loaded.document.describe(problems))


def gpu_bytes_here() -> float | None:
    """Memory of the smallest GPU of this machine; None where there is none."""
    if shutil.which("nvidia-smi") is None:  # which says so without the seconds that torch takes
        return None
    import torch

    cuda = torch.cuda
    if not cuda.is_available():
        return None
    return min(cuda.get_device_properties(i).total_memory for i in range(cuda.device_count()))
