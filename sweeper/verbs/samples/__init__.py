"""Verbs about trained models: taking them away, sampling, and what samples are worth."""
