"""Fits as text, tables and one page."""
