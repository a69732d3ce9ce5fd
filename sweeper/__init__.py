"""Plans, trains, evaluates and stores scaling-law sweeps of discrete diffusion language models."""
