"""Layers of the two published networks, `gidd` and `dit`, for `backbone.py`."""
