"""Fits as figures."""
