"""`tune` in a sweep file: how `sweeper tune` measures the best learning rate and batch size."""

from typing import Annotated

from pydantic import Field

from sweeper.sweepfile.fields import Distinct, Number, Part, Seed, Several, Sizes, Tokens


class TuneChoice(Part):
    """A centre and a hexagon about it, in log rate and log batch, at a few small sizes."""

    sizes: Sizes = ()
    """Absent: two of the design, at least a factor four apart, of runs that cost little."""
    tokens: Annotated[tuple[Tokens, ...], Several, Distinct] = ()
    """Where every run is observed; absent: at a length of the design, a third and a ninth of it."""
    seed: Seed = 100
    """Of all runs: the same data and noise for each, and none of those of the sweep itself."""
    radius: Annotated[Number, Field(gt=1, le=100)] = 4.0
    """Factor from the centre to the points about it."""
