"""The denoisers."""
