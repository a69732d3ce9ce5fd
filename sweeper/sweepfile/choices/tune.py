"""`tune` in a sweep file: how `sweeper tune` finds settings."""

from typing import Annotated

from pydantic import Field, model_validator

from sweeper.sweepfile.choices.search import SearchChoice
from sweeper.sweepfile.fields import Distinct, Number, Seed, Several, Sizes, Tokens, wrong


class TuneChoice(SearchChoice):
    """A centre and a hexagon about it, in log rate and log batch, at a few small sizes.

    With `search`, other settings are searched instead.
    """

    sizes: Sizes = ()
    """Absent: two of the design, at least a factor four apart, of runs that cost little."""
    tokens: Annotated[tuple[Tokens, ...], Several, Distinct] = ()
    """Where every run is observed; absent: at a length of the design, a third and a ninth of it."""
    seed: Seed = 100
    """Of all runs: the same data and noise for each, and none of those of the sweep itself."""
    radius: Annotated[Number, Field(gt=1, le=100)] = 4.0
    """Factor from the centre to the points about it."""

    @model_validator(mode="after")
    def _one_way(self) -> "TuneChoice":
        given = self.model_fields_set
        of_search = [key for key in SearchChoice.model_fields if key in given]
        if "search" in given:
            for key in ("sizes", "tokens", "radius"):
                if key in given:
                    raise wrong("a second way beside search: leave it out", key, at_key=True)
        elif of_search:
            raise wrong("of a search: expected search beside it", of_search[0], at_key=True)
        return self
