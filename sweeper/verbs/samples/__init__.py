"""Verbs about samples."""
