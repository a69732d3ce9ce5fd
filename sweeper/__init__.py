"""Plans, trains, evaluates and stores scaling-law sweeps of discrete diffusion language models."""

__version__ = "0.1.0"
