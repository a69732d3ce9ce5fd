"""Samples: how they are made, how fast, and how good they are."""
