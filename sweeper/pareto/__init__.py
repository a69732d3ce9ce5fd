"""Samples of trained models measured as trials of their own: which, where, each recorded once."""
