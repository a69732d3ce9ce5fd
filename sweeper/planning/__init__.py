"""From a sweep to its trials: sizes × budgets × series, checked before anything runs."""
