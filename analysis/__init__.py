"""Reads result tables, fits scaling laws and draws frontiers; never imports torch or ray."""
