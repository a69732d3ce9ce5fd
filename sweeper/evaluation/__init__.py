"""The bound, paired between trials."""
