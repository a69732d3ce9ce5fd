"""Verbs about trained models: sampling, benchmarks, and what samples are worth."""
