"""Verbs of the command line; `sweeper/cli.py` gathers them."""
