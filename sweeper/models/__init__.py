"""Trained networks as files: weights that stay, and models that are taken elsewhere."""
