"""Verbs for looking on: `serve`, and what `status --watch` shows."""
