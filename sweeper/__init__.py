"""Plans, trains, evaluates and stores scaling-law sweeps of discrete diffusion language models."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.models.load import load_model as load_model

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # The one name for those who only take a model, found when it is used: it loads torch.
    if name == "load_model":
        from sweeper.models.load import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
