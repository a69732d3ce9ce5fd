"""Published benchmarks of trained models, by `lm-eval`, and two small ones that need no network."""
