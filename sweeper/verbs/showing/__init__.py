"""Verbs that show a fit: figures, the page."""
